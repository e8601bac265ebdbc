#include "common/reduce.h"
#include "ops/gan_loss/gan_loss.h"

namespace pygan {
namespace {

// A GanTerm as a thread uses it: slope is d loss / d (phi') / unit.
struct Half {
  GanPhi phi;
  float sign, offset, slope;
};

// phi(z) and phi'(z). The switch is uniform over a half, and the kernel waits for memory.
__device__ __forceinline__ void evaluate(GanPhi phi, float z, float& value, float& slope) {
  switch (phi) {
    case GanPhi::kSoftplus:
      value = (z > 0.0f ? z : 0.0f) + log1pf(expf(-fabsf(z)));
      slope = 1.0f / (1.0f + expf(-z));
      break;
    case GanPhi::kSquare:
      value = z * z;
      slope = 2.0f * z;
      break;
    case GanPhi::kLinear:
      value = z;
      slope = 1.0f;
      break;
    case GanPhi::kRamp:
      value = z < 0.0f ? 0.0f : z;  // fmaxf would hide a NaN
      slope = z <= 0.0f ? 0.0f : 1.0f;
      break;
  }
}

// V logits per access: 16 bytes, or 1 logit where a pointer is not aligned.
template <class T, int V>
PYGAN_GLOBAL void __launch_bounds__(kReduceThreads)
    gan_loss_kernel(const T* logits, T* grad, float* loss, float* stats, const float* k, int64_t count,
                    int64_t count_real, Half real, Half fake, double scale_real, double scale_fake, double per_real,
                    double per_fake, double* partials, unsigned ticket) {
  if (k != nullptr) {
    fake.slope *= *k;
    scale_fake *= *k;
  }
  double sum[4] = {0.0, 0.0, 0.0, 0.0};  // real, fake, real logits, fake logits
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kReduceThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kReduceThreads;
  const int64_t groups = (count + V - 1) / V;
  for (int64_t group = first; group < groups; group += stride) {
    const int64_t begin = group * V;
    const bool whole = begin + V <= count;
    // load
    Vec<T, V> x;
    if (whole) {
      x = reinterpret_cast<const Vec<T, V>*>(logits)[group];
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j) x.v[j] = begin + j < count ? logits[begin + j] : from_float<T>(0.0f);
    }
    // compute: V values summed in float, the groups in double
    Vec<T, V> g;
    float part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const bool is_real = begin + j < count_real;
      const Half& half = is_real ? real : fake;
      const float d = to_float(x.v[j]);
      float value = 0.0f, slope = 0.0f;
      evaluate(half.phi, half.sign * d + half.offset, value, slope);
      g.v[j] = from_float<T>(half.slope * slope);
      if (is_real) {
        part[0] += value;
        part[2] += d;
      } else if (begin + j < count) {
        part[1] += value;
        part[3] += d;
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] += part[i];
    // store
    if (grad != nullptr) {
      if (whole) {
        reinterpret_cast<Vec<T, V>*>(grad)[group] = g;
      } else {
#pragma unroll
        for (int j = 0; j < V; ++j)
          if (begin + j < count) grad[begin + j] = g.v[j];
      }
    }
  }
  // the last block writes the means
  if (grid_sum(sum, partials, tickets + ticket) && threadIdx.x == 0) {
    const double mean_real = sum[0] * per_real, mean_fake = sum[1] * per_fake;
    *loss = static_cast<float>(scale_real * mean_real + scale_fake * mean_fake);
    stats[0] = static_cast<float>(mean_real);
    stats[1] = static_cast<float>(mean_fake);
    stats[2] = static_cast<float>(sum[2] * per_real);
    stats[3] = static_cast<float>(sum[3] * per_fake);
  }
}

Half half_of(const GanTerm& term, double per_item, const GanLossArgs& args) {
  return {term.phi, static_cast<float>(term.sign), static_cast<float>(term.offset),
          static_cast<float>(args.weight * term.scale * term.sign * per_item / args.unit)};
}

template <class T, int V>
int launch(const GanLossArgs& args, cudaStream_t stream) {
  const int64_t count_fake = args.count - args.count_real;
  const double per_real = args.count_real > 0 ? 1.0 / static_cast<double>(args.count_real) : 0.0;
  const double per_fake = count_fake > 0 ? 1.0 / static_cast<double>(count_fake) : 0.0;
  const unsigned blocks = reduce_blocks((args.count + V - 1) / V, 1);
  PYGAN_LAUNCH((gan_loss_kernel<T, V>), dim3(blocks), dim3(kReduceThreads), 0, stream,
               static_cast<const T*>(args.logits), static_cast<T*>(args.grad), static_cast<float*>(args.loss),
               static_cast<float*>(args.stats), args.k, args.count, args.count_real,
               half_of(args.terms.real, per_real, args), half_of(args.terms.fake, per_fake, args),
               args.weight * args.terms.real.scale, args.weight * args.terms.fake.scale, per_real, per_fake,
               args.partials, next_ticket(stream));
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int launch_aligned(const GanLossArgs& args, cudaStream_t stream) {
  if (aligned(args.logits, 16) && aligned(args.grad, 16)) return launch<T, 16 / sizeof(T)>(args, stream);
  return launch<T, 1>(args, stream);
}

}  // namespace

int64_t gan_loss_partials(int64_t count) { return 4 * static_cast<int64_t>(reduce_blocks(count, 1)); }

int gan_loss_cuda(const GanLossArgs& args, cudaStream_t stream) {
  switch (args.dtype) {
    case Dtype::kFloat32:
      return launch_aligned<float>(args, stream);
    case Dtype::kBFloat16:
      return launch_aligned<bfloat16>(args, stream);
    case Dtype::kFloat16:
      return launch_aligned<half>(args, stream);
    default:
      return static_cast<int>(cudaErrorInvalidValue);
  }
}

int gan_loss_backward_cuda(void* grad, const float* seed, double unit, int64_t count, Dtype dtype,
                           cudaStream_t stream) {
  const float u = static_cast<float>(unit);
  switch (dtype) {
    case Dtype::kFloat32:
      return launch_scale_grad(static_cast<float*>(grad), seed, u, count, stream);
    case Dtype::kBFloat16:
      return launch_scale_grad(static_cast<bfloat16*>(grad), seed, u, count, stream);
    case Dtype::kFloat16:
      return launch_scale_grad(static_cast<half*>(grad), seed, u, count, stream);
    default:
      return static_cast<int>(cudaErrorInvalidValue);
  }
}

}  // namespace pygan

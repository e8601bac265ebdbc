#include "common/reduce.h"
#include "ops/l1_loss/l1_loss.h"

namespace pygan {
namespace {

// V values of b beside V values of a. A float32 b beside a 16-bit a takes two 16-byte loads.
template <class B, int V>
__device__ __forceinline__ void load(const B* from, float (&to)[V]) {
  constexpr int kPart = V * sizeof(B) > 16 ? 16 / sizeof(B) : V;
#pragma unroll
  for (int p = 0; p < V / kPart; ++p) {
    const auto part = reinterpret_cast<const Vec<B, kPart>*>(from)[p];
#pragma unroll
    for (int j = 0; j < kPart; ++j) to[p * kPart + j] = to_float(part.v[j]);
  }
}

// slope * sign(d), with sign(0) = 0.
__device__ __forceinline__ float sign_times(float d, float slope) {
  return d > 0.0f ? slope : d < 0.0f ? -slope : 0.0f;
}

// The first `vectors` groups of V values go by 16-byte accesses, the others one by one.
template <class A, class B>
PYGAN_GLOBAL void __launch_bounds__(kReduceThreads)
    l1_loss_kernel(const A* a, const B* b, A* grad, float* loss, int64_t count, int64_t vectors, float slope,
                   double weight_per_item, double* partials, unsigned ticket) {
  constexpr int V = 16 / sizeof(A);
  double sum[1] = {0.0};
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kReduceThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kReduceThreads;
  for (int64_t i = first; i < vectors; i += stride) {
    // load
    float x[V], y[V];
    load<A, V>(a + i * V, x);
    load<B, V>(b + i * V, y);
    // compute: V values summed in float, the groups in double
    Vec<A, V> g;
    float part = 0.0f;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const float d = x[j] - y[j];
      part += fabsf(d);
      g.v[j] = from_float<A>(sign_times(d, slope));
    }
    sum[0] += part;
    // store
    if (grad != nullptr) reinterpret_cast<Vec<A, V>*>(grad)[i] = g;
  }
  for (int64_t i = vectors * V + first; i < count; i += stride) {
    const float d = to_float(a[i]) - to_float(b[i]);
    sum[0] += fabsf(d);
    if (grad != nullptr) grad[i] = from_float<A>(sign_times(d, slope));
  }
  // the last block writes the mean
  if (grid_sum(sum, partials, tickets + ticket) && threadIdx.x == 0)
    *loss = static_cast<float>(weight_per_item * sum[0]);
}

template <class A, class B>
int launch(const L1LossArgs& args, cudaStream_t stream) {
  constexpr int64_t V = 16 / sizeof(A);
  const double weight_per_item = args.weight / static_cast<double>(args.count);
  const bool vectorised = aligned(args.a, 16) && aligned(args.b, 16) && aligned(args.grad, 16);
  const int64_t vectors = vectorised ? args.count / V : 0;
  const unsigned blocks = reduce_blocks(vectorised ? (args.count + V - 1) / V : args.count, 1);
  PYGAN_LAUNCH((l1_loss_kernel<A, B>), dim3(blocks), dim3(kReduceThreads), 0, stream, static_cast<const A*>(args.a),
               static_cast<const B*>(args.b), static_cast<A*>(args.grad), static_cast<float*>(args.loss), args.count,
               vectors, static_cast<float>(weight_per_item / args.unit), weight_per_item, args.partials,
               next_ticket(stream));
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int64_t l1_loss_partials(int64_t count) { return reduce_blocks(count, 1); }

int l1_loss_cuda(const L1LossArgs& args, cudaStream_t stream) {
  const bool same = args.dtype_b == args.dtype_a;
  if (!same && args.dtype_b != Dtype::kFloat32) return static_cast<int>(cudaErrorInvalidValue);
  switch (args.dtype_a) {
    case Dtype::kFloat32:
      return launch<float, float>(args, stream);
    case Dtype::kBFloat16:
      return same ? launch<bfloat16, bfloat16>(args, stream) : launch<bfloat16, float>(args, stream);
    case Dtype::kFloat16:
      return same ? launch<half, half>(args, stream) : launch<half, float>(args, stream);
    default:
      return static_cast<int>(cudaErrorInvalidValue);
  }
}

int l1_loss_backward_cuda(void* grad, const float* seed, double unit, int64_t count, Dtype dtype, cudaStream_t stream) {
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

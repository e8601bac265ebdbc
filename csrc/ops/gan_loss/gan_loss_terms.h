// The device side of a GAN loss: what one block adds up of its logits, and what becomes of the sums of all blocks.
// For every kernel that holds such a loss: gan_loss, loss_sum.
#pragma once
#include "common/reduce.h"
#include "ops/gan_loss/gan_loss.h"

namespace pygan {
namespace {  // as in reduce.h

// A GanTerm as a thread uses it: slope is d loss / d (phi') / unit.
struct Half {
  GanPhi phi;
  float sign, offset, slope;
};

// The two halves, and how their means enter the loss.
struct GanHalves {
  Half real, fake;
  double scale_real, scale_fake;
  double per_real, per_fake;  // 1 / logits of the half; 0 for a half without any
};

inline Half half_of(const GanTerm& term, double per_item, const GanLossArgs& args) {
  return {term.phi, static_cast<float>(term.sign), static_cast<float>(term.offset),
          static_cast<float>(args.weight * term.scale * term.sign * per_item / args.unit)};
}

inline GanHalves halves_of(const GanLossArgs& args) {
  const int64_t count_fake = args.count - args.count_real;
  const double per_real = args.count_real > 0 ? 1.0 / static_cast<double>(args.count_real) : 0.0;
  const double per_fake = count_fake > 0 ? 1.0 / static_cast<double>(count_fake) : 0.0;
  return {half_of(args.terms.real, per_real, args),
          half_of(args.terms.fake, per_fake, args),
          args.weight * args.terms.real.scale,
          args.weight * args.terms.fake.scale,
          per_real,
          per_fake};
}

// True where 16 bytes of logits and of gradient are one access.
inline bool vectorised(const GanLossArgs& args) { return aligned(args.logits, 16) && aligned(args.grad, 16); }

// For began: k lives on the device, elsewhere it is null.
__device__ __forceinline__ void multiply_fake(GanHalves& halves, const float* k) {
  if (k == nullptr) return;
  halves.fake.slope *= *k;
  halves.scale_fake *= *k;
}

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

// Adds to sum = {real, fake, real logits, fake logits} the share of block `block` of `blocks`, and writes its gradient.
// V logits per access: 16 bytes, or 1 logit where a pointer is not aligned.
template <class T, int V>
__device__ __forceinline__ void add_gan_loss(const T* logits, T* grad, int64_t count, int64_t count_real,
                                             const GanHalves& halves, unsigned block, unsigned blocks,
                                             double (&sum)[4]) {
  const Half real = halves.real, fake = halves.fake;  // not by reference: that would put all of it on the stack
  const int64_t first = static_cast<int64_t>(block) * kReduceThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(blocks) * kReduceThreads;
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
}

// Writes and returns the loss from the sums over all blocks; stats: {real, fake, mean real logit, mean fake logit}.
__device__ __forceinline__ float finish_gan_loss(const GanHalves& halves, const double (&sum)[4], float* loss,
                                                 float* stats) {
  const double mean_real = sum[0] * halves.per_real, mean_fake = sum[1] * halves.per_fake;
  const float value = static_cast<float>(halves.scale_real * mean_real + halves.scale_fake * mean_fake);
  *loss = value;
  stats[0] = static_cast<float>(mean_real);
  stats[1] = static_cast<float>(mean_fake);
  stats[2] = static_cast<float>(sum[2] * halves.per_real);
  stats[3] = static_cast<float>(sum[3] * halves.per_fake);
  return value;
}

}  // namespace
}  // namespace pygan

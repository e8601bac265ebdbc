// The device side of the L1 loss: what one block adds up of its values. For every kernel that holds such a loss:
// l1_loss, loss_sum.
#pragma once
#include "common/reduce.h"
#include "ops/l1_loss/l1_loss.h"

namespace pygan {
namespace {  // as in reduce.h

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

// Adds to sum = {|a - b|} the share of block `block` of `blocks`, and writes its gradient. The first `vectors` groups
// of V values go by 16-byte accesses, the others one by one.
template <class A, class B>
__device__ __forceinline__ void add_l1_loss(const A* a, const B* b, A* grad, int64_t count, int64_t vectors,
                                            float slope, unsigned block, unsigned blocks, double& sum) {
  constexpr int V = 16 / sizeof(A);
  const int64_t first = static_cast<int64_t>(block) * kReduceThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(blocks) * kReduceThreads;
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
    sum += part;
    // store
    if (grad != nullptr) reinterpret_cast<Vec<A, V>*>(grad)[i] = g;
  }
  for (int64_t i = vectors * V + first; i < count; i += stride) {
    const float d = to_float(a[i]) - to_float(b[i]);
    sum += fabsf(d);
    if (grad != nullptr) grad[i] = from_float<A>(sign_times(d, slope));
  }
}

// True where V values of a, b and the gradient are 16-byte accesses.
inline bool vectorised(const L1LossArgs& args) {
  return aligned(args.a, 16) && aligned(args.b, 16) && aligned(args.grad, 16);
}

}  // namespace
}  // namespace pygan

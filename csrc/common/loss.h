// What the losses share on the torch side: tensors as one flat run of memory, sums on the CPU whose bits do not depend
// on the number of threads, and the backward that scales a gradient which the forward has written.
#pragma once
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>

#include <algorithm>
#include <array>
#include <vector>

#include "common/dtype.h"
#include "common/tensor.h"

namespace pygan {

// True where the strides of `t`, walked in the given order of dimensions (outermost first), leave no gap.
inline bool dense_in_order(const Tensor& t, const std::vector<int64_t>& order) {
  int64_t run = 1;
  for (auto d = order.rbegin(); d != order.rend(); ++d) {
    if (t.size(*d) != 1 && t.stride(*d) != run) return false;
    run *= t.size(*d);
  }
  return true;
}

// `t` fills one run of memory, sample after sample: contiguous or channels_last. Else an error that names it.
inline void check_flat(const char* op, const char* name, const Tensor& t) {
  std::vector<int64_t> order(t.dim());
  for (int64_t d = 0; d < t.dim(); ++d) order[d] = d;
  bool flat = t.numel() == 0 || dense_in_order(t, order);
  if (!flat && t.dim() == 4) flat = dense_in_order(t, {0, 2, 3, 1});
  STD_TORCH_CHECK(flat, op, ": ", name, " must be contiguous or channels_last, got the shape ", shape_of(t),
                  " with gaps or another order of dimensions");
}

// Sums over `count` items: add(begin, end, sums) adds the items of one chunk to `sums`. The chunks do not depend on the
// number of threads and are added up in their order, so neither does the result.
template <size_t N, class Add>
std::array<double, N> ordered_sum(int64_t count, const Add& add) {
  constexpr int64_t kChunk = 4096;  // items; also the least work of a thread
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  std::vector<std::array<double, N>> partial(chunks);
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      partial[c].fill(0.0);
      add(c * kChunk, std::min(count, (c + 1) * kChunk), partial[c]);
    }
  });
  std::array<double, N> total{};
  for (const auto& sums : partial)
    for (size_t i = 0; i < N; ++i) total[i] += sums[i];
  return total;
}

// The CPU twin of launch_scale_grad (reduce.h). Real: float, or double for float64 gradients.
template <class T, class Real>
void scale_grad_cpu(T* grad, const Real* seed, double unit, int64_t count) {
  const Real factor = *seed * static_cast<Real>(unit);
  if (factor == Real(1)) return;
  torch::stable::parallel_for(0, count, 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) grad[i] = static_cast<T>(static_cast<Real>(grad[i]) * factor);
  });
}

// grad and seed of a loss' backward: seed is the incoming gradient, one value in the dtype of the loss.
inline void check_loss_backward(const char* op, const Tensor& grad, const Tensor& seed) {
  check_flat(op, "grad", grad);
  const ScalarType expected = grad.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  STD_TORCH_CHECK(seed.numel() == 1 && seed.scalar_type() == expected, op,
                  ": seed must be one value in the dtype of the loss");
  STD_TORCH_CHECK(seed.device() == grad.device(), op, ": seed must be on the device of grad");
}

}  // namespace pygan

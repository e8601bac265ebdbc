// The readable twin of upsample_concat_cuda.cu. One row of the small map is one unit of work for a thread.
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>

#include <algorithm>

#include "common/tensor.h"
#include "ops/upsample_concat/upsample_concat.h"

namespace pygan {
namespace {

using torch::headeronly::BFloat16;

// Rows of the small map that are worth a thread, when one of them holds `items` values.
int64_t grain(int64_t items) { return std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, items)); }

template <class T>
void forward(const UpsampleConcatArgs& args) {
  const T* x = static_cast<const T*>(args.x);
  const T* skip = static_cast<const T*>(args.skip);
  T* y = static_cast<T*>(args.y);
  torch::stable::parallel_for(0, args.rows, grain(4 * args.w * (args.c1 + args.c2)), [&](int64_t begin, int64_t end) {
    for (int64_t row = 2 * begin; row < 2 * end; ++row) {  // of the doubled map
      for (int64_t j = 0; j < 2 * args.w; ++j) {
        const T* from = x + (row / 2 * args.w + j / 2) * args.ld_x;
        const int64_t pixel = row * 2 * args.w + j;
        T* to = y + pixel * args.ld_y;
        std::copy_n(from, args.c1, to);
        if (skip != nullptr) std::copy_n(skip + pixel * args.ld_skip, args.c2, to + args.c1);
      }
    }
  });
}

template <class T, class Real>
void backward(const UpsampleConcatBackwardArgs& args) {
  const T* g = static_cast<const T*>(args.g);
  T* dx = static_cast<T*>(args.dx);
  torch::stable::parallel_for(0, args.rows, grain(4 * args.w * args.c), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t j = 0; j < args.w; ++j) {
        const T* top = g + (2 * row * 2 * args.w + 2 * j) * args.ld_g;
        const T* bottom = top + 2 * args.w * args.ld_g;
        T* to = dx + (row * args.w + j) * args.ld_dx;
        for (int64_t c = 0; c < args.c; ++c)
          to[c] = static_cast<T>((static_cast<Real>(top[c]) + static_cast<Real>(top[args.ld_g + c])) +
                                 (static_cast<Real>(bottom[c]) + static_cast<Real>(bottom[args.ld_g + c])));
      }
    }
  });
}

}  // namespace

void upsample_concat_cpu(const UpsampleConcatArgs& args) {
  if (args.dtype == Dtype::kFloat32) forward<float>(args);
  if (args.dtype == Dtype::kBFloat16) forward<BFloat16>(args);
  if (args.dtype == Dtype::kFloat64) forward<double>(args);
}

void upsample_concat_backward_cpu(const UpsampleConcatBackwardArgs& args) {
  if (args.dtype == Dtype::kFloat32) backward<float, float>(args);
  if (args.dtype == Dtype::kBFloat16) backward<BFloat16, float>(args);
  if (args.dtype == Dtype::kFloat64) backward<double, double>(args);
}

}  // namespace pygan

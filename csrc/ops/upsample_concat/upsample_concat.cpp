// Schema, argument checks and dispatch of upsample_concat. Fake kernels and autograd: pygan/ops/upsample_concat.py.
#include "ops/upsample_concat/upsample_concat.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/core/MemoryFormat.h>

#include <optional>

#include "common/stream.h"
#include "common/tensor.h"

namespace pygan {
namespace {

Tensor empty_nhwc(int64_t n, int64_t c, int64_t h, int64_t w, const Tensor& like) {
  return torch::stable::empty({n, c, h, w}, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
                              torch::headeronly::MemoryFormat::ChannelsLast);
}

// The CUDA kernel counts its items in 32 bits. Its largest unit of work is one value.
void check_size(const char* op, const Tensor& t, int64_t items) {
  STD_TORCH_CHECK(!t.is_cuda() || items < (int64_t{1} << 31), op, ": ", items,
                  " (pixel, channel) pairs of the small map are too many for one launch: split the batch");
}

Tensor upsample_concat(Tensor x, std::optional<Tensor> skip) {
  const char* op = "upsample_concat";
  const Dtype dtype = supported_dtype(op, "x", x);
  const Nhwc small = nhwc(op, "x", x);
  UpsampleConcatArgs args{};
  if (skip.has_value()) {
    const Nhwc large = nhwc(op, "skip", *skip);
    STD_TORCH_CHECK(large.n == small.n && large.h == 2 * small.h && large.w == 2 * small.w, op,
                    ": skip must have the shape of x with doubled height and width, got ", shape_of(*skip), " beside ",
                    shape_of(x));
    STD_TORCH_CHECK(skip->scalar_type() == x.scalar_type(), op, ": skip must have the dtype of x");
    STD_TORCH_CHECK(skip->device() == x.device(), op, ": skip must be on the device of x");
    args.skip = large.c > 0 ? skip->const_data_ptr() : nullptr;
    args.c2 = large.c;
    args.ld_skip = large.ld;
  }
  check_size(op, x, small.rows() * (small.c + args.c2));
  Tensor y = empty_nhwc(small.n, small.c + args.c2, 2 * small.h, 2 * small.w, x);
  args.x = x.const_data_ptr();
  args.y = y.mutable_data_ptr();
  args.rows = small.n * small.h;
  args.w = small.w;
  args.c1 = small.c;
  args.ld_x = small.ld;
  args.ld_y = small.c + args.c2;
  args.dtype = dtype;
#if defined(PYGAN_WITH_CUDA)
  if (x.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
    check_launch(op, upsample_concat_cuda(args, current_stream(x)));
    return y;
  }
#endif
  upsample_concat_cpu(args);
  return y;
}

Tensor upsample_concat_backward(Tensor g) {
  const char* op = "upsample_concat_backward";
  const Dtype dtype = supported_dtype(op, "g", g);
  const Nhwc large = nhwc(op, "g", g);
  STD_TORCH_CHECK(large.h % 2 == 0 && large.w % 2 == 0, op, ": g must have an even height and width, got ",
                  shape_of(g));
  check_size(op, g, large.rows() / 4 * large.c);
  Tensor dx = empty_nhwc(large.n, large.c, large.h / 2, large.w / 2, g);
  UpsampleConcatBackwardArgs args{};
  args.g = g.const_data_ptr();
  args.dx = dx.mutable_data_ptr();
  args.rows = large.n * large.h / 2;
  args.w = large.w / 2;
  args.c = large.c;
  args.ld_g = large.ld;
  args.ld_dx = large.c;
  args.dtype = dtype;
#if defined(PYGAN_WITH_CUDA)
  if (g.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(g.get_device_index());
    check_launch(op, upsample_concat_backward_cuda(args, current_stream(g)));
    return dx;
  }
#endif
  upsample_concat_backward_cpu(args);
  return dx;
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  m.def("upsample_concat(Tensor x, Tensor? skip) -> Tensor");
  m.def("upsample_concat_backward(Tensor g) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("upsample_concat", TORCH_BOX(&pygan::upsample_concat));
  m.impl("upsample_concat_backward", TORCH_BOX(&pygan::upsample_concat_backward));
}

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("upsample_concat", TORCH_BOX(&pygan::upsample_concat));
  m.impl("upsample_concat_backward", TORCH_BOX(&pygan::upsample_concat_backward));
}
#endif

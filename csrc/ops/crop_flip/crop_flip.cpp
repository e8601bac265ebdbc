// Schema, argument checks and dispatch of crop_flip. Fake kernel and reference: pygan/ops/crop_flip.py.
#include "ops/crop_flip/crop_flip.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <string>
#include <vector>

#include "common/stream.h"
#include "common/tensor.h"

namespace pygan {
namespace {

void crop_flip(std::vector<Tensor> sets, std::vector<Tensor> draws, int64_t crop_size, std::vector<Tensor> out) {
  const char* op = "crop_flip";
  STD_TORCH_CHECK(!sets.empty() && sets.size() <= kMaxCropFlipSets, op, ": sets must hold 1 to ", kMaxCropFlipSets,
                  " tensors, got ", sets.size());
  STD_TORCH_CHECK(draws.size() == sets.size() && out.size() == sets.size(), op,
                  ": draws and out must hold one tensor for each of the ", sets.size(), " sets, got ", draws.size(),
                  " and ", out.size());
  STD_TORCH_CHECK(crop_size >= 1, op, ": crop_size must be at least 1, got ", crop_size);
  CropFlipArgs args{};
  args.sets = static_cast<int>(sets.size());
  args.crop = crop_size;
  args.dtype = dtype_of(op, "out", out[0]);
  STD_TORCH_CHECK(args.dtype != Dtype::kFloat64, op, ": out must be float32, bfloat16 or float16");
  for (size_t i = 0; i < sets.size(); ++i) {
    const Tensor &set = sets[i], &draw = draws[i], &to = out[i];
    STD_TORCH_CHECK(set.dim() == 4 && set.scalar_type() == ScalarType::Byte && set.is_contiguous(), op, ": sets[", i,
                    "] must be contiguous uint8 of shape (items, h, w, c), got ", shape_of(set));
    STD_TORCH_CHECK(set.size(1) >= crop_size && set.size(2) >= crop_size && set.size(3) >= 1, op, ": sets[", i,
                    "] must have pictures of at least ", crop_size, " x ", crop_size, " pixels, got ", shape_of(set));
    STD_TORCH_CHECK(set.size(0) < int64_t{1} << 31, op, ": sets[", i, "] has more items than an int32 can number");
    STD_TORCH_CHECK(
        draw.dim() == 2 && draw.size(1) == 4 && draw.scalar_type() == ScalarType::Int && draw.is_contiguous(), op,
        ": draws[", i, "] must be contiguous int32 of shape (n, 4), got ", shape_of(draw));
    const int64_t n = draw.size(0), c = set.size(3);
    const std::string name = "out[" + std::to_string(i) + "]";
    const Nhwc view = nhwc(op, name.c_str(), to);
    STD_TORCH_CHECK(view.n == n && view.c == c && view.h == crop_size && view.w == crop_size, op, ": ", name,
                    " must have shape (n, c, crop_size, crop_size) = [", n, ", ", c, ", ", crop_size, ", ", crop_size,
                    "], got ", shape_of(to));
    STD_TORCH_CHECK(view.ld == c, op, ": ", name, " must be channels_last without gaps");
    STD_TORCH_CHECK(to.scalar_type() == out[0].scalar_type(), op, ": all of out must have the same dtype");
    STD_TORCH_CHECK(n * c * crop_size * crop_size < int64_t{1} << 31, op, ": ", name,
                    " has too many values for one launch: split the batch");
    STD_TORCH_CHECK(set.device() == sets[0].device() && draw.device() == set.device() && to.device() == set.device(),
                    op, ": sets, draws and out must be on the same device");
    args.set[i] = {static_cast<const uint8_t*>(set.const_data_ptr()),
                   static_cast<const int32_t*>(draw.const_data_ptr()),
                   to.mutable_data_ptr(),
                   set.size(0),
                   set.size(1),
                   set.size(2),
                   c,
                   n};
  }
#if defined(PYGAN_WITH_CUDA)
  if (sets[0].is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(sets[0].get_device_index());
    check_launch(op, crop_flip_cuda(args, current_stream(sets[0])));
    return;
  }
#endif
  crop_flip_cpu(args);
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  m.def("crop_flip(Tensor[] sets, Tensor[] draws, int crop_size, Tensor(a!)[] out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) { m.impl("crop_flip", TORCH_BOX(&pygan::crop_flip)); }

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) { m.impl("crop_flip", TORCH_BOX(&pygan::crop_flip)); }
#endif

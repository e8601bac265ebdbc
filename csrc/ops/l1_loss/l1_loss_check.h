// What an L1 loss asks of its arguments on the torch side. For every operator that holds such a loss: l1_loss,
// loss_sum.
#pragma once
#include "common/loss.h"
#include "ops/l1_loss/l1_loss.h"

namespace pygan {

// The launcher's arguments without the tensors that it writes, or an error that names the argument.
inline L1LossArgs check_l1_loss(const char* op, const Tensor& a, const Tensor& b, double weight, double unit) {
  const Dtype dtype_a = supported_dtype(op, "a", a), dtype_b = supported_dtype(op, "b", b);
  const bool mixed = dtype_b == Dtype::kFloat32 && (dtype_a == Dtype::kBFloat16 || dtype_a == Dtype::kFloat16);
  STD_TORCH_CHECK(dtype_a == dtype_b || mixed, op, ": a and b must have the same dtype, or a 16 bits and b be float32");
  STD_TORCH_CHECK(a.device() == b.device(), op, ": a and b must be on the same device");
  STD_TORCH_CHECK(a.numel() > 0, op, ": a is empty, it has no mean");
  bool same_shape = a.dim() == b.dim();
  bool same_layout = true;
  for (int64_t d = 0; same_shape && d < a.dim(); ++d) {
    same_shape = a.size(d) == b.size(d);
    same_layout = same_layout && (a.size(d) == 1 || a.stride(d) == b.stride(d));
  }
  STD_TORCH_CHECK(same_shape, op, ": a and b must have the same shape, got ", shape_of(a), " and ", shape_of(b));
  STD_TORCH_CHECK(same_layout, op, ": a and b must have the same memory format");
  check_flat(op, "a", a);
  L1LossArgs args{};
  args.a = a.const_data_ptr();
  args.b = b.const_data_ptr();
  args.count = a.numel();
  args.weight = weight;
  args.unit = unit;
  args.dtype_a = dtype_a;
  args.dtype_b = dtype_b;
  return args;
}

}  // namespace pygan

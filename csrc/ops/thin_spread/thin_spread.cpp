// Schemas, argument checks and dispatch of thin_spread and thin_wgrad. Fake kernels and autograd:
// pygan/ops/thin_conv.py.
#include "ops/thin_spread/thin_spread.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <string>

#include "common/stream.h"
#include "common/thin_check.h"

namespace pygan {
namespace {

using MaybeTensor = std::optional<Tensor>;

double below_of(const char* op, const char* name, const std::string& act, double slope) {
  if (act == "none") return 1.0;
  if (act == "relu") return 0.0;
  STD_TORCH_CHECK(act == "leaky_relu", op, ": ", name, " must be none, relu or leaky_relu, got '", act, "'");
  return slope;
}

// The kernels move 16 bytes of a thick pixel at a time.
void check_rows(const char* op, const char* name, const Tensor& t, int64_t ld) {
  if (!t.is_cuda()) return;
  const bool aligned = reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0 && ld % 8 == 0;
  STD_TORCH_CHECK(aligned, op, ": ", name, " must begin at a multiple of 8 channels and have a pitch of such");
}

void thin_spread(Tensor t, Tensor weight, MaybeTensor bias, Tensor y, MaybeTensor s, std::string mode, std::string act,
                 std::optional<std::string> skip_act, double slope) {
  const char* op = "thin_spread";
  ThinSpreadArgs args{};
  static_cast<ThinShape&>(args) = thin_shape(op, mode, "t", t, "y", y, "weight", weight);
  args.dtype = dtype_of(op, "y", y);
  args.t_dtype = dtype_of(op, "t", t);
  args.below_y = below_of(op, "act", act, slope);
  check_rows(op, "y", y, args.k_ld);
  STD_TORCH_CHECK(s.has_value() == skip_act.has_value(), op, ": s and skip_act come together");
  if (s) {
    bool like = s->dim() == 4 && s->scalar_type() == y.scalar_type() && s->device() == y.device();
    for (int64_t d = 0; like && d < 4; ++d) like = s->size(d) == y.size(d);
    STD_TORCH_CHECK(like, op, ": s must have the shape, dtype and device of y, ", shape_of(y), ", got ", shape_of(*s));
    args.ld_s = nhwc(op, "s", *s).ld;
    args.below_s = below_of(op, "skip_act", *skip_act, slope);
    check_rows(op, "s", *s, args.ld_s);
    args.s = s->mutable_data_ptr();
  }
  if (bias) {
    args.bias_dtype = thin_vector(op, "bias", *bias, args.ck, y);
    args.bias = bias->const_data_ptr();
  }
  args.t = t.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.y = y.mutable_data_ptr();
#if defined(PYGAN_WITH_CUDA)
  if (y.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(y.get_device_index());
    check_launch(op, thin_spread_cuda(args, current_stream(y)));
    return;
  }
#endif
  thin_spread_cpu(args);
}

void thin_wgrad(Tensor t, Tensor k, Tensor dweight, MaybeTensor k_sum, MaybeTensor t_sum, std::string mode) {
  const char* op = "thin_wgrad";
  ThinWgradArgs args{};
  static_cast<ThinShape&>(args) = thin_shape(op, mode, "t", t, "k", k, "dweight", dweight, true);
  args.dtype = dtype_of(op, "k", k);
  args.t_dtype = dtype_of(op, "t", t);
  args.out_dtype = dtype_of(op, "dweight", dweight);
  check_rows(op, "k", k, args.k_ld);
  if (k_sum) {
    args.sum_dtype = thin_vector(op, "k_sum", *k_sum, args.ck, k);
    STD_TORCH_CHECK(!k.is_cuda() || thin_k_sum_fits(args), op, ": no k_sum with ", args.ct, " thin channels in mode '",
                    mode, "'");
    args.k_sum = k_sum->mutable_data_ptr();
  }
  if (t_sum) {
    STD_TORCH_CHECK(!k_sum || k_sum->scalar_type() == t_sum->scalar_type(), op,
                    ": k_sum and t_sum must have the same dtype");
    args.sum_dtype = thin_vector(op, "t_sum", *t_sum, args.ct, k);
    STD_TORCH_CHECK(!k.is_cuda() || thin_t_sum_fits(args), op, ": no t_sum of a thin map ", shape_of(t), " in mode '",
                    mode, "'");
    args.t_sum = t_sum->mutable_data_ptr();
  }
  args.t = t.const_data_ptr();
  args.k = k.const_data_ptr();
  args.dweight = dweight.mutable_data_ptr();
#if defined(PYGAN_WITH_CUDA)
  if (k.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(k.get_device_index());
    Tensor workspace = torch::stable::new_empty(k, {thin_wgrad_workspace(args)}, ScalarType::Float);
    args.workspace = static_cast<float*>(workspace.mutable_data_ptr());
    check_launch(op, thin_wgrad_cuda(args, current_stream(k)));
    return;
  }
#endif
  thin_wgrad_cpu(args);
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  // Not "mode": torch passes what an operator that writes to an argument gets on by name, beside a mode of its own.
  m.def(
      "thin_spread(Tensor t, Tensor weight, Tensor? bias, Tensor(a!) y, Tensor(b!)? s, str thin_mode, str act, "
      "str? skip_act, float slope) -> ()");
  m.def(
      "thin_wgrad(Tensor t, Tensor k, Tensor(a!) dweight, Tensor(b!)? k_sum, Tensor(c!)? t_sum, str thin_mode) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("thin_spread", TORCH_BOX(&pygan::thin_spread));
  m.impl("thin_wgrad", TORCH_BOX(&pygan::thin_wgrad));
}

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("thin_spread", TORCH_BOX(&pygan::thin_spread));
  m.impl("thin_wgrad", TORCH_BOX(&pygan::thin_wgrad));
}
#endif

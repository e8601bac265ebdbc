// Schema, argument checks and dispatch of thin_gather. Fake kernel: pygan/ops/thin_gather.py; autograd:
// pygan/ops/thin_conv.py.
#include "ops/thin_gather/thin_gather.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <optional>
#include <string>

#include "common/stream.h"
#include "common/thin_check.h"

namespace pygan {
namespace {

void thin_gather(Tensor k, Tensor weight, std::optional<Tensor> bias, Tensor t, std::string mode, std::string act) {
  const char* op = "thin_gather";
  ThinGatherArgs args{};
  static_cast<ThinShape&>(args) = thin_shape(op, mode, "t", t, "k", k, "weight", weight);
  args.dtype = dtype_of(op, "k", k);
  args.t_dtype = dtype_of(op, "t", t);
  STD_TORCH_CHECK(act == "none" || act == "tanh", op, ": act must be none or tanh, got '", act, "'");
  args.act = act == "tanh" ? ThinAct::kTanh : ThinAct::kNone;
  if (bias) {
    const bool wide = bias->scalar_type() == ScalarType::Float && k.scalar_type() != ScalarType::Double;
    check_vector(op, "bias", *bias, args.ct, wide ? ScalarType::Float : k.scalar_type(), k);
    args.bias_dtype = dtype_of(op, "bias", *bias);
    args.bias = bias->const_data_ptr();
  }
  args.k = k.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.t = t.mutable_data_ptr();
#if defined(PYGAN_WITH_CUDA)
  if (k.is_cuda()) {
    STD_TORCH_CHECK(reinterpret_cast<uintptr_t>(args.k) % 16 == 0 && args.k_ld % 8 == 0, op,
                    ": k must begin at a multiple of 8 channels and have a pitch of such");
    STD_TORCH_CHECK(args.n < 65536 && int64_t{args.wk} * args.k_ld < (int64_t{1} << 30), op, ": k ", shape_of(k),
                    " is too large");
    const torch::stable::accelerator::DeviceGuard guard(k.get_device_index());
    check_launch(op, thin_gather_cuda(args, current_stream(k)));
    return;
  }
#endif
  thin_gather_cpu(args);
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  // Not "mode": torch hands the arguments of an operator that writes to one on by name, beside a mode of its own.
  m.def("thin_gather(Tensor k, Tensor weight, Tensor? bias, Tensor(a!) t, str thin_mode, str act) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) { m.impl("thin_gather", TORCH_BOX(&pygan::thin_gather)); }

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) { m.impl("thin_gather", TORCH_BOX(&pygan::thin_gather)); }
#endif

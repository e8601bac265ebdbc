// Schema, argument checks and dispatch of gan_loss. Fake kernels and autograd: pygan/ops/gan_loss.py.
#include "ops/gan_loss/gan_loss.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

#include "common/loss.h"
#include "common/stream.h"

namespace pygan {
namespace {

std::tuple<Tensor, Tensor, Tensor> gan_loss(Tensor logits, int64_t mode, int64_t side, int64_t n_real, double weight,
                                            double margin, std::optional<Tensor> k, double unit, bool want_grad) {
  const char* op = "gan_loss";
  const Dtype dtype = supported_dtype(op, "logits", logits);
  STD_TORCH_CHECK(logits.dim() >= 1 && logits.numel() > 0, op, ": logits must have shape (n, ...) with n > 0, got ",
                  shape_of(logits));
  check_flat(op, "logits", logits);
  STD_TORCH_CHECK(0 <= mode && mode <= static_cast<int64_t>(GanMode::kBegan), op, ": unknown mode ", mode);
  STD_TORCH_CHECK(side == 0 || side == 1, op, ": side must be 0 (D) or 1 (G), got ", side);
  STD_TORCH_CHECK(0 <= n_real && n_real <= (side == 0 ? logits.size(0) : 0), op,
                  ": n_real must lie between 0 and the batch size for D, and be 0 for G, got ", n_real);
  const bool needs_k = static_cast<GanMode>(mode) == GanMode::kBegan && side == 0;
  STD_TORCH_CHECK(k.has_value() == needs_k, op, ": k must be given for mode began of D, and only there");
  if (needs_k)
    STD_TORCH_CHECK(k->numel() == 1 && k->scalar_type() == ScalarType::Float && k->device() == logits.device(), op,
                    ": k must be one float32 value on the device of the logits");

  const ScalarType real_dtype = dtype == Dtype::kFloat64 ? ScalarType::Double : ScalarType::Float;
  Tensor loss = torch::stable::new_empty(logits, {}, real_dtype);
  Tensor stats = torch::stable::new_empty(logits, {4}, real_dtype);
  Tensor grad = want_grad ? torch::stable::empty_like(logits) : torch::stable::new_empty(logits, {0});
  GanLossArgs args{};
  args.logits = logits.const_data_ptr();
  args.grad = want_grad ? grad.mutable_data_ptr() : nullptr;
  args.loss = loss.mutable_data_ptr();
  args.stats = stats.mutable_data_ptr();
  args.k = needs_k ? static_cast<const float*>(k->const_data_ptr()) : nullptr;
  args.count = logits.numel();
  args.count_real = n_real * (logits.numel() / logits.size(0));
  args.terms = gan_terms(static_cast<GanMode>(mode), static_cast<GanSide>(side), margin);
  args.weight = weight;
  args.unit = unit;
  args.dtype = dtype;
#if defined(PYGAN_WITH_CUDA)
  if (logits.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
    Tensor partials = torch::stable::new_empty(logits, {gan_loss_partials(args.count)}, ScalarType::Double);
    args.partials = static_cast<double*>(partials.mutable_data_ptr());
    check_launch(op, gan_loss_cuda(args, current_stream(logits)));
    return {loss, stats, grad};
  }
#endif
  gan_loss_cpu(args);
  return {loss, stats, grad};
}

void gan_loss_backward_(Tensor grad, Tensor seed, double unit) {
  const char* op = "gan_loss_backward_";
  const Dtype dtype = supported_dtype(op, "grad", grad);
  check_loss_backward(op, grad, seed);
#if defined(PYGAN_WITH_CUDA)
  if (grad.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
    check_launch(op, gan_loss_backward_cuda(grad.mutable_data_ptr(), static_cast<const float*>(seed.const_data_ptr()),
                                            unit, grad.numel(), dtype, current_stream(grad)));
    return;
  }
#endif
  gan_loss_backward_cpu(grad.mutable_data_ptr(), seed.const_data_ptr(), unit, grad.numel(), dtype);
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  m.def(
      "gan_loss(Tensor logits, int mode, int side, int n_real, float weight, float margin, Tensor? k, float unit, "
      "bool want_grad) -> (Tensor loss, Tensor stats, Tensor grad)");
  m.def("gan_loss_backward_(Tensor(a!) grad, Tensor seed, float unit) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("gan_loss", TORCH_BOX(&pygan::gan_loss));
  m.impl("gan_loss_backward_", TORCH_BOX(&pygan::gan_loss_backward_));
}

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("gan_loss", TORCH_BOX(&pygan::gan_loss));
  m.impl("gan_loss_backward_", TORCH_BOX(&pygan::gan_loss_backward_));
}
#endif

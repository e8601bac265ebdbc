// Schema, argument checks and dispatch of gan_loss. Fake kernels and autograd: pygan/ops/gan_loss.py.
#include "ops/gan_loss/gan_loss.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <optional>
#include <tuple>

#include "common/loss.h"
#include "common/stream.h"
#include "ops/gan_loss/gan_loss_check.h"

namespace pygan {
namespace {

std::tuple<Tensor, Tensor, Tensor> gan_loss(Tensor logits, int64_t mode, int64_t side, int64_t n_real, double weight,
                                            double margin, std::optional<Tensor> k, double unit, bool want_grad) {
  const char* op = "gan_loss";
  GanLossArgs args = check_gan_loss(op, logits, mode, side, n_real, weight, margin, k, unit);
  const ScalarType real_dtype = args.dtype == Dtype::kFloat64 ? ScalarType::Double : ScalarType::Float;
  Tensor loss = torch::stable::new_empty(logits, {}, real_dtype);
  Tensor stats = torch::stable::new_empty(logits, {4}, real_dtype);
  Tensor grad = want_grad ? torch::stable::empty_like(logits) : torch::stable::new_empty(logits, {0});
  args.grad = want_grad ? grad.mutable_data_ptr() : nullptr;
  args.loss = loss.mutable_data_ptr();
  args.stats = stats.mutable_data_ptr();
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

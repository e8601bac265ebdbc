// Schema, argument checks and dispatch of l1_loss. Fake kernels and autograd: pygan/ops/l1_loss.py.
#include "ops/l1_loss/l1_loss.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/loss.h"
#include "common/stream.h"
#include "ops/l1_loss/l1_loss_check.h"

namespace pygan {
namespace {

std::tuple<Tensor, Tensor> l1_loss(Tensor a, Tensor b, double weight, double unit, bool want_grad) {
  const char* op = "l1_loss";
  L1LossArgs args = check_l1_loss(op, a, b, weight, unit);
  Tensor loss =
      torch::stable::new_empty(a, {}, args.dtype_a == Dtype::kFloat64 ? ScalarType::Double : ScalarType::Float);
  Tensor grad = want_grad ? torch::stable::empty_like(a) : torch::stable::new_empty(a, {0});
  args.grad = want_grad ? grad.mutable_data_ptr() : nullptr;
  args.loss = loss.mutable_data_ptr();
#if defined(PYGAN_WITH_CUDA)
  if (a.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(a.get_device_index());
    Tensor partials = torch::stable::new_empty(a, {l1_loss_partials(args.count)}, ScalarType::Double);
    args.partials = static_cast<double*>(partials.mutable_data_ptr());
    check_launch(op, l1_loss_cuda(args, current_stream(a)));
    return {loss, grad};
  }
#endif
  l1_loss_cpu(args);
  return {loss, grad};
}

void l1_loss_backward_(Tensor grad, Tensor seed, double unit) {
  const char* op = "l1_loss_backward_";
  const Dtype dtype = supported_dtype(op, "grad", grad);
  check_loss_backward(op, grad, seed);
#if defined(PYGAN_WITH_CUDA)
  if (grad.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(grad.get_device_index());
    check_launch(op, l1_loss_backward_cuda(grad.mutable_data_ptr(), static_cast<const float*>(seed.const_data_ptr()),
                                           unit, grad.numel(), dtype, current_stream(grad)));
    return;
  }
#endif
  l1_loss_backward_cpu(grad.mutable_data_ptr(), seed.const_data_ptr(), unit, grad.numel(), dtype);
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  m.def("l1_loss(Tensor a, Tensor b, float weight, float unit, bool want_grad) -> (Tensor loss, Tensor grad)");
  m.def("l1_loss_backward_(Tensor(a!) grad, Tensor seed, float unit) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("l1_loss", TORCH_BOX(&pygan::l1_loss));
  m.impl("l1_loss_backward_", TORCH_BOX(&pygan::l1_loss_backward_));
}

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("l1_loss", TORCH_BOX(&pygan::l1_loss));
  m.impl("l1_loss_backward_", TORCH_BOX(&pygan::l1_loss_backward_));
}
#endif

// The readable twin of l1_loss_cuda.cu.
#include <cmath>

#include "common/loss.h"
#include "ops/l1_loss/l1_loss.h"

namespace pygan {
namespace {

using torch::headeronly::BFloat16;

template <class A, class B, class Real>
void run(const L1LossArgs& args) {
  const A* a = static_cast<const A*>(args.a);
  const B* b = static_cast<const B*>(args.b);
  A* grad = static_cast<A*>(args.grad);
  const double per_item = 1.0 / args.count;
  const Real slope = args.weight * per_item / args.unit;
  const auto sum = ordered_sum<1>(args.count, [&](int64_t begin, int64_t end, std::array<double, 1>& total) {
    for (int64_t i = begin; i < end; ++i) total[0] += std::abs(static_cast<Real>(a[i]) - static_cast<Real>(b[i]));
    if (grad == nullptr) return;
    for (int64_t i = begin; i < end; ++i) {
      const Real difference = static_cast<Real>(a[i]) - static_cast<Real>(b[i]);
      grad[i] = static_cast<A>((difference > 0 ? slope : Real(0)) - (difference < 0 ? slope : Real(0)));
    }
  });
  *static_cast<Real*>(args.loss) = args.weight * (sum[0] * per_item);
}

}  // namespace

void l1_loss_cpu(const L1LossArgs& args) {
  if (args.dtype_a == Dtype::kFloat32) run<float, float, float>(args);
  if (args.dtype_a == Dtype::kFloat64) run<double, double, double>(args);
  if (args.dtype_a == Dtype::kBFloat16) {
    if (args.dtype_b == Dtype::kFloat32)
      run<BFloat16, float, float>(args);
    else
      run<BFloat16, BFloat16, float>(args);
  }
}

void l1_loss_backward_cpu(void* grad, const void* seed, double unit, int64_t count, Dtype dtype) {
  const float* seed_float = static_cast<const float*>(seed);
  if (dtype == Dtype::kFloat32) scale_grad_cpu(static_cast<float*>(grad), seed_float, unit, count);
  if (dtype == Dtype::kBFloat16) scale_grad_cpu(static_cast<BFloat16*>(grad), seed_float, unit, count);
  if (dtype == Dtype::kFloat64)
    scale_grad_cpu(static_cast<double*>(grad), static_cast<const double*>(seed), unit, count);
}

}  // namespace pygan

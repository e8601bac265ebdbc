// The readable twin of gan_loss_cuda.cu.
#include <cmath>

#include "common/loss.h"
#include "ops/gan_loss/gan_loss.h"

namespace pygan {
namespace {

using torch::headeronly::BFloat16;

template <class Real>
Real phi(GanPhi kind, Real z) {
  switch (kind) {
    case GanPhi::kSoftplus:
      return (z > 0 ? z : Real(0)) + std::log1p(std::exp(-std::abs(z)));
    case GanPhi::kSquare:
      return z * z;
    case GanPhi::kLinear:
      return z;
    case GanPhi::kRamp:
      return z < 0 ? Real(0) : z;  // NaN stays
  }
  return z;
}

template <class Real>
Real phi_slope(GanPhi kind, Real z) {
  switch (kind) {
    case GanPhi::kSoftplus:
      return 1 / (1 + std::exp(-z));
    case GanPhi::kSquare:
      return 2 * z;
    case GanPhi::kLinear:
      return Real(1);
    case GanPhi::kRamp:
      return z <= 0 ? Real(0) : Real(1);
  }
  return Real(1);
}

template <class T, class Real>
void run(const GanLossArgs& args) {
  const T* logits = static_cast<const T*>(args.logits);
  T* grad = static_cast<T*>(args.grad);
  const double per_real = args.count_real > 0 ? 1.0 / args.count_real : 0.0;
  const double per_fake = args.count > args.count_real ? 1.0 / (args.count - args.count_real) : 0.0;
  GanTerm real = args.terms.real, fake = args.terms.fake;
  if (args.k != nullptr) fake.scale *= *args.k;
  const Real slope_real = args.weight * real.scale * real.sign * per_real / args.unit;
  const Real slope_fake = args.weight * fake.scale * fake.sign * per_fake / args.unit;

  // {real, fake, real logits, fake logits}: each half of [begin, end) on its own, so that the inner loop does not
  // branch
  const auto sums = ordered_sum<4>(args.count, [&](int64_t begin, int64_t end, std::array<double, 4>& sum) {
    const auto half = [&](const GanTerm& term, Real slope, int64_t from, int64_t to, double& value, double& logit) {
      for (int64_t i = from; i < to; ++i) {
        const Real d = static_cast<Real>(logits[i]);
        const Real z = static_cast<Real>(term.sign) * d + static_cast<Real>(term.offset);
        value += phi(term.phi, z);
        logit += d;
        if (grad != nullptr) grad[i] = static_cast<T>(slope * phi_slope(term.phi, z));
      }
    };
    const int64_t middle = std::clamp(args.count_real, begin, end);
    half(real, slope_real, begin, middle, sum[0], sum[2]);
    half(fake, slope_fake, middle, end, sum[1], sum[3]);
  });

  const double mean[4] = {sums[0] * per_real, sums[1] * per_fake, sums[2] * per_real, sums[3] * per_fake};
  *static_cast<Real*>(args.loss) = args.weight * (real.scale * mean[0] + fake.scale * mean[1]);
  for (int i = 0; i < 4; ++i) static_cast<Real*>(args.stats)[i] = mean[i];
}

}  // namespace

void gan_loss_cpu(const GanLossArgs& args) {
  if (args.dtype == Dtype::kFloat32) run<float, float>(args);
  if (args.dtype == Dtype::kBFloat16) run<BFloat16, float>(args);
  if (args.dtype == Dtype::kFloat64) run<double, double>(args);
}

void gan_loss_backward_cpu(void* grad, const void* seed, double unit, int64_t count, Dtype dtype) {
  const float* seed_float = static_cast<const float*>(seed);
  if (dtype == Dtype::kFloat32) scale_grad_cpu(static_cast<float*>(grad), seed_float, unit, count);
  if (dtype == Dtype::kBFloat16) scale_grad_cpu(static_cast<BFloat16*>(grad), seed_float, unit, count);
  if (dtype == Dtype::kFloat64)
    scale_grad_cpu(static_cast<double*>(grad), static_cast<const double*>(seed), unit, count);
}

}  // namespace pygan

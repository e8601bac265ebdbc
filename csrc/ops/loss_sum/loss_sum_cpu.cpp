// The readable twin of loss_sum_cuda.cu.
#include "ops/loss_sum/loss_sum.h"

namespace pygan {
namespace {

template <class Real>
void run(const LossSumArgs& args) {
  Real* total = static_cast<Real*>(args.total);
  for (int i = 0; i < args.terms; ++i) {
    const LossTerm& term = args.term[i];
    if (term.is_l1)
      l1_loss_cpu(term.l1);
    else
      gan_loss_cpu(term.gan);
    const Real loss = *static_cast<const Real*>(term.is_l1 ? term.l1.loss : term.gan.loss);
    *total = i == 0 ? loss : *total + loss;
  }
}

}  // namespace

void loss_sum_cpu(const LossSumArgs& args) {
  if (args.dtype == Dtype::kFloat32) run<float>(args);
  if (args.dtype == Dtype::kFloat64) run<double>(args);
}

}  // namespace pygan

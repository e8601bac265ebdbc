// Schema, argument checks and dispatch of loss_sum. Fake kernel and autograd: pygan/ops/loss_sum.py. Its backward is
// that of the single losses: gan_loss_backward_ and l1_loss_backward_.
#include "ops/loss_sum/loss_sum.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "common/loss.h"
#include "common/stream.h"
#include "ops/gan_loss/gan_loss_check.h"
#include "ops/l1_loss/l1_loss_check.h"

namespace pygan {
namespace {

constexpr int64_t kL1Mode = -1;

// The next tensor of a list that only some terms take from.
std::optional<Tensor> take(const std::vector<Tensor>& from, size_t& next) {
  return next < from.size() ? std::optional<Tensor>(from[next++]) : std::nullopt;
}

std::tuple<Tensor, Tensor, Tensor, std::vector<Tensor>> loss_sum(std::vector<Tensor> a, std::vector<Tensor> b,
                                                                 std::vector<Tensor> k, std::vector<int64_t> mode,
                                                                 std::vector<int64_t> side, std::vector<int64_t> n_real,
                                                                 std::vector<double> weight, std::vector<double> margin,
                                                                 std::vector<double> unit,
                                                                 std::vector<int64_t> want_grad) {
  const char* op = "loss_sum";
  const size_t terms = a.size();
  STD_TORCH_CHECK(1 <= terms && terms <= kMaxLossTerms, op, ": there must be 1 to ", kMaxLossTerms, " terms, got ",
                  terms);
  STD_TORCH_CHECK(mode.size() == terms && side.size() == terms && n_real.size() == terms && weight.size() == terms &&
                      margin.size() == terms && unit.size() == terms && want_grad.size() == terms,
                  op, ": mode, side, n_real, weight, margin, unit and want_grad must have one entry for each of the ",
                  terms, " terms");
  LossSumArgs args{};
  args.terms = static_cast<int>(terms);
  args.dtype = a[0].scalar_type() == ScalarType::Double ? Dtype::kFloat64 : Dtype::kFloat32;
  const ScalarType real_dtype = args.dtype == Dtype::kFloat64 ? ScalarType::Double : ScalarType::Float;
  Tensor total = torch::stable::new_empty(a[0], {}, real_dtype);
  Tensor losses = torch::stable::new_empty(a[0], {static_cast<int64_t>(terms)}, real_dtype);
  const int64_t gan_terms = static_cast<int64_t>(terms) - std::count(mode.begin(), mode.end(), kL1Mode);
  Tensor stats = torch::stable::new_empty(a[0], {gan_terms, 4}, real_dtype);
  const int64_t size = args.dtype == Dtype::kFloat64 ? sizeof(double) : sizeof(float);
  char* loss = static_cast<char*>(losses.mutable_data_ptr());
  char* means = static_cast<char*>(stats.mutable_data_ptr());
  std::vector<Tensor> grads;
  size_t next_b = 0, next_k = 0;
  for (size_t i = 0; i < terms; ++i) {
    const std::string name = std::string(op) + ": term " + std::to_string(i);
    LossTerm& term = args.term[i];
    STD_TORCH_CHECK(a[i].device() == a[0].device(), name, ": all terms must be on the same device");
    STD_TORCH_CHECK((a[i].scalar_type() == ScalarType::Double) == (args.dtype == Dtype::kFloat64), name,
                    ": float64 goes with float64 terms alone");
    term.is_l1 = mode[i] == kL1Mode;
    grads.push_back(want_grad[i] ? torch::stable::empty_like(a[i]) : torch::stable::new_empty(a[i], {0}));
    void* grad = want_grad[i] ? grads.back().mutable_data_ptr() : nullptr;
    if (term.is_l1) {
      const std::optional<Tensor> other = take(b, next_b);
      STD_TORCH_CHECK(other.has_value(), name, ": b is missing");
      term.l1 = check_l1_loss(name.c_str(), a[i], *other, weight[i], unit[i]);
      term.l1.grad = grad;
      term.l1.loss = loss + i * size;
    } else {
      const bool needs_k = mode[i] == static_cast<int64_t>(GanMode::kBegan) && side[i] == 0;
      const std::optional<Tensor> balance = needs_k ? take(k, next_k) : std::nullopt;
      term.gan =
          check_gan_loss(name.c_str(), a[i], mode[i], side[i], n_real[i], weight[i], margin[i], balance, unit[i]);
      term.gan.grad = grad;
      term.gan.loss = loss + i * size;
      term.gan.stats = means;
      means += 4 * size;
    }
  }
  STD_TORCH_CHECK(next_b == b.size() && next_k == k.size(), op, ": b and k hold more tensors than the terms take");
  args.total = total.mutable_data_ptr();
#if defined(PYGAN_WITH_CUDA)
  if (a[0].is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(a[0].get_device_index());
    Tensor partials = torch::stable::new_empty(a[0], {loss_sum_partials(args)}, ScalarType::Double);
    args.partials = static_cast<double*>(partials.mutable_data_ptr());
    check_launch(op, loss_sum_cuda(args, current_stream(a[0])));
    return {total, losses, stats, grads};
  }
#endif
  loss_sum_cpu(args);
  return {total, losses, stats, grads};
}

}  // namespace
}  // namespace pygan

// a: the logits of a GAN term, the a of an L1 term. b: of each L1 term. k: of each GAN term of mode began and side D.
// The other lists have one entry for each term; mode is -1 for L1, which does not look at side, n_real and margin.
// losses: of each term; stats: (GAN terms, 4) {real, fake, mean real logit, mean fake logit}.
STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  m.def(
      "loss_sum(Tensor[] a, Tensor[] b, Tensor[] k, int[] mode, int[] side, int[] n_real, float[] weight, "
      "float[] margin, float[] unit, int[] want_grad) -> (Tensor total, Tensor losses, Tensor stats, Tensor[] grads)");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) { m.impl("loss_sum", TORCH_BOX(&pygan::loss_sum)); }

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) { m.impl("loss_sum", TORCH_BOX(&pygan::loss_sum)); }
#endif

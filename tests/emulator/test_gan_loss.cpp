// gan_loss_cuda.cu on the host emulator: every mode and side against double precision, both access widths, tails, NaN,
// the backward, and tickets that are back at 0.
#include "ops/gan_loss/gan_loss_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <vector>

namespace {

using pygan::GanLossArgs;
using pygan::GanMode;
using pygan::GanPhi;
using pygan::GanSide;
using pygan::GanTerm;

const float kNan = std::numeric_limits<float>::quiet_NaN();

double phi(GanPhi kind, double z) {
  if (kind == GanPhi::kSoftplus) return std::log1p(std::exp(-std::abs(z))) + (z > 0 ? z : 0);
  if (kind == GanPhi::kSquare) return z * z;
  return kind == GanPhi::kRamp && z < 0 ? 0 : z;
}
double slope(GanPhi kind, double z) {
  if (kind == GanPhi::kSoftplus) return 1 / (1 + std::exp(-z));
  if (kind == GanPhi::kSquare) return 2 * z;
  return kind == GanPhi::kRamp && z <= 0 ? 0 : 1;
}

struct Outcome {
  float loss = kNan, stats[4] = {kNan, kNan, kNan, kNan};
  std::vector<float> grad;
};

// `shift` elements in front of the logits spoil their alignment.
template <class T>
Outcome launch(const std::vector<T>& logits, int64_t count_real, pygan::GanTerms terms, const float* k, double unit,
               int shift, bool want_grad) {
  const int64_t count = static_cast<int64_t>(logits.size());
  // 16-byte aligned, and exactly as long as the logits: the sanitizer sees the first value past them
  const auto allocate = [&] {
    return std::unique_ptr<T, void (*)(void*)>(static_cast<T*>(std::malloc((count + shift) * sizeof(T))), std::free);
  };
  const auto x = allocate(), g = allocate();
  for (int64_t i = 0; i < count; ++i) x.get()[shift + i] = logits[i];
  for (int64_t i = 0; i < count; ++i) g.get()[shift + i] = T(kNan);
  std::vector<double> partials(pygan::gan_loss_partials(count), kNan);
  Outcome out;
  GanLossArgs args{};
  args.logits = x.get() + shift;
  args.grad = want_grad ? g.get() + shift : nullptr;
  args.loss = &out.loss;
  args.stats = out.stats;
  args.k = k;
  args.count = count;
  args.count_real = count_real;
  args.terms = terms;
  args.weight = 1.7;
  args.unit = unit;
  args.dtype = kDtype<T>;
  args.partials = partials.data();
  check("launch", pygan::gan_loss_cuda(args, nullptr) == 0);
  for (int64_t i = 0; want_grad && i < count; ++i) out.grad.push_back(pygan::to_float(g.get()[shift + i]));
  return out;
}

bool close(double value, double expected, double tolerance) {
  return std::abs(value - expected) <= tolerance * (1 + std::abs(expected));
}

template <class T>
void case_of(GanMode mode, GanSide side, int64_t count, int64_t count_real, int shift, double tolerance) {
  std::vector<T> logits;
  for (int64_t i = 0; i < count; ++i) logits.push_back(T(0.37f * static_cast<float>(i * 7919 % 23) - 4.1f));
  const float k = 0.3f;
  const bool uses_k = mode == GanMode::kBegan && side == GanSide::kDiscriminator;
  const pygan::GanTerms terms = pygan::gan_terms(mode, side, 0.8);
  const double unit = kDtype<T> == pygan::Dtype::kFloat16 ? 0.01 : 1.0;
  const Outcome out = launch<T>(logits, count_real, terms, uses_k ? &k : nullptr, unit, shift, true);

  double sum[4] = {0, 0, 0, 0}, items[2] = {double(count_real), double(count - count_real)};
  for (int64_t i = 0; i < count; ++i) {
    const int half = i < count_real ? 0 : 1;
    const GanTerm term = half == 0 ? terms.real : terms.fake;
    const double d = pygan::to_float(logits[i]), z = term.sign * d + term.offset;
    const double scale = term.scale * (half == 1 && uses_k ? k : 1.0);
    sum[half] += phi(term.phi, z) / items[half];
    sum[2 + half] += d / items[half];
    const double expected = 1.7 * scale * term.sign * slope(term.phi, z) / items[half] / unit;
    if (!close(out.grad[i], expected, tolerance)) {
      check("gradient", false);
      std::printf("  mode %d side %d logit %d: %g, expected %g\n", int(mode), int(side), int(i), out.grad[i], expected);
      return;
    }
  }
  const double loss = 1.7 * (terms.real.scale * sum[0] + terms.fake.scale * (uses_k ? k : 1.0) * sum[1]);
  check("loss", close(out.loss, loss, 1e-5));
  for (int i = 0; i < 4; ++i) check("mean", close(out.stats[i], sum[i], 1e-5));
  const Outcome again = launch<T>(logits, count_real, terms, uses_k ? &k : nullptr, unit, shift, false);
  check("the same bits without the gradient", again.loss == out.loss);
  std::printf("mode %d side %d count %d of %d shift %d: %.6g\n", int(mode), int(side), int(count_real), int(count),
              shift, double(out.loss));
}

template <class T>
void backward(int64_t count, int shift) {
  std::unique_ptr<T, void (*)(void*)> memory(static_cast<T*>(std::malloc((count + shift) * sizeof(T))), std::free);
  T* grad = memory.get() + shift;
  for (int64_t i = 0; i < count; ++i) grad[i] = T(static_cast<float>(i % 11) - 5.0f);
  const float seeds[2] = {4.0f, 1.5f};  // times unit 1/4: 1, which changes nothing, and 0.375
  bool good = true;
  for (const float seed : seeds) {
    check("launch", pygan::gan_loss_backward_cuda(grad, &seed, 0.25, count, kDtype<T>, nullptr) == 0);
    for (int64_t i = 0; i < count; ++i)
      good = good && pygan::to_float(grad[i]) == (static_cast<float>(i % 11) - 5.0f) * seed * 0.25f;
  }
  check("backward", good);
}

}  // namespace

int main() {
  for (int mode = 0; mode <= static_cast<int>(GanMode::kBegan); ++mode) {
    for (const GanSide side : {GanSide::kDiscriminator, GanSide::kGenerator}) {
      const bool d = side == GanSide::kDiscriminator;
      case_of<float>(GanMode(mode), side, 37, d ? 13 : 0, 0, 1e-6);
      case_of<pygan::bfloat16>(GanMode(mode), side, 61, d ? 24 : 0, 0, 8e-3);
    }
  }
  // several blocks, ending in the middle of an access; both widths; the other dtype; one-class batches
  for (const int shift : {0, 1}) {
    case_of<float>(GanMode::kVanilla, GanSide::kDiscriminator, 2500, 700, shift, 1e-6);
    case_of<pygan::bfloat16>(GanMode::kLsgan, GanSide::kDiscriminator, 4099, 2048, shift, 8e-3);
    case_of<pygan::half>(GanMode::kSoftplus, GanSide::kGenerator, 523, 0, shift, 1e-3);
  }
  case_of<float>(GanMode::kHinge, GanSide::kDiscriminator, 9, 0, 0, 1e-6);
  case_of<float>(GanMode::kHinge, GanSide::kDiscriminator, 9, 9, 0, 1e-6);
  case_of<float>(GanMode::kWgangp, GanSide::kGenerator, 1, 0, 0, 1e-6);

  for (const GanMode mode : {GanMode::kVanilla, GanMode::kHinge, GanMode::kEnergy}) {
    std::vector<float> logits(40, 0.5f);
    logits[30] = kNan;
    const Outcome out =
        launch<float>(logits, 10, pygan::gan_terms(mode, GanSide::kDiscriminator, 1.0), nullptr, 1.0, 0, true);
    check("NaN reaches the loss", out.loss != out.loss && out.stats[1] != out.stats[1] && out.stats[0] == out.stats[0]);
  }
  std::vector<float> large{-1e4f, 1e4f, -1e4f, 1e4f};
  const Outcome out =
      launch<float>(large, 2, pygan::gan_terms(GanMode::kVanilla, GanSide::kDiscriminator, 1.0), nullptr, 1.0, 0, true);
  check("no overflow", close(out.loss, 1.7 * 5000, 1e-6) && out.grad[1] == 0.0f && out.grad[2] == 0.0f);

  backward<float>(1030, 0);
  backward<float>(7, 1);
  backward<pygan::bfloat16>(2100, 0);
  backward<pygan::half>(13, 3);

  bool zero = true;
  for (const unsigned ticket : pygan::tickets) zero = zero && ticket == 0;
  check("tickets are back at 0", zero);
  std::printf("failures: %d\n", failures);
  return failures;
}

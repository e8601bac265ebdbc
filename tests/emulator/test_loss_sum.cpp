// loss_sum_cuda.cu on the host emulator: sums of terms of every kind and dtype against double precision and, bit for
// bit, against the kernels of the single losses; several blocks, both access widths, tails, NaN, one ticket for all.
#include "ops/gan_loss/gan_loss_cuda.cu"
#include "ops/l1_loss/l1_loss_cuda.cu"
#include "ops/loss_sum/loss_sum_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <list>
#include <memory>
#include <vector>

namespace {

using pygan::Dtype;
using pygan::GanMode;
using pygan::GanSide;

const float kNan = std::numeric_limits<float>::quiet_NaN();

// Device memory of a test, exactly as long as what it holds: the sanitizer sees the first byte past it.
struct Arena {
  std::list<std::unique_ptr<char, void (*)(void*)>> owners;
  char* allocate(size_t bytes) {
    owners.emplace_back(static_cast<char*>(std::malloc(bytes)), std::free);
    return owners.back().get();
  }
};

size_t size_of(Dtype dtype) { return dtype == Dtype::kFloat32 ? 4 : 2; }

float get(const void* from, Dtype dtype, int64_t i) {
  if (dtype == Dtype::kFloat32) return static_cast<const float*>(from)[i];
  if (dtype == Dtype::kBFloat16) return static_cast<const pygan::bfloat16*>(from)[i];
  return static_cast<const pygan::half*>(from)[i];
}

void set(void* to, Dtype dtype, int64_t i, float v) {
  if (dtype == Dtype::kFloat32) static_cast<float*>(to)[i] = v;
  if (dtype == Dtype::kBFloat16) static_cast<pygan::bfloat16*>(to)[i] = v;
  if (dtype == Dtype::kFloat16) static_cast<pygan::half*>(to)[i] = v;
}

struct Spec {
  bool is_l1;
  Dtype dtype;
  int64_t count;
  int shift = 0;  // elements in front of a (or of the logits), which spoil its alignment
  GanMode mode = GanMode::kVanilla;
  int64_t count_real = 0;  // more than 0: side D
  Dtype dtype_b = Dtype::kFloat32;
  bool want_grad = true;
  int64_t poisoned = -1;  // the place of a NaN
};

Spec gan(Dtype dtype, int64_t count, GanMode mode, int64_t count_real, int shift = 0) {
  return {.is_l1 = false, .dtype = dtype, .count = count, .shift = shift, .mode = mode, .count_real = count_real};
}
Spec l1(Dtype dtype, Dtype dtype_b, int64_t count, int shift = 0) {
  return {.is_l1 = true, .dtype = dtype, .count = count, .shift = shift, .dtype_b = dtype_b};
}

// A value on a grid that all dtypes hold.
float value_of(int64_t i, int which) { return 0.25f * static_cast<float>((i * 7919 + 31 * which) % 37) - 4.0f; }

pygan::LossTerm term_of(const Spec& spec, int which, Arena& arena) {
  const auto tensor = [&](Dtype dtype, int shift) -> void* {
    return arena.allocate((spec.count + shift) * size_of(dtype)) + shift * size_of(dtype);
  };
  const double weight = 1.5 + which, unit = spec.dtype == Dtype::kFloat16 ? 0.01 : 1.0;
  void* a = tensor(spec.dtype, spec.shift);
  void* grad = spec.want_grad ? tensor(spec.dtype, spec.shift) : nullptr;
  for (int64_t i = 0; i < spec.count; ++i) {
    set(a, spec.dtype, i, i == spec.poisoned ? kNan : value_of(i, which));
    if (grad != nullptr) set(grad, spec.dtype, i, kNan);
  }
  float* results = reinterpret_cast<float*>(arena.allocate(5 * sizeof(float)));
  for (int i = 0; i < 5; ++i) results[i] = kNan;
  pygan::LossTerm term{};
  term.is_l1 = spec.is_l1;
  if (spec.is_l1) {
    void* b = tensor(spec.dtype_b, 0);
    for (int64_t i = 0; i < spec.count; ++i) set(b, spec.dtype_b, i, 0.5f * static_cast<float>(i * 104729 % 13) - 3.0f);
    term.l1 = {a, b, grad, results, spec.count, weight, unit, spec.dtype, spec.dtype_b, nullptr};
    return term;
  }
  float* k = nullptr;
  if (spec.mode == GanMode::kBegan && spec.count_real > 0) {
    k = reinterpret_cast<float*>(arena.allocate(sizeof(float)));
    *k = 0.3f + 0.1f * static_cast<float>(which);
  }
  const GanSide side = spec.count_real > 0 ? GanSide::kDiscriminator : GanSide::kGenerator;
  term.gan = {a,      grad,       results,         results + 1,
              k,      spec.count, spec.count_real, pygan::gan_terms(spec.mode, side, 0.8),
              weight, unit,       spec.dtype,      nullptr};
  return term;
}

double phi(pygan::GanPhi kind, double z) {
  if (kind == pygan::GanPhi::kSoftplus) return std::log1p(std::exp(-std::abs(z))) + (z > 0 ? z : 0);
  if (kind == pygan::GanPhi::kSquare) return z * z;
  return kind == pygan::GanPhi::kRamp && z < 0 ? 0 : z;
}

double exact_loss(const pygan::LossTerm& term) {
  double sum[2] = {0, 0};
  if (term.is_l1) {
    const pygan::L1LossArgs& args = term.l1;
    for (int64_t i = 0; i < args.count; ++i)
      sum[0] += std::abs(double(get(args.a, args.dtype_a, i)) - double(get(args.b, args.dtype_b, i)));
    return args.weight * sum[0] / args.count;
  }
  const pygan::GanLossArgs& args = term.gan;
  for (int64_t i = 0; i < args.count; ++i) {
    const int half = i < args.count_real ? 0 : 1;
    const pygan::GanTerm& part = half == 0 ? args.terms.real : args.terms.fake;
    const double items = half == 0 ? args.count_real : args.count - args.count_real;
    sum[half] += phi(part.phi, part.sign * get(args.logits, args.dtype, i) + part.offset) / items;
  }
  const double k = args.k == nullptr ? 1.0 : *args.k;
  return args.weight * (args.terms.real.scale * sum[0] + args.terms.fake.scale * k * sum[1]);
}

bool same_bits(const void* a, const void* b, size_t bytes) { return std::memcmp(a, b, bytes) == 0; }

// Launches the sum of `specs`, then each of them alone.
float case_of(const char* name, const std::vector<Spec>& specs, bool with_nan = false) {
  Arena arena;
  pygan::LossSumArgs args{};
  args.terms = static_cast<int>(specs.size());
  for (int i = 0; i < args.terms; ++i) args.term[i] = term_of(specs[i], i, arena);
  float total = kNan;
  args.total = &total;
  args.dtype = Dtype::kFloat32;
  const int64_t doubles = pygan::loss_sum_partials(args);
  args.partials = reinterpret_cast<double*>(arena.allocate(doubles * sizeof(double)));
  for (int64_t i = 0; i < doubles; ++i) args.partials[i] = kNan;
  check("launch", pygan::loss_sum_cuda(args, nullptr) == 0);

  float sum = 0;
  double exact = 0, size = 0;
  for (int i = 0; i < args.terms; ++i) {
    const Spec& spec = specs[i];
    pygan::LossTerm alone = term_of(spec, i, arena);
    const size_t bytes = spec.want_grad ? spec.count * size_of(spec.dtype) : 0;
    float loss;
    if (spec.is_l1) {
      alone.l1.partials = reinterpret_cast<double*>(arena.allocate(8 * pygan::l1_loss_partials(spec.count)));
      check("launch of l1_loss", pygan::l1_loss_cuda(alone.l1, nullptr) == 0);
      loss = *static_cast<float*>(args.term[i].l1.loss);
      check("loss of l1_loss", same_bits(alone.l1.loss, &loss, 4));
      check("gradient of l1_loss", same_bits(alone.l1.grad, args.term[i].l1.grad, bytes));
    } else {
      alone.gan.partials = reinterpret_cast<double*>(arena.allocate(8 * pygan::gan_loss_partials(spec.count)));
      check("launch of gan_loss", pygan::gan_loss_cuda(alone.gan, nullptr) == 0);
      loss = *static_cast<float*>(args.term[i].gan.loss);
      check("loss of gan_loss", same_bits(alone.gan.loss, &loss, 4));
      check("means of gan_loss", same_bits(alone.gan.stats, args.term[i].gan.stats, 16));
      check("gradient of gan_loss", same_bits(alone.gan.grad, args.term[i].gan.grad, bytes));
    }
    sum = i == 0 ? loss : sum + loss;
    exact += exact_loss(args.term[i]);
    size += std::abs(loss);
  }
  check("total", with_nan ? total != total : total == sum && std::abs(total - exact) <= 1e-6 * (1 + size));
  std::printf("%s, %d terms: %.9g\n", name, args.terms, double(total));
  return total;
}

}  // namespace

int main() {
  const Dtype f32 = Dtype::kFloat32, bf16 = Dtype::kBFloat16, f16 = Dtype::kFloat16;
  case_of("one value", {l1(f32, f32, 1)});
  case_of("one logit", {gan(f32, 1, GanMode::kWgangp, 0)});
  case_of("generator", {gan(bf16, 900, GanMode::kVanilla, 0), l1(bf16, f32, 4133)});
  case_of("discriminator", {gan(f32, 1800, GanMode::kLsgan, 900), gan(bf16, 77, GanMode::kSoftplus, 30)});
  case_of("every dtype", {l1(f32, f32, 1030), l1(bf16, bf16, 2100), l1(f16, f16, 19), l1(bf16, f32, 40),
                          l1(f16, f32, 41), gan(f32, 523, GanMode::kHinge, 200), gan(bf16, 600, GanMode::kEnergy, 17),
                          gan(f16, 61, GanMode::kSoftplus, 0)});
  case_of("not aligned",
          {gan(f32, 300, GanMode::kVanilla, 100, 1), l1(bf16, f32, 700, 1), gan(f16, 90, GanMode::kLsgan, 0, 3),
           l1(f32, f32, 33, 2), gan(bf16, 270, GanMode::kVanilla, 9, 1)});
  case_of("two balances",
          {gan(f32, 40, GanMode::kBegan, 20), gan(f32, 50, GanMode::kBegan, 10), gan(f32, 9, GanMode::kBegan, 0)});
#if !defined(__SANITIZE_THREAD__)  // 66 000 threads take it 10 s, and races show in the other cases
  // more blocks than the last one has threads
  case_of("many blocks", {gan(f32, 256 * 258 + 5, GanMode::kWgangp, 1000, 1), l1(f32, f32, 10)});
#endif

  std::vector<Spec> silent{gan(f32, 523, GanMode::kHinge, 200), l1(bf16, f32, 4133)};
  const float loud = case_of("with gradients", silent);
  silent[0].want_grad = silent[1].want_grad = false;
  check("the same bits without gradients", case_of("without", silent) == loud);
  silent[1].want_grad = true;
  check("the same bits with one of them", case_of("with one", silent) == loud);

  std::vector<Spec> poisoned{gan(f32, 523, GanMode::kHinge, 200), l1(f32, f32, 4133)};
  poisoned[1].poisoned = 4000;
  case_of("NaN in L1", poisoned, true);
  poisoned[1].poisoned = -1;
  poisoned[0].poisoned = 3;
  case_of("NaN in logits", poisoned, true);

  Arena arena;
  pygan::LossSumArgs refused{};
  refused.terms = 1;
  refused.term[0] = term_of(l1(f32, bf16, 8), 0, arena);
  check("a pair that is not supported is refused", pygan::loss_sum_cuda(refused, nullptr) != 0);
  refused.term[0] = term_of(gan(f32, 8, GanMode::kHinge, 2), 0, arena);
  refused.term[0].gan.dtype = Dtype::kFloat64;
  check("float64 is refused", pygan::loss_sum_cuda(refused, nullptr) != 0);

  bool zero = true;
  for (const unsigned ticket : pygan::tickets) zero = zero && ticket == 0;
  check("tickets are back at 0", zero);
  std::printf("failures: %d\n", failures);
  return failures;
}

// l1_loss_cuda.cu on the host emulator: all pairs of dtypes against double precision, several blocks, tails, both
// access widths, NaN, and tickets that are back at 0.
#include "ops/l1_loss/l1_loss_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <vector>

namespace {

const float kNan = std::numeric_limits<float>::quiet_NaN();

// `count` values behind `shift` others, and not one more: the sanitizer sees the first value past them.
template <class T>
struct Memory {
  std::unique_ptr<T, void (*)(void*)> owner;
  T* data;
  Memory(int64_t count, int shift)
      : owner(static_cast<T*>(std::malloc((count + shift) * sizeof(T))), std::free), data(owner.get() + shift) {
    for (int64_t i = 0; i < count; ++i) data[i] = T(kNan);
  }
};

template <class A, class B>
float case_of(int64_t count, int shift_a, int shift_b, double unit, bool poison) {
  Memory<A> a(count, shift_a), grad(count, shift_a);
  Memory<B> b(count, shift_b);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    a.data[i] = A(0.25f * static_cast<float>(i * 7919 % 23));
    b.data[i] = B(0.5f * static_cast<float>(i * 104729 % 13));
    sum += std::abs(double(pygan::to_float(a.data[i])) - double(pygan::to_float(b.data[i])));
  }
  if (poison) a.data[count / 2] = A(kNan);
  float loss = kNan;
  std::vector<double> partials(pygan::l1_loss_partials(count), kNan);
  pygan::L1LossArgs args{};
  args.a = a.data;
  args.b = b.data;
  args.grad = grad.data;
  args.loss = &loss;
  args.count = count;
  args.weight = 100.0;
  args.unit = unit;
  args.dtype_a = kDtype<A>;
  args.dtype_b = kDtype<B>;
  args.partials = partials.data();
  check("launch", pygan::l1_loss_cuda(args, nullptr) == 0);
  if (poison) {
    check("NaN reaches the loss", loss != loss);
    return 0;
  }
  const double expected = 100.0 * sum / count;
  check("loss", std::abs(loss - expected) <= 1e-6 * expected);
  const float slope = pygan::to_float(A(static_cast<float>(100.0 / count / unit)));
  bool good = true;
  for (int64_t i = 0; i < count; ++i) {
    const float d = pygan::to_float(a.data[i]) - pygan::to_float(b.data[i]);
    good = good && pygan::to_float(grad.data[i]) == (d > 0 ? slope : d < 0 ? -slope : 0.0f);
  }
  check("gradient", good);
  const float without = loss;
  args.grad = nullptr;
  check("launch", pygan::l1_loss_cuda(args, nullptr) == 0);
  check("the same bits without the gradient", loss == without);
  std::printf("count %d shifts %d %d: %.7g\n", int(count), shift_a, shift_b, double(loss));
  return loss;
}

template <class A, class B>
void pair_of(double unit) {
  case_of<A, B>(1, 0, 0, unit, false);
  case_of<A, B>(4133, 0, 0, unit, false);
  case_of<A, B>(1000, 1, 0, unit, false);
  case_of<A, B>(1000, 0, 1, unit, false);
  case_of<A, B>(77, 0, 0, unit, true);
}

}  // namespace

int main() {
  pair_of<float, float>(1.0);
  pair_of<pygan::bfloat16, pygan::bfloat16>(1.0);
  pair_of<pygan::half, pygan::half>(0.1);
  pair_of<pygan::bfloat16, float>(1.0);
  pair_of<pygan::half, float>(0.1);

  pygan::L1LossArgs mixed{};
  mixed.dtype_a = pygan::Dtype::kFloat32;
  mixed.dtype_b = pygan::Dtype::kBFloat16;
  check("a pair that is not supported is refused", pygan::l1_loss_cuda(mixed, nullptr) != 0);

  Memory<pygan::bfloat16> grad(19, 0);
  for (int i = 0; i < 19; ++i) grad.data[i] = pygan::bfloat16(2.0f);
  const float seed = 8.0f;
  check("launch", pygan::l1_loss_backward_cuda(grad.data, &seed, 0.5, 19, pygan::Dtype::kBFloat16, nullptr) == 0);
  bool good = true;
  for (int i = 0; i < 19; ++i) good = good && pygan::to_float(grad.data[i]) == 8.0f;
  check("backward", good);

  bool zero = true;
  for (const unsigned ticket : pygan::tickets) zero = zero && ticket == 0;
  check("tickets are back at 0", zero);
  std::printf("failures: %d\n", failures);
  return failures;
}

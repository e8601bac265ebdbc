// The readable twin of adam_cuda.cu.
#include "ops/adam/adam.h"

#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

namespace pygan {
namespace {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;

// On x86-64 the loops are compiled twice, for every machine and for those with AVX2 (2013). Neither has fused
// multiply-adds, so both compute the same bits.
#if defined(__x86_64__) && defined(__GNUC__)
#define PYGAN_AVX2 __attribute__((target("avx2"), flatten))
bool has_avx2() { return __builtin_cpu_supports("avx2"); }
#else
#define PYGAN_AVX2
bool has_avx2() { return false; }
#endif

constexpr int64_t kPiece = 512;      // values whose average and copy are made while they are in the first cache
constexpr int64_t kGrain = 1 << 15;  // the least work of a thread

// from + weight * (to - from), as torch.lerp: exact at both ends.
template <class Real>
Real toward(Real from, Real to, Real weight) {
  const bool near = weight < Real(0.5);  // begins at the end that is nearer
  return (near ? from : to) + (near ? weight : weight - Real(1)) * (to - from);
}

// n elements. One loop without branches, and its constants by value: so it is vectorised.
template <class Real, class Grad>
void step(const AdamScalars<Real> s, int64_t n, const Grad* __restrict__ grad, Real* __restrict__ p,
          Real* __restrict__ m, Real* __restrict__ v) {
  for (int64_t i = 0; i < n; ++i) {
    Real g = static_cast<Real>(grad[i]) * s.unscale, param = p[i];
    g = s.decay != 0 ? g + s.decay * param : g;
    param = s.shrink != 0 ? param - s.shrink * param : param;
    const Real first = toward(m[i], g, s.weight1), second = toward(v[i], g * g, s.weight2);
    m[i] = first;
    v[i] = second;
    p[i] = param - s.rate * (first / (std::sqrt(second) * s.inverse_root + s.eps));
  }
}

template <class Real>
void average(Real weight, int64_t n, const Real* __restrict__ p, Real* __restrict__ ema) {
  for (int64_t i = 0; i < n; ++i) ema[i] = toward(ema[i], p[i], weight);
}

template <class To, class From>
void convert(int64_t n, const From* __restrict__ from, To* __restrict__ to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<To>(from[i]);
}

// Elements [begin, end) of a slice.
template <class Real, class Grad>
inline void range(const AdamArgs& args, const AdamScalars<Real>& s, const AdamTensor& tensor, int64_t begin,
                  int64_t end) {
  for (int64_t i = begin; i < end; i += kPiece) {
    const int64_t n = std::min(kPiece, end - i), at = tensor.offset + i;
    Real* p = static_cast<Real*>(args.param) + at;
    step(s, n, static_cast<const Grad*>(tensor.grad) + i, p, static_cast<Real*>(args.exp_avg) + at,
         static_cast<Real*>(args.exp_avg_sq) + at);
    if (args.ema != nullptr) average(s.ema_weight, n, p, static_cast<Real*>(args.ema) + at);
    if (args.low == nullptr) continue;
    if (args.low_dtype == Dtype::kBFloat16)
      convert(n, p, static_cast<BFloat16*>(args.low) + at);
    else
      convert(n, p, static_cast<Half*>(args.low) + at);
  }
}

template <class Real, class Grad>
PYGAN_AVX2 void range_avx2(const AdamArgs& args, const AdamScalars<Real>& s, const AdamTensor& tensor, int64_t begin,
                           int64_t end) {
  range<Real, Grad>(args, s, tensor, begin, end);
}

template <class Real, class Grad>
void run(const AdamArgs& args, const AdamScalars<Real>& s, const AdamTensor& tensor) {
  const auto run_range = has_avx2() ? range_avx2<Real, Grad> : range<Real, Grad>;
  torch::stable::parallel_for(0, tensor.count, kGrain,
                              [&](int64_t begin, int64_t end) { run_range(args, s, tensor, begin, end); });
}

template <class Grad, class Real>
bool all_finite(const AdamTensor& tensor) {
  const Grad* grad = static_cast<const Grad*>(tensor.grad);
  std::atomic<bool> finite{true};
  torch::stable::parallel_for(0, tensor.count, kGrain, [&](int64_t begin, int64_t end) {
    int bad = 0;  // without a branch, so that the loop is vectorised; false for NaN, too
    for (int64_t i = begin; i < end; ++i)
      bad |= !(std::abs(static_cast<Real>(grad[i])) <= std::numeric_limits<Real>::max());
    if (bad) finite = false;
  });
  return finite;
}

}  // namespace

void adam_cpu(const AdamArgs& args, const AdamTensor* tensors, int64_t count) {
  if (args.found_inf != nullptr && *args.found_inf != 0) return;
  if (args.dtype == Dtype::kFloat64) {
    const auto scalars = adam_scalars<double>(args);
    for (int64_t i = 0; i < count; ++i) run<double, double>(args, scalars, tensors[i]);
    return;
  }
  const auto scalars = adam_scalars<float>(args);
  for (int64_t i = 0; i < count; ++i) {
    if (tensors[i].dtype == Dtype::kFloat32) run<float, float>(args, scalars, tensors[i]);
    if (tensors[i].dtype == Dtype::kBFloat16) run<float, BFloat16>(args, scalars, tensors[i]);
    if (tensors[i].dtype == Dtype::kFloat16) run<float, Half>(args, scalars, tensors[i]);
  }
}

void find_inf_cpu(const AdamTensor* tensors, int64_t count, float* found_inf) {
  for (int64_t i = 0; i < count; ++i) {
    const Dtype dtype = tensors[i].dtype;
    const bool finite = dtype == Dtype::kFloat32    ? all_finite<float, float>(tensors[i])
                        : dtype == Dtype::kBFloat16 ? all_finite<BFloat16, float>(tensors[i])
                        : dtype == Dtype::kFloat16  ? all_finite<Half, float>(tensors[i])
                                                    : all_finite<double, double>(tensors[i]);
    if (!finite) *found_inf = 1;
  }
}

}  // namespace pygan

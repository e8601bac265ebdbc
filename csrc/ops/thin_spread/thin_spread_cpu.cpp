// The readable twin of thin_spread_cuda.cu. Sums are in double precision whatever the dtype: it has to be right, not
// fast.
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>

#include <vector>

#include "ops/thin_spread/thin_spread.h"

namespace pygan {
namespace {

using torch::headeronly::BFloat16;

// visit(y, x) for the thin pixels of G(p, tap).
template <class Visit>
void for_sources(const ThinShape& s, int p_y, int p_x, int tap_y, int tap_x, const Visit& visit) {
  int ys[3], xs[3];
  const int rows = thin_sources(s.mode, p_y, tap_y, s.ht, s.hk, ys);
  const int columns = thin_sources(s.mode, p_x, tap_x, s.wt, s.wk, xs);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) visit(ys[i], xs[j]);
}

// The value of the thin tensor as the thick side sees it: rounded to its dtype.
template <class T, class Thin>
double thin_value(const ThinShape& s, const void* t, int64_t n, int y, int x, int c) {
  return static_cast<double>(
      static_cast<T>(static_cast<const Thin*>(t)[n * s.t_n + y * s.t_h + x * s.t_w + c * s.t_c]));
}

template <class T, class Thin>
void spread(const ThinSpreadArgs& a) {
  const T* w = static_cast<const T*>(a.weight);
  const int K = thin_kernel_size(a.mode);
  const auto activate = [](double z, double below) {
    return static_cast<T>(z < 0 ? (below == 0 ? 0.0 : z * below) : z);
  };
  torch::stable::parallel_for(0, int64_t{a.n} * a.hk, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> z(a.ck);
    for (int64_t m = begin * a.wk; m < end * a.wk; ++m) {
      const int p_x = static_cast<int>(m % a.wk), p_y = static_cast<int>(m / a.wk % a.hk);
      for (int o = 0; o < a.ck; ++o) {
        z[o] = a.bias == nullptr                 ? 0.0
               : a.bias_dtype == Dtype::kFloat32 ? static_cast<double>(static_cast<const float*>(a.bias)[o])
                                                 : static_cast<double>(static_cast<const T*>(a.bias)[o]);
      }
      for (int tap_y = 0; tap_y < K; ++tap_y) {
        for (int tap_x = 0; tap_x < K; ++tap_x) {
          for_sources(a, p_y, p_x, tap_y, tap_x, [&](int y, int x) {
            for (int c = 0; c < a.ct; ++c) {
              const double value = thin_value<T, Thin>(a, a.t, m / a.wk / a.hk, y, x, c);
              const T* column = w + c * a.w_thin + tap_y * a.w_y + tap_x * a.w_x;
              for (int o = 0; o < a.ck; ++o) z[o] += value * static_cast<double>(column[o * a.w_thick]);
            }
          });
        }
      }
      T* y = static_cast<T*>(a.y) + m * a.k_ld;
      for (int o = 0; o < a.ck; ++o) y[o] = activate(z[o], a.below_y);
      if (a.s == nullptr) continue;
      T* s = static_cast<T*>(a.s) + m * a.ld_s;
      for (int o = 0; o < a.ck; ++o) s[o] = activate(z[o], a.below_s);
    }
  });
}

// One tap after the other, each over all pixels in their order: the sums do not depend on the number of threads.
template <class T, class Thin, class Out>
void wgrad(const ThinWgradArgs& a) {
  const T* k = static_cast<const T*>(a.k);
  const int K = thin_kernel_size(a.mode);
  const int64_t rows = int64_t{a.n} * a.hk * a.wk;
  torch::stable::parallel_for(0, K * K, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> sum(int64_t{a.ct} * a.ck);
    for (int64_t tap = begin; tap < end; ++tap) {
      const int tap_y = static_cast<int>(tap / K), tap_x = static_cast<int>(tap % K);
      sum.assign(sum.size(), 0.0);
      for (int64_t m = 0; m < rows; ++m) {
        const int p_x = static_cast<int>(m % a.wk), p_y = static_cast<int>(m / a.wk % a.hk);
        for_sources(a, p_y, p_x, tap_y, tap_x, [&](int y, int x) {
          for (int c = 0; c < a.ct; ++c) {
            const double value = thin_value<T, Thin>(a, a.t, m / a.wk / a.hk, y, x, c);
            for (int o = 0; o < a.ck; ++o) sum[int64_t{c} * a.ck + o] += value * static_cast<double>(k[m * a.k_ld + o]);
          }
        });
      }
      Out* dw = static_cast<Out*>(a.dweight) + tap_y * a.w_y + tap_x * a.w_x;
      for (int c = 0; c < a.ct; ++c)
        for (int o = 0; o < a.ck; ++o) dw[o * a.w_thick + c * a.w_thin] = static_cast<Out>(sum[int64_t{c} * a.ck + o]);
    }
  });
  const auto store = [&](void* to, int64_t at, double sum) {
    a.sum_dtype == Dtype::kFloat32 ? static_cast<void>(static_cast<float*>(to)[at] = static_cast<float>(sum))
                                   : static_cast<void>(static_cast<T*>(to)[at] = static_cast<T>(sum));
  };
  for (int o = 0; a.k_sum != nullptr && o < a.ck; ++o) {
    double sum = 0;
    for (int64_t m = 0; m < rows; ++m) sum += static_cast<double>(k[m * a.k_ld + o]);
    store(a.k_sum, o, sum);
  }
  for (int c = 0; a.t_sum != nullptr && c < a.ct; ++c) {
    double sum = 0;
    for (int n = 0; n < a.n; ++n)
      for (int y = 0; y < a.ht; ++y)
        for (int x = 0; x < a.wt; ++x) sum += thin_value<T, Thin>(a, a.t, n, y, x, c);
    store(a.t_sum, c, sum);
  }
}

template <class T, class Thin>
void wgrad_to(const ThinWgradArgs& a) {
  a.out_dtype == Dtype::kFloat32 ? wgrad<T, Thin, float>(a) : wgrad<T, Thin, T>(a);
}

}  // namespace

void thin_spread_cpu(const ThinSpreadArgs& a) {
  if (a.dtype == Dtype::kFloat64) spread<double, double>(a);
  if (a.dtype == Dtype::kFloat32) spread<float, float>(a);
  if (a.dtype == Dtype::kBFloat16)
    a.t_dtype == Dtype::kFloat32 ? spread<BFloat16, float>(a) : spread<BFloat16, BFloat16>(a);
}

void thin_wgrad_cpu(const ThinWgradArgs& a) {
  if (a.dtype == Dtype::kFloat64) wgrad<double, double, double>(a);
  if (a.dtype == Dtype::kFloat32) wgrad<float, float, float>(a);
  if (a.dtype == Dtype::kBFloat16)
    a.t_dtype == Dtype::kFloat32 ? wgrad_to<BFloat16, float>(a) : wgrad_to<BFloat16, BFloat16>(a);
}

}  // namespace pygan

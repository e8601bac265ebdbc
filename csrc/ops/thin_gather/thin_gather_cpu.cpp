// The readable twin of thin_gather_cuda.cu: the definition itself. Sums are in double precision whatever the dtype.
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>

#include <cmath>
#include <vector>

#include "ops/thin_gather/thin_gather.h"

namespace pygan {
namespace {

using torch::headeronly::BFloat16;

// One sample: every thick pixel adds to the thin ones that it sees through each tap.
template <class T>
void add_products(const ThinGatherArgs& a, int n, std::vector<double>& sums) {
  const T* k = static_cast<const T*>(a.k) + int64_t{n} * a.hk * a.wk * a.k_ld;
  const T* weight = static_cast<const T*>(a.weight);
  const int K = thin_kernel_size(a.mode);
  int ys[3], xs[3];
  for (int64_t p = 0; p < int64_t{a.hk} * a.wk; ++p) {
    const int p_y = static_cast<int>(p / a.wk), p_x = static_cast<int>(p % a.wk);
    for (int tap_y = 0; tap_y < K; ++tap_y) {
      const int rows = thin_sources(a.mode, p_y, tap_y, a.ht, a.hk, ys);
      for (int tap_x = 0; rows > 0 && tap_x < K; ++tap_x) {
        const int columns = thin_sources(a.mode, p_x, tap_x, a.wt, a.wk, xs);
        for (int c = 0; columns > 0 && c < a.ct; ++c) {
          const T* w = weight + c * a.w_thin + tap_y * a.w_y + tap_x * a.w_x;
          double sum = 0;
          for (int o = 0; o < a.ck; ++o)
            sum += static_cast<double>(k[p * a.k_ld + o]) * static_cast<double>(w[o * a.w_thick]);
          for (int i = 0; i < rows; ++i)
            for (int j = 0; j < columns; ++j) sums[(int64_t{ys[i]} * a.wt + xs[j]) * a.ct + c] += sum;
        }
      }
    }
  }
}

template <class T, class Thin>
void run(const ThinGatherArgs& a) {
  torch::stable::parallel_for(0, a.n, 1, [&](int64_t begin, int64_t end) {
    std::vector<double> sums(int64_t{a.ht} * a.wt * a.ct);
    for (int64_t n = begin; n < end; ++n) {
      sums.assign(sums.size(), 0.0);
      add_products<T>(a, static_cast<int>(n), sums);
      for (int y = 0; y < a.ht; ++y) {
        for (int x = 0; x < a.wt; ++x) {
          for (int c = 0; c < a.ct; ++c) {
            double value = sums[(int64_t{y} * a.wt + x) * a.ct + c];
            if (a.bias != nullptr)
              value += a.bias_dtype == Dtype::kFloat32 ? static_cast<double>(static_cast<const float*>(a.bias)[c])
                                                       : static_cast<double>(static_cast<const T*>(a.bias)[c]);
            if (a.act == ThinAct::kTanh) value = std::tanh(value);
            static_cast<Thin*>(a.t)[n * a.t_n + c * a.t_c + y * a.t_h + x * a.t_w] = static_cast<Thin>(value);
          }
        }
      }
    }
  });
}

}  // namespace

void thin_gather_cpu(const ThinGatherArgs& a) {
  if (a.dtype == Dtype::kFloat64) run<double, double>(a);
  if (a.dtype == Dtype::kFloat32) run<float, float>(a);
  if (a.dtype == Dtype::kBFloat16) a.t_dtype == Dtype::kFloat32 ? run<BFloat16, float>(a) : run<BFloat16, BFloat16>(a);
}

}  // namespace pygan

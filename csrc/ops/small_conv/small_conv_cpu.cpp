// The readable twin of small_conv_cuda.cu: the sums of small_conv.h term by term, in double precision.
#include <torch/headeronly/util/BFloat16.h>

#include <vector>

#include "ops/small_conv/small_conv.h"

namespace pygan {
namespace {

using torch::headeronly::BFloat16;

// f(row of the small map, tap, row of the large map) for every pair of pixels that meet through a tap.
template <class F>
void for_each_meeting(const SmallConvShape& s, const F& f) {
  for (int64_t n = 0; n < s.n; ++n)
    for (int64_t y = 0; y < s.h; ++y)
      for (int64_t x = 0; x < s.w; ++x)
        for (int64_t tap = 0; tap < 16; ++tap) {
          const int64_t large_y = 2 * y - 1 + tap / 4, large_x = 2 * x - 1 + tap % 4;
          if (large_y < 0 || large_y >= 2 * s.h || large_x < 0 || large_x >= 2 * s.w) continue;
          f((n * s.h + y) * s.w + x, tap, (n * 2 * s.h + large_y) * 2 * s.w + large_x);
        }
}

// to = the map that `from` becomes, packed.
template <class T>
void product(const SmallConvShape& s, const void* from_, int64_t ld, const void* weight_, const void* bias_, void* to) {
  const T *from = static_cast<const T*>(from_), *weight = static_cast<const T*>(weight_);
  const T* bias = static_cast<const T*>(bias_);
  const int64_t rows = s.n * s.h * s.w * (s.up ? 4 : 1), channels = s.up ? s.cl : s.cs;
  std::vector<double> sum(rows * channels, 0.0);
  for_each_meeting(s, [&](int64_t small_row, int64_t tap, int64_t large_row) {
    const T* in = from + (s.up ? small_row : large_row) * ld;
    double* out = &sum[(s.up ? large_row : small_row) * channels];
    for (int64_t c = 0; c < s.cs; ++c) {
      const T* w = weight + (c * 16 + tap) * s.cl;
      if (s.up) {
        for (int64_t l = 0; l < s.cl; ++l) out[l] += static_cast<double>(in[c]) * static_cast<double>(w[l]);
      } else {
        for (int64_t l = 0; l < s.cl; ++l) out[c] += static_cast<double>(in[l]) * static_cast<double>(w[l]);
      }
    }
  });
  for (int64_t i = 0; i < rows * channels; ++i) {
    const double shift = bias ? static_cast<double>(bias[i % channels]) : 0.0;
    static_cast<T*>(to)[i] = static_cast<T>(sum[i] + shift);
  }
}

template <class T>
void weight_gradient(const SmallConvDw& a) {
  const T *small = static_cast<const T*>(a.small), *large = static_cast<const T*>(a.large);
  std::vector<double> sum(a.cs * 16 * a.cl, 0.0);
  for_each_meeting(a, [&](int64_t small_row, int64_t tap, int64_t large_row) {
    for (int64_t c = 0; c < a.cs; ++c) {
      const double from_small = static_cast<double>(small[small_row * a.ld_small + c]);
      double* out = &sum[(c * 16 + tap) * a.cl];
      for (int64_t l = 0; l < a.cl; ++l) out[l] += from_small * static_cast<double>(large[large_row * a.ld_large + l]);
    }
  });
  for (size_t i = 0; i < sum.size(); ++i) static_cast<T*>(a.dw)[i] = static_cast<T>(sum[i]);
}

// f(T{}) with the T of a dtype.
template <class F>
void with_type(Dtype dtype, const F& f) {
  if (dtype == Dtype::kFloat32) f(float{});
  if (dtype == Dtype::kFloat64) f(double{});
  if (dtype == Dtype::kBFloat16) f(BFloat16{});
}

}  // namespace

void small_conv_cpu(const SmallConvForward& a) {
  with_type(a.dtype,
            [&](auto of) { product<decltype(of)>(a, a.x, a.ld_x, a.weight, a.bias, const_cast<void*>(a.norm.x)); });
  if (a.norm.y) norm_act_forward_cpu(a.norm);
}

void small_conv_dx_cpu(const SmallConvDx& a) {
  with_type(a.dtype, [&](auto of) { product<decltype(of)>(a, a.dz, a.ld_dz, a.weight, nullptr, a.dx); });
}

void small_conv_dw_cpu(const SmallConvDw& a) {
  with_type(a.dtype, [&](auto of) { weight_gradient<decltype(of)>(a); });
}

}  // namespace pygan

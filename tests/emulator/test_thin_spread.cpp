// thin_spread_cuda.cu on the host emulator: all modes, paddings and dtypes against plain loops in double precision,
// maps smaller than a tile and across tiles, odd sizes, channel slices, NaN that stays where it belongs, one result for
// every way to cut the work.
#include "ops/thin_spread/thin_spread_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace {

using pygan::ThinMode;
using pygan::ThinShape;

const float kNan = std::numeric_limits<float>::quiet_NaN();

// `count` values aligned to 16 bytes and not one more: the sanitizer sees the first value past them.
template <class T>
struct Memory {
  std::unique_ptr<T, void (*)(void*)> data;
  int64_t count;
  explicit Memory(int64_t count_) : data(static_cast<T*>(std::malloc(count_ * sizeof(T))), std::free), count(count_) {
    for (int64_t i = 0; i < count; ++i) data.get()[i] = T(kNan);
  }
  void draw(unsigned seed) {
    for (int64_t i = 0; i < count; ++i) {
      seed = seed * 1664525u + 1013904223u;
      data.get()[i] = T(static_cast<float>(static_cast<int>(seed >> 24) - 128) / 64.0f);
    }
  }
  T& operator[](int64_t i) { return data.get()[i]; }
};

const char* name_of(ThinMode mode) {
  return mode == ThinMode::kStride2       ? "stride2"
         : mode == ThinMode::kReflect     ? "reflect"
         : mode == ThinMode::kZeroAdjoint ? "zero_adjoint"
                                          : "reflect_adjoint";
}

struct Case {
  ThinMode mode;
  int n, ct, ck, hk, wk;
  bool planar = false;  // the thin tensor: NCHW
  int odd = 0;          // stride2: the thin map has a last row and column that no window ends at
};

ThinShape shape_of(const Case& c) {
  ThinShape s{};
  s.mode = c.mode;
  s.n = c.n;
  s.ct = c.ct;
  s.ck = c.ck;
  s.hk = c.hk;
  s.wk = c.wk;
  s.ht = c.mode == ThinMode::kStride2 ? 2 * c.hk + c.odd : c.mode == ThinMode::kZeroAdjoint ? c.hk - 1 : c.hk;
  s.wt = c.mode == ThinMode::kStride2 ? 2 * c.wk + c.odd : c.mode == ThinMode::kZeroAdjoint ? c.wk - 1 : c.wk;
  s.t_n = int64_t{s.ct} * s.ht * s.wt;
  s.t_c = c.planar ? s.ht * s.wt : 1;
  s.t_h = c.planar ? s.wt : s.wt * s.ct;
  s.t_w = c.planar ? 1 : s.ct;
  const int K = pygan::thin_kernel_size(c.mode);
  const bool inner = pygan::thin_thick_dim(c.mode) == 1;  // memory (thin, ky, kx, thick), else (thick, ky, kx, thin)
  s.w_thick = inner ? 1 : K * K * s.ct;
  s.w_thin = inner ? K * K * s.ck : 1;
  s.w_x = inner ? s.ck : s.ct;
  s.w_y = K * s.w_x;
  return s;
}

// Calls visit(y, x) for the thin pixels of G(p, tap).
template <class Visit>
void for_sources(const ThinShape& s, int py, int px, int ky, int kx, const Visit& visit) {
  int ys[3], xs[3];
  const int rows = pygan::thin_sources(s.mode, py, ky, s.ht, s.hk, ys);
  const int columns = pygan::thin_sources(s.mode, px, kx, s.wt, s.wk, xs);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) visit(ys[i], xs[j]);
}

template <class T, class Thin>
double thin_value(Memory<Thin>& t, const ThinShape& s, int n, int y, int x, int c) {
  return double(pygan::to_float(T(pygan::to_float(t[n * s.t_n + y * s.t_h + x * s.t_w + c * s.t_c]))));
}

template <class T>
bool near(T got, double expected, double size) {
  const double value = double(pygan::to_float(got));
  if (expected != expected) return value != value;
  const double eps = std::is_same_v<T, float> ? 0 : std::is_same_v<T, pygan::half> ? 1.0 / 2048 : 1.0 / 256;
  return std::abs(value - expected) <= eps * std::abs(expected) + 1e-5 * size;
}

// As on a GPU with a single place for a block: high tiles, one after the other. No value may depend on it.
template <class T>
int spread_in_one_block(const pygan::ThinSpreadArgs& a) {
  switch (a.mode) {
    case ThinMode::kStride2:
      return a.ct > 4 ? pygan::launch_spread<T, ThinMode::kStride2, 8>(a, 1, nullptr)
                      : pygan::launch_spread<T, ThinMode::kStride2, 4>(a, 1, nullptr);
    case ThinMode::kReflect:
      return pygan::launch_spread<T, ThinMode::kReflect, 4>(a, 1, nullptr);
    case ThinMode::kZeroAdjoint:
      return pygan::launch_spread<T, ThinMode::kZeroAdjoint, 4>(a, 1, nullptr);
    default:
      return pygan::launch_spread<T, ThinMode::kReflectAdjoint, 4>(a, 1, nullptr);
  }
}

// High tiles, all in one split.
template <class T>
int wgrad_in_one_split(const pygan::ThinWgradArgs& a) {
  pygan::WgradPlan plan = pygan::wgrad_plan(a);
  plan.rows = a.mode == ThinMode::kStride2 && a.ct > 3 ? 16 : 32;
  plan.tiles_y = pygan::ceil_div(a.hk + (a.mode == ThinMode::kReflectAdjoint ? 6 : 0), plan.rows);
  plan.tiles = a.n * plan.tiles_x * plan.tiles_y;
  plan.splits = 1;
  switch (a.mode) {
    case ThinMode::kStride2:
      return a.ct > 3 ? pygan::launch_wgrad<T, ThinMode::kStride2, 8>(a, plan, nullptr)
                      : pygan::launch_wgrad<T, ThinMode::kStride2, 4>(a, plan, nullptr);
    case ThinMode::kReflect:
      return pygan::launch_wgrad<T, ThinMode::kReflect, 4>(a, plan, nullptr);
    case ThinMode::kZeroAdjoint:
      return pygan::launch_wgrad<T, ThinMode::kZeroAdjoint, 4>(a, plan, nullptr);
    default:
      return pygan::launch_wgrad<T, ThinMode::kReflectAdjoint, 4>(a, plan, nullptr);
  }
}

template <class T, class Thin>
void spread_case(const Case& c, bool skip, bool with_bias, bool nan) {
  ThinShape s = shape_of(c);
  const int K = pygan::thin_kernel_size(c.mode);
  Memory<Thin> t(s.n * s.t_n);
  Memory<T> w(int64_t{K} * K * s.ct * s.ck);
  Memory<float> bias(s.ck);
  t.draw(1);
  w.draw(2);
  bias.draw(3);
  if (nan) t[(s.ht / 2) * s.t_h + (s.wt / 2) * s.t_w] = Thin(kNan);
  const int64_t rows = int64_t{s.n} * s.hk * s.wk, ld_s = s.ck + 24;
  s.k_ld = s.ck + 8;
  const int64_t slice = (rows - 1) * s.k_ld + s.ck, slice_s = (rows - 1) * ld_s + s.ck;
  Memory<T> y(slice), second(slice_s), again(slice);
  pygan::ThinSpreadArgs args{};
  static_cast<ThinShape&>(args) = s;
  args.t = &t[0];
  args.weight = &w[0];
  args.bias = with_bias ? &bias[0] : nullptr;
  args.y = &y[0];
  args.s = skip ? &second[0] : nullptr;
  args.ld_s = ld_s;
  args.below_y = 0.25;
  args.below_s = 0.0;
  args.dtype = kDtype<T>;
  args.t_dtype = kDtype<Thin>;
  args.bias_dtype = pygan::Dtype::kFloat32;
  check("launch", pygan::thin_spread_cuda(args, nullptr) == 0);
  bool good = true, good_s = true, same = true;
  double total = 0;
  for (int64_t m = 0; m < rows; ++m) {
    const int px = m % s.wk, py = m / s.wk % s.hk, n = m / (s.wk * s.hk);
    std::vector<double> z(s.ck, 0.0), size(s.ck, 0.0);
    for (int ky = 0; ky < K; ++ky) {
      for (int kx = 0; kx < K; ++kx) {
        for_sources(s, py, px, ky, kx, [&](int ty, int tx) {
          for (int ch = 0; ch < s.ct; ++ch) {
            const double v = thin_value<T>(t, s, n, ty, tx, ch);
            for (int o = 0; o < s.ck; ++o) {
              const double p = v * double(pygan::to_float(w[o * s.w_thick + ch * s.w_thin + ky * s.w_y + kx * s.w_x]));
              z[o] += p;
              size[o] += std::abs(p);
            }
          }
        });
      }
    }
    for (int o = 0; o < s.ck; ++o) {
      const double v = z[o] + (with_bias ? double(bias[o]) : 0.0);
      good = good && near(y[m * s.k_ld + o], v < 0 ? 0.25 * v : v, size[o]);
      if (skip) good_s = good_s && near(second[m * ld_s + o], v < 0 ? 0.0 : v, size[o]);
      if (v == v) total += double(pygan::to_float(y[m * s.k_ld + o]));
    }
    for (int o = s.ck; m + 1 < rows && o < s.k_ld; ++o) {
      const float beside = pygan::to_float(y[m * s.k_ld + o]);
      same = same && beside != beside;
    }
  }
  check("values", good);
  check("second store", good_s);
  check("nothing beside the slice", same);
  args.y = &again[0];
  args.s = nullptr;
  check("launch", spread_in_one_block<T>(args) == 0);
  check("the same bits again", std::memcmp(&y[0], &again[0], slice * sizeof(T)) == 0);
  std::printf("spread %s %dx%d->%dx%dx%d thin %d bytes: %.9g\n", name_of(c.mode), s.n, s.ct, s.ck, s.hk, s.wk,
              int(sizeof(Thin)), total);
}

template <class T, class Thin, class Out>
void wgrad_case(const Case& c) {
  ThinShape s = shape_of(c);
  const int K = pygan::thin_kernel_size(c.mode);
  const int64_t rows = int64_t{s.n} * s.hk * s.wk, weights = int64_t{K} * K * s.ct * s.ck;
  s.k_ld = s.ck + 8;
  Memory<Thin> t(s.n * s.t_n);
  Memory<T> k((rows - 1) * s.k_ld + s.ck);
  Memory<Out> dw(weights), again(weights), k_sum(s.ck), t_sum(s.ct);
  const bool with_k = pygan::thin_k_sum_fits(s), with_t = pygan::thin_t_sum_fits(s);
  t.draw(4);
  k.draw(5);
  Memory<float> workspace(pygan::thin_wgrad_workspace(s));
  pygan::ThinWgradArgs args{};
  static_cast<ThinShape&>(args) = s;
  args.t = &t[0];
  args.k = &k[0];
  args.dweight = &dw[0];
  args.k_sum = with_k ? &k_sum[0] : nullptr;
  args.t_sum = with_t ? &t_sum[0] : nullptr;
  args.dtype = kDtype<T>;
  args.t_dtype = kDtype<Thin>;
  args.out_dtype = args.sum_dtype = kDtype<Out>;
  args.workspace = &workspace[0];
  check("launch", pygan::thin_wgrad_cuda(args, nullptr) == 0);
  std::vector<double> sum(weights, 0.0), size(weights, 0.0);
  std::vector<double> of_k(s.ck, 0.0), size_k(s.ck, 0.0), of_t(s.ct, 0.0), size_of_t(s.ct, 0.0);
  for (int64_t m = 0; m < rows; ++m) {
    const int px = m % s.wk, py = m / s.wk % s.hk, n = m / (s.wk * s.hk);
    std::vector<double> thick(s.ck);
    for (int o = 0; o < s.ck; ++o) {
      thick[o] = double(pygan::to_float(k[m * s.k_ld + o]));
      of_k[o] += thick[o];
      size_k[o] += std::abs(thick[o]);
    }
    for (int ky = 0; ky < K; ++ky) {
      for (int kx = 0; kx < K; ++kx) {
        for_sources(s, py, px, ky, kx, [&](int ty, int tx) {
          for (int ch = 0; ch < s.ct; ++ch) {
            const double v = thin_value<T>(t, s, n, ty, tx, ch);
            const int64_t at = ch * s.w_thin + ky * s.w_y + kx * s.w_x;
            for (int o = 0; o < s.ck; ++o) {
              sum[at + o * s.w_thick] += v * thick[o];
              size[at + o * s.w_thick] += std::abs(v * thick[o]);
            }
          }
        });
      }
    }
  }
  for (int n = 0; n < s.n; ++n) {
    for (int y = 0; y < s.ht; ++y) {
      for (int x = 0; x < s.wt; ++x) {
        for (int ch = 0; ch < s.ct; ++ch) {
          const double v = thin_value<T>(t, s, n, y, x, ch);
          of_t[ch] += v;
          size_of_t[ch] += std::abs(v);
        }
      }
    }
  }
  const auto compare = [&](Memory<Out>& got) {
    bool good = true, good_k = true, good_t = true;
    double total = 0;
    for (int64_t i = 0; i < weights; ++i) {
      good = good && near(got[i], sum[i], size[i]);
      total += double(pygan::to_float(got[i]));
    }
    for (int o = 0; with_k && o < s.ck; ++o) good_k = good_k && near(k_sum[o], of_k[o], size_k[o]);
    for (int ch = 0; with_t && ch < s.ct; ++ch) good_t = good_t && near(t_sum[ch], of_t[ch], size_of_t[ch]);
    check("weight gradient", good);
    check("sum of the thick pixels", good_k);
    check("sum of the thin pixels", good_t);
    return total;
  };
  const double total = compare(dw);
  args.dweight = &again[0];
  for (int64_t i = 0; i < workspace.count; ++i) workspace[i] = kNan;
  for (int o = 0; o < s.ck; ++o) k_sum[o] = Out(kNan);
  for (int ch = 0; ch < s.ct; ++ch) t_sum[ch] = Out(kNan);
  check("launch", wgrad_in_one_split<T>(args) == 0);
  compare(again);
  const pygan::WgradPlan plan = pygan::wgrad_plan(s);
  std::printf("wgrad %s %dx%d->%dx%dx%d rows %d tiles %d splits %d: %.9g\n", name_of(c.mode), s.n, s.ct, s.ck, s.hk,
              s.wk, plan.rows, plan.tiles, plan.splits, total);
}

constexpr auto kStride2 = ThinMode::kStride2, kReflect = ThinMode::kReflect, kZero = ThinMode::kZeroAdjoint,
               kFold = ThinMode::kReflectAdjoint;

// Every instance.
template <class T>
void all_of(int h, int w) {
  spread_case<T, float>({kStride2, 2, 3, 64, h, w, false, 1}, true, true, false);
  spread_case<T, T>({kStride2, 1, 6, 64, h, 3 * w, true}, false, true, true);
  spread_case<T, float>({kReflect, 1, 3, 64, h, 2 * w}, true, true, true);
  spread_case<T, T>({kZero, 2, 1, 128, h, w}, false, false, true);
  spread_case<T, T>({kFold, 1, 3, 64, h, w}, false, false, true);

  wgrad_case<T, float, T>({kStride2, 2, 3, 64, h, w, false, 1});
  wgrad_case<T, T, float>({kStride2, 1, 6, 64, 2 * h, w, true});
  wgrad_case<T, float, T>({kReflect, 1, 3, 64, h, 2 * w});
  wgrad_case<T, float, T>({kZero, 1, 1, 64, h, w});
  wgrad_case<T, float, float>({kFold, 1, 3, 64, 4, w});
}

}  // namespace

int main() {
  all_of<pygan::bfloat16>(9, 11);
  all_of<pygan::half>(4, 5);
  using T = pygan::bfloat16;
  // the smallest maps
  spread_case<T, T>({kStride2, 1, 4, 128, 1, 1}, true, false, false);
  spread_case<T, T>({kReflect, 2, 1, 64, 4, 4, true}, false, false, false);
  spread_case<T, T>({kFold, 1, 1, 64, 4, 5}, false, false, false);
  wgrad_case<T, T, T>({kStride2, 1, 4, 128, 1, 1});
  wgrad_case<T, float, T>({kStride2, 1, 3, 128, 2, 17});
  wgrad_case<T, T, float>({kReflect, 1, 1, 64, 4, 4, true});
  wgrad_case<T, T, T>({kFold, 1, 2, 64, 4, 5, true});
  // across tiles
  spread_case<T, float>({kZero, 1, 3, 64, 18, 33, true}, false, false, false);
  spread_case<T, T>({kFold, 1, 3, 64, 17, 34, true}, false, false, false);
  wgrad_case<T, float, T>({kZero, 3, 1, 512, 34, 9});

  pygan::ThinSpreadArgs refused{};
  refused.mode = kReflect;
  refused.ck = 64;
  refused.ct = 5;
  check("too many thin channels are refused", pygan::thin_spread_cuda(refused, nullptr) != 0);
  refused.ct = 3;
  refused.ck = 96;
  check("an odd number of thick channels is refused", pygan::thin_spread_cuda(refused, nullptr) != 0);
  std::printf("failures: %d\n", failures);
  return failures;
}

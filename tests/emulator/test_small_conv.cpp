// small_conv_cuda.cu on the host emulator: z, dx and dw against the sums of small_conv.h in double precision, what
// becomes of z against the formulas of norm_act.h, on poisoned outputs in channel slices. Printed checksums show a
// result that depends on the order of threads or blocks.
#include "ops/small_conv/small_conv_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

using namespace pygan;

namespace {

const float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
  const char* name;
  int64_t n, h, w, cs, cl;  // of the small map
  bool up;
  Statistics statistics;
  int64_t groups;
  Act act, skip_act;
  bool skip, affine, bias, running;
  double dropout_p;
};

// A number in (-1, 1) that depends on nothing but its index.
float noise(uint64_t i, uint32_t stream) {
  const int64_t rng[2] = {11, 0};
  return static_cast<float>(philox_quad(rng, stream, i).word[0] * 0x1p-31 - 1);
}

// rows x c values inside rows x (pad + c + pad), and the margin that nobody may touch
template <class T>
struct Slice {
  int64_t rows, c, pad, ld;
  std::vector<T> data;
  Slice(int64_t rows, int64_t c, int64_t pad) : rows(rows), c(c), pad(pad), ld(c + 2 * pad) {
    data.assign(rows * ld, from_float<T>(7.f));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t k = 0; k < c; ++k) at(r, k) = from_float<T>(kNan);
  }
  T* begin() { return data.data() + pad; }
  T& at(int64_t r, int64_t k) { return data[r * ld + pad + k]; }
  double value(int64_t r, int64_t k) { return to_float(at(r, k)); }
  bool margin_is_untouched() const {
    for (size_t i = 0; i < data.size(); ++i) {
      const int64_t k = static_cast<int64_t>(i) % ld;
      if ((k < pad || k >= pad + c) && to_float(data[i]) != 7.f) return false;
    }
    return true;
  }
};

template <class T>
void fill(Slice<T>& t, uint32_t stream, float scale) {
  for (int64_t r = 0; r < t.rows; ++r)
    for (int64_t k = 0; k < t.c; ++k) t.at(r, k) = from_float<T>(scale * noise(r * t.c + k, stream));
}

template <class T>
unsigned checksum(const std::vector<T>& values) {
  unsigned hash = 2166136261u;
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (size_t i = 0; i < values.size() * sizeof(T); ++i) hash = (hash ^ bytes[i]) * 16777619u;
  return hash;
}

// f(row of the small map, tap, row of the large map) for every pair of pixels that meet through a tap.
template <class F>
void for_each_meeting(const Case& t, const F& f) {
  for (int64_t n = 0; n < t.n; ++n)
    for (int64_t y = 0; y < t.h; ++y)
      for (int64_t x = 0; x < t.w; ++x)
        for (int64_t tap = 0; tap < 16; ++tap) {
          const int64_t large_y = 2 * y - 1 + tap / 4, large_x = 2 * x - 1 + tap % 4;
          if (large_y < 0 || large_y >= 2 * t.h || large_x < 0 || large_x >= 2 * t.w) continue;
          f((n * t.h + y) * t.w + x, tap, (n * 2 * t.h + large_y) * 2 * t.w + large_x);
        }
}

// The map that `from` becomes, rows x channels.
template <class T>
std::vector<double> product(const Case& t, bool up, Slice<T>& from, const std::vector<T>& weight) {
  const int64_t rows = t.n * t.h * t.w * (up ? 4 : 1), channels = up ? t.cl : t.cs;
  std::vector<double> w(weight.size()), sum(rows * channels, 0.0);
  for (size_t i = 0; i < w.size(); ++i) w[i] = to_float(weight[i]);
  for_each_meeting(t, [&](int64_t small_row, int64_t tap, int64_t large_row) {
    double* out = &sum[(up ? large_row : small_row) * channels];
    for (int64_t s = 0; s < t.cs; ++s) {
      const double* row = &w[(s * 16 + tap) * t.cl];
      if (up) {
        const double v = from.value(small_row, s);
        for (int64_t l = 0; l < t.cl; ++l) out[l] += v * row[l];
      } else {
        const T* in = &from.at(large_row, 0);
        for (int64_t l = 0; l < t.cl; ++l) out[s] += to_float(in[l]) * row[l];
      }
    }
  });
  return sum;
}

void worst(double& error, double got, double want, double scale) {
  const double e = std::abs(got - want) / scale;
  if (!(e <= error)) error = e;  // NaN, too
}

// Rounded sums against exact ones.
template <class T>
double error_of(const std::vector<T>& got, const std::vector<double>& want) {
  double error = 0;
  for (size_t i = 0; i < got.size(); ++i) worst(error, to_float(got[i]), want[i], std::max(1.0, std::abs(want[i])));
  return error;
}

void report(const Case& t, const char* type, const char* what, double error, double bound) {
  if (error <= bound) return;  // false for NaN
  ++failures;
  std::printf("%s %s %s: error %.2e, bound %.2e FAILED\n", t.name, type, what, error, bound);
}

double low(Act act, double slope, double z) {
  return act == Act::kNone ? z : act == Act::kRelu ? 0 : act == Act::kLeakyRelu ? slope * z : std::expm1(z);
}

// y, s, mean, rstd and the running statistics that follow from z
template <class T>
void check_norm(const Case& t, const char* type, const NormActForward& a, const std::vector<T>& z, Slice<T>& y,
                Slice<T>& s, const std::vector<float>& weight, const std::vector<float>& bias, double rounding) {
  const int64_t c = a.channels, rows = a.rows / a.groups;
  double error_y = 0, error_s = 0, error_statistics = 0, error_running = 0;
  for (int64_t k = 0; k < c; ++k) {
    const double start_mean = 0.1 * (k % 3), start_var = 1 + 0.25 * (k % 5);
    double running_mean = start_mean, running_var = start_var;
    for (int64_t g = 0; g < a.groups; ++g) {
      double mean = 0, var = 0, rstd = 1;
      for (int64_t r = 0; r < rows; ++r) mean += to_float(z[(g * rows + r) * c + k]) / static_cast<double>(rows);
      for (int64_t r = 0; r < rows; ++r) {
        const double d = to_float(z[(g * rows + r) * c + k]) - mean;
        var += d * d / static_cast<double>(rows);
      }
      running_mean = (1 - a.momentum) * running_mean + a.momentum * mean;
      running_var = (1 - a.momentum) * running_var + a.momentum * var * rows / std::max<double>(rows - 1, 1);
      if (t.statistics == Statistics::kRunning) mean = start_mean, var = start_var;
      if (t.statistics == Statistics::kNone)
        mean = 0;
      else
        rstd = 1 / std::sqrt(var + a.eps);
      if (t.statistics != Statistics::kNone) {
        worst(error_statistics, static_cast<float*>(a.mean)[g * c + k], mean, 1);
        worst(error_statistics, static_cast<float*>(a.rstd)[g * c + k], rstd, rstd);
      }
      for (int64_t r = g * rows; r < (g + 1) * rows; ++r) {
        const uint64_t element = r * c + k;
        const bool dropped =
            a.dropout.rng != nullptr &&
            philox_quad(a.dropout.rng, a.dropout.stream, element / 4).word[element % 4] <= a.dropout.last_dropped;
        double v = (to_float(z[element]) - mean) * rstd * (t.affine ? weight[k] : 1) + (t.affine ? bias[k] : 0);
        v *= dropped ? 0 : a.dropout.keep_scale;
        const double want_y = v <= 0 ? low(t.act, a.slope, v) : v, want_s = v <= 0 ? low(t.skip_act, a.slope, v) : v;
        const double scale = std::max(1.0, std::abs(v));
        worst(error_y, y.value(r, k), want_y, scale);
        if (t.skip) worst(error_s, s.value(r, k), want_s, scale);
      }
    }
    if (t.running && t.statistics == Statistics::kBatch) {
      worst(error_running, static_cast<float*>(a.running_mean)[k], running_mean, 1);
      worst(error_running, static_cast<float*>(a.running_var)[k], running_var, 1 + running_var);
    }
  }
  // a variance of 0 makes much of the rounding of the mean: rstd is 1 / sqrt(eps)
  const double precise = rows == 1 ? 1e-4 : 2e-5;
  report(t, type, "y", error_y, rounding + precise);
  report(t, type, "s", error_s, rounding + precise);
  report(t, type, "statistics", error_statistics, 1e-5);
  report(t, type, "running statistics", error_running, 1e-6);
  check("margins", y.margin_is_untouched() && s.margin_is_untouched());
}

template <class T>
void run(const Case& t, const char* type) {
  const double rounding = std::is_same_v<T, half> ? 6e-4 : 4.5e-3;
  const int64_t small_rows = t.n * t.h * t.w, large_rows = 4 * small_rows;
  const int64_t rows = t.up ? large_rows : small_rows, c = t.up ? t.cl : t.cs;
  const int64_t in_rows = t.up ? small_rows : large_rows, in_c = t.up ? t.cs : t.cl;

  // inputs
  Slice<T> x(in_rows, in_c, 8);
  fill(x, 1, 1.f);
  std::vector<T> weight(t.cs * 16 * t.cl), bias(c);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = from_float<T>(0.1f * noise(i, 2));
  for (int64_t k = 0; k < c; ++k) bias[k] = from_float<T>(noise(k, 3));
  std::vector<float> norm_weight(c), norm_bias(c), running_mean(c), running_var(c), mean(t.groups * c, kNan);
  std::vector<float> rstd(t.groups * c, kNan);
  for (int64_t k = 0; k < c; ++k) {
    norm_weight[k] = 1 + 0.5f * noise(k, 4);
    norm_bias[k] = 0.5f * noise(k, 5);
    running_mean[k] = 0.1f * (k % 3);
    running_var[k] = 1 + 0.25f * (k % 5);
  }
  const int64_t rng[2] = {0x123456789ABCDEF, 42};

  // forward
  SmallConvForward args{};
  args.dtype = kDtype<T>;
  args.n = t.n, args.h = t.h, args.w = t.w, args.cs = t.cs, args.cl = t.cl;
  args.up = t.up;
  args.x = x.begin(), args.ld_x = x.ld;
  args.weight = weight.data();
  args.bias = t.bias ? bias.data() : nullptr;
  std::vector<T> z(rows * c, from_float<T>(kNan));
  Slice<T> y(rows, c, 8), s(rows, c, 16);
  NormActForward& a = args.norm;
  a.dtype = args.dtype;
  a.rows = rows, a.channels = c, a.groups = t.groups;
  a.statistics = t.statistics, a.act = t.act, a.skip_act = t.skip_act, a.slope = 0.2;
  a.x = z.data(), a.ld_x = c;
  a.y = y.begin(), a.ld_y = y.ld;
  a.s = t.skip ? s.begin() : nullptr, a.ld_s = s.ld;
  a.weight = t.affine ? norm_weight.data() : nullptr, a.bias = t.affine ? norm_bias.data() : nullptr;
  a.mean = mean.data(), a.rstd = rstd.data();
  a.running_mean = t.running ? running_mean.data() : nullptr, a.running_var = t.running ? running_var.data() : nullptr;
  a.eps = 1e-5, a.momentum = 0.3;
  if (t.dropout_p > 0) {
    a.dropout.rng = rng;
    a.dropout.stream = 3;
    a.dropout.last_dropped = static_cast<uint32_t>(std::ceil(t.dropout_p * 4294967296.0) - 1);
    a.dropout.keep_scale = 1 / (1 - t.dropout_p);
  }
  std::vector<float> workspace(small_conv_workspace_floats(args), kNan);
  args.workspace = workspace.data();
  check("launch", small_conv_cuda(args, nullptr) == 0);

  std::vector<double> exact = product(t, t.up, x, weight);
  for (int64_t i = 0; i < rows * c; ++i) exact[i] += t.bias ? to_float(bias[i % c]) : 0;
  report(t, type, "z", error_of(z, exact), rounding);
  const unsigned whole = checksum(z);
  check_norm(t, type, a, z, y, s, norm_weight, norm_bias, rounding);

  // z alone
  if (rows == 1) {
    a.y = nullptr;
    z.assign(z.size(), from_float<T>(kNan));
    check("launch", small_conv_cuda(args, nullptr) == 0);
    check("z alone is the same", checksum(z) == whole);
  }

  // the same product in fewer slices, which are longer than the pipeline; 1 needs no sum over blocks
  dim3 grid = grid_of(args);
  unsigned sliced = 0;
  for (const unsigned slices : {1u, 2u}) {
    if (slices >= grid.x) continue;
    Product p{};
    p.from = args.x, p.weight = args.weight, p.bias = args.bias, p.to = z.data();
    p.partial = args.workspace;
    p.ld_from = args.ld_x;
    grid.x = slices;
    z.assign(z.size(), from_float<T>(kNan));
    const int code =
        t.up ? launch<T, true>(args, p, nullptr, grid, nullptr) : launch<T, false>(args, p, nullptr, grid, nullptr);
    check("launch", code == 0);
    report(t, type, "z of long slices", error_of(z, exact), rounding);
    sliced = 31 * sliced + checksum(z);
    grid = grid_of(args);
  }

  // dx
  Slice<T> dz(rows, c, 8);
  fill(dz, 6, 1.f);
  std::vector<T> dx(in_rows * in_c, from_float<T>(kNan));
  SmallConvDx dx_args{};
  static_cast<SmallConvShape&>(dx_args) = args;
  dx_args.up = !t.up;
  dx_args.dz = dz.begin(), dx_args.ld_dz = dz.ld;
  dx_args.weight = weight.data();
  dx_args.dx = dx.data();
  workspace.assign(small_conv_workspace_floats(dx_args), kNan);
  dx_args.workspace = workspace.data();
  check("launch", small_conv_dx_cuda(dx_args, nullptr) == 0);
  report(t, type, "dx", error_of(dx, product(t, !t.up, dz, weight)), rounding);

  // dw
  std::vector<T> dw(weight.size(), from_float<T>(kNan));
  SmallConvDw dw_args{};
  static_cast<SmallConvShape&>(dw_args) = args;
  Slice<T>&small = t.up ? x : dz, &large = t.up ? dz : x;
  dw_args.small = small.begin(), dw_args.ld_small = small.ld;
  dw_args.large = large.begin(), dw_args.ld_large = large.ld;
  dw_args.dw = dw.data();
  check("launch", small_conv_dw_cuda(dw_args, nullptr) == 0);
  std::vector<double> exact_dw(weight.size(), 0.0);
  for_each_meeting(t, [&](int64_t small_row, int64_t tap, int64_t large_row) {
    const T* in = &large.at(large_row, 0);
    for (int64_t k = 0; k < t.cs; ++k) {
      const double v = small.value(small_row, k);
      double* out = &exact_dw[(k * 16 + tap) * t.cl];
      for (int64_t l = 0; l < t.cl; ++l) out[l] += v * to_float(in[l]);
    }
  });
  report(t, type, "dw", error_of(dw, exact_dw), rounding);

  std::printf("%-20s %s: z %08x %08x y %08x s %08x dx %08x dw %08x running %08x\n", t.name, type, whole, sliced,
              checksum(y.data), checksum(s.data), checksum(dx), checksum(dw), checksum(running_mean));
}

}  // namespace

int main() {
  using enum Act;
  constexpr Statistics kNorm = Statistics::kBatch, kRunning = Statistics::kRunning, kNoNorm = Statistics::kNone;
  constexpr bool kDown = false, kUp = true;
  const Case cases[] = {
      // n, h, w, cs, cl; statistics, groups; act, skip_act, skip; affine, bias, running; dropout
      // one pixel: 4 of 16 taps meet it; no variance
      {"down to 1x1", 1, 1, 1, 64, 128, kDown, kNorm, 1, kRelu, kNone, false, true, false, true, 0},
      {"up from 1x1", 1, 1, 1, 128, 64, kUp, kNorm, 1, kLeakyRelu, kRelu, true, true, false, true, 0.5},
      // one axis of one pixel; a tile that is not full
      {"down to 1x3", 3, 1, 3, 64, 64, kDown, kNoNorm, 1, kRelu, kNone, false, false, true, false, 0},
      {"up from 2x1", 2, 2, 1, 64, 64, kUp, kRunning, 1, kElu, kNone, false, true, false, true, 0},
      // groups, two tiles of channels
      {"down to 2x2, groups", 2, 2, 2, 128, 64, kDown, kNorm, 2, kLeakyRelu, kRelu, true, true, false, true, 0},
      {"up from 2x4", 1, 2, 4, 64, 128, kUp, kNorm, 1, kRelu, kElu, true, true, false, true, 0.3},
      // a full tile; several tiles of pixels, the last of them not full
      {"down to 4x4", 4, 4, 4, 64, 64, kDown, kNorm, 2, kLeakyRelu, kRelu, true, true, true, true, 0.5},
      {"up from 7x7", 3, 7, 7, 64, 64, kUp, kNorm, 3, kRelu, kNone, false, true, true, true, 0},
  };
  for (const Case& t : cases) run<bfloat16>(t, "bfloat16");
  for (const int i : {1, 3, 6}) run<half>(cases[i], "float16");

  SmallConvDw refused{};
  refused.n = refused.h = refused.w = 1;
  refused.cs = refused.cl = 64;
  check("float32 is refused", small_conv_dw_cuda(refused, nullptr) != 0);
  refused.dtype = Dtype::kBFloat16;
  refused.cl = 96;
  check("96 channels are refused", small_conv_dw_cuda(refused, nullptr) != 0);

  bool zero = true;
  for (const unsigned ticket : tickets) zero = zero && ticket == 0;
  check("tickets are back at 0", zero);
  std::printf("failures: %d\n", failures);
  return failures;
}

// norm_act's kernels against the formulas of norm_act.h in double precision, on poisoned outputs in channel slices.
#include "ops/norm_act/norm_act_cuda.cu"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

using namespace pygan;

namespace {

int failures = 0;

struct Case {
  const char* name;
  int64_t n, pixels, c, groups;  // groups of statistics
  int64_t pad;                   // channels beside the slice
  Statistics statistics;
  Act act, skip_act;
  bool skip, affine, running;
  double dropout_p;
};

template <class T>
constexpr Dtype dtype = Dtype::kFloat32;
template <>
constexpr Dtype dtype<bfloat16> = Dtype::kBFloat16;
template <>
constexpr Dtype dtype<half> = Dtype::kFloat16;

template <class T>
constexpr double epsilon = std::is_same_v<T, float>  ? 4e-6
                           : std::is_same_v<T, half> ? 6e-4
                                                     : 4.5e-3;

// A number in (-1, 1) that depends on nothing but its index.
double noise(uint64_t i, uint32_t stream) {
  const int64_t rng[2] = {11, 0};
  return philox_quad(rng, stream, i).word[0] * 0x1p-31 - 1;
}

template <class T>
struct Slice {  // rows x c values inside rows x (pad + c + pad), and the margin that nobody may touch
  int64_t rows, c, pad, ld;
  std::vector<T> data;

  Slice(int64_t rows, int64_t c, int64_t pad, float fill) : rows(rows), c(c), pad(pad), ld(c + 2 * pad) {
    data.assign(rows * ld, from_float<T>(7.f));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < c; ++k) at(r, k) = from_float<T>(fill);
    }
  }
  T& at(int64_t r, int64_t k) { return data[r * ld + pad + k]; }
  double value(int64_t r, int64_t k) { return to_float(at(r, k)); }
  T* begin() { return data.data() + pad; }
  bool margin_is_untouched() const {
    for (size_t i = 0; i < data.size(); ++i) {
      const int64_t k = static_cast<int64_t>(i) % ld;
      if ((k < pad || k >= pad + c) && to_float(data[i]) != 7.f) return false;
    }
    return true;
  }
};

void report(const Case& t, const char* type, const char* what, double error, double bound) {
  const bool ok = error <= bound;  // false for NaN
  if (!ok) ++failures;
  std::printf("%-22s %-8s %-12s %.2e %s\n", t.name, type, what, error, ok ? "ok" : "FAILED");
}

double low(Act act, double slope, double z) {
  return act == Act::kNone ? z : act == Act::kRelu ? 0 : act == Act::kLeakyRelu ? slope * z : std::expm1(z);
}
double value_of(Act act, double slope, double z) { return z <= 0 ? low(act, slope, z) : z; }
double slope_at(Act act, double slope, double z) {
  if (z > 0) return 1;
  return act == Act::kNone ? 1 : act == Act::kRelu ? 0 : act == Act::kLeakyRelu ? slope : std::exp(z);
}

template <class T>
void run(const Case& t, const char* type) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const int64_t rows = t.n * t.pixels, c = t.c, group_rows = rows / t.groups;
  const double eps = 1e-5, slope = 0.2, momentum = 0.3;
  const int64_t rng[2] = {0x123456789ABCDEF, 42};
  const uint32_t stream = 3;

  // inputs: channel k has its own mean and spread, one of them far from zero
  Slice<T> x(rows, c, t.pad, 0), dy(rows, c, 0, 0), ds(rows, c, t.pad, 0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < c; ++k) {
      x.at(r, k) = from_float<T>(static_cast<float>(noise(r * c + k, 0) * (1 + k % 3) + (k % 5 == 4 ? 20 : 0.1 * k)));
      dy.at(r, k) = from_float<T>(static_cast<float>(noise(r * c + k, 1)));
      ds.at(r, k) = from_float<T>(static_cast<float>(noise(r * c + k, 2)));
    }
  }
  std::vector<float> weight(c), bias(c), running_mean(c), running_var(c);
  for (int64_t k = 0; k < c; ++k) {
    weight[k] = static_cast<float>(1 + 0.5 * noise(k, 4));
    bias[k] = static_cast<float>(noise(k, 5));
    running_mean[k] = static_cast<float>(noise(k, 6));
    running_var[k] = static_cast<float>(1.5 + noise(k, 7));
  }

  // forward
  Slice<T> y(rows, c, t.pad, nan), s(rows, c, t.pad, nan), dx(rows, c, 0, nan);
  std::vector<float> mean(t.groups * c, nan), rstd(t.groups * c, nan), dweight(c, nan), dbias(c, nan);
  std::vector<float> expect_mean = running_mean, expect_var = running_var;
  NormActShape shape{};
  shape.dtype = dtype<T>;
  shape.rows = rows;
  shape.channels = c;
  shape.groups = t.groups;
  shape.statistics = t.statistics;
  shape.act = t.act;
  shape.skip_act = t.skip_act;
  shape.slope = slope;
  if (t.dropout_p > 0) {
    shape.dropout = {rng, stream, static_cast<uint32_t>(std::ceil(t.dropout_p * 4294967296.0) - 1),
                     1 / (1 - t.dropout_p)};
  }
  std::vector<float> workspace(norm_act_workspace_floats(shape), nan);
  std::vector<unsigned> counters(norm_act_counters(shape), 0u);
  const bool statistics = t.statistics != Statistics::kNone;

  NormActForward f{};
  static_cast<NormActShape&>(f) = shape;
  f.x = x.begin(), f.ld_x = x.ld;
  f.y = y.begin(), f.ld_y = y.ld;
  f.s = t.skip ? s.begin() : nullptr, f.ld_s = s.ld;
  f.weight = t.affine ? weight.data() : nullptr, f.bias = t.affine ? bias.data() : nullptr;
  f.mean = statistics ? mean.data() : nullptr, f.rstd = statistics ? rstd.data() : nullptr;
  f.running_mean = t.running ? running_mean.data() : nullptr;
  f.running_var = t.running ? running_var.data() : nullptr;
  f.eps = eps, f.momentum = momentum;
  f.workspace = workspace.data(), f.counters = counters.data();
  int status = norm_act_forward_cuda(f, nullptr);

  // backward
  NormActBackward b{};
  static_cast<NormActShape&>(b) = shape;
  b.x = x.begin(), b.ld_x = x.ld;
  b.dy = dy.begin(), b.ld_dy = dy.ld;
  b.ds = t.skip ? ds.begin() : nullptr, b.ld_ds = ds.ld;
  b.dx = dx.begin(), b.ld_dx = dx.ld;
  b.weight = f.weight, b.bias = f.bias, b.mean = f.mean, b.rstd = f.rstd;
  b.dweight = t.affine ? dweight.data() : nullptr, b.dbias = t.affine ? dbias.data() : nullptr;
  b.workspace = workspace.data(), b.counters = counters.data();
  status |= norm_act_backward_cuda(b, nullptr);
  report(t, type, "launch", status, 0);

  // the same in double
  double error_y = 0, error_s = 0, error_dx = 0, error_dw = 0, error_db = 0, error_running = 0;
  std::vector<double> all_dw(c, 0.0), all_db(c, 0.0), z(group_rows), g(group_rows), x_hat(group_rows);
  const auto worst = [](double& error, double got, double want, double scale) {
    const double e = std::abs(got - want) / scale;
    if (!(e <= error)) error = e;  // a NaN stays
  };
  for (int64_t group = 0; group < t.groups; ++group) {
    for (int64_t k = 0; k < c; ++k) {
      double mu = 0, var = 0;
      const int64_t row0 = group * group_rows;
      if (t.statistics == Statistics::kBatch) {
        for (int64_t r = 0; r < group_rows; ++r) mu += x.value(row0 + r, k) / group_rows;
        for (int64_t r = 0; r < group_rows; ++r) var += std::pow(x.value(row0 + r, k) - mu, 2) / group_rows;
        expect_mean[k] = static_cast<float>((1 - momentum) * expect_mean[k] + momentum * mu);
        const double unbiased = var * group_rows / std::max<int64_t>(group_rows - 1, 1);
        expect_var[k] = static_cast<float>((1 - momentum) * expect_var[k] + momentum * unbiased);
      } else if (t.statistics == Statistics::kRunning) {
        mu = expect_mean[k];
        var = expect_var[k];
      }
      const double inv = t.statistics == Statistics::kNone ? 1 : 1 / std::sqrt(var + eps);
      const double w = t.affine ? weight[k] : 1, shift = t.affine ? bias[k] : 0;
      double sum_g = 0, sum_gx = 0;
      for (int64_t r = 0; r < group_rows; ++r) {
        const uint64_t element = (row0 + r) * c + k;
        double keep = 1;
        if (t.dropout_p > 0) {
          const double u = philox_quad(rng, stream, element / 4).word[element % 4] * 0x1p-32;
          keep = u < t.dropout_p ? 0 : 1 / (1 - t.dropout_p);
        }
        x_hat[r] = (x.value(row0 + r, k) - mu) * inv;
        z[r] = keep * (x_hat[r] * w + shift);
        g[r] = dy.value(row0 + r, k) * slope_at(t.act, slope, z[r]);
        if (t.skip) g[r] += ds.value(row0 + r, k) * slope_at(t.skip_act, slope, z[r]);
        g[r] *= keep;
        sum_g += g[r];
        sum_gx += g[r] * x_hat[r];
        const double want_y = value_of(t.act, slope, z[r]), want_s = value_of(t.skip_act, slope, z[r]);
        worst(error_y, y.value(row0 + r, k), want_y, std::max(1.0, std::abs(want_y)));
        if (t.skip) worst(error_s, s.value(row0 + r, k), want_s, std::max(1.0, std::abs(want_s)));
      }
      const bool batch = t.statistics == Statistics::kBatch;
      for (int64_t r = 0; r < group_rows; ++r) {
        const double centred = batch ? g[r] - sum_g / group_rows - x_hat[r] * sum_gx / group_rows : g[r];
        worst(error_dx, dx.value(row0 + r, k), w * inv * centred, std::max({1.0, inv, std::abs(w * inv * centred)}));
      }
      all_dw[k] += sum_gx;
      all_db[k] += sum_g;
    }
  }
  for (int64_t k = 0; k < c; ++k) {
    worst(error_dw, dweight[k], all_dw[k], std::sqrt(rows) * 4);
    worst(error_db, dbias[k], all_db[k], std::sqrt(rows) * 4);
    worst(error_running, running_mean[k], expect_mean[k], 20);
    worst(error_running, running_var[k], expect_var[k], 20);
  }
  report(t, type, "y", error_y, epsilon<T>);
  if (t.skip) report(t, type, "s", error_s, epsilon<T>);
  report(t, type, "dx", error_dx, epsilon<T>);
  if (t.affine) report(t, type, "dweight", error_dw, 2e-5);
  if (t.affine) report(t, type, "dbias", error_db, 2e-5);
  if (t.running) report(t, type, "running", error_running, 1e-6);
  bool clean = y.margin_is_untouched() && s.margin_is_untouched();
  for (unsigned word : counters) clean = clean && word == 0;
  report(t, type, "clean", clean ? 0 : 1, 0);
}

}  // namespace

int main() {
  using enum Act;
  const Case cases[] = {
      // one block of a group does all; 16-byte path with a ragged tile of channels
      {"batch", 1, 40, 72, 1, 0, Statistics::kBatch, kLeakyRelu, kRelu, true, true, true, 0},
      {"batch, one value", 1, 1, 8, 1, 0, Statistics::kBatch, kRelu, kNone, false, true, true, 0},
      {"instance", 3, 25, 16, 3, 8, Statistics::kBatch, kElu, kNone, true, true, false, 0},
      // several blocks share a group, several groups share the parameters
      {"batch, split", 1, 520, 24, 1, 8, Statistics::kBatch, kRelu, kElu, true, true, true, 0.5},
      {"groups, split", 2, 514, 8, 2, 0, Statistics::kBatch, kLeakyRelu, kNone, false, true, true, 0},
      // channels or pitches that 16 bytes do not divide
      {"odd channels", 2, 21, 35, 2, 3, Statistics::kBatch, kLeakyRelu, kRelu, true, true, true, 0.3},
      {"odd channels, split", 1, 520, 3, 1, 1, Statistics::kBatch, kRelu, kNone, false, false, false, 0},
      {"running", 1, 40, 16, 1, 0, Statistics::kRunning, kLeakyRelu, kRelu, true, true, true, 0},
      {"none", 2, 50, 16, 1, 0, Statistics::kNone, kLeakyRelu, kNone, false, true, false, 0.1},
      {"none, no affine", 1, 9, 5, 1, 0, Statistics::kNone, kRelu, kElu, true, false, false, 0},
  };
  for (const Case& t : cases) run<float>(t, "float32");
  for (const int i : {0, 3, 5}) run<bfloat16>(cases[i], "bfloat16");
  run<half>(cases[0], "float16");
  return failures;
}

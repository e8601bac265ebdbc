// norm_act's kernels against the formulas of norm_act.h in double precision, on poisoned outputs in channel slices and
// in the middle of larger maps.
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
  int64_t n, h, w, c, groups;  // groups of statistics
  int64_t margin;              // channels beside the slice
  Statistics statistics;
  Act act, skip_act;
  bool skip, affine, running;
  double dropout_p;
  int64_t pad = 0;     // of y and dy
  bool sum = false;    // with a residual
  int64_t border = 0;  // pixels around the image in x, residual, s and ds: the kernels must not touch them
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

int64_t mirror(int64_t i, int64_t size) { return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i; }

// n images of h x w pixels of c channels, each image with a border of pixels, each pixel with a margin of channels.
template <class T>
struct Map {
  int64_t n, h, w, c, border, margin;
  std::vector<T> data;

  Map(const Case& t, int64_t border, int64_t margin, float fill)
      : n(t.n), h(t.h), w(t.w), c(t.c), border(border), margin(margin) {
    data.assign(n * sample(), from_float<T>(fill));
  }
  int64_t ld() const { return c + 2 * margin; }
  int64_t line() const { return (w + 2 * border) * ld(); }
  int64_t sample() const { return (h + 2 * border) * line(); }
  Lines lines() const { return border > 0 ? Lines{line(), sample()} : Lines{}; }
  T& at(int64_t s, int64_t i, int64_t j, int64_t k) {
    return data[s * sample() + (i + border) * line() + (j + border) * ld() + margin + k];
  }
  T& at(int64_t row, int64_t k) { return at(row / (h * w), row / w % h, row % w, k); }
  double value(int64_t row, int64_t k) { return to_float(at(row, k)); }
  T* begin() { return &at(0, 0, 0, 0); }
  // Is everything but the image (with `pad` pixels around it) still NaN?
  bool surroundings_are_untouched(int64_t pad = 0) {
    for (int64_t e = 0; e < static_cast<int64_t>(data.size()); ++e) {
      const int64_t i = e % sample() / line() - border, j = e % line() / ld() - border, k = e % ld() - margin;
      const bool inside = i >= -pad && i < h + pad && j >= -pad && j < w + pad && k >= 0 && k < c;
      if (!inside && !std::isnan(to_float(data[e]))) return false;
    }
    return true;
  }
};

void report(const Case& t, const char* type, const char* what, double error, double bound) {
  const bool ok = error <= bound;  // false for NaN
  if (!ok) ++failures;
  std::printf("%-22s %-8s %-12s %.2e %s\n", t.name, type, what, error, ok ? "ok" : "FAILED");
}

void check(const char* what, bool good) {
  if (!good) ++failures;
  std::printf("%-44s %s\n", what, good ? "ok" : "FAILED");
}

double low(Act act, double slope, double u) {
  return act == Act::kNone ? u : act == Act::kRelu ? 0 : act == Act::kLeakyRelu ? slope * u : std::expm1(u);
}
double value_of(Act act, double slope, double u) { return u <= 0 ? low(act, slope, u) : u; }
double slope_at(Act act, double slope, double u) {
  if (u > 0) return 1;
  return act == Act::kNone ? 1 : act == Act::kRelu ? 0 : act == Act::kLeakyRelu ? slope : std::exp(u);
}

bool tickets_are_back() {
  for (const unsigned& ticket : tickets) {
    if (ticket != 0) return false;
  }
  return true;
}

// Returns the bits of what came out for the image, to be compared between layouts.
template <class T>
std::vector<float> run(const Case& t, const char* type) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const int64_t rows = t.n * t.h * t.w, c = t.c, group_rows = rows / t.groups;
  const double eps = 1e-5, slope = 0.2, momentum = 0.3;
  const int64_t rng[2] = {0x123456789ABCDEF, 42};
  const uint32_t stream = 3;

  // inputs: channel k has its own mean and spread, one of them far from zero
  Map<T> x(t, t.border, t.margin, nan), residual(t, t.border, 0, nan), dy(t, t.pad, 0, nan);
  Map<T> ds(t, t.border, t.margin, nan);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < c; ++k) {
      x.at(r, k) = from_float<T>(static_cast<float>(noise(r * c + k, 0) * (1 + k % 3) + (k % 5 == 4 ? 20 : 0.1 * k)));
      ds.at(r, k) = from_float<T>(static_cast<float>(noise(r * c + k, 2)));
      residual.at(r, k) = from_float<T>(static_cast<float>(noise(r * c + k, 8)));
    }
  }
  for (size_t e = 0; e < dy.data.size(); ++e) dy.data[e] = from_float<T>(static_cast<float>(noise(e, 1)));
  std::vector<float> weight(c), bias(c), running_mean(c), running_var(c);
  for (int64_t k = 0; k < c; ++k) {
    weight[k] = static_cast<float>(1 + 0.5 * noise(k, 4));
    bias[k] = static_cast<float>(noise(k, 5));
    running_mean[k] = static_cast<float>(noise(k, 6));
    running_var[k] = static_cast<float>(1.5 + noise(k, 7));
  }

  // forward
  Map<T> y(t, t.pad, t.margin, nan), s(t, t.border, t.margin, nan), dx(t, 0, 0, nan), dresidual(t, t.border, 0, nan);
  std::vector<float> mean(t.groups * c, nan), rstd(t.groups * c, nan), dweight(c, nan), dbias(c, nan);
  std::vector<float> expect_mean = running_mean, expect_var = running_var;
  NormActShape shape{};
  shape.dtype = dtype<T>;
  shape.rows = rows;
  if (t.pad > 0 || t.border > 0 || t.sum) shape.height = t.h, shape.width = t.w;
  shape.channels = c;
  shape.pad = t.pad;
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
  const bool statistics = t.statistics != Statistics::kNone;

  NormActForward f{};
  static_cast<NormActShape&>(f) = shape;
  f.x = x.begin(), f.ld_x = x.ld(), f.lines_x = x.lines();
  f.residual = t.sum ? residual.begin() : nullptr, f.ld_residual = residual.ld(), f.lines_residual = residual.lines();
  f.y = y.begin(), f.ld_y = y.ld(), f.lines_y = y.lines();
  f.s = t.skip ? s.begin() : nullptr, f.ld_s = s.ld(), f.lines_s = s.lines();
  f.weight = t.affine ? weight.data() : nullptr, f.bias = t.affine ? bias.data() : nullptr;
  f.mean = statistics ? mean.data() : nullptr, f.rstd = statistics ? rstd.data() : nullptr;
  f.running_mean = t.running ? running_mean.data() : nullptr;
  f.running_var = t.running ? running_var.data() : nullptr;
  f.eps = eps, f.momentum = momentum;
  f.workspace = workspace.data();
  int status = norm_act_forward_cuda(f, nullptr);

  // backward
  NormActBackward b{};
  static_cast<NormActShape&>(b) = shape;
  b.x = x.begin(), b.ld_x = x.ld(), b.lines_x = x.lines();
  b.residual = f.residual, b.ld_residual = f.ld_residual, b.lines_residual = f.lines_residual;
  b.dy = dy.begin(), b.ld_dy = dy.ld(), b.lines_dy = dy.lines();
  b.ds = t.skip ? ds.begin() : nullptr, b.ld_ds = ds.ld(), b.lines_ds = ds.lines();
  b.dx = dx.begin(), b.ld_dx = dx.ld(), b.lines_dx = dx.lines();
  b.dresidual = t.sum ? dresidual.begin() : nullptr, b.ld_dresidual = dresidual.ld(),
  b.lines_dresidual = dresidual.lines();
  b.weight = f.weight, b.bias = f.bias, b.mean = f.mean, b.rstd = f.rstd;
  b.dweight = t.affine ? dweight.data() : nullptr, b.dbias = t.affine ? dbias.data() : nullptr;
  b.workspace = workspace.data();
  status |= norm_act_backward_cuda(b, nullptr);
  report(t, type, "launch", status, 0);

  // the same in double
  double error_y = 0, error_s = 0, error_dx = 0, error_dr = 0, error_dw = 0, error_db = 0, error_running = 0;
  std::vector<double> all_dw(c, 0.0), all_db(c, 0.0), du(group_rows), g(group_rows), x_hat(group_rows);
  const auto worst = [](double& error, double got, double want, double scale) {
    const double e = std::abs(got - want) / scale;
    if (!(e <= error)) error = e;  // a NaN stays
  };
  std::vector<double> folded(rows * c, 0.0);
  for (int64_t n = 0; n < t.n; ++n) {
    for (int64_t i = -t.pad; i < t.h + t.pad; ++i) {
      for (int64_t j = -t.pad; j < t.w + t.pad; ++j) {
        const int64_t row = (n * t.h + mirror(i, t.h)) * t.w + mirror(j, t.w);
        for (int64_t k = 0; k < c; ++k) folded[row * c + k] += to_float(dy.at(n, i, j, k));
      }
    }
  }
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
          const double word = philox_quad(rng, stream, element / 4).word[element % 4] * 0x1p-32;
          keep = word < t.dropout_p ? 0 : 1 / (1 - t.dropout_p);
        }
        x_hat[r] = (x.value(row0 + r, k) - mu) * inv;
        const double u = keep * (x_hat[r] * w + shift) + (t.sum ? residual.value(row0 + r, k) : 0);
        du[r] = folded[(row0 + r) * c + k] * slope_at(t.act, slope, u);
        if (t.skip) du[r] += ds.value(row0 + r, k) * slope_at(t.skip_act, slope, u);
        g[r] = keep * du[r];
        sum_g += g[r];
        sum_gx += g[r] * x_hat[r];
        const double want_y = value_of(t.act, slope, u), want_s = value_of(t.skip_act, slope, u);
        worst(error_y, y.value(row0 + r, k), want_y, std::max(1.0, std::abs(want_y)));
        if (t.skip) worst(error_s, s.value(row0 + r, k), want_s, std::max(1.0, std::abs(want_s)));
        if (t.sum) worst(error_dr, dresidual.value(row0 + r, k), du[r], std::max(1.0, std::abs(du[r])));
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
  // reflections are the very numbers of the image
  bool reflected = true;
  for (int64_t n = 0; n < t.n; ++n) {
    for (int64_t i = -t.pad; i < t.h + t.pad; ++i) {
      for (int64_t j = -t.pad; j < t.w + t.pad; ++j) {
        for (int64_t k = 0; k < c; ++k) {
          const float here = to_float(y.at(n, i, j, k));
          reflected = reflected && here == to_float(y.at(n, mirror(i, t.h), mirror(j, t.w), k));
        }
      }
    }
  }
  report(t, type, "y", error_y, epsilon<T>);
  if (t.pad > 0) report(t, type, "reflections", reflected ? 0 : 1, 0);
  if (t.skip) report(t, type, "s", error_s, epsilon<T>);
  report(t, type, "dx", error_dx, epsilon<T> * (t.pad > 0 ? 4 : 1));
  if (t.sum) report(t, type, "dresidual", error_dr, epsilon<T>);
  if (t.affine) report(t, type, "dweight", error_dw, 2e-5 * (t.pad > 0 ? 4 : 1));
  if (t.affine) report(t, type, "dbias", error_db, 2e-5 * (t.pad > 0 ? 4 : 1));
  if (t.running) report(t, type, "running", error_running, 1e-6);
  const bool clean = y.surroundings_are_untouched(t.pad) && s.surroundings_are_untouched() &&
                     dresidual.surroundings_are_untouched() && tickets_are_back();
  report(t, type, "clean", clean ? 0 : 1, 0);

  std::vector<float> bits = dweight;
  bits.insert(bits.end(), dbias.begin(), dbias.end());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t k = 0; k < c; ++k) {
      for (Map<T>* map : {&y, &s, &dx}) bits.push_back(to_float(map->at(r, k)));
    }
  }
  return bits;
}

// The gradient of the residual alone: no sums, and dx stays what it was.
void run_residual_alone() {
  const Case t{"residual alone", 1,          5,     4,     8,     1, 0, Statistics::kBatch,
               Act::kRelu,       Act::kNone, false, false, false, 0, 1, true};
  Map<float> x(t, 0, 0, 0.5f), residual(t, 0, 0, -1.f), dy(t, 1, 0, 1.f), dresidual(t, 0, 0, 7.f);
  residual.at(0, 1, 1, 2) = 3.f;  // the one place where relu lets the gradient of four pixels through
  std::vector<float> mean(8, 0.5f), rstd(8, 1.f);
  NormActBackward b{};
  b.rows = 20, b.height = 5, b.width = 4, b.channels = 8, b.groups = 1, b.pad = 1;
  b.statistics = Statistics::kBatch;
  b.act = Act::kRelu;
  b.x = x.begin(), b.ld_x = x.ld(), b.lines_x = x.lines(), b.dy = dy.begin(), b.ld_dy = dy.ld(),
  b.lines_dy = dy.lines();
  b.residual = residual.begin(), b.ld_residual = residual.ld(), b.lines_residual = residual.lines();
  b.dresidual = dresidual.begin(), b.ld_dresidual = dresidual.ld(), b.lines_dresidual = dresidual.lines();
  b.mean = mean.data(), b.rstd = rstd.data();
  bool right = norm_act_backward_cuda(b, nullptr) == 0;
  for (int64_t r = 0; r < 20; ++r) {
    for (int64_t k = 0; k < 8; ++k) right = right && dresidual.at(r, k) == (r == 5 && k == 2 ? 4.f : 0.f);
  }
  check("the gradient of the residual alone", right);
}

void run_dividers() {
  bool right = true;
  for (const int64_t d : {1, 2, 3, 5, 7, 64, 100, 255, 256, 641, 65537, 1 << 30, (1 << 30) + 1, 0x7FFFFFFF}) {
    const Divider divider(d);
    for (const int64_t q : {0, 1, 2, 77, 4095, 1 << 20, 0x7FFFFFFF}) {
      for (const int64_t n : {q * d - 1, q * d, q * d + 1}) {
        if (n >= 0 && n <= 0x7FFFFFFF) right = right && divider.quotient(static_cast<uint32_t>(n)) == n / d;
      }
    }
  }
  check("division by multiplication", right);
}

void run_tickets() {
  bool right = true;
  unsigned end = 0;
  for (int draw = 0; draw < 40; ++draw) {
    const unsigned count = draw % 3 == 0 ? 1 : 20000 + draw;
    const unsigned first = next_tickets(nullptr, count);
    right = right && first + count <= kTickets / 2 && (first == 0 || draw == 0 || first == end);
    end = first + count;
  }
  check("tickets in one piece, in turn", right);
}

template <class T>
void run_layouts(Case t, const char* type) {
  std::vector<float> bits[2];
  for (int which = 0; which < 2; ++which) {
    t.border = which;
    t.margin = which * 16 / sizeof(T);
    bits[which] = run<T>(t, type);
  }
  check("the layout does not change a bit", std::memcmp(bits[0].data(), bits[1].data(), bits[0].size() * 4) == 0);
}

}  // namespace

int main() {
  using enum Act;
  const Case cases[] = {
      // one block of a group does all; 16-byte path with a ragged tile of channels
      {"batch", 1, 8, 5, 72, 1, 0, Statistics::kBatch, kLeakyRelu, kRelu, true, true, true, 0},
      {"batch, one value", 1, 1, 1, 8, 1, 0, Statistics::kBatch, kRelu, kNone, false, true, true, 0},
      {"instance", 3, 5, 5, 16, 3, 8, Statistics::kBatch, kElu, kNone, true, true, false, 0},
      // several blocks share a group, several groups share the parameters
      {"batch, split", 1, 26, 20, 24, 1, 8, Statistics::kBatch, kRelu, kElu, true, true, true, 0.5},
      {"groups, split", 2, 2, 257, 8, 2, 0, Statistics::kBatch, kLeakyRelu, kNone, false, true, true, 0},
      // channels or pitches that 16 bytes do not divide
      {"odd channels", 2, 3, 7, 35, 2, 3, Statistics::kBatch, kLeakyRelu, kRelu, true, true, true, 0.3},
      {"odd channels, split", 1, 26, 20, 3, 1, 1, Statistics::kBatch, kRelu, kNone, false, false, false, 0},
      {"running", 1, 8, 5, 16, 1, 0, Statistics::kRunning, kLeakyRelu, kRelu, true, true, true, 0},
      {"none", 2, 5, 10, 16, 1, 0, Statistics::kNone, kLeakyRelu, kNone, false, true, false, 0.1},
      {"none, no affine", 1, 3, 3, 5, 1, 0, Statistics::kNone, kRelu, kElu, true, false, false, 0},
      // a block of a ResNet: stored with reflections; the sum, whose residual is the interior of a padded map
      {"reflected", 2, 9, 7, 16, 2, 0, Statistics::kBatch, kRelu, kNone, false, false, false, 0, 1},
      {"sum, reflected", 2, 27, 20, 8, 2, 0, Statistics::kBatch, kNone, kNone, true, false, false, 0, 1, true, 1},
      // every pixel has reflections, both masks need the residual, everything at once
      {"smallest map", 2, 4, 4, 16, 2, 8, Statistics::kBatch, kLeakyRelu, kElu, true, true, true, 0.4, 3, true, 2},
      {"sum, odd channels", 2, 5, 4, 3, 2, 1, Statistics::kBatch, kRelu, kLeakyRelu, true, true, false, 0.2, 2, true,
       1},
      {"running, reflected", 1, 4, 6, 8, 1, 0, Statistics::kRunning, kElu, kNone, false, true, true, 0, 2, true},
      {"sum alone", 3, 5, 4, 8, 1, 0, Statistics::kNone, kRelu, kNone, true, false, false, 0, 0, true},
  };
  for (const Case& t : cases) run<float>(t, "float32");
  for (const int i : {0, 3, 5, 11, 12}) run<bfloat16>(cases[i], "bfloat16");
  for (const int i : {0, 12}) run<half>(cases[i], "float16");
  run_layouts<float>(cases[3], "float32");
  run_layouts<bfloat16>(cases[4], "bfloat16");
  run_residual_alone();
  run_dividers();
  run_tickets();
  return failures;
}

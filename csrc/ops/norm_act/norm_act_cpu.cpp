// The CPU twin of norm_act (norm_act.h): the same numbers from loops over rows of channels.
//
// A row is handled as a few short loops over its channels, each of which the compiler turns into vector instructions;
// what passes between them (u, g) is one row long and stays in the L1 cache. Rows are cut into blocks by the shape
// alone and block sums are added in order, so the result is the same for any number of threads.
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "common/philox.h"
#include "norm_act.h"

// Compiled once for every x86-64 machine and once more for those with AVX2 and AVX-512; the loader picks.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define PYGAN_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define PYGAN_CLONES
#endif
#define PYGAN_INLINE inline __attribute__((always_inline))  // into each clone

namespace pygan {
namespace {

constexpr int64_t kBlockElements = 1 << 15;  // of one block of rows
constexpr int64_t kMaxBlocks = 64;           // in a group
constexpr int64_t kRowsPerRun = 64;          // rows added in float before the sum goes on in double

struct BFloat16 {
  uint16_t bits;
};

PYGAN_INLINE float to_compute(float v) { return v; }
PYGAN_INLINE double to_compute(double v) { return v; }
PYGAN_INLINE float to_compute(BFloat16 v) {
  const uint32_t bits = static_cast<uint32_t>(v.bits) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

PYGAN_INLINE void store(float* to, float v) { *to = v; }
PYGAN_INLINE void store(double* to, double v) { *to = v; }
PYGAN_INLINE void store(BFloat16* to, float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  to->bits = static_cast<uint16_t>(v != v ? 0x7FC0 : rounded);
}

// R is what a T is computed in, and the type of its parameters and statistics.
template <class T>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t blocks_of_group(const NormActShape& s) {
  return std::clamp(s.rows / s.groups * s.channels / kBlockElements, int64_t{1}, kMaxBlocks);
}

// f(group, block, first row, last row) for every block of rows of every group, in parallel where that pays.
template <class F>
void for_each_block(const NormActShape& s, const F& f) {
  const int64_t rows = s.rows / s.groups, blocks = blocks_of_group(s), rows_per_block = ceil_div(rows, blocks);
  const int64_t grain = std::max(int64_t{1}, kBlockElements / (rows_per_block * s.channels));
  torch::stable::parallel_for(0, s.groups * blocks, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = std::min(rows, i % blocks * rows_per_block);
      f(i / blocks, i % blocks, first, std::min(rows, first + rows_per_block));
    }
  });
}

// --- one row --------------------------------------------------------------------------------------------------------

// The per-channel numbers of one group: z = (x - mean) * scale + shift, scale = rstd * weight.
template <class R>
struct Affine {
  std::vector<R> mean, scale, shift;

  Affine(const NormActShape& s, const void* mean_, const void* rstd_, const void* weight_, const void* bias_,
         int64_t group)
      : mean(s.channels, R(0)), scale(s.channels, R(1)), shift(s.channels, R(0)) {
    const R *m = static_cast<const R*>(mean_), *r = static_cast<const R*>(rstd_);
    const R *w = static_cast<const R*>(weight_), *b = static_cast<const R*>(bias_);
    for (int64_t k = 0; k < s.channels; ++k) {
      if (m) mean[k] = m[group * s.channels + k];
      if (r) scale[k] = r[group * s.channels + k];
      if (w) scale[k] *= w[k];
      if (b) shift[k] = b[k];
    }
  }
};

// keep[k]: 0 where element (row, k) is dropped, 1 / (1 - p) where it is kept.
template <class R>
PYGAN_INLINE void load_keep(const NormActShape& s, int64_t row, R* keep) {
  const Dropout& drop = s.dropout;
  for (int64_t k = 0; k < s.channels;) {
    const uint64_t element = static_cast<uint64_t>(row * s.channels + k);  // of the packed NHWC tensor
    const PhiloxWords w = philox_quad(drop.rng, drop.stream, element / 4);
    for (uint64_t i = element % 4; i < 4 && k < s.channels; ++i, ++k) {
      keep[k] = w.word[i] <= drop.last_dropped ? R(0) : R(drop.keep_scale);
    }
  }
}

template <class R>
PYGAN_INLINE R slope_of(Act act, double slope) {
  return act == Act::kNone ? R(1) : act == Act::kLeakyRelu ? R(slope) : R(0);
}

// out = act(u). Written as u <= 0 ? low : u, so that a NaN stays; a slope of 0 stores 0, so that ReLU(-inf) is 0.
template <class T, class R>
PYGAN_INLINE void activate(Act act, double slope, const R* __restrict u, T* __restrict out, int64_t n) {
  const R a = slope_of<R>(act, slope);
  if (act == Act::kNone) {
    for (int64_t k = 0; k < n; ++k) store(out + k, u[k]);
  } else if (act == Act::kElu) {
    for (int64_t k = 0; k < n; ++k) store(out + k, u[k] <= R(0) ? std::expm1(u[k]) : u[k]);
  } else if (a == R(0)) {
    for (int64_t k = 0; k < n; ++k) store(out + k, u[k] <= R(0) ? R(0) : u[k]);
  } else {
    for (int64_t k = 0; k < n; ++k) store(out + k, u[k] <= R(0) ? a * u[k] : u[k]);
  }
}

// g = or += act'(u) * dy
template <bool kAdd, class T, class R>
PYGAN_INLINE void add_gradient(Act act, double slope, const R* __restrict u, const T* __restrict dy, R* __restrict g,
                               int64_t n) {
  const R a = slope_of<R>(act, slope);
  if (act == Act::kElu) {
    for (int64_t k = 0; k < n; ++k) {
      const R v = to_compute(dy[k]) * (u[k] <= R(0) ? std::exp(u[k]) : R(1));
      g[k] = kAdd ? g[k] + v : v;
    }
  } else {
    for (int64_t k = 0; k < n; ++k) {
      const R v = to_compute(dy[k]) * (u[k] <= R(0) ? a : R(1));
      g[k] = kAdd ? g[k] + v : v;
    }
  }
}

// A row, and its line and pixel where the tensor knows them.
struct Place {
  int64_t row, sample = 0, line = 0, pixel = 0;

  Place(const NormActShape& s, int64_t row) : row(row) {
    if (s.width == 0) return;
    // 32 bits hold a row, and divide in half the time of 64.
    const uint32_t width = static_cast<uint32_t>(s.width), height = static_cast<uint32_t>(s.height);
    const uint32_t lines = static_cast<uint32_t>(row) / width;
    pixel = static_cast<uint32_t>(row) - lines * width;
    sample = lines / height;
    line = lines - sample * height;
  }
};

template <class T>
const T* row_of(const void* data, int64_t ld, const Lines& lines, const Place& at) {
  if (data == nullptr) return nullptr;
  const bool flat = lines.line == 0;
  return static_cast<const T*>(data) +
         (flat ? at.row * ld : at.sample * lines.sample + at.line * lines.line + at.pixel * ld);
}

template <class T>
T* row_of(void* data, int64_t ld, const Lines& lines, const Place& at) {
  return const_cast<T*>(row_of<T>(static_cast<const void*>(data), ld, lines, at));
}

// f(line) for `line` of an image and every line of the padding that mirrors it; likewise for pixels of a line.
template <class F>
PYGAN_INLINE void for_each_mirrored(int64_t line, int64_t size, int64_t pad, const F& f) {
  f(line);
  if (line > 0 && line <= pad) f(-line);
  const int64_t last = size - 1;
  if (line < last && last - line <= pad) f(last + (last - line));
}

// --- rows: each of these is one vectorised function -----------------------------------------------------------------

// total[0..c) and total[c..2c) = sums of (x - x0) and (x - x0)^2, x0 the group's first row.
template <class T>
PYGAN_CLONES void sum_shifted(const NormActForward& a, int64_t group, int64_t first, int64_t last, double* total) {
  using R = Compute<T>;
  const int64_t n = a.channels, row0 = group * (a.rows / a.groups);
  std::vector<R> scratch(3 * n);
  R* __restrict x0 = scratch.data(), * __restrict sum = x0 + n, * __restrict square = sum + n;
  const T* origin = row_of<T>(a.x, a.ld_x, a.lines_x, Place(a, row0));
  for (int64_t k = 0; k < n; ++k) x0[k] = to_compute(origin[k]);
  std::fill_n(total, 2 * n, 0.0);
  for (int64_t r = first; r < last;) {
    std::fill_n(sum, n, R(0));
    std::fill_n(square, n, R(0));
    for (const int64_t run = std::min(last, r + kRowsPerRun); r < run; ++r) {
      const T* __restrict x = row_of<T>(a.x, a.ld_x, a.lines_x, Place(a, row0 + r));
      for (int64_t k = 0; k < n; ++k) {
        const R d = to_compute(x[k]) - x0[k];
        sum[k] += d;
        square[k] += d * d;
      }
    }
    for (int64_t k = 0; k < n; ++k) total[k] += sum[k];
    for (int64_t k = 0; k < n; ++k) total[n + k] += square[k];
  }
}

// load, normalise, drop, add, activate, store
template <class T>
PYGAN_CLONES void apply_forward(const NormActForward& a, const Affine<Compute<T>>& p, int64_t group, int64_t first,
                                int64_t last) {
  using R = Compute<T>;
  const int64_t n = a.channels, row0 = group * (a.rows / a.groups);
  const R* __restrict mean = p.mean.data(), * __restrict scale = p.scale.data(), * __restrict shift = p.shift.data();
  std::vector<R> scratch(2 * n);
  R* __restrict u = scratch.data(), * __restrict keep = u + n;
  for (int64_t m = row0 + first; m < row0 + last; ++m) {
    const Place at(a, m);
    const T* __restrict x = row_of<T>(a.x, a.ld_x, a.lines_x, at);
    for (int64_t k = 0; k < n; ++k) u[k] = (to_compute(x[k]) - mean[k]) * scale[k] + shift[k];
    if (a.dropout.rng) {
      load_keep(a, m, keep);
      for (int64_t k = 0; k < n; ++k) u[k] *= keep[k];
    }
    if (a.residual) {
      const T* __restrict residual = row_of<T>(a.residual, a.ld_residual, a.lines_residual, at);
      for (int64_t k = 0; k < n; ++k) u[k] += to_compute(residual[k]);
    }
    T* y = row_of<T>(a.y, a.ld_y, a.lines_y, at);
    activate(a.act, a.slope, u, y, n);
    if (a.pad > 0) {
      for_each_mirrored(at.line, a.height, a.pad, [&](int64_t line) {
        for_each_mirrored(at.pixel, a.width, a.pad, [&](int64_t pixel) {
          T* to = y + (line - at.line) * a.lines_y.line + (pixel - at.pixel) * a.ld_y;
          if (to != y) std::copy_n(y, n, to);
        });
      });
    }
    if (a.s) activate(a.skip_act, a.slope, u, row_of<T>(a.s, a.ld_s, a.lines_s, at), n);
  }
}

// For one row: du, the gradient of u. Returns that of (x - mean) * scale + shift, which is du or lies in g.
template <class T, class R>
PYGAN_INLINE const R* load_gradient(const NormActBackward& a, const Affine<R>& p, int64_t m, R* __restrict u,
                                    R* __restrict keep, R* __restrict folded, R* __restrict du, R* __restrict g) {
  const int64_t n = a.channels;
  const Place at(a, m);
  const R* __restrict mean = p.mean.data(), * __restrict scale = p.scale.data(), * __restrict shift = p.shift.data();
  const T* __restrict x = row_of<T>(a.x, a.ld_x, a.lines_x, at);
  const T *dy = row_of<T>(a.dy, a.ld_dy, a.lines_dy, at), *ds = row_of<T>(a.ds, a.ld_ds, a.lines_ds, at);
  for (int64_t k = 0; k < n; ++k) u[k] = (to_compute(x[k]) - mean[k]) * scale[k] + shift[k];
  if (a.dropout.rng) {
    load_keep(a, m, keep);
    for (int64_t k = 0; k < n; ++k) u[k] *= keep[k];
  }
  if (a.residual) {
    const T* __restrict residual = row_of<T>(a.residual, a.ld_residual, a.lines_residual, at);
    for (int64_t k = 0; k < n; ++k) u[k] += to_compute(residual[k]);
  }
  if (dy && a.pad > 0) {
    std::fill_n(folded, n, R(0));
    for_each_mirrored(at.line, a.height, a.pad, [&](int64_t line) {
      for_each_mirrored(at.pixel, a.width, a.pad, [&](int64_t pixel) {
        const T* __restrict from = dy + (line - at.line) * a.lines_dy.line + (pixel - at.pixel) * a.ld_dy;
        for (int64_t k = 0; k < n; ++k) folded[k] += to_compute(from[k]);
      });
    });
    add_gradient<false>(a.act, a.slope, u, folded, du, n);
  } else if (dy) {
    add_gradient<false>(a.act, a.slope, u, dy, du, n);
  } else {
    std::fill_n(du, n, R(0));
  }
  if (ds) add_gradient<true>(a.skip_act, a.slope, u, ds, du, n);
  if (a.dropout.rng == nullptr) return du;
  for (int64_t k = 0; k < n; ++k) g[k] = du[k] * keep[k];
  return g;
}

// total[0..c) and total[c..2c) = sums of g and g * (x - mean)
template <class T>
PYGAN_CLONES void sum_gradient(const NormActBackward& a, const Affine<Compute<T>>& p, int64_t group, int64_t first,
                               int64_t last, double* total) {
  using R = Compute<T>;
  const int64_t n = a.channels, row0 = group * (a.rows / a.groups);
  const R* __restrict mean = p.mean.data();
  std::vector<R> scratch(7 * n);
  R* __restrict u = scratch.data(), * __restrict keep = u + n, * __restrict folded = keep + n;
  R* __restrict du = folded + n, * __restrict g = du + n, * __restrict sum = g + n, * __restrict product = sum + n;
  std::fill_n(total, 2 * n, 0.0);
  for (int64_t r = first; r < last;) {
    std::fill_n(sum, n, R(0));
    std::fill_n(product, n, R(0));
    for (const int64_t run = std::min(last, r + kRowsPerRun); r < run; ++r) {
      const T* __restrict x = row_of<T>(a.x, a.ld_x, a.lines_x, Place(a, row0 + r));
      const R* __restrict gradient = load_gradient<T, R>(a, p, row0 + r, u, keep, folded, du, g);
      for (int64_t k = 0; k < n; ++k) {
        sum[k] += gradient[k];
        product[k] += gradient[k] * (to_compute(x[k]) - mean[k]);
      }
    }
    for (int64_t k = 0; k < n; ++k) total[k] += sum[k];
    for (int64_t k = 0; k < n; ++k) total[n + k] += product[k];
  }
}

// dresidual = du, and dx = scale * (g - mean_g - (x - mean) * slope_g), or scale * g without batch statistics
template <class T>
PYGAN_CLONES void apply_backward(const NormActBackward& a, const Affine<Compute<T>>& p,
                                 const Compute<T>* __restrict mean_g, const Compute<T>* __restrict slope_g,
                                 int64_t group, int64_t first, int64_t last) {
  using R = Compute<T>;
  const int64_t n = a.channels, row0 = group * (a.rows / a.groups);
  const R* __restrict mean = p.mean.data(), * __restrict scale = p.scale.data();
  std::vector<R> scratch(5 * n);
  R* __restrict u = scratch.data(), * __restrict keep = u + n, * __restrict folded = keep + n;
  R* __restrict du = folded + n, * __restrict g = du + n;
  for (int64_t m = row0 + first; m < row0 + last; ++m) {
    const Place at(a, m);
    const T* __restrict x = row_of<T>(a.x, a.ld_x, a.lines_x, at);
    const R* __restrict gradient = load_gradient<T, R>(a, p, m, u, keep, folded, du, g);
    if (T* __restrict dresidual = row_of<T>(a.dresidual, a.ld_dresidual, a.lines_dresidual, at)) {
      for (int64_t k = 0; k < n; ++k) store(dresidual + k, du[k]);
    }
    T* __restrict dx = row_of<T>(a.dx, a.ld_dx, a.lines_dx, at);
    if (dx == nullptr) continue;
    if (a.statistics == Statistics::kBatch) {
      for (int64_t k = 0; k < n; ++k) {
        store(dx + k, scale[k] * (gradient[k] - mean_g[k] - (to_compute(x[k]) - mean[k]) * slope_g[k]));
      }
    } else {
      for (int64_t k = 0; k < n; ++k) store(dx + k, scale[k] * gradient[k]);
    }
  }
}

// --- whole tensors --------------------------------------------------------------------------------------------------

// (groups, 2, c): block sums added in the order of the blocks.
std::vector<double> add_blocks(const NormActShape& s, const std::vector<double>& partial) {
  const int64_t blocks = blocks_of_group(s), n = 2 * s.channels;
  std::vector<double> total(s.groups * n, 0.0);
  for (int64_t i = 0; i < s.groups * blocks; ++i) {
    for (int64_t k = 0; k < n; ++k) total[i / blocks * n + k] += partial[i * n + k];
  }
  return total;
}

// mean and rstd of every group from its sums; running statistics group after group.
template <class T>
void batch_statistics(const NormActForward& a) {
  using R = Compute<T>;
  const int64_t n = a.channels, rows = (a.rows / a.groups), blocks = blocks_of_group(a);
  std::vector<double> partial(a.groups * blocks * 2 * n);
  for_each_block(a, [&](int64_t group, int64_t block, int64_t first, int64_t last) {
    sum_shifted<T>(a, group, first, last, &partial[(group * blocks + block) * 2 * n]);
  });
  const std::vector<double> total = add_blocks(a, partial);
  R *mean = static_cast<R*>(a.mean), *rstd = static_cast<R*>(a.rstd);
  R *running_mean = static_cast<R*>(a.running_mean), *running_var = static_cast<R*>(a.running_var);
  const R momentum = static_cast<R>(a.momentum), rest = static_cast<R>(1 - a.momentum);
  for (int64_t g = 0; g < a.groups; ++g) {
    const T* x0 = row_of<T>(a.x, a.ld_x, a.lines_x, Place(a, g * rows));
    for (int64_t k = 0; k < n; ++k) {
      const double shift = total[g * 2 * n + k] / rows;
      double var = total[g * 2 * n + n + k] / rows - shift * shift;
      if (var < 0) var = 0;  // rounding; a NaN stays
      mean[g * n + k] = static_cast<R>(to_compute(x0[k]) + shift);
      rstd[g * n + k] = static_cast<R>(1 / std::sqrt(var + a.eps));
      if (running_mean == nullptr) continue;
      const double unbiased = rows > 1 ? var * rows / (rows - 1) : var;
      running_mean[k] = rest * running_mean[k] + momentum * mean[g * n + k];
      running_var[k] = rest * running_var[k] + momentum * static_cast<R>(unbiased);
    }
  }
}

template <class T>
void forward(const NormActForward& a) {
  using R = Compute<T>;
  if (a.statistics == Statistics::kBatch) batch_statistics<T>(a);
  if (a.statistics == Statistics::kRunning) {
    for (int64_t k = 0; k < a.channels; ++k) {
      static_cast<R*>(a.mean)[k] = static_cast<const R*>(a.running_mean)[k];
      static_cast<R*>(a.rstd)[k] = R(1) / std::sqrt(static_cast<const R*>(a.running_var)[k] + R(a.eps));
    }
  }
  std::vector<Affine<R>> affine;
  for (int64_t g = 0; g < a.groups; ++g) affine.emplace_back(a, a.mean, a.rstd, a.weight, a.bias, g);
  for_each_block(a, [&](int64_t group, int64_t, int64_t first, int64_t last) {
    apply_forward<T>(a, affine[group], group, first, last);
  });
}

template <class T>
void backward(const NormActBackward& a) {
  using R = Compute<T>;
  const int64_t n = a.channels, rows = (a.rows / a.groups), blocks = blocks_of_group(a);
  const bool batch = a.statistics == Statistics::kBatch;
  std::vector<Affine<R>> affine;
  for (int64_t g = 0; g < a.groups; ++g) affine.emplace_back(a, a.mean, a.rstd, a.weight, a.bias, g);

  // sums of g and g * (x - mean) for every group, and of them dbias, dweight and what dx needs
  std::vector<R> mean_g(a.groups * n, R(0)), slope_g(a.groups * n, R(0));
  if ((a.dx && batch) || a.dweight || a.dbias) {
    std::vector<double> partial(a.groups * blocks * 2 * n);
    for_each_block(a, [&](int64_t group, int64_t block, int64_t first, int64_t last) {
      sum_gradient<T>(a, affine[group], group, first, last, &partial[(group * blocks + block) * 2 * n]);
    });
    const std::vector<double> total = add_blocks(a, partial);
    for (int64_t k = 0; k < n; ++k) {
      double dbias = 0, dweight = 0;
      for (int64_t g = 0; g < a.groups; ++g) {
        const double rstd = a.rstd ? static_cast<const R*>(a.rstd)[g * n + k] : 1.0;
        const double sum = total[g * 2 * n + k], sum_xhat = total[g * 2 * n + n + k] * rstd;
        dbias += sum;
        dweight += sum_xhat;
        if (!batch) continue;
        mean_g[g * n + k] = static_cast<R>(sum / rows);
        slope_g[g * n + k] = static_cast<R>(sum_xhat * rstd / rows);
      }
      if (a.dbias) static_cast<R*>(a.dbias)[k] = static_cast<R>(dbias);
      if (a.dweight) static_cast<R*>(a.dweight)[k] = static_cast<R>(dweight);
    }
  }
  if (a.dx == nullptr && a.dresidual == nullptr) return;
  for_each_block(a, [&](int64_t group, int64_t, int64_t first, int64_t last) {
    apply_backward<T>(a, affine[group], &mean_g[group * n], &slope_g[group * n], group, first, last);
  });
}

}  // namespace

void norm_act_forward_cpu(const NormActForward& a) {
  switch (a.dtype) {
    case Dtype::kBFloat16:
      return forward<BFloat16>(a);
    case Dtype::kFloat64:
      return forward<double>(a);
    default:
      return forward<float>(a);
  }
}

void norm_act_backward_cpu(const NormActBackward& a) {
  switch (a.dtype) {
    case Dtype::kBFloat16:
      return backward<BFloat16>(a);
    case Dtype::kFloat64:
      return backward<double>(a);
    default:
      return backward<float>(a);
  }
}

}  // namespace pygan

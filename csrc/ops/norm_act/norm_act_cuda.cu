// The kernels of norm_act (norm_act.h). A block owns a tile of channels and a range of rows of one statistic group; a
// thread owns V neighbouring channels (16 bytes) and strides over the rows, so per-channel numbers stay in registers.
//
//   reduce   sums per channel over a group: partial sums per block, the last block of the group adds them in order
//   apply    one pass over the rows with the numbers that reduce left
// A group of at most kFusedRows rows is one block's: reduce goes on to apply in the same launch.
#include "common/cuda.h"
#include "common/philox.h"
#include "norm_act.h"

namespace pygan {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kFusedRows = 512;
constexpr int64_t kMinRowsPerSplit = 128;
constexpr int64_t kReduceBlocks = 512;  // aimed at; about four for each multiprocessor of a large GPU
constexpr int64_t kApplyBlocks = 1024;
constexpr int64_t kMaxRowsInFlight = 16;  // rows that one thread of apply visits

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks that share the rows of a group in reduce. A function of the group's shape and of nothing else, so that a
// group's sums are the same bits beside any number of others and on any GPU.
int64_t splits_of(const NormActShape& s) {
  const int64_t rows = s.rows / s.groups;
  if (rows <= kFusedRows) return 1;
  const int64_t by_rows = rows / kMinRowsPerSplit;
  const int64_t by_blocks = kReduceBlocks / ceil_div(s.channels, 64);
  const int64_t splits = by_rows < by_blocks ? by_rows : by_blocks;
  return splits > 1 ? splits : 1;
}

template <class T, int V>
struct Tile {
  static constexpr int kLanes = V > 1 ? 8 : 32;  // threads side by side along the channels
  static constexpr int kChannels = kLanes * V;
  static constexpr int kRows = kThreads / kLanes;      // rows visited at once
  static constexpr int kParts = kThreads / kChannels;  // threads per channel when partial sums are added
};

// --- activation: y = z where z > 0 (and where z is NaN), else slope * z, or expm1(z) for ELU ------------------------

struct Activation {
  float slope;
  bool elu;
};

__device__ __forceinline__ Activation activation(Act act, double slope) {
  return {act == Act::kNone ? 1.f : act == Act::kLeakyRelu ? static_cast<float>(slope) : 0.f, act == Act::kElu};
}

__device__ __forceinline__ float activate(Activation a, float z) {
  // A slope of 0 is a store of 0, not a product: ReLU(-inf) is 0.
  const float low = a.elu ? expm1f(z) : a.slope == 0.f ? 0.f : a.slope * z;
  return z <= 0.f ? low : z;
}

__device__ __forceinline__ float derivative(Activation a, float z) {
  return z <= 0.f ? (a.elu ? expf(z) : a.slope) : 1.f;
}

// --- what a thread knows of its V channels --------------------------------------------------------------------------

template <int V>
struct Affine {
  float mean[V], scale[V], shift[V];  // z = (x - mean) * scale + shift, scale = rstd * weight
};

__device__ __forceinline__ float at(const void* data, int64_t i) { return static_cast<const float*>(data)[i]; }

template <int V>
__device__ __forceinline__ Affine<V> load_affine(const NormActShape& s, const void* mean, const void* rstd,
                                                 const void* weight, const void* bias, int64_t group, int64_t c) {
  Affine<V> p;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const int64_t k = group * s.channels + c + i;
    p.mean[i] = mean ? at(mean, k) : 0.f;
    p.scale[i] = (rstd ? at(rstd, k) : 1.f) * (weight ? at(weight, c + i) : 1.f);
    p.shift[i] = bias ? at(bias, c + i) : 0.f;
  }
  return p;
}

template <class T, int V>
__device__ __forceinline__ Vec<T, V> load(const void* data, int64_t ld, int64_t row, int64_t c) {
  return *reinterpret_cast<const Vec<T, V>*>(static_cast<const T*>(data) + row * ld + c);
}

template <class T, int V>
__device__ __forceinline__ void store(void* data, int64_t ld, int64_t row, int64_t c, const Vec<T, V>& v) {
  store_vec(static_cast<T*>(data) + row * ld + c, v);
}

// Which of V neighbouring elements dropout keeps, a bit each (one register where V factors would be V), and their
// factor.
struct Keep {
  uint32_t bits;
  float scale;
  __device__ __forceinline__ float factor(int i) const { return bits >> i & 1 ? scale : 0.f; }
};

template <int V>
__device__ __forceinline__ Keep load_keep(const NormActShape& s, int64_t row, int64_t c) {
  if (s.dropout.rng == nullptr) return {~0u, 1.f};
  const uint64_t element = static_cast<uint64_t>(row * s.channels + c);  // of the packed NHWC tensor
  uint32_t bits = 0;
  if constexpr (V == 1) {
    const PhiloxWords w = philox_quad(s.dropout.rng, s.dropout.stream, element / 4);
    const uint32_t lane = element % 4;
    const uint32_t word = lane == 0 ? w.word[0] : lane == 1 ? w.word[1] : lane == 2 ? w.word[2] : w.word[3];
    bits = word > s.dropout.last_dropped;
  } else {
#pragma unroll
    for (int i = 0; i < V; i += 4) {
      const PhiloxWords w = philox_quad(s.dropout.rng, s.dropout.stream, element / 4 + i / 4);
#pragma unroll
      for (int k = 0; k < 4; ++k) bits |= static_cast<uint32_t>(w.word[k] > s.dropout.last_dropped) << (i + k);
    }
  }
  return {bits, static_cast<float>(s.dropout.keep_scale)};
}

// --- sums over a group ----------------------------------------------------------------------------------------------

// True in every thread of the last of `total` blocks to come here; what the others wrote before is then visible to it.
// The counter wraps to 0 with the last block, so a replayed graph finds it as the first run did.
__device__ __forceinline__ bool last_to_arrive(unsigned* counter, unsigned total) {
  PYGAN_SHARED(last, bool);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicInc(counter, total - 1) == total - 1;
  __syncthreads();
  __threadfence();
  return last;
}

// Adds a and b, V channels a thread, over the rows of the block and over the blocks of the group, in fixed order.
// True in the block that ends the group: there thread t < kChannels holds the sums of channel `first_channel + t`.
template <class T, int V>
__device__ __forceinline__ bool sum_over_group(const NormActShape& s, const float (&a)[V], const float (&b)[V],
                                               float* workspace, unsigned* counters, double& sum_a, double& sum_b) {
  using Tile = Tile<T, V>;
  PYGAN_SHARED(rows_a, float[Tile::kRows][Tile::kChannels + 1]);
  PYGAN_SHARED(rows_b, float[Tile::kRows][Tile::kChannels + 1]);
  PYGAN_SHARED(parts_a, double[Tile::kParts][Tile::kChannels]);
  PYGAN_SHARED(parts_b, double[Tile::kParts][Tile::kChannels]);
  const int lane = threadIdx.x % Tile::kLanes, row = threadIdx.x / Tile::kLanes;
  const int channel = threadIdx.x % Tile::kChannels, part = threadIdx.x / Tile::kChannels;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + channel;
  const int64_t group = blockIdx.z, splits = gridDim.y;

  // the block: one sum per channel, rows in order
#pragma unroll
  for (int i = 0; i < V; ++i) {
    rows_a[row][lane * V + i] = a[i];
    rows_b[row][lane * V + i] = b[i];
  }
  __syncthreads();
  float block_a = 0.f, block_b = 0.f;
  if (part == 0) {
    for (int k = 0; k < Tile::kRows; ++k) {
      block_a += rows_a[k][channel];
      block_b += rows_b[k][channel];
    }
  }
  sum_a = block_a;
  sum_b = block_b;
  if (splits == 1) return true;

  // the group: partial sums (groups, splits, 2, c), added by the last block in the order of the splits
  float* partial = workspace + group * splits * 2 * s.channels;
  if (part == 0 && c < s.channels) {
    partial[(blockIdx.y * 2 + 0) * s.channels + c] = block_a;
    partial[(blockIdx.y * 2 + 1) * s.channels + c] = block_b;
  }
  if (!last_to_arrive(counters + group * gridDim.x + blockIdx.x, gridDim.y)) return false;
  double part_a = 0, part_b = 0;
  if (c < s.channels) {
#pragma unroll 8
    for (int64_t k = part; k < splits; k += Tile::kParts) {
      part_a += __ldcg(partial + (k * 2 + 0) * s.channels + c);
      part_b += __ldcg(partial + (k * 2 + 1) * s.channels + c);
    }
  }
  parts_a[part][channel] = part_a;
  parts_b[part][channel] = part_b;
  __syncthreads();
  sum_a = sum_b = 0;
  if (part == 0) {
    for (int k = 0; k < Tile::kParts; ++k) {
      sum_a += parts_a[k][channel];
      sum_b += parts_b[k][channel];
    }
  }
  return true;
}

// Two (groups, c) tables behind the partial sums: what one block of a group leaves for other blocks.
__device__ __forceinline__ float* group_table(const NormActShape& s, float* workspace, int64_t splits, int which) {
  return workspace + s.groups * s.channels * (2 * splits + which);
}

// True in the block that ends the last group of this tile of channels.
__device__ __forceinline__ bool last_of_groups(const NormActShape& s, unsigned* counters) {
  return s.groups == 1 || last_to_arrive(counters + s.groups * gridDim.x + blockIdx.x, static_cast<unsigned>(s.groups));
}

// --- forward --------------------------------------------------------------------------------------------------------

// Rows [first, last) of a group: load, normalise, drop, activate, store.
template <class T, int V>
__device__ __forceinline__ void apply_forward(const NormActForward& a, int64_t group, int64_t first, int64_t last,
                                              int64_t c, int row) {
  const int64_t group_rows = a.rows / a.groups;
  Affine<V> p;
  if (a.statistics == Statistics::kRunning) {
    // Written for backward by the one thread that begins at the first row of all.
    const bool writes = group == 0 && first == 0 && row == 0;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float mean = at(a.running_mean, c + i);
      const float rstd = 1.f / sqrtf(at(a.running_var, c + i) + static_cast<float>(a.eps));
      p.mean[i] = mean;
      p.scale[i] = rstd * (a.weight ? at(a.weight, c + i) : 1.f);
      p.shift[i] = a.bias ? at(a.bias, c + i) : 0.f;
      if (writes) {
        static_cast<float*>(a.mean)[c + i] = mean;
        static_cast<float*>(a.rstd)[c + i] = rstd;
      }
    }
  } else {
    p = load_affine<V>(a, a.mean, a.rstd, a.weight, a.bias, group, c);
  }
  const Activation act = activation(a.act, a.slope), skip_act = activation(a.skip_act, a.slope);

#pragma unroll 2
  for (int64_t r = first + row; r < last; r += Tile<T, V>::kRows) {
    const int64_t m = group * group_rows + r;
    const Vec<T, V> x = load<T, V>(a.x, a.ld_x, m, c);
    const Keep keep = load_keep<V>(a, m, c);
    Vec<T, V> y, s;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float z = fmaf(to_float(x.v[i]) - p.mean[i], p.scale[i], p.shift[i]) * keep.factor(i);
      y.v[i] = from_float<T>(activate(act, z));
      s.v[i] = from_float<T>(activate(skip_act, z));
    }
    store<T, V>(a.y, a.ld_y, m, c, y);
    if (a.s) store<T, V>(a.s, a.ld_s, m, c, s);
  }
}

template <class T, int V>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 2) forward_apply(NormActForward a, int64_t rows_per_block) {
  using Tile = Tile<T, V>;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + threadIdx.x % Tile::kLanes * V;
  const int64_t group_rows = a.rows / a.groups, first = blockIdx.y * rows_per_block;
  const int64_t last = first + rows_per_block < group_rows ? first + rows_per_block : group_rows;
  if (c < a.channels) apply_forward<T, V>(a, blockIdx.z, first, last, c, threadIdx.x / Tile::kLanes);
}

// running = (1 - momentum) * running + momentum * new, with the unbiased variance.
__device__ __forceinline__ void update_running(const NormActForward& a, int64_t c, float mean, float unbiased_var) {
  float* running_mean = static_cast<float*>(a.running_mean) + c;
  float* running_var = static_cast<float*>(a.running_var) + c;
  const float m = static_cast<float>(a.momentum), rest = static_cast<float>(1 - a.momentum);
  *running_mean = rest * *running_mean + m * mean;
  *running_var = rest * *running_var + m * unbiased_var;
}

template <class T, int V>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 2) forward_reduce(NormActForward a, int64_t rows_per_split, bool fused) {
  using Tile = Tile<T, V>;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + threadIdx.x % Tile::kLanes * V;
  const int row = threadIdx.x / Tile::kLanes;
  const int64_t group = blockIdx.z, group_rows = a.rows / a.groups, first = blockIdx.y * rows_per_split;
  const int64_t last = first + rows_per_split < group_rows ? first + rows_per_split : group_rows;

  // sums of (x - x0) and (x - x0)^2, x0 the group's first row: no cancellation where the mean is large
  float sum[V] = {}, square[V] = {};
  if (c < a.channels) {
    const Vec<T, V> x0 = load<T, V>(a.x, a.ld_x, group * group_rows, c);
#pragma unroll 4
    for (int64_t r = first + row; r < last; r += Tile::kRows) {
      const Vec<T, V> x = load<T, V>(a.x, a.ld_x, group * group_rows + r, c);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const float d = to_float(x.v[i]) - to_float(x0.v[i]);
        sum[i] += d;
        square[i] = fmaf(d, d, square[i]);
      }
    }
  }
  double d0, d1;
  if (!sum_over_group<T, V>(a, sum, square, a.workspace, a.counters, d0, d1)) return;

  // mean and rstd of the group
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + threadIdx.x;
  const bool owner = threadIdx.x < Tile::kChannels && channel < a.channels;
  float* unbiased = group_table(a, a.workspace, gridDim.y, 0);
  if (owner) {
    const double n = static_cast<double>(group_rows);
    const double x0 = to_float(static_cast<const T*>(a.x)[group * group_rows * a.ld_x + channel]);
    const double shift = d0 / n;
    double var = d1 / n - shift * shift;
    if (var < 0) var = 0;  // rounding; a NaN stays
    static_cast<float*>(a.mean)[group * a.channels + channel] = static_cast<float>(x0 + shift);
    static_cast<float*>(a.rstd)[group * a.channels + channel] = static_cast<float>(1 / sqrt(var + a.eps));
    const double unbiased_var = group_rows > 1 ? var * (n / (n - 1)) : var;
    unbiased[group * a.channels + channel] = static_cast<float>(unbiased_var);
  }
  __syncthreads();
  if (fused && c < a.channels) apply_forward<T, V>(a, group, 0, group_rows, c, row);

  // running statistics, group after group
  if (a.running_mean == nullptr || !last_of_groups(a, a.counters)) return;
  if (owner) {
    for (int64_t g = 0; g < a.groups; ++g) {
      const int64_t k = g * a.channels + channel;
      update_running(a, channel, __ldcg(static_cast<const float*>(a.mean) + k), __ldcg(unbiased + k));
    }
  }
}

// --- backward -------------------------------------------------------------------------------------------------------

// One row: d = x - mean, g = the gradient of x_hat * weight + bias.
template <class T, int V>
__device__ __forceinline__ void load_gradient(const NormActBackward& a, const Affine<V>& p, Activation act,
                                              Activation skip_act, int64_t m, int64_t c, float (&d)[V], float (&g)[V]) {
  const Vec<T, V> x = load<T, V>(a.x, a.ld_x, m, c);
  Vec<T, V> dy, ds;
  if (a.dy) dy = load<T, V>(a.dy, a.ld_dy, m, c);
  if (a.ds) ds = load<T, V>(a.ds, a.ld_ds, m, c);
  const Keep keep = load_keep<V>(a, m, c);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    d[i] = to_float(x.v[i]) - p.mean[i];
    const float z = fmaf(d[i], p.scale[i], p.shift[i]) * keep.factor(i);  // as forward, to the bit: the same masks
    g[i] = 0.f;
    if (a.dy) g[i] = to_float(dy.v[i]) * derivative(act, z);
    if (a.ds) g[i] = fmaf(to_float(ds.v[i]), derivative(skip_act, z), g[i]);
    g[i] *= keep.factor(i);
  }
}

// Rows [first, last) of a group: dx = scale * (g - mean_g - d * slope_g), or scale * g without batch statistics.
// kUnroll rows are under way at once: two, or one inside reduce, whose registers are taken.
template <class T, int V, int kUnroll>
__device__ __forceinline__ void apply_backward(const NormActBackward& a, int64_t splits, int64_t group, int64_t first,
                                               int64_t last, int64_t c, int row) {
  const int64_t group_rows = a.rows / a.groups;
  const Affine<V> p = load_affine<V>(a, a.mean, a.rstd, a.weight, a.bias, group, c);
  const Activation act = activation(a.act, a.slope), skip_act = activation(a.skip_act, a.slope);
  const bool batch = a.statistics == Statistics::kBatch;
  float mean_g[V] = {}, slope_g[V] = {};
  if (batch) {
    const float* sum_g = group_table(a, a.workspace, splits, 0);
    const float* sum_gx = group_table(a, a.workspace, splits, 1);
    const float inv = 1.f / static_cast<float>(group_rows);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const int64_t k = group * a.channels + c + i;
      mean_g[i] = sum_g[k] * inv;
      slope_g[i] = sum_gx[k] * at(a.rstd, k) * inv;
    }
  }
#pragma unroll kUnroll
  for (int64_t r = first + row; r < last; r += Tile<T, V>::kRows) {
    const int64_t m = group * group_rows + r;
    float d[V], g[V];
    load_gradient<T, V>(a, p, act, skip_act, m, c, d, g);
    Vec<T, V> dx;
#pragma unroll
    for (int i = 0; i < V; ++i) {
      const float centred =
          batch ? g[i] - mean_g[i] - d[i] * slope_g[i] : g[i];  // an infinite d is not multiplied by 0
      dx.v[i] = from_float<T>(p.scale[i] * centred);
    }
    store<T, V>(a.dx, a.ld_dx, m, c, dx);
  }
}

template <class T, int V>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 2)
    backward_apply(NormActBackward a, int64_t splits, int64_t rows_per_block) {
  using Tile = Tile<T, V>;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + threadIdx.x % Tile::kLanes * V;
  const int64_t group_rows = a.rows / a.groups, first = blockIdx.y * rows_per_block;
  const int64_t last = first + rows_per_block < group_rows ? first + rows_per_block : group_rows;
  if (c < a.channels) apply_backward<T, V, 2>(a, splits, blockIdx.z, first, last, c, threadIdx.x / Tile::kLanes);
}

template <class T, int V>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 2)
    backward_reduce(NormActBackward a, int64_t rows_per_split, bool fused) {
  using Tile = Tile<T, V>;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + threadIdx.x % Tile::kLanes * V;
  const int row = threadIdx.x / Tile::kLanes;
  const int64_t group = blockIdx.z, group_rows = a.rows / a.groups, first = blockIdx.y * rows_per_split;
  const int64_t last = first + rows_per_split < group_rows ? first + rows_per_split : group_rows;

  // sums of g and g * d
  float sum_g[V] = {}, sum_gd[V] = {};
  if (c < a.channels) {
    const Affine<V> p = load_affine<V>(a, a.mean, a.rstd, a.weight, a.bias, group, c);
    const Activation act = activation(a.act, a.slope), skip_act = activation(a.skip_act, a.slope);
#pragma unroll 2
    for (int64_t r = first + row; r < last; r += Tile::kRows) {
      float d[V], g[V];
      load_gradient<T, V>(a, p, act, skip_act, group * group_rows + r, c, d, g);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        sum_g[i] += g[i];
        sum_gd[i] = fmaf(g[i], d[i], sum_gd[i]);
      }
    }
  }
  double total_g, total_gd;
  if (!sum_over_group<T, V>(a, sum_g, sum_gd, a.workspace, a.counters, total_g, total_gd)) return;

  // the group's two sums, g and g * x_hat
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + threadIdx.x;
  const bool owner = threadIdx.x < Tile::kChannels && channel < a.channels;
  float* group_g = group_table(a, a.workspace, gridDim.y, 0);
  float* group_gx = group_table(a, a.workspace, gridDim.y, 1);
  if (owner) {
    const int64_t k = group * a.channels + channel;
    group_g[k] = static_cast<float>(total_g);
    group_gx[k] = static_cast<float>(total_gd * (a.rstd ? at(a.rstd, k) : 1.f));
  }
  __syncthreads();
  if (fused && c < a.channels) apply_backward<T, V, 1>(a, gridDim.y, group, 0, group_rows, c, row);

  // dbias and dweight: over the groups, in order
  if ((a.dweight == nullptr && a.dbias == nullptr) || !last_of_groups(a, a.counters)) return;
  if (owner) {
    float dbias = 0.f, dweight = 0.f;
    for (int64_t g = 0; g < a.groups; ++g) {
      dbias += __ldcg(group_g + g * a.channels + channel);
      dweight += __ldcg(group_gx + g * a.channels + channel);
    }
    if (a.dbias) static_cast<float*>(a.dbias)[channel] = dbias;
    if (a.dweight) static_cast<float*>(a.dweight)[channel] = dweight;
  }
}

// --- launch ---------------------------------------------------------------------------------------------------------

template <class T, int V>
struct Grid {
  dim3 reduce, apply;
  int64_t splits, rows_per_split, rows_per_block;

  explicit Grid(const NormActShape& s) {
    using Tile = Tile<T, V>;
    const int64_t rows = s.rows / s.groups, tiles = ceil_div(s.channels, Tile::kChannels);
    splits = splits_of(s);
    rows_per_split = ceil_div(rows, splits);
    // apply: enough blocks to fill the GPU, and no more rows for a thread than pays for its per-channel loads
    const int64_t wanted = ceil_div(rows * tiles * s.groups, kApplyBlocks);
    const int64_t visits = ceil_div(wanted, Tile::kRows);
    rows_per_block = Tile::kRows * (visits < 1 ? 1 : visits > kMaxRowsInFlight ? kMaxRowsInFlight : visits);
    const int64_t most = 65535;  // blocks along y
    if (ceil_div(rows, rows_per_block) > most) rows_per_block = ceil_div(rows, most);
    reduce = dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(splits), static_cast<unsigned>(s.groups));
    apply = dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(ceil_div(rows, rows_per_block)),
                 static_cast<unsigned>(s.groups));
  }
};

template <class T, int V>
void launch_forward(const NormActForward& a, cudaStream_t stream) {
  const Grid<T, V> grid(a);
  const bool reduce = a.statistics == Statistics::kBatch, fused = reduce && a.rows / a.groups <= kFusedRows;
  if (reduce) {
    PYGAN_LAUNCH((forward_reduce<T, V>), grid.reduce, dim3(kThreads), 0, stream, a, grid.rows_per_split, fused);
  }
  if (!fused) PYGAN_LAUNCH((forward_apply<T, V>), grid.apply, dim3(kThreads), 0, stream, a, grid.rows_per_block);
}

template <class T, int V>
void launch_backward(const NormActBackward& a, cudaStream_t stream) {
  const Grid<T, V> grid(a);
  const bool sums = a.dx && a.statistics == Statistics::kBatch, reduce = sums || a.dweight || a.dbias;
  const bool fused = reduce && a.dx && a.rows / a.groups <= kFusedRows;
  if (reduce) {
    PYGAN_LAUNCH((backward_reduce<T, V>), grid.reduce, dim3(kThreads), 0, stream, a, grid.rows_per_split, fused);
  }
  if (a.dx && !fused) {
    PYGAN_LAUNCH((backward_apply<T, V>), grid.apply, dim3(kThreads), 0, stream, a, grid.splits, grid.rows_per_block);
  }
}

// Can every row of this tensor be read 16 bytes at a time?
template <class T>
bool aligned(const void* data, int64_t ld) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && ld * sizeof(T) % 16 == 0;
}

template <class T>
int forward(const NormActForward& a, cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(T);
  const bool vector = a.channels % kVector == 0 && aligned<T>(a.x, a.ld_x) && aligned<T>(a.y, a.ld_y) &&
                      (!a.s || aligned<T>(a.s, a.ld_s));
  vector ? launch_forward<T, kVector>(a, stream) : launch_forward<T, 1>(a, stream);
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int backward(const NormActBackward& a, cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(T);
  const bool vector = a.channels % kVector == 0 && aligned<T>(a.x, a.ld_x) && (!a.dy || aligned<T>(a.dy, a.ld_dy)) &&
                      (!a.ds || aligned<T>(a.ds, a.ld_ds)) && (!a.dx || aligned<T>(a.dx, a.ld_dx));
  vector ? launch_backward<T, kVector>(a, stream) : launch_backward<T, 1>(a, stream);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int64_t norm_act_workspace_floats(const NormActShape& s) { return s.groups * s.channels * 2 * (splits_of(s) + 1); }

int64_t norm_act_counters(const NormActShape& s) {
  const bool tickets = splits_of(s) > 1 || s.groups > 1;
  return tickets ? ceil_div(s.channels, 32) * (s.groups + 1) : 0;  // 32: the narrowest tile
}

int norm_act_forward_cuda(const NormActForward& a, cudaStream_t stream) {
  switch (a.dtype) {
    case Dtype::kBFloat16:
      return forward<bfloat16>(a, stream);
    case Dtype::kFloat16:
      return forward<half>(a, stream);
    default:
      return forward<float>(a, stream);
  }
}

int norm_act_backward_cuda(const NormActBackward& a, cudaStream_t stream) {
  switch (a.dtype) {
    case Dtype::kBFloat16:
      return backward<bfloat16>(a, stream);
    case Dtype::kFloat16:
      return backward<half>(a, stream);
    default:
      return backward<float>(a, stream);
  }
}

}  // namespace pygan

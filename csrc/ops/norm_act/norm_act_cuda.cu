// The kernels of norm_act (norm_act.h). A block owns a tile of channels and a range of rows of one statistic group; a
// thread owns V neighbouring channels (16 bytes) and strides over the rows, so per-channel numbers stay in registers.
//
//   reduce   sums per channel over a group: partial sums per block, the last block of the group adds them in order
//   apply    one pass over the rows with the numbers that reduce left
// A group of at most kFusedRows rows is one block's: a flat reduce goes on to apply in the same launch.
//
// A thread first loads several rows and then works on them: what hides the latency of memory is bytes under way. reduce
// walks from the last row to the first, apply back again: each begins with what the kernel before it has left in L2.
//
// Flat instances walk rows that lie at one pitch. Spatial ones know the line and the pixel of a row: for residuals,
// padding, and tensors that are the interior of a padded one. Both do the same arithmetic in the same order.
#include <type_traits>

#include "common/cuda.h"
#include "common/philox.h"
#include "common/tickets.h"
#include "norm_act.h"

namespace pygan {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kFusedRows = 512;
constexpr int64_t kReduceBlocks = 256;  // aimed at for one group: two for each multiprocessor of a large GPU, one wave
constexpr int64_t kApplyBlocks = 1024;
constexpr int64_t kMaxVisits = 16;  // rows that one thread of apply visits
// Rows for a block of reduce: what its threads load at once, and about as many bytes in either direction.
constexpr int64_t kForwardRowsPerSplit = 256, kBackwardRowsPerSplit = 128;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks that share the rows of a group in reduce. A function of the group's shape and of nothing else, so that a
// group's sums are the same bits beside any number of others and on any GPU.
int64_t splits_of(const NormActShape& s, int64_t rows_per_split) {
  if (s.rows / s.groups <= kFusedRows) return 1;
  const int64_t by_rows = s.rows / s.groups / rows_per_split;
  const int64_t by_blocks = kReduceBlocks / ceil_div(s.channels, 64);
  const int64_t splits = by_rows < by_blocks ? by_rows : by_blocks;
  return splits > 1 ? splits : 1;
}

template <class T, int V>
struct Tile {
  static constexpr int kLanes = V > 1 ? 8 : 32;  // threads side by side along the channels
  static constexpr int kChannels = kLanes * V;
  static constexpr int kRows = kThreads / kLanes;  // rows visited at once
};

// Tickets of one launch of reduce: one for each group and tile of channels where blocks share a group, and one more for
// each tile where groups come together.
unsigned tickets_of(const NormActShape& s, int64_t splits, int64_t tiles) {
  return static_cast<unsigned>((splits > 1 ? s.groups * tiles : 0) + (s.groups > 1 ? tiles : 0));
}

// --- where a row lies -----------------------------------------------------------------------------------------------

// n / divisor for n < 2^31 as a product (Granlund & Montgomery, "Division by invariant integers", 1994).
struct Divider {
  uint32_t divisor, factor, shift;

  explicit Divider(int64_t d) : divisor(static_cast<uint32_t>(d)), factor(0), shift(0) {
    while ((int64_t{1} << shift) < d) ++shift;
    factor = static_cast<uint32_t>((((int64_t{1} << shift) - d) << 32) / d + 1);
  }
  __device__ __forceinline__ uint32_t quotient(uint32_t n) const { return (__umulhi(n, factor) + n) >> shift; }
};

// act(u) = u where u > 0 (and where u is NaN), else slope * u, or expm1(u) for ELU.
struct Activation {
  float slope;
  bool elu;

  Activation(Act act, double slope)
      : slope(act == Act::kNone        ? 1.f
              : act == Act::kLeakyRelu ? static_cast<float>(slope)
                                       : 0.f),
        elu(act == Act::kElu) {}
};

// What the host works out once for all threads.
struct Plan {
  Divider width, height;
  uint32_t channels, group_rows;
  Activation act, skip_act;
  float keep_scale;

  explicit Plan(const NormActShape& s)
      : width(s.width > 0 ? s.width : 1),  // what flat instances do not read
        height(s.height > 0 ? s.height : 1),
        channels(static_cast<uint32_t>(s.channels)),
        group_rows(static_cast<uint32_t>(s.rows / s.groups)),
        act(s.act, s.slope),
        skip_act(s.skip_act, s.slope),
        keep_scale(static_cast<float>(s.dropout.keep_scale)) {}
};

template <bool kSpatial>
struct Place;

template <>
struct Place<false> {
  uint32_t row;
  __device__ __forceinline__ Place(const Plan&, uint32_t row) : row(row) {}
  __device__ __forceinline__ uint64_t offset(int64_t ld, const Lines& lines) const {
    return static_cast<uint64_t>(row) * static_cast<uint32_t>(ld);
  }
};

template <>
struct Place<true> {
  uint32_t row, sample, line, pixel;
  __device__ __forceinline__ Place(const Plan& plan, uint32_t row) : row(row) {
    const uint32_t above = plan.width.quotient(row);  // lines, of all samples
    pixel = row - above * plan.width.divisor;
    sample = plan.height.quotient(above);
    line = above - sample * plan.height.divisor;
  }
  __device__ __forceinline__ uint64_t offset(int64_t ld, const Lines& lines) const {
    return static_cast<uint64_t>(sample) * static_cast<uint32_t>(lines.sample) +
           static_cast<uint64_t>(line) * static_cast<uint32_t>(lines.line) +
           static_cast<uint64_t>(pixel) * static_cast<uint32_t>(ld);
  }
};

// f(elements from a pixel of the image to its reflection) for every reflection of the pixel: in the lines above and
// below it, then those to the left, then to the right. Most pixels have none.
template <class F>
__device__ __forceinline__ void for_each_reflection(const NormActShape& s, const Place<true>& at, int64_t ld,
                                                    const Lines& pitch, const F& f) {
  const uint32_t pad = static_cast<uint32_t>(s.pad);
  const uint32_t to_bottom = static_cast<uint32_t>(s.height) - 1 - at.line;
  const uint32_t to_right = static_cast<uint32_t>(s.width) - 1 - at.pixel;
  // The first and the last line are mirrors, not mirrored: 0 wraps and is too large.
  const bool above = at.line - 1 < pad, below = to_bottom - 1 < pad;
  const bool left = at.pixel - 1 < pad, right = to_right - 1 < pad;
  if (!(above || below || left || right)) return;
#pragma unroll 1
  for (int k = 1; k < 9; ++k) {
    const int a = k % 3, b = k / 3;
    if ((a == 1 && !above) || (a == 2 && !below) || (b == 1 && !left) || (b == 2 && !right)) continue;
    const int down = a == 0 ? 0 : a == 1 ? -2 * static_cast<int>(at.line) : 2 * static_cast<int>(to_bottom);
    const int right_by = b == 0 ? 0 : b == 1 ? -2 * static_cast<int>(at.pixel) : 2 * static_cast<int>(to_right);
    f(down * pitch.line + right_by * ld);
  }
}

// --- activation -----------------------------------------------------------------------------------------------------

// act(u) of N values, and act'(u). What all values of a launch agree on is asked once for N of them.
template <class T, int N>
__device__ __forceinline__ void activate(Activation a, const float (&u)[N], T* y) {
  if (a.elu) {
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = from_float<T>(u[i] <= 0.f ? expm1f(u[i]) : u[i]);
  } else if (a.slope == 0.f) {  // a store of 0, not a product: ReLU(-inf) is 0
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = from_float<T>(u[i] <= 0.f ? 0.f : u[i]);
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) y[i] = from_float<T>(u[i] <= 0.f ? a.slope * u[i] : u[i]);
  }
}

template <int N>
__device__ __forceinline__ void derivatives(Activation a, const float (&u)[N], float (&slope)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) slope[i] = u[i] <= 0.f ? a.slope : 1.f;
  if (a.elu) {
#pragma unroll
    for (int i = 0; i < N; ++i) slope[i] = u[i] <= 0.f ? expf(u[i]) : 1.f;
  }
}

// --- what a thread knows of its V channels --------------------------------------------------------------------------

// Channels worked on at once: one draw of random numbers, and few enough to keep what lies between in registers.
template <int V>
constexpr int kQuad = V < 4 ? V : 4;
template <int V>
using Quad = float[kQuad<V>];

template <int V>
struct Affine {
  float mean[V], scale[V], shift[V];  // z = (x - mean) * scale + shift, scale = rstd * weight
};

__device__ __forceinline__ float at(const void* data, int64_t i) { return static_cast<const float*>(data)[i]; }

// V per-channel numbers, 16 bytes at a time where they lie so: a parameter may be any slice of a buffer.
template <int V>
__device__ __forceinline__ void load_floats(const void* data, int64_t first, float (&to)[V], float otherwise) {
  if (data == nullptr) {
#pragma unroll
    for (int i = 0; i < V; ++i) to[i] = otherwise;
    return;
  }
  const float* from = static_cast<const float*>(data) + first;
  if constexpr (V % 4 == 0) {
    if (reinterpret_cast<uintptr_t>(from) % 16 == 0) {
#pragma unroll
      for (int i = 0; i < V; i += 4) {
        const Vec<float, 4> four = *reinterpret_cast<const Vec<float, 4>*>(from + i);
#pragma unroll
        for (int k = 0; k < 4; ++k) to[i + k] = four.v[k];
      }
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = from[i];
}

template <int V>
__device__ __forceinline__ Affine<V> load_affine(const NormActShape& s, const void* mean, const void* rstd,
                                                 const void* weight, const void* bias, int64_t group, int64_t c) {
  Affine<V> p;
  float factor[V];
  load_floats<V>(mean, group * s.channels + c, p.mean, 0.f);
  load_floats<V>(rstd, group * s.channels + c, p.scale, 1.f);
  load_floats<V>(weight, c, factor, 1.f);
  load_floats<V>(bias, c, p.shift, 0.f);
#pragma unroll
  for (int i = 0; i < V; ++i) p.scale[i] *= factor[i];
  return p;
}

// V values as they lie in memory. They are taken apart where they are used: taken apart behind the load they would fill
// twice the registers, and the thread would wait for them before it loads the next ones.
template <class T, int V>
struct Packed {
  Vec<uint32_t, V * sizeof(T) / 4> words;

  __device__ __forceinline__ float operator[](int i) const {
    if constexpr (sizeof(T) == 4) {
      return __uint_as_float(words.v[i]);
    } else if constexpr (std::is_same_v<T, bfloat16>) {
      return __uint_as_float(i % 2 == 0 ? words.v[i / 2] << 16 : words.v[i / 2] & 0xffff0000u);
    } else {
      const uint16_t bits = static_cast<uint16_t>(words.v[i / 2] >> (i % 2 * 16));
      T value;
      memcpy(&value, &bits, sizeof(value));
      return to_float(value);
    }
  }
};

template <class T>
struct Packed<T, 1> {
  T value;
  __device__ __forceinline__ float operator[](int) const { return to_float(value); }
};

template <class T, int V>
__device__ __forceinline__ Packed<T, V> load(const void* data, uint64_t offset) {
  return *reinterpret_cast<const Packed<T, V>*>(static_cast<const T*>(data) + offset);
}

template <class T, int V>
__device__ __forceinline__ void store(void* data, uint64_t offset, const Vec<T, V>& v) {
  store_vec(static_cast<T*>(data) + offset, v);
}

// keep[i]: 0 or 1 / (1 - p) for the N neighbouring elements from channel c of a row: four of one draw, or one.
template <int N>
__device__ __forceinline__ void draw(const Dropout& d, const Plan& plan, uint32_t row, uint32_t c, float (&keep)[N]) {
  static_assert(N == 1 || N == 4);
  const uint64_t element = static_cast<uint64_t>(row) * plan.channels + c;  // of packed NHWC
  const PhiloxWords w = philox_quad(d.rng, d.stream, element / 4);
  if constexpr (N == 1) {
    const uint32_t lane = element % 4;
    const uint32_t word = lane == 0 ? w.word[0] : lane == 1 ? w.word[1] : lane == 2 ? w.word[2] : w.word[3];
    keep[0] = word > d.last_dropped ? plan.keep_scale : 0.f;
  } else {
#pragma unroll
    for (int i = 0; i < N; ++i) keep[i] = w.word[i] > d.last_dropped ? plan.keep_scale : 0.f;
  }
}

// --- sums over a group ----------------------------------------------------------------------------------------------

// Adds a and b, V channels a thread, over the rows of the block and over the blocks of the group, in fixed order.
// `split` numbers the blocks of the group. True in the block that ends the group: there thread t < kChannels holds the
// sums of channel `first_channel + t`.
template <class T, int V>
__device__ __forceinline__ bool sum_over_group(const NormActShape& s, const float (&a)[V], const float (&b)[V],
                                               uint32_t group, uint32_t split, float* workspace, unsigned* tickets,
                                               double& sum_a, double& sum_b) {
  using Tile = Tile<T, V>;
  constexpr int kSums = 2 * Tile::kChannels;  // of a block: those of a, then those of b
  constexpr int kWide = V % 4 == 0 ? 4 : 1;   // neighbouring sums in one load
  constexpr int kUnits = kSums / kWide;       // loads for one split
  constexpr int kParts = kThreads / kUnits;   // splits under way at once
  PYGAN_SHARED(rows, float[2][Tile::kRows][Tile::kChannels + 1]);
  PYGAN_SHARED(parts, double[kParts][kSums]);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % Tile::kLanes, row = thread / Tile::kLanes;
  const int64_t splits = gridDim.y, first_channel = static_cast<int64_t>(blockIdx.x) * Tile::kChannels;

  // the block: one thread for each sum, rows in order
#pragma unroll
  for (int i = 0; i < V; ++i) {
    rows[0][row][lane * V + i] = a[i];
    rows[1][row][lane * V + i] = b[i];
  }
  __syncthreads();
  const int which = thread / Tile::kChannels, channel = thread % Tile::kChannels;
  if (thread < kSums) {
    float sum = 0.f;
    for (int k = 0; k < Tile::kRows; ++k) sum += rows[which][k][channel];
    parts[0][thread] = sum;
    if (splits > 1 && first_channel + channel < s.channels) {
      workspace[((group * splits + split) * 2 + which) * s.channels + first_channel + channel] = sum;
    }
  }

  // the group: partial sums (groups, splits, 2, c), added by the last block; part p takes splits p, p + kParts, ...
  if (splits > 1) {
    if (!last_to_arrive(tickets + group * gridDim.x + blockIdx.x, gridDim.y)) return false;
    const int unit = thread % kUnits, part = thread / kUnits;
    const int unit_which = unit * kWide / Tile::kChannels, unit_channel = unit * kWide % Tile::kChannels;
    double sum[kWide] = {};
    if (first_channel + unit_channel < s.channels) {
      const float* from = workspace + (group * splits * 2 + unit_which) * s.channels + first_channel + unit_channel;
#pragma unroll 8
      for (int64_t k = part; k < splits; k += kParts) {
        if constexpr (kWide == 4) {
          const float4 four = __ldcg(reinterpret_cast<const float4*>(from + k * 2 * s.channels));
          sum[0] += four.x;
          sum[1] += four.y;
          sum[2] += four.z;
          sum[3] += four.w;
        } else {
          sum[0] += __ldcg(from + k * 2 * s.channels);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < kWide; ++i) parts[part][unit * kWide + i] = sum[i];
  }
  __syncthreads();
  sum_a = sum_b = 0;
  if (thread < Tile::kChannels) {
    const int filled = splits > 1 ? kParts : 1;
    for (int k = 0; k < filled; ++k) {
      sum_a += parts[k][thread];
      sum_b += parts[k][Tile::kChannels + thread];
    }
  }
  return true;
}

// Two (groups, c) tables behind the partial sums: what one block of a group leaves for other blocks.
__device__ __forceinline__ float* group_table(const NormActShape& s, float* workspace, int64_t splits, int which) {
  return workspace + s.groups * s.channels * (2 * splits + which);
}

// True in the block that ends the last group of this tile of channels.
__device__ __forceinline__ bool last_of_groups(const NormActShape& s, unsigned* tickets) {
  const int64_t first = gridDim.y > 1 ? s.groups * gridDim.x : 0;  // behind those of the groups
  return s.groups == 1 || last_to_arrive(tickets + first + blockIdx.x, static_cast<unsigned>(s.groups));
}

// The rows [first, last) of a group that a block of reduce or apply has.
struct Range {
  uint32_t group, block, first, last;

  // `reversed`: the first blocks of the grid take the last rows.
  __device__ __forceinline__ Range(const Plan& plan, uint32_t rows_per_block, bool reversed) {
    group = reversed ? gridDim.z - 1 - blockIdx.z : blockIdx.z;
    block = reversed ? gridDim.y - 1 - blockIdx.y : blockIdx.y;
    first = block * rows_per_block;
    last = first + rows_per_block < plan.group_rows ? first + rows_per_block : plan.group_rows;
  }
};

// --- forward --------------------------------------------------------------------------------------------------------

// The affine of given statistics; `writes` stores them for backward.
template <int V>
__device__ __forceinline__ Affine<V> running_affine(const NormActForward& a, uint32_t c, bool writes) {
  Affine<V> p = load_affine<V>(a, a.running_mean, nullptr, a.weight, a.bias, 0, c);
  float var[V];
  load_floats<V>(a.running_var, c, var, 1.f);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float rstd = 1.f / sqrtf(var[i] + static_cast<float>(a.eps));
    p.scale[i] *= rstd;
    if (writes) {
      static_cast<float*>(a.mean)[c + i] = p.mean[i];
      static_cast<float*>(a.rstd)[c + i] = rstd;
    }
  }
  return p;
}

// Rows [first, last) of a group: load kBatch of them, then normalise, drop, add, activate and store each.
template <class T, int V, bool kSpatial, int kBatch>
__device__ __forceinline__ void apply_forward(const NormActForward& a, const Plan& plan, const Affine<V>& p,
                                              uint32_t group, uint32_t first, uint32_t last, uint32_t c, uint32_t row) {
  constexpr uint32_t kRows = Tile<T, V>::kRows;
  const uint32_t row0 = group * plan.group_rows;

  for (uint32_t r = first + row; r < last; r += kRows * kBatch) {
    Packed<T, V> x[kBatch], residual[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (r + b * kRows < last) {
        const Place<kSpatial> at(plan, row0 + r + b * kRows);
        x[b] = load<T, V>(a.x, at.offset(a.ld_x, a.lines_x) + c);
        if constexpr (kSpatial) {
          if (a.residual) residual[b] = load<T, V>(a.residual, at.offset(a.ld_residual, a.lines_residual) + c);
        }
      }
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (r + b * kRows < last) {
        const Place<kSpatial> at(plan, row0 + r + b * kRows);
        Vec<T, V> y, s;
#pragma unroll
        for (int q = 0; q < V; q += kQuad<V>) {
          float u[kQuad<V>];
#pragma unroll
          for (int i = 0; i < kQuad<V>; ++i) {
            u[i] = fmaf(x[b][q + i] - p.mean[q + i], p.scale[q + i], p.shift[q + i]);
          }
          if (a.dropout.rng) {
            float keep[kQuad<V>];
            draw(a.dropout, plan, at.row, c + q, keep);
#pragma unroll
            for (int i = 0; i < kQuad<V>; ++i) u[i] *= keep[i];
          }
          if constexpr (kSpatial) {
            if (a.residual) {
#pragma unroll
              for (int i = 0; i < kQuad<V>; ++i) u[i] += residual[b][q + i];
            }
          }
          activate(plan.act, u, y.v + q);
          if (a.s) activate(plan.skip_act, u, s.v + q);
        }
        const uint64_t to = at.offset(a.ld_y, a.lines_y) + c;
        store<T, V>(a.y, to, y);
        if constexpr (kSpatial) {
          for_each_reflection(a, at, a.ld_y, a.lines_y, [&](int64_t aside) { store<T, V>(a.y, to + aside, y); });
        }
        if (a.s) store<T, V>(a.s, at.offset(a.ld_s, a.lines_s) + c, s);
      }
    }
  }
}

template <class T, int V, bool kSpatial>
PYGAN_GLOBAL void __launch_bounds__(kThreads, kSpatial ? 3 : 4)
    forward_apply(NormActForward a, Plan plan, uint32_t rows_per_block) {
  using Tile = Tile<T, V>;
  const uint32_t c = blockIdx.x * Tile::kChannels + threadIdx.x % Tile::kLanes * V;
  const Range range(plan, rows_per_block, /*reversed=*/false);
  if (c >= a.channels) return;
  const uint32_t row = threadIdx.x / Tile::kLanes;
  const bool first_of_all = range.group == 0 && range.first == 0 && row == 0;
  const Affine<V> p = a.statistics == Statistics::kRunning
                          ? running_affine<V>(a, c, /*writes=*/first_of_all)
                          : load_affine<V>(a, a.mean, a.rstd, a.weight, a.bias, range.group, c);
  apply_forward<T, V, kSpatial, 2>(a, plan, p, range.group, range.first, range.last, c, row);
}

// running = (1 - momentum) * running + momentum * new, with the unbiased variance.
__device__ __forceinline__ void update_running(const NormActForward& a, int64_t c, float mean, float unbiased_var) {
  float* running_mean = static_cast<float*>(a.running_mean) + c;
  float* running_var = static_cast<float*>(a.running_var) + c;
  const float m = static_cast<float>(a.momentum), rest = static_cast<float>(1 - a.momentum);
  *running_mean = rest * *running_mean + m * mean;
  *running_var = rest * *running_var + m * unbiased_var;
}

template <class T, int V, bool kSpatial>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 2)
    forward_reduce(NormActForward a, Plan plan, uint32_t rows_per_split, bool fused, unsigned first_ticket) {
  using Tile = Tile<T, V>;
  constexpr int kBatch = 8;
  const uint32_t c = blockIdx.x * Tile::kChannels + threadIdx.x % Tile::kLanes * V;
  const uint32_t row = threadIdx.x / Tile::kLanes;
  const Range range(plan, rows_per_split, /*reversed=*/true);
  const uint32_t group_rows = plan.group_rows, row0 = range.group * group_rows;

  // sums of (x - x0) and (x - x0)^2, x0 the group's first row: no cancellation where the mean is large
  float sum[V] = {}, square[V] = {};
  if (c < a.channels) {
    const Packed<T, V> x0 = load<T, V>(a.x, Place<kSpatial>(plan, row0).offset(a.ld_x, a.lines_x) + c);
    for (uint32_t r = range.first + row; r < range.last; r += Tile::kRows * kBatch) {
      Packed<T, V> x[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const Place<kSpatial> at(plan, row0 + r + b * Tile::kRows);
        if (r + b * Tile::kRows < range.last) x[b] = load<T, V>(a.x, at.offset(a.ld_x, a.lines_x) + c);
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (r + b * Tile::kRows < range.last) {
#pragma unroll
          for (int i = 0; i < V; ++i) {
            const float d = x[b][i] - x0[i];
            sum[i] += d;
            square[i] = fmaf(d, d, square[i]);
          }
        }
      }
    }
  }
  double d0, d1;
  unsigned* mine = tickets + first_ticket;
  if (!sum_over_group<T, V>(a, sum, square, range.group, range.block, a.workspace, mine, d0, d1)) return;

  // mean and rstd of the group
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + threadIdx.x;
  const bool owner = threadIdx.x < Tile::kChannels && channel < a.channels;
  float* unbiased = group_table(a, a.workspace, gridDim.y, 0);
  if (owner) {
    const double n = static_cast<double>(group_rows);
    const double x0 =
        to_float(static_cast<const T*>(a.x)[Place<kSpatial>(plan, row0).offset(a.ld_x, a.lines_x) + channel]);
    const double shift = d0 / n;
    double var = d1 / n - shift * shift;
    if (var < 0) var = 0;  // rounding; a NaN stays
    static_cast<float*>(a.mean)[range.group * a.channels + channel] = static_cast<float>(x0 + shift);
    static_cast<float*>(a.rstd)[range.group * a.channels + channel] = static_cast<float>(1 / sqrt(var + a.eps));
    const double unbiased_var = group_rows > 1 ? var * (n / (n - 1)) : var;
    unbiased[range.group * a.channels + channel] = static_cast<float>(unbiased_var);
  }
  __syncthreads();
  if constexpr (!kSpatial) {
    if (fused && c < a.channels) {
      const Affine<V> p = load_affine<V>(a, a.mean, a.rstd, a.weight, a.bias, range.group, c);
      apply_forward<T, V, false, 2>(a, plan, p, range.group, 0, group_rows, c, row);
    }
  }

  // running statistics, group after group
  if (a.running_mean == nullptr || !last_of_groups(a, mine)) return;
  if (owner) {
    for (int64_t g = 0; g < a.groups; ++g) {
      const int64_t k = g * a.channels + channel;
      update_running(a, channel, __ldcg(static_cast<const float*>(a.mean) + k), __ldcg(unbiased + k));
    }
  }
}

// --- backward -------------------------------------------------------------------------------------------------------

// One row of what backward reads.
template <class T, int V, bool kSpatial>
struct Row {
  Packed<T, V> x, dy, ds;

  __device__ __forceinline__ void load_from(const NormActBackward& a, const Place<kSpatial>& at, uint32_t c) {
    x = load<T, V>(a.x, at.offset(a.ld_x, a.lines_x) + c);
    if (a.dy) dy = load<T, V>(a.dy, at.offset(a.ld_dy, a.lines_dy) + c);
    if (a.ds) ds = load<T, V>(a.ds, at.offset(a.ld_ds, a.lines_ds) + c);
  }

  // f(q, d, du, g) for channels q, q + 1, ... of the row, four at a time: d = x - mean, du = the gradient of u, g =
  // that of x_hat * weight + bias.
  template <class F>
  __device__ __forceinline__ void gradient(const NormActBackward& a, const Affine<V>& p, const Plan& plan,
                                           const Place<kSpatial>& at, uint32_t c, const F& f) const {
    constexpr int N = kQuad<V>;
    // Where masks need it, which the blocks of a ResNet do not: so it is not loaded ahead with the others.
    Packed<T, V> residual;
    if constexpr (kSpatial) {
      if (a.residual) residual = load<T, V>(a.residual, at.offset(a.ld_residual, a.lines_residual) + c);
    }
#pragma unroll
    for (int q = 0; q < V; q += N) {
      float d[N], u[N], slope[N], du[N], keep[N], g[N];
#pragma unroll
      for (int i = 0; i < N; ++i) {
        d[i] = x[q + i] - p.mean[q + i];
        u[i] = fmaf(d[i], p.scale[q + i], p.shift[q + i]);  // as forward, to the bit: the same masks
        du[i] = 0.f;
        keep[i] = 1.f;
      }
      if (a.dropout.rng) {
        draw(a.dropout, plan, at.row, c + q, keep);
#pragma unroll
        for (int i = 0; i < N; ++i) u[i] *= keep[i];
      }
      if constexpr (kSpatial) {
        if (a.residual) {
#pragma unroll
          for (int i = 0; i < N; ++i) u[i] += residual[q + i];
        }
      }
      if (a.dy) {
#pragma unroll
        for (int i = 0; i < N; ++i) du[i] = dy[q + i];
        if constexpr (kSpatial) {
          const uint64_t from = at.offset(a.ld_dy, a.lines_dy) + c + q;
          for_each_reflection(a, at, a.ld_dy, a.lines_dy, [&](int64_t aside) {
            const Packed<T, N> more = load<T, N>(a.dy, from + aside);
#pragma unroll
            for (int i = 0; i < N; ++i) du[i] += more[i];
          });
        }
        derivatives(plan.act, u, slope);
#pragma unroll
        for (int i = 0; i < N; ++i) du[i] *= slope[i];
      }
      if (a.ds) {
        derivatives(plan.skip_act, u, slope);
#pragma unroll
        for (int i = 0; i < N; ++i) du[i] = fmaf(ds[q + i], slope[i], du[i]);
      }
#pragma unroll
      for (int i = 0; i < N; ++i) g[i] = du[i] * keep[i];
      f(q, d, du, g);
    }
  }
};

// Rows [first, last) of a group: dx = scale * (g - mean_g - d * slope_g), or scale * g without batch statistics.
template <class T, int V, bool kSpatial, int kBatch>
__device__ __forceinline__ void apply_backward(const NormActBackward& a, const Plan& plan, int64_t splits,
                                               uint32_t group, uint32_t first, uint32_t last, uint32_t c,
                                               uint32_t row) {
  constexpr uint32_t kRows = Tile<T, V>::kRows;
  const uint32_t group_rows = plan.group_rows, row0 = group * group_rows;
  const Affine<V> p = load_affine<V>(a, a.mean, a.rstd, a.weight, a.bias, group, c);
  const bool batch = a.dx != nullptr && a.statistics == Statistics::kBatch;
  float mean_g[V] = {}, slope_g[V] = {};
  if (batch) {
    const float inv = 1.f / static_cast<float>(group_rows);
    const int64_t k = group * a.channels + c;
    float rstd[V];
    load_floats<V>(group_table(a, a.workspace, splits, 0), k, mean_g, 0.f);
    load_floats<V>(group_table(a, a.workspace, splits, 1), k, slope_g, 0.f);
    load_floats<V>(a.rstd, k, rstd, 1.f);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      mean_g[i] *= inv;
      slope_g[i] = slope_g[i] * rstd[i] * inv;
    }
  }
  for (uint32_t r = first + row; r < last; r += kRows * kBatch) {
    Row<T, V, kSpatial> rows[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (r + b * kRows < last) rows[b].load_from(a, Place<kSpatial>(plan, row0 + r + b * kRows), c);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      if (r + b * kRows < last) {
        const Place<kSpatial> at(plan, row0 + r + b * kRows);
        Vec<T, V> dx, dresidual;
        rows[b].gradient(a, p, plan, at, c, [&](int q, const Quad<V>& d, const Quad<V>& du, const Quad<V>& g) {
#pragma unroll
          for (int i = 0; i < kQuad<V>; ++i) {
            // an infinite d is not multiplied by 0
            const float centred = batch ? g[i] - mean_g[q + i] - d[i] * slope_g[q + i] : g[i];
            dx.v[q + i] = from_float<T>(p.scale[q + i] * centred);
            dresidual.v[q + i] = from_float<T>(du[i]);
          }
        });
        if constexpr (kSpatial) {
          if (a.dresidual) store<T, V>(a.dresidual, at.offset(a.ld_dresidual, a.lines_dresidual) + c, dresidual);
        }
        if (!kSpatial || a.dx) store<T, V>(a.dx, at.offset(a.ld_dx, a.lines_dx) + c, dx);
      }
    }
  }
}

template <class T, int V, bool kSpatial>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 2)
    backward_apply(NormActBackward a, Plan plan, int64_t splits, uint32_t rows_per_block) {
  using Tile = Tile<T, V>;
  const uint32_t c = blockIdx.x * Tile::kChannels + threadIdx.x % Tile::kLanes * V;
  const Range range(plan, rows_per_block, /*reversed=*/false);
  if (c >= a.channels) return;
  apply_backward<T, V, kSpatial, 2>(a, plan, splits, range.group, range.first, range.last, c,
                                    threadIdx.x / Tile::kLanes);
}

template <class T, int V, bool kSpatial>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 2)
    backward_reduce(NormActBackward a, Plan plan, uint32_t rows_per_split, bool fused, unsigned first_ticket) {
  using Tile = Tile<T, V>;
  constexpr int kBatch = 2;
  const uint32_t c = blockIdx.x * Tile::kChannels + threadIdx.x % Tile::kLanes * V;
  const uint32_t row = threadIdx.x / Tile::kLanes;
  const Range range(plan, rows_per_split, /*reversed=*/true);
  const uint32_t group_rows = plan.group_rows, row0 = range.group * group_rows;

  // sums of g and g * d
  float sum_g[V] = {}, sum_gd[V] = {};
  if (c < a.channels) {
    const Affine<V> p = load_affine<V>(a, a.mean, a.rstd, a.weight, a.bias, range.group, c);
    for (uint32_t r = range.first + row; r < range.last; r += Tile::kRows * kBatch) {
      Row<T, V, kSpatial> rows[kBatch];
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        const Place<kSpatial> at(plan, row0 + r + b * Tile::kRows);
        if (r + b * Tile::kRows < range.last) rows[b].load_from(a, at, c);
      }
#pragma unroll
      for (int b = 0; b < kBatch; ++b) {
        if (r + b * Tile::kRows < range.last) {
          const Place<kSpatial> at(plan, row0 + r + b * Tile::kRows);
          rows[b].gradient(a, p, plan, at, c, [&](int q, const Quad<V>& d, const Quad<V>&, const Quad<V>& g) {
#pragma unroll
            for (int i = 0; i < kQuad<V>; ++i) {
              sum_g[q + i] += g[i];
              sum_gd[q + i] = fmaf(g[i], d[i], sum_gd[q + i]);
            }
          });
        }
      }
    }
  }
  double total_g, total_gd;
  unsigned* mine = tickets + first_ticket;
  if (!sum_over_group<T, V>(a, sum_g, sum_gd, range.group, range.block, a.workspace, mine, total_g, total_gd)) return;

  // the group's two sums, g and g * x_hat
  const int64_t channel = static_cast<int64_t>(blockIdx.x) * Tile::kChannels + threadIdx.x;
  const bool owner = threadIdx.x < Tile::kChannels && channel < a.channels;
  float* group_g = group_table(a, a.workspace, gridDim.y, 0);
  float* group_gx = group_table(a, a.workspace, gridDim.y, 1);
  if (owner) {
    const int64_t k = range.group * a.channels + channel;
    group_g[k] = static_cast<float>(total_g);
    group_gx[k] = static_cast<float>(total_gd * (a.rstd ? at(a.rstd, k) : 1.f));
  }
  __syncthreads();
  if constexpr (!kSpatial) {
    if (fused && c < a.channels) {
      apply_backward<T, V, false, 1>(a, plan, gridDim.y, range.group, 0, group_rows, c, row);
    }
  }

  // dbias and dweight: over the groups, in order
  if ((a.dweight == nullptr && a.dbias == nullptr) || !last_of_groups(a, mine)) return;
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
  Plan plan;
  int64_t splits;
  uint32_t rows_per_split, rows_per_block;
  unsigned tickets;  // of a launch of reduce

  Grid(const NormActShape& s, int64_t least_rows_per_split) : plan(s) {
    using Tile = Tile<T, V>;
    const int64_t rows = s.rows / s.groups, tiles = ceil_div(s.channels, Tile::kChannels);
    splits = splits_of(s, least_rows_per_split);
    tickets = tickets_of(s, splits, tiles);
    // apply: enough blocks to fill the GPU, and no more rows for a thread than pays for its per-channel loads
    const int64_t wanted = ceil_div(rows * tiles * s.groups, kApplyBlocks);
    const int64_t visits = ceil_div(wanted, Tile::kRows);
    int64_t apply_rows = Tile::kRows * (visits < 1 ? 1 : visits > kMaxVisits ? kMaxVisits : visits);
    const int64_t most = 65535;  // blocks along y
    if (ceil_div(rows, apply_rows) > most) apply_rows = ceil_div(rows, most);
    rows_per_split = static_cast<uint32_t>(ceil_div(rows, splits));
    rows_per_block = static_cast<uint32_t>(apply_rows);
    reduce = dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(splits), static_cast<unsigned>(s.groups));
    apply = dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(ceil_div(rows, apply_rows)),
                 static_cast<unsigned>(s.groups));
  }
};

// Do all rows of this tensor lie at one pitch? Null has no rows.
bool flat(const void* data, const Lines& lines) { return data == nullptr || lines.line == 0; }

// The pitches of a flat tensor, spelled out for a spatial instance.
void spell_out(const NormActShape& s, int64_t ld, Lines& lines) {
  if (lines.line == 0) lines = {s.width * ld, s.height * s.width * ld};
}

template <class T, int V, bool kSpatial>
void launch_forward(NormActForward a, cudaStream_t stream) {
  const Grid<T, V> grid(a, kForwardRowsPerSplit);
  const bool flat_x = flat(a.x, a.lines_x);
  if (kSpatial) {
    spell_out(a, a.ld_x, a.lines_x);
    spell_out(a, a.ld_residual, a.lines_residual);
    spell_out(a, a.ld_y, a.lines_y);
    spell_out(a, a.ld_s, a.lines_s);
  }
  const bool reduce = a.statistics == Statistics::kBatch,
             fused = !kSpatial && reduce && a.rows / a.groups <= kFusedRows;
  if (reduce) {
    const unsigned first = next_tickets(stream, grid.tickets);
    if (kSpatial && !flat_x) {  // the sums see nothing but x
      PYGAN_LAUNCH((forward_reduce<T, V, true>), grid.reduce, dim3(kThreads), 0, stream, a, grid.plan,
                   grid.rows_per_split, fused, first);
    } else {
      PYGAN_LAUNCH((forward_reduce<T, V, false>), grid.reduce, dim3(kThreads), 0, stream, a, grid.plan,
                   grid.rows_per_split, fused, first);
    }
  }
  if (!fused) {
    PYGAN_LAUNCH((forward_apply<T, V, kSpatial>), grid.apply, dim3(kThreads), 0, stream, a, grid.plan,
                 grid.rows_per_block);
  }
}

template <class T, int V, bool kSpatial>
void launch_backward(NormActBackward a, cudaStream_t stream) {
  const Grid<T, V> grid(a, kBackwardRowsPerSplit);
  if (kSpatial) {
    spell_out(a, a.ld_x, a.lines_x);
    spell_out(a, a.ld_residual, a.lines_residual);
    spell_out(a, a.ld_dy, a.lines_dy);
    spell_out(a, a.ld_ds, a.lines_ds);
    spell_out(a, a.ld_dx, a.lines_dx);
    spell_out(a, a.ld_dresidual, a.lines_dresidual);
  }
  const bool apply = a.dx || a.dresidual, sums = a.dx && a.statistics == Statistics::kBatch;
  const bool reduce = sums || a.dweight || a.dbias,
             fused = !kSpatial && reduce && apply && a.rows / a.groups <= kFusedRows;
  if (reduce) {
    PYGAN_LAUNCH((backward_reduce<T, V, kSpatial>), grid.reduce, dim3(kThreads), 0, stream, a, grid.plan,
                 grid.rows_per_split, fused, next_tickets(stream, grid.tickets));
  }
  if (apply && !fused) {
    PYGAN_LAUNCH((backward_apply<T, V, kSpatial>), grid.apply, dim3(kThreads), 0, stream, a, grid.plan, grid.splits,
                 grid.rows_per_block);
  }
}

// Can the channels of every row of this tensor be read 16 bytes at a time? Null has no rows.
template <class T>
bool aligned(const void* data, int64_t ld, const Lines& lines) {
  const auto whole = [](int64_t elements) { return elements * sizeof(T) % 16 == 0; };
  return data == nullptr ||
         (reinterpret_cast<uintptr_t>(data) % 16 == 0 && whole(ld) && whole(lines.line) && whole(lines.sample));
}

template <class T>
int forward(const NormActForward& a, cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(T);
  const bool vector = a.channels % kVector == 0 && aligned<T>(a.x, a.ld_x, a.lines_x) &&
                      aligned<T>(a.residual, a.ld_residual, a.lines_residual) && aligned<T>(a.y, a.ld_y, a.lines_y) &&
                      aligned<T>(a.s, a.ld_s, a.lines_s);
  if (a.pad == 0 && !a.residual && flat(a.x, a.lines_x) && flat(a.y, a.lines_y) && flat(a.s, a.lines_s)) {
    vector ? launch_forward<T, kVector, false>(a, stream) : launch_forward<T, 1, false>(a, stream);
  } else {
    vector ? launch_forward<T, kVector, true>(a, stream) : launch_forward<T, 1, true>(a, stream);
  }
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int backward(const NormActBackward& a, cudaStream_t stream) {
  constexpr int kVector = 16 / sizeof(T);
  const bool vector = a.channels % kVector == 0 && aligned<T>(a.x, a.ld_x, a.lines_x) &&
                      aligned<T>(a.residual, a.ld_residual, a.lines_residual) &&
                      aligned<T>(a.dy, a.ld_dy, a.lines_dy) && aligned<T>(a.ds, a.ld_ds, a.lines_ds) &&
                      aligned<T>(a.dx, a.ld_dx, a.lines_dx) &&
                      aligned<T>(a.dresidual, a.ld_dresidual, a.lines_dresidual);
  if (a.pad == 0 && !a.residual && !a.dresidual && flat(a.x, a.lines_x) && flat(a.dy, a.lines_dy) &&
      flat(a.ds, a.lines_ds) && flat(a.dx, a.lines_dx)) {
    vector ? launch_backward<T, kVector, false>(a, stream) : launch_backward<T, 1, false>(a, stream);
  } else {
    vector ? launch_backward<T, kVector, true>(a, stream) : launch_backward<T, 1, true>(a, stream);
  }
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int64_t norm_act_workspace_floats(const NormActShape& s) {
  return s.groups * s.channels * 2 * (splits_of(s, kBackwardRowsPerSplit) + 1);  // forward has no more splits
}

bool norm_act_has_tickets(const NormActShape& s) {
  const int64_t narrowest = 32;  // channels of a tile
  return tickets_of(s, splits_of(s, kBackwardRowsPerSplit), ceil_div(s.channels, narrowest)) <= kTickets / 2;
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

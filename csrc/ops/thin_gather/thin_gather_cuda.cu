// A GEMM on the tensor cores multiplies the thick pixels of a row with the weights of one kernel row after another:
// M = 16 neighbouring pixels, N = (kernel column, thin channel), K = thick channels. Kernel rows are added up where the
// products are born, in the accumulators: a block walks down the thick rows of its tile, and a row adds to as many
// output lines as the kernel has rows, each a set of accumulators; then the oldest line is complete, goes to shared
// memory, and the sets move up by one. There kernel columns are added up: an output is the sum of K products of the
// pixels around it. So K of the K * K products of a pixel pass through shared memory. A thick row is copied from global
// memory once for a tile; the weights of a warp stay in its registers.
//
//   kStride2         A line is the two output rows 2p - 1 and 2p: both see the thick rows p - 1 and p. N = (which of the
//                    two, kernel column, channel), and a row adds to 2 lines.
//   kReflect         A line is a row of the padded output. The summing step folds it: columns by adding more products,
//                    rows by keeping the sums of the few output rows that get more than one line.
//   kReflectAdjoint  Reflection is in the indices of the thick rows and, in the summing step, of the pixels.
//
// A warp owns a strip of 16 pixels, 8 columns of N and one or two blocks of 64 thick channels. The warps of a block are
// strips x tiles of N x splits of K; the summing step adds up the splits. Where ck is larger, a tile is walked again
// for the next channels (passes), and the sums are kept in shared memory.
//
// Prediction for an H200 (132 SMs at 1.755 GHz, 4.28 TB/s; an mma every 7 cycles in each quarter of an SM, 540
// TFLOP/s). Nothing of it has been measured. Time (byte floor, cuDNN), us, at batch 1 / 16 / 64:
//   64 -> 3, 7 x 7 at 256 x 256     8 / 74 / 265   (2.1 / 33 / 131, 65 / 856 / 3323), its counterpart kReflect the same
//     Tensor cores: N has 21 of 24 columns in use, a tile 52 of 64 pixels: 118 GFLOP and 218 us at batch 64. Below that:
//     global memory 0.60 GB (rows of halo 5%; columns of halo from L2) = 140 us; shared memory 2.2 GB of pixels into 3
//     tiles of N, 0.5 GB of products in and out = 90 us; 450 of 590 issue slots a row and quarter. The rest is the start
//     of a block and a barrier every two rows. 12 warps an SM.
//   128 -> 3, 4 x 4, stride 2, 128 x 128     4 / 22 / 77   (1.1 / 17 / 69, 27 / 198 / 718): bytes
//   512 -> 1, 4 x 4, 31 x 31                 6 / 10 / 22   (0.2 / 3.7 / 15, 25 / 62 / 156): bytes, 20% of them halo
#include "common/mma.h"
#include "ops/thin_gather/thin_gather.h"

namespace pygan {
namespace {

constexpr int kBlock = 64;     // thick channels in a 128-byte row of shared memory
constexpr int kMaxDepth = 8;   // steps in the ring of thick rows
constexpr int kCopies = 4;     // 16-byte copies of a thread for 64 channels of a thick row, at most
constexpr int kFoldLines = 7;  // output rows that may get more than one padded row: 4 at the top, 3 at the bottom

// Warps of a block, at most: 128 registers a thread, or 168 for the accumulators and weights of seven kernel rows.
constexpr int warps_of(ThinMode mode) { return thin_kernel_size(mode) == 7 ? 12 : 16; }
// Output lines that a thick row adds to, and N columns per thin channel.
constexpr int lines_of(ThinMode mode) { return mode == ThinMode::kStride2 ? 2 : thin_kernel_size(mode); }
constexpr int columns_of(ThinMode mode) { return mode == ThinMode::kStride2 ? 8 : thin_kernel_size(mode); }
// Blocks of 64 channels that a warp holds weights for: 32 to 56 registers.
constexpr int chunks_of(ThinMode mode) { return mode == ThinMode::kStride2 ? 2 : 1; }
// Are blocks of 64 channels spread over warps? 7 x 7 kernels are bound by the tensor cores: they rather take
// more columns at once, with less halo, than more channels.
constexpr bool has_splits(ThinMode mode) { return thin_kernel_size(mode) != 7; }
// Thick rows of a step, from barrier to barrier. One where a row has many channels: it is long enough.
constexpr int rows_of(ThinMode mode) { return mode == ThinMode::kZeroAdjoint ? 1 : 2; }
// Line l is complete after thick row l + lag_of(mode); it began lines_of(mode) - 1 rows before.
constexpr int lag_of(ThinMode mode) {
  return mode == ThinMode::kZeroAdjoint ? 2 : mode == ThinMode::kReflectAdjoint ? 3 : 0;
}
// Columns left and right of output column x (of pair x in kStride2) that it needs, apart from reflected ones.
constexpr int left_of(ThinMode mode) { return thin_kernel_size(mode) == 7 ? 3 : 1; }
constexpr int right_of(ThinMode mode) {
  return mode == ThinMode::kStride2 ? 0 : mode == ThinMode::kZeroAdjoint ? 2 : 3;
}

// Division of i < 2^16 by d < 2^16 as a multiplication.
struct Divisor {
  unsigned magic;  // 0: d is 1
  __device__ __forceinline__ int divide(int i) const {
    return magic == 0 ? i : static_cast<int>(__umulhi(static_cast<unsigned>(i), magic));
  }
};
inline Divisor divisor(int d) { return {d == 1 ? 0u : 0xffffffffu / static_cast<unsigned>(d) + 1u}; }

// How a launch is cut into tiles. What decides the order of a sum (splits, passes) follows from mode, ck and ct alone.
struct Plan {
  int blocks;   // of 64 thick channels
  int tiles_n;  // of 8 columns of N
  int columns;  // of N: tiles_n * 8
  int splits;   // of the blocks of a pass, over warps
  int planes;   // blocks of a pass, at most: splits * chunks_of(mode)
  int passes;
  int strips;                          // of 16 pixels
  int pitch;                           // floats between columns of the products: 12 or 28 modulo 32, against conflicts
  int units, units_per_tile, tiles_x;  // output columns; pairs of them in kStride2
  int lines, lines_per_tile, tiles_y;  // output rows; pairs of them in kStride2
  int outputs;                         // columns x channels of a tile, at most; no more than threads
  int depth;                           // steps in the ring
  int ring_bytes, products_bytes, sums_bytes;  // of shared memory, in this order; the weights pass through products
  Divisor by_ct, by_n;
  bool weight_units;  // 8 neighbours in K are 16 aligned bytes

  int warps() const { return strips * tiles_n * splits; }
  int shared_bytes() const { return ring_bytes + products_bytes + sums_bytes; }
};

// What one block works on.
struct Tile {
  int unit0, unit1;         // output columns (pairs)
  int first_pixel, pixels;  // thick columns
  int y0, y1;               // output rows (pairs)
  int line0;                // first of the lines: y0, in kReflect a row of the padded output
  int first_row;            // thick row, maybe outside, that line0 begins with
  int begin, rows, loaded;  // row first_row + k is walked for k = begin .. rows - 1, and read for k < loaded
};

template <ThinMode kMode>
__device__ __forceinline__ Tile tile_of(const ThinGatherArgs& a, const Plan& p) {
  Tile tile;
  tile.unit0 = static_cast<int>(blockIdx.x) * p.units_per_tile;
  tile.unit1 = min(tile.unit0 + p.units_per_tile, p.units);
  tile.first_pixel = max(tile.unit0 - left_of(kMode), 0);
  tile.pixels = min(tile.unit1 + right_of(kMode), a.wk) - tile.first_pixel;
  tile.y0 = static_cast<int>(blockIdx.y) * p.lines_per_tile;
  tile.y1 = min(tile.y0 + p.lines_per_tile, p.lines);
  tile.line0 = tile.y0;
  int lines = tile.y1 - tile.y0;
  if (kMode == ThinMode::kReflect) {  // row y is padded row y + 3; near a border also those that fold onto it
    tile.line0 = tile.y0 <= 3 ? 0 : tile.y0 + 3;
    lines = (tile.y1 > a.ht - 4 ? a.ht + 6 : tile.y1 + 3) - tile.line0;
  }
  tile.first_row = tile.line0 + lag_of(kMode) - (lines_of(kMode) - 1);
  tile.begin = kMode == ThinMode::kReflectAdjoint ? 0 : max(-tile.first_row, 0);
  tile.rows = lines + lines_of(kMode) - 1;
  tile.loaded = kMode == ThinMode::kReflectAdjoint ? tile.rows : min(tile.rows, a.hk - tile.first_row);
  return tile;
}

// A thread's part of every thick row: where its 16-byte units lie, and where they go in the ring. There a pixel's 128
// bytes are permuted, so that the 8 rows of a matrix lie in different banks.
struct Copies {
  const char* from;     // the tile's first pixel in thick row 0
  int row_bytes;        // from one thick row to the next
  int offset[kCopies];  // from a row's first pixel; -1: no unit
  int to[kCopies];
};

template <class T>
__device__ __forceinline__ Copies copies_of(const ThinGatherArgs& a, const Tile& tile) {
  Copies c;
  const int ld = static_cast<int>(a.k_ld);
  const int64_t pixel0 = static_cast<int64_t>(blockIdx.z) * a.hk * a.wk + tile.first_pixel;
  c.from = reinterpret_cast<const char*>(static_cast<const T*>(a.k) + pixel0 * ld);
  c.row_bytes = a.wk * ld * 2;
#pragma unroll
  for (int j = 0; j < kCopies; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * static_cast<int>(blockDim.x), pixel = i >> 3, unit = i & 7;
    c.offset[j] = pixel < tile.pixels ? (pixel * ld + unit * 8) * 2 : -1;
    c.to[j] = (pixel * 8 + (unit ^ (pixel & 7))) * 16;
  }
  return c;
}

// Where column n of N looks: kernel row and column of accumulator set `line`, thin channel. False: n is padding.
template <ThinMode kMode>
__device__ __forceinline__ bool weight_at(const Plan& p, int ct, int n, int line, int& row, int& column, int& channel) {
  const int tap = p.by_ct.divide(n);
  channel = n - tap * ct;
  column = kMode == ThinMode::kStride2 ? tap & 3 : tap;
  row = kMode == ThinMode::kStride2   ? (tap >> 2) + 2 * line
        : kMode == ThinMode::kReflect ? line
                                      : lines_of(kMode) - 1 - line;
  return tap < columns_of(kMode);
}

// Waits until at most `pending` of this thread's last groups of copies are under way.
__device__ __forceinline__ void wait_for_copies(int pending) {
  static_assert(kMaxDepth == 8);
  switch (pending) {
    case 1:
      return copy_async_wait<1>();
    case 2:
      return copy_async_wait<2>();
    case 3:
      return copy_async_wait<3>();
    case 4:
      return copy_async_wait<4>();
    case 5:
      return copy_async_wait<5>();
    case 6:
      return copy_async_wait<6>();
    case 7:
      return copy_async_wait<7>();
    default:
      return copy_async_wait<0>();
  }
}

// The weights of a pass into shared memory: [plane][line][n][64 channels], units of 8 channels permuted by n so that
// the eight rows of a matrix lie in different banks.
template <class T, ThinMode kMode>
__device__ __forceinline__ void load_weights(const ThinGatherArgs& a, const Plan& p, int first_block, int planes,
                                             T* to) {
  constexpr int kLines = lines_of(kMode);
  const T* weight = static_cast<const T*>(a.weight) + first_block * kBlock * a.w_thick;
  const int tid = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x), columns = p.columns;
  int row, column, channel;
  if (p.weight_units) {
    for (int matrix = 0; matrix < planes * kLines; ++matrix) {
      const int plane = matrix / kLines, line = matrix - plane * kLines;
      for (int i = tid; i < columns * 8; i += threads) {
        const int n = i >> 3, unit = i & 7;
        const bool valid = weight_at<kMode>(p, a.ct, n, line, row, column, channel);
        const T* from = weight + plane * kBlock + unit * 8 + channel * a.w_thin + row * a.w_y + column * a.w_x;
        copy_async_16(to + (matrix * columns + n) * kBlock + (unit ^ (n & 7)) * 8, valid ? from : weight, valid);
      }
    }
    return;
  }
  constexpr int kBatch = 8;  // loads of a thread under way at once
  const int count = planes * kLines * columns * kBlock;
  for (int begin = tid; begin < count; begin += threads * kBatch) {
    T values[kBatch];
    int places[kBatch];
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int i = begin + j * threads, rest = p.by_n.divide(i), n = i - rest * columns;
      const int k = rest & (kBlock - 1), matrix = rest / kBlock;
      const int plane = matrix / kLines, line = matrix - plane * kLines;
      const bool valid = i < count && weight_at<kMode>(p, a.ct, n, line, row, column, channel);
      places[j] = i < count ? (matrix * columns + n) * kBlock + ((k >> 3) ^ (n & 7)) * 8 + (k & 7) : -1;
      values[j] = from_float<T>(0.0f);
      if (valid)
        values[j] = weight[(plane * kBlock + k) * a.w_thick + channel * a.w_thin + row * a.w_y + column * a.w_x];
    }
#pragma unroll
    for (int j = 0; j < kBatch; ++j)
      if (places[j] >= 0) to[places[j]] = values[j];
  }
}

// The thick rows of a step into the ring: [row][plane][pixel][64 channels].
template <ThinMode kMode>
__device__ __forceinline__ void load_rows(const ThinGatherArgs& a, const Plan& p, const Tile& tile, const Copies& c,
                                          int first_block, int planes, int step, unsigned char* to) {
  const int plane_bytes = p.strips * (16 * kBlock * 2);
#pragma unroll
  for (int r = 0; r < rows_of(kMode); ++r) {
    const int k = tile.begin + step * rows_of(kMode) + r;
    if (k >= tile.loaded) return;
    const int row = kMode == ThinMode::kReflectAdjoint ? thin_reflect(tile.first_row + k, a.hk) : tile.first_row + k;
    const char* from = c.from + static_cast<int64_t>(row) * c.row_bytes + first_block * (kBlock * 2);
    unsigned char* row_to = to + r * p.planes * plane_bytes;
#pragma unroll 1
    for (int plane = 0; plane < (has_splits(kMode) ? planes : 1); ++plane) {
#pragma unroll
      for (int j = 0; j < kCopies; ++j)
        if (c.offset[j] >= 0) copy_async_16(row_to + c.to[j], from + c.offset[j]);
      from += kBlock * 2;
      row_to += plane_bytes;
    }
  }
}

// The output column that a thread finishes: one channel of one x, in every line of the tile.
struct Column {
  int x;        // -1: none
  int product;  // floats from a line's products to those of this channel and pixel 0
  int64_t at;   // elements from the start of t to its row 0
  float bias;
};

template <class T, ThinMode kMode>
__device__ __forceinline__ Column column_of(const ThinGatherArgs& a, const Plan& p, const Tile& tile) {
  Column c;
  const int i = static_cast<int>(threadIdx.x), pixel = p.by_ct.divide(i), channel = i - pixel * a.ct;
  c.x = kMode == ThinMode::kStride2 ? 2 * tile.unit0 - 1 + pixel : tile.unit0 + pixel;
  const int end = kMode == ThinMode::kStride2 ? min(2 * tile.unit1 - 1, a.wt) : tile.unit1;
  if (i >= p.outputs || c.x >= end) c.x = -1;
  c.product = channel * p.pitch - tile.first_pixel;
  c.at = blockIdx.z * a.t_n + channel * a.t_c + c.x * a.t_w;
  c.bias = 0.0f;
  if (a.bias != nullptr) {
    c.bias = a.bias_dtype == Dtype::kFloat32 ? static_cast<const float*>(a.bias)[channel]
                                             : to_float(static_cast<const T*>(a.bias)[channel]);
  }
  return c;
}

// One output: the products of its taps in one line ([split][n][pixel]). `half`: which row of the pair in kStride2.
template <ThinMode kMode>
__device__ __forceinline__ float sum_taps(const ThinGatherArgs& a, const Plan& p, const Column& c,
                                          const float* products, int half) {
  const int step = a.ct * p.pitch, x = c.x;  // step: from a kernel column to the next
  const float* at = products + c.product;
  float sum = 0.0f;
  if constexpr (kMode == ThinMode::kReflectAdjoint) {
    if (x >= 3 && x < a.wt - 3) {
#pragma unroll
      for (int tap = 0; tap < 7; ++tap) sum += at[x - 3 + tap * (step + 1)];
    } else {
#pragma unroll
      for (int tap = 0; tap < 7; ++tap) sum += at[tap * step + thin_reflect(x - 3 + tap, a.wk)];
    }
  } else if constexpr (kMode == ThinMode::kReflect) {
    if (x >= 4 && x < a.wt - 4) {
#pragma unroll
      for (int tap = 0; tap < 7; ++tap) sum += at[x + 3 + tap * (step - 1)];
    } else {
#pragma unroll 1
      for (int fold = 0; fold < 3; ++fold) {  // the padded columns of x, in the order of thin_preimages
        if (fold == 1 && (x < 1 || x > 3)) continue;
        if (fold == 2 && (x < a.wt - 4 || x > a.wt - 2)) continue;
        const int padded = fold == 0 ? x + 3 : fold == 1 ? 3 - x : 2 * (a.wt - 1) - x + 3;
#pragma unroll
        for (int tap = 0; tap < 7; ++tap)
          if (padded - tap >= 0 && padded - tap < a.wk) sum += at[tap * step + padded - tap];
      }
    }
  } else {
    const int split_floats = p.columns * p.pitch;
#pragma unroll(kMode == ThinMode::kStride2 ? 1 : 4)
    for (int split = 0; split < p.splits; ++split, at += split_floats) {
      if constexpr (kMode == ThinMode::kStride2) {  // x = 2 pixel - 1 + tap
        const int tap = (x + 1) & 1, pixel = (x + 1) >> 1;
        const float* near = at + (half * 4 + tap) * step + pixel;
        if (pixel < a.wk) sum += near[0];
        if (pixel >= 1) sum += near[2 * step - 1];
      } else {
#pragma unroll
        for (int tap = 0; tap < 4; ++tap)
          if (x - 1 + tap >= 0 && x - 1 + tap < a.wk) sum += at[tap * step + x - 1 + tap];
      }
    }
  }
  return sum;
}

// The lines that a step completed: products -> outputs, or -> sums where more is to come. A sum is written and read by
// the thread that owns its column, so that sums need no barrier.
template <class T, ThinMode kMode>
__device__ __forceinline__ void finish_lines(const ThinGatherArgs& a, const Plan& p, const Tile& tile, const Column& c,
                                             int step, int pass, const float* products, float* sums) {
  constexpr int kHalves = kMode == ThinMode::kStride2 ? 2 : 1;
  const int line_floats = p.splits * p.columns * p.pitch;
  if (c.x < 0) return;
#pragma unroll
  for (int r = 0; r < rows_of(kMode); ++r) {
    const int k = tile.begin + step * rows_of(kMode) + r;
    const int line = k - (lines_of(kMode) - 1);
    if (line < 0 || k >= tile.rows) continue;
#pragma unroll
    for (int half = 0; half < kHalves; ++half) {
      int y = tile.line0 + line;  // output row
      int slot = line;            // where its sum is kept
      bool first = pass == 0, last = pass == p.passes - 1;
      if (kMode == ThinMode::kStride2) {
        y = 2 * y - 1 + half;
        if (y < 0 || y >= a.ht) continue;
      }
      if (kMode == ThinMode::kReflect) {
        const int padded = y;
        y = thin_reflect(padded - 3, a.ht);
        if (y < tile.y0 || y >= tile.y1) continue;
        // the padded rows of y, from the top: 3 - y, y + 3, 2 (ht - 1) - y + 3
        first = first && padded == (y >= 1 && y <= 3 ? 3 - y : y + 3);
        last = last && padded == (y >= a.ht - 4 && y <= a.ht - 2 ? 2 * (a.ht - 1) - y + 3 : y + 3);
        slot = p.passes > 1 ? y - tile.y0 : y <= 3 ? y : y - (a.ht - 4) + 4;
      }
      float value = sum_taps<kMode>(a, p, c, products + r * line_floats, half);
      float* kept = sums + (slot * kHalves + half) * p.outputs + threadIdx.x;
      if (!first) value += *kept;
      if (!last) {
        *kept = value;
        continue;
      }
      // bias, activation, store
      value += c.bias;
      if (a.act == ThinAct::kTanh) value = tanhf(value);
      const int64_t at = c.at + y * a.t_h;
      if (a.t_dtype == Dtype::kFloat32)
        static_cast<float*>(a.t)[at] = value;
      else
        static_cast<T*>(a.t)[at] = from_float<T>(value);
    }
  }
}

template <class T, ThinMode kMode>
PYGAN_GLOBAL void __launch_bounds__(warps_of(kMode) * 32) thin_gather_kernel(ThinGatherArgs a, Plan p) {
  constexpr int kLines = lines_of(kMode), kChunks = chunks_of(kMode), kRows = rows_of(kMode);
  PYGAN_DYNAMIC_SHARED(ring, unsigned char);
  float* products = reinterpret_cast<float*>(ring + p.ring_bytes);
  T* weights = reinterpret_cast<T*>(products);
  float* sums = reinterpret_cast<float*>(ring + p.ring_bytes + p.products_bytes);

  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int role = warp / p.strips, strip = warp - role * p.strips;
  const int split = role / p.tiles_n, tile_n = role - split * p.tiles_n;
  const Tile tile = tile_of<kMode>(a, p);
  const Copies copies = copies_of<T>(a, tile);
  const Column column = column_of<T, kMode>(a, p, tile);
  const int steps = (tile.rows - tile.begin + kRows - 1) / kRows;
  const int plane_bytes = p.strips * (16 * kBlock * 2), step_bytes = kRows * p.planes * plane_bytes;
  const int line_floats = p.splits * p.columns * p.pitch;
  // where this lane's fragments begin: of the pixels in a plane of the ring, of the sums in a line of products
  const int pixel_bytes = split * kChunks * plane_bytes + (strip * 16 + (lane & 15)) * (kBlock * 2);
  const int product = ((split * p.tiles_n + tile_n) * 8 + (lane & 3) * 2) * p.pitch + strip * 16 + (lane >> 2);

  for (int pass = 0; pass < p.passes; ++pass) {
    const int first_block = pass * p.planes, planes = min(p.planes, p.blocks - first_block);
    const int chunks = planes - split * kChunks;  // of this warp, at most

    // load: the weights, and the first steps' rows
    if (pass > 0) __syncthreads();  // ring and products are read no more
    load_weights<T, kMode>(a, p, first_block, planes, weights);
    copy_async_commit();
    for (int step = 0; step < p.depth - 1; ++step) {
      if (step < steps) load_rows<kMode>(a, p, tile, copies, first_block, planes, step, ring + step * step_bytes);
      copy_async_commit();
    }
    wait_for_copies(p.depth - 1);
    __syncthreads();
    uint32_t b[kChunks][kLines][4][2];
#pragma unroll
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      const int plane = min(split * kChunks + chunk, planes - 1);
#pragma unroll
      for (int line = 0; line < kLines; ++line) {
        const T* row = weights + ((plane * kLines + line) * p.columns + tile_n * 8 + (lane & 7)) * kBlock;
#pragma unroll
        for (int k = 0; k < 4; k += 2) {
          uint32_t two[4];
          ldmatrix_x4(two, row + ((k * 2 + (lane >> 3)) ^ (lane & 7)) * 8);
          b[chunk][line][k][0] = two[0];
          b[chunk][line][k][1] = two[1];
          b[chunk][line][k + 1][0] = two[2];
          b[chunk][line][k + 1][1] = two[3];
        }
      }
    }
    float sets[kLines][4];  // of the lines that the next row adds to, oldest first
#pragma unroll
    for (int line = 0; line < kLines; ++line)
#pragma unroll
      for (int i = 0; i < 4; ++i) sets[line][i] = 0.0f;

    int slot = 0, free_slot = p.depth - 1;  // in the ring: of this step, of the step before
    for (int step = 0; step <= steps; ++step) {
      // One barrier: this step's rows are there and the products of the step before are, and what the copies and stores
      // below overwrite is read no more.
      wait_for_copies(p.depth - 2);
      __syncthreads();
      if (step + p.depth - 1 < steps) {
        load_rows<kMode>(a, p, tile, copies, first_block, planes, step + p.depth - 1, ring + free_slot * step_bytes);
      }
      copy_async_commit();

      // compute and store: kernel columns of the step before
      if (step > 0) {
        finish_lines<T, kMode>(a, p, tile, column, step - 1, pass, products + ((step - 1) & 1) * kRows * line_floats,
                               sums);
      }
      if (step == steps) break;

      // compute: kernel rows
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int k = tile.begin + step * kRows + r;
        if (k < tile.loaded) {
          const unsigned char* row = ring + slot * step_bytes + r * p.planes * plane_bytes + pixel_bytes;
#pragma unroll
          for (int chunk = 0; chunk < kChunks; ++chunk) {
            if (chunk < chunks) {
#pragma unroll
              for (int i = 0; i < 4; ++i) {
                uint32_t pixels[4];
                ldmatrix_x4(pixels, row + chunk * plane_bytes + ((i * 2 + (lane >> 4)) ^ (lane & 7)) * 16);
#pragma unroll
                for (int line = 0; line < kLines; ++line) mma_m16n8k16<T>(sets[line], pixels, b[chunk][line][i]);
              }
            }
          }
        }
        if (k >= kLines - 1 && k < tile.rows) {  // the oldest line is complete
          float* to = products + ((step & 1) * kRows + r) * line_floats + product;
          to[0] = sets[0][0];
          to[p.pitch] = sets[0][1];
          to[8] = sets[0][2];
          to[p.pitch + 8] = sets[0][3];
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
#pragma unroll
          for (int line = 0; line + 1 < kLines; ++line) sets[line][i] = sets[line + 1][i];
          sets[kLines - 1][i] = 0.0f;
        }
      }
      free_slot = slot;
      slot = slot + 1 == p.depth ? 0 : slot + 1;
    }
  }
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Device {
  int multiprocessors;
  int shared_limit;  // bytes that a block may have
};

// The cut with the least predicted time. The cycles are those of the prediction at the top; they only rank cuts.
template <ThinMode kMode>
Plan plan_of(const ThinGatherArgs& a, const Device& device) {
  constexpr int kLines = lines_of(kMode), kChunks = chunks_of(kMode), kRows = rows_of(kMode);
  constexpr int kHalves = kMode == ThinMode::kStride2 ? 2 : 1;
  constexpr int64_t kRowsAhead = 48 << 10;  // bytes of thick rows to be under way in an SM: bandwidth times latency
  constexpr int64_t kSumBytes = 24 << 10;   // that passes may take
  Plan p{};
  p.blocks = a.ck / kBlock;
  p.tiles_n = (columns_of(kMode) * a.ct + 7) / 8;
  p.columns = p.tiles_n * 8;
  const int blocks_per_warp = (p.blocks + kChunks - 1) / kChunks;
  p.splits = has_splits(kMode) ? min(blocks_per_warp, max(warps_of(kMode) / 2 / p.tiles_n, 1)) : 1;
  p.planes = min(p.splits * kChunks, p.blocks);
  p.passes = (p.blocks + p.planes - 1) / p.planes;
  p.units = kMode == ThinMode::kStride2 ? a.wk + 1 : a.wt;
  p.lines = kMode == ThinMode::kStride2 ? a.hk + 1 : a.ht;
  p.by_ct = divisor(a.ct);
  p.by_n = divisor(p.columns);
  p.weight_units = a.w_thick == 1 && a.w_thin % 8 == 0 && a.w_y % 8 == 0 && a.w_x % 8 == 0 &&
                   reinterpret_cast<uintptr_t>(a.weight) % 16 == 0;

  Plan best{};
  double best_cycles = 0;
  for (p.strips = 1; p.warps() <= warps_of(kMode); ++p.strips) {
    // columns: as few tiles as fit
    int pixels = 0;
    for (p.tiles_x = 1;; ++p.tiles_x) {
      p.units_per_tile = (p.units + p.tiles_x - 1) / p.tiles_x;
      pixels = p.units_per_tile + (p.tiles_x == 1   ? a.wk
                                   : p.tiles_x == 2 ? max(left_of(kMode), right_of(kMode))
                                                    : left_of(kMode) + right_of(kMode));
      pixels = min(pixels, a.wk);
      if (max(pixels, p.units_per_tile) <= p.strips * 16) break;
    }
    p.tiles_x = (p.units + p.units_per_tile - 1) / p.units_per_tile;
    p.outputs = p.units_per_tile * a.ct * kHalves;
    p.pitch = p.strips * 16 + 12;
    const int64_t row_bytes = static_cast<int64_t>(p.planes) * p.strips * 16 * kBlock * 2;
    const int64_t weight_bytes = static_cast<int64_t>(p.planes) * kLines * p.columns * kBlock * 2;
    const int64_t line_bytes = static_cast<int64_t>(p.splits) * p.columns * p.pitch * 4;
    const int64_t sum_line_bytes = static_cast<int64_t>(p.outputs) * kHalves * 4;
    const int64_t sum_lines = p.passes > 1 ? max(kSumBytes / sum_line_bytes, int64_t{1}) : p.lines;
    p.products_bytes = static_cast<int>(max(2 * kRows * line_bytes, weight_bytes));
    p.sums_bytes = static_cast<int>(p.passes > 1                  ? min(sum_lines, int64_t{p.lines}) * sum_line_bytes
                                    : kMode == ThinMode::kReflect ? kFoldLines * sum_line_bytes
                                                                  : 0);
    const int64_t step_bytes = kRows * row_bytes, wanted = max(kRowsAhead / step_bytes + 2, int64_t{3});
    const int64_t fits = (device.shared_limit - p.products_bytes - p.sums_bytes) / step_bytes;
    p.depth = static_cast<int>(min(min(fits, wanted), int64_t{kMaxDepth}));
    if (p.depth < 3) continue;
    p.ring_bytes = static_cast<int>(p.depth * step_bytes);

    // lines: from few tall tiles, with little halo, to as many as there are places for
    const int64_t columns = static_cast<int64_t>(a.n) * p.tiles_x;
    const int64_t resident = max(min(warps_of(kMode) / p.warps(), device.shared_limit / p.shared_bytes()), 1);
    const int64_t places = device.multiprocessors * resident;
    const double tensor =
        static_cast<double>(resident * ((p.warps() + 3) / 4)) * kLines * 4 * min(kChunks, p.blocks) * 7;
    const double memory = static_cast<double>(resident) * p.planes * pixels * 128 / 18;
    const double row_cycles = max(max(tensor, memory), 200.0) + 150.0 / kRows;
    const int64_t fewest = ceil_div(p.lines, sum_lines);
    const int64_t most = max(min(int64_t{p.lines}, max(4 * places / columns, int64_t{8})), fewest);
    for (int64_t tiles = fewest; tiles <= most;) {
      p.lines_per_tile = static_cast<int>(ceil_div(p.lines, tiles));
      p.tiles_y = static_cast<int>(ceil_div(p.lines, p.lines_per_tile));
      const double waves = static_cast<double>(ceil_div(columns * p.tiles_y, places));
      const double cycles = waves * p.passes * ((p.lines_per_tile + kLines - 1) * row_cycles + 4000.0);
      if (best_cycles == 0 || cycles < best_cycles) {
        best = p;
        best_cycles = cycles;
      }
      if (p.lines_per_tile == 1) break;
      tiles = ceil_div(p.lines, p.lines_per_tile - 1);  // the next that are lower
    }
  }
  return best;
}

template <class T, ThinMode kMode>
int launch(const ThinGatherArgs& args, const Device& device, cudaStream_t stream) {
  const Plan plan = plan_of<kMode>(args, device);
  if (plan.strips == 0) return static_cast<int>(cudaErrorInvalidConfiguration);
  const auto kernel = thin_gather_kernel<T, kMode>;
  // The limit is the kernel's, not the launch's: one that followed each launch would fall below what a node of a graph
  // captured before needs.
  const cudaError_t allowed =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, device.shared_limit);
  if (allowed != cudaSuccess) return static_cast<int>(allowed);
  PYGAN_LAUNCH(kernel, dim3(plan.tiles_x, plan.tiles_y, args.n), dim3(plan.warps() * 32), plan.shared_bytes(), stream,
               args, plan);
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int launch_mode(const ThinGatherArgs& args, const Device& device, cudaStream_t stream) {
  switch (args.mode) {
    case ThinMode::kStride2:
      return launch<T, ThinMode::kStride2>(args, device, stream);
    case ThinMode::kReflect:
      return launch<T, ThinMode::kReflect>(args, device, stream);
    case ThinMode::kZeroAdjoint:
      return launch<T, ThinMode::kZeroAdjoint>(args, device, stream);
    case ThinMode::kReflectAdjoint:
      return launch<T, ThinMode::kReflectAdjoint>(args, device, stream);
  }
  return static_cast<int>(cudaErrorInvalidValue);
}

int launch_on(const ThinGatherArgs& args, const Device& device, cudaStream_t stream) {
  if (args.dtype == Dtype::kBFloat16) return launch_mode<bfloat16>(args, device, stream);
  if (args.dtype == Dtype::kFloat16) return launch_mode<half>(args, device, stream);
  return static_cast<int>(cudaErrorInvalidValue);
}

}  // namespace

int thin_gather_cuda(const ThinGatherArgs& args, cudaStream_t stream) {
  int index = 0;
  Device device{};
  cudaError_t error = cudaGetDevice(&index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&device.multiprocessors, cudaDevAttrMultiProcessorCount, index);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&device.shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, index);
  if (error != cudaSuccess) return static_cast<int>(error);
  return launch_on(args, device, stream);
}

}  // namespace pygan

// The kernels of small_conv (small_conv.h), on mma.sync m16n8k16.
//
//   small_conv_kernel     forward and dx. Output channels are the rows of the product, pixels its columns, (tap, input
//                         channel) its depth. A block owns 64 output channels, up to 64 pixels and one slice of the
//                         depth, so that all multiprocessors stream a part of the weight that nobody else reads. The
//                         block that ends a tile last adds the slices in order and stores z; the one that ends the last
//                         tile of its channels owns all their pixels, and does what norm_act does.
//   small_conv_dw_kernel  a block owns 64 x 64 channels of one tap; pixels are the depth, and no sum is shared.
//
// The large map's pixels of equal parity (y % 2, x % 2) meet the same taps, two along each axis, and there is one of
// each parity for every pixel of the small map. So "up" is four products, one per parity, each on a grid of the small
// map's size, with a quarter of the weight; "down" is one product on that grid with all of it.
#include "common/cuda.h"
#include "common/mma.h"
#include "common/philox.h"
#include "common/tickets.h"
#include "ops/small_conv/small_conv.h"

namespace pygan {
namespace {

constexpr int kTile = 64;          // channels on either side, and at most pixels, of a block's tile
constexpr int kThreads = 256;      // 8 warps: 4 times 16 output channels, 2 times 32 pixels (dw: channels)
constexpr int kStages = 6;         // of the pipeline into shared memory: 40 KiB of weights on their way
constexpr int kBlocks = 128;       // aimed at: one for each multiprocessor of a large GPU
constexpr int kPitch = kTile + 8;  // of a finished tile in shared memory; its rows begin in different banks

// --- geometry along one axis ----------------------------------------------------------------------------------------

// The taps that meet anything, of those that output pixels of one parity have: the i-th in [first, first + count) is
// kernel position `position`, and sees `source` of the input from position g of the grid.
struct Taps {
  int first, count;
};

template <bool kUp>
__host__ __device__ __forceinline__ Taps taps_of(int size, int parity) {
  if (size > 1) return {0, kUp ? 2 : 4};
  return kUp ? Taps{parity, 1} : Taps{1, 2};  // the others see padding alone
}

template <bool kUp>
__device__ __forceinline__ int position(int i, int parity) {
  return kUp ? 1 - parity + 2 * i : i;
}

template <bool kUp>
__device__ __forceinline__ int source(int i, int parity, int g) {
  return kUp ? g + parity - i : 2 * g - 1 + i;
}

struct Pixel {
  int n, y, x;
};

__device__ __forceinline__ Pixel pixel_at(int index, int h, int w) {
  return {index / (h * w), index / w % h, index % w};
}

// --- tiles in shared memory -----------------------------------------------------------------------------------------

// Rows of 64 values in 8 pieces of 16 bytes, which change places from row to row: ldmatrix reads the same piece of 8
// rows, and copies write 8 pieces of a row, from all banks.
__device__ __forceinline__ int swizzled(int row, int piece) { return row * kTile + (piece ^ (row & 7)) * 8; }

// The fragment of 16 x 16 values of the left operand, rows from 16 * row_block, columns from 16 * column_block. stored:
// row by row, or (transposed) column by column.
template <bool kTransposed, class T>
__device__ __forceinline__ void load_left(uint32_t (&f)[4], const T* tile, int row_block, int column_block, int lane) {
  if constexpr (kTransposed) {
    ldmatrix_x4_trans(f, tile + swizzled(16 * column_block + lane % 8 + lane / 16 * 8, 2 * row_block + lane / 8 % 2));
  } else {
    ldmatrix_x4(f, tile + swizzled(16 * row_block + lane % 16, 2 * column_block + lane / 16));
  }
}

// The two fragments of 16 x 8 values of the right operand, rows from 16 * row_block, columns from 16 * column_block.
// stored: column by column, or (transposed) row by row.
template <bool kTransposed, class T>
__device__ __forceinline__ void load_right(uint32_t (&low)[2], uint32_t (&high)[2], const T* tile, int row_block,
                                           int column_block, int lane) {
  uint32_t f[4];
  if constexpr (kTransposed) {
    ldmatrix_x4_trans(f, tile + swizzled(16 * row_block + lane % 16, 2 * column_block + lane / 16));
  } else {
    ldmatrix_x4(f, tile + swizzled(16 * column_block + lane % 8 + lane / 16 * 8, 2 * row_block + lane / 8 % 2));
  }
  low[0] = f[0], low[1] = f[1], high[0] = f[2], high[1] = f[3];
}

// --- norm, dropout, activation: as norm_act -------------------------------------------------------------------------

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

__device__ __forceinline__ float at(const void* data, int64_t i) { return static_cast<const float*>(data)[i]; }

// 8 values that another block has just written.
template <class T>
__device__ __forceinline__ Vec<T, 8> load_fresh(const T* from) {
  const uint4 words = __ldcg(reinterpret_cast<const uint4*>(from));
  Vec<T, 8> v;
  memcpy(&v, &words, sizeof(v));
  return v;
}

// Which of 8 neighbouring elements dropout keeps, a bit each. element: index of the first in the packed NHWC tensor.
__device__ __forceinline__ uint32_t kept(const Dropout& dropout, uint64_t element) {
  if (dropout.rng == nullptr) return ~0u;
  uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < 8; i += 4) {
    const PhiloxWords w = philox_quad(dropout.rng, dropout.stream, element / 4 + i / 4);
#pragma unroll
    for (int k = 0; k < 4; ++k) bits |= static_cast<uint32_t>(w.word[k] > dropout.last_dropped) << (i + k);
  }
  return bits;
}

constexpr int kRowsAtOnce = kThreads / 8;  // 8 threads have the 64 channels of a row
constexpr int kRowsInFlight = 4;           // of one thread

// mean and rstd of one statistic group, in the order of norm_act's sums, and the running statistics.
template <class T>
__device__ __forceinline__ void group_statistics(const NormActForward& a, int group, int rows, int m0, float* shared) {
  const int lane = threadIdx.x % 8, row = threadIdx.x / 8, channels = static_cast<int>(a.channels);
  const T* z = static_cast<const T*>(a.x) + group * rows * channels + m0;
  // sums of (z - z0) and (z - z0)^2, z0 the group's first row: no cancellation where the mean is large
  float sum[8] = {}, square[8] = {};
  const Vec<T, 8> z0 = load_fresh(z + lane * 8);
#pragma unroll 8
  for (int r = row; r < rows; r += kRowsAtOnce) {
    const Vec<T, 8> v = load_fresh(z + r * channels + lane * 8);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float d = to_float(v.v[i]) - to_float(z0.v[i]);
      sum[i] += d;
      square[i] = fmaf(d, d, square[i]);
    }
  }
  // the block: one sum per channel, rows in order
  float (*sums)[kTile + 1] = reinterpret_cast<float (*)[kTile + 1]>(shared);
  float (*squares)[kTile + 1] = sums + kRowsAtOnce;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    sums[row][lane * 8 + i] = sum[i];
    squares[row][lane * 8 + i] = square[i];
  }
  __syncthreads();  // the sums of all rows are there
  if (threadIdx.x < kTile) {
    float block_sum = 0.f, block_square = 0.f;
    for (int r = 0; r < kRowsAtOnce; ++r) {
      block_sum += sums[r][threadIdx.x];
      block_square += squares[r][threadIdx.x];
    }
    const int c = m0 + static_cast<int>(threadIdx.x);
    const double n = rows, first = to_float(z[threadIdx.x]), shift = block_sum / n;
    double var = block_square / n - shift * shift;
    if (var < 0) var = 0;  // rounding; a NaN stays
    const float mean = static_cast<float>(first + shift);
    static_cast<float*>(a.mean)[group * channels + c] = mean;
    static_cast<float*>(a.rstd)[group * channels + c] = static_cast<float>(1 / sqrt(var + a.eps));
    if (a.running_mean != nullptr) {
      const float unbiased = static_cast<float>(rows > 1 ? var * (n / (n - 1)) : var);
      const float m = static_cast<float>(a.momentum), rest = static_cast<float>(1 - a.momentum);
      float* running_mean = static_cast<float*>(a.running_mean) + c;
      float* running_var = static_cast<float*>(a.running_var) + c;
      *running_mean = rest * *running_mean + m * mean;
      *running_var = rest * *running_var + m * unbiased;
    }
  }
  __syncthreads();
}

// All rows of channels [m0, m0 + 64): statistics, then normalise, drop, activate, store.
template <class T>
__device__ __forceinline__ void norm_act_of(const NormActForward& a, int m0, float* shared) {
  const int row = threadIdx.x / 8, c = m0 + static_cast<int>(threadIdx.x) % 8 * 8;
  const int channels = static_cast<int>(a.channels), groups = static_cast<int>(a.groups);
  const int rows = static_cast<int>(a.rows) / groups;  // of a group
  const Activation act = activation(a.act, a.slope), skip_act = activation(a.skip_act, a.slope);
  const float keep_scale = a.dropout.rng ? static_cast<float>(a.dropout.keep_scale) : 1.f;
  for (int group = 0; group < groups; ++group) {
    if (a.statistics == Statistics::kBatch) group_statistics<T>(a, group, rows, m0, shared);
    float mean[8], scale[8], shift[8];  // z_hat = (z - mean) * scale + shift
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      float rstd = 1.f;
      mean[i] = 0.f;
      if (a.statistics == Statistics::kBatch) {
        mean[i] = at(a.mean, group * channels + c + i);
        rstd = at(a.rstd, group * channels + c + i);
      } else if (a.statistics == Statistics::kRunning) {
        mean[i] = at(a.running_mean, c + i);
        rstd = 1.f / sqrtf(at(a.running_var, c + i) + static_cast<float>(a.eps));
        if (row == 0) {  // for backward
          static_cast<float*>(a.mean)[c + i] = mean[i];
          static_cast<float*>(a.rstd)[c + i] = rstd;
        }
      }
      scale[i] = rstd * (a.weight ? at(a.weight, c + i) : 1.f);
      shift[i] = a.bias ? at(a.bias, c + i) : 0.f;
    }
    const int end = (group + 1) * rows;
    for (int first = group * rows + row; first < end; first += kRowsInFlight * kRowsAtOnce) {
      Vec<T, 8> z[kRowsInFlight];  // all on their way before the first is needed
#pragma unroll
      for (int b = 0; b < kRowsInFlight; ++b) {
        const int r = first + b * kRowsAtOnce;
        if (r < end) z[b] = load_fresh(static_cast<const T*>(a.x) + r * channels + c);
      }
#pragma unroll
      for (int b = 0; b < kRowsInFlight; ++b) {
        const int r = first + b * kRowsAtOnce;
        if (r >= end) break;
        const uint32_t keep = kept(a.dropout, static_cast<uint64_t>(r * channels + c));
        Vec<T, 8> y, s;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const float factor = keep >> i & 1 ? keep_scale : 0.f;
          const float v = fmaf(to_float(z[b].v[i]) - mean[i], scale[i], shift[i]) * factor;
          y.v[i] = from_float<T>(activate(act, v));
          s.v[i] = from_float<T>(activate(skip_act, v));
        }
        store_vec(static_cast<T*>(a.y) + r * a.ld_y + c, y);
        if (a.s) store_vec(static_cast<T*>(a.s) + r * a.ld_s + c, s);
      }
    }
  }
}

// --- forward and dx -------------------------------------------------------------------------------------------------

struct Product {
  const void *from, *weight, *bias;
  void* to;  // packed
  float* partial;
  int64_t ld_from;
  int n, h, w, cs, cl;  // as in SmallConvShape
  int tile_rows;        // pixels of a tile in shared memory: a multiple of 16, at most 64
};

// Grid: (slices of the depth, output channels / 64, tiles of pixels, of each parity in turn).
template <class T, bool kUp>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 2)
    small_conv_kernel(Product a, NormActForward norm, bool with_norm, unsigned first_ticket) {
  PYGAN_DYNAMIC_SHARED(shared, T);
  const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 % 4, warp_pixel = threadIdx.x / 128 * 32;
  const int row = threadIdx.x / 8, piece = threadIdx.x % 8;  // of a tile, which this thread copies
  const int m0 = blockIdx.y * kTile, channels = kUp ? a.cl : a.cs;
  const int parity = kUp ? blockIdx.z % 4 : 0, parity_y = parity / 2, parity_x = parity % 2;
  const int first_pixel = static_cast<int>(kUp ? blockIdx.z / 4 : blockIdx.z) * kTile;
  const int pixels = min(kTile, a.n * a.h * a.w - first_pixel);  // of this tile
  const int in_h = kUp ? a.h : 2 * a.h, in_w = kUp ? a.w : 2 * a.w;

  // the slice: runs of 64 input channels, tap after tap
  const Taps taps_y = taps_of<kUp>(a.h, parity_y), taps_x = taps_of<kUp>(a.w, parity_x);
  const int runs = (kUp ? a.cs : a.cl) / kTile, depth = taps_y.count * taps_x.count * runs;
  const int begin = static_cast<int>(depth * blockIdx.x / gridDim.x);
  const int end = static_cast<int>(depth * (blockIdx.x + 1) / gridDim.x);
  int run = begin % runs, tap_x = begin / runs % taps_x.count, tap_y = begin / runs / taps_x.count;  // to load next
  const Pixel my_pixel[2] = {pixel_at(first_pixel + row, a.h, a.w), pixel_at(first_pixel + row + 32, a.h, a.w)};

  // load: 64 x 64 weights and tile_rows x 64 values of the input into one stage
  const auto load = [&](T* stage) {
    const int i_y = taps_y.first + tap_y, i_x = taps_x.first + tap_x;
    const int tap = position<kUp>(i_y, parity_y) * 4 + position<kUp>(i_x, parity_x);
    const int outer = kUp ? run * kTile : m0, inner = kUp ? m0 : run * kTile;  // channels of the weight
    const T* weight = static_cast<const T*>(a.weight) + (static_cast<int64_t>(outer + row) * 16 + tap) * a.cl + inner;
    const T* from = static_cast<const T*>(a.from) + run * kTile + piece * 8;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int r = row + 32 * i;
      copy_async_16(stage + swizzled(r, piece), weight + static_cast<int64_t>(32 * i) * 16 * a.cl + piece * 8);
      if (r < a.tile_rows) {
        const int y = source<kUp>(i_y, parity_y, my_pixel[i].y), x = source<kUp>(i_x, parity_x, my_pixel[i].x);
        const bool inside = r < pixels && y >= 0 && y < in_h && x >= 0 && x < in_w;
        const int64_t in_row = inside ? (static_cast<int64_t>(my_pixel[i].n) * in_h + y) * in_w + x : 0;
        copy_async_16(stage + kTile * kTile + swizzled(r, piece), from + in_row * a.ld_from, inside);
      }
    }
    if (++run == runs) {
      run = 0;
      if (++tap_x == taps_x.count) {
        tap_x = 0;
        ++tap_y;
      }
    }
  };

  // compute: 16 output channels x up to 32 pixels a warp
  float sum[4][4] = {};  // pixels warp_pixel + 8 q in sum[q]
  const auto multiply = [&](const T* stage) {
    if (warp_pixel >= a.tile_rows) return;
#pragma unroll
    for (int k = 0; k < kTile / 16; ++k) {
      uint32_t left[4];
      load_left<kUp>(left, stage, warp_row, k, lane);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (warp_pixel + 16 * j >= a.tile_rows) continue;
        uint32_t low[2], high[2];
        load_right<false>(low, high, stage + kTile * kTile, k, warp_pixel / 16 + j, lane);
        mma_m16n8k16<T>(sum[2 * j], left, low);
        mma_m16n8k16<T>(sum[2 * j + 1], left, high);
      }
    }
  };

  const int stage_size = (kTile + a.tile_rows) * kTile, last_stage = (kStages - 1) * stage_size;
  int loading = 0, loaded = 0;  // where the next stage goes, and where the next to compute lies
  for (int i = begin; i < begin + kStages - 1; ++i) {
    if (i < end) load(shared + loading);
    copy_async_commit();
    loading += stage_size;
  }
  for (int i = begin; i < end; ++i) {
    copy_async_wait<kStages - 2>();
    __syncthreads();  // the stage is there for all, and the one before it is free again
    if (i + kStages - 1 < end) load(shared + loading);
    copy_async_commit();
    multiply(shared + loaded);
    loading = loading == last_stage ? 0 : loading + stage_size;
    loaded = loaded == last_stage ? 0 : loaded + stage_size;
  }
  __syncthreads();  // shared memory is free for other uses

  // the slices of a tile: the last block adds them, in order
  const unsigned tile = blockIdx.z * gridDim.y + blockIdx.y;
  if (gridDim.x > 1) {
    float4* const partial = reinterpret_cast<float4*>(a.partial) + tile * gridDim.x * 4 * kThreads + threadIdx.x;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      if (warp_pixel + 8 * q >= pixels) continue;
      partial[(blockIdx.x * 4 + q) * kThreads] = make_float4(sum[q][0], sum[q][1], sum[q][2], sum[q][3]);
    }
    if (!last_to_arrive(tickets + first_ticket + tile, gridDim.x)) return;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      if (warp_pixel + 8 * q >= pixels) continue;
      float4 total = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 8
      for (unsigned slice = 0; slice < gridDim.x; ++slice) {
        const float4 part = __ldcg(partial + (slice * 4 + q) * kThreads);
        total.x += part.x, total.y += part.y, total.z += part.z, total.w += part.w;
      }
      sum[q][0] = total.x, sum[q][1] = total.y, sum[q][2] = total.z, sum[q][3] = total.w;
    }
  }

  // store: through shared memory, so that a pixel's 64 channels go out in 16-byte pieces
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int channel = warp_row * 16 + lane / 4 + 8 * i;
    const float bias = a.bias ? to_float(static_cast<const T*>(a.bias)[m0 + channel]) : 0.f;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int pixel = warp_pixel + 8 * q + lane % 4 * 2;
      shared[pixel * kPitch + channel] = from_float<T>(sum[q][2 * i] + bias);
      shared[(pixel + 1) * kPitch + channel] = from_float<T>(sum[q][2 * i + 1] + bias);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = row + 32 * i;
    if (r >= pixels) continue;
    const Pixel p = my_pixel[i];
    const int64_t out_row =
        kUp ? (static_cast<int64_t>(p.n) * 2 * a.h + 2 * p.y + parity_y) * 2 * a.w + 2 * p.x + parity_x
            : first_pixel + r;
    const auto v = *reinterpret_cast<const Vec<T, 8>*>(shared + r * kPitch + piece * 8);
    store_vec(static_cast<T*>(a.to) + out_row * channels + m0 + piece * 8, v);
  }
  if (!with_norm) return;

  // the tiles of these channels: the last block has all their pixels
  if (gridDim.z > 1) {
    const unsigned ticket = first_ticket + gridDim.y * gridDim.z + blockIdx.y;
    if (!last_to_arrive(tickets + ticket, gridDim.z)) return;
  } else {
    __syncthreads();
  }
  norm_act_of<T>(norm, m0, reinterpret_cast<float*>(shared));
}

// --- dw -------------------------------------------------------------------------------------------------------------

struct WeightGradient {
  const void *small, *large;
  void* dw;
  int64_t ld_small, ld_large;
  int n, h, w, cs, cl;
  int tile_rows;  // pixels of a tile in shared memory: a multiple of 16, at most 64
};

// Grid: (cl / 64, cs / 64, taps).
template <class T>
PYGAN_GLOBAL void __launch_bounds__(kThreads) small_conv_dw_kernel(WeightGradient a) {
  PYGAN_DYNAMIC_SHARED(shared, T);
  const int lane = threadIdx.x % 32, warp_row = threadIdx.x / 32 % 4, warp_column = threadIdx.x / 128 * 2;
  const int row = threadIdx.x / 8, piece = threadIdx.x % 8;
  const int s0 = blockIdx.y * kTile, l0 = blockIdx.x * kTile;
  const int tap = blockIdx.z, tap_y = tap / 4, tap_x = tap % 4;
  const int pixels = a.n * a.h * a.w, tiles = (pixels + kTile - 1) / kTile;

  // load: tile_rows pixels of the small map, and the pixels of the large one that they meet through the tap
  const auto load = [&](T* stage, int tile) {
    for (int r = row; r < a.tile_rows; r += kThreads / 8) {
      const int index = tile * kTile + r;
      const Pixel p = pixel_at(index, a.h, a.w);
      const int y = source<false>(tap_y, 0, p.y), x = source<false>(tap_x, 0, p.x);
      const bool there = index < pixels, meets = there && y >= 0 && y < 2 * a.h && x >= 0 && x < 2 * a.w;
      const int64_t large_row = meets ? (static_cast<int64_t>(p.n) * 2 * a.h + y) * 2 * a.w + x : 0;
      const T* small = static_cast<const T*>(a.small) + (there ? index * a.ld_small : 0) + s0 + piece * 8;
      const T* large = static_cast<const T*>(a.large) + large_row * a.ld_large + l0 + piece * 8;
      copy_async_16(stage + swizzled(r, piece), small, there);
      copy_async_16(stage + a.tile_rows * kTile + swizzled(r, piece), large, meets);
    }
  };

  // compute: 16 x 32 channels a warp
  float sum[4][4] = {};
  const int stage_size = 2 * a.tile_rows * kTile;
  load(shared, 0);
  copy_async_commit();
  for (int tile = 0; tile < tiles; ++tile) {
    if (tile + 1 < tiles) load(shared + (tile + 1) % 2 * stage_size, tile + 1);
    copy_async_commit();
    copy_async_wait<1>();
    __syncthreads();  // the stage is there for all
    const T* stage = shared + tile % 2 * stage_size;
    for (int k = 0; k < a.tile_rows / 16; ++k) {
      uint32_t left[4];
      load_left<true>(left, stage, warp_row, k, lane);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        uint32_t low[2], high[2];
        load_right<true>(low, high, stage + a.tile_rows * kTile, k, warp_column + j, lane);
        mma_m16n8k16<T>(sum[2 * j], left, low);
        mma_m16n8k16<T>(sum[2 * j + 1], left, high);
      }
    }
    __syncthreads();  // and free again
  }

  // store: through shared memory, in 16-byte pieces
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      T* to = shared + (warp_row * 16 + lane / 4 + 8 * i) * kPitch + warp_column * 16 + 8 * q + lane % 4 * 2;
      to[0] = from_float<T>(sum[q][2 * i]);
      to[1] = from_float<T>(sum[q][2 * i + 1]);
    }
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int r = row + 32 * i;
    const auto v = *reinterpret_cast<const Vec<T, 8>*>(shared + r * kPitch + piece * 8);
    store_vec(static_cast<T*>(a.dw) + (static_cast<int64_t>(s0 + r) * 16 + tap) * a.cl + l0 + piece * 8, v);
  }
}

// --- launches -------------------------------------------------------------------------------------------------------

int64_t pixels_of(const SmallConvShape& s) { return s.n * s.h * s.w; }

// Pixels of a tile in shared memory.
int tile_rows_of(const SmallConvShape& s) {
  const int64_t rows = (pixels_of(s) + 15) / 16 * 16;
  return rows < kTile ? static_cast<int>(rows) : kTile;
}

// The grid of small_conv_kernel: a function of the shape alone, so that the order of its sums is, too.
dim3 grid_of(const SmallConvShape& s) {
  const int64_t rows = (s.up ? s.cl : s.cs) / kTile, tiles = (pixels_of(s) + kTile - 1) / kTile * (s.up ? 4 : 1);
  const int taps = s.up ? taps_of<true>(s.h, 0).count * taps_of<true>(s.w, 0).count
                        : taps_of<false>(s.h, 0).count * taps_of<false>(s.w, 0).count;
  const int64_t most = taps * (s.up ? s.cs : s.cl) / kTile, wanted = kBlocks / (rows * tiles);
  const int64_t slices = wanted < 1 ? 1 : wanted < most ? wanted : most;
  return dim3(static_cast<unsigned>(slices), static_cast<unsigned>(rows), static_cast<unsigned>(tiles));
}

bool fits(const SmallConvShape& s) {
  return (s.dtype == Dtype::kBFloat16 || s.dtype == Dtype::kFloat16) && s.cs % kTile == 0 && s.cl % kTile == 0;
}

template <class T, bool kUp>
int launch(const SmallConvShape& s, Product a, const NormActForward* norm, dim3 grid, cudaStream_t stream) {
  a.n = static_cast<int>(s.n), a.h = static_cast<int>(s.h), a.w = static_cast<int>(s.w);
  a.cs = static_cast<int>(s.cs), a.cl = static_cast<int>(s.cl);
  a.tile_rows = tile_rows_of(s);
  const unsigned count = grid.y * grid.z + grid.y;
  if (count > kTickets / 2) return static_cast<int>(cudaErrorInvalidValue);
  const size_t bytes = kStages * (kTile + a.tile_rows) * kTile * sizeof(T);
  auto* kernel = small_conv_kernel<T, kUp>;
  constexpr int kMost = kStages * 2 * kTile * kTile * sizeof(T) + 256;  // and what last_to_arrive declares
  const auto allowed = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMost);
  if (allowed != cudaSuccess) return static_cast<int>(allowed);
  PYGAN_LAUNCH(kernel, grid, dim3(kThreads), bytes, stream, a, norm ? *norm : NormActForward{}, norm != nullptr,
               next_tickets(stream, count));
  return static_cast<int>(cudaGetLastError());
}

int launch_any(const SmallConvShape& s, const Product& a, const NormActForward* norm, cudaStream_t stream) {
  if (!fits(s)) return static_cast<int>(cudaErrorInvalidValue);
  const dim3 grid = grid_of(s);
  if (s.dtype == Dtype::kBFloat16)
    return s.up ? launch<bfloat16, true>(s, a, norm, grid, stream) : launch<bfloat16, false>(s, a, norm, grid, stream);
  return s.up ? launch<half, true>(s, a, norm, grid, stream) : launch<half, false>(s, a, norm, grid, stream);
}

template <class T>
int launch_dw(const SmallConvDw& args, cudaStream_t stream) {
  WeightGradient a{};
  a.small = args.small, a.large = args.large, a.dw = args.dw;
  a.ld_small = args.ld_small, a.ld_large = args.ld_large;
  a.n = static_cast<int>(args.n), a.h = static_cast<int>(args.h), a.w = static_cast<int>(args.w);
  a.cs = static_cast<int>(args.cs), a.cl = static_cast<int>(args.cl);
  a.tile_rows = tile_rows_of(args);
  const size_t stages = pixels_of(args) > kTile ? 2 : 1, tile = kTile * kPitch * sizeof(T);
  const size_t pipeline = stages * 2 * a.tile_rows * kTile * sizeof(T);
  const dim3 grid(static_cast<unsigned>(args.cl / kTile), static_cast<unsigned>(args.cs / kTile), 16);
  PYGAN_LAUNCH((small_conv_dw_kernel<T>), grid, dim3(kThreads), pipeline > tile ? pipeline : tile, stream, a);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int64_t small_conv_workspace_floats(const SmallConvShape& s) {
  const dim3 grid = grid_of(s);
  return grid.x > 1 ? static_cast<int64_t>(grid.x) * grid.y * grid.z * kTile * kTile : 0;
}

int small_conv_cuda(const SmallConvForward& args, cudaStream_t stream) {
  Product a{};
  a.from = args.x, a.weight = args.weight, a.bias = args.bias;
  a.to = const_cast<void*>(args.norm.x);
  a.partial = args.workspace;
  a.ld_from = args.ld_x;
  return launch_any(args, a, args.norm.y ? &args.norm : nullptr, stream);
}

int small_conv_dx_cuda(const SmallConvDx& args, cudaStream_t stream) {
  Product a{};
  a.from = args.dz, a.weight = args.weight;
  a.to = args.dx;
  a.partial = args.workspace;
  a.ld_from = args.ld_dz;
  return launch_any(args, a, nullptr, stream);
}

int small_conv_dw_cuda(const SmallConvDw& args, cudaStream_t stream) {
  if (!fits(args)) return static_cast<int>(cudaErrorInvalidValue);
  return args.dtype == Dtype::kBFloat16 ? launch_dw<bfloat16>(args, stream) : launch_dw<half>(args, stream);
}

}  // namespace pygan

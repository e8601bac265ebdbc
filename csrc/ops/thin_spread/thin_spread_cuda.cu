// The kernels of thin_spread and thin_wgrad (contract: thin_spread.h). Both keep what is small in registers for the
// life of a block, weights or their gradient, and let the pixels stream by.
#include "common/mma.h"
#include "ops/thin_spread/thin_spread.h"

namespace pygan {
namespace {

constexpr int kThreads = 128;  // 4 warps
constexpr int kStrip = 16;     // neighbouring pixels of a row: one side of every matrix product
constexpr int kGroup = 64;     // thick channels of a block

int ceil_div(int a, int b) { return (a + b - 1) / b; }

// P values of one thin pixel, two to a word: ct of them and padding up to 4 or 8.
template <int P>
using Cell = Vec<uint32_t, P / 2>;

// What both kernels derive from the mode and the padding. A kernel row has 4 or 8 tap slots: 7 taps and an empty one.
template <ThinMode M, int P>
struct Window {
  static constexpr int K = thin_kernel_size(M), S = thin_stride(M), kLead = thin_lead(M);
  static constexpr int kSlots = K == 7 ? 8 : 4;
  static constexpr int kSteps = kSlots * P / 16;  // of 16 in the direction that a product sums over
};

template <class T>
__device__ __forceinline__ uint32_t pack(float low, float high) {
  uint32_t word;
  if constexpr (std::is_same_v<T, bfloat16>) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    memcpy(&word, &both, sizeof(word));
  } else {
    const __half2 both = __floats2half2_rn(low, high);
    memcpy(&word, &both, sizeof(word));
  }
  return word;
}

// Cells [0, cells) of the patch of sample n whose first one is thin pixel (y0, x0), row after row of kPitch, go to
// store(row, column, cell). Beyond the map: zeros, or its reflection. Channels from ct on are `rest`. kDense: the
// channels of a pixel are neighbours in memory. Offsets have 32 bits: thin_check.h.
template <class T, ThinMode M, int P, int kPitch, bool kDense, class Thin, class Store>
__device__ __forceinline__ void fill_patch(const ThinShape& a, const Thin* t, int n, int y0, int x0, unsigned cells,
                                           float rest, const Store& store) {
  constexpr int kBatch = kDense ? 16 / P : 1;  // pixels of a thread whose loads are under way together
  const int sample = n * static_cast<int>(a.t_n), t_c = kDense ? 1 : static_cast<int>(a.t_c);
#pragma unroll 1
  for (unsigned first = threadIdx.x; first < cells; first += kBatch * kThreads) {
    float v[kBatch][P];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const unsigned i = first + b * kThreads;
      int y = y0 + static_cast<int>(i / kPitch), x = x0 + static_cast<int>(i % kPitch);
      if constexpr (M == ThinMode::kReflect) {
        y = thin_reflect(y, a.ht);
        x = thin_reflect(x, a.wt);
      }
      // as unsigned, what is negative is beyond the end
      const bool inside = i < cells && static_cast<unsigned>(y) < static_cast<unsigned>(a.ht) &&
                          static_cast<unsigned>(x) < static_cast<unsigned>(a.wt);
      const int pixel = sample + y * static_cast<int>(a.t_h) + x * static_cast<int>(a.t_w);
#pragma unroll
      for (int c = 0; c < P; ++c) {
        v[b][c] = c < a.ct ? 0.f : rest;
        if (inside && c < a.ct) v[b][c] = to_float(t[pixel + c * t_c]);
      }
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const unsigned i = first + b * kThreads;
      if (i >= cells) break;
      Cell<P> cell;
#pragma unroll
      for (int c = 0; c < P; c += 2) cell.v[c / 2] = pack<T>(v[b][c], v[b][c + 1]);
      store(static_cast<int>(i / kPitch), static_cast<int>(i % kPitch), cell);
    }
  }
}

template <class T, ThinMode M, int P, int kPitch, class Store>
__device__ __forceinline__ void fill_patch(const ThinShape& a, const void* t, bool float32, int n, int y0, int x0,
                                           int cells, float rest, const Store& store) {
  const float* wide = static_cast<const float*>(t);
  const T* low = static_cast<const T*>(t);
  const bool dense = a.t_c == 1 || a.ct == 1;
  if (float32 && dense)
    fill_patch<T, M, P, kPitch, true>(a, wide, n, y0, x0, cells, rest, store);
  else if (float32)
    fill_patch<T, M, P, kPitch, false>(a, wide, n, y0, x0, cells, rest, store);
  else if (dense)
    fill_patch<T, M, P, kPitch, true>(a, low, n, y0, x0, cells, rest, store);
  else
    fill_patch<T, M, P, kPitch, false>(a, low, n, y0, x0, cells, rest, store);
}

// --- thin_spread ----------------------------------------------------------------------------------------------------
// Rows of the product: 16 pixels; columns: the 16 thick channels of a warp; summed over: the taps of a kernel row and
// their channels. A lane takes all 4 (or 8) channels of one tap, which is one load from the patch, and the same ones of
// the weights: which position in the sum a value has is free as long as both operands agree.

constexpr int kTileWidth = 2 * kStrip, kTileRows = 16;  // pixels of a tile, at most
constexpr int kRowsAtOnce = 4;                          // that share the values of the patch in registers
constexpr int kWeightPitch = kGroup + 1;                // cells between taps: no bank conflicts, whichever is inner

template <class T, ThinMode M, int P>
struct Spread : Window<M, P> {
  using W = Window<M, P>;
  static constexpr int kPitch = (kTileWidth - 1) * W::S + W::kSlots;
  static constexpr int kPatch = ((kTileRows - 1) * W::S + W::K) * kPitch;
  static constexpr int kWeights = W::K * W::K * kWeightPitch;
  static constexpr int kCells = kPatch > kWeights ? kPatch : kWeights;
  static constexpr int kResident = W::K == 7 || P == 8 ? 3 : 4;  // blocks of a multiprocessor, by registers
};

// The weights of the block's thick channels: cells [window position][channel]. Threads walk along the memory.
template <class T, ThinMode M, int P>
__device__ __forceinline__ void stage_weights(const ThinSpreadArgs& a, int first_channel, Cell<P>* cells) {
  constexpr int K = Window<M, P>::K;
  const bool taps_inside = a.w_thick > a.w_x;
#pragma unroll 4
  for (int i = threadIdx.x; i < K * K * kGroup; i += kThreads) {
    const int position = taps_inside ? i % (K * K) : i / kGroup;
    const int o = taps_inside ? i / (K * K) : i % kGroup;
    const int tap = thin_flipped(M) ? K * K - 1 - position : position;
    const T* from =
        static_cast<const T*>(a.weight) + (first_channel + o) * a.w_thick + tap / K * a.w_y + tap % K * a.w_x;
    Cell<P> cell;
#pragma unroll
    for (int c = 0; c < P; c += 2) {
      const float low = c < a.ct ? to_float(from[c * a.w_thin]) : 0.f;
      const float high = c + 1 < a.ct ? to_float(from[(c + 1) * a.w_thin]) : 0.f;
      cell.v[c / 2] = pack<T>(low, high);
    }
    cells[position * kWeightPitch + o] = cell;
  }
}

__device__ __forceinline__ float activate(float z, float below) {
  return z < 0.f ? (below == 0.f ? 0.f : z * below) : z;  // not 0 * -Inf
}

// 16 pixels x 16 channels of the output from the fragments of two products. Channels are dealt to columns so that a
// lane has four neighbours of pixel g and of pixel g + 8; a swap within each pair of lanes makes that eight of one
// pixel.
template <class T>
__device__ __forceinline__ void store_row(const float (&z)[2][4], float below, T* row, int64_t ld, int pixels) {
  const int lane = threadIdx.x % 32, odd = lane % 2;
  uint32_t near[2], far[2];
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    near[j] = pack<T>(activate(z[j][0], below), activate(z[j][1], below));
    far[j] = pack<T>(activate(z[j][2], below), activate(z[j][3], below));
  }
  Vec<uint32_t, 4> out;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const uint32_t other = __shfl_xor_sync(0xffffffffu, odd ? near[j] : far[j], 1);
    out.v[j] = odd ? other : near[j];
    out.v[2 + j] = odd ? far[j] : other;
  }
  const int pixel = lane / 4 + 8 * odd;
  if (pixel < pixels) store_vec(reinterpret_cast<uint32_t*>(row + pixel * ld + lane % 4 / 2 * 8), out);
}

// kReflectAdjoint: pixels near the edge have further preimages, whose windows lie elsewhere in the patch. Adds what
// they see to four rows of 16 pixels. A preimage is straight, or folded at the low or at the high edge, in each
// direction.
template <class T>
__device__ __forceinline__ void add_folds(const ThinShape& a, const Cell<4>* cells, int y0, int x0, int top, int strip,
                                          const uint32_t (&b)[7][2][2][2], float (&z)[kRowsAtOnce][2][4]) {
  constexpr int kPitch = Spread<T, ThinMode::kReflectAdjoint, 4>::kPitch;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4, y = y0 + top, x = x0 + strip;
#pragma unroll 1
  for (int fold = 1; fold < 9; ++fold) {
    const int fold_y = fold / 3, fold_x = fold % 3;
    // the indices that have this preimage: all, [1, 3] or [size - 4, size - 2]
    const int low_x = fold_x == 0 ? 0 : fold_x == 1 ? 1 : a.wk - 4, low_y = fold_y == 1 ? 1 : a.hk - 4;
    const int high_x = fold_x == 0 ? a.wk - 1 : fold_x == 1 ? 3 : a.wk - 2, high_y = fold_y == 1 ? 3 : a.hk - 2;
    if (high_x < x || low_x >= x + kStrip) continue;
    int begin[2];  // thin columns at which the windows of pixels g and g + 8 begin
    bool has[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int p = x + g + 8 * h;
      has[h] = p >= low_x && p <= high_x;
      begin[h] = fold_x == 0 ? p - 3 : fold_x == 1 ? -3 - p : 2 * (a.wk - 1) - p - 3;
    }
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      const int p = y + i;
      if (fold_y != 0 && (p < low_y || p > high_y)) continue;
      const int from = fold_y == 0 ? p - 3 : fold_y == 1 ? -3 - p : 2 * (a.hk - 1) - p - 3;
#pragma unroll
      for (int ky = 0; ky < 7; ++ky) {
        if (from + ky < 0 || from + ky >= a.ht) continue;
        const Cell<4>* row = cells + (from + ky - (y0 - 3)) * kPitch;
#pragma unroll
        for (int s = 0; s < 2; ++s) {
          uint32_t v[4];
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const int column = begin[h] + 4 * s + t;
            const bool seen = has[h] && 4 * s + t < 7 && column >= 0 && column < a.wt;
            const Cell<4> zero = {};
            const Cell<4> cell = seen ? row[column - (x0 - 3)] : zero;
            v[h] = cell.v[0];
            v[2 + h] = cell.v[1];
          }
#pragma unroll
          for (int j = 0; j < 2; ++j) mma_m16n8k16<T>(z[i][j], v, b[ky][s][j]);
        }
      }
    }
  }
}

template <class T, ThinMode M, int P>
PYGAN_GLOBAL void __launch_bounds__(kThreads, Spread<T, M, P>::kResident)
    thin_spread_kernel(ThinSpreadArgs a, int rows, int tiles_x, int tiles_y, int tiles) {
  using Tile = Spread<T, M, P>;
  constexpr int K = Tile::K, S = Tile::S, kSteps = Tile::kSteps, kPitch = Tile::kPitch;
  PYGAN_SHARED(cells, Cell<P>[Tile::kCells]);
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int channel = blockIdx.y * kGroup + threadIdx.x / 32 * 16;  // first of this warp

  // weights and bias into registers, once
  stage_weights<T, M, P>(a, blockIdx.y * kGroup, cells);
  __syncthreads();
  uint32_t b[K][kSteps][2][2];
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int o = channel % kGroup + g / 2 * 4 + j * 2 + g % 2;  // the channel of column g
#pragma unroll
    for (int ky = 0; ky < K; ++ky) {
#pragma unroll
      for (int s = 0; s < kSteps; ++s) {
        const int kx = P == 4 ? 4 * s + t : t;
        const bool tap = kx < K;
        const Cell<P>& cell = cells[(ky * K + (tap ? kx : 0)) * kWeightPitch + o];
#pragma unroll
        for (int i = 0; i < 2; ++i) b[ky][s][j][i] = tap ? cell.v[P == 4 ? i : 2 * s + i] : 0;
      }
    }
  }
  float bias[2][2] = {};
  if (a.bias != nullptr) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int o = channel + 4 * t + 2 * j + e;
        bias[j][e] = a.bias_dtype == Dtype::kFloat32 ? static_cast<const float*>(a.bias)[o]
                                                     : to_float(static_cast<const T*>(a.bias)[o]);
      }
    }
  }

  // the values of 16 pixels at one row of the window, from the cells that their windows begin at
  const auto load = [&](const Cell<P>* near, const Cell<P>* far, uint32_t (&v)[kSteps][4]) {
#pragma unroll
    for (int s = 0; s < kSteps; ++s) {
      const bool tap = K % 4 == 0 || 4 * s + t < K;  // the empty slot: its cell is another window's, and may be NaN
      const Cell<P> zero = {};
      const Cell<P> first = tap ? near[P == 4 ? 4 * s + t : t] : zero,
                    second = tap ? far[P == 4 ? 4 * s + t : t] : zero;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        v[s][2 * i] = first.v[P == 4 ? i : 2 * s + i];
        v[s][2 * i + 1] = second.v[P == 4 ? i : 2 * s + i];
      }
    }
  };

  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int x0 = tile % tiles_x * kTileWidth, y0 = tile / tiles_x % tiles_y * rows, n = tile / (tiles_x * tiles_y);
    __syncthreads();  // the weights, or the last patch, have been read
    fill_patch<T, M, P, kPitch>(a, a.t, a.t_dtype == Dtype::kFloat32, n, y0 * S - Tile::kLead, x0 * S - Tile::kLead,
                                ((rows - 1) * S + K) * kPitch, 0.f,
                                [&](int row, int column, const Cell<P>& cell) { cells[row * kPitch + column] = cell; });
    __syncthreads();

    for (int strip = 0; strip < kTileWidth && x0 + strip < a.wk; strip += kStrip) {
      for (int top = 0; top < rows && y0 + top < a.hk; top += kRowsAtOnce) {
        float z[kRowsAtOnce][2][4];
#pragma unroll
        for (int i = 0; i < kRowsAtOnce; ++i) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) z[i][j][e] = bias[j][e % 2];
          }
        }
        // each row of the patch goes to all output rows that see it
        const Cell<P>* corner = cells + top * S * kPitch + (strip + g) * S;
#pragma unroll
        for (int r = 0; r < (kRowsAtOnce - 1) * S + K; ++r) {
          uint32_t v[kSteps][4];
          load(corner + r * kPitch, corner + r * kPitch + 8 * S, v);
#pragma unroll
          for (int i = 0; i < kRowsAtOnce; ++i) {
            const int ky = r - i * S;
            if (ky < 0 || ky >= K) continue;
#pragma unroll
            for (int s = 0; s < kSteps; ++s) {
#pragma unroll
              for (int j = 0; j < 2; ++j) mma_m16n8k16<T>(z[i][j], v[s], b[ky][s][j]);
            }
          }
        }
        if constexpr (M == ThinMode::kReflectAdjoint) add_folds<T>(a, cells, y0, x0, top, strip, b, z);
        // store
#pragma unroll
        for (int i = 0; i < kRowsAtOnce; ++i) {
          const int y = y0 + top + i, x = x0 + strip;
          if (y >= a.hk) break;
          const int64_t m = (static_cast<int64_t>(n) * a.hk + y) * a.wk + x;
          store_row(z[i], static_cast<float>(a.below_y), static_cast<T*>(a.y) + m * a.k_ld + channel, a.k_ld, a.wk - x);
          if (a.s != nullptr)
            store_row(z[i], static_cast<float>(a.below_s), static_cast<T*>(a.s) + m * a.ld_s + channel, a.ld_s,
                      a.wk - x);
        }
      }
    }
  }
}

int multiprocessors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count > 0 ? count : 1;
}

// slots: blocks that a GPU holds at once.
template <class T, ThinMode M, int P>
int launch_spread(const ThinSpreadArgs& a, int slots, cudaStream_t stream) {
  const int groups = a.ck / kGroup, tiles_x = ceil_div(a.wk, kTileWidth);
  // lower tiles where there would be too few to go round; no value depends on it
  int rows = kTileRows;
  while (rows > kRowsAtOnce && int64_t{a.n} * tiles_x * ceil_div(a.hk, rows) * groups < 2 * slots) rows /= 2;
  const int tiles_y = ceil_div(a.hk, rows), tiles = a.n * tiles_x * tiles_y;
  const int per_group = slots / groups < 1 ? 1 : slots / groups;
  const dim3 grid(static_cast<unsigned>(tiles < per_group ? tiles : per_group), static_cast<unsigned>(groups));
  PYGAN_LAUNCH((thin_spread_kernel<T, M, P>), grid, dim3(kThreads), 0, stream, a, rows, tiles_x, tiles_y, tiles);
  return static_cast<int>(cudaGetLastError());
}

// --- thin_wgrad -----------------------------------------------------------------------------------------------------
// Rows of the product: thick channels; columns: taps and channels; summed over: 16 pixels of a row. A warp owns eight
// columns of every kernel row (two taps of 4 channels, or one of 8), and goes down a strip of the image: then each row
// of the patch is loaded once, and moves up through the kernel rows.

constexpr int kStages = 4, kStageRows = 2;  // thick rows on their way into shared memory

template <ThinMode M, int P>
struct Wgrad : Window<M, P> {
  using W = Window<M, P>;
  static constexpr int kColumns = W::kSlots * P;  // of a kernel row
  static constexpr int kOctets = kColumns / 8;    // 4 or 2
  static constexpr int kShare = 4 / kOctets;      // warps that share an octet, by thick channels
  static constexpr int kBlocks = 4 / kShare;      // of 16 thick channels, for a warp
  static constexpr int kRows = P == 8 ? 16 : 32;  // of a tile, at most
  static constexpr int kPitch = ((kStrip - 1) * W::S + W::kSlots + 1) / 2 * 2;  // even: a row begins at 16 bytes
  static constexpr int kPatch = ((kRows - 1) * W::S + W::K) * kPitch;
  // ldmatrix wants 16-byte aligned rows, and a pixel has 8 bytes: where windows begin at every pixel, the odd ones read
  // a copy that is shifted by one. Half a round of the banks away from the first, so both are read at once.
  static constexpr bool kTwice = W::S == 1 && P == 4;
  static constexpr int kCopy = (kPatch + 15) / 16 * 16 + 8;
  static constexpr int kCells = kTwice ? 2 * kCopy : kPatch;
  static constexpr int kPad = M == ThinMode::kReflectAdjoint ? 6 : 0;  // this map is summed over padded pixels: no fold
};

struct WgradPlan {
  int rows, tiles_x, tiles_y, tiles, splits;
};

// A function of the shape alone: so are the sums and their order.
inline WgradPlan wgrad_plan(const ThinShape& s) {
  WgradPlan p{};
  const int pad = s.mode == ThinMode::kReflectAdjoint ? 6 : 0, groups = ceil_div(s.ck, kGroup);
  p.tiles_x = ceil_div(s.wk + pad, kStrip);
  p.rows = s.mode == ThinMode::kStride2 && s.ct > 3 ? 16 : 32;
  if (int64_t{s.n} * p.tiles_x * ceil_div(s.hk + pad, p.rows) * groups < 128) p.rows = 8;
  p.tiles_y = ceil_div(s.hk + pad, p.rows);
  p.tiles = s.n * p.tiles_x * p.tiles_y;
  // two blocks a multiprocessor where there is work for them; each costs a partial sum as large as the gradient
  const int blocks = int64_t{p.tiles} * groups >= 1024 ? 256 : 128;
  const int most = blocks / groups < 1 ? 1 : blocks / groups;
  p.splits = p.tiles < most ? p.tiles : most;
  return p;
}

// A place in the rows of the tiles [tile, last).
struct Cursor {
  int tile, last, row, rows, n, y0, x0;
  __device__ __forceinline__ void enter(const WgradPlan& p, int height) {
    row = 0;
    x0 = tile % p.tiles_x * kStrip;
    y0 = tile / p.tiles_x % p.tiles_y * p.rows;
    n = tile / (p.tiles_x * p.tiles_y);
    rows = height - y0 < p.rows ? height - y0 : p.rows;
  }
  __device__ __forceinline__ void next(const WgradPlan& p, int height) {
    row += kStageRows;
    if (row < rows) return;
    ++tile;
    enter(p, height);
  }
};

template <class T, ThinMode M, int P>
PYGAN_GLOBAL void __launch_bounds__(kThreads, 3) thin_wgrad_kernel(ThinWgradArgs a, WgradPlan plan) {
  using Tile = Wgrad<M, P>;
  constexpr int K = Tile::K, S = Tile::S, kPitch = Tile::kPitch, kBlocks = Tile::kBlocks;
  constexpr int kRowBytes = kGroup * 2, kStageBytes = kStageRows * kStrip * kRowBytes;
  PYGAN_SHARED(patch, Vec<uint32_t, 4>[(Tile::kCells * sizeof(Cell<P>) + 15) / 16]);  // cells, aligned for ldmatrix
  Cell<P>* cells = reinterpret_cast<Cell<P>*>(patch);
  PYGAN_SHARED(stages, Vec<uint32_t, 4>[kStages * kStageBytes / 16]);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int octet = warp % Tile::kOctets, share = warp / Tile::kOctets;
  const int height = a.hk + Tile::kPad, width = a.wk + Tile::kPad;

  // two rows of 16 pixels x 64 channels: 16 bytes of each row for a thread, swizzled against bank conflicts
  const auto issue = [&](const Cursor& at, int stage) {
    const int pixel = threadIdx.x / 8, chunk = threadIdx.x % 8;
#pragma unroll
    for (int r = 0; r < kStageRows; ++r) {
      int y = at.y0 + at.row + r, x = at.x0 + pixel;
      const bool valid = at.tile < at.last && y < height && x < width;
      if constexpr (Tile::kPad > 0) {
        y = thin_reflect(y - 3, a.hk);
        x = thin_reflect(x - 3, a.wk);
      }
      const int64_t m = valid ? (static_cast<int64_t>(at.n) * a.hk + y) * a.wk + x : 0;
      copy_async_16(stages + ((stage * kStageRows + r) * kStrip + pixel) * 8 + (chunk ^ pixel % 8),
                    static_cast<const T*>(a.k) + m * a.k_ld + blockIdx.y * kGroup + chunk * 8, valid);
    }
    copy_async_commit();
  };
  // this lane's row of the 16 pixels at patch row `row`: the cells of its octet
  const int pixel = lane % 16, cell = pixel * S + octet * (8 / P);
  const Cell<P>* mine = Tile::kTwice && pixel % 2 ? cells + Tile::kCopy + cell - 1 : cells + cell;

  float sum[kBlocks][K][4] = {};
  // The sum of the thin pixels is a product with ones at window positions that meet each of them once: 1 to S.
  const bool thin_sum = a.t_sum != nullptr && blockIdx.y == 0 && share == 0;
  const uint32_t one = pack<T>(1.f, 1.f), ones[4] = {one, one, one, one};
  float once[4] = {};
  Cursor use{}, load{};
  use.tile = static_cast<int>(static_cast<int64_t>(plan.tiles) * blockIdx.x / gridDim.x);
  use.last = static_cast<int>(static_cast<int64_t>(plan.tiles) * (blockIdx.x + 1) / gridDim.x);
  use.enter(plan, height);
  load = use;
  for (int stage = 0; stage < kStages - 1; ++stage) {
    issue(load, stage);
    load.next(plan, height);
  }

  uint32_t window[K][2];
#pragma unroll
  for (int k = 0; k < K; ++k) window[k][0] = window[k][1] = 0;
  for (int step = 0; use.tile < use.last; ++step, use.next(plan, height)) {
    const bool new_tile = use.row == 0;
    if (new_tile) {
      __syncthreads();  // the last patch has been read
      // Padding channels are 1 everywhere: the column of the first of them is the sum of the thick pixels.
      fill_patch<T, M, P, kPitch>(a, a.t, a.t_dtype == Dtype::kFloat32, use.n,
                                  use.y0 * S - Tile::kLead - Tile::kPad / 2, use.x0 * S - Tile::kLead - Tile::kPad / 2,
                                  ((use.rows - 1) * S + K) * kPitch, 1.f,
                                  [&](int row, int column, const Cell<P>& value) {
                                    cells[row * kPitch + column] = value;
                                    if (Tile::kTwice && column > 0)
                                      cells[Tile::kCopy + row * kPitch + column - 1] = value;
                                  });
    }
    copy_async_wait<kStages - 2>();
    __syncthreads();  // this stage and the patch are there; the stage before this one has been read
    issue(load, (step + kStages - 1) % kStages);
    load.next(plan, height);
    if (new_tile) {
#pragma unroll
      for (int k = 0; k < K - S; ++k) ldmatrix_x2_trans(window[k + S], mine + k * kPitch);
    }
#pragma unroll
    for (int r = 0; r < kStageRows; ++r) {
      const int row = use.row + r;
      if (row >= use.rows) break;
      // the window moves down: K - S of its rows are known
#pragma unroll
      for (int k = 0; k < K - S; ++k) {
        window[k][0] = window[k + S][0];
        window[k][1] = window[k + S][1];
      }
#pragma unroll
      for (int k = K - S; k < K; ++k) ldmatrix_x2_trans(window[k], mine + (row * S + k) * kPitch);
      if (thin_sum) {
#pragma unroll
        for (int ky = 1; ky <= S; ++ky) mma_m16n8k16<T>(once, ones, window[ky]);
      }
      const Vec<uint32_t, 4>* thick = stages + (step % kStages * kStageRows + r) * kStrip * 8;
#pragma unroll
      for (int m = 0; m < kBlocks; ++m) {
        const int p = lane % 8 + lane / 16 * 8, chunk = 2 * (share * kBlocks + m) + lane / 8 % 2;
        uint32_t k[4];
        ldmatrix_x4_trans(k, thick + p * 8 + (chunk ^ p % 8));
#pragma unroll
        for (int ky = 0; ky < K; ++ky) mma_m16n8k16<T>(sum[m][ky], k, window[ky]);
      }
    }
  }

  copy_async_wait<0>();  // of what was issued beyond the last tile
  // the partial sums: [split][thick channel][kernel row][column], and behind all of them [split][column] of the ones
  const int64_t channel = blockIdx.y * kGroup + share * kBlocks * 16 + lane / 4;
  float* partial = a.workspace + (static_cast<int64_t>(blockIdx.x) * a.ck + channel) * K * Tile::kColumns;
#pragma unroll
  for (int m = 0; m < kBlocks; ++m) {
#pragma unroll
    for (int ky = 0; ky < K; ++ky) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float* to = partial + ((m * 16 + h * 8) * K + ky) * Tile::kColumns + octet * 8 + lane % 4 * 2;
        *reinterpret_cast<Vec<float, 2>*>(to) = {sum[m][ky][2 * h], sum[m][ky][2 * h + 1]};
      }
    }
  }
  if (thin_sum && lane < 4) {  // all rows of the product are equal
    float* to = a.workspace + static_cast<int64_t>(gridDim.x) * a.ck * K * Tile::kColumns +
                blockIdx.x * Tile::kColumns + octet * 8 + lane * 2;
    *reinterpret_cast<Vec<float, 2>*>(to) = {once[0], once[1]};
  }
}

// The sum over the splits. A thread adds up every eighth of them for four columns, the block the eight sums, in order.
// One more block does so for the sums of the thin pixels: eight channels, every 32nd split.
constexpr int kReduceColumns = 32, kReduceParts = 8;

__device__ __forceinline__ void store_as(Dtype dtype, void* to, int64_t at, float value) {
  if (dtype == Dtype::kFloat32)
    static_cast<float*>(to)[at] = value;
  else if (dtype == Dtype::kBFloat16)
    static_cast<bfloat16*>(to)[at] = from_float<bfloat16>(value);
  else
    static_cast<half*>(to)[at] = from_float<half>(value);
}

PYGAN_GLOBAL void __launch_bounds__(kReduceColumns* kReduceParts)
    thin_wgrad_reduce(ThinWgradArgs a, int splits, int kernel, int columns, int padding) {
  PYGAN_SHARED(parts, Vec<float, 4>[kReduceParts][kReduceColumns]);
  const int64_t each = static_cast<int64_t>(a.ck) * kernel * columns;
  if (static_cast<int64_t>(blockIdx.x) * kReduceColumns * 4 == each) {
    constexpr int kThinParts = kReduceColumns * kReduceParts / 8;
    float* sums = reinterpret_cast<float*>(parts);
    const int c = threadIdx.x % 8, part = threadIdx.x / 8;
    float sum = 0.f;
    for (int s = part; c < a.ct && s < splits; s += kThinParts) {
      const float* row = a.workspace + splits * each + s * columns;
      for (int slot = 1; slot <= thin_stride(a.mode); ++slot) sum += row[slot * padding + c];
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (part > 0 || c >= a.ct) return;
    for (int other = 1; other < kThinParts; ++other) sum += sums[other * 8 + c];
    store_as(a.sum_dtype, a.t_sum, c, sum);
    return;
  }
  const int lane = threadIdx.x % kReduceColumns, part = threadIdx.x / kReduceColumns;
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kReduceColumns + lane) * 4;
  Vec<float, 4> sum = {};
#pragma unroll 8
  for (int s = part; s < splits; s += kReduceParts) {
    const auto v = *reinterpret_cast<const Vec<float, 4>*>(a.workspace + s * each + first);
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.v[i] += v.v[i];
  }
  parts[part][lane] = sum;
  __syncthreads();
  if (part > 0) return;
  for (int other = 1; other < kReduceParts; ++other) {
#pragma unroll
    for (int i = 0; i < 4; ++i) sum.v[i] += parts[other][lane].v[i];
  }

  const int64_t o = first / (kernel * columns);
  const int in_row = static_cast<int>(first % columns), row = static_cast<int>(first / columns % kernel);
  const int slot = in_row / padding, c0 = in_row % padding;
  const int ky = thin_flipped(a.mode) ? kernel - 1 - row : row, kx = thin_flipped(a.mode) ? kernel - 1 - slot : slot;
  if (slot >= kernel) return;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int c = c0 + i;
    if (c < a.ct) store_as(a.out_dtype, a.dweight, o * a.w_thick + c * a.w_thin + ky * a.w_y + kx * a.w_x, sum.v[i]);
    if (c == a.ct && a.k_sum != nullptr && row == 0 && slot == 0) store_as(a.sum_dtype, a.k_sum, o, sum.v[i]);
  }
}

template <class T, ThinMode M, int P>
int launch_wgrad(const ThinWgradArgs& a, const WgradPlan& plan, cudaStream_t stream) {
  using Tile = Wgrad<M, P>;
  const dim3 grid(static_cast<unsigned>(plan.splits), static_cast<unsigned>(a.ck / kGroup));
  PYGAN_LAUNCH((thin_wgrad_kernel<T, M, P>), grid, dim3(kThreads), 0, stream, a, plan);
  const int blocks = a.ck * Tile::K * Tile::kColumns / (4 * kReduceColumns) + (a.t_sum != nullptr);
  PYGAN_LAUNCH(thin_wgrad_reduce, dim3(static_cast<unsigned>(blocks)), dim3(kReduceColumns * kReduceParts), 0, stream,
               a, plan.splits, Tile::K, Tile::kColumns, P);
  return static_cast<int>(cudaGetLastError());
}

// --- dispatch -------------------------------------------------------------------------------------------------------

template <class T, ThinMode M, int P>
int spread(const ThinSpreadArgs& a, cudaStream_t stream) {
  return launch_spread<T, M, P>(a, Spread<T, M, P>::kResident * multiprocessors(), stream);
}

template <class T>
int spread(const ThinSpreadArgs& a, cudaStream_t stream) {
  switch (a.mode) {
    case ThinMode::kStride2:
      return a.ct > 4 ? spread<T, ThinMode::kStride2, 8>(a, stream) : spread<T, ThinMode::kStride2, 4>(a, stream);
    case ThinMode::kReflect:
      return spread<T, ThinMode::kReflect, 4>(a, stream);
    case ThinMode::kZeroAdjoint:
      return spread<T, ThinMode::kZeroAdjoint, 4>(a, stream);
    default:
      return spread<T, ThinMode::kReflectAdjoint, 4>(a, stream);
  }
}

template <class T>
int wgrad(const ThinWgradArgs& a, cudaStream_t stream) {
  switch (a.mode) {
    case ThinMode::kStride2:  // four channels take the wide cells, too: k_sum needs a free one
      return a.ct > 3 ? launch_wgrad<T, ThinMode::kStride2, 8>(a, wgrad_plan(a), stream)
                      : launch_wgrad<T, ThinMode::kStride2, 4>(a, wgrad_plan(a), stream);
    case ThinMode::kReflect:
      return launch_wgrad<T, ThinMode::kReflect, 4>(a, wgrad_plan(a), stream);
    case ThinMode::kZeroAdjoint:
      return launch_wgrad<T, ThinMode::kZeroAdjoint, 4>(a, wgrad_plan(a), stream);
    default:
      return launch_wgrad<T, ThinMode::kReflectAdjoint, 4>(a, wgrad_plan(a), stream);
  }
}

bool refused(const ThinShape& s, Dtype dtype) {
  return s.ck % kGroup != 0 || s.ct < 1 || s.ct > thin_max_channels(s.mode) ||
         (dtype != Dtype::kBFloat16 && dtype != Dtype::kFloat16);
}

}  // namespace

int thin_spread_cuda(const ThinSpreadArgs& a, cudaStream_t stream) {
  if (refused(a, a.dtype)) return static_cast<int>(cudaErrorInvalidValue);
  return a.dtype == Dtype::kBFloat16 ? spread<bfloat16>(a, stream) : spread<half>(a, stream);
}

int64_t thin_wgrad_workspace(const ThinShape& s) {
  const int padding = s.mode == ThinMode::kStride2 && s.ct > 3 ? 8 : 4, slots = thin_kernel_size(s.mode) == 7 ? 8 : 4;
  return int64_t{wgrad_plan(s).splits} * (int64_t{s.ck} * thin_kernel_size(s.mode) + 1) * slots * padding;
}

int thin_wgrad_cuda(const ThinWgradArgs& a, cudaStream_t stream) {
  if (refused(a, a.dtype) || (a.k_sum != nullptr && !thin_k_sum_fits(a)) || (a.t_sum != nullptr && !thin_t_sum_fits(a)))
    return static_cast<int>(cudaErrorInvalidValue);
  return a.dtype == Dtype::kBFloat16 ? wgrad<bfloat16>(a, stream) : wgrad<half>(a, stream);
}

}  // namespace pygan

#include "common/cuda.h"
#include "ops/crop_flip/crop_flip.h"

namespace pygan {
namespace {

constexpr int kThreads = 256;

// A CropFlipSet as the kernel uses it. All counts of one sample fit into 32 bits.
struct Set {
  const uint8_t* pixels;
  const int32_t* draws;
  void* out;
  int64_t h, w;
  unsigned items, c;
  unsigned last_top, last_left;  // the largest offsets of a window that lies inside
  unsigned groups;               // of V values in a row of the window
  unsigned threads;              // groups of all samples
};

struct Sets {
  Set of[kMaxCropFlipSets];
};

// x * (1 / 127.5) - 1, rounded twice: the compiler must not form a fused multiply-add.
__device__ __forceinline__ float normal(uint8_t byte) {
  return __fadd_rn(__fmul_rn(static_cast<float>(byte), static_cast<float>(1.0 / 127.5)), -1.0f);
}

// A thread makes V values of one row, which follow each other in memory: 16 bytes, or 1 value where rows are not
// multiples of that. Neighbours read neighbouring bytes, mirrored or not. blockIdx.y is the set.
template <class T, int V>
PYGAN_GLOBAL void __launch_bounds__(kThreads) crop_flip_kernel(const Sets sets, unsigned crop) {
  const Set& set = sets.of[blockIdx.y];
  const unsigned thread = blockIdx.x * kThreads + threadIdx.x;
  if (thread >= set.threads) return;
  const unsigned row = thread / set.groups, group = thread - row * set.groups;  // row: of all samples
  const unsigned sample = row / crop, y = row - sample * crop;
  // load: the draw, then the bytes; a negative number is a large unsigned one
  const int32_t* draw = set.draws + 4 * static_cast<int64_t>(sample);
  const unsigned item = draw[0], top = draw[1], left = draw[2], flip = draw[3];
  const bool fits = item < set.items && top <= set.last_top && left <= set.last_left && flip <= 1;
  uint8_t bytes[V];
  if (fits) {
    const int64_t corner = ((item * set.h + top + y) * set.w + left) * set.c;
    unsigned x = group * V / set.c, channel = group * V - x * set.c;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const unsigned column = flip ? crop - 1 - x : x;
      bytes[j] = set.pixels[corner + column * set.c + channel];
      if (++channel == set.c) {
        channel = 0;
        ++x;
      }
    }
  }
  // compute
  Vec<T, V> v;
#pragma unroll
  for (int j = 0; j < V; ++j) v.v[j] = from_float<T>(fits ? normal(bytes[j]) : __int_as_float(0x7fc00000));
  // store
  store_vec(static_cast<T*>(set.out) + static_cast<int64_t>(thread) * V, v);
}

template <class T, int V>
int launch(const CropFlipArgs& args, cudaStream_t stream) {
  Sets sets{};
  int64_t most = 0;  // threads that the largest set needs
  for (int i = 0; i < args.sets; ++i) {
    const CropFlipSet& from = args.set[i];
    if (from.n * args.crop * args.crop * from.c >= int64_t{1} << 31) return static_cast<int>(cudaErrorInvalidValue);
    Set& set = sets.of[i];
    set.pixels = from.pixels;
    set.draws = from.draws;
    set.out = from.out;
    set.h = from.h;
    set.w = from.w;
    set.items = static_cast<unsigned>(from.items);
    set.c = static_cast<unsigned>(from.c);
    set.last_top = static_cast<unsigned>(from.h - args.crop);
    set.last_left = static_cast<unsigned>(from.w - args.crop);
    set.groups = static_cast<unsigned>(args.crop * from.c / V);
    set.threads = static_cast<unsigned>(from.n * args.crop * set.groups);
    if (set.threads > most) most = set.threads;
  }
  if (most == 0) return 0;
  const dim3 grid(static_cast<unsigned>((most + kThreads - 1) / kThreads), args.sets);
  PYGAN_LAUNCH((crop_flip_kernel<T, V>), grid, dim3(kThreads), 0, stream, sets, static_cast<unsigned>(args.crop));
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int launch_aligned(const CropFlipArgs& args, cudaStream_t stream) {
  constexpr int64_t V = 16 / sizeof(T);
  bool vectorised = true;
  for (int i = 0; i < args.sets; ++i) {
    const CropFlipSet& set = args.set[i];
    vectorised = vectorised && args.crop * set.c % V == 0 && reinterpret_cast<uintptr_t>(set.out) % 16 == 0;
  }
  return vectorised ? launch<T, V>(args, stream) : launch<T, 1>(args, stream);
}

}  // namespace

int crop_flip_cuda(const CropFlipArgs& args, cudaStream_t stream) {
  switch (args.dtype) {
    case Dtype::kFloat32:
      return launch_aligned<float>(args, stream);
    case Dtype::kBFloat16:
      return launch_aligned<bfloat16>(args, stream);
    case Dtype::kFloat16:
      return launch_aligned<half>(args, stream);
    default:
      return static_cast<int>(cudaErrorInvalidValue);
  }
}

}  // namespace pygan

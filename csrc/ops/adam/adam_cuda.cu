#include <cfloat>

#include "common/cuda.h"
#include "ops/adam/adam.h"

namespace pygan {
namespace {

constexpr int kThreads = 256;
constexpr int kQuad = 4;                     // values a thread moves at once: 16 bytes of float32
constexpr int kPerRound = kThreads * kQuad;  // values a block moves at once
constexpr int kMaxRounds = 4;                // of a block of adam
constexpr int64_t kBlocks = 1024;            // blocks that fill a large GPU: above, they take more rounds each
constexpr int64_t kInfChunk = 8192;          // values of a block of find_inf

// A gradient as the kernels find it.
struct Entry {
  const void* grad;
  int64_t offset;
  int64_t count;
  unsigned first_chunk;  // the first block that works on it
  int16_t dtype;
  bool wide;  // begins at a multiple of 16 bytes
};

struct Table {
  Entry of[kMaxAdamTensors];
  int size;
};
static_assert(sizeof(Table) + sizeof(AdamArgs) + 64 <= 4096, "the arguments of a kernel are limited to 4 KB");

// The gradient whose chunks include `chunk`.
__device__ __forceinline__ int find(const Table& table, unsigned chunk) {
  int low = 0, high = table.size;  // first_chunk of low <= chunk < first_chunk of high
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (table.of[middle].first_chunk <= chunk)
      low = middle;
    else
      high = middle;
  }
  return low;
}

// from + weight * (to - from), exact at both ends. fmaf and __fmul_rn here and below: what is rounded is written out,
// so that every access path of the kernel computes the same bits.
__device__ __forceinline__ float toward(float from, float to, float weight) {
  const bool near = weight < 0.5f;  // begins at the end that is nearer
  return fmaf(near ? weight : weight - 1.0f, to - from, near ? from : to);
}

// The first `values` of four, the others are 0; all four in one access where `wide`.
template <class T>
__device__ __forceinline__ void load(const T* from, int values, bool wide, float (&to)[kQuad]) {
  if (wide) {
    const auto quad = *reinterpret_cast<const Vec<T, kQuad>*>(from);
#pragma unroll
    for (int j = 0; j < kQuad; ++j) to[j] = to_float(quad.v[j]);
  } else {
#pragma unroll
    for (int j = 0; j < kQuad; ++j) to[j] = j < values ? to_float(from[j]) : 0.0f;
  }
}

// One store of 8 or 16 bytes. The compiler takes an assignment of four 16-bit values apart.
template <class T>
__device__ __forceinline__ void store_quad(T* to, const Vec<T, kQuad>& quad) {
#if !defined(PYGAN_HOST_EMULATOR)
  if constexpr (sizeof(quad) == 8) {
    uint2 words;
    memcpy(&words, &quad, sizeof(words));
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(words.x), "r"(words.y)
                 : "memory");
    return;
  }
#endif
  store_vec(to, quad);
}

template <class T>
__device__ __forceinline__ void store(T* to, int values, bool wide, const float (&from)[kQuad]) {
  Vec<T, kQuad> quad;
#pragma unroll
  for (int j = 0; j < kQuad; ++j) quad.v[j] = from_float<T>(from[j]);
  if (wide) {
    store_quad(to, quad);
  } else {
#pragma unroll
    for (int j = 0; j < kQuad; ++j)
      if (j < values) to[j] = quad.v[j];
  }
}

__device__ __forceinline__ void load_grad(const Entry& entry, int64_t i, int values, float (&g)[kQuad]) {
  const bool wide = values == kQuad && entry.wide;
  switch (static_cast<Dtype>(entry.dtype)) {
    case Dtype::kBFloat16:
      return load(static_cast<const bfloat16*>(entry.grad) + i, values, wide, g);
    case Dtype::kFloat16:
      return load(static_cast<const half*>(entry.grad) + i, values, wide, g);
    default:
      return load(static_cast<const float*>(entry.grad) + i, values, wide, g);
  }
}

// Four elements on their way through the kernel.
struct Quads {
  float p[kQuad], m[kQuad], v[kQuad], e[kQuad], g[kQuad];
};

__device__ __forceinline__ void load_state(const AdamArgs& args, int64_t at, int values, bool wide, Quads& q) {
  load(static_cast<const float*>(args.param) + at, values, wide, q.p);
  load(static_cast<const float*>(args.exp_avg) + at, values, wide, q.m);
  load(static_cast<const float*>(args.exp_avg_sq) + at, values, wide, q.v);
  if (args.ema != nullptr) load(static_cast<const float*>(args.ema) + at, values, wide, q.e);
}

__device__ __forceinline__ void store_state(const AdamArgs& args, int64_t at, int values, bool wide, const Quads& q) {
  store(static_cast<float*>(args.param) + at, values, wide, q.p);
  store(static_cast<float*>(args.exp_avg) + at, values, wide, q.m);
  store(static_cast<float*>(args.exp_avg_sq) + at, values, wide, q.v);
  if (args.ema != nullptr) store(static_cast<float*>(args.ema) + at, values, wide, q.e);
  if (args.low == nullptr) return;
  if (args.low_dtype == Dtype::kBFloat16)
    store(static_cast<bfloat16*>(args.low) + at, values, wide, q.p);
  else
    store(static_cast<half*>(args.low) + at, values, wide, q.p);
}

// A block is `rounds` rounds of one gradient, fewer at its end.
PYGAN_GLOBAL void __launch_bounds__(kThreads) adam_kernel(const Table table, const AdamArgs args, int rounds) {
  if (args.found_inf != nullptr && *args.found_inf != 0.0f) return;
  PYGAN_SHARED(scalars, AdamScalars<float>);
  const Entry& entry = table.of[find(table, blockIdx.x)];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - entry.first_chunk) * rounds * kPerRound;
  for (int round = 0; round < rounds && begin + round * kPerRound < entry.count; ++round) {
    // load
    const int64_t i = begin + round * kPerRound + static_cast<int>(threadIdx.x) * kQuad;
    const int values = i + kQuad <= entry.count ? kQuad : static_cast<int>(entry.count - i);  // negative: none
    Quads q;
    if (values == kQuad)
      load_state(args, entry.offset + i, kQuad, true, q);
    else
      load_state(args, entry.offset + i, values, false, q);
    load_grad(entry, i, values, q.g);
    // the first loads are under way while one thread computes what all share
    if (round == 0) {
      if (threadIdx.x == 0) scalars = adam_scalars<float>(args);
      __syncthreads();
    }
    // compute
    const AdamScalars<float> s = scalars;
#pragma unroll
    for (int j = 0; j < kQuad; ++j) {
      float g = __fmul_rn(q.g[j], s.unscale), p = q.p[j];
      if (s.decay != 0.0f) g = fmaf(s.decay, p, g);
      if (s.shrink != 0.0f) p = fmaf(-s.shrink, p, p);
      q.m[j] = toward(q.m[j], g, s.weight1);
      q.v[j] = toward(q.v[j], __fmul_rn(g, g), s.weight2);
      q.p[j] = fmaf(-s.rate, q.m[j] / fmaf(sqrtf(q.v[j]), s.inverse_root, s.eps), p);
      if (args.ema != nullptr) q.e[j] = toward(q.e[j], q.p[j], s.ema_weight);
    }
    // store
    if (values == kQuad)
      store_state(args, entry.offset + i, kQuad, true, q);
    else
      store_state(args, entry.offset + i, values, false, q);
  }
}

__device__ __forceinline__ bool not_finite(float v) { return !(fabsf(v) <= FLT_MAX); }

// Is any value of chunk `chunk` of a gradient Inf or NaN, as far as this thread looks?
template <class T>
__device__ __forceinline__ bool looks_bad(const Entry& entry, unsigned chunk) {
  constexpr int V = 16 / sizeof(T);
  const T* grad = static_cast<const T*>(entry.grad);
  const int64_t begin = chunk * kInfChunk, end = min(begin + kInfChunk, entry.count);
  const int64_t wide_end = entry.wide ? begin + (end - begin) / V * V : begin;
  bool bad = false;
#pragma unroll 4
  for (int64_t i = begin + static_cast<int>(threadIdx.x) * V; i < wide_end; i += kThreads * V) {
    const auto vec = *reinterpret_cast<const Vec<T, V>*>(grad + i);
#pragma unroll
    for (int j = 0; j < V; ++j) bad = bad || not_finite(to_float(vec.v[j]));
  }
  for (int64_t i = wide_end + threadIdx.x; i < end; i += kThreads) bad = bad || not_finite(to_float(grad[i]));
  return bad;
}

PYGAN_GLOBAL void __launch_bounds__(kThreads) find_inf_kernel(const Table table, float* found_inf) {
  const Entry& entry = table.of[find(table, blockIdx.x)];
  const unsigned chunk = blockIdx.x - entry.first_chunk;
  bool bad = false;
  switch (static_cast<Dtype>(entry.dtype)) {
    case Dtype::kBFloat16:
      bad = looks_bad<bfloat16>(entry, chunk);
      break;
    case Dtype::kFloat16:
      bad = looks_bad<half>(entry, chunk);
      break;
    default:
      bad = looks_bad<float>(entry, chunk);
  }
  // whoever writes, writes the same; an exchange, because several may do so at once
  if (__any_sync(0xffffffffu, bad) && threadIdx.x % 32 == 0) atomicExch(found_inf, 1.0f);
}

PYGAN_GLOBAL void loss_scale_update_kernel(float* scale, int32_t* growth_tracker, float* found_inf, float growth,
                                           float backoff, int64_t interval) {
  loss_scale_update(scale, growth_tracker, found_inf, growth, backoff, interval);
}

// Puts the next gradients into `table`, as many as fit; from `next` on, which moves. Returns the number of blocks that
// they need where a block takes `chunk` values.
int64_t fill(Table& table, const AdamTensor* tensors, int64_t count, int64_t chunk, int64_t& next) {
  int64_t blocks = 0;
  for (table.size = 0; next < count && table.size < kMaxAdamTensors; ++next) {
    const AdamTensor& from = tensors[next];
    if (from.count == 0) continue;
    Entry& entry = table.of[table.size++];
    entry.grad = from.grad;
    entry.offset = from.offset;
    entry.count = from.count;
    entry.first_chunk = static_cast<unsigned>(blocks);
    entry.dtype = static_cast<int16_t>(from.dtype);
    entry.wide = reinterpret_cast<uintptr_t>(from.grad) % 16 == 0;
    blocks += (from.count + chunk - 1) / chunk;
  }
  return blocks;
}

bool supported(const AdamTensor* tensors, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (tensors[i].dtype == Dtype::kFloat64) return false;
  return true;
}

// Rounds of a block: one, until there are enough blocks for the whole GPU.
int rounds_for(const AdamTensor* tensors, int64_t count) {
  int64_t total = 0;
  for (int64_t i = 0; i < count; ++i) total += tensors[i].count;
  const int64_t rounds = total / (kBlocks * kPerRound);
  return static_cast<int>(rounds < 1 ? 1 : rounds > kMaxRounds ? kMaxRounds : rounds);
}

int launch_adam(const AdamArgs& args, const AdamTensor* tensors, int64_t count, int rounds, cudaStream_t stream) {
  Table table{};
  for (int64_t next = 0; next < count;) {
    const int64_t blocks = fill(table, tensors, count, rounds * kPerRound, next);
    if (blocks == 0) continue;
    PYGAN_LAUNCH(adam_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, table, args, rounds);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return static_cast<int>(error);
  }
  return 0;
}

}  // namespace

int adam_cuda(const AdamArgs& args, const AdamTensor* tensors, int64_t count, cudaStream_t stream) {
  if (args.dtype != Dtype::kFloat32 || !supported(tensors, count)) return static_cast<int>(cudaErrorInvalidValue);
  return launch_adam(args, tensors, count, rounds_for(tensors, count), stream);
}

int find_inf_cuda(const AdamTensor* tensors, int64_t count, float* found_inf, cudaStream_t stream) {
  if (!supported(tensors, count)) return static_cast<int>(cudaErrorInvalidValue);
  Table table{};
  for (int64_t next = 0; next < count;) {
    const int64_t blocks = fill(table, tensors, count, kInfChunk, next);
    if (blocks == 0) continue;
    PYGAN_LAUNCH(find_inf_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, table, found_inf);
    if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return static_cast<int>(error);
  }
  return 0;
}

int loss_scale_update_cuda(float* scale, int32_t* growth_tracker, float* found_inf, float growth, float backoff,
                           int64_t interval, cudaStream_t stream) {
  PYGAN_LAUNCH(loss_scale_update_kernel, dim3(1), dim3(1), 0, stream, scale, growth_tracker, found_inf, growth, backoff,
               interval);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace pygan

// Sums over a whole grid within one launch, with the same bits on every run: each block writes its partial sums, and
// the block that arrives last adds them up in the order of their index. No float atomics. Shared by the losses.
#pragma once
#include "common/cuda.h"
#include "common/tickets.h"

namespace pygan {
namespace {  // every kernel file has its own tickets and its own instances

constexpr int kReduceThreads = 256;  // of every block that calls the functions below
constexpr int kReduceBlocks = 1024;  // at most: bounds the workspace and the work of the last block

// Blocks for `items` grid-stride items, `per_thread` of them in each thread while the grid is below its cap.
inline unsigned reduce_blocks(int64_t items, int64_t per_thread) {
  const int64_t per_block = kReduceThreads * per_thread;
  const int64_t blocks = (items + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > kReduceBlocks ? kReduceBlocks : blocks);
}

// sum[i] of all threads of the block, valid in thread 0. Every thread of the block must call it, and meet at a barrier
// before it is called again: thread 0 still reads the shared sums of the warps when the others return.
template <int N>
__device__ __forceinline__ void block_sum(double (&sum)[N]) {
  constexpr int kWarps = kReduceThreads / 32;
  PYGAN_SHARED(warps, double[N][kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
  for (int i = 0; i < N; ++i) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], offset);
  }
  if (lane == 0) {
#pragma unroll
    for (int i = 0; i < N; ++i) warps[i][warp] = sum[i];
  }
  __syncthreads();
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
      sum[i] = 0.0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) sum[i] += warps[i][w];
    }
  }
}

// sum[i] of all threads of the grid. True in every thread of the one block that ends up with the totals, which are in
// its thread 0; false in all others. partials: N * gridDim.x doubles, any content; ticket: 0 before the launch and
// after it.
template <int N>
__device__ __forceinline__ bool grid_sum(double (&sum)[N], double* partials, unsigned* ticket) {
  PYGAN_SHARED(last, bool);
  block_sum(sum);
  if (threadIdx.x == 0) {
#pragma unroll
    for (int i = 0; i < N; ++i) partials[i * gridDim.x + blockIdx.x] = sum[i];
    __threadfence();  // the partial sums are visible before the ticket says that they are there
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return false;
  __threadfence();
#pragma unroll
  for (int i = 0; i < N; ++i) {
    sum[i] = 0.0;
    for (unsigned b = threadIdx.x; b < gridDim.x; b += kReduceThreads) sum[i] += __ldcg(partials + i * gridDim.x + b);
  }
  block_sum(sum);
  if (threadIdx.x == 0) *ticket = 0;
  return true;
}

// True where `p` may be read and written `bytes` at a time. Null is aligned.
inline bool aligned(const void* p, size_t bytes) { return reinterpret_cast<uintptr_t>(p) % bytes == 0; }

// grad *= seed * unit, in place: the backward of a loss whose forward already wrote its gradient. The usual seed of 1
// leaves at once, without touching the gradient. Bound: reads and writes grad once where the factor is not 1.
template <class T>
PYGAN_GLOBAL void __launch_bounds__(kReduceThreads)
    scale_grad_kernel(T* grad, const float* seed, float unit, int64_t count, int64_t vectors) {
  constexpr int kVec = 16 / sizeof(T);
  const float factor = *seed * unit;
  if (factor == 1.0f) return;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kReduceThreads + threadIdx.x;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kReduceThreads;
  for (int64_t i = first; i < vectors; i += stride) {
    auto v = reinterpret_cast<Vec<T, kVec>*>(grad)[i];
#pragma unroll
    for (int j = 0; j < kVec; ++j) v.v[j] = from_float<T>(to_float(v.v[j]) * factor);
    reinterpret_cast<Vec<T, kVec>*>(grad)[i] = v;
  }
  for (int64_t i = vectors * kVec + first; i < count; i += stride) grad[i] = from_float<T>(to_float(grad[i]) * factor);
}

template <class T>
int launch_scale_grad(T* grad, const float* seed, float unit, int64_t count, cudaStream_t stream) {
  constexpr int64_t kVec = 16 / sizeof(T);
  if (count == 0) return 0;
  const int64_t vectors = aligned(grad, 16) ? count / kVec : 0;
  const unsigned blocks = reduce_blocks(vectors > 0 ? vectors : count, 1);
  PYGAN_LAUNCH((scale_grad_kernel<T>), dim3(blocks), dim3(kReduceThreads), 0, stream, grad, seed, unit, count, vectors);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace
}  // namespace pygan

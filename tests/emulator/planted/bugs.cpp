// Kernels with one planted bug each, by name on the command line: test_emulator.py sees every one of them caught.
#include <cstdio>
#include <cstring>
#include <vector>

#include "common/cuda.h"

namespace {

constexpr int kThreads = 64;

// ---- Barriers

PYGAN_GLOBAL void neighbour_without_barrier(float* x) {
  PYGAN_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = x[threadIdx.x];
  // missing: __syncthreads()
  x[threadIdx.x] = tile[(threadIdx.x + 1) % kThreads];
}

// The barrier between a write and its reads is there; the one before the next write is not.
PYGAN_GLOBAL void reuse_without_barrier(float* x) {
  PYGAN_SHARED(tile, float[kThreads]);
  for (int round = 0; round < 3; ++round) {
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = tile[(threadIdx.x + 1) % kThreads];
    // missing: __syncthreads()
  }
}

PYGAN_GLOBAL void lanes_without_syncwarp(float* x) {
  PYGAN_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = x[threadIdx.x];
  // missing: __syncwarp()
  x[threadIdx.x] = tile[threadIdx.x ^ 1];
}

PYGAN_GLOBAL void barrier_after_return(float* x, int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
  x[threadIdx.x] = 1.0f;
}

PYGAN_GLOBAL void barrier_in_both_branches(float* x) {
  if (threadIdx.x < kThreads / 2) {
    __syncthreads();
    x[threadIdx.x] = 1.0f;
  } else {
    __syncthreads();
    x[threadIdx.x] = 2.0f;
  }
}

PYGAN_GLOBAL void barrier_against_warp(float* x) {
  if (threadIdx.x % 32 == 0) {
    __syncthreads();
  } else {
    __syncwarp();
  }
  x[threadIdx.x] = 1.0f;
}

PYGAN_GLOBAL void shuffle_after_return(float* x) {
  if (threadIdx.x % 32 == 31) return;
  x[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 1);
}

PYGAN_GLOBAL void different_collectives(float* x) {
  const bool first = threadIdx.x % 32 < 16;
  x[threadIdx.x] = first ? __shfl_xor_sync(~0u, x[threadIdx.x], 1) : __any_sync(~0u, x[threadIdx.x] > 3.0f);
}

// ---- Memory

PYGAN_GLOBAL void past_shared(float* x) {
  PYGAN_SHARED(tile, float[kThreads]);
  float* p = tile;
  p[threadIdx.x + 1] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = p[threadIdx.x];
}

PYGAN_GLOBAL void past_row(float* x) {
  PYGAN_SHARED(tile, float[2][kThreads]);
  tile[0][threadIdx.x + 1] = x[threadIdx.x];  // stays inside the tile, leaves its row
  __syncthreads();
  x[threadIdx.x] = tile[0][threadIdx.x];
}

PYGAN_GLOBAL void past_dynamic_shared(float* x) {
  PYGAN_DYNAMIC_SHARED(buffer, float);
  buffer[threadIdx.x] = x[threadIdx.x];
}

PYGAN_GLOBAL void past_global(float* x) { x[threadIdx.x + 1] = 1.0f; }

PYGAN_GLOBAL void misaligned(float* x) {
  using Four = pygan::Vec<float, 4>;
  *reinterpret_cast<Four*>(x + 4 * threadIdx.x + 1) = Four{};
}

PYGAN_GLOBAL void never_written(float* x) {
  PYGAN_SHARED(sum, float);
  if (threadIdx.x != 0) sum = 0.0f;  // meant: == 0, in a block of one thread
  x[blockIdx.x] = sum;
}

// ---- Between blocks

PYGAN_GLOBAL void arrival_order(const float* x, float* out) {
  if (threadIdx.x == 0) atomicAdd(out, x[blockIdx.x]);  // float addition is not associative
}

// The last block sums what the others wrote: `fence` and `barrier` say which half of the protocol is there.
PYGAN_GLOBAL void ticket(float* partial, unsigned* tickets, float* out, bool fence, bool barrier) {
  PYGAN_SHARED(is_last, bool);
  partial[blockIdx.x * kThreads + threadIdx.x] = 1.0f;
  if (fence) __threadfence();
  if (barrier) __syncthreads();
  if (threadIdx.x == 0) is_last = atomicAdd(tickets, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!is_last || threadIdx.x != 0) return;
  __threadfence();
  float sum = 0.0f;
  for (unsigned i = 0; i < gridDim.x * kThreads; ++i) sum += partial[i];
  *out = sum;
}

void run_ticket(float* out, bool fence, bool barrier) {
  std::vector<float> partial(4 * kThreads, 0.0f);
  unsigned tickets = 0;
  PYGAN_LAUNCH(ticket, 4, kThreads, 0, nullptr, partial.data(), &tickets, out, fence, barrier);
}

}  // namespace

int main(int count, char** arguments) {
  const char* bug = count == 2 ? arguments[1] : "";
  const auto is = [bug](const char* name) { return std::strcmp(bug, name) == 0; };
  std::vector<float> x(4 * kThreads);
  for (int i = 0; i < 4 * kThreads; ++i) x[i] = 0.1f + static_cast<float>(i * i);
  std::vector<float> small(x.begin(), x.begin() + kThreads);  // as large as the block: one more is out of bounds
  const auto block = [](auto kernel, auto... values) { PYGAN_LAUNCH(kernel, 1, kThreads, 0, nullptr, values...); };

  if (is("none"))
    run_ticket(&x[0], true, true);
  else if (is("neighbour_without_barrier"))
    block(neighbour_without_barrier, x.data());
  else if (is("reuse_without_barrier"))
    block(reuse_without_barrier, x.data());
  else if (is("lanes_without_syncwarp"))
    block(lanes_without_syncwarp, x.data());
  else if (is("barrier_after_return"))
    block(barrier_after_return, x.data(), 40);
  else if (is("barrier_in_both_branches"))
    block(barrier_in_both_branches, x.data());
  else if (is("barrier_against_warp"))
    block(barrier_against_warp, x.data());
  else if (is("shuffle_after_return"))
    block(shuffle_after_return, x.data());
  else if (is("different_collectives"))
    block(different_collectives, x.data());
  else if (is("past_shared"))
    block(past_shared, x.data());
  else if (is("past_row"))
    block(past_row, x.data());
  else if (is("past_dynamic_shared"))
    PYGAN_LAUNCH(past_dynamic_shared, 1, kThreads, 4 * (kThreads - 1), nullptr, x.data());
  else if (is("past_global"))
    block(past_global, small.data());
  else if (is("misaligned"))
    PYGAN_LAUNCH(misaligned, 1, 16, 0, nullptr, x.data());
  else if (is("never_written"))
    PYGAN_LAUNCH(never_written, 2, 1, 0, nullptr, x.data());
  else if (is("arrival_order"))
    PYGAN_LAUNCH(arrival_order, 4 * kThreads, 32, 0, nullptr, x.data(), &small[0]);
  else if (is("ticket_without_fence"))
    run_ticket(&x[0], false, true);
  else if (is("ticket_without_barrier"))
    run_ticket(&x[0], true, false);
  else
    return 2;

  for (float v : small) std::printf("%.9g\n", v);
  for (float v : x) std::printf("%.9g\n", v);
  return 0;
}

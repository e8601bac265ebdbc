// Which block of a launch is the last? Blocks count themselves on a ticket; the last one to come sets it back to 0.
#pragma once
#include <atomic>

#include "common/cuda.h"

namespace pygan {
namespace {  // every kernel file has its own tickets

// A __device__ array exists once per device and is zero when the library is loaded: nothing has to be allocated or
// cleared before a launch.
constexpr unsigned kTickets = 1u << 18;
__device__ unsigned tickets[kTickets];

// The first of `count` tickets, at most kTickets / 2, for the next launch on `stream`. Launches that may overlap (other
// streams, graph replays) never share one: a captured launch keeps its own for as long as its graph lives, so captures
// draw from a half of their own, which wraps only after 131072 captured tickets; the other half serves eager launches
// in turn.
inline unsigned next_tickets(cudaStream_t stream, unsigned count) {
  constexpr unsigned kHalf = kTickets / 2;
  static std::atomic<unsigned> eager{0};
  std::atomic<unsigned>* next = &eager;
  unsigned base = 0;
#if !defined(PYGAN_HOST_EMULATOR)
  static std::atomic<unsigned> captured{0};
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  if (cudaStreamIsCapturing(stream, &status) == cudaSuccess && status != cudaStreamCaptureStatusNone) {
    next = &captured;
    base = kHalf;
  }
#else
  (void)stream;
#endif
  unsigned from = next->load(), first = 0;
  do {
    first = from % kHalf + count <= kHalf ? from % kHalf : 0;  // in one piece
  } while (!next->compare_exchange_weak(from, first + count));
  return base + first;
}

// True in every thread of the last of `total` blocks to come here; what the others wrote before is then visible to it.
// The ticket wraps to 0 with the last block, so a replayed graph finds it as the first run did.
__device__ __forceinline__ bool last_to_arrive(unsigned* ticket, unsigned total) {
  PYGAN_SHARED(last, bool);
  __syncthreads();
  if (threadIdx.x == 0) {  // its fences speak for what the barriers have shown it, and for what they will show
    __threadfence();
    last = atomicInc(ticket, total - 1) == total - 1;
    __threadfence();
  }
  __syncthreads();
  return last;
}

}  // namespace
}  // namespace pygan

// philox_words: the first words of a random stream as numbers, for what draws a few of them outside a kernel.
//
//   rng   int64 (2,): {seed, offset}, read on the device when the kernel runs
//   out   int64 (count,): out[e] = word e % 4 of the counter (lo(e / 4), hi(e / 4), lo(offset), stream) under the key
//         (lo(seed), hi(seed)) of Philox4x32-10 (common/philox.h), in [0, 2^32)
//
// A pure function of (seed, offset, stream, e): no order of drawing, and a captured launch draws anew at each replay if
// rng has changed.
// Bound: writes out once. Callers draw some ten numbers, so in practice it is the time of a launch.
#pragma once
#include <cstdint>

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

struct PhiloxWordsArgs {
  const int64_t* rng;
  int64_t* out;  // begins at a multiple of 16 bytes
  int64_t count;
  uint32_t stream;
};

void philox_words_cpu(const PhiloxWordsArgs& args);

// Returns a cudaError_t.
int philox_words_cuda(const PhiloxWordsArgs& args, cudaStream_t stream);

}  // namespace pygan

#include "common/cuda.h"
#include "common/philox.h"
#include "ops/philox_words/philox_words.h"

namespace pygan {
namespace {

constexpr int kThreads = 256;

// A thread draws the four words of one counter.
PYGAN_GLOBAL void __launch_bounds__(kThreads)
    philox_words_kernel(const int64_t* rng, uint32_t stream, int64_t count, int64_t* out) {
  const int64_t first = 4 * (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  if (first >= count) return;
  // load and compute
  const PhiloxWords words = philox_quad(rng, stream, first / 4);
  // store: two 16-byte accesses, or the one to three words at the end
  if (first + 4 <= count) {
    Vec<int64_t, 2> halves[2];
#pragma unroll
    for (int j = 0; j < 4; ++j) halves[j / 2].v[j % 2] = words.word[j];
    store_vec(out + first, halves[0]);
    store_vec(out + first + 2, halves[1]);
    return;
  }
#pragma unroll
  for (int j = 0; j < 3; ++j)
    if (first + j < count) out[first + j] = words.word[j];
}

}  // namespace

int philox_words_cuda(const PhiloxWordsArgs& args, cudaStream_t stream) {
  if (args.count == 0) return 0;
  const int64_t quads = (args.count + 3) / 4;
  const dim3 grid(static_cast<unsigned>((quads + kThreads - 1) / kThreads));
  PYGAN_LAUNCH(philox_words_kernel, grid, dim3(kThreads), 0, stream, args.rng, args.stream, args.count, args.out);
  return static_cast<int>(cudaGetLastError());
}

}  // namespace pygan

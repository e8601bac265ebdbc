// The readable twin of philox_words_cuda.cu.
#include "common/philox.h"
#include "ops/philox_words/philox_words.h"

namespace pygan {

void philox_words_cpu(const PhiloxWordsArgs& args) {
  for (int64_t first = 0; first < args.count; first += 4) {
    const PhiloxWords words = philox_quad(args.rng, args.stream, first / 4);
    for (int64_t e = first; e < first + 4 && e < args.count; ++e) args.out[e] = words.word[e - first];
  }
}

}  // namespace pygan

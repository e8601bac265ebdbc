// philox_words_cuda.cu on the host emulator: bit for bit against Philox4x32-10 written down a second time, which gives
// the published answers; every number of words round the ends of a counter, a block and the grid.
#include "ops/philox_words/philox_words_cuda.cu"
// the kernel first: it brings the types
#include "checks.h"

#include <cstdio>
#include <cstdlib>
#include <memory>

namespace {

using Word = uint64_t;  // of 32 bits

constexpr Word kLow = 0xFFFFFFFF;

// Salmon et al. 2011, figure 2 and table 2. counter: 4 words, key: 2 words; the answer replaces the counter.
void reference(Word (&counter)[4], Word k0, Word k1) {
  for (int round = 0; round < 10; ++round) {
    const Word left = counter[0] * 0xD2511F53, right = counter[2] * 0xCD9E8D57;
    const Word next[4] = {(right >> 32) ^ counter[1] ^ ((k0 + round * 0x9E3779B9) & kLow), right & kLow,
                          (left >> 32) ^ counter[3] ^ ((k1 + round * 0xBB67AE85) & kLow), left & kLow};
    for (int j = 0; j < 4; ++j) counter[j] = next[j];
  }
}

void known_answers() {
  Word zeros[4] = {0, 0, 0, 0}, ones[4] = {kLow, kLow, kLow, kLow};
  Word pi[4] = {0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344};
  reference(zeros, 0, 0);
  reference(ones, kLow, kLow);
  reference(pi, 0xA4093822, 0x299F31D0);
  check("zeros", zeros[0] == 0x6627E8D5 && zeros[1] == 0xE169C58D && zeros[2] == 0xBC57AC4C && zeros[3] == 0x9B00DBD8);
  check("ones", ones[0] == 0x408F276D && ones[1] == 0x41C83B0E && ones[2] == 0xA20BC7C6 && ones[3] == 0x6D5451FD);
  check("pi", pi[0] == 0xD16CFE09 && pi[1] == 0x94FDCCEB && pi[2] == 0x5001E420 && pi[3] == 0x24126EA1);
}

void case_of(int64_t seed, int64_t offset, uint32_t stream, int64_t count) {
  const int64_t rng[2] = {seed, offset};
  // `count` words and not one more: the sanitizer sees the first one past them
  const std::unique_ptr<int64_t, void (*)(void*)> out(static_cast<int64_t*>(std::malloc(count * 8)), std::free);
  for (int64_t e = 0; e < count; ++e) out.get()[e] = -1;
  check("launch", pygan::philox_words_cuda({rng, out.get(), count, stream}, nullptr) == 0);
  bool good = true;
  Word sum = 0;
  for (int64_t e = 0; e < count; ++e) {
    Word counter[4] = {Word(e / 4), 0, Word(offset) & kLow, stream};
    reference(counter, Word(seed) & kLow, Word(seed) >> 32);
    good = good && out.get()[e] == static_cast<int64_t>(counter[e % 4]);
    sum = sum * 31 + Word(out.get()[e]);
  }
  check("words", good);
  std::printf("seed %lld offset %lld stream %u count %lld: %016llx\n", static_cast<long long>(seed),
              static_cast<long long>(offset), stream, static_cast<long long>(count),
              static_cast<unsigned long long>(sum));
}

}  // namespace

int main() {
  known_answers();
  for (int64_t count : {1, 2, 3, 4, 5, 6, 7, 8, 1021, 1022, 1023, 1024, 1025, 2048, 4099}) case_of(7, 3, 2, count);
  // every part beyond 32 bits, and with the sign bit of its word
  case_of(-0x123456789ABCDEF, 5000000017, 0x80000003u, 11);
  case_of(-1, -1, ~0u, 9);
  case_of(int64_t{1} << 32, int64_t{1} << 32, 0, 6);
  check("no words, no launch", pygan::philox_words_cuda({nullptr, nullptr, 0, 0}, nullptr) == 0);
  std::printf("failures: %d\n", failures);
  return failures;
}

// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
// A number is a pure function of (seed, counter): the CPU, the GPU and the Python reference draw the same ones, in any
// order, and a mask is drawn again in backward instead of being stored.
#pragma once
#include <cstdint>

#if defined(__CUDACC__) || defined(PYGAN_HOST_EMULATOR)
#define PYGAN_HOST_DEVICE __host__ __device__
#else
#define PYGAN_HOST_DEVICE
#endif

namespace pygan {

struct PhiloxWords {
  uint32_t word[4];
};

// Four uniform 32-bit words for the 128-bit counter (c0, c1, c2, c3) under the 64-bit key `seed`.
PYGAN_HOST_DEVICE inline PhiloxWords philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint64_t seed) {
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The four words of elements 4 * quad .. 4 * quad + 3 of a tensor. `rng` is {seed, offset}, `stream` tells layers
// apart.
PYGAN_HOST_DEVICE inline PhiloxWords philox_quad(const int64_t* rng, uint32_t stream, uint64_t quad) {
  return philox(static_cast<uint32_t>(quad), static_cast<uint32_t>(quad >> 32), static_cast<uint32_t>(rng[1]), stream,
                static_cast<uint64_t>(rng[0]));
}

}  // namespace pygan

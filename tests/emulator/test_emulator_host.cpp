// The emulator checked with kernels of its own: indices, barriers, every warp collective, atomics, shared memory,
// bfloat16 and half rounding, mma fragments, launch errors.
#include "common/cuda.h"
#include "common/mma.h"

#include <cstdio>
#include <limits>
#include <vector>

namespace {

int failures = 0;
void check(const char* what, bool good) {
  std::printf("%-52s %s\n", what, good ? "ok" : "FAIL");
  failures += !good;
}

PYGAN_GLOBAL void write_indices(unsigned* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  out[i] += i + 1;
}

// A sum over the grid: warps by shuffles, blocks through shared memory, the grid by the last block's ticket.
template <int kThreads>
PYGAN_GLOBAL void sum(const float* x, int n, float* partial, unsigned* ticket, float* out) {
  PYGAN_SHARED(warp_sums, float[kThreads / 32]);
  PYGAN_SHARED(is_last, bool);
  float s = 0.0f;
  for (int i = blockIdx.x * kThreads + threadIdx.x; i < n; i += gridDim.x * kThreads) s += x[i];
  for (int d = 16; d > 0; d /= 2) s += __shfl_down_sync(~0u, s, d);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = s;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kThreads / 32; ++w) s += warp_sums[w];
    partial[blockIdx.x] = s;
    __threadfence();
    is_last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (is_last && threadIdx.x == 0) {
    __threadfence();
    float total = 0.0f;
    for (unsigned b = 0; b < gridDim.x; ++b) total += __ldcg(partial + b);
    *out = total;
  }
}

PYGAN_GLOBAL void collectives(int* out) {
  const int t = threadIdx.x;
  int* row = out + t * 8;
  row[0] = __shfl_xor_sync(~0u, t, 5);
  row[1] = __shfl_down_sync(~0u, t, 3);
  row[2] = __shfl_up_sync(~0u, t, 3);
  row[3] = __shfl_sync(~0u, t, 7);
  row[4] = static_cast<int>(__ballot_sync(~0u, t % 3 == 0));
  row[5] = __any_sync(~0u, t == 40);
  row[6] = __all_sync(~0u, t < 40);
  row[7] = t % 32 < 16 ? __shfl_xor_sync(0xffffu, t, 1) : 100 + __shfl_xor_sync(0xffff0000u, t, 2);
}

PYGAN_GLOBAL void reverse_in_shared(float* x, int n) {
  PYGAN_DYNAMIC_SHARED(buffer, float);
  for (int i = threadIdx.x; i < n; i += blockDim.x) buffer[i] = x[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) x[i] = buffer[n - 1 - i];
}

PYGAN_GLOBAL void fresh_shared(int* is_nan) {
  PYGAN_SHARED(tile, float[32]);
  is_nan[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x] != tile[threadIdx.x];
  tile[threadIdx.x] = 1.0f;
}

// out (16 x 8) = a (16 x 16) b (16 x 8), a row major and b column major.
template <class T>
PYGAN_GLOBAL void multiply(const T* a, const T* b, float* out) {
  const int group = threadIdx.x / 4, pair = threadIdx.x % 4 * 2;
  const auto load = [](const T* p) {
    std::uint32_t word;
    std::memcpy(&word, p, sizeof(word));
    return word;
  };
  const std::uint32_t fa[4] = {load(a + group * 16 + pair), load(a + (group + 8) * 16 + pair),
                               load(a + group * 16 + pair + 8), load(a + (group + 8) * 16 + pair + 8)};
  const std::uint32_t fb[2] = {load(b + group * 16 + pair), load(b + group * 16 + pair + 8)};
  float d[4] = {};
  pygan::mma_m16n8k16<T>(d, fa, fb);
  for (int r = 0; r < 4; ++r) out[(group + r / 2 * 8) * 8 + pair + r % 2] = d[r];
}

// The same through shared memory: a by ldmatrix, b row major (16 x 8) by its transposed form.
template <class T>
PYGAN_GLOBAL void multiply_shared(const T* a, const T* b, float* out) {
  struct alignas(16) Row {
    T v[8];
  };
  PYGAN_SHARED(rows_a, Row[16][2]);
  PYGAN_SHARED(rows_b, Row[16]);
  const int lane = threadIdx.x;
  pygan::copy_async_16(&rows_a[lane / 2][lane % 2], a + lane * 8);
  if (lane < 16) pygan::copy_async_16(&rows_b[lane], b + lane * 8);
  pygan::copy_async_commit();
  pygan::copy_async_wait<0>();
  __syncthreads();
  std::uint32_t fa[4], fb[2];
  pygan::ldmatrix_x4(fa, &rows_a[lane % 16][lane / 16]);
  pygan::ldmatrix_x2_trans(fb, &rows_b[lane % 16]);
  float d[4] = {};
  pygan::mma_m16n8k16<T>(d, fa, fb);
  for (int r = 0; r < 4; ++r) out[(lane / 4 + r / 2 * 8) * 8 + lane % 4 * 2 + r % 2] = d[r];
}

void indices() {
  const dim3 grid(3, 2, 2), block(5, 4, 3);
  std::vector<unsigned> out(12 * 60, 0);
  PYGAN_LAUNCH(write_indices, grid, block, 0, nullptr, out.data());
  bool good = true;
  for (unsigned i = 0; i < out.size(); ++i) good &= out[i] == i + 1;
  check("every thread runs once and knows its place", good);
}

void reduction() {
  std::vector<float> x(10000);
  float expected = 0.0f;
  for (std::size_t i = 0; i < x.size(); ++i) expected += x[i] = static_cast<float>(i % 7);
  std::vector<float> partial(9, std::numeric_limits<float>::quiet_NaN());
  unsigned ticket = 0;
  float out = -1.0f;
  for (int repeat = 0; repeat < 2; ++repeat) {
    PYGAN_LAUNCH(sum<128>, 9, 128, 0, nullptr, x.data(), static_cast<int>(x.size()), partial.data(), &ticket, &out);
    check("shuffles, shared memory and ticket sum a grid", out == expected);
    check("the ticket returns to 0", ticket == 0);
  }
}

void warp_collectives() {
  std::vector<int> out(64 * 8);
  PYGAN_LAUNCH(collectives, 1, 64, 0, nullptr, out.data());
  bool good[8] = {true, true, true, true, true, true, true, true};
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32, base = t - lane;
    unsigned votes = 0;
    for (int l = 0; l < 32; ++l) votes |= static_cast<unsigned>((base + l) % 3 == 0) << l;
    const int expected[8] = {base + (lane ^ 5),
                             base + (lane + 3 < 32 ? lane + 3 : lane),
                             base + (lane >= 3 ? lane - 3 : lane),
                             base + 7,
                             static_cast<int>(votes),
                             base == 32,
                             base == 0,
                             lane < 16 ? base + (lane ^ 1) : 100 + base + (lane ^ 2)};
    for (int i = 0; i < 8; ++i) good[i] &= out[t * 8 + i] == expected[i];
  }
  const char* names[8] = {"__shfl_xor_sync", "__shfl_down_sync", "__shfl_up_sync", "__shfl_sync",
                          "__ballot_sync",   "__any_sync",       "__all_sync",     "half warps apart"};
  for (int i = 0; i < 8; ++i) check(names[i], good[i]);
}

void shared_memory() {
  std::vector<float> x(1000);
  for (int i = 0; i < 1000; ++i) x[i] = static_cast<float>(i);
  PYGAN_LAUNCH(reverse_in_shared, 1, 96, 1000 * sizeof(float), nullptr, x.data(), 1000);
  bool good = true;
  for (int i = 0; i < 1000; ++i) good &= x[i] == static_cast<float>(999 - i);
  check("dynamic shared memory", good);
  std::vector<int> is_nan(5 * 32, 0);
  PYGAN_LAUNCH(fresh_shared, 5, 32, 0, nullptr, is_nan.data());
  good = true;
  for (int v : is_nan) good &= v == 1;
  check("shared memory starts as NaN in every block", good);
}

void launch_errors() {
  float x = 0.0f;
  check("no error before", cudaGetLastError() == cudaSuccess);
  PYGAN_LAUNCH(reverse_in_shared, 1, 1025, 4, nullptr, &x, 1);
  check("1025 threads are refused", cudaGetLastError() == cudaErrorInvalidConfiguration);
  check("an error is told once", cudaGetLastError() == cudaSuccess);
  PYGAN_LAUNCH(reverse_in_shared, 0, 32, 4, nullptr, &x, 1);
  check("an empty grid is refused", cudaGetLastError() == cudaErrorInvalidConfiguration);
  PYGAN_LAUNCH(reverse_in_shared, 1, 32, 64 << 10, nullptr, &x, 1);
  check("64 KiB of shared memory need an attribute", cudaGetLastError() == cudaErrorInvalidConfiguration);
  cudaFuncSetAttribute(reverse_in_shared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 << 10);
  PYGAN_LAUNCH(reverse_in_shared, 1, 32, 64 << 10, nullptr, &x, 1);
  check("and are given with it", cudaGetLastError() == cudaSuccess);
}

void rounding() {
  bool good = true;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {  // every bfloat16, and the ties on both sides of it
    const float exact = __uint_as_float(bits << 16);
    if (exact != exact) continue;
    good &= __bfloat16_as_ushort(__float2bfloat16(exact)) == bits;
    if ((bits & 0x7fff) >= 0x7f7f) continue;
    good &= __bfloat16_as_ushort(__float2bfloat16(__uint_as_float(bits << 16 | 0x8000u))) == bits + (bits & 1);
    good &= __bfloat16_as_ushort(__float2bfloat16(__uint_as_float(bits << 16 | 0x8001u))) == bits + 1;
  }
  check("bfloat16 rounds to nearest even", good);
  check("a bfloat16 NaN stays one", __bfloat162float(__float2bfloat16(NAN)) != __bfloat162float(__float2bfloat16(NAN)));
  check("half rounds to nearest even", __half2float(__float2half(2049.0f)) == 2048.0f &&
                                           __half2float(__float2half(2051.0f)) == 2052.0f &&
                                           __half2float(__float2half(65520.0f)) == INFINITY);
}

template <class T>
void matrix_multiply(const char* what, const char* what_shared) {
  std::vector<T> a(16 * 16), b(16 * 8), rows(16 * 8);  // small integers: every sum is exact
  for (int i = 0; i < 256; ++i) a[i] = static_cast<float>(i * 7 % 13 - 6);
  for (int i = 0; i < 128; ++i) b[i] = static_cast<float>(i * 5 % 11 - 5);
  for (int i = 0; i < 128; ++i) rows[i] = b[i % 8 * 16 + i / 8];
  const auto equal = [&](const std::vector<float>& out) {
    bool good = true;
    for (int m = 0; m < 16; ++m) {
      for (int n = 0; n < 8; ++n) {
        float s = 0.0f;
        for (int k = 0; k < 16; ++k) s += float(a[m * 16 + k]) * float(b[n * 16 + k]);
        good &= out[m * 8 + n] == s;
      }
    }
    return good;
  };
  std::vector<float> out(16 * 8), shared(16 * 8);
  PYGAN_LAUNCH(multiply<T>, 1, 32, 0, nullptr, a.data(), b.data(), out.data());
  check(what, equal(out));
  PYGAN_LAUNCH(multiply_shared<T>, 1, 32, 0, nullptr, a.data(), rows.data(), shared.data());
  check(what_shared, equal(shared));
}

}  // namespace

int main() {
  indices();
  reduction();
  warp_collectives();
  shared_memory();
  launch_errors();
  rounding();
  matrix_multiply<pygan::bfloat16>("mma.m16n8k16, bfloat16", "bfloat16 by ldmatrix");
  matrix_multiply<pygan::half>("mma.m16n8k16, half", "half by ldmatrix");
  return failures;
}

// Host emulator of the CUDA execution model: runs the kernels of csrc/ops/*/*_cuda.cu on a machine without a GPU.
//
// A test is one program, tests/emulator/test_<op>.cpp, whose main() prints each check and returns the number of
// failures:
//
//   #include "ops/<op>/<op>_cuda.cu"          // the very file that nvcc compiles; csrc/common/cuda.h includes this header
//   int main() {
//     std::vector<float> x = ..., y(...);     // "device" memory is host memory; the heap is watched by the sanitizer
//     pygan::<op>_cuda(args, nullptr);        // a launcher: runs to completion before it returns
//     return failures;
//   }
//
// `python tests/emulator/emulate.py <op>` builds it and runs it under AddressSanitizer with schedules 0 to 3 and under
// ThreadSanitizer; `--quick` runs schedule 0 under AddressSanitizer alone. By hand, from the root of the repository:
//
//   g++ -std=c++20 -O1 -g -DPYGAN_HOST_EMULATOR -Icsrc -Itests/emulator -fsanitize=address
//       tests/emulator/test_<op>.cpp tests/emulator/cuda_host.cpp -o /tmp/test_<op>
//   PYGAN_EMULATOR_SCHEDULE=2 /tmp/test_<op>
//
// Every CUDA thread is a fiber; one OS thread runs the grid. PYGAN_EMULATOR_SCHEDULE permutes the order of threads and
// blocks: 0 forward, 1 reverse, n >= 2 at random with seed n and several blocks interleaved. What a test prints must
// not depend on it, so print errors and values, never addresses or times.
//
// It stops the program with one line and exit status 86 on: a barrier that part of a block never reaches, or that parts
// reach on different source lines; a warp collective whose mask names an exited or unwilling lane; a deadlock. A launch
// that CUDA would refuse is an error in cudaGetLastError(). AddressSanitizer adds out-of-bounds accesses to shared and
// global memory, UBSan misaligned 16-byte accesses, ThreadSanitizer data races: a missing __syncthreads, __syncwarp or
// __threadfence, whether or not it changes the numbers. Shared memory is all ones bits (NaN) when a block starts.
//
// What a kernel may use is what is declared below; shared memory is declared through these two:
//   PYGAN_SHARED(tile, float[32][33]);        // the name first, then the type
//   PYGAN_DYNAMIC_SHARED(buffer, float);      // float* to the launch's dynamic shared memory
// Not modelled: time, busy waiting on another block, cp.async, TMA, wgmma, clusters, stale caches.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __constant__
#define PYGAN_GLOBAL
#define PYGAN_SHARED(name, ...) auto& name = ::pygan::emulator::shared_variable<__VA_ARGS__>([] {})
#define PYGAN_DYNAMIC_SHARED(name, ...) \
  __VA_ARGS__* name = static_cast<__VA_ARGS__*>(::pygan::emulator::dynamic_shared_memory())
#define PYGAN_LAUNCH(kernel, grid, block, smem, stream, ...) \
  ::pygan::emulator::launch(kernel, (grid), (block), (smem), (stream)__VA_OPT__(, ) __VA_ARGS__)

// ---- Vector types -------------------------------------------------------------------------------

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
#define PYGAN_VECTOR_TYPES(T, name)                                              \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                             \
  struct alignas(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) name##4 { T x, y, z, w; }; \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                     \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
PYGAN_VECTOR_TYPES(float, float)
PYGAN_VECTOR_TYPES(double, double)
PYGAN_VECTOR_TYPES(int, int)
PYGAN_VECTOR_TYPES(unsigned, uint)
PYGAN_VECTOR_TYPES(unsigned short, ushort)
#undef PYGAN_VECTOR_TYPES

// ---- The runtime calls that launchers make ------------------------------------------------------

using cudaStream_t = struct CUstream_st*;
enum cudaError_t : int { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};

namespace pygan::emulator {

constexpr unsigned kWarp = 32;
constexpr int kMultiprocessors = 3;             // few, and odd: grids sized by it take many shapes in small tests
constexpr std::size_t kStaticLimit = 48 << 10;  // bytes of shared memory a block may have without opting in
constexpr std::size_t kOptInLimit = 99 << 10;   // and with: what the smallest target, sm_86 and sm_89, allows

cudaError_t last_error(bool clear);
cudaError_t allow_dynamic_shared_memory(const void* kernel, std::size_t bytes);

}  // namespace pygan::emulator

inline cudaError_t cudaGetLastError() { return pygan::emulator::last_error(/*clear=*/true); }
inline cudaError_t cudaPeekAtLastError() { return pygan::emulator::last_error(/*clear=*/false); }
inline const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaSuccess ? "no error" : e == cudaErrorInvalidValue ? "invalid argument" : "invalid configuration";
}
inline cudaError_t cudaMemsetAsync(void* p, int value, std::size_t bytes, cudaStream_t = nullptr) {
  std::memset(p, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                                   cudaStream_t = nullptr) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int /*device*/) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = pygan::emulator::kMultiprocessors;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 8;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(pygan::emulator::kOptInLimit);
      break;
    default:
      return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int bytes) {
  return pygan::emulator::allow_dynamic_shared_memory(reinterpret_cast<const void*>(kernel), bytes);
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel*, int /*threads*/, std::size_t /*smem*/) {
  *blocks = 2;
  return cudaSuccess;
}

// ---- Threads, blocks, barriers, warp collectives (the scheduler is cuda_host.cpp) ---------------

namespace pygan::emulator {

using Where = std::source_location;

// What a running thread can ask about itself.
struct Position {
  uint3 thread, block;
  unsigned lane;  // in its warp
};
Position position();
dim3 block_dim();
dim3 grid_dim();

void run(dim3 grid, dim3 block, std::size_t smem, const void* kernel, const std::function<void()>& body);
// Every thread gets its own copy of the arguments, which are evaluated once.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t smem, cudaStream_t,
            Arguments&&... arguments) {
  const std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  run(grid, block, smem, reinterpret_cast<const void*>(kernel), [&] { std::apply(kernel, values); });
}

void block_barrier(Where where);
// Called between two accesses that other threads may fall between; switches to another thread in random schedules.
void breathe();
void thread_fence();
// Tells ThreadSanitizer what an atomic access orders: after a fence of this thread, it publishes what came before.
void after_atomic(void* address);

// A warp collective: waits until every lane of `mask` calls with the same `operation`, then runs it once for all.
// lanes[l] is the operand of lane l, or nullptr where the mask does not name lane l.
using Operation = void (*)(void* const lanes[kWarp]);
void collective(unsigned mask, Operation operation, void* operand, Where where);

// One instance per block and declaration; `key` is its identity.
void* shared_variable(const void* key, std::size_t bytes, std::size_t alignment);
void* dynamic_shared_memory();

template <class Tag>
inline char shared_key = 0;
template <class T, class Tag>
T& shared_variable(Tag) {
  static_assert(std::is_trivially_destructible_v<T>, "a shared variable has no destructor");
  return *static_cast<T*>(shared_variable(&shared_key<Tag>, sizeof(T), alignof(T)));
}

struct Shuffle {
  std::uint64_t value;   // in: what this lane offers; out: what it gets
  unsigned source_lane;  // a lane outside the mask gives all ones (undefined on a device)
};
void shuffle(void* const lanes[kWarp]);
struct Vote {
  unsigned value;  // in: 0 or 1; out: the ballot
};
void ballot(void* const lanes[kWarp]);
void meet(void* const lanes[kWarp]);

template <class T>
T exchange(unsigned mask, T value, unsigned source_lane, Where where) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t) && std::is_trivially_copyable_v<T>);
  Shuffle operand{0, source_lane};
  std::memcpy(&operand.value, &value, sizeof(T));
  collective(mask, shuffle, &operand, where);
  std::memcpy(&value, &operand.value, sizeof(T));
  return value;
}

// mma.sync.m16n8k16, row major A (16 x 16), column major B (16 x 8), bfloat16 or half in, float32 accumulators D (16 x
// 8): D += A B with the fragment layout of the PTX manual. Products are summed in the order of k.
struct Mma {
  float* d;                // 4 accumulators of this lane
  const std::uint32_t* a;  // 4 registers, two values each, the lower k in the lower half
  const std::uint32_t* b;  // 2 registers
};
void mma_m16n8k16_bf16(void* const lanes[kWarp]);
void mma_m16n8k16_f16(void* const lanes[kWarp]);

// ldmatrix: `count` (2 or 4) 8 x 8 matrices of 16-bit values; lane 8 i + j names row j of matrix i.
struct LdMatrix {
  std::uint32_t* r;
  const void* row;
  int count;
  bool transposed;
};
void ldmatrix(void* const lanes[kWarp]);
struct alignas(16) Vec16 {
  std::uint16_t value[8];
};

}  // namespace pygan::emulator

#define threadIdx (::pygan::emulator::position().thread)
#define blockIdx (::pygan::emulator::position().block)
#define blockDim (::pygan::emulator::block_dim())
#define gridDim (::pygan::emulator::grid_dim())
constexpr int warpSize = pygan::emulator::kWarp;

inline void __syncthreads(pygan::emulator::Where where = pygan::emulator::Where::current()) {
  pygan::emulator::block_barrier(where);
}
inline void __syncwarp(unsigned mask = ~0u, pygan::emulator::Where where = pygan::emulator::Where::current()) {
  pygan::emulator::collective(mask, pygan::emulator::meet, nullptr, where);
}
inline void __threadfence() { pygan::emulator::thread_fence(); }

// The width of a shuffle is always the whole warp.
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, pygan::emulator::Where where = pygan::emulator::Where::current()) {
  return pygan::emulator::exchange(mask, value, lane & 31, where);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, pygan::emulator::Where where = pygan::emulator::Where::current()) {
  return pygan::emulator::exchange(mask, value, pygan::emulator::position().lane ^ bits, where);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by,
                   pygan::emulator::Where where = pygan::emulator::Where::current()) {
  const unsigned lane = pygan::emulator::position().lane;
  return pygan::emulator::exchange(mask, value, lane + by < 32 ? lane + by : lane, where);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by,
                 pygan::emulator::Where where = pygan::emulator::Where::current()) {
  const unsigned lane = pygan::emulator::position().lane;
  return pygan::emulator::exchange(mask, value, lane >= by ? lane - by : lane, where);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              pygan::emulator::Where where = pygan::emulator::Where::current()) {
  pygan::emulator::Vote operand{predicate != 0};
  pygan::emulator::collective(mask, pygan::emulator::ballot, &operand, where);
  return operand.value;
}
inline int __any_sync(unsigned mask, int predicate, pygan::emulator::Where where = pygan::emulator::Where::current()) {
  return __ballot_sync(mask, predicate, where) != 0;
}
inline int __all_sync(unsigned mask, int predicate, pygan::emulator::Where where = pygan::emulator::Where::current()) {
  return __ballot_sync(mask, predicate, where) == mask;
}

struct __half;
struct __nv_bfloat16;

namespace pygan {
template <class T>
void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                  emulator::Where where = emulator::Where::current()) {
  emulator::Mma operand{d, a, b};
  constexpr bool kHalf = std::is_same_v<T, __half>;
  static_assert(kHalf || std::is_same_v<T, __nv_bfloat16>);
  emulator::collective(~0u, kHalf ? emulator::mma_m16n8k16_f16 : emulator::mma_m16n8k16_bf16, &operand, where);
}
namespace emulator {
inline void load_matrices(std::uint32_t* r, const void* row, int count, bool transposed, Where where) {
  if (static_cast<int>(position().lane) < 8 * count) {
    // The row is read here, in its own fiber, so that a sanitizer sees who reads past an array or races.
    Vec16 copy = *static_cast<const Vec16*>(row);
    LdMatrix operand{r, &copy, count, transposed};
    collective(~0u, ldmatrix, &operand, where);
  } else {
    LdMatrix operand{r, nullptr, count, transposed};
    collective(~0u, ldmatrix, &operand, where);
  }
}
}  // namespace emulator
inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* row, emulator::Where where = emulator::Where::current()) {
  emulator::load_matrices(r, row, 4, false, where);
}
inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row,
                              emulator::Where where = emulator::Where::current()) {
  emulator::load_matrices(r, row, 4, true, where);
}
inline void ldmatrix_x2(std::uint32_t (&r)[2], const void* row, emulator::Where where = emulator::Where::current()) {
  emulator::load_matrices(r, row, 2, false, where);
}
inline void ldmatrix_x2_trans(std::uint32_t (&r)[2], const void* row,
                              emulator::Where where = emulator::Where::current()) {
  emulator::load_matrices(r, row, 2, true, where);
}
}  // namespace pygan

// ---- Atomics: relaxed, as on a device -----------------------------------------------------------

namespace pygan::emulator {
template <class T, class Update>
T atomic_update(T* p, Update update) {
  breathe();
  T expected;
  __atomic_load(p, &expected, __ATOMIC_RELAXED);
  T desired;
  do {
    desired = update(expected);
  } while (!__atomic_compare_exchange(p, &expected, &desired, /*weak=*/false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  after_atomic(p);
  return expected;
}
}  // namespace pygan::emulator

template <class T>
T atomicAdd(T* p, std::type_identity_t<T> v) {
  return pygan::emulator::atomic_update(p, [v](T old) { return static_cast<T>(old + v); });
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> v) {
  return pygan::emulator::atomic_update(p, [v](T old) { return old < v ? v : old; });
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> v) {
  return pygan::emulator::atomic_update(p, [v](T old) { return v < old ? v : old; });
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> v) {
  return pygan::emulator::atomic_update(p, [v](T) { return v; });
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> compare, std::type_identity_t<T> v) {
  return pygan::emulator::atomic_update(p, [compare, v](T old) { return old == compare ? v : old; });
}
inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return pygan::emulator::atomic_update(p, [limit](unsigned old) { return old >= limit ? 0u : old + 1; });
}

// ---- Loads with a cache hint, bit tricks, fast math ---------------------------------------------

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T v) {
  *p = v;
}
template <class T>
void __stcg(T* p, T v) {
  *p = v;
}

inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((std::uint64_t{a} * b) >> 32); }
inline int __popc(unsigned v) { return std::popcount(v); }
inline int __clz(int v) { return std::countl_zero(static_cast<unsigned>(v)); }
inline int __ffs(int v) { return v == 0 ? 0 : std::countr_zero(static_cast<unsigned>(v)) + 1; }
inline unsigned __float_as_uint(float v) { return std::bit_cast<unsigned>(v); }
inline float __uint_as_float(unsigned v) { return std::bit_cast<float>(v); }
inline int __float_as_int(float v) { return std::bit_cast<int>(v); }
inline float __int_as_float(int v) { return std::bit_cast<float>(v); }

inline float rsqrtf(float v) { return 1.0f / std::sqrt(v); }
inline double rsqrt(double v) { return 1.0 / std::sqrt(v); }
inline float __frsqrt_rn(float v) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(v))); }
inline float __fsqrt_rn(float v) { return std::sqrt(v); }
inline float __frcp_rn(float v) { return 1.0f / v; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float v) { return std::exp(v); }
inline float __logf(float v) { return std::log(v); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
// CUDA puts these, and the overloads of <cmath>, into the global namespace.
template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  return b < a ? b : a;
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  return a < b ? b : a;
}

// ---- 16-bit floats, rounded to nearest even -----------------------------------------------------

struct alignas(2) __nv_bfloat16 {
  std::uint16_t bits;
  __nv_bfloat16() = default;
  __nv_bfloat16(float v) {
    std::uint32_t u = std::bit_cast<std::uint32_t>(v);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
      bits = 0x7fff;  // every NaN becomes this one, as on a device
    } else {
      u += 0x7fffu + ((u >> 16) & 1);
      bits = static_cast<std::uint16_t>(u >> 16);
    }
  }
  operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};
struct alignas(2) __half {
  _Float16 value;
  __half() = default;
  __half(float v) : value(static_cast<_Float16>(v)) {}
  operator float() const { return static_cast<float>(value); }
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
struct alignas(4) __half2 {
  __half x, y;
};

inline float __bfloat162float(__nv_bfloat16 v) { return v; }
inline __nv_bfloat16 __float2bfloat16(float v) { return v; }
inline __nv_bfloat16 __float2bfloat16_rn(float v) { return v; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return {v.x, v.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return std::bit_cast<__nv_bfloat16>(v); }
inline float __half2float(__half v) { return v; }
inline __half __float2half(float v) { return v; }
inline __half __float2half_rn(float v) { return v; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 v) { return {v.x, v.y}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }

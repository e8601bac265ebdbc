// The single-source layer: one kernel file is device code under nvcc, and plain C++ under the host emulator
// (tests/emulator), which runs every CUDA thread as a fiber. Kernels use only the names below for what differs.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(PYGAN_HOST_EMULATOR)
#include "cuda_host.h"  // tests/emulator
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define PYGAN_GLOBAL __global__
// PYGAN_SHARED(tile, float[32][33]): a __shared__ variable, its name first (the type may hold commas).
#define PYGAN_SHARED(name, ...) __shared__ pygan::SharedType<__VA_ARGS__> name
// PYGAN_DYNAMIC_SHARED(buffer, float): a pointer to the launch's dynamic shared memory, aligned to 16 bytes.
#define PYGAN_DYNAMIC_SHARED(name, ...)                                 \
  extern __shared__ __align__(16) unsigned char pygan_dynamic_shared[]; \
  __VA_ARGS__* name = reinterpret_cast<__VA_ARGS__*>(pygan_dynamic_shared)
#define PYGAN_LAUNCH(kernel, grid, block, smem, stream, ...) kernel<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)
#endif

namespace pygan {

using bfloat16 = __nv_bfloat16;
using half = __half;

template <class T>
using SharedType = T;  // spells an array type in front of a name

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(bfloat16 v) { return __bfloat162float(v); }
__device__ __forceinline__ float to_float(half v) { return __half2float(v); }

template <class T>
__device__ __forceinline__ T from_float(float v);
template <>
__device__ __forceinline__ float from_float<float>(float v) {
  return v;
}
template <>
__device__ __forceinline__ bfloat16 from_float<bfloat16>(float v) {
  return __float2bfloat16(v);
}
template <>
__device__ __forceinline__ half from_float<half>(float v) {
  return __float2half(v);
}

// N values moved by one load or store: Vec<T, 16 / sizeof(T)> is a 16-byte access.
template <class T, int N>
struct alignas(sizeof(T) * N) Vec {
  T v[N];
};

// *to = v in one access, where a Vec is 16 bytes. An assignment is one the compiler may take apart again: it writes the
// elements one by one where they are floats that it has just computed.
template <class T, int N>
__device__ __forceinline__ void store_vec(T* to, const Vec<T, N>& v) {
#if !defined(PYGAN_HOST_EMULATOR)
  if constexpr (sizeof(v) == 16) {
    uint4 words;
    memcpy(&words, &v, sizeof(words));
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(words.x),
                 "r"(words.y), "r"(words.z), "r"(words.w)
                 : "memory");
    return;
  }
#endif
  *reinterpret_cast<Vec<T, N>*>(to) = v;
}

}  // namespace pygan

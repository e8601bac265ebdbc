// Matrix products of a warp: mma.sync m16n8k16 with float32 accumulators, its operand loads, and asynchronous copies
// into shared memory. One source for compute capability 8.0 to 12.0; under the host emulator the same functions in C++
// (tests/emulator/cuda_host.h), where a copy happens at once.
#pragma once
#include <type_traits>

#include "common/cuda.h"

namespace pygan {

#if defined(PYGAN_HOST_EMULATOR)

inline void copy_async_16(void* shared, const void* global, bool valid = true) {
  static_assert(sizeof(Vec<uint32_t, 4>) == 16);
  auto* to = static_cast<Vec<uint32_t, 4>*>(shared);
  *to = valid ? *static_cast<const Vec<uint32_t, 4>*>(global) : Vec<uint32_t, 4>{};
}
inline void copy_async_commit() {}
template <int kPending>
inline void copy_async_wait() {}

#else

// D (16 x 8) += A (16 x 16, row major) B (16 x 8, column major), T = bfloat16 or half. Fragments as in the PTX manual:
// lane l holds of A rows l/4 (+8 in a[1], a[3]) and columns 2 (l%4) + {0, 1} (+8 in a[2], a[3]); of B rows
// 2 (l%4) + {0, 1} (+8 in b[1]) of column l/4; of D rows l/4 (+8 in d[2], d[3]) and columns 2 (l%4) + {0, 1}.
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    static_assert(std::is_same_v<T, half>);
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
}

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Four (two) 8 x 8 matrices of 16-bit values from shared memory, one row of 16 bytes named by each of the lanes 0..31
// (0..15; the others' rows are not read): lane l receives of matrix i the values of row l/4 and columns 2 (l%4) + {0,
// 1} in r[i]; transposed: of column l/4 and rows 2 (l%4) + {0, 1}.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// 16 bytes from global into shared memory, both aligned to 16; zeros where not `valid` (global is then not read). Seen
// by this thread after copy_async_wait, by the block after a barrier behind that.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kPending of the last committed groups are still under way.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

#endif

}  // namespace pygan

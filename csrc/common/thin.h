// Thin convolutions: geometry that thin_spread, thin_wgrad and thin_gather share. Torch-free, for host and device.
//
// One side has few channels (t, thin: n, ct <= 8, ht, wt), the other many (k, thick: n, ck, hk, wk). Every pass of such
// a layer is one linear map, its transpose, or the weight's share of it. The map takes thin to thick,
//
//   spread:  k[p, o]      = sum_{tap, c} G(p, tap, c) * w[o, tap, c]      p: thick pixel, tap = (tap_y, tap_x)
//   gather:  t[q, c]      = sum_{p, tap, o} [q is in G(p, tap)] * k[p, o] * w[o, tap, c]      (its transpose)
//   wgrad:   dw[o, tap, c] = sum_p G(p, tap, c) * k[p, o]
//
// where G(p, tap) adds up the thin pixels that a thick pixel sees through a tap: none, one, or, where reflection folds,
// several. Rows and columns are independent: the pixels are rows(p_y, tap_y) x columns(p_x, tap_x), both
// `thin_sources`.
//
//   mode             K S P  size          thin index along one axis   spread is             gather is
//   kStride2         4 2 1  k = t / 2     2p - 1 + tap, 0 beyond      conv 3 -> 64          transposed conv 128 -> 3
//   kReflect         7 1 3  k = t         refl(p - 3 + tap)           conv 3 -> 64          (gradient of the former)
//   kZeroAdjoint     4 1 1  k = t + 1     p + 1 - tap, 0 beyond       (gradient of gather)  conv 512 -> 1
//   kReflectAdjoint  7 1 3  k = t         u - tap, u over refl(u - 3) = p, 0 beyond   (gradient)   conv 64 -> 3
//
// Weights have PyTorch's shapes (first, second, K, K). The thick index is the first in kStride2 (conv (o, i),
// transposed conv (i, o)) and kReflect, the second in the adjoint modes; strides say where an element is, so any memory
// format goes.
#pragma once
#include <cstdint>

#if defined(__CUDACC__)
#define PYGAN_THIN_FUNCTION __host__ __device__ __forceinline__
#else
#define PYGAN_THIN_FUNCTION inline
#endif

namespace pygan {

enum class ThinMode : int { kStride2 = 0, kReflect = 1, kZeroAdjoint = 2, kReflectAdjoint = 3 };

PYGAN_THIN_FUNCTION constexpr int thin_kernel_size(ThinMode mode) {
  return mode == ThinMode::kReflect || mode == ThinMode::kReflectAdjoint ? 7 : 4;
}
PYGAN_THIN_FUNCTION constexpr int thin_stride(ThinMode mode) { return mode == ThinMode::kStride2 ? 2 : 1; }
// True where tap 0 looks at the last thin pixel of the window, not at the first.
PYGAN_THIN_FUNCTION constexpr bool thin_flipped(ThinMode mode) {
  return mode == ThinMode::kZeroAdjoint || mode == ThinMode::kReflectAdjoint;
}
// Which of the first two dimensions of the weight counts thick channels.
PYGAN_THIN_FUNCTION constexpr int thin_thick_dim(ThinMode mode) { return thin_flipped(mode) ? 1 : 0; }

// Most thin channels that the tensor-core kernels hold in registers beside a kernel of this size.
PYGAN_THIN_FUNCTION constexpr int thin_max_channels(ThinMode mode) { return mode == ThinMode::kStride2 ? 8 : 4; }

// The window of thick index p begins at the thin index thin_stride * p - thin_lead and holds thin_kernel_size of them:
// position j is tap j, or tap K - 1 - j where flipped. (kReflectAdjoint: before folding.)
PYGAN_THIN_FUNCTION constexpr int thin_lead(ThinMode mode) {
  return mode == ThinMode::kStride2 ? 1 : mode == ThinMode::kZeroAdjoint ? 2 : 3;
}

// Do these sizes of one axis belong together?
PYGAN_THIN_FUNCTION constexpr bool thin_sizes_fit(ThinMode mode, int64_t thin, int64_t thick) {
  return mode == ThinMode::kStride2       ? thick >= 1 && thin / 2 == thick
         : mode == ThinMode::kZeroAdjoint ? thin >= 1 && thin + 1 == thick
                                          : thin >= 4 && thin == thick;  // a reflection by 3 needs 4 pixels
}

// Reflection without repeating the edge, as PyTorch: i in [-(size - 1), 2 * (size - 1)] -> [0, size).
PYGAN_THIN_FUNCTION constexpr int thin_reflect(int i, int size) {
  return i < 0 ? -i : i >= size ? 2 * (size - 1) - i : i;
}

// The padded coordinates u in [0, size + 6) with thin_reflect(u - 3, size) == p: 1 to 3 of them, p + 3 first.
PYGAN_THIN_FUNCTION int thin_preimages(int p, int size, int (&u)[3]) {
  int count = 0;
  u[count++] = p + 3;
  if (p >= 1 && p <= 3) u[count++] = 3 - p;
  if (p >= size - 4 && p <= size - 2) u[count++] = 2 * (size - 1) - p + 3;
  return count;
}

// The thin indices (of `thin` many) that thick index p (of `thick` many) sees through `tap`, along one axis. Returns
// how many: 0 to 3. The specification of all four modes; the kernels are faster ways to say it.
PYGAN_THIN_FUNCTION int thin_sources(ThinMode mode, int p, int tap, int thin, int thick, int (&at)[3]) {
  int u[3] = {0, 0, 0}, candidates = 1, count = 0;
  switch (mode) {
    case ThinMode::kStride2:
      u[0] = 2 * p - 1 + tap;
      break;
    case ThinMode::kReflect:
      u[0] = thin_reflect(p - 3 + tap, thin);
      break;
    case ThinMode::kZeroAdjoint:
      u[0] = p + 1 - tap;
      break;
    case ThinMode::kReflectAdjoint:
      candidates = thin_preimages(p, thick, u);
      for (int i = 0; i < candidates; ++i) u[i] -= tap;
      break;
  }
  for (int i = 0; i < candidates; ++i)
    if (u[i] >= 0 && u[i] < thin) at[count++] = u[i];
  return count;
}

// What the three ops are told about the tensors. Strides are in elements.
struct ThinShape {
  ThinMode mode;
  int n, ct, ht, wt, ck, hk, wk;
  int64_t t_n, t_c, t_h, t_w;  // strides of the thin tensor, any
  int64_t k_ld;                // elements between thick pixels: channels_last, or a channel slice of such a tensor
  int64_t w_thick, w_thin, w_y, w_x;  // strides of the weight (or of its gradient) by what the dimension counts
};

}  // namespace pygan

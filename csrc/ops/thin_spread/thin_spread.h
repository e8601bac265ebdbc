// thin_spread and thin_wgrad: the passes of a thin convolution that lead from few channels to many, and the gradient of
// its weight. The map G(p, tap), its four modes, sizes and weights: common/thin.h. The way back: thin_gather.
//
//   thin_spread   z[p, o] = bias[o] + sum_{tap, c} G(p, tap, c) * w[o, tap, c],   y = act(z),   s = skip_act(z)
//                 act(z) = z, or z * below where z < 0: none has 1, relu 0, leaky_relu its slope. NaN and Inf pass.
//   thin_wgrad    dw[o, tap, c] = sum_p G(p, tap, c) * k[p, o],   k_sum[o] = sum_p k[p, o],   t_sum[c] = sum_q t[q, c]
//                 (one of the sums is the gradient of the bias, whichever side the layer puts out)
//
//   t             (n, ct, ht, wt)  any strides; float32, or the dtype of the thick side. Rounded to that on load.
//   y, s, k       (n, ck, hk, wk)  channels_last, or a channel slice of such a tensor (pitch ld)
//   w, dw         (ck, ct, K, K) in kStride2 and kReflect, (ct, ck, K, K) in the adjoint modes; any strides. w has the
//                 dtype of the thick side, dw that or float32
//   bias, k_sum   (ck), t_sum (ct): in the dtype of the thick side or float32
//
//   CUDA: bfloat16 and float16 on the thick side, ck a multiple of 64, 16-byte aligned thick rows, ct at most
//   thin_max_channels; sums where thin_k_sum_fits and thin_t_sum_fits. CPU twin: float32, bfloat16, float64, any ck, all
//   sums.
//
// Products are those of 16-bit values, summed in float32 (float64 for float64). Each value of z is one sum in an order
// of its own, whatever lies beside it. dw: the pixels are cut into ranges that the shape alone decides; a partial sum
// for each in the workspace, then their sum in a fixed order by a second kernel (one block could not read so many
// partial sums in the time of the whole gradient). So: the same bits on every run and on every GPU model.
//
// Bound: spread reads t and writes y (and s) once; wgrad reads t and k once. Thick bytes outweigh thin ones 10 to 100
// times: the target is copy bandwidth. 7x7 has 14 k-steps of tensor-core work for each 16 pixels x 8 channels, which at
// the rate of mma.sync is about 1.5 times that bound.
#pragma once
#include <cstdint>

#include "common/dtype.h"
#include "common/thin.h"

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

struct ThinSpreadArgs : ThinShape {  // k_ld: of y
  const void *t, *weight, *bias;     // bias: null for 0
  void *y, *s;                       // s: null without a second store
  int64_t ld_s;
  double below_y, below_s;           // act and skip_act: what negative values are multiplied by
  Dtype dtype, t_dtype, bias_dtype;  // dtype: of the thick side and the weight
};

struct ThinWgradArgs : ThinShape {  // strides w_*: of dweight
  const void *t, *k;
  void *dweight, *k_sum, *t_sum;               // sums: null where not wanted
  Dtype dtype, t_dtype, out_dtype, sum_dtype;  // dtype: of the thick side; out_dtype: of dweight
  float* workspace;                            // CUDA: thin_wgrad_workspace() floats, any content
};

// Which sums come with the weight gradient on CUDA: that of k needs a padding channel and pixels that are met once,
// that of t window positions which meet every thin pixel once.
inline bool thin_k_sum_fits(const ThinShape& s) {
  return s.mode != ThinMode::kReflectAdjoint && s.ct < thin_max_channels(s.mode);
}
inline bool thin_t_sum_fits(const ThinShape& s) {
  return thin_flipped(s.mode) || (s.mode == ThinMode::kStride2 && s.ht % 2 == 0 && s.wt % 2 == 0);
}

// The launchers return a cudaError_t; 0 is success.
int thin_spread_cuda(const ThinSpreadArgs& args, cudaStream_t stream);
int64_t thin_wgrad_workspace(const ThinShape& shape);
int thin_wgrad_cuda(const ThinWgradArgs& args, cudaStream_t stream);

void thin_spread_cpu(const ThinSpreadArgs& args);
void thin_wgrad_cpu(const ThinWgradArgs& args);

}  // namespace pygan

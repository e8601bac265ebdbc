// thin_gather: the way from many channels to few of the thin convolutions (common/thin.h): transposed conv 128 -> 3,
// conv 512 -> 1, conv 64 -> 3 with reflection, and the input gradients of the convs with few input channels.
//
//   t[q, c] = act(bias[c] + sum_{p, tap, o} [q is in G(p, tap)] * k[p, o] * weight[o, tap, c])      act: none or tanh
//
//   k        (n, ck, hk, wk)  channels_last, or a channel slice of such a tensor (pitch k_ld)
//   weight   (ck, ct, K, K) in kStride2 and kReflect, (ct, ck, K, K) in the adjoint modes; any strides; dtype of k
//   bias     (ct) or null     float32 or the dtype of k
//   t        (n, ct, ht, wt)  any strides; float32 or the dtype of k
//
//   CUDA: bfloat16 and float16, ck a multiple of 64, 16-byte aligned rows of k. CPU twin: float32, bfloat16, float64 and
//   any ck. float64 has no float32 beside it.
//
// Products are summed in float32 (CPU: float64), NaN and Inf pass through, and the result is rounded once. The order of
// each sum is fixed by (mode, ck, ct) and the position: the same bits on every run, for every n and on every GPU model.
//
// Bound: reads k once, writes t once. The target is copy bandwidth; for 7 x 7 kernels the tensor cores, at about 1.5
// times that time.
#pragma once
#include <cstdint>

#include "common/dtype.h"
#include "common/thin.h"

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

enum class ThinAct : int { kNone = 0, kTanh = 1 };

struct ThinGatherArgs : ThinShape {
  const void *k, *weight, *bias;  // bias: null for 0
  void* t;
  Dtype dtype, bias_dtype, t_dtype;  // dtype: of k and weight
  ThinAct act;
};

// Returns a cudaError_t; 0 is success.
int thin_gather_cuda(const ThinGatherArgs& args, cudaStream_t stream);

void thin_gather_cpu(const ThinGatherArgs& args);

}  // namespace pygan

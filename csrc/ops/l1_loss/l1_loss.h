// l1_loss: mean absolute difference and its gradient in one pass.
//
//   a, b   any shape, `count` values each, in the same layout and without gaps
//   loss   weight * mean |a - b|: one value, float32 (float64 for float64 inputs)
//   grad   d loss / d a / unit = weight / count / unit * sign(a - b), sign(0) = 0, in dtype and layout of a; that of b is
//          its negative. unit is 1, but for float16, where 1 / count would fall below the smallest numbers before a loss
//          scaler sees it.
//
//   dtypes of (a, b): the same one of float32, bfloat16, float16 (CUDA), float64 (CPU); or bfloat16 or float16 (CUDA) with
//   float32, the 16-bit output of a network beside its target.
//
// Inf and NaN reach the loss; where a - b is NaN, the gradient is 0.
// Bound: reads a and b once, writes the gradient once; the target is copy bandwidth.
#pragma once
#include <cstdint>

#include "common/dtype.h"

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

struct L1LossArgs {
  const void* a;
  const void* b;
  void* grad;  // null: not wanted
  void* loss;  // 1 value
  int64_t count;
  double weight, unit;
  Dtype dtype_a, dtype_b;
  double* partials;  // CUDA only: l1_loss_partials() doubles of workspace, any content
};

void l1_loss_cpu(const L1LossArgs& args);

// grad *= seed * unit, where seed is the incoming gradient in the dtype of the loss; nothing is done where that is 1.
void l1_loss_backward_cpu(void* grad, const void* seed, double unit, int64_t count, Dtype dtype);

// The launchers return a cudaError_t; float64 is not supported.
int64_t l1_loss_partials(int64_t count);
int l1_loss_cuda(const L1LossArgs& args, cudaStream_t stream);
int l1_loss_backward_cuda(void* grad, const float* seed, double unit, int64_t count, Dtype dtype, cudaStream_t stream);

}  // namespace pygan

// adam: one step of Adam (Kingma & Ba 2015, algorithm 1) or AdamW (Loshchilov & Hutter 2019) over flat buffers, with
// the 16-bit working copy of the weights and their moving average written in the same pass; and the loss scale of
// float16.
//
//   t  = step + 1                                                       step: of steps done so far; not changed
//   g  = grad / scale                                                   (a product with 1 / scale)
//   g += weight_decay * param              param -= lr * weight_decay * param                (the latter if decoupled)
//   exp_avg    += (1 - beta1) * (g - exp_avg)
//   exp_avg_sq += (1 - beta2) * (g^2 - exp_avg_sq)
//   param -= lr / (1 - beta1^t) * exp_avg / (sqrt(exp_avg_sq) / sqrt(1 - beta2^t) + eps)
//   ema   += ema_weight * (param - ema),   low = param rounded
//
//   param, exp_avg, exp_avg_sq, ema   flat, `size` values: float32 (float64 on the CPU)
//   low                               flat, `size` values: bfloat16 or float16
//   grads                             any shape, without gaps; the i-th value in memory belongs to element offset + i:
//                                     float32, bfloat16, float16, mixed at will; float64 beside a float64 param
//   offsets                           multiples of 8; no two slices overlap. What lies between them is not touched.
//   hyper {lr, beta1, beta2}, step, scale, found_inf: on the device, read when the kernel runs, so a captured launch
//   sees them change. hyper is float32 or float64: 1 - beta2 = 1 - 0.999 of float32 numbers is off by 1.3e-5.
//
// The scalars of a step are computed in double, by expm1, once per block. Averages are linear interpolations that are
// exact at both ends (torch.lerp): with a beta of 0 the gradient itself. NaN and Inf of a gradient reach the parameter,
// at the latest with the next step (a finite gradient whose square overflows); where found_inf is not 0 nothing
// changes.
//
// Bound: reads grad, param and both moments once, writes param, both moments and low once: 28 bytes per parameter with
// 16-bit gradients and copies, 36 with ema; the target is copy bandwidth. One launch for kMaxAdamTensors gradients.
// Determinism: an element's result depends on its own inputs alone, not on chunks, launches, alignment or threads.
#pragma once
#include <cmath>
#include <cstdint>

#include "common/dtype.h"

#if defined(__CUDACC__) || defined(PYGAN_HOST_EMULATOR)
#define PYGAN_ADAM_FUNCTION __host__ __device__ inline
#else
#define PYGAN_ADAM_FUNCTION inline
#endif

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

constexpr int kMaxAdamTensors = 96;  // gradients of one launch: the table travels in the 4 KB of a kernel's arguments

struct AdamTensor {
  const void* grad;
  int64_t offset;  // of its slice
  int64_t count;
  Dtype dtype;
};

struct AdamArgs {
  void *param, *exp_avg, *exp_avg_sq;
  void *ema, *low;  // null: not wanted
  const void* hyper;
  const int64_t* step;
  const float *scale, *found_inf;  // null: 1 and 0
  double eps, weight_decay, ema_weight;
  bool decoupled;
  Dtype dtype, low_dtype, hyper_dtype;  // dtype: of param, exp_avg, exp_avg_sq and ema
};

// What all elements of a step share.
template <class Real>
struct AdamScalars {
  Real unscale;       // 1 / scale
  Real decay;         // weight_decay where it is added to the gradient
  Real shrink;        // lr * weight_decay where it is not
  Real weight1;       // 1 - beta1
  Real weight2;       // 1 - beta2
  Real inverse_root;  // 1 / sqrt(1 - beta2^t)
  Real eps;
  Real rate;  // lr / (1 - beta1^t)
  Real ema_weight;
};

template <class Real>
PYGAN_ADAM_FUNCTION AdamScalars<Real> adam_scalars(const AdamArgs& args) {
  double hyper[3];
  for (int i = 0; i < 3; ++i)
    hyper[i] = args.hyper_dtype == Dtype::kFloat64 ? static_cast<const double*>(args.hyper)[i]
                                                   : static_cast<double>(static_cast<const float*>(args.hyper)[i]);
  const double lr = hyper[0], beta1 = hyper[1], beta2 = hyper[2];
  const double t = static_cast<double>(*args.step + 1);
  // 1 - beta^t without cancellation. beta = 0: log is -inf, and expm1 of that is -1.
  const double correction1 = -expm1(t * log(beta1)), correction2 = -expm1(t * log(beta2));
  AdamScalars<Real> s;
  s.unscale = args.scale == nullptr ? Real(1) : Real(1) / static_cast<Real>(*args.scale);
  s.decay = static_cast<Real>(args.decoupled ? 0.0 : args.weight_decay);
  s.shrink = static_cast<Real>(args.decoupled ? lr * args.weight_decay : 0.0);
  s.weight1 = static_cast<Real>(1.0 - beta1);
  s.weight2 = static_cast<Real>(1.0 - beta2);
  s.inverse_root = static_cast<Real>(1.0 / sqrt(correction2));
  s.eps = static_cast<Real>(args.eps);
  s.rate = static_cast<Real>(lr / correction1);
  s.ema_weight = static_cast<Real>(args.ema_weight);
  return s;
}

// As torch.amp.GradScaler.update: scale *= backoff and the tracker is 0 where found_inf is not 0; else scale *= growth
// (unless that is Inf) after `interval` steps in a row. Then found_inf = 0.
PYGAN_ADAM_FUNCTION void loss_scale_update(float* scale, int32_t* growth_tracker, float* found_inf, float growth,
                                           float backoff, int64_t interval) {
  if (*found_inf != 0.0f) {
    *scale *= backoff;
    *growth_tracker = 0;
  } else if (*growth_tracker + 1 >= interval) {
    const float grown = *scale * growth;
    if (grown - grown == 0.0f) *scale = grown;
    *growth_tracker = 0;
  } else {
    *growth_tracker += 1;
  }
  *found_inf = 0.0f;
}

void adam_cpu(const AdamArgs& args, const AdamTensor* tensors, int64_t count);
// *found_inf = 1 where a value of any gradient is Inf or NaN; else it stays.
void find_inf_cpu(const AdamTensor* tensors, int64_t count, float* found_inf);

// The launchers return a cudaError_t; float64 is not supported. param, exp_avg, exp_avg_sq and ema are aligned to 16
// bytes, low to 8; gradients need not be.
int adam_cuda(const AdamArgs& args, const AdamTensor* tensors, int64_t count, cudaStream_t stream);
int find_inf_cuda(const AdamTensor* tensors, int64_t count, float* found_inf, cudaStream_t stream);
int loss_scale_update_cuda(float* scale, int32_t* growth_tracker, float* found_inf, float growth, float backoff,
                           int64_t interval, cudaStream_t stream);

}  // namespace pygan

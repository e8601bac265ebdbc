// gan_loss: value, means and gradient of a GAN loss in one pass over the logits of one batch.
//
//   logits  (n, ...) float32, bfloat16, float16 (CUDA), float64 (CPU); each sample one contiguous run, sample after sample:
//           `count` values, of which the first `count_real` belong to the real samples, the others to the fake ones
//   real    mean over the real half of phi(sign * d + offset), likewise fake; 0 for a half without samples
//   loss    weight * (scale * real + scale * fake); for mode began the scale of the fake half of D is -k
//   grad    d loss / d logits / unit, in dtype and layout of the logits. unit is 1, but for float16, where a gradient
//           divided by the number of logits would fall below the smallest numbers before a loss scaler sees it.
//   loss, stats = {real, fake, mean real logit, mean fake logit}: float32, float64 for float64 logits
//
//   mode      D: real half     D: fake half      scales     G (every sample is fake)
//   vanilla   softplus(-d)     softplus(d)       1/2 1/2    softplus(-d)
//   lsgan     (d - 1)^2        d^2               1/2 1/2    (d - 1)^2
//   softplus  softplus(-d)     softplus(d)       1   1      softplus(-d)
//   wgangp    -d               d                 1   1      -d
//   hinge     max(0, 1 - d)    max(0, 1 + d)     1   1      -d
//   energy    d                max(0, m - d)     1   1      d          m = margin
//   began     d                d                 1   -k     d
//
// softplus(z) = max(z, 0) + log(1 + exp(-|z|)) does not overflow. Inf and NaN reach the loss.
// Bound: reads the logits once, writes the gradient once; below 1 M logits the launch itself is the time.
#pragma once
#include <cstdint>

#include "common/dtype.h"

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

// Numbers of the schema; pygan/ops/gan_loss.py lists the modes and sides in the same order.
enum class GanMode : int { kVanilla, kLsgan, kSoftplus, kWgangp, kHinge, kEnergy, kBegan };
enum class GanSide : int { kDiscriminator, kGenerator };
enum class GanPhi : int { kSoftplus, kSquare, kLinear, kRamp };  // ramp(z) = max(0, z)

// One half: phi(sign * d + offset), entering the loss times `scale`.
struct GanTerm {
  GanPhi phi;
  double sign, offset, scale;
};

struct GanTerms {
  GanTerm real, fake;
};

// The table above. For began, the -1 of the fake half is multiplied by k, which lives on the device.
inline GanTerms gan_terms(GanMode mode, GanSide side, double margin) {
  const GanTerm none{GanPhi::kLinear, 1.0, 0.0, 0.0};
  if (side == GanSide::kGenerator) {
    switch (mode) {
      case GanMode::kVanilla:
      case GanMode::kSoftplus:
        return {none, {GanPhi::kSoftplus, -1.0, 0.0, 1.0}};
      case GanMode::kLsgan:
        return {none, {GanPhi::kSquare, 1.0, -1.0, 1.0}};
      case GanMode::kWgangp:
      case GanMode::kHinge:
        return {none, {GanPhi::kLinear, -1.0, 0.0, 1.0}};
      case GanMode::kEnergy:
      case GanMode::kBegan:
        return {none, {GanPhi::kLinear, 1.0, 0.0, 1.0}};
    }
  }
  switch (mode) {
    case GanMode::kVanilla:
      return {{GanPhi::kSoftplus, -1.0, 0.0, 0.5}, {GanPhi::kSoftplus, 1.0, 0.0, 0.5}};
    case GanMode::kLsgan:
      return {{GanPhi::kSquare, 1.0, -1.0, 0.5}, {GanPhi::kSquare, 1.0, 0.0, 0.5}};
    case GanMode::kSoftplus:
      return {{GanPhi::kSoftplus, -1.0, 0.0, 1.0}, {GanPhi::kSoftplus, 1.0, 0.0, 1.0}};
    case GanMode::kWgangp:
      return {{GanPhi::kLinear, -1.0, 0.0, 1.0}, {GanPhi::kLinear, 1.0, 0.0, 1.0}};
    case GanMode::kHinge:
      return {{GanPhi::kRamp, -1.0, 1.0, 1.0}, {GanPhi::kRamp, 1.0, 1.0, 1.0}};
    case GanMode::kEnergy:
      return {{GanPhi::kLinear, 1.0, 0.0, 1.0}, {GanPhi::kRamp, -1.0, margin, 1.0}};
    case GanMode::kBegan:
      return {{GanPhi::kLinear, 1.0, 0.0, 1.0}, {GanPhi::kLinear, 1.0, 0.0, -1.0}};
  }
  return {none, none};
}

struct GanLossArgs {
  const void* logits;
  void* grad;      // null: not wanted
  void* loss;      // 1 value
  void* stats;     // 4 values
  const float* k;  // null: the scale of the fake half is not multiplied by it
  int64_t count, count_real;
  GanTerms terms;
  double weight, unit;
  Dtype dtype;       // of logits and grad
  double* partials;  // CUDA only: gan_loss_partials() doubles of workspace, any content
};

void gan_loss_cpu(const GanLossArgs& args);

// grad *= seed * unit, where seed is the incoming gradient in the dtype of the loss; nothing is done where that is 1.
void gan_loss_backward_cpu(void* grad, const void* seed, double unit, int64_t count, Dtype dtype);

// The launchers return a cudaError_t; float64 is not supported.
int64_t gan_loss_partials(int64_t count);
int gan_loss_cuda(const GanLossArgs& args, cudaStream_t stream);
int gan_loss_backward_cuda(void* grad, const float* seed, double unit, int64_t count, Dtype dtype, cudaStream_t stream);

}  // namespace pygan

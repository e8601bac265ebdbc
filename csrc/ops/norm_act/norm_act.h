// norm_act: normalisation, affine, dropout, residual sum, activation and reflection padding of an NHWC tensor, with a
// second activation of the same value stored beside it (the skip half of a concat buffer).
//
//   z = keep * ((x - mean) * rstd * weight + bias),   u = z + residual,   y = reflect(act(u), pad),   s = skip_act(u)
//
// mean and rstd = 1 / sqrt(var + eps) are those of the x of one statistic group (kBatch), given numbers (kRunning) or
// 0 and 1 (kNone). keep is 0 with probability p and 1 / (1 - p) otherwise (philox.h), and 1 without dropout. residual
// is 0 where there is none. reflect puts `pad` mirrored pixels on each side, as torch's padding mode "reflect".
// NaN and Inf pass through: no activation, clamp or mask hides them.
//
// Backward, with fold, the adjoint of reflect: every pixel of dy that mirrors (i, j) is added to the one at (i, j);
//   dresidual = act'(u) * fold(dy) + skip_act'(u) * ds
// and with g = keep * dresidual, d = x - mean, R rows in a group:
//   dbias = sum g,   dweight = sum g * d * rstd
//   dx = rstd * weight * (g - sum_group(g) / R - d * rstd^2 * sum_group(g * d) / R)      (kBatch; else rstd * weight * g)
// The masks are computed again from x, residual and the counters; nothing but mean and rstd is kept for it. residual is
// needed for them only where an activation is not kNone.
//
// Layout: a tensor is `rows` = samples * height * width rows (pixels) of `channels` neighbouring values. Row r begins
// at data + r * ld (ld > channels: a channel slice), unless lines and samples have pitches of their own (Lines): in the
// interior of a padded tensor. A statistic group is rows / groups consecutive rows: BatchNorm has 1 group (or as many
// as there are separate batches in one call), InstanceNorm has one for each sample.
//
// Bound: forward reads x twice and residual once and writes y (padded) and s once; backward reads x, dy, ds and (where
// an activation needs it) residual twice and writes dx and dresidual once. Both are at the speed of copying those
// bytes; what is read the second time is in cache where a group has at most 512 rows.
//
// Determinism: partial sums are added in an order fixed by (rows / groups, channels) alone, gradients of reflections in
// an order fixed by their places. A group's result does not depend on the number of groups, threads or on the GPU
// model.
#pragma once
#include <cstdint>

#include "common/dtype.h"

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

enum class Statistics : int { kNone, kBatch, kRunning };
enum class Act : int { kNone, kRelu, kLeakyRelu, kElu };

struct Dropout {
  const int64_t* rng = nullptr;  // {seed, offset} on the device; null: no dropout
  uint32_t stream = 0;           // tells the layers of a model apart
  uint32_t last_dropped = 0;     // an element is dropped when its word is <= this: ceil(p * 2^32) - 1
  double keep_scale = 1;         // 1 / (1 - p)
};

// Elements between lines of pixels and between samples, each below 2^32. Zeros: all rows lie at one pitch, ld.
struct Lines {
  int64_t line = 0, sample = 0;
};

// What forward and backward share. Parameters and statistics are float32 (float64 beside a float64 x).
struct NormActShape {
  Dtype dtype;       // of every tensor of pixels
  int64_t rows;      // n * h * w, below 2^31
  int64_t channels;  // c
  int64_t groups;    // of statistics; divides rows
  Statistics statistics;
  Act act, skip_act;  // skip_act is read only where there is an s or a ds
  double slope;       // of both, where they are kLeakyRelu
  Dropout dropout;
  int64_t height = 0, width = 0;  // of x; read only where there is a residual, a dresidual, a pad or a Lines
  int64_t pad = 0;                // of y and dy: below height and width
};

struct NormActForward : NormActShape {
  const void *x, *weight, *bias;          // weight, bias: (c) or null (1 and 0)
  const void* residual;                   // null: 0
  void *y, *s;                            // y: its pixel (0, 0) that is no reflection; s: null without a second store
  int64_t ld_x, ld_residual, ld_y, ld_s;  // elements between pixels
  Lines lines_x, lines_residual, lines_y, lines_s;
  void *mean, *rstd;                 // out: (groups, c); null for kNone
  void *running_mean, *running_var;  // (c) or null: updated (kBatch), read (kRunning)
  double eps, momentum;              // momentum = weight of the new batch, as PyTorch
  float* workspace;                  // CUDA: norm_act_workspace_floats
};

struct NormActBackward : NormActShape {
  const void *x, *weight, *bias, *mean, *rstd;
  const void* residual;                    // null: 0, or no activation needs it
  const void *dy, *ds;                     // null: no gradient came that way; dy: pixel (0, 0), as y
  void *dx, *dresidual, *dweight, *dbias;  // null: not wanted
  int64_t ld_x, ld_residual, ld_dy, ld_ds, ld_dx, ld_dresidual;
  Lines lines_x, lines_residual, lines_dy, lines_ds, lines_dx, lines_dresidual;
  float* workspace;
};

// Scratch for one call of either direction; a function of the shape alone.
int64_t norm_act_workspace_floats(const NormActShape& shape);
// Does a launch for this shape get by with the tickets that the kernels have? (Millions of statistic groups do not.)
bool norm_act_has_tickets(const NormActShape& shape);

// float32, bfloat16, float16. Return a cudaError_t; 0 is success.
int norm_act_forward_cuda(const NormActForward& args, cudaStream_t stream);
int norm_act_backward_cuda(const NormActBackward& args, cudaStream_t stream);

// float32, bfloat16, float64.
void norm_act_forward_cpu(const NormActForward& args);
void norm_act_backward_cpu(const NormActBackward& args);

}  // namespace pygan

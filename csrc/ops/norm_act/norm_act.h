// norm_act: normalisation, affine, dropout and activation of an NHWC tensor, with a second activation of the same value
// stored beside it (the skip half of a concat buffer).
//
//   z = keep * ((x - mean) * rstd * weight + bias),   y = act(z),   s = skip_act(z)
//
// mean and rstd = 1 / sqrt(var + eps) are those of the x of one statistic group (kBatch), given numbers (kRunning) or
// 0 and 1 (kNone). keep is 0 with probability p and 1 / (1 - p) otherwise (philox.h), and 1 without dropout.
// NaN and Inf pass through: no activation, clamp or mask hides them.
//
// Backward, with g = keep * (act'(z) * dy + skip_act'(z) * ds), d = x - mean, R rows in a group:
//   dbias = sum g,   dweight = sum g * d * rstd
//   dx = rstd * weight * (g - sum_group(g) / R - d * rstd^2 * sum_group(g * d) / R)      (kBatch; else rstd * weight * g)
// The masks are computed again from x and the counters; nothing but mean and rstd is kept for it.
//
// Layout: a tensor is `rows` = n * h * w rows of `channels` values; row r begins at data + r * ld (ld > channels: a
// channel slice). A statistic group is `rows / groups` consecutive rows: BatchNorm has 1 group (or as many as there are
// separate batches in one call), InstanceNorm has n.
//
// Bound: forward reads x twice and writes y and s once; backward reads x, dy and ds twice and writes dx once (once each
// where a group has at most kFusedRows rows, which stay in cache). Both are at the speed of copying those bytes.
//
// Determinism: partial sums are added in an order fixed by (rows / groups, channels) alone. A group's result does not
// depend on the number of groups, threads or on the GPU model.
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

// What forward and backward share. Parameters and statistics are float32 (float64 beside a float64 x).
struct NormActShape {
  Dtype dtype;       // of x, y, s, dy, ds, dx
  int64_t rows;      // n * h * w
  int64_t channels;  // c
  int64_t groups;    // of statistics; divides rows
  Statistics statistics;
  Act act, skip_act;  // skip_act is read only where there is an s or a ds
  double slope;       // of both, where they are kLeakyRelu
  Dropout dropout;
};

struct NormActForward : NormActShape {
  const void *x, *weight, *bias;     // weight, bias: (c) or null (1 and 0)
  void *y, *s;                       // s: null without a second store
  int64_t ld_x, ld_y, ld_s;          // elements between rows
  void *mean, *rstd;                 // out: (groups, c); null for kNone
  void *running_mean, *running_var;  // (c) or null: updated (kBatch), read (kRunning)
  double eps, momentum;              // momentum = weight of the new batch, as PyTorch
  float* workspace;                  // CUDA: norm_act_workspace_floats
  unsigned* counters;                // CUDA: norm_act_counters words, all 0; left all 0
};

struct NormActBackward : NormActShape {
  const void *x, *weight, *bias, *mean, *rstd;
  const void *dy, *ds;         // null: no gradient came that way
  void *dx, *dweight, *dbias;  // null: not wanted
  int64_t ld_x, ld_dy, ld_ds, ld_dx;
  float* workspace;
  unsigned* counters;
};

// Scratch for one call of either direction; a function of the shape alone.
int64_t norm_act_workspace_floats(const NormActShape& shape);
int64_t norm_act_counters(const NormActShape& shape);

// float32, bfloat16, float16. Return a cudaError_t; 0 is success.
int norm_act_forward_cuda(const NormActForward& args, cudaStream_t stream);
int norm_act_backward_cuda(const NormActBackward& args, cudaStream_t stream);

// float32, bfloat16, float64.
void norm_act_forward_cpu(const NormActForward& args);
void norm_act_backward_cpu(const NormActBackward& args);

}  // namespace pygan

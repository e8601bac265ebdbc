// small_conv: a 4x4 convolution of stride 2 and padding 1, or its transpose, between maps of few pixels and many
// channels, with the norm, dropout and activation behind it and a second store for a skip connection, in one launch;
// and its two gradients.
//
// A layer joins a large map L, (n, 2h, 2w) pixels of cl channels, and a small map S, (n, h, w) pixels of cs channels,
// by the weight W, cs x 4 x 4 x cl in memory. That is PyTorch's weight in channels_last for both kinds of layer: (o, i,
// 4, 4) of the convolution, which goes down from L to S, and (i, o, 4, 4) of the transposed one, which goes up.
//
//   down:  S[p, s]       = sum_{tap, l} L[2p - 1 + tap, l] * W[s, tap, l]      convolution; dx of the transposed one
//   up:    L[q, l]       = sum_{tap, s} S[(q + 1 - tap) / 2, s] * W[s, tap, l]    transposed convolution; dx of the other
//   dw:    dW[s, tap, l] = sum_p        S[p, s] * L[2p - 1 + tap, l]                                       of both
//
// Pixels p, q and taps are pairs (y, x); terms are left out where a pixel lies outside or (q + 1 - tap) is odd. Sums
// are float32. The forward pass rounds z = sum + bias to the dtype of x, as a convolution of its own would, and
// continues with norm_act (norm_act.h) of the rounded z: its statistics, its masks (element = index in packed NHWC),
// its order of statistic groups. z is kept for norm_act's backward pass.
//
// Layout: maps are rows of channels, `ld` elements apart (a channel slice of a concat buffer has ld > channels); z, dx
// and dw are packed. CUDA: bfloat16 or float16, cs and cl multiples of 64, rows and weight aligned to 16 bytes.
//
// Bound: the weight is streamed once, or written once (dw); all else is small beside it. At 1 x 1 x 1 only the 4 of 16
// taps that meet a pixel are read. The target is the time of reading the weight.
//
// Determinism: an output is a sum over slices of (tap, channel) whose number the shape alone decides, added in order by
// the block that ends last. No sum depends on the GPU model or on the order of blocks.
#pragma once
#include <cstdint>

#include "common/dtype.h"
#include "ops/norm_act/norm_act.h"

namespace pygan {

struct SmallConvShape {
  Dtype dtype;      // of every tensor but the norm's parameters
  int64_t n, h, w;  // of the small map; the large one is n x 2h x 2w
  int64_t cs, cl;   // channels of the small and the large map
  bool up;          // from the small map to the large one
};

struct SmallConvForward : SmallConvShape {
  const void *x, *weight, *bias;  // bias: as many as z has channels, or null
  int64_t ld_x;
  // What becomes of z. norm.x, rows and channels are z itself, packed, which this pass writes; there is no residual, no
  // padding, and every row at one pitch; norm.workspace is not used. norm.y null: nothing, z is all that is wanted. One
  // block has all rows of 64 channels, as norm_act has up to 512 rows of a group; more are better given to norm_act,
  // which spreads them over the GPU.
  NormActForward norm;
  float* workspace;  // CUDA: small_conv_workspace_floats, any content
};

struct SmallConvDx : SmallConvShape {  // up: dx is the large map, of a layer that goes down
  const void *dz, *weight;
  int64_t ld_dz;
  void* dx;
  float* workspace;  // CUDA: small_conv_workspace_floats, any content
};

struct SmallConvDw : SmallConvShape {
  const void *small, *large;  // dz and x of a layer that goes down, x and dz of one that goes up
  int64_t ld_small, ld_large;
  void* dw;
};

// Scratch of a forward or dx call.
int64_t small_conv_workspace_floats(const SmallConvShape& shape);

// bfloat16 and float16. Return a cudaError_t; 0 is success.
int small_conv_cuda(const SmallConvForward& args, cudaStream_t stream);
int small_conv_dx_cuda(const SmallConvDx& args, cudaStream_t stream);
int small_conv_dw_cuda(const SmallConvDw& args, cudaStream_t stream);

// float32, bfloat16, float64; any numbers of channels.
void small_conv_cpu(const SmallConvForward& args);
void small_conv_dx_cpu(const SmallConvDx& args);
void small_conv_dw_cpu(const SmallConvDw& args);

}  // namespace pygan

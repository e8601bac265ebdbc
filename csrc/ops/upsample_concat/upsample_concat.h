// upsample_concat: nearest x2 of one map, beside a skip of the doubled size.
//
//   x     (n, c1, h, w)       channels_last, or a channel slice of such a tensor
//   skip  (n, c2, 2h, 2w)     likewise; may be absent: c2 = 0
//   y     (n, c1+c2, 2h, 2w)  channels_last:  y[:, :c1, i, j] = x[:, :, i / 2, j / 2],  y[:, c1:] = skip
//
// Backward: d skip is the slice of d y, without a copy; d x = upsample_concat_backward of the other slice,
//   dx[:, c, i, j] = (g[2i, 2j] + g[2i, 2j+1]) + (g[2i+1, 2j] + g[2i+1, 2j+1])
// in float (double for float64), rounded once. Each is the derivative of the other.
//
// float32, bfloat16, float16 (CUDA), float64 (CPU).
// Bound: reads x and skip once, writes y once (backward: reads g once, writes dx once); the target is copy bandwidth.
#pragma once
#include <cstdint>

#include "common/dtype.h"

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

// ld: elements from one pixel to the next, at least its channels. Rows of images follow each other, so that pixel (i,
// j) of image b is number (b * h + i) * w + j, and the image index never has to be known.
struct UpsampleConcatArgs {
  const void* x;
  const void* skip;  // null: c2 is 0
  void* y;
  int64_t rows, w;  // rows = n * h of the small map
  int64_t c1, c2;
  int64_t ld_x, ld_skip, ld_y;
  Dtype dtype;
};

struct UpsampleConcatBackwardArgs {
  const void* g;    // (n, c, 2h, 2w)
  void* dx;         // (n, c, h, w)
  int64_t rows, w;  // of the small map
  int64_t c;
  int64_t ld_g, ld_dx;
  Dtype dtype;
};

void upsample_concat_cpu(const UpsampleConcatArgs& args);
void upsample_concat_backward_cpu(const UpsampleConcatBackwardArgs& args);

// The launchers return a cudaError_t. They hold for less than 2^31 (small pixel, channel) pairs; float64 is not
// supported.
int upsample_concat_cuda(const UpsampleConcatArgs& args, cudaStream_t stream);
int upsample_concat_backward_cuda(const UpsampleConcatBackwardArgs& args, cudaStream_t stream);

}  // namespace pygan

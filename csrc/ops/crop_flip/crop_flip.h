// crop_flip: the batch of a set that lies decoded on the device: windows of its pictures, mirrored or not, as networks
// take them. All sets of a batch (A and B of a pair) in one launch.
//
//   pixels  (items, h, w, c)        uint8, contiguous; at least crop x crop pixels
//   draws   (n, 4)                  int32, contiguous: {item, top, left, flip} of each sample
//   out     (n, c, crop, crop)      float32, bfloat16 or float16, channels_last:
//           out[s, k, i, j] = pixels[item, top + i, left + (flip ? crop - 1 - j : j), k] * float(1 / 127.5) - 1,
//           two roundings in float32 and no fused multiply-add, so that the bits are those of PyTorch's mul and sub;
//           then rounded to the dtype of out
//
// A draw that does not fit its set (0 <= item < items, 0 <= top <= h - crop, 0 <= left <= w - crop, flip 0 or 1) reads
// nothing, and its sample is NaN: a kernel in a CUDA graph cannot raise an error, and another picture in its place
// would be a silent one. Draws are checked, with an error that names them, where they are made: pygan/ops/crop_flip.py.
//
// The draws are read from device memory, so a captured launch makes another batch at each replay.
// Bound: reads each byte of the windows once, writes out once; the target is copy bandwidth.
#pragma once
#include <cstdint>

#include "common/dtype.h"

typedef struct CUstream_st* cudaStream_t;

namespace pygan {

constexpr int kMaxCropFlipSets = 4;

struct CropFlipSet {
  const uint8_t* pixels;
  const int32_t* draws;
  void* out;
  int64_t items, h, w, c;
  int64_t n;
};

struct CropFlipArgs {
  CropFlipSet set[kMaxCropFlipSets];
  int sets;
  int64_t crop;
  Dtype dtype;  // of every out
};

void crop_flip_cpu(const CropFlipArgs& args);

// Returns a cudaError_t. Every out holds less than 2^31 values; float64 is not supported.
int crop_flip_cuda(const CropFlipArgs& args, cudaStream_t stream);

}  // namespace pygan

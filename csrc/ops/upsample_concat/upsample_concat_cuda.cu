#include "common/cuda.h"
#include "ops/upsample_concat/upsample_concat.h"

namespace pygan {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kItems = int64_t{1} << 31;  // of one launch, so that 32-bit divisions do

// Bits moves the values of a pixel without looking at them: 16 bytes, or one value where channels or pointers do not
// allow that. All channel counts and pitches are in units of Bits. An item is 4 stores: one unit of x to its 2 x 2
// pixels, or the same unit of the 2 x 2 pixels of skip.
template <class Bits>
PYGAN_GLOBAL void __launch_bounds__(kThreads)
    upsample_concat_kernel(const Bits* x, const Bits* skip, Bits* y, unsigned items, unsigned w, unsigned c1,
                           unsigned c, int64_t ld_x, int64_t ld_skip, int64_t ld_y) {
  const unsigned item = blockIdx.x * kThreads + threadIdx.x;
  if (item >= items) return;
  const unsigned pixel = item / c, unit = item - pixel * c;
  const unsigned row = pixel / w, column = pixel - row * w;
  const int64_t width = 2 * static_cast<int64_t>(w);
  const int64_t corner = 2 * row * width + 2 * column;  // the top left one of the 2 x 2 pixels
  const int64_t corners[4] = {corner, corner + 1, corner + width, corner + width + 1};
  // load
  Bits v[4];
  if (unit < c1) {
    v[0] = v[1] = v[2] = v[3] = x[pixel * ld_x + unit];
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] = skip[corners[i] * ld_skip + (unit - c1)];
  }
  // store
#pragma unroll
  for (int i = 0; i < 4; ++i) y[corners[i] * ld_y + unit] = v[i];
}

// An item is V channels of one pixel of dx. c, ld_g and ld_dx are in units of V values.
template <class T, int V>
PYGAN_GLOBAL void __launch_bounds__(kThreads)
    upsample_concat_backward_kernel(const Vec<T, V>* g, Vec<T, V>* dx, unsigned items, unsigned w, unsigned c,
                                    int64_t ld_g, int64_t ld_dx) {
  const unsigned item = blockIdx.x * kThreads + threadIdx.x;
  if (item >= items) return;
  const unsigned pixel = item / c, unit = item - pixel * c;
  const unsigned row = pixel / w, column = pixel - row * w;
  const int64_t width = 2 * static_cast<int64_t>(w);
  const int64_t corner = 2 * row * width + 2 * column;
  // load
  const Vec<T, V> top_left = g[corner * ld_g + unit], top_right = g[(corner + 1) * ld_g + unit];
  const Vec<T, V> bottom_left = g[(corner + width) * ld_g + unit], bottom_right = g[(corner + width + 1) * ld_g + unit];
  // compute
  Vec<T, V> sum;
#pragma unroll
  for (int j = 0; j < V; ++j)
    sum.v[j] = from_float<T>((to_float(top_left.v[j]) + to_float(top_right.v[j])) +
                             (to_float(bottom_left.v[j]) + to_float(bottom_right.v[j])));
  // store
  dx[pixel * ld_dx + unit] = sum;
}

bool aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

dim3 blocks_of(int64_t items) { return dim3(static_cast<unsigned>((items + kThreads - 1) / kThreads)); }

// `unit` values of the tensors are one Bits.
template <class Bits>
int launch(const UpsampleConcatArgs& args, int64_t unit, cudaStream_t stream) {
  const int64_t c = (args.c1 + args.c2) / unit, items = args.rows * args.w * c;
  if (items == 0) return 0;
  if (items >= kItems) return static_cast<int>(cudaErrorInvalidValue);
  PYGAN_LAUNCH((upsample_concat_kernel<Bits>), blocks_of(items), dim3(kThreads), 0, stream,
               static_cast<const Bits*>(args.x), static_cast<const Bits*>(args.skip), static_cast<Bits*>(args.y),
               static_cast<unsigned>(items), static_cast<unsigned>(args.w), static_cast<unsigned>(args.c1 / unit),
               static_cast<unsigned>(c), args.ld_x / unit, args.ld_skip / unit, args.ld_y / unit);
  return static_cast<int>(cudaGetLastError());
}

template <class T, int V>
int launch_backward(const UpsampleConcatBackwardArgs& args, cudaStream_t stream) {
  const int64_t c = args.c / V, items = args.rows * args.w * c;
  if (items == 0) return 0;
  if (items >= kItems) return static_cast<int>(cudaErrorInvalidValue);
  PYGAN_LAUNCH((upsample_concat_backward_kernel<T, V>), blocks_of(items), dim3(kThreads), 0, stream,
               static_cast<const Vec<T, V>*>(args.g), static_cast<Vec<T, V>*>(args.dx), static_cast<unsigned>(items),
               static_cast<unsigned>(args.w), static_cast<unsigned>(c), args.ld_g / V, args.ld_dx / V);
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int launch_backward_aligned(const UpsampleConcatBackwardArgs& args, cudaStream_t stream) {
  constexpr int V = 16 / sizeof(T);
  const bool vectorised =
      args.c % V == 0 && args.ld_g % V == 0 && args.ld_dx % V == 0 && aligned(args.g) && aligned(args.dx);
  return vectorised ? launch_backward<T, V>(args, stream) : launch_backward<T, 1>(args, stream);
}

}  // namespace

int upsample_concat_cuda(const UpsampleConcatArgs& args, cudaStream_t stream) {
  if (args.dtype == Dtype::kFloat64) return static_cast<int>(cudaErrorInvalidValue);
  const bool wide = args.dtype == Dtype::kFloat32;
  const int64_t v = wide ? 4 : 8;  // values in 16 bytes
  const bool vectorised = args.c1 % v == 0 && args.c2 % v == 0 && args.ld_x % v == 0 && args.ld_skip % v == 0 &&
                          args.ld_y % v == 0 && aligned(args.x) && aligned(args.skip) && aligned(args.y);
  if (vectorised) return launch<uint4>(args, v, stream);
  return wide ? launch<float>(args, 1, stream) : launch<unsigned short>(args, 1, stream);
}

int upsample_concat_backward_cuda(const UpsampleConcatBackwardArgs& args, cudaStream_t stream) {
  switch (args.dtype) {
    case Dtype::kFloat32:
      return launch_backward_aligned<float>(args, stream);
    case Dtype::kBFloat16:
      return launch_backward_aligned<bfloat16>(args, stream);
    case Dtype::kFloat16:
      return launch_backward_aligned<half>(args, stream);
    default:
      return static_cast<int>(cudaErrorInvalidValue);
  }
}

}  // namespace pygan

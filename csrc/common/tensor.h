// How a torch tensor becomes what a kernel is told: (pointer, M = n*h*w rows, C channels, ld elements between rows).
#pragma once
#include "check.h"
#include "dtype.h"

namespace pygan {

// A channels_last tensor (n, c, h, w), or a channel slice of one: then ld > c.
struct Nhwc {
  int64_t n, c, h, w, ld;
  int64_t rows() const { return n * h * w; }
};

// The NHWC view of `t`, or an error that names it.
inline Nhwc nhwc(const char* op, const char* name, const Tensor& t) {
  STD_TORCH_CHECK(t.dim() == 4, op, ": ", name, " must have shape (n, c, h, w), got ", shape_of(t));
  Nhwc v{t.size(0), t.size(1), t.size(2), t.size(3), 0};
  // Strides of dimensions of size 1 say nothing: the pitch is read from the innermost dimension that has two entries.
  v.ld = v.w > 1 ? t.stride(3) : v.h > 1 ? t.stride(2) : v.n > 1 ? t.stride(0) : v.c;
  const bool ok = v.ld >= v.c && (v.c == 1 || t.stride(1) == 1) && (v.w == 1 || t.stride(3) == v.ld) &&
                  (v.h == 1 || t.stride(2) == v.ld * v.w) && (v.n == 1 || t.stride(0) == v.ld * v.w * v.h);
  STD_TORCH_CHECK(ok, op, ": ", name, " must be channels_last, or a channel slice of a channels_last tensor");
  return v;
}

inline Dtype dtype_of(const char* op, const char* name, const Tensor& t) {
  switch (t.scalar_type()) {
    case ScalarType::Float:
      return Dtype::kFloat32;
    case ScalarType::BFloat16:
      return Dtype::kBFloat16;
    case ScalarType::Half:
      return Dtype::kFloat16;
    case ScalarType::Double:
      return Dtype::kFloat64;
    default:
      STD_TORCH_CHECK(false, op, ": ", name, " must be float32, bfloat16, float16 or float64");
  }
}

// The dtype of `t`, or an error that names it. float16 has no CPU twin and float64 no CUDA kernel.
inline Dtype supported_dtype(const char* op, const char* name, const Tensor& t) {
  const Dtype dtype = dtype_of(op, name, t);
  STD_TORCH_CHECK(dtype != (t.is_cuda() ? Dtype::kFloat64 : Dtype::kFloat16), op, ": ", name,
                  t.is_cuda() ? " must be float32, bfloat16 or float16 on CUDA"
                              : " must be float32, bfloat16 or float64 on the CPU");
  return dtype;
}

}  // namespace pygan

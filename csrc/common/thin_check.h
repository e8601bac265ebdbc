// The torch side of thin.h: checks that a thin tensor, a thick tensor and a weight belong together, by name.
#pragma once
#include <string>

#include "common/check.h"
#include "common/tensor.h"
#include "common/thin.h"

namespace pygan {

inline ThinMode thin_mode(const char* op, const std::string& mode) {
  if (mode == "stride2") return ThinMode::kStride2;
  if (mode == "reflect") return ThinMode::kReflect;
  if (mode == "zero_adjoint") return ThinMode::kZeroAdjoint;
  STD_TORCH_CHECK(mode == "reflect_adjoint", op,
                  ": mode must be stride2, reflect, zero_adjoint or reflect_adjoint, got '", mode, "'");
  return ThinMode::kReflectAdjoint;
}

// The shape and strides of one call, or an error that names what does not fit. The thin tensor may have any strides.
// Thick tensor and weight share a dtype; the thin one has it too, or is float32, and so may a gradient of the weight.
inline ThinShape thin_shape(const char* op, const std::string& mode, const char* thin_name, const Tensor& thin,
                            const char* thick_name, const Tensor& thick, const char* weight_name, const Tensor& weight,
                            bool weight_is_gradient = false) {
  ThinShape s{};
  s.mode = thin_mode(op, mode);
  STD_TORCH_CHECK(thin.dim() == 4 && thin.numel() > 0, op, ": ", thin_name,
                  " must have shape (n, c, h, w) and not be empty, got ", shape_of(thin));
  const Nhwc k = nhwc(op, thick_name, thick);
  const int kernel = thin_kernel_size(s.mode), thick_dim = thin_thick_dim(s.mode);
  STD_TORCH_CHECK(weight.dim() == 4 && weight.size(thick_dim) == k.c && weight.size(1 - thick_dim) == thin.size(1) &&
                      weight.size(2) == kernel && weight.size(3) == kernel,
                  op, ": ", weight_name, " must have shape [", thick_dim == 0 ? k.c : thin.size(1), ", ",
                  thick_dim == 0 ? thin.size(1) : k.c, ", ", kernel, ", ", kernel, "], got ", shape_of(weight));
  STD_TORCH_CHECK(
      k.n == thin.size(0) && thin_sizes_fit(s.mode, thin.size(2), k.h) && thin_sizes_fit(s.mode, thin.size(3), k.w), op,
      ": ", thin_name, " ", shape_of(thin), " and ", thick_name, " ", shape_of(thick),
      " do not belong together in mode '", mode, "'");
  STD_TORCH_CHECK(thin.size(1) <= thin_max_channels(s.mode), op, ": ", thin_name, " must have at most ",
                  thin_max_channels(s.mode), " channels in mode '", mode, "', got ", thin.size(1));
  const auto or_float = [&](const Tensor& t) {
    return t.scalar_type() == ScalarType::Float && thick.scalar_type() != ScalarType::Double;
  };
  STD_TORCH_CHECK(weight.scalar_type() == thick.scalar_type() || (weight_is_gradient && or_float(weight)), op, ": ",
                  weight_name, " must have the dtype of ", thick_name, weight_is_gradient ? " or be float32" : "");
  STD_TORCH_CHECK(thin.scalar_type() == thick.scalar_type() || or_float(thin), op, ": ", thin_name,
                  " must have the dtype of ", thick_name, " or be float32");
  STD_TORCH_CHECK(thin.device() == thick.device() && weight.device() == thick.device(), op, ": ", thin_name, ", ",
                  weight_name, " and ", thick_name, " must be on the same device");
  const Dtype dtype = supported_dtype(op, thick_name, thick);
  if (thick.is_cuda()) {
    STD_TORCH_CHECK(dtype == Dtype::kBFloat16 || dtype == Dtype::kFloat16, op, ": ", thick_name,
                    " must be bfloat16 or float16 on CUDA");
    STD_TORCH_CHECK(k.c % 64 == 0, op, ": ", thick_name, " must have a multiple of 64 channels on CUDA, got ", k.c);
  }
  int64_t span = 1;  // of the thin tensor in memory: kernels have 32-bit offsets in it
  for (int64_t d = 0; d < 4; ++d) span += (thin.size(d) - 1) * thin.stride(d);
  STD_TORCH_CHECK(span < (int64_t{1} << 31) && k.rows() < (int64_t{1} << 31), op, ": ", thin_name, " ", shape_of(thin),
                  " is too large");
  s.n = static_cast<int>(k.n);
  s.ct = static_cast<int>(thin.size(1));
  s.ht = static_cast<int>(thin.size(2));
  s.wt = static_cast<int>(thin.size(3));
  s.ck = static_cast<int>(k.c);
  s.hk = static_cast<int>(k.h);
  s.wk = static_cast<int>(k.w);
  s.t_n = thin.stride(0);
  s.t_c = thin.stride(1);
  s.t_h = thin.stride(2);
  s.t_w = thin.stride(3);
  s.k_ld = k.ld;
  s.w_thick = weight.stride(thick_dim);
  s.w_thin = weight.stride(1 - thick_dim);
  s.w_y = weight.stride(2);
  s.w_x = weight.stride(3);
  return s;
}

// The dtype of a vector over channels beside a thick tensor: as that, or float32 (beside 16 bits).
inline Dtype thin_vector(const char* op, const char* name, const Tensor& t, int64_t length, const Tensor& thick) {
  STD_TORCH_CHECK(t.dim() == 1 && t.size(0) == length && (length < 2 || t.stride(0) == 1), op, ": ", name,
                  " must have shape [", length, "] and be contiguous, got ", shape_of(t));
  STD_TORCH_CHECK(t.scalar_type() == thick.scalar_type() ||
                      (t.scalar_type() == ScalarType::Float && thick.scalar_type() != ScalarType::Double),
                  op, ": ", name, " must have the dtype of the thick tensor or be float32");
  STD_TORCH_CHECK(t.device() == thick.device(), op, ": ", name, " must be on the device of the thick tensor");
  return dtype_of(op, name, t);
}

}  // namespace pygan

// Errors that name the argument: "norm_act: bias must have shape (x.size(1),) = [3], got [4]".
#pragma once
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <sstream>
#include <string>

namespace pygan {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// "[2, 64, 8, 8]"
inline std::string shape_of(const Tensor& t) {
  std::ostringstream s;
  s << '[';
  for (int64_t d = 0; d < t.dim(); ++d) s << (d ? ", " : "") << t.size(d);
  s << ']';
  return s.str();
}

// A vector of `length` values of type `dtype` beside `like` (same device), or an error that names it.
inline void check_vector(const char* op, const char* name, const Tensor& t, int64_t length, ScalarType dtype,
                         const Tensor& like) {
  STD_TORCH_CHECK(t.dim() == 1 && t.size(0) == length, op, ": ", name, " must have shape [", length, "], got ",
                  shape_of(t));
  STD_TORCH_CHECK(t.scalar_type() == dtype, op, ": ", name, " has the wrong dtype: the statistics of this input are ",
                  dtype == ScalarType::Double ? "float64" : "float32");
  STD_TORCH_CHECK(t.device() == like.device(), op, ": ", name, " must be on the device of the input");
  STD_TORCH_CHECK(length < 2 || t.stride(0) == 1, op, ": ", name, " must be contiguous");
}

// Every launcher returns a cudaError_t as int; 0 is success.
inline void check_launch(const char* op, int code) {
  STD_TORCH_CHECK(code == 0, op, ": kernel launch failed with CUDA error ", code);
}

}  // namespace pygan

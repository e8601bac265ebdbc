// small_conv as three operators of torch (formulas and layout: small_conv.h). Checks by name, allocation, dispatch.
// Fake kernels and autograd: pygan/ops/small_conv.py.
#include "ops/small_conv/small_conv.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <cmath>
#include <optional>
#include <string>
#include <tuple>

#include "common/check.h"
#include "common/stream.h"
#include "common/tensor.h"

namespace pygan {
namespace {

using torch::headeronly::MemoryFormat;
using MaybeTensor = std::optional<Tensor>;
using MaybeString = std::optional<std::string>;
constexpr const char* kOp = "small_conv";

const void* const_data(const MaybeTensor& t) { return t ? t->const_data_ptr() : nullptr; }
void* mutable_data(const MaybeTensor& t) { return t ? t->mutable_data_ptr() : nullptr; }

ScalarType statistics_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

Tensor empty_nhwc(const Tensor& like, int64_t n, int64_t c, int64_t h, int64_t w) {
  const int64_t sizes[] = {n, c, h, w};
  return torch::stable::empty({sizes, 4}, like.scalar_type(), std::nullopt, like.device(), std::nullopt,
                              MemoryFormat::ChannelsLast);
}

// The rows of `t` as the kernels walk them, 16 bytes at a time on CUDA.
Nhwc rows_of(const char* name, const Tensor& t) {
  const Nhwc v = nhwc(kOp, name, t);
  const bool aligned = reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0 && v.ld % 8 == 0;
  STD_TORCH_CHECK(!t.is_cuda() || aligned, kOp, ": ", name,
                  " must begin every pixel at a multiple of 16 bytes on CUDA");
  return v;
}

// `t` is like `like` in dtype and device, or an error that names it.
void check_beside(const char* name, const Tensor& t, const char* like_name, const Tensor& like) {
  STD_TORCH_CHECK(t.scalar_type() == like.scalar_type(), kOp, ": ", name, " must have the dtype of ", like_name);
  STD_TORCH_CHECK(t.device() == like.device(), kOp, ": ", name, " must be on the device of ", like_name);
}

// Sizes of one layer, of which `map` is the large or the small one. The other has `other_channels`.
SmallConvShape shape_args(const char* name, const Tensor& map, const Nhwc& v, bool large, int64_t other_channels) {
  SmallConvShape s{};
  s.dtype = supported_dtype(kOp, name, map);
  STD_TORCH_CHECK(v.rows() > 0 && v.c > 0 && other_channels > 0, kOp, ": ", name, " must not be empty, got ",
                  shape_of(map));
  STD_TORCH_CHECK(!large || (v.h % 2 == 0 && v.w % 2 == 0), kOp, ": ", name,
                  " must have an even height and width, got ", shape_of(map));
  s.n = v.n;
  s.h = large ? v.h / 2 : v.h;
  s.w = large ? v.w / 2 : v.w;
  s.cl = large ? v.c : other_channels;
  s.cs = large ? other_channels : v.c;
  if (map.is_cuda()) {
    STD_TORCH_CHECK(s.dtype == Dtype::kBFloat16 || s.dtype == Dtype::kFloat16, kOp, ": ", name,
                    " must be bfloat16 or float16 on CUDA");
    STD_TORCH_CHECK(s.cl % 64 == 0 && s.cs % 64 == 0, kOp,
                    ": the channels on both sides must be multiples of 64 on CUDA, got ", v.c, " and ", other_channels);
  }
  const int64_t elements = 4 * s.n * s.h * s.w * (s.cl > s.cs ? s.cl : s.cs);
  STD_TORCH_CHECK(elements < (int64_t{1} << 31) && 16 * s.cl * s.cs < (int64_t{1} << 31), kOp, ": ", name, " ",
                  shape_of(map), " is too large");
  return s;
}

// The weight of a layer one side of which has `channels`: weight.size(dim). Its memory is channels_last.
void check_weight(const Tensor& weight, int64_t dim, int64_t channels, const char* like_name, const Tensor& like) {
  STD_TORCH_CHECK(weight.dim() == 4 && weight.size(dim) == channels && weight.size(2) == 4 && weight.size(3) == 4, kOp,
                  ": weight must have shape ", dim == 0 ? "(c, o, 4, 4)" : "(o, c, 4, 4)", " with c = ", channels,
                  " as ", like_name, ", got ", shape_of(weight));
  check_beside("weight", weight, like_name, like);
  STD_TORCH_CHECK(nhwc(kOp, "weight", weight).ld == weight.size(1), kOp, ": weight must be dense in channels_last");
  rows_of("weight", weight);
}

Act act_of(const char* name, const std::string& act) {
  if (act == "none") return Act::kNone;
  if (act == "relu") return Act::kRelu;
  if (act == "leaky_relu") return Act::kLeakyRelu;
  STD_TORCH_CHECK(act == "elu", kOp, ": ", name, " must be none, relu, leaky_relu or elu, got '", act, "'");
  return Act::kElu;
}

// The pitch of a tensor that must be like z in shape, dtype and device.
int64_t pitch_beside(const char* name, const Tensor& t, const Tensor& z) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(0) == z.size(0) && t.size(1) == z.size(1) && t.size(2) == z.size(2) &&
                      t.size(3) == z.size(3),
                  kOp, ": ", name, " must have the shape of the result, ", shape_of(z), ", got ", shape_of(t));
  check_beside(name, t, "x", z);
  return rows_of(name, t).ld;
}

#ifdef PYGAN_WITH_CUDA
// The workspace is kept alive until the launch is queued, which is all that a stream-ordered allocator needs.
template <class Args, class Launcher>
void launch_with_workspace(Args& args, const Tensor& like, const Launcher& launcher) {
  const torch::stable::accelerator::DeviceGuard guard(like.get_device_index());
  Tensor workspace = torch::stable::new_empty(like, {small_conv_workspace_floats(args)}, ScalarType::Float);
  args.workspace = static_cast<float*>(workspace.mutable_data_ptr());
  check_launch(kOp, launcher(args, current_stream(like)));
}
#endif

std::tuple<Tensor, Tensor, Tensor> small_conv(Tensor x, Tensor weight, MaybeTensor bias, MaybeTensor norm_weight,
                                              MaybeTensor norm_bias, MaybeTensor rng, MaybeTensor running_mean,
                                              MaybeTensor running_var, MaybeTensor y, MaybeTensor s, bool transposed,
                                              std::string norm, int64_t groups, double eps, std::string act,
                                              MaybeString skip_act, double slope, double dropout_p, int64_t rng_stream,
                                              double momentum, bool use_running) {
  // the convolution
  const Nhwc v = rows_of("x", x);
  check_weight(weight, transposed ? 0 : 1, v.c, "x", x);
  SmallConvForward args{};
  static_cast<SmallConvShape&>(args) = shape_args("x", x, v, !transposed, weight.size(transposed ? 1 : 0));
  args.up = transposed;
  const int64_t channels = transposed ? args.cl : args.cs, scale = transposed ? 2 : 1;
  Tensor z = empty_nhwc(x, args.n, channels, scale * args.h, scale * args.w);
  if (bias) {
    STD_TORCH_CHECK(bias->dim() == 1 && bias->size(0) == channels && (channels < 2 || bias->stride(0) == 1), kOp,
                    ": bias must be contiguous of shape [", channels, "], got ", shape_of(*bias));
    check_beside("bias", *bias, "x", x);
  }
  args.x = x.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.bias = const_data(bias);
  args.ld_x = v.ld;

  // what becomes of its result
  NormActForward& a = args.norm;
  STD_TORCH_CHECK(norm == "batch" || norm == "instance" || norm == "none", kOp,
                  ": norm must be batch, instance or none, got '", norm, "'");
  STD_TORCH_CHECK(groups >= 1 && v.n % groups == 0, kOp, ": groups = ", groups, " must divide the batch of ", v.n);
  STD_TORCH_CHECK(dropout_p >= 0 && dropout_p < 1, kOp, ": dropout_p must lie in [0, 1), got ", dropout_p);
  STD_TORCH_CHECK(running_mean.has_value() == running_var.has_value(), kOp,
                  ": running_mean and running_var come together");
  STD_TORCH_CHECK(running_mean || !use_running, kOp, ": use_running needs running_mean and running_var");
  STD_TORCH_CHECK(!running_mean || norm == "batch", kOp, ": running statistics are for norm 'batch'");
  STD_TORCH_CHECK(s.has_value() == skip_act.has_value(), kOp, ": s and skip_act come together");
  STD_TORCH_CHECK(y || (!s && norm == "none"), kOp, ": without y there is no s and no norm");
  for (const auto& [name, t] : {std::pair{"norm_weight", &norm_weight}, std::pair{"norm_bias", &norm_bias},
                                std::pair{"running_mean", &running_mean}, std::pair{"running_var", &running_var}}) {
    if (*t) check_vector(kOp, name, **t, channels, statistics_type(x), x);
  }
  a.dtype = args.dtype;
  a.rows = args.n * args.h * args.w * scale * scale;
  a.channels = channels;
  a.statistics = norm == "none" ? Statistics::kNone : use_running ? Statistics::kRunning : Statistics::kBatch;
  a.groups = a.statistics != Statistics::kBatch ? 1 : norm == "instance" ? v.n : groups;
  a.act = act_of("act", act);
  a.skip_act = skip_act ? act_of("skip_act", *skip_act) : Act::kNone;
  a.slope = slope;
  if (dropout_p > 0) {
    STD_TORCH_CHECK(rng && rng->dim() == 1 && rng->size(0) == 2 && rng->scalar_type() == ScalarType::Long &&
                        rng->device() == x.device(),
                    kOp, ": dropout needs rng, int64 {seed, offset} on the device of x");
    a.dropout.rng = static_cast<const int64_t*>(rng->const_data_ptr());
    a.dropout.stream = static_cast<uint32_t>(rng_stream);
    a.dropout.last_dropped = static_cast<uint32_t>(std::ceil(dropout_p * 4294967296.0) - 1);
    a.dropout.keep_scale = 1 / (1 - dropout_p);
  }
  const int64_t statistic_rows = a.statistics == Statistics::kNone ? 0 : a.groups;
  Tensor mean = torch::stable::new_empty(x, {statistic_rows, channels}, statistics_type(x));
  Tensor rstd = torch::stable::new_empty(x, {statistic_rows, channels}, statistics_type(x));
  a.x = z.mutable_data_ptr();
  a.ld_x = channels;
  a.ld_y = y ? pitch_beside("y", *y, z) : 0;
  a.ld_s = s ? pitch_beside("s", *s, z) : 0;
  a.weight = const_data(norm_weight);
  a.bias = const_data(norm_bias);
  a.y = mutable_data(y);
  a.s = mutable_data(s);
  a.mean = statistic_rows ? mean.mutable_data_ptr() : nullptr;
  a.rstd = statistic_rows ? rstd.mutable_data_ptr() : nullptr;
  a.running_mean = mutable_data(running_mean);
  a.running_var = mutable_data(running_var);
  a.eps = eps;
  a.momentum = momentum;
#ifdef PYGAN_WITH_CUDA
  if (x.is_cuda()) {
    launch_with_workspace(args, x, small_conv_cuda);
    return {z, mean, rstd};
  }
#endif
  small_conv_cpu(args);
  return {z, mean, rstd};
}

Tensor small_conv_dx(Tensor dz, Tensor weight, bool transposed) {
  const Nhwc v = rows_of("dz", dz);
  check_weight(weight, transposed ? 1 : 0, v.c, "dz", dz);
  SmallConvDx args{};
  static_cast<SmallConvShape&>(args) = shape_args("dz", dz, v, transposed, weight.size(transposed ? 0 : 1));
  args.up = !transposed;
  Tensor dx = transposed ? empty_nhwc(dz, args.n, args.cs, args.h, args.w)
                         : empty_nhwc(dz, args.n, args.cl, 2 * args.h, 2 * args.w);
  args.dz = dz.const_data_ptr();
  args.weight = weight.const_data_ptr();
  args.ld_dz = v.ld;
  args.dx = dx.mutable_data_ptr();
#ifdef PYGAN_WITH_CUDA
  if (dz.is_cuda()) {
    launch_with_workspace(args, dz, small_conv_dx_cuda);
    return dx;
  }
#endif
  small_conv_dx_cpu(args);
  return dx;
}

Tensor small_conv_dw(Tensor dz, Tensor x, bool transposed) {
  const Nhwc out = rows_of("dz", dz), in = rows_of("x", x);
  const Nhwc &small = transposed ? in : out, &large = transposed ? out : in;
  STD_TORCH_CHECK(small.n == large.n && 2 * small.h == large.h && 2 * small.w == large.w, kOp, ": dz ", shape_of(dz),
                  " is not the result of an x of shape ", shape_of(x));
  check_beside("x", x, "dz", dz);
  SmallConvDw args{};
  static_cast<SmallConvShape&>(args) = shape_args("dz", dz, out, transposed, in.c);
  Tensor dw = empty_nhwc(dz, small.c, large.c, 4, 4);
  args.small = (transposed ? x : dz).const_data_ptr();
  args.large = (transposed ? dz : x).const_data_ptr();
  args.ld_small = small.ld;
  args.ld_large = large.ld;
  args.dw = dw.mutable_data_ptr();
#ifdef PYGAN_WITH_CUDA
  if (dz.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(dz.get_device_index());
    check_launch(kOp, small_conv_dw_cuda(args, current_stream(dz)));
    return dw;
  }
#endif
  small_conv_dw_cpu(args);
  return dw;
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  // Writes y and s; returns z, the rounded result of the convolution, and what norm_act returns of it. Without y, z is
  // all.
  m.def(
      "small_conv(Tensor x, Tensor weight, Tensor? bias, Tensor? norm_weight, Tensor? norm_bias, Tensor? rng, "
      "Tensor(a!)? running_mean, Tensor(b!)? running_var, Tensor(c!)? y, Tensor(d!)? s, *, bool transposed, str norm, "
      "int groups, float eps, str act, str? skip_act, float slope, float dropout_p, int rng_stream, float momentum, "
      "bool use_running) -> (Tensor z, Tensor mean, Tensor rstd)");
  m.def("small_conv_dx(Tensor dz, Tensor weight, *, bool transposed) -> Tensor dx");
  m.def("small_conv_dw(Tensor dz, Tensor x, *, bool transposed) -> Tensor dw");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("small_conv", TORCH_BOX(&pygan::small_conv));
  m.impl("small_conv_dx", TORCH_BOX(&pygan::small_conv_dx));
  m.impl("small_conv_dw", TORCH_BOX(&pygan::small_conv_dw));
}

#ifdef PYGAN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("small_conv", TORCH_BOX(&pygan::small_conv));
  m.impl("small_conv_dx", TORCH_BOX(&pygan::small_conv_dx));
  m.impl("small_conv_dw", TORCH_BOX(&pygan::small_conv_dw));
}
#endif

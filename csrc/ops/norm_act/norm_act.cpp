// norm_act as two operators of torch (formulas and layout: norm_act.h). Checks by name, allocation, dispatch.
#include "norm_act.h"

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
constexpr const char* kOp = "norm_act";

Act act_of(const std::string& name) {
  if (name == "none") return Act::kNone;
  if (name == "relu") return Act::kRelu;
  if (name == "leaky_relu") return Act::kLeakyRelu;
  STD_TORCH_CHECK(name == "elu", kOp, ": act must be none, relu, leaky_relu or elu, got '", name, "'");
  return Act::kElu;
}

ScalarType parameter_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

const void* const_data(const MaybeTensor& t) { return t ? t->const_data_ptr() : nullptr; }
void* mutable_data(const MaybeTensor& t) { return t ? t->mutable_data_ptr() : nullptr; }

void check_parameter(const char* name, const MaybeTensor& t, const Tensor& x) {
  if (t) check_vector(kOp, name, *t, x.size(1), parameter_type(x), x);
}

// Where the rows of a tensor lie: elements between pixels, and Lines where lines and samples do not follow from it.
struct Pitch {
  int64_t ld = 0;
  Lines lines;
};

// The pitches of a tensor whose channels are neighbours in memory, or an error that names it.
Pitch pitch_of(const char* name, const Tensor& t) {
  STD_TORCH_CHECK(t.dim() == 4, kOp, ": ", name, " must have shape (n, c, h, w), got ", shape_of(t));
  // Strides of dimensions of size 1 say nothing: each continues the next one that has two entries.
  const int64_t n = t.size(0), h = t.size(2), w = t.size(3);
  const int64_t ld = w > 1 ? t.stride(3) : h > 1 ? t.stride(2) : n > 1 ? t.stride(0) : t.size(1);
  const int64_t line = h > 1 ? t.stride(2) : ld * w, sample = n > 1 ? t.stride(0) : line * h;
  const int64_t c = t.size(1);
  STD_TORCH_CHECK((c == 1 || t.stride(1) == 1) && ld >= c && line >= c && sample >= c, kOp, ": ", name,
                  " must be channels_last, or a slice of a channels_last tensor");
  for (const int64_t stride : {ld, line, sample}) {
    STD_TORCH_CHECK(stride < (int64_t{1} << 32), kOp, ": ", name, " is too large: a stride of ", stride);
  }
  return line == ld * w && sample == line * h ? Pitch{ld, {}} : Pitch{ld, {line, sample}};
}

// The pitches of a tensor that must be like x in dtype and device, and in shape but for `pad` pixels on each side.
Pitch pitch_beside(const char* name, const Tensor& t, const Tensor& x, int64_t pad = 0) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(0) == x.size(0) && t.size(1) == x.size(1) &&
                      t.size(2) == x.size(2) + 2 * pad && t.size(3) == x.size(3) + 2 * pad,
                  kOp, ": ", name, " must have the shape of x, ", shape_of(x), pad ? " with padding" : "", ", got ",
                  shape_of(t));
  STD_TORCH_CHECK(t.scalar_type() == x.scalar_type(), kOp, ": ", name, " must have the dtype of x");
  STD_TORCH_CHECK(t.device() == x.device(), kOp, ": ", name, " must be on the device of x");
  return pitch_of(name, t);
}

// What a padded tensor adds: its lines, which are longer than those of x, and the way to the image's first pixel.
Pitch pitch_of_padded(const char* name, const Tensor& t, const Tensor& x, int64_t pad, int64_t& first) {
  Pitch p = pitch_beside(name, t, x, pad);
  if (pad > 0 && p.lines.line == 0) p.lines = {t.size(3) * p.ld, t.size(2) * t.size(3) * p.ld};
  first = pad * (p.lines.line + p.ld);
  return p;
}

const void* advance(const void* data, int64_t elements, Dtype dtype) {
  const int64_t size = dtype == Dtype::kFloat64 ? 8 : dtype == Dtype::kFloat32 ? 4 : 2;
  return static_cast<const char*>(data) + elements * size;
}

NormActShape shape_args(const Tensor& x, const MaybeTensor& rng, const std::string& norm, int64_t groups,
                        const std::string& act, const MaybeString& skip_act, double slope, double dropout_p,
                        int64_t rng_stream, bool use_running, int64_t pad) {
  pitch_of("x", x);
  STD_TORCH_CHECK(x.numel() > 0, kOp, ": x must not be empty, got ", shape_of(x));
  const Dtype dtype = dtype_of(kOp, "x", x);
  STD_TORCH_CHECK(x.is_cuda() ? dtype != Dtype::kFloat64 : dtype != Dtype::kFloat16, kOp, ": ",
                  x.is_cuda() ? "float64 is for the CPU" : "float16 is for CUDA");
  STD_TORCH_CHECK(norm == "batch" || norm == "instance" || norm == "none", kOp,
                  ": norm must be batch, instance or none, got '", norm, "'");
  STD_TORCH_CHECK(groups >= 1 && x.size(0) % groups == 0, kOp, ": groups = ", groups, " must divide the batch of ",
                  x.size(0));

  NormActShape s{};
  s.dtype = dtype;
  s.rows = x.size(0) * x.size(2) * x.size(3);
  s.channels = x.size(1);
  s.height = x.size(2);
  s.width = x.size(3);
  s.pad = pad;
  STD_TORCH_CHECK(s.rows < (int64_t{1} << 31), kOp, ": x has too many pixels: ", s.rows);
  STD_TORCH_CHECK(pad >= 0 && s.height > pad && s.width > pad, kOp, ": reflection by pad = ", pad, " needs more than ",
                  pad, " rows and columns, got ", shape_of(x));
  s.statistics = norm == "none" ? Statistics::kNone : use_running ? Statistics::kRunning : Statistics::kBatch;
  s.groups = s.statistics != Statistics::kBatch ? 1 : norm == "instance" ? x.size(0) : groups;
  STD_TORCH_CHECK(s.groups < 65536, kOp, ": at most 65535 statistic groups, got ", s.groups);
  s.act = act_of(act);
  s.skip_act = skip_act ? act_of(*skip_act) : Act::kNone;
  s.slope = slope;
  STD_TORCH_CHECK(dropout_p >= 0 && dropout_p < 1, kOp, ": dropout_p must lie in [0, 1), got ", dropout_p);
  if (dropout_p > 0) {
    STD_TORCH_CHECK(rng && rng->dim() == 1 && rng->size(0) == 2 && rng->scalar_type() == ScalarType::Long &&
                        rng->device() == x.device(),
                    kOp, ": dropout needs rng, int64 {seed, offset} on the device of x");
    s.dropout.rng = static_cast<const int64_t*>(rng->const_data_ptr());
    s.dropout.stream = static_cast<uint32_t>(rng_stream);
    s.dropout.last_dropped = static_cast<uint32_t>(std::ceil(dropout_p * 4294967296.0) - 1);
    s.dropout.keep_scale = 1 / (1 - dropout_p);
  }
  return s;
}

#ifdef PYGAN_WITH_CUDA
// Scratch of one launch; the caller keeps it until the launch is queued, which is all that a stream-ordered allocator
// needs.
template <class Args>
Tensor give_workspace(Args& args, const Tensor& x) {
  STD_TORCH_CHECK(norm_act_has_tickets(args), kOp, ": too many statistic groups: ", args.groups, " of ", args.channels,
                  " channels");
  Tensor workspace = torch::stable::new_empty(x, {norm_act_workspace_floats(args)}, ScalarType::Float);
  args.workspace = static_cast<float*>(workspace.mutable_data_ptr());
  return workspace;
}
#endif

void run_forward(NormActForward& args, const Tensor& x) {
#ifdef PYGAN_WITH_CUDA
  if (x.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
    MaybeTensor workspace;
    if (args.statistics == Statistics::kBatch) workspace = give_workspace(args, x);
    return check_launch(kOp, norm_act_forward_cuda(args, current_stream(x)));
  }
#else
  (void)x;
#endif
  norm_act_forward_cpu(args);
}

void run_backward(NormActBackward& args, const Tensor& x) {
#ifdef PYGAN_WITH_CUDA
  if (x.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(x.get_device_index());
    MaybeTensor workspace;
    if (args.dweight || args.dbias || args.statistics == Statistics::kBatch) workspace = give_workspace(args, x);
    return check_launch(kOp, norm_act_backward_cuda(args, current_stream(x)));
  }
#else
  (void)x;
#endif
  norm_act_backward_cpu(args);
}

std::tuple<Tensor, Tensor> norm_act(Tensor x, MaybeTensor weight, MaybeTensor bias, MaybeTensor rng,
                                    MaybeTensor running_mean, MaybeTensor running_var, Tensor y, MaybeTensor s,
                                    MaybeTensor residual, std::string norm, int64_t groups, double eps, std::string act,
                                    MaybeString skip_act, double slope, double dropout_p, int64_t rng_stream,
                                    double momentum, bool use_running, int64_t pad) {
  check_parameter("weight", weight, x);
  check_parameter("bias", bias, x);
  check_parameter("running_mean", running_mean, x);
  check_parameter("running_var", running_var, x);
  STD_TORCH_CHECK(running_mean.has_value() == running_var.has_value(), kOp,
                  ": running_mean and running_var come together");
  STD_TORCH_CHECK(running_mean || !use_running, kOp, ": use_running needs running_mean and running_var");
  STD_TORCH_CHECK(s.has_value() == skip_act.has_value(), kOp, ": s and skip_act come together");

  NormActForward args{};
  static_cast<NormActShape&>(args) =
      shape_args(x, rng, norm, groups, act, skip_act, slope, dropout_p, rng_stream, use_running, pad);
  STD_TORCH_CHECK(!running_mean || norm == "batch", kOp, ": running statistics are for norm 'batch'");
  const int64_t statistic_rows = args.statistics == Statistics::kNone ? 0 : args.groups;
  Tensor mean = torch::stable::new_empty(x, {statistic_rows, args.channels}, parameter_type(x));
  Tensor rstd = torch::stable::new_empty(x, {statistic_rows, args.channels}, parameter_type(x));
  args.x = x.const_data_ptr();
  args.weight = const_data(weight);
  args.bias = const_data(bias);
  args.residual = const_data(residual);
  const auto lies = [](const Pitch& p, int64_t& ld, Lines& lines) { ld = p.ld, lines = p.lines; };
  int64_t first = 0;
  lies(pitch_of("x", x), args.ld_x, args.lines_x);
  if (residual) lies(pitch_beside("residual", *residual, x), args.ld_residual, args.lines_residual);
  lies(pitch_of_padded("y", y, x, pad, first), args.ld_y, args.lines_y);
  if (s) lies(pitch_beside("s", *s, x), args.ld_s, args.lines_s);
  nhwc(kOp, "y", y);  // no two pixels of what is written share memory
  if (s) nhwc(kOp, "s", *s);
  args.y = const_cast<void*>(advance(y.mutable_data_ptr(), first, args.dtype));
  args.s = mutable_data(s);
  args.mean = statistic_rows ? mean.mutable_data_ptr() : nullptr;
  args.rstd = statistic_rows ? rstd.mutable_data_ptr() : nullptr;
  args.running_mean = mutable_data(running_mean);
  args.running_var = mutable_data(running_var);
  args.eps = eps;
  args.momentum = momentum;
  run_forward(args, x);
  return {mean, rstd};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> norm_act_backward(MaybeTensor dy, MaybeTensor ds, Tensor x,
                                                             MaybeTensor weight, MaybeTensor bias, Tensor mean,
                                                             Tensor rstd, MaybeTensor rng, MaybeTensor residual,
                                                             std::string norm, int64_t groups, double /*eps*/,
                                                             std::string act, MaybeString skip_act, double slope,
                                                             double dropout_p, int64_t rng_stream, bool use_running,
                                                             int64_t pad, bool need_dx, bool need_dresidual) {
  check_parameter("weight", weight, x);
  check_parameter("bias", bias, x);
  STD_TORCH_CHECK(!ds || skip_act, kOp, ": ds needs skip_act");

  NormActBackward args{};
  static_cast<NormActShape&>(args) =
      shape_args(x, rng, norm, groups, act, skip_act, slope, dropout_p, rng_stream, use_running, pad);
  const int64_t statistic_rows = args.statistics == Statistics::kNone ? 0 : args.groups;
  for (const auto& [name, t] : {std::pair{"mean", &mean}, std::pair{"rstd", &rstd}}) {
    STD_TORCH_CHECK(t->dim() == 2 && t->size(0) == statistic_rows && t->size(1) == args.channels &&
                        t->scalar_type() == parameter_type(x) && t->is_contiguous() && t->device() == x.device(),
                    kOp, ": ", name, " must be what the forward pass returned, got ", shape_of(*t));
  }
  const auto gradient = [&x](bool needed) {
    return needed ? torch::stable::empty(x.sizes(), x.scalar_type(), std::nullopt, x.device(), std::nullopt,
                                         MemoryFormat::ChannelsLast)
                  : torch::stable::new_empty(x, {0});
  };
  Tensor dx = gradient(need_dx), dresidual = gradient(need_dresidual);
  Tensor dweight = torch::stable::new_empty(x, {weight ? args.channels : 0}, parameter_type(x));
  Tensor dbias = torch::stable::new_empty(x, {bias ? args.channels : 0}, parameter_type(x));
  args.x = x.const_data_ptr();
  args.weight = const_data(weight);
  args.bias = const_data(bias);
  args.mean = statistic_rows ? mean.const_data_ptr() : nullptr;
  args.rstd = statistic_rows ? rstd.const_data_ptr() : nullptr;
  const auto lies = [](const Pitch& p, int64_t& ld, Lines& lines) { ld = p.ld, lines = p.lines; };
  int64_t first = 0;
  lies(pitch_of("x", x), args.ld_x, args.lines_x);
  if (residual) lies(pitch_beside("residual", *residual, x), args.ld_residual, args.lines_residual);
  if (dy) {
    lies(pitch_of_padded("dy", *dy, x, pad, first), args.ld_dy, args.lines_dy);
    args.dy = advance(dy->const_data_ptr(), first, args.dtype);
  }
  if (ds) lies(pitch_beside("ds", *ds, x), args.ld_ds, args.lines_ds);
  args.ds = const_data(ds);
  const bool masks = (dy && args.act != Act::kNone) || (ds && args.skip_act != Act::kNone);
  args.residual = masks ? const_data(residual) : nullptr;
  args.ld_dx = args.ld_dresidual = args.channels;
  args.dx = need_dx ? dx.mutable_data_ptr() : nullptr;
  args.dresidual = need_dresidual ? dresidual.mutable_data_ptr() : nullptr;
  args.dweight = weight ? dweight.mutable_data_ptr() : nullptr;
  args.dbias = bias ? dbias.mutable_data_ptr() : nullptr;
  run_backward(args, x);
  return {dx, dweight, dbias, dresidual};
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  // Writes y (padded) and s; returns mean and rstd, (groups, c), (n, c) for instance, (1, c) for use_running, (0, c)
  // for none.
  m.def(
      "norm_act(Tensor x, Tensor? weight, Tensor? bias, Tensor? rng, Tensor(a!)? running_mean, "
      "Tensor(b!)? running_var, Tensor(c!) y, Tensor(d!)? s, Tensor? residual=None, *, str norm, int groups, "
      "float eps, str act, str? skip_act, float slope, float dropout_p, int rng_stream, float momentum, "
      "bool use_running, int pad=0) -> (Tensor mean, Tensor rstd)");
  // What is not wanted (dx, dresidual) or has no parameter (dweight, dbias) comes back with no elements.
  m.def(
      "norm_act_backward(Tensor? dy, Tensor? ds, Tensor x, Tensor? weight, Tensor? bias, Tensor mean, Tensor rstd, "
      "Tensor? rng, Tensor? residual=None, *, str norm, int groups, float eps, str act, str? skip_act, float slope, "
      "float dropout_p, int rng_stream, bool use_running, int pad=0, bool need_dx, bool need_dresidual=False) "
      "-> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dresidual)");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("norm_act", TORCH_BOX(&pygan::norm_act));
  m.impl("norm_act_backward", TORCH_BOX(&pygan::norm_act_backward));
}

#ifdef PYGAN_WITH_CUDA
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("norm_act", TORCH_BOX(&pygan::norm_act));
  m.impl("norm_act_backward", TORCH_BOX(&pygan::norm_act_backward));
}
#endif

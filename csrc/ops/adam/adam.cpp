// Schema, argument checks and dispatch of adam_, find_inf_ and loss_scale_update_. Fake kernels: pygan/ops/adam.py.
#include "ops/adam/adam.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/stream.h"
#include "common/tensor.h"

namespace pygan {
namespace {

// One float32 (int32, int64) value beside `like`.
void check_scalar(const char* op, const char* name, const Tensor& t, ScalarType dtype, const char* dtype_name,
                  const Tensor& like) {
  STD_TORCH_CHECK(t.numel() == 1 && t.scalar_type() == dtype, op, ": ", name, " must be one ", dtype_name,
                  " value, got the shape ", shape_of(t));
  STD_TORCH_CHECK(t.device() == like.device(), op, ": ", name, " must be on the device of the others");
}

// True where `t` fills one run of memory, in any order of its dimensions.
bool is_dense(const Tensor& t) {
  std::vector<std::pair<int64_t, int64_t>> dims;  // (stride, size)
  for (int64_t d = 0; d < t.dim(); ++d)
    if (t.size(d) != 1) dims.emplace_back(t.stride(d), t.size(d));
  std::sort(dims.begin(), dims.end());
  int64_t run = 1;
  for (const auto& [stride, size] : dims) {
    if (stride != run) return false;
    run *= size;
  }
  return true;
}

// grads as the kernels are told; offsets are still 0.
std::vector<AdamTensor> gradients(const char* op, const std::vector<Tensor>& grads, const Tensor& like) {
  std::vector<AdamTensor> tensors;
  for (size_t i = 0; i < grads.size(); ++i) {
    const Tensor& grad = grads[i];
    const std::string name = "grads[" + std::to_string(i) + "]";
    STD_TORCH_CHECK(grad.numel() == 0 || is_dense(grad), op, ": ", name, " must fill one run of memory, got the shape ",
                    shape_of(grad), " with gaps or overlaps");
    STD_TORCH_CHECK(grad.device() == like.device(), op, ": ", name, " must be on the device of the others");
    const Dtype dtype = dtype_of(op, name.c_str(), grad);
    STD_TORCH_CHECK(!grad.is_cuda() || dtype != Dtype::kFloat64, op, ": ", name,
                    " must be float32, bfloat16 or float16 on CUDA");
    tensors.push_back({grad.numel() == 0 ? nullptr : grad.const_data_ptr(), 0, grad.numel(), dtype});
  }
  return tensors;
}

void adam_(Tensor param, Tensor exp_avg, Tensor exp_avg_sq, std::vector<Tensor> grads, std::vector<int64_t> offsets,
           Tensor hyper, Tensor step, double eps, double weight_decay, bool decoupled, std::optional<Tensor> low,
           std::optional<Tensor> ema, double ema_weight, std::optional<Tensor> scale, std::optional<Tensor> found_inf) {
  const char* op = "adam_";
  STD_TORCH_CHECK(param.dim() == 1, op, ": param must have shape [N], got ", shape_of(param));
  const int64_t size = param.size(0);
  const ScalarType type = param.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || (type == ScalarType::Double && !param.is_cuda()), op,
                  ": param must be float32, or float64 on the CPU");
  const auto check_flat = [&](const char* name, const Tensor& t) {
    STD_TORCH_CHECK(t.dim() == 1 && t.size(0) == size && (size < 2 || t.stride(0) == 1), op, ": ", name,
                    " must be contiguous and have the shape of param, [", size, "], got ", shape_of(t));
    STD_TORCH_CHECK(t.device() == param.device(), op, ": ", name, " must be on the device of param");
    STD_TORCH_CHECK(reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 == 0, op, ": ", name,
                    " must begin at a multiple of 16 bytes");
  };
  const std::pair<const char*, const Tensor*> states[] = {
      {"param", &param}, {"exp_avg", &exp_avg}, {"exp_avg_sq", &exp_avg_sq}, {"ema", ema ? &*ema : nullptr}};
  for (const auto& [name, t] : states) {
    if (t == nullptr) continue;
    check_flat(name, *t);
    STD_TORCH_CHECK(t->scalar_type() == type, op, ": ", name, " must have the dtype of param");
  }
  if (low) {
    check_flat("low", *low);
    STD_TORCH_CHECK(low->scalar_type() == ScalarType::BFloat16 || low->scalar_type() == ScalarType::Half, op,
                    ": low must be bfloat16 or float16");
  }
  STD_TORCH_CHECK(hyper.dim() == 1 && hyper.size(0) == 3 && hyper.stride(0) == 1 &&
                      (hyper.scalar_type() == ScalarType::Float || hyper.scalar_type() == ScalarType::Double),
                  op, ": hyper must be {lr, beta1, beta2}, float32 or float64 of shape [3], got ", shape_of(hyper));
  STD_TORCH_CHECK(hyper.device() == param.device(), op, ": hyper must be on the device of param");
  check_scalar(op, "step", step, ScalarType::Long, "int64", param);
  if (scale) check_scalar(op, "scale", *scale, ScalarType::Float, "float32", param);
  if (found_inf) check_scalar(op, "found_inf", *found_inf, ScalarType::Float, "float32", param);

  STD_TORCH_CHECK(offsets.size() == grads.size(), op, ": offsets must hold one number for each of the ", grads.size(),
                  " gradients, got ", offsets.size());
  std::vector<AdamTensor> tensors = gradients(op, grads, param);
  std::vector<std::pair<int64_t, int64_t>> slices;
  for (size_t i = 0; i < tensors.size(); ++i) {
    AdamTensor& tensor = tensors[i];
    tensor.offset = offsets[i];
    STD_TORCH_CHECK((tensor.dtype == Dtype::kFloat64) == (type == ScalarType::Double), op, ": grads[", i,
                    "] must be float64 beside a float64 param, and only there");
    STD_TORCH_CHECK(tensor.offset >= 0 && tensor.offset % 8 == 0 && tensor.offset <= size - tensor.count, op,
                    ": offsets[", i, "] must be a multiple of 8 that leaves room for ", tensor.count, " of ", size,
                    " values, got ", tensor.offset);
    if (tensor.count > 0) slices.emplace_back(tensor.offset, tensor.count);
  }
  std::sort(slices.begin(), slices.end());
  for (size_t i = 1; i < slices.size(); ++i)
    STD_TORCH_CHECK(slices[i - 1].first + slices[i - 1].second <= slices[i].first, op,
                    ": the slices that begin at the offsets ", slices[i - 1].first, " and ", slices[i].first,
                    " overlap");

  AdamArgs args{};
  args.param = param.mutable_data_ptr();
  args.exp_avg = exp_avg.mutable_data_ptr();
  args.exp_avg_sq = exp_avg_sq.mutable_data_ptr();
  args.ema = ema ? ema->mutable_data_ptr() : nullptr;
  args.low = low ? low->mutable_data_ptr() : nullptr;
  args.hyper = hyper.const_data_ptr();
  args.step = static_cast<const int64_t*>(step.const_data_ptr());
  args.scale = scale ? static_cast<const float*>(scale->const_data_ptr()) : nullptr;
  args.found_inf = found_inf ? static_cast<const float*>(found_inf->const_data_ptr()) : nullptr;
  args.eps = eps;
  args.weight_decay = weight_decay;
  args.ema_weight = ema_weight;
  args.decoupled = decoupled;
  args.dtype = dtype_of(op, "param", param);
  args.low_dtype = low ? dtype_of(op, "low", *low) : Dtype::kBFloat16;
  args.hyper_dtype = dtype_of(op, "hyper", hyper);
  const int64_t count = static_cast<int64_t>(tensors.size());
#if defined(PYGAN_WITH_CUDA)
  if (param.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(param.get_device_index());
    check_launch(op, adam_cuda(args, tensors.data(), count, current_stream(param)));
    return;
  }
#endif
  adam_cpu(args, tensors.data(), count);
}

void find_inf_(std::vector<Tensor> grads, Tensor found_inf) {
  const char* op = "find_inf_";
  check_scalar(op, "found_inf", found_inf, ScalarType::Float, "float32", found_inf);
  const std::vector<AdamTensor> tensors = gradients(op, grads, found_inf);
  const int64_t count = static_cast<int64_t>(tensors.size());
  float* found = static_cast<float*>(found_inf.mutable_data_ptr());
#if defined(PYGAN_WITH_CUDA)
  if (found_inf.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(found_inf.get_device_index());
    check_launch(op, find_inf_cuda(tensors.data(), count, found, current_stream(found_inf)));
    return;
  }
#endif
  find_inf_cpu(tensors.data(), count, found);
}

void loss_scale_update_(Tensor scale, Tensor growth_tracker, Tensor found_inf, double growth, double backoff,
                        int64_t interval) {
  const char* op = "loss_scale_update_";
  check_scalar(op, "scale", scale, ScalarType::Float, "float32", scale);
  check_scalar(op, "growth_tracker", growth_tracker, ScalarType::Int, "int32", scale);
  check_scalar(op, "found_inf", found_inf, ScalarType::Float, "float32", scale);
  float* value = static_cast<float*>(scale.mutable_data_ptr());
  int32_t* tracker = static_cast<int32_t*>(growth_tracker.mutable_data_ptr());
  float* found = static_cast<float*>(found_inf.mutable_data_ptr());
  const float up = static_cast<float>(growth), down = static_cast<float>(backoff);
#if defined(PYGAN_WITH_CUDA)
  if (scale.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(scale.get_device_index());
    check_launch(op, loss_scale_update_cuda(value, tracker, found, up, down, interval, current_stream(scale)));
    return;
  }
#endif
  loss_scale_update(value, tracker, found, up, down, interval);
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) {
  m.def(
      "adam_(Tensor(a!) param, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, Tensor[] grads, int[] offsets, Tensor hyper, "
      "Tensor step, float eps, float weight_decay, bool decoupled, Tensor(d!)? low, Tensor(e!)? ema, float ema_weight, "
      "Tensor? scale, Tensor? found_inf) -> ()");
  m.def("find_inf_(Tensor[] grads, Tensor(a!) found_inf) -> ()");
  m.def(
      "loss_scale_update_(Tensor(a!) scale, Tensor(b!) growth_tracker, Tensor(c!) found_inf, float growth, "
      "float backoff, int interval) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) {
  m.impl("adam_", TORCH_BOX(&pygan::adam_));
  m.impl("find_inf_", TORCH_BOX(&pygan::find_inf_));
  m.impl("loss_scale_update_", TORCH_BOX(&pygan::loss_scale_update_));
}

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) {
  m.impl("adam_", TORCH_BOX(&pygan::adam_));
  m.impl("find_inf_", TORCH_BOX(&pygan::find_inf_));
  m.impl("loss_scale_update_", TORCH_BOX(&pygan::loss_scale_update_));
}
#endif

// What a GAN loss asks of its arguments on the torch side. For every operator that holds such a loss: gan_loss,
// loss_sum.
#pragma once
#include <optional>

#include "common/loss.h"
#include "ops/gan_loss/gan_loss.h"

namespace pygan {

// The launcher's arguments without the tensors that it writes, or an error that names the argument.
inline GanLossArgs check_gan_loss(const char* op, const Tensor& logits, int64_t mode, int64_t side, int64_t n_real,
                                  double weight, double margin, const std::optional<Tensor>& k, double unit) {
  const Dtype dtype = supported_dtype(op, "logits", logits);
  STD_TORCH_CHECK(logits.dim() >= 1 && logits.numel() > 0, op, ": logits must have shape (n, ...) with n > 0, got ",
                  shape_of(logits));
  check_flat(op, "logits", logits);
  STD_TORCH_CHECK(0 <= mode && mode <= static_cast<int64_t>(GanMode::kBegan), op, ": unknown mode ", mode);
  STD_TORCH_CHECK(side == 0 || side == 1, op, ": side must be 0 (D) or 1 (G), got ", side);
  STD_TORCH_CHECK(0 <= n_real && n_real <= (side == 0 ? logits.size(0) : 0), op,
                  ": n_real must lie between 0 and the batch size for D, and be 0 for G, got ", n_real);
  const bool needs_k = static_cast<GanMode>(mode) == GanMode::kBegan && side == 0;
  STD_TORCH_CHECK(k.has_value() == needs_k, op, ": k must be given for mode began of D, and only there");
  if (needs_k)
    STD_TORCH_CHECK(k->numel() == 1 && k->scalar_type() == ScalarType::Float && k->device() == logits.device(), op,
                    ": k must be one float32 value on the device of the logits");
  GanLossArgs args{};
  args.logits = logits.const_data_ptr();
  args.k = needs_k ? static_cast<const float*>(k->const_data_ptr()) : nullptr;
  args.count = logits.numel();
  args.count_real = n_real * (logits.numel() / logits.size(0));
  args.terms = gan_terms(static_cast<GanMode>(mode), static_cast<GanSide>(side), margin);
  args.weight = weight;
  args.unit = unit;
  args.dtype = dtype;
  return args;
}

}  // namespace pygan

// Schema, argument checks and dispatch of philox_words. Fake kernel and reference: pygan/ops/philox.py.
#include "ops/philox_words/philox_words.h"

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "common/stream.h"

namespace pygan {
namespace {

Tensor philox_words(Tensor rng, int64_t stream, int64_t count) {
  const char* op = "philox_words";
  STD_TORCH_CHECK(rng.dim() == 1 && rng.size(0) == 2 && rng.stride(0) == 1 && rng.scalar_type() == ScalarType::Long, op,
                  ": rng must be contiguous int64 of shape [2], {seed, offset}, got shape ", shape_of(rng));
  STD_TORCH_CHECK(count >= 0, op, ": count must be at least 0, got ", count);
  Tensor out = torch::stable::new_empty(rng, {count});
  PhiloxWordsArgs args{};
  args.rng = static_cast<const int64_t*>(rng.const_data_ptr());
  args.out = static_cast<int64_t*>(out.mutable_data_ptr());
  args.count = count;
  args.stream = static_cast<uint32_t>(stream);
#if defined(PYGAN_WITH_CUDA)
  if (rng.is_cuda()) {
    const torch::stable::accelerator::DeviceGuard guard(rng.get_device_index());
    check_launch(op, philox_words_cuda(args, current_stream(rng)));
    return out;
  }
#endif
  philox_words_cpu(args);
  return out;
}

}  // namespace
}  // namespace pygan

STABLE_TORCH_LIBRARY_FRAGMENT(pygan, m) { m.def("philox_words(Tensor rng, int stream, int count) -> Tensor"); }

STABLE_TORCH_LIBRARY_IMPL(pygan, CPU, m) { m.impl("philox_words", TORCH_BOX(&pygan::philox_words)); }

#if defined(PYGAN_WITH_CUDA)
STABLE_TORCH_LIBRARY_IMPL(pygan, CUDA, m) { m.impl("philox_words", TORCH_BOX(&pygan::philox_words)); }
#endif

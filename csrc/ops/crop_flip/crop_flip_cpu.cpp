// The readable twin of crop_flip_cuda.cu.
#include <torch/csrc/stable/ops.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <limits>

#include "ops/crop_flip/crop_flip.h"

namespace pygan {
namespace {

// What the 256 values of a byte become.
template <class T>
struct Table {
  T of[256];
  Table() {
    for (int byte = 0; byte < 256; ++byte) {
      // volatile: a compiler that fuses the product with the sum would skip the first of the two roundings
      const volatile float scaled = static_cast<float>(byte) * static_cast<float>(1.0 / 127.5);
      of[byte] = static_cast<T>(scaled - 1.0f);
    }
  }
};

template <class T>
void run(const CropFlipSet& set, int64_t crop) {
  static const Table<T> table;
  T* out = static_cast<T*>(set.out);
  const int64_t width = crop * set.c;  // values of a row
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, width));
  torch::stable::parallel_for(0, set.n * crop, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int32_t* draw = set.draws + row / crop * 4;
      const int64_t item = draw[0], top = draw[1], left = draw[2], flip = draw[3];
      T* to = out + row * width;
      const bool fits = 0 <= item && item < set.items && 0 <= top && top <= set.h - crop && 0 <= left &&
                        left <= set.w - crop && (flip == 0 || flip == 1);
      if (!fits) {
        std::fill_n(to, width, static_cast<T>(std::numeric_limits<float>::quiet_NaN()));
        continue;
      }
      const uint8_t* from = set.pixels + ((item * set.h + top + row % crop) * set.w + left) * set.c;
      if (flip == 0) {
        for (int64_t i = 0; i < width; ++i) to[i] = table.of[from[i]];
      } else {
        for (int64_t x = 0; x < crop; ++x)
          for (int64_t k = 0; k < set.c; ++k) to[x * set.c + k] = table.of[from[(crop - 1 - x) * set.c + k]];
      }
    }
  });
}

}  // namespace

void crop_flip_cpu(const CropFlipArgs& args) {
  for (int i = 0; i < args.sets; ++i) {
    if (args.dtype == Dtype::kFloat32) run<float>(args.set[i], args.crop);
    if (args.dtype == Dtype::kBFloat16) run<torch::headeronly::BFloat16>(args.set[i], args.crop);
    if (args.dtype == Dtype::kFloat16) run<torch::headeronly::Half>(args.set[i], args.crop);
  }
}

}  // namespace pygan

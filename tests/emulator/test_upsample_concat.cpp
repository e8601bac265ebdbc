// upsample_concat_cuda.cu on the host emulator: forward and backward, with and without a skip, packed tensors and
// channel slices, 16-byte and single accesses, all dtypes.
#include "ops/upsample_concat/upsample_concat_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <cstdio>
#include <limits>
#include <vector>

namespace {

// rows x w pixels, c channels that begin at channel `first` of a buffer of ld channels. Integers that every dtype holds
// exactly; the rest of the buffer, and an output before the launch, is `filler`.
template <class T>
struct Map {
  int64_t rows, w, c, ld;
  std::vector<T> buffer;
  T* data;
  Map(int64_t rows_, int64_t w_, int64_t c_, int64_t ld_, int64_t first, int seed, float filler)
      : rows(rows_), w(w_), c(c_), ld(ld_), buffer(rows * w * ld, T(filler)), data(buffer.data() + first) {
    if (seed == 0) return;
    for (int64_t p = 0; p < rows * w; ++p)
      for (int64_t i = 0; i < c; ++i) data[p * ld + i] = T(static_cast<float>((p * 31 + i * 7 + seed) % 29 - 14));
  }
  float at(int64_t row, int64_t column, int64_t channel) const {
    return pygan::to_float(data[(row * w + column) * ld + channel]);
  }
};

constexpr float kFiller = 99.0f;

// `wide` channels more in every buffer, `first` of them in front
template <class T>
void case_of(int64_t rows, int64_t w, int64_t c1, int64_t c2, int64_t wide, int64_t first) {
  const Map<T> x(rows, w, c1, c1 + wide, first, 1, kFiller);
  const Map<T> skip(2 * rows, 2 * w, c2, c2 > 0 ? c2 + wide : 0, c2 > 0 ? first : 0, 2, kFiller);
  Map<T> y(2 * rows, 2 * w, c1 + c2, c1 + c2 + wide, first, 0, kFiller);
  pygan::UpsampleConcatArgs args{};
  args.x = x.data;
  args.skip = c2 > 0 ? skip.data : nullptr;
  args.y = y.data;
  args.rows = rows;
  args.w = w;
  args.c1 = c1;
  args.c2 = c2;
  args.ld_x = x.ld;
  args.ld_skip = skip.ld;
  args.ld_y = y.ld;
  args.dtype = kDtype<T>;
  check("launch", pygan::upsample_concat_cuda(args, nullptr) == 0);
  bool good = true;
  for (int64_t i = 0; i < 2 * rows; ++i)
    for (int64_t j = 0; j < 2 * w; ++j)
      for (int64_t channel = 0; channel < c1 + c2; ++channel)
        good =
            good && y.at(i, j, channel) == (channel < c1 ? x.at(i / 2, j / 2, channel) : skip.at(i, j, channel - c1));
  check("forward", good);

  Map<T> dx(rows, w, c1, c1 + wide, first, 0, kFiller);
  pygan::UpsampleConcatBackwardArgs back{};
  back.g = y.data;
  back.dx = dx.data;
  back.rows = rows;
  back.w = w;
  back.c = c1;
  back.ld_g = y.ld;
  back.ld_dx = dx.ld;
  back.dtype = kDtype<T>;
  check("launch", pygan::upsample_concat_backward_cuda(back, nullptr) == 0);
  good = true;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < w; ++j)
      for (int64_t channel = 0; channel < c1; ++channel) good = good && dx.at(i, j, channel) == 4 * x.at(i, j, channel);
  check("backward", good);

  // nothing beside the slices was written
  int64_t filled = 0;
  for (const T v : y.buffer) filled += pygan::to_float(v) == kFiller;
  check("y stays in its slice", filled == 4 * rows * w * wide);
  filled = 0;
  for (const T v : dx.buffer) filled += pygan::to_float(v) == kFiller;
  check("dx stays in its slice", filled == rows * w * wide);
  std::printf("%d x %d, %d + %d channels, %d more from %d\n", int(rows), int(w), int(c1), int(c2), int(wide),
              int(first));
}

template <class T>
void dtype_of() {
  case_of<T>(3, 2, 16, 8, 0, 0);   // 16-byte accesses
  case_of<T>(2, 5, 8, 16, 16, 8);  // the same in slices
  case_of<T>(2, 5, 8, 16, 3, 1);   // a pitch that is no multiple of 16 bytes
  case_of<T>(4, 3, 3, 2, 0, 0);    // single values
  case_of<T>(3, 7, 8, 0, 0, 0);    // no skip
  case_of<T>(1, 1, 1, 1, 0, 0);
  case_of<T>(6, 9, 24, 40, 0, 0);  // several blocks
}

}  // namespace

int main() {
  dtype_of<float>();
  dtype_of<pygan::bfloat16>();
  dtype_of<pygan::half>();
  pygan::UpsampleConcatArgs args{};
  args.dtype = pygan::Dtype::kFloat64;
  check("float64 is refused", pygan::upsample_concat_cuda(args, nullptr) != 0);
  args.dtype = pygan::Dtype::kFloat32;
  args.rows = int64_t{1} << 20;
  args.w = 1 << 10;
  args.c1 = args.ld_x = args.ld_y = 3;
  check("too many items are refused", pygan::upsample_concat_cuda(args, nullptr) != 0);
  std::printf("failures: %d\n", failures);
  return failures;
}

// crop_flip_cuda.cu on the host emulator: bit for bit, all dtypes and both access widths, several sets of different
// sizes in one launch, windows at all four edges, and draws that do not fit.
#include "ops/crop_flip/crop_flip_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <vector>

namespace {

const float kNan = std::numeric_limits<float>::quiet_NaN();

// `count` values and not one more: the sanitizer sees the first one past them.
template <class T>
struct Memory {
  std::unique_ptr<T, void (*)(void*)> owner;
  T* data;
  Memory(int64_t count, int shift)
      : owner(static_cast<T*>(std::malloc((count + shift) * sizeof(T))), std::free), data(owner.get() + shift) {}
};

struct Shape {
  int64_t items, h, w, c, n;
};

// float(x * scale) - 1 with two roundings: the product of 8 and 24 bits is exact in double.
float normalised(uint8_t byte) {
  const float scaled = static_cast<float>(double(byte) * double(static_cast<float>(1.0 / 127.5)));
  return static_cast<float>(double(scaled) - 1.0);
}

template <class T>
void case_of(const std::vector<Shape>& shapes, int64_t crop, int shift, bool misfit) {
  std::vector<Memory<uint8_t>> pixels;
  std::vector<Memory<int32_t>> draws;
  std::vector<Memory<T>> out;
  pygan::CropFlipArgs args{};
  args.sets = static_cast<int>(shapes.size());
  args.crop = crop;
  args.dtype = kDtype<T>;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const Shape& s = shapes[i];
    const int64_t bytes = s.items * s.h * s.w * s.c, values = s.n * crop * crop * s.c;
    pixels.emplace_back(bytes, 0);
    draws.emplace_back(4 * s.n, 0);
    out.emplace_back(values, shift);
    for (int64_t b = 0; b < bytes; ++b) pixels[i].data[b] = static_cast<uint8_t>(b * 97 + b / 251 + 5 * i);
    for (int64_t v = 0; v < values; ++v) out[i].data[v] = T(123.0f);
    for (int64_t k = 0; k < s.n; ++k) {
      const int64_t spread[4] = {s.items, s.h - crop + 1, s.w - crop + 1, 2};
      for (int j = 0; j < 4; ++j) {
        const int64_t last = spread[j] - 1;
        // all the first, all the last (the corners of the set), then others
        draws[i].data[4 * k + j] = static_cast<int32_t>(k == 0 ? 0 : k == 1 ? last : (k * 7919 + j) % spread[j]);
      }
      if (misfit && k >= 2) {
        const int32_t bad[4] = {static_cast<int32_t>(s.items), static_cast<int32_t>(s.h - crop + 1), -1, 2};
        draws[i].data[4 * k + (k - 2) % 4] = bad[(k - 2) % 4];
      }
    }
    args.set[i] = {pixels[i].data, draws[i].data, out[i].data, s.items, s.h, s.w, s.c, s.n};
  }
  check("launch", pygan::crop_flip_cuda(args, nullptr) == 0);

  double sum = 0;
  bool good = true;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const Shape& s = shapes[i];
    for (int64_t k = 0; k < s.n; ++k) {
      const int32_t* draw = draws[i].data + 4 * k;
      for (int64_t y = 0; y < crop; ++y) {
        for (int64_t x = 0; x < crop; ++x) {
          for (int64_t channel = 0; channel < s.c; ++channel) {
            const float got = pygan::to_float(out[i].data[((k * crop + y) * crop + x) * s.c + channel]);
            if (misfit && k >= 2) {
              good = good && got != got;
              continue;
            }
            const int64_t column = draw[2] + (draw[3] ? crop - 1 - x : x);
            const uint8_t byte = pixels[i].data[((draw[0] * s.h + draw[1] + y) * s.w + column) * s.c + channel];
            good = good && got == pygan::to_float(T(normalised(byte)));
            sum += got;
          }
        }
      }
    }
  }
  check("values", good);
  std::printf("crop %d sets %d shift %d: %.9g\n", int(crop), args.sets, shift, sum);
}

template <class T>
void dtype() {
  const std::vector<Shape> one{{3, 13, 12, 3, 4}};
  const std::vector<Shape> four{{3, 9, 11, 3, 5}, {2, 8, 8, 1, 2}, {4, 10, 9, 4, 1}, {1, 8, 20, 2, 3}};
  case_of<T>(one, 8, 0, false);   // 16-byte stores
  case_of<T>(one, 8, 1, false);   // of the same values, not aligned
  case_of<T>(one, 11, 0, false);  // rows of 33 values
  case_of<T>(four, 8, 0, false);
  case_of<T>(four, 8, 0, true);
  case_of<T>({{2, 5, 5, 3, 8}}, 5, 0, true);
  case_of<T>({{2, 3, 3, 1, 3}}, 1, 0, false);
}

}  // namespace

int main() {
  dtype<float>();
  dtype<pygan::bfloat16>();
  dtype<pygan::half>();

  bool bits = true;
  for (int byte = 0; byte < 256; ++byte) {
    const Memory<uint8_t> pixel(1, 0);
    const Memory<int32_t> draw(4, 0);
    float out = kNan;
    *pixel.data = static_cast<uint8_t>(byte);
    for (int j = 0; j < 4; ++j) draw.data[j] = 0;
    pygan::CropFlipArgs args{};
    args.set[0] = {pixel.data, draw.data, &out, 1, 1, 1, 1, 1};
    args.sets = 1;
    args.crop = 1;
    bits = bits && pygan::crop_flip_cuda(args, nullptr) == 0 && out == normalised(static_cast<uint8_t>(byte));
  }
  check("every byte", bits);

  pygan::CropFlipArgs none{};
  none.set[0] = {nullptr, nullptr, nullptr, 1, 8, 8, 3, 0};
  none.sets = 1;
  none.crop = 8;
  check("no samples, no launch", pygan::crop_flip_cuda(none, nullptr) == 0);
  none.set[0].n = 1 << 24;
  check("too many values are refused", pygan::crop_flip_cuda(none, nullptr) != 0);
  none.dtype = pygan::Dtype::kFloat64;
  check("float64 is refused", pygan::crop_flip_cuda(none, nullptr) != 0);
  std::printf("failures: %d\n", failures);
  return failures;
}

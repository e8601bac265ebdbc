// thin_gather_cuda.cu on the host emulator against a double loop over thin_sources: all modes and instances, tiles of
// every kind (one, many, odd ends), folding borders, splits and passes over the thick channels, slices, both ways of
// loading weights; and the same bits however the work is cut.
#include "ops/thin_gather/thin_gather_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

namespace {

using pygan::ThinMode;
const float kNan = std::numeric_limits<float>::quiet_NaN();

// `count` values and not one more: the sanitizer sees the first value past them.
template <class T>
std::unique_ptr<T, void (*)(void*)> memory(int64_t count) {
  std::unique_ptr<T, void (*)(void*)> m(static_cast<T*>(std::malloc(count * sizeof(T))), std::free);
  if constexpr (!std::is_same_v<T, char>)
    for (int64_t i = 0; i < count; ++i) m.get()[i] = T(kNan);
  return m;
}

struct Case {
  ThinMode mode;
  int ct, ck, hk, wk;
  int odd = 0;                 // kStride2: thin rows and columns beyond twice the thick ones
  int slice = 0;               // channels beside the thick tensor's in memory
  bool thick_strided = false;  // the weights of neighbouring thick channels lie apart
  bool bias = true, tanh = false, wide = true;
  int n = 1;
};

// GPUs that work is cut for: one tile suits the first, many the others, of which the last has little memory.
const pygan::Device kDevices[] = {
#if !defined(__SANITIZE_THREAD__)  // slow, and not interested in numbers
    {1, 99 << 10},
    {30, 84 << 10},
#endif
    {30, 99 << 10}};

template <class T>
void run(const Case& c) {
  const int kernel = pygan::thin_kernel_size(c.mode);
  pygan::ThinGatherArgs a{};
  a.mode = c.mode;
  a.n = c.n;
  a.ct = c.ct;
  a.ck = c.ck;
  a.hk = c.hk;
  a.wk = c.wk;
  const int grow = c.mode == ThinMode::kZeroAdjoint ? -1 : 0;
  const int times = c.mode == ThinMode::kStride2 ? 2 : 1;
  a.ht = times * c.hk + grow + c.odd;
  a.wt = times * c.wk + grow + c.odd;
  a.t_c = 1;
  a.t_w = c.ct;
  a.t_h = int64_t{a.wt} * c.ct;
  a.t_n = a.ht * a.t_h;
  a.k_ld = c.ck + c.slice;
  if (c.thick_strided) {  // (ck, ct, K, K) in channels_last
    a.w_thin = 1;
    a.w_x = c.ct;
    a.w_y = kernel * a.w_x;
    a.w_thick = kernel * a.w_y;
  } else {  // (ct, ck, K, K) in channels_last
    a.w_thick = 1;
    a.w_x = c.ck;
    a.w_y = kernel * a.w_x;
    a.w_thin = kernel * a.w_y;
  }
  const int64_t pixels = int64_t{c.n} * c.hk * c.wk, outputs = int64_t{c.n} * a.ht * a.wt * c.ct;
  const int64_t weights = int64_t{c.ck} * c.ct * kernel * kernel;
  auto thick = memory<T>((pixels - 1) * a.k_ld + c.ck);
  auto weight = memory<T>(weights);
  auto bias = memory<float>(c.ct);
  uint32_t seed = 12345;
  const auto random = [&] {
    seed = seed * 1664525u + 1013904223u;
    return static_cast<float>(static_cast<int>(seed >> 16) % 255 - 127) / 128.0f;
  };
  for (int64_t p = 0; p < pixels; ++p)
    for (int o = 0; o < c.ck; ++o) thick.get()[p * a.k_ld + o] = T(random());
  for (int64_t i = 0; i < weights; ++i) weight.get()[i] = T(0.25f * random());
  for (int i = 0; i < c.ct; ++i) bias.get()[i] = random();

  // the definition: thick pixels spread over the thin ones; and the sum of the absolute products, for the tolerance
  std::vector<double> expected(outputs, 0.0), magnitude(outputs, 0.0);
  for (int n = 0; n < c.n; ++n)
    for (int y = 0; y < c.hk; ++y)
      for (int x = 0; x < c.wk; ++x)
        for (int tap_y = 0; tap_y < kernel; ++tap_y)
          for (int tap_x = 0; tap_x < kernel; ++tap_x) {
            int rows[3], columns[3];
            const int row_count = pygan::thin_sources(c.mode, y, tap_y, a.ht, c.hk, rows);
            const int column_count = pygan::thin_sources(c.mode, x, tap_x, a.wt, c.wk, columns);
            if (row_count * column_count == 0) continue;
            for (int channel = 0; channel < c.ct; ++channel) {
              double sum = 0, size = 0;
              const T* k = thick.get() + ((int64_t{n} * c.hk + y) * c.wk + x) * a.k_ld;
              const T* w = weight.get() + channel * a.w_thin + tap_y * a.w_y + tap_x * a.w_x;
              for (int o = 0; o < c.ck; ++o) {
                const double product = double(pygan::to_float(k[o])) * pygan::to_float(w[o * a.w_thick]);
                sum += product;
                size += std::abs(product);
              }
              for (int i = 0; i < row_count; ++i)
                for (int j = 0; j < column_count; ++j) {
                  const int64_t at = n * a.t_n + rows[i] * a.t_h + columns[j] * a.t_w + channel;
                  expected[at] += sum;
                  magnitude[at] += size;
                }
            }
          }
  for (int64_t i = 0; i < outputs; ++i) {
    if (c.bias) expected[i] += bias.get()[i % c.ct];
    if (c.tanh) expected[i] = std::tanh(expected[i]);
  }

  a.k = thick.get();
  a.weight = weight.get();
  a.bias = c.bias ? bias.get() : nullptr;
  a.dtype = kDtype<T>;
  a.bias_dtype = pygan::Dtype::kFloat32;
  a.t_dtype = c.wide ? pygan::Dtype::kFloat32 : kDtype<T>;
  a.act = c.tanh ? pygan::ThinAct::kTanh : pygan::ThinAct::kNone;
  const double rounding = c.wide ? 0 : std::is_same_v<T, pygan::half> ? 1.0 / 2048 : 1.0 / 256;
  const size_t value_bytes = c.wide ? sizeof(float) : sizeof(T);
  auto first = memory<char>(outputs * value_bytes);
  for (const pygan::Device& device : kDevices) {
    auto thin = memory<char>(outputs * value_bytes);
    std::memset(thin.get(), 0xff, outputs * value_bytes);  // NaN
    a.t = thin.get();
    check("launch", pygan::launch_on(a, device, nullptr) == 0);
    if (&device == kDevices) std::memcpy(first.get(), thin.get(), outputs * value_bytes);
    check("the same bits however the work is cut", std::memcmp(first.get(), thin.get(), outputs * value_bytes) == 0);
    int bad = 0;
    double sum = 0;
    for (int64_t i = 0; i < outputs; ++i) {
      const float value = c.wide ? reinterpret_cast<const float*>(thin.get())[i]
                                 : pygan::to_float(reinterpret_cast<const T*>(thin.get())[i]);
      const double error = std::abs(value - expected[i]);
      bad += !(error <= 2e-6 * (magnitude[i] + 1) + rounding * std::abs(expected[i]));
      sum += value;
    }
    if (bad > 0) std::printf("%d of %d outputs are wrong\n", bad, static_cast<int>(outputs));
    check("values", bad == 0);
    if (&device == kDevices)
      std::printf("mode %d ct %d ck %d %dx%d: sum %.7g\n", static_cast<int>(c.mode), c.ct, c.ck, c.hk, c.wk, sum);
  }
}

}  // namespace

int main() {
  using pygan::bfloat16;
  using pygan::half;
  constexpr ThinMode kStride2 = ThinMode::kStride2, kReflect = ThinMode::kReflect;
  constexpr ThinMode kZeroAdjoint = ThinMode::kZeroAdjoint, kReflectAdjoint = ThinMode::kReflectAdjoint;
  run<bfloat16>({.mode = kStride2, .ct = 3, .ck = 128, .hk = 33, .wk = 20, .tanh = true});
  run<bfloat16>({.mode = kStride2, .ct = 6, .ck = 64, .hk = 16, .wk = 16, .thick_strided = true, .bias = false});
  run<half>({.mode = kStride2, .ct = 1, .ck = 192, .hk = 9, .wk = 11, .odd = 1, .slice = 8, .n = 2});
  run<half>({.mode = kStride2, .ct = 8, .ck = 256, .hk = 3, .wk = 18, .wide = false});  // passes
  run<bfloat16>({.mode = kStride2, .ct = 3, .ck = 64, .hk = 1, .wk = 1, .odd = 1});
  run<bfloat16>({.mode = kReflect, .ct = 3, .ck = 64, .hk = 33, .wk = 20, .thick_strided = true, .bias = false});
  run<bfloat16>({.mode = kReflect, .ct = 1, .ck = 128, .hk = 9, .wk = 11, .bias = false, .n = 2});  // passes
  run<half>({.mode = kReflect, .ct = 6, .ck = 64, .hk = 16, .wk = 16, .wide = false});
  run<half>({.mode = kReflect, .ct = 2, .ck = 64, .hk = 4, .wk = 5, .slice = 64});
  run<bfloat16>({.mode = kZeroAdjoint, .ct = 1, .ck = 512, .hk = 9, .wk = 11, .slice = 8, .n = 2});
  run<bfloat16>({.mode = kZeroAdjoint, .ct = 3, .ck = 128, .hk = 33, .wk = 20, .wide = false});
  run<half>({.mode = kZeroAdjoint, .ct = 6, .ck = 192, .hk = 16, .wk = 16, .thick_strided = true});  // passes
  run<half>({.mode = kZeroAdjoint, .ct = 1, .ck = 64, .hk = 2, .wk = 2});
  run<bfloat16>({.mode = kReflectAdjoint, .ct = 3, .ck = 64, .hk = 33, .wk = 20, .tanh = true});
  run<bfloat16>({.mode = kReflectAdjoint, .ct = 1, .ck = 128, .hk = 16, .wk = 16, .thick_strided = true});  // passes
  run<half>({.mode = kReflectAdjoint, .ct = 6, .ck = 64, .hk = 9, .wk = 11, .bias = false, .wide = false, .n = 2});
  run<half>({.mode = kReflectAdjoint, .ct = 3, .ck = 64, .hk = 4, .wk = 5});

  pygan::ThinGatherArgs wide{};
  wide.dtype = pygan::Dtype::kFloat32;
  check("float32 thick channels are refused", pygan::thin_gather_cuda(wide, nullptr) != 0);
  std::printf("failures: %d\n", failures);
  return failures;
}

// adam_cuda.cu on the host emulator: against double precision at the edges of quads, rounds, blocks and launches, all
// dtypes, gradients that are not aligned, gaps that nobody may touch; found_inf and the loss scale.
#include "ops/adam/adam_cuda.cu"
// the kernels first: they bring the types
#include "checks.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

namespace {

using pygan::AdamArgs;
using pygan::AdamTensor;
using pygan::Dtype;

const float kNan = std::numeric_limits<float>::quiet_NaN(), kInf = std::numeric_limits<float>::infinity();

// `count` values behind `shift` others, and not one more: the sanitizer sees the first value past them.
template <class T>
struct Memory {
  std::shared_ptr<void> owner;
  T* data;
  int64_t count;
  explicit Memory(int64_t count_, int shift = 0)
      : owner(std::malloc((count_ + shift) * sizeof(T)), std::free),
        data(static_cast<T*>(owner.get()) + shift),
        count(count_) {}
  bool operator==(const Memory& other) const { return std::memcmp(data, other.data, count * sizeof(T)) == 0; }
};

// A number of [-1, 1) that has 10 bits: every dtype holds it.
float number(int64_t i, int salt) { return static_cast<float>((i * 7919 + salt * 104729) % 1024 - 512) / 512.0f; }

// A gradient in any dtype.
struct Grad {
  Memory<float> f32;
  Memory<pygan::bfloat16> bf16;
  Memory<pygan::half> f16;
  Dtype dtype;
  Grad(int64_t count, int shift, Dtype dtype_)
      : f32(dtype_ == Dtype::kFloat32 ? count : 0, shift),
        bf16(dtype_ == Dtype::kBFloat16 ? count : 0, shift),
        f16(dtype_ == Dtype::kFloat16 ? count : 0, shift),
        dtype(dtype_) {
    for (int64_t i = 0; i < count; ++i) set(i, number(i, 3));
  }
  void set(int64_t i, float v) {
    if (dtype == Dtype::kFloat32) f32.data[i] = v;
    if (dtype == Dtype::kBFloat16) bf16.data[i] = pygan::bfloat16(v);
    if (dtype == Dtype::kFloat16) f16.data[i] = pygan::half(v);
  }
  float at(int64_t i) const {
    return dtype == Dtype::kFloat32    ? f32.data[i]
           : dtype == Dtype::kBFloat16 ? pygan::to_float(bf16.data[i])
                                       : pygan::to_float(f16.data[i]);
  }
  const void* data() const {
    return dtype == Dtype::kFloat32    ? static_cast<const void*>(f32.data)
           : dtype == Dtype::kBFloat16 ? static_cast<const void*>(bf16.data)
                                       : static_cast<const void*>(f16.data);
  }
};

struct Options {
  bool ema = true, decoupled = false;
  double weight_decay = 0.0;
  int low = 16;  // 0: none, 16: bfloat16, -16: float16
  float scale = 1.0f, found_inf = 0.0f;
  int shift = 0;  // of the gradients, values
  double hyper[3] = {0.01, 0.5, 0.999};
  int64_t step = 2;
};

// A net: flat tensors with gaps between the slices, and gradients.
struct Net {
  std::vector<Grad> grads;
  std::vector<AdamTensor> tensors;
  Memory<float> param, exp_avg, exp_avg_sq, ema;
  Memory<pygan::bfloat16> low;
  Memory<pygan::half> low_half;

  static int64_t size_of(const std::vector<int64_t>& counts) {
    int64_t size = 0;
    for (const int64_t count : counts) size += 8 + (count + 7) / 8 * 8;
    return size;
  }
  Net(const std::vector<int64_t>& counts, const std::vector<Dtype>& dtypes, int shift)
      : param(size_of(counts)),
        exp_avg(param.count),
        exp_avg_sq(param.count),
        ema(param.count),
        low(param.count),
        low_half(param.count) {
    for (int64_t i = 0; i < param.count; ++i) {
      param.data[i] = number(i, 11);
      exp_avg.data[i] = 0.1f * number(i, 5);
      exp_avg_sq.data[i] = 0.01f * number(i, 7) * number(i, 7);
      ema.data[i] = number(i, 13);
      low.data[i] = pygan::bfloat16(7.0f);
      low_half.data[i] = pygan::half(7.0f);
    }
    int64_t offset = 8;
    for (size_t i = 0; i < counts.size(); ++i) {
      grads.emplace_back(counts[i], shift, dtypes[i % dtypes.size()]);
      tensors.push_back({grads.back().data(), offset, counts[i], grads.back().dtype});
      offset += 8 + (counts[i] + 7) / 8 * 8;
    }
    // the last slice ends where the tensors end
    if (!tensors.empty()) {
      const AdamTensor& last = tensors.back();
      for (Memory<float>* flat : {&param, &exp_avg, &exp_avg_sq, &ema}) shorten(*flat, last.offset + last.count);
      shorten(low, last.offset + last.count);
      shorten(low_half, last.offset + last.count);
    }
  }
  template <class T>
  static void shorten(Memory<T>& memory, int64_t count) {
    Memory<T> shorter(count);
    std::memcpy(shorter.data, memory.data, count * sizeof(T));
    memory = shorter;
  }
  bool operator==(const Net& other) const {
    return param == other.param && exp_avg == other.exp_avg && exp_avg_sq == other.exp_avg_sq && ema == other.ema &&
           low == other.low && low_half == other.low_half;
  }
};

// One step of `tensors` of the net. rounds: 0 as launched by adam_cuda.
void step(Net& net, const Options& o, int rounds, const std::vector<AdamTensor>& tensors) {
  const float hyper32[3] = {float(o.hyper[0]), float(o.hyper[1]), float(o.hyper[2])};
  AdamArgs args{};
  args.param = net.param.data;
  args.exp_avg = net.exp_avg.data;
  args.exp_avg_sq = net.exp_avg_sq.data;
  args.ema = o.ema ? net.ema.data : nullptr;
  args.low = o.low == 0    ? nullptr
             : o.low == 16 ? static_cast<void*>(net.low.data)
                           : static_cast<void*>(net.low_half.data);
  args.low_dtype = o.low == 16 ? Dtype::kBFloat16 : Dtype::kFloat16;
  args.hyper = rounds % 2 ? static_cast<const void*>(hyper32) : static_cast<const void*>(o.hyper);
  args.hyper_dtype = rounds % 2 ? Dtype::kFloat32 : Dtype::kFloat64;
  args.step = &o.step;
  args.scale = o.scale == 1.0f ? nullptr : &o.scale;
  args.found_inf = &o.found_inf;
  args.eps = 1e-8;
  args.weight_decay = o.weight_decay;
  args.ema_weight = 0.25;
  args.decoupled = o.decoupled;
  args.dtype = Dtype::kFloat32;
  const int64_t count = static_cast<int64_t>(tensors.size());
  check("launch", (rounds == 0 ? pygan::adam_cuda(args, tensors.data(), count, nullptr)
                               : pygan::launch_adam(args, tensors.data(), count, rounds, nullptr)) == 0);
}

void near(const char* what, float actual, double expected, double size) {
  if (!(std::abs(actual - expected) <= 3e-7 * size)) check(what, false);
}

// The formula of adam.h, element by element.
void compare(const Net& before, const Net& after, const Options& o) {
  const double lr = o.hyper[0], beta1 = o.hyper[1], beta2 = o.hyper[2], t = static_cast<double>(o.step + 1);
  std::vector<bool> touched(before.param.count, false);
  for (size_t k = 0; k < before.tensors.size(); ++k) {
    const AdamTensor& tensor = before.tensors[k];
    for (int64_t i = 0; i < tensor.count; ++i) {
      const int64_t at = tensor.offset + i;
      touched[at] = true;
      double p = before.param.data[at], g = before.grads[k].at(i) / double(o.scale);
      if (o.decoupled)
        p -= lr * o.weight_decay * p;
      else
        g += o.weight_decay * p;
      const double m = beta1 * before.exp_avg.data[at] + (1 - beta1) * g;
      const double v = beta2 * before.exp_avg_sq.data[at] + (1 - beta2) * g * g;
      // hyper may have been rounded to float32
      near("exp_avg", after.exp_avg.data[at], m, 1);
      near("exp_avg_sq", after.exp_avg_sq.data[at], v, 0.1);
      p -= lr / (1 - std::pow(beta1, t)) * m / (std::sqrt(v) / std::sqrt(1 - std::pow(beta2, t)) + 1e-8);
      near("param", after.param.data[at], p, 1);
      const double ema = 0.75 * before.ema.data[at] + 0.25 * p;
      near("ema", after.ema.data[at], o.ema ? ema : before.ema.data[at], 1);
      const float rounded = after.param.data[at];
      check("low",
            pygan::to_float(after.low.data[at]) == (o.low == 16 ? pygan::to_float(pygan::bfloat16(rounded)) : 7.0f));
      check("low half",
            pygan::to_float(after.low_half.data[at]) == (o.low == -16 ? pygan::to_float(pygan::half(rounded)) : 7.0f));
    }
  }
  bool same = true;
  for (int64_t i = 0; i < before.param.count; ++i) {
    if (touched[i]) continue;
    same = same && after.param.data[i] == before.param.data[i] && after.exp_avg.data[i] == before.exp_avg.data[i] &&
           after.exp_avg_sq.data[i] == before.exp_avg_sq.data[i] && after.ema.data[i] == before.ema.data[i] &&
           pygan::to_float(after.low.data[i]) == 7.0f && pygan::to_float(after.low_half.data[i]) == 7.0f;
  }
  check("what lies between the slices is not touched", same);
}

const std::vector<Dtype> kMixed = {Dtype::kFloat32, Dtype::kBFloat16, Dtype::kFloat16};

Net case_of(const char* name, const std::vector<int64_t>& counts, const Options& o, int rounds,
            const std::vector<Dtype>& dtypes = kMixed) {
  const Net before(counts, dtypes, o.shift);
  Net after(counts, dtypes, o.shift);
  step(after, o, rounds, after.tensors);
  if (o.found_inf == 0.0f)
    compare(before, after, o);
  else
    check("nothing changes where infinities were found", after == before);
  double sum = 0;
  for (int64_t i = 0; i < after.param.count; ++i) sum += after.param.data[i];
  std::printf("%s: %.9g\n", name, sum);
  return after;
}

void adam() {
  // around a quad, a round of a block (1024), and blocks of several rounds; an empty one
  const std::vector<int64_t> counts = {1, 3, 4, 5, 0, 1023, 1024, 1025, 2049, 4099, 16};
  Options o;
  const Net whole = case_of("one round", counts, o, 1);
  check("the same bits in blocks of more rounds", case_of("three rounds", counts, o, 3) == whole);
  check("the same bits as launched", [&] {
    const Net two = case_of("two rounds", counts, o, 2);  // hyper in double, unlike odd numbers of rounds
    return case_of("as launched", counts, o, 0) == two;
  }());
  for (int shift : {1, 2, 4, 7}) {
    o.shift = shift;
    check("the same bits of gradients that are not aligned", case_of("unaligned", counts, o, 1) == whole);
  }
  o.shift = 0;

  Net pieces(counts, kMixed, 0);
  for (size_t i = counts.size(); i-- > 0;) step(pieces, o, 1, {pieces.tensors[i]});
  check("the same bits in buckets", pieces == whole);

  // several launches
  std::vector<int64_t> many;
  for (int i = 0; i < 2 * pygan::kMaxAdamTensors + 5; ++i) many.push_back(1 + i * 37 % 50);
  case_of("many", many, o, 0);

  o.low = -16;
  o.ema = false;
  o.weight_decay = 0.1;
  case_of("L2", {1030, 9}, o, 0);
  o.low = 0;
  o.decoupled = true;
  o.scale = 8.0f;
  case_of("decoupled, scaled", {1030, 9}, o, 0);
  o.low = 16;
  o.ema = true;
  o.step = 0;
  o.hyper[1] = 0.0;
  o.hyper[2] = 0.25;
  case_of("first step, other betas", {1030, 9}, o, 0);
  o.found_inf = 1.0f;
  case_of("found_inf", {1030, 9}, o, 0);
  o.found_inf = kNan;
  case_of("found_inf is NaN", {1030, 9}, o, 0);
  case_of("nothing", {}, o, 0);

  for (const float bad : {kNan, kInf}) {
    Net net({1030}, {Dtype::kBFloat16}, 0);
    for (const int64_t i : {int64_t{5}, int64_t{1029}}) net.grads[0].set(i, bad);
    step(net, Options{}, 1, net.tensors);
    int shown = 0;
    for (int64_t i = 0; i < net.param.count; ++i) shown += !std::isfinite(net.param.data[i]);
    check("a bad gradient shows, where it is", shown == 2 && !std::isfinite(net.param.data[8 + 1029]));
  }

  AdamArgs refused{};
  refused.dtype = Dtype::kFloat64;
  check("float64 is refused", pygan::adam_cuda(refused, nullptr, 0, nullptr) != 0);
  refused.dtype = Dtype::kFloat32;
  const AdamTensor wide{nullptr, 0, 1, Dtype::kFloat64};
  check("float64 gradients are refused", pygan::adam_cuda(refused, &wide, 1, nullptr) != 0);
}

void find_inf() {
  const int64_t chunk = pygan::kInfChunk;
  for (const Dtype dtype : kMixed) {
    for (const int shift : {0, 1}) {
      Net net({3, 9, 2 * chunk + 13}, {dtype}, shift);
      const auto found = [&] {
        float value = 0;
        check("launch", pygan::find_inf_cuda(net.tensors.data(), 3, &value, nullptr) == 0);
        return value;
      };
      net.grads[2].set(7, dtype == Dtype::kFloat16 ? 65504.0f : dtype == Dtype::kFloat32 ? 3.4e38f : 3.38e38f);
      check("finite", found() == 0.0f);
      for (const auto& [k, i] : std::vector<std::pair<int, int64_t>>{
               {0, 0}, {0, 2}, {1, 8}, {2, 0}, {2, chunk - 1}, {2, chunk}, {2, 2 * chunk + 7}, {2, 2 * chunk + 12}}) {
        const float old = net.grads[k].at(i);
        for (const float bad : {kNan, kInf, -kInf}) {
          if (k == 2 && bad != kInf) continue;
          net.grads[k].set(i, bad);
          check("found", found() == 1.0f);
        }
        net.grads[k].set(i, old);
      }
    }
  }
  // several launches: the last gradient is in the last one; many blocks find something at once
  const std::vector<int64_t> counts(2 * pygan::kMaxAdamTensors + 1, 3);
  Net net(counts, kMixed, 0);
  const int64_t count = static_cast<int64_t>(net.tensors.size());
  float value = 0;
  check("launch", pygan::find_inf_cuda(net.tensors.data(), count, &value, nullptr) == 0);
  check("finite", value == 0.0f);
  net.grads.back().set(2, kNan);
  check("launch", pygan::find_inf_cuda(net.tensors.data(), count, &value, nullptr) == 0);
  check("found in the last", value == 1.0f);
  for (Grad& grad : net.grads) grad.set(0, kInf);
  check("launch", pygan::find_inf_cuda(net.tensors.data(), count, &value, nullptr) == 0);
  check("found in all", value == 1.0f);
  const Net finite({5}, kMixed, 0);
  check("launch", pygan::find_inf_cuda(finite.tensors.data(), 1, &value, nullptr) == 0);
  check("never cleared", value == 1.0f);
}

void loss_scale() {
  float scale = 1024.0f, found = 0.0f;
  int32_t tracker = 0;
  const auto update = [&](float found_inf) {
    found = found_inf;
    check("launch", pygan::loss_scale_update_cuda(&scale, &tracker, &found, 2.0f, 0.5f, 3, nullptr) == 0);
    check("found_inf is 0 again", found == 0.0f);
  };
  const float founds[] = {0, 0, 0, 0, 1, 0, 0, kNan, 0, 0, 0};
  const float scales[] = {1024, 1024, 2048, 2048, 1024, 1024, 1024, 512, 512, 512, 1024};
  const int32_t trackers[] = {1, 2, 0, 1, 0, 1, 2, 0, 1, 2, 0};
  for (int i = 0; i < 11; ++i) {
    update(founds[i]);
    check("scale", scale == scales[i]);
    check("tracker", tracker == trackers[i]);
  }
  scale = 3e38f;
  for (int i = 0; i < 3; ++i) update(0.0f);
  check("a scale never becomes infinite", scale == 3e38f && tracker == 0);
}

}  // namespace

int main() {
  adam();
  find_inf();
  loss_scale();
  std::printf("failures: %d\n", failures);
  return failures;
}

// Element types that a torch-free launcher is told about by number.
#pragma once

namespace pygan {

enum class Dtype : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kFloat64 = 3 };

}  // namespace pygan

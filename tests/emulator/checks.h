// What every emulator test program needs: failures counted by name, and the Dtype of a C++ type.
#pragma once
#include <cstdio>

#include "common/dtype.h"

namespace {

int failures = 0;
void check(const char* what, bool good) {
  if (!good) std::printf("%s FAIL\n", what);
  failures += !good;
}

template <class T>
constexpr pygan::Dtype kDtype = pygan::Dtype::kFloat32;
template <>
constexpr pygan::Dtype kDtype<pygan::bfloat16> = pygan::Dtype::kBFloat16;
template <>
constexpr pygan::Dtype kDtype<pygan::half> = pygan::Dtype::kFloat16;

}  // namespace

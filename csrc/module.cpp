// pygan._C: what is not an operator. The operators live in _ops.so, which torch loads; this module only tells facts of
// the build, so that `pygan doctor` can say what was compiled in without a GPU and without torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <string>

#include "build_info.h"

namespace {

std::map<std::string, std::string> build_info() {
  return {
      {"version", PYGAN_VERSION},        // of the package
      {"torch", PYGAN_TORCH_VERSION},    // whose headers it was compiled against
      {"nvcc", PYGAN_NVCC_VERSION},      // "" if the CUDA kernels were not compiled
      {"cuda_archs", PYGAN_CUDA_ARCHS},  // "80-real;...", "" likewise
      {"compiler", PYGAN_CXX_COMPILER},  // host compiler and version
      {"ops", PYGAN_OPS},                // op families compiled in, ";"-joined
  };
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Facts of pygan's native build.";
  m.def("build_info", &build_info, "dict of str: version, torch, nvcc, cuda_archs, compiler, ops.");
}

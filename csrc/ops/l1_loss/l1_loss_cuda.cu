#include "common/reduce.h"
#include "ops/l1_loss/l1_loss.h"
#include "ops/l1_loss/l1_loss_terms.h"

namespace pygan {
namespace {

template <class A, class B>
PYGAN_GLOBAL void __launch_bounds__(kReduceThreads)
    l1_loss_kernel(const A* a, const B* b, A* grad, float* loss, int64_t count, int64_t vectors, float slope,
                   double weight_per_item, double* partials, unsigned ticket) {
  double sum[1] = {0.0};
  add_l1_loss<A, B>(a, b, grad, count, vectors, slope, blockIdx.x, gridDim.x, sum[0]);
  // the last block writes the mean
  if (grid_sum(sum, partials, tickets + ticket) && threadIdx.x == 0)
    *loss = static_cast<float>(weight_per_item * sum[0]);
}

template <class A, class B>
int launch(const L1LossArgs& args, cudaStream_t stream) {
  constexpr int64_t V = 16 / sizeof(A);
  const double weight_per_item = args.weight / static_cast<double>(args.count);
  const int64_t vectors = vectorised(args) ? args.count / V : 0;
  const unsigned blocks = reduce_blocks(vectorised(args) ? (args.count + V - 1) / V : args.count, 1);
  PYGAN_LAUNCH((l1_loss_kernel<A, B>), dim3(blocks), dim3(kReduceThreads), 0, stream, static_cast<const A*>(args.a),
               static_cast<const B*>(args.b), static_cast<A*>(args.grad), static_cast<float*>(args.loss), args.count,
               vectors, static_cast<float>(weight_per_item / args.unit), weight_per_item, args.partials,
               next_tickets(stream, 1));
  return static_cast<int>(cudaGetLastError());
}

}  // namespace

int64_t l1_loss_partials(int64_t count) { return reduce_blocks(count, 1); }

int l1_loss_cuda(const L1LossArgs& args, cudaStream_t stream) {
  const bool same = args.dtype_b == args.dtype_a;
  if (!same && args.dtype_b != Dtype::kFloat32) return static_cast<int>(cudaErrorInvalidValue);
  switch (args.dtype_a) {
    case Dtype::kFloat32:
      return launch<float, float>(args, stream);
    case Dtype::kBFloat16:
      return same ? launch<bfloat16, bfloat16>(args, stream) : launch<bfloat16, float>(args, stream);
    case Dtype::kFloat16:
      return same ? launch<half, half>(args, stream) : launch<half, float>(args, stream);
    default:
      return static_cast<int>(cudaErrorInvalidValue);
  }
}

int l1_loss_backward_cuda(void* grad, const float* seed, double unit, int64_t count, Dtype dtype, cudaStream_t stream) {
  const float u = static_cast<float>(unit);
  switch (dtype) {
    case Dtype::kFloat32:
      return launch_scale_grad(static_cast<float*>(grad), seed, u, count, stream);
    case Dtype::kBFloat16:
      return launch_scale_grad(static_cast<bfloat16*>(grad), seed, u, count, stream);
    case Dtype::kFloat16:
      return launch_scale_grad(static_cast<half*>(grad), seed, u, count, stream);
    default:
      return static_cast<int>(cudaErrorInvalidValue);
  }
}

}  // namespace pygan

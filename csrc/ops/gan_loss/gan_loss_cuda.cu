#include "common/reduce.h"
#include "ops/gan_loss/gan_loss.h"
#include "ops/gan_loss/gan_loss_terms.h"

namespace pygan {
namespace {

template <class T, int V>
PYGAN_GLOBAL void __launch_bounds__(kReduceThreads)
    gan_loss_kernel(const T* logits, T* grad, float* loss, float* stats, const float* k, int64_t count,
                    int64_t count_real, GanHalves halves, double* partials, unsigned ticket) {
  multiply_fake(halves, k);
  double sum[4] = {0.0, 0.0, 0.0, 0.0};
  add_gan_loss<T, V>(logits, grad, count, count_real, halves, blockIdx.x, gridDim.x, sum);
  // the last block writes the means
  if (grid_sum(sum, partials, tickets + ticket) && threadIdx.x == 0) finish_gan_loss(halves, sum, loss, stats);
}

template <class T, int V>
int launch(const GanLossArgs& args, cudaStream_t stream) {
  const unsigned blocks = reduce_blocks((args.count + V - 1) / V, 1);
  PYGAN_LAUNCH((gan_loss_kernel<T, V>), dim3(blocks), dim3(kReduceThreads), 0, stream,
               static_cast<const T*>(args.logits), static_cast<T*>(args.grad), static_cast<float*>(args.loss),
               static_cast<float*>(args.stats), args.k, args.count, args.count_real, halves_of(args), args.partials,
               next_tickets(stream, 1));
  return static_cast<int>(cudaGetLastError());
}

template <class T>
int launch_aligned(const GanLossArgs& args, cudaStream_t stream) {
  return vectorised(args) ? launch<T, 16 / sizeof(T)>(args, stream) : launch<T, 1>(args, stream);
}

}  // namespace

int64_t gan_loss_partials(int64_t count) { return 4 * static_cast<int64_t>(reduce_blocks(count, 1)); }

int gan_loss_cuda(const GanLossArgs& args, cudaStream_t stream) {
  switch (args.dtype) {
    case Dtype::kFloat32:
      return launch_aligned<float>(args, stream);
    case Dtype::kBFloat16:
      return launch_aligned<bfloat16>(args, stream);
    case Dtype::kFloat16:
      return launch_aligned<half>(args, stream);
    default:
      return static_cast<int>(cudaErrorInvalidValue);
  }
}

int gan_loss_backward_cuda(void* grad, const float* seed, double unit, int64_t count, Dtype dtype,
                           cudaStream_t stream) {
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

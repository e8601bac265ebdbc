#include "common/reduce.h"
#include "ops/gan_loss/gan_loss_terms.h"
#include "ops/l1_loss/l1_loss_terms.h"
#include "ops/loss_sum/loss_sum.h"

namespace pygan {
namespace {

constexpr int kResident = 4;  // blocks of a multiprocessor that enough loads are on their way for copy bandwidth

// What the blocks of a term do: the instances of add_gan_loss and add_l1_loss.
enum class Body : int {
  kGan,        // logits by 16 bytes
  kGanSingle,  // logits one by one
  kL1,         // a and b of the same dtype
  kL1Float     // b is float32
};

// A LossTerm as the kernel uses it.
struct Term {
  Body body;
  Dtype dtype;  // of logits or a
  const void* a;
  const void* b;
  void* grad;
  float* loss;
  float* stats;  // null for L1
  const float* k;
  int64_t count, count_real, vectors;
  GanHalves halves;
  float slope;  // of L1, and
  double weight_per_item;
  unsigned first_block, blocks;  // of the grid
};

struct Terms {
  Term of[kMaxLossTerms];
  int count;
};

// The share of one block of a term, which has as many blocks as its own operator would launch.
template <class T>
__device__ __forceinline__ void add_term(const Term& term, unsigned block, double (&sum)[4]) {
  const T* a = static_cast<const T*>(term.a);
  T* grad = static_cast<T*>(term.grad);
  if (term.body == Body::kL1) {
    add_l1_loss<T, T>(a, static_cast<const T*>(term.b), grad, term.count, term.vectors, term.slope, block, term.blocks,
                      sum[0]);
  } else if (term.body == Body::kL1Float) {
    if constexpr (sizeof(T) == 2)
      add_l1_loss<T, float>(a, static_cast<const float*>(term.b), grad, term.count, term.vectors, term.slope, block,
                            term.blocks, sum[0]);
  } else {
    GanHalves halves = term.halves;
    multiply_fake(halves, term.k);
    if (term.body == Body::kGan)
      add_gan_loss<T, 16 / sizeof(T)>(a, grad, term.count, term.count_real, halves, block, term.blocks, sum);
    else
      add_gan_loss<T, 1>(a, grad, term.count, term.count_real, halves, block, term.blocks, sum);
  }
}

// Every block works for one term. The block that arrives last adds up what the others have left, term after term in the
// order of its operator, so that the grid needs one ticket. partials: 4 doubles for each block, term after term.
PYGAN_GLOBAL void __launch_bounds__(kReduceThreads, kResident)
    loss_sum_kernel(const Terms terms, float* total, double* partials, unsigned ticket) {
  PYGAN_SHARED(last, bool);
  int own = 0;
  while (own + 1 < terms.count && blockIdx.x >= terms.of[own + 1].first_block) ++own;
  const Term& mine = terms.of[own];
  const unsigned block = blockIdx.x - mine.first_block;
  double sum[4] = {0.0, 0.0, 0.0, 0.0};
  if (mine.dtype == Dtype::kFloat32) add_term<float>(mine, block, sum);
  if (mine.dtype == Dtype::kBFloat16) add_term<bfloat16>(mine, block, sum);
  if (mine.dtype == Dtype::kFloat16) add_term<half>(mine, block, sum);
  block_sum(sum);
  if (threadIdx.x == 0) {
    double* to = partials + 4 * static_cast<int64_t>(mine.first_block) + block;
#pragma unroll
    for (int i = 0; i < 4; ++i) to[i * mine.blocks] = sum[i];
    __threadfence();  // the partial sums are visible before the ticket says that they are there
    last = atomicAdd(tickets + ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  float losses = 0.0f;
  for (int t = 0; t < terms.count; ++t) {
    const Term& term = terms.of[t];
    const double* from = partials + 4 * static_cast<int64_t>(term.first_block);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sum[i] = 0.0;
      for (unsigned b = threadIdx.x; b < term.blocks; b += kReduceThreads) sum[i] += __ldcg(from + i * term.blocks + b);
    }
    __syncthreads();  // thread 0 has read the shared sums of the term before
    block_sum(sum);
    if (threadIdx.x != 0) continue;
    float loss;
    if (term.body == Body::kL1 || term.body == Body::kL1Float) {
      *term.loss = loss = static_cast<float>(term.weight_per_item * sum[0]);
    } else {
      GanHalves halves = term.halves;
      multiply_fake(halves, term.k);
      loss = finish_gan_loss(halves, sum, term.loss, term.stats);
    }
    losses = t == 0 ? loss : losses + loss;
  }
  if (threadIdx.x == 0) {
    *total = losses;
    tickets[ticket] = 0;
  }
}

// Values in 16 bytes of a dtype, or 0 for one that no kernel takes.
int64_t width_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32:
      return 4;
    case Dtype::kBFloat16:
    case Dtype::kFloat16:
      return 8;
    default:
      return 0;
  }
}

// False for dtypes that are not supported.
bool describe(const GanLossArgs& args, Term& term) {
  const int64_t width = width_of(args.dtype);
  if (width == 0) return false;
  term.body = vectorised(args) ? Body::kGan : Body::kGanSingle;
  term.dtype = args.dtype;
  term.a = args.logits;
  term.grad = args.grad;
  term.loss = static_cast<float*>(args.loss);
  term.stats = static_cast<float*>(args.stats);
  term.k = args.k;
  term.count = args.count;
  term.count_real = args.count_real;
  term.halves = halves_of(args);
  term.blocks = reduce_blocks(vectorised(args) ? (args.count + width - 1) / width : args.count, 1);
  return true;
}

bool describe(const L1LossArgs& args, Term& term) {
  const int64_t width = width_of(args.dtype_a);
  const bool same = args.dtype_b == args.dtype_a;
  if (width == 0 || (!same && args.dtype_b != Dtype::kFloat32)) return false;
  term.body = same ? Body::kL1 : Body::kL1Float;
  term.dtype = args.dtype_a;
  term.a = args.a;
  term.b = args.b;
  term.grad = args.grad;
  term.loss = static_cast<float*>(args.loss);
  term.count = args.count;
  term.vectors = vectorised(args) ? args.count / width : 0;
  term.weight_per_item = args.weight / static_cast<double>(args.count);
  term.slope = static_cast<float>(term.weight_per_item / args.unit);
  term.blocks = reduce_blocks(vectorised(args) ? (args.count + width - 1) / width : args.count, 1);
  return true;
}

}  // namespace

int64_t loss_sum_partials(const LossSumArgs& args) {
  int64_t blocks = 0;
  for (int i = 0; i < args.terms; ++i)
    blocks += reduce_blocks(args.term[i].is_l1 ? args.term[i].l1.count : args.term[i].gan.count, 1);
  return 4 * blocks;
}

int loss_sum_cuda(const LossSumArgs& args, cudaStream_t stream) {
  Terms terms{};
  terms.count = args.terms;
  unsigned blocks = 0;
  for (int i = 0; i < args.terms; ++i) {
    Term& term = terms.of[i];
    const bool supported = args.term[i].is_l1 ? describe(args.term[i].l1, term) : describe(args.term[i].gan, term);
    if (!supported) return static_cast<int>(cudaErrorInvalidValue);
    term.first_block = blocks;
    blocks += term.blocks;
  }
  PYGAN_LAUNCH((loss_sum_kernel), dim3(blocks), dim3(kReduceThreads), 0, stream, terms, static_cast<float*>(args.total),
               args.partials, next_tickets(stream, 1));
  return static_cast<int>(cudaGetLastError());
}

}  // namespace pygan

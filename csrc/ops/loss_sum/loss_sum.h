// loss_sum: several weighted losses, their sum, and all their gradients in one launch.
//
//   term    a GAN loss (gan_loss.h) or an L1 loss (l1_loss.h): formula, shapes, dtypes and layouts of each are in its
//           own header, and its loss, stats and gradient have the bits that its own operator gives
//   total   (loss of term 0 + loss of term 1) + ..., in that order, each already rounded to the dtype of the losses
//
// The dtypes of terms may differ, but float64 (CPU) goes with float64 alone.
// Sums are taken in an order that the shapes fix, without atomics: every run gives the same bits.
// Bound: reads logits, a and b once, writes the gradients once; the target is copy bandwidth. A step's losses are so
// small that the launch itself is the time, and there is one of it.
#pragma once
#include "ops/gan_loss/gan_loss.h"
#include "ops/l1_loss/l1_loss.h"

namespace pygan {

constexpr int kMaxLossTerms = 8;

// One of the two is used. The workspaces (`partials`) of both are left alone.
struct LossTerm {
  bool is_l1;
  GanLossArgs gan;
  L1LossArgs l1;
};

struct LossSumArgs {
  LossTerm term[kMaxLossTerms];
  int terms;
  void* total;       // 1 value: float64 where the terms are, else float32
  Dtype dtype;       // of total: kFloat64 or kFloat32
  double* partials;  // CUDA only: loss_sum_partials() doubles of workspace, any content
};

void loss_sum_cpu(const LossSumArgs& args);

// The launcher returns a cudaError_t; float64 is not supported.
int64_t loss_sum_partials(const LossSumArgs& args);
int loss_sum_cuda(const LossSumArgs& args, cudaStream_t stream);

}  // namespace pygan

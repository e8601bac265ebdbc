"""l1_loss against its reference, which is what a user writes in PyTorch: forward and backward for a generator's output.

Images of 3 x 256 x 256 (and of 64 x 64, the size of the demo on a CPU), channels_last; bfloat16 rows are an output
under autocast beside its float32 target. Every row first compares with float64 on the inputs that it then times. On a
GPU a row is 20 repetitions in one CUDA graph, so that kernels are timed and not their launches from Python.

    pytest benchmarks/bench_l1_loss.py --benchmark-json=out.json
"""

import pytest
import torch

from benchmarks.timing import DEVICE, DTYPES, REPEATS, graphed
from pygan.ops import _native
from pygan.ops.l1_loss import l1_loss, l1_loss_ref

ROWS = [(1, 256), (16, 256), (64, 256)] if DEVICE == "cuda" else [(1, 64), (4, 64), (1, 256), (4, 256)]


@pytest.mark.parametrize("impl", ["native", "ref"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "size"), ROWS)
def test_images(benchmark, n, size, dtype, impl):
    if impl == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    torch.manual_seed(0)
    nhwc = {"memory_format": torch.channels_last}
    output, target = (torch.rand(n, 3, size, size, device=DEVICE).mul(2).sub(1).contiguous(**nhwc) for _ in range(2))
    output = output.to(DTYPES[dtype]).requires_grad_()

    def step():
        loss = l1_loss(output, target, weight=100.0, impl=impl)
        return loss, *torch.autograd.grad(loss, output)

    exact = l1_loss_ref(output.double(), target.double(), weight=100.0)
    expected = exact, *torch.autograd.grad(exact, output)
    for value, reference in zip(step(), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=torch.finfo(DTYPES[dtype]).eps, atol=1e-12, check_dtype=False)
    benchmark.group = f"l1_loss {dtype} {n}x3x{size}x{size}"
    benchmark.extra_info.update(
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        repeats=REPEATS,
        # the contract: output and target once, gradient once
        bytes=(2 * output.element_size() + target.element_size()) * output.numel(),
    )
    benchmark.pedantic(graphed(step), warmup_rounds=3, rounds=40)

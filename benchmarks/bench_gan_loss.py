"""gan_loss against its reference, which is what a user writes in PyTorch: forward and backward of D's and of G's loss.

The logits are those of the 70x70 PatchGAN, 30x30 a sample, for D a batch of 2N with the real half first, and those of
the largest batch of the pixel discriminator. Every row first compares with float64 on the inputs that it then times.
On a GPU a row is 20 repetitions in one CUDA graph, so that kernels are timed and not their launches from Python.

    pytest benchmarks/bench_gan_loss.py --benchmark-json=out.json
"""

import pytest
import torch

from benchmarks.timing import DEVICE, DTYPES, REPEATS, graphed
from pygan.ops import _native
from pygan.ops.gan_loss import gan_loss, gan_loss_ref

SIDES = [14, 30, 256]


@pytest.mark.parametrize("impl", ["native", "ref"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", ["vanilla", "lsgan"])
@pytest.mark.parametrize("side", ["D", "G"])
@pytest.mark.parametrize("size", SIDES)
@pytest.mark.parametrize("n", [1, 16, 64] if DEVICE == "cuda" else [1, 16])
def test_patch_logits(benchmark, n, size, side, mode, dtype, impl):
    if impl == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    torch.manual_seed(0)
    samples = 2 * n if side == "D" else n
    logits = torch.randn(samples, 1, size, size, device=DEVICE).to(DTYPES[dtype]).requires_grad_()
    options = {"mode": mode, "side": side, "n_real": n if side == "D" else 0}

    def step():
        loss = gan_loss(logits, **options, impl=impl).loss
        return loss, *torch.autograd.grad(loss, logits)

    exact = gan_loss_ref(logits.double(), **options).loss
    expected = exact, *torch.autograd.grad(exact, logits)
    tolerance = {"rtol": 4 * torch.finfo(DTYPES[dtype]).eps, "atol": 1e-6, "check_dtype": False}
    for value, reference in zip(step(), expected, strict=True):
        torch.testing.assert_close(value, reference, **tolerance)
    benchmark.group = f"gan_loss {mode} {side} {dtype} {samples}x1x{size}x{size}"
    benchmark.extra_info.update(
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        repeats=REPEATS,
        bytes=2 * logits.numel() * logits.element_size(),  # the contract: logits once, gradient once
    )
    benchmark.pedantic(graphed(step), warmup_rounds=3, rounds=40)

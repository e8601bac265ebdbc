"""upsample_concat against F.interpolate and torch.cat, and the merged upsample-conv against its two steps.

Forward and backward at the decoder layers of the Keras U-Net: (channels of x, channels of the skip, side of x). Every
row first compares on the inputs that it then times. On a GPU a row is 20 repetitions in one CUDA graph, so that kernels
are timed and not their launches from Python.

    pytest benchmarks/bench_upsample_concat.py --benchmark-json=out.json
"""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.timing import DEVICE, DTYPES, REPEATS, graphed
from pygan.ops import _native
from pygan.ops.upsample_concat import upsample_concat, upsample_concat_ref, upsample_conv3x3

LAYERS = [(512, 512, 2), (512, 512, 8), (512, 256, 16), (256, 128, 32), (128, 64, 64), (64, 0, 128)]
BATCHES = [1, 16, 64] if DEVICE == "cuda" else [1, 4]
NHWC = {"memory_format": torch.channels_last}


def draw(*shape, dtype):
    return torch.randn(shape, device=DEVICE).to(dtype).contiguous(**NHWC)


def describe(benchmark, group, bytes_moved):
    benchmark.group = group
    benchmark.extra_info.update(
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        repeats=REPEATS,
        bytes=bytes_moved,
    )


@pytest.mark.parametrize("impl", ["native", "ref"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("c1", "c2", "side"), LAYERS)
@pytest.mark.parametrize("n", BATCHES)
def test_decoder_input(benchmark, n, c1, c2, side, dtype, impl):
    if impl == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    torch.manual_seed(0)
    dtype_ = DTYPES[dtype]
    x = draw(n, c1, side, side, dtype=dtype_).requires_grad_()
    skip = draw(n, c2, 2 * side, 2 * side, dtype=dtype_).requires_grad_() if c2 else None
    g = draw(n, c1 + c2, 2 * side, 2 * side, dtype=dtype_)
    tensors = [t for t in (x, skip) if t is not None]

    def step():
        y = upsample_concat(x, skip, impl=impl)
        return y, *torch.autograd.grad(y, tensors, g)

    y = upsample_concat_ref(x.double(), None if skip is None else skip.double())
    expected = y, *torch.autograd.grad(y, tensors, g.double())
    eps = 4 * torch.finfo(dtype_).eps
    for value, reference in zip(step(), expected, strict=True):
        torch.testing.assert_close(value, reference, rtol=eps, atol=4 * eps, check_dtype=False)
    # the contract: x once, skip once, y once; the half of g for x once, dx once
    moved = (2 * x.numel() + g.numel() + 4 * x.numel() + (0 if skip is None else skip.numel())) * x.element_size()
    describe(benchmark, f"upsample_concat {dtype} {n}x{c1}+{c2}x{side}x{side}", moved)
    benchmark.pedantic(graphed(step), warmup_rounds=3, rounds=30)


@pytest.mark.parametrize("way", ["merged", "two_steps"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("c_in", "c_out", "side"), [(512, 256, 8), (256, 128, 16), (128, 64, 32)])
@pytest.mark.parametrize("n", BATCHES)
def test_upsample_conv3x3(benchmark, n, c_in, c_out, side, dtype, way):
    torch.manual_seed(0)
    dtype_ = DTYPES[dtype]
    x = draw(n, c_in, side, side, dtype=dtype_).requires_grad_()
    weight = (draw(c_out, c_in, 3, 3, dtype=dtype_) * 0.02).requires_grad_()
    g = draw(n, c_out, 2 * side, 2 * side, dtype=dtype_)

    def two_steps(x, weight):
        return F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)

    def step():
        y = upsample_conv3x3(x, weight) if way == "merged" else two_steps(x, weight)
        return y, *torch.autograd.grad(y, (x, weight), g)

    exact = two_steps(x.double(), weight.double())
    expected = exact, *torch.autograd.grad(exact, (x, weight), g.double())
    bound = 1e-3 if dtype == "float32" else 4e-2  # TF32 and bfloat16 products, relative to the largest value
    for value, reference in zip(step(), expected, strict=True):
        error = (value.double() - reference).abs().max() / reference.abs().max()
        assert error <= bound, f"relative error {error:.1e}"
    describe(benchmark, f"upsample_conv3x3 {dtype} {n}x{c_in}->{c_out}x{side}x{side}", None)
    benchmark.pedantic(graphed(step), warmup_rounds=2, rounds=10)

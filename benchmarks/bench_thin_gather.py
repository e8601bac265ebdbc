"""thin_gather against what a user has, PyTorch's convolution in bfloat16 and channels_last, at the layers' shapes.

The last layers of U-Net, ResNet and PatchGAN (with bias, the images' with tanh), and the input gradients of the first
ones of PatchGAN and ResNet; images of 256 x 256 (of 32 x 32 on a CPU, with a quarter of the channels). Every row first
compares the first and the last sample with float64 on inputs that it then times. On a GPU a row is 20 repetitions in
one CUDA graph, over inputs that together are larger than its cache.

    pytest benchmarks/bench_thin_gather.py --benchmark-json=out.json
"""

import itertools
import math
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from benchmarks.timing import DEVICE, REPEATS, record
from pygan.ops import _native
from pygan.ops.thin_gather import thin_gather, thin_gather_ref, thin_size_of

SMALL = DEVICE == "cpu"
CACHE_BYTES = 256 << 20


class Layer(NamedTuple):
    """A pass of one layer: (ck, ct), the size of the thick side, whether it ends in an image."""

    mode: str
    ck: int
    ct: int
    size: int
    image: bool
    gradient: bool = False


LAYERS = {
    "U-Net u1": Layer("stride2", 128, 3, 128, image=True),
    "PatchGAN D1 gradient": Layer("stride2", 64, 6, 128, image=False, gradient=True),
    "PatchGAN D5": Layer("zero_adjoint", 512, 1, 31, image=False),
    "ResNet head": Layer("reflect_adjoint", 64, 3, 256, image=True),
    "ResNet stem gradient": Layer("reflect", 64, 3, 256, image=False, gradient=True),
}


def library(k, weight, bias, layer):
    """The same pass by PyTorch (cuDNN), without pygan."""
    if layer.mode == "stride2":
        t = F.conv_transpose2d(k, weight, bias, stride=2, padding=1)
    elif layer.mode == "zero_adjoint":
        t = F.conv2d(k, weight, bias, padding=1)
    elif layer.mode == "reflect_adjoint":
        t = F.conv2d(F.pad(k, (3, 3, 3, 3), mode="reflect"), weight, bias)
    else:
        padded = F.conv_transpose2d(k, weight)
        t = torch.ops.aten.reflection_pad2d_backward(padded, padded[:, :, 3:-3, 3:-3], (3, 3, 3, 3))
    return t.tanh() if layer.image else t


@pytest.mark.parametrize("impl", ["native", "library"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("n", [1, 2] if SMALL else [1, 16, 64])
def test_layers(benchmark, n, name, impl):
    if impl == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    layer = LAYERS[name]
    if SMALL:
        layer = layer._replace(ck=layer.ck // 4, size=max(layer.size // 8, 7))
    torch.manual_seed(0)
    nhwc = {"memory_format": torch.channels_last}
    kernel = 4 if layer.mode in ("stride2", "zero_adjoint") else 7
    pair = (layer.ck, layer.ct) if layer.mode in ("stride2", "reflect") else (layer.ct, layer.ck)
    weight = torch.randn(*pair, kernel, kernel, device=DEVICE) / math.sqrt(layer.ck * kernel**2)
    weight = weight.bfloat16().contiguous(**nhwc)
    bias = None if layer.gradient else torch.randn(layer.ct, device=DEVICE).bfloat16()
    shape = (n, layer.ck, layer.size, layer.size)
    count = 1 if SMALL else max(2, min(REPEATS, CACHE_BYTES // (2 * math.prod(shape))))
    inputs = [torch.randn(shape, device=DEVICE).bfloat16().contiguous(**nhwc) for _ in range(count)]
    turn = itertools.cycle(inputs)
    options = {"mode": layer.mode, "act": "tanh" if layer.image else "none"}

    def step():
        k = next(turn)
        if impl == "library":
            return library(k, weight, bias, layer)
        return thin_gather(k, weight, bias, **options)

    for k in inputs:
        actual = step()
        wide_bias = None if bias is None else bias.double()
        for i in (0, n - 1):
            exact = thin_gather_ref(k[i : i + 1].double(), weight.double(), wide_bias, **options)
            # the output's rounding, 2^-8; the library rounds also what it folds, or has before tanh
            error = (actual[i : i + 1].double() - exact).norm() / exact.norm()
            assert error < (2.0**-8 if impl == "native" else 2.0**-5)
    h, w = thin_size_of(layer.mode, shape[2:])
    moved = 2 * (math.prod(shape) + n * layer.ct * h * w)  # the contract: the thick side in, the thin one out
    record(
        benchmark,
        f"thin_gather bfloat16 {name} {n}x{layer.ck}x{layer.size}x{layer.size}",
        step,
        moved=moved,
        rounds=5 if SMALL else 40,
    )

"""small_conv against what a user has without it: the library's convolution and norm_act, the library's gradients.

The deep layers of the U-Net for 256x256 (e: convolution, d: transposed), forward with BatchNorm and both stores, and
the gradients of input and weight alone. Weights come from memory, not from a cache: each repetition has one of its own,
and all of them together are larger than any cache. Every row first compares with float64 on the inputs that it then
times. On a GPU a row is 20 repetitions in one CUDA graph; on a CPU, where "native" is the readable twin, two layers
show that the benchmark works.

    pytest benchmarks/bench_small_conv.py --benchmark-json=out.json
"""

import itertools

import pytest
import torch
import torch.nn.functional as F

from benchmarks.timing import DEVICE, record
from pygan.ops import norm_act
from pygan.ops._impl import compiled
from pygan.ops.norm_act import norm_act_ref
from pygan.ops.small_conv import small_conv, small_conv_why_not

# name: transposed, channels in, channels out, side of the input
LAYERS = {
    "e4": (False, 256, 512, 32),
    "e5": (False, 512, 512, 16),
    "e6": (False, 512, 512, 8),
    "e7": (False, 512, 512, 4),
    "e8": (False, 512, 512, 2),
    "d1": (True, 512, 512, 1),
    "d2": (True, 1024, 512, 2),
    "d3": (True, 1024, 512, 4),
    "d4": (True, 1024, 512, 8),
    "d5": (True, 1024, 256, 16),
}
if DEVICE == "cpu":
    LAYERS = {"e7/8": (False, 64, 64, 4), "d2/16": (True, 64, 32, 2)}
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16} if DEVICE == "cuda" else {"float32": torch.float32}
BATCHES = [1, 4] if DEVICE == "cuda" else [1]
PASSES = ["forward", "dx", "dw"]
CACHE_BYTES = 192 << 20 if DEVICE == "cuda" else 0
NHWC = {"memory_format": torch.channels_last}


class Layer:
    """Inputs of one layer and the ways to run its passes."""

    def __init__(self, n, transposed, c_in, c_out, side, dtype):
        torch.manual_seed(0)

        def draw(*shape):
            return torch.randn(shape, device=DEVICE).to(dtype).contiguous(**NHWC)

        self.transposed = transposed
        out_side = 2 * side if transposed else side // 2
        shape = (c_in, c_out, 4, 4) if transposed else (c_out, c_in, 4, 4)
        self.x = draw(n, c_in, side, side)
        self.dz = draw(n, c_out, out_side, out_side)
        one = draw(*shape) * (2 / (16 * c_in) ** 0.5)
        self.weights = [one] + [draw(*shape) for _ in range(CACHE_BYTES // (one.numel() * one.element_size()))]
        self.next = itertools.cycle(self.weights)
        self.gamma = torch.linspace(0.5, 1.5, c_out, device=DEVICE)
        self.beta = torch.linspace(-1, 1, c_out, device=DEVICE)
        self.running = [torch.zeros(c_out, device=DEVICE), torch.ones(c_out, device=DEVICE)]
        self.buffer = draw(n, 2 * c_out, out_side, out_side)
        self.options = {
            "running_mean": self.running[0], "running_var": self.running[1], "act": "leaky_relu", "skip_act": "relu",
            "skip_out": self.buffer[:, c_out:],
        }  # fmt: skip

    def convolve(self, x, weight):
        conv = F.conv_transpose2d if self.transposed else F.conv2d
        return conv(x, weight, stride=2, padding=1)

    def native(self, which, weight):
        if which == "dx":
            return (torch.ops.pygan.small_conv_dx(self.dz, weight, transposed=self.transposed),)
        if which == "dw":
            return (torch.ops.pygan.small_conv_dw(self.dz, self.x, transposed=self.transposed),)
        options = {**self.options, "transposed": self.transposed, "impl": "native"}
        return small_conv(self.x, weight, self.gamma, self.beta, **options)

    def library(self, which, weight):
        if which == "forward":
            return norm_act(self.convolve(self.x, weight), self.gamma, self.beta, **self.options)
        sizes = [2, 2], [1, 1], [1, 1], self.transposed, [0, 0], 1
        dx, dw, _ = torch.ops.aten.convolution_backward(
            self.dz, self.x, weight, None, *sizes, [which == "dx", which == "dw", False]
        )
        return (dx if which == "dx" else dw,)

    def exact(self, which, weight):
        """In float64; of the norm on the rounded result of the convolution, which is what it sees."""
        x, w = (t.double().requires_grad_() for t in (self.x, weight))
        z = self.convolve(x, w)
        if which != "forward":
            return torch.autograd.grad(z, x if which == "dx" else w, self.dz.double())
        z = z.detach().to(self.x.dtype).double()
        return norm_act_ref(z, self.gamma.double(), self.beta.double(), act="leaky_relu", skip_act="relu")

    def work(self, which):
        """(bytes, FLOP): each tensor once. Taps that meet padding alone need not be read, but dw is written whole."""
        weight = self.weights[0]
        small = self.x if self.transposed else self.dz
        taps = (2 if small.shape[2] == 1 else 4) * (2 if small.shape[3] == 1 else 4)
        per_tap = weight[:, :, 0, 0].numel()
        values = per_tap * (16 if which == "dw" else taps) + self.x.numel() + self.dz.numel()
        return values * self.x.element_size(), 2 * small[:, 0].numel() * taps * per_tap


@pytest.mark.parametrize("way", ["native", "library"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("n", BATCHES)
def test_layer(benchmark, n, layer, which, dtype, way):
    if not compiled("small_conv", DEVICE.upper()):
        pytest.skip("small_conv is not in the native library")
    torch.backends.cudnn.benchmark = True  # the library's best
    at = Layer(n, *LAYERS[layer], DTYPES[dtype])
    why_not = small_conv_why_not(
        at.x.shape, at.weights[0].shape, transposed=at.transposed, dtype=DTYPES[dtype], device_type="cuda"
    )
    if DEVICE == "cuda" and why_not:
        pytest.skip(why_not)

    def step():
        return getattr(at, way)(which, next(at.next))

    bound = 8 * torch.finfo(DTYPES[dtype]).eps  # relative to the norm; the library may round z otherwise
    exact = at.exact(which, at.weights[0])
    at.next = itertools.cycle(at.weights)
    for value, reference in zip(step(), exact, strict=True):
        error = (value.double() - reference).norm() / reference.norm()
        assert error <= bound, f"relative error {error:.1e}"
    moved, flop = at.work(which)
    record(
        benchmark,
        f"small_conv {dtype} {n}x{layer} {which}",
        step,
        moved=moved,
        flop=flop,
        rounds=40 if DEVICE == "cuda" else 5,
    )

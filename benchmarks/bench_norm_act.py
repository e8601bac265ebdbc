"""norm_act against what a user has without it, in channels_last; a row is forward and backward of one layer.

    encoder   BatchNorm of pix2pix' encoder: y = leaky_relu(z) for the next layer and s = relu(z) into the skip half of
              a concat buffer; beside it F.batch_norm, two activations and torch.cat
    resnet    InstanceNorm of CycleGAN's generator, stored with the reflection padding of the next convolution: with a
              relu, or added to a residual, which is the interior of the padded map before; beside it F.instance_norm,
              relu or sum, and F.pad

`copy` rows move the bytes of the contract (norm_act.h) by one plain copy: the share of copy bandwidth is their time by
that of `native`. Every row first compares with torch on the inputs that it then times. On a GPU a row is 20
repetitions in one CUDA graph, and the inputs take turns.

    pytest benchmarks/bench_norm_act.py --benchmark-json=out.json
"""

import itertools

import pytest
import torch
import torch.nn.functional as F

from benchmarks.timing import COPY_BYTES_PER_US, DEVICE, DTYPES, REPEATS, graphed
from pygan.ops import _native, joined, norm_act

SETS = 3 if DEVICE == "cuda" else 1  # of inputs that take turns
# (channels, side) of the U-Net 256 encoder, and batch sizes
LAYERS = [(64, 128), (128, 64), (256, 32), (512, 16), (512, 8), (512, 4), (512, 2), (512, 1)]
BATCHES = [1, 4] if DEVICE == "cpu" else [1, 16, 64]
ROWS = [(n, c, side) for n in BATCHES for c, side in LAYERS if n * side * side > 1]  # F.batch_norm refuses one value
# those of the ResNet generator at 256x256; a CPU has the middle of the net alone
RESNET_LAYERS = [(256, 64)] if DEVICE == "cpu" else [(64, 256), (128, 128), (256, 64)]
RESNET_ROWS = [(n, c, side) for n in (1, 8 if DEVICE == "cuda" else 2) for c, side in RESNET_LAYERS]
WAYS = ["torch", "native", "ref", "copy"]


def draw(n, channels, side, dtype):
    t = torch.randn(n, channels, side, side, device=DEVICE, dtype=dtype)
    return t.contiguous(memory_format=torch.channels_last)


class Encoder:
    """Inputs of one layer of the encoder and the ways to run it."""

    results = ("y", "both", "dx", "dweight", "dbias")
    accesses = 2 + 2 + 6 + 1  # of the elements of x: x twice, y and s; backward x, dy, ds twice, dx

    def __init__(self, n, c, side, dtype):
        self.c = c
        self.x = (draw(n, c, side, dtype) + 0.5).requires_grad_()
        self.weight = torch.linspace(0.5, 1.5, c, device=DEVICE).requires_grad_()
        self.bias = torch.linspace(-1, 1, c, device=DEVICE).requires_grad_()
        self.running_mean, self.running_var = torch.zeros(c, device=DEVICE), torch.ones(c, device=DEVICE)
        self.head, self.dy = draw(n, c, side, dtype), draw(n, c, side, dtype)
        self.dboth, self.buffer = draw(n, 2 * c, side, dtype), draw(n, 2 * c, side, dtype)
        self.buffer[:, :c] = self.head
        self.bytes = self.accesses * self.x.numel() * self.x.element_size()

    def backward(self, y, both):
        return torch.autograd.grad((y, both), (self.x, self.weight, self.bias), (self.dy, self.dboth))

    def exact(self):
        return self.torch()

    def torch(self):
        z = F.batch_norm(self.x, self.running_mean, self.running_var, self.weight, self.bias, training=True)
        y, both = F.leaky_relu(z, 0.2), torch.cat((self.head, F.relu(z)), 1)
        return y, both, *self.backward(y, both)

    def native(self):
        return self.norm_act("native", self.buffer)

    def ref(self):
        return self.norm_act("ref", None)

    def norm_act(self, impl, buffer):
        y, s = norm_act(
            self.x, self.weight, self.bias, running_mean=self.running_mean, running_var=self.running_var,
            act="leaky_relu", skip_act="relu", skip_out=None if buffer is None else buffer[:, self.c :], impl=impl,
        )  # fmt: skip
        both = joined(self.head if buffer is None else buffer[:, : self.c], s, buffer)
        return y, both, *self.backward(y, both)


class Resnet:
    """Inputs of one layer of a ResNet generator and the ways to run it. add: with a residual, instead of a relu."""

    def __init__(self, n, c, side, dtype, *, add):
        self.add = add
        self.x = (draw(n, c, side, dtype) + 0.5).requires_grad_()
        self.residual = draw(n, c, side + 2, dtype)[:, :, 1:-1, 1:-1].requires_grad_() if add else None
        self.dy, self.ds = draw(n, c, side + 2, dtype), draw(n, c, side, dtype)
        self.results = ("y", "s", "dx", "dresidual") if add else ("y", "dx")
        # x twice and y, backward x and dy twice and dx; with a residual it, ds twice and dresidual
        accesses = (5 + 4 if add else 5) * self.x.numel() + 3 * self.dy.numel()
        self.bytes = accesses * self.x.element_size()

    def backward(self, y, s):
        if not self.add:
            return torch.autograd.grad(y, self.x, self.dy)
        return torch.autograd.grad((y, s), (self.x, self.residual), (self.dy, self.ds))

    def torch(self):
        z = F.instance_norm(self.x)
        if DEVICE == "cpu":
            z.register_hook(torch.Tensor.contiguous)  # torch 2.13 on a CPU: wrong for a channels_last gradient at n = 1
        return self.rest(z)

    def exact(self):
        x = self.x.float()  # relu bends where a rounded x_hat may be 0 or on the other side of it
        centred = x - x.mean((2, 3), keepdim=True)
        return self.rest(centred * torch.rsqrt(centred.square().mean((2, 3), keepdim=True) + 1e-5))

    def rest(self, z):
        s = z + self.residual if self.add else F.relu(z)
        y = F.pad(s, (1,) * 4, mode="reflect")
        return (y, s, *self.backward(y, s)) if self.add else (y, *self.backward(y, None))

    def native(self):
        return self.norm_act("native")

    def ref(self):
        return self.norm_act("ref")

    def norm_act(self, impl):
        common = {"norm": "instance", "pad": 1, "impl": impl}
        if self.add:
            y, s = norm_act(self.x, residual=self.residual, skip_act="none", **common)
            return y, s, *self.backward(y, s)
        y = norm_act(self.x, act="relu", **common)
        return y, *self.backward(y, None)


class Copy:
    """As many bytes as a layer moves, half of them read and half of them written."""

    def __init__(self, moved):
        self.source, self.to = (torch.randn(moved // 8, device=DEVICE) for _ in range(2))

    def run(self):
        return self.to.copy_(self.source)


def check(layer, way, dtype):
    """The way that is timed against torch on the same inputs: errors in the norm, as single values fall on either side
    of a relu's bend.
    """
    exact = layer.exact()
    bound = 3e-3 if dtype == torch.float32 else 5e-2
    for name, a, b in zip(layer.results, way(), exact, strict=True):
        error = (a.float() - b.float()).norm() / b.float().norm().clamp_min(1e-3)
        assert error <= bound, f"{name}: relative error {error:.1e}"


def measure(benchmark, group, make, dtype, way):
    """One row: `make()` gives inputs and the ways to run them."""
    if way == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    torch.manual_seed(0)
    layers = [make() for _ in range(SETS)]
    moved = layers[0].bytes
    if way == "copy":
        steps = [Copy(moved).run for _ in layers]
    else:
        steps = [getattr(layer, way) for layer in layers]
        for layer, step in zip(layers, steps, strict=True):
            check(layer, step, DTYPES[dtype])
    turns = itertools.cycle(steps)
    benchmark.group = f"norm_act {group}"
    benchmark.extra_info.update(
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        repeats=REPEATS,
        bytes=moved,
    )
    small = layers[0].x.shape[2] < 32
    benchmark.pedantic(graphed(lambda: next(turns)()), warmup_rounds=3, rounds=60 if small else 15)
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info["gb_per_s"] = round(moved * REPEATS / benchmark.stats.stats.median / 1e9, 1)
    if DEVICE == "cuda":
        benchmark.extra_info["floor_us"] = round(moved / COPY_BYTES_PER_US, 3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "c", "side"), ROWS)
def test_encoder_norm(benchmark, n, c, side, dtype, way):
    measure(benchmark, f"{dtype} {n}x{c}x{side}x{side}", lambda: Encoder(n, c, side, DTYPES[dtype]), dtype, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["relu", "sum"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "c", "side"), RESNET_ROWS)
def test_resnet_norm(benchmark, n, c, side, dtype, kind, way):
    def make():
        return Resnet(n, c, side, DTYPES[dtype], add=kind == "sum")

    measure(benchmark, f"resnet {kind} {dtype} {n}x{c}x{side}x{side}", make, dtype, way)

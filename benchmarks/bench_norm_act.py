"""norm_act against what a user has without it: F.batch_norm, two activations and torch.cat in channels_last.

One row = forward and backward of an encoder block's norm at a pix2pix layer: y = leaky_relu(z) for the next layer and
s = relu(z) into the skip half of a concat buffer. Every row first compares the two on the inputs that it then times.

    pytest benchmarks/bench_norm_act.py --benchmark-json=out.json
"""

import pytest
import torch
import torch.nn.functional as F

from pygan.ops import _native, joined, norm_act

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# (channels, side) of the U-Net 256 encoder, and batch sizes
LAYERS = [(64, 128), (128, 64), (256, 32), (512, 16), (512, 8), (512, 4), (512, 2), (512, 1)]
BATCHES = [1, 4] if DEVICE == "cpu" else [1, 16, 64]
ROWS = [(n, c, side) for n in BATCHES for c, side in LAYERS if n * side * side > 1]  # F.batch_norm refuses one value


class Layer:
    """Inputs of one layer and the ways to run it."""

    def __init__(self, n, c, side, dtype):
        torch.manual_seed(0)

        def draw(channels):
            t = torch.randn(n, channels, side, side, device=DEVICE, dtype=dtype)
            return t.contiguous(memory_format=torch.channels_last)

        self.c = c
        self.x = (draw(c) + 0.5).requires_grad_()
        self.weight = torch.linspace(0.5, 1.5, c, device=DEVICE).requires_grad_()
        self.bias = torch.linspace(-1, 1, c, device=DEVICE).requires_grad_()
        self.running_mean, self.running_var = torch.zeros(c, device=DEVICE), torch.ones(c, device=DEVICE)
        self.head, self.dy, self.dboth = draw(c), draw(c), draw(2 * c)
        self.buffer = draw(2 * c)
        self.buffer[:, :c] = self.head

    def backward(self, y, both):
        return torch.autograd.grad((y, both), (self.x, self.weight, self.bias), (self.dy, self.dboth))

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


def check(layer, way, dtype):
    """The way that is timed against float32 torch on the same inputs; errors are relative to the largest value."""
    exact = Layer.torch(layer)
    bound = 1e-4 if dtype == torch.float32 else 4e-2
    for name, a, b in zip(("y", "both", "dx", "dweight", "dbias"), way(), exact, strict=True):
        error = (a.float() - b.float()).abs().max() / b.float().abs().max().clamp_min(1e-3)
        assert error <= bound, f"{name}: relative error {error:.1e}"


@pytest.mark.parametrize("way", ["torch", "native", "ref"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "c", "side"), ROWS)
def test_encoder_norm(benchmark, n, c, side, dtype, way):
    if way == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    layer = Layer(n, c, side, DTYPES[dtype])
    run = getattr(layer, way)
    check(layer, run, DTYPES[dtype])
    benchmark.group = f"norm_act {dtype} {n}x{c}x{side}x{side}"
    benchmark.extra_info.update(
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        # the contract: x twice, y and s once; backward x, dy, ds twice, dx once
        bytes=(2 + 2 + 6 + 1) * layer.x.numel() * layer.x.element_size(),
    )

    def timed():
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(timed, warmup_rounds=3, rounds=15 if side >= 32 else 60)

"""The thin convolutions against the library's, pass by pass: forward, gradient of the input, gradient of the weight.

The first and last layers of pix2pix and CycleGAN at 256 x 256, bf16, channels_last. pygan's kernels read and write
images in float32, the library in bf16: its casts are not counted, its reflection padding is. Every row first compares
with float32 or float64 on the inputs that it then times; inputs rotate. On a GPU a row is 20 repetitions in one CUDA
graph. floor_us: each side once at copy bandwidth.

    pytest benchmarks/bench_thin_conv.py --benchmark-json=out.json
"""

import itertools

import pytest
import torch
import torch.nn.functional as F

from benchmarks.timing import DEVICE, record
from pygan.ops import _native
from pygan.ops.thin_conv import thin_conv

# name: (c_in, c_out, kernel, side of the input, options)
LAYERS = {
    "d1": (3, 64, 4, 256, {"stride": 2, "padding": 1}),
    "u1": (128, 3, 4, 128, {"stride": 2, "padding": 1, "transposed": True}),
    "D1": (6, 64, 4, 256, {"stride": 2, "padding": 1}),
    "D5": (512, 1, 4, 31, {"stride": 1, "padding": 1}),
    "stem": (3, 64, 7, 256, {"stride": 1, "padding": 3, "pad_mode": "reflect"}),
    "head": (64, 3, 7, 256, {"stride": 1, "padding": 3, "pad_mode": "reflect"}),
}
MODES = {"d1": "stride2", "u1": "stride2", "D1": "stride2", "D5": "zero_adjoint", "stem": "reflect"}
MODES["head"] = "reflect_adjoint"
BATCHES = [1, 16, 64] if DEVICE == "cuda" else [1]
NHWC = {"memory_format": torch.channels_last}


def library(x, weight, bias, *, stride, padding, pad_mode="zeros", transposed=False):
    if transposed:
        return F.conv_transpose2d(x, weight, bias, stride, padding)
    if pad_mode == "reflect":
        return F.conv2d(F.pad(x, (padding,) * 4, mode="reflect"), weight, bias, stride)
    return F.conv2d(x, weight, bias, stride, padding)


def library_gradient(g, x, weight, mask, *, stride, padding, pad_mode="zeros", transposed=False):
    """The one gradient that mask asks for, (x, weight)."""
    reflect = pad_mode == "reflect"
    wide = F.pad(x, (padding,) * 4, mode="reflect") if reflect else x
    stride, pads = [stride] * 2, [0 if reflect else padding] * 2
    found = torch.ops.aten.convolution_backward(
        g, wide, weight, None, stride, pads, [1, 1], transposed, [0, 0], 1, [*mask, False]
    )
    if mask[0] and reflect:
        return torch.ops.aten.reflection_pad2d_backward(found[0], x, [padding] * 4)
    return found[0 if mask[0] else 1]


def native_gradient(mode, spreads, g, x, weight, wanted):
    t, k = (x, g) if spreads else (g, x)
    if wanted == "weight":
        dweight = torch.empty_like(weight)
        torch.ops.pygan.thin_wgrad(t, k, dweight, None, None, mode)
        return dweight
    dx = torch.empty_like(x)
    if spreads:
        torch.ops.pygan.thin_gather(g, weight, None, dx, mode, "none")
    else:
        torch.ops.pygan.thin_spread(g, weight, None, dx, None, mode, "none", None, 1.0)
    return dx


@pytest.mark.parametrize("impl", ["native", "library"])
@pytest.mark.parametrize("way", ["forward", "input", "weight"])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("n", BATCHES)
def test_layers(benchmark, n, layer, way, impl):
    if impl == "native" and not _native.available():
        pytest.skip(_native.why_missing())
    torch.manual_seed(0)
    c_in, c_out, kernel, side, options = LAYERS[layer]
    if DEVICE == "cpu":
        side = max(side // 16, 8)
    spreads = c_in < c_out
    low = {"device": DEVICE, "dtype": torch.bfloat16}
    # images are float32 in pygan's steps
    thin = {"device": DEVICE, "dtype": torch.float32 if impl == "native" else torch.bfloat16}
    shape = (c_in, c_out) if options.get("transposed") else (c_out, c_in)
    weight = torch.randn(*shape, kernel, kernel, **low).mul_((c_in * kernel**2) ** -0.5).contiguous(**NHWC)
    bias = torch.randn(c_out, **low)
    sets = []
    for _ in range(2 if n > 16 else 4):
        x = torch.randn(n, c_in, side, side, **(thin if spreads else low)).contiguous(**NHWC)
        out = library(x[:1].to(torch.bfloat16), weight, bias, **options).shape[1:]
        sets.append((x, torch.randn(n, *out, **(low if spreads else thin)).contiguous(**NHWC)))
    inputs = itertools.cycle(sets)

    def step():
        x, g = next(inputs)
        if way == "forward":
            if impl == "library":
                return library(x, weight, bias, **options)
            out_dtype = None if spreads else torch.float32
            return thin_conv(x, weight, bias, **options, out_dtype=out_dtype, impl="native")
        if impl == "library":
            return library_gradient(g, x, weight, (way == "input", way == "weight"), **options)
        return native_gradient(MODES[layer], spreads, g, x, weight, way)

    exact = torch.float64 if n == 1 else torch.float32
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False):
        for x, g in sets:
            # as the products see them: in 16 bits
            x, g, w = (t.to(torch.bfloat16).to(exact) for t in (x, g, weight))
            if way == "forward":
                expected = library(x, w, bias.to(exact), **options)
            else:
                expected = library_gradient(g, x, w, (way == "input", way == "weight"), **options)
            found = step()
            error = ((found.to(exact) - expected).norm() / expected.norm()).item()
            assert error <= 1e-2, f"relative error {error:.1e}"
            del expected, found, x, g, w
        x, g = sets[0]
        thick_values, thin_values = max(x.numel(), g.numel()), min(x.numel(), g.numel())
        moved = 2 * thick_values + thin["dtype"].itemsize * thin_values + 2 * weight.numel()
        record(benchmark, f"thin_conv {layer} {way} n={n}", step, moved=moved, rounds=20)

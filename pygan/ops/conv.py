"""Convolutions: which kernel computes one, and the library's with the gradient of its weight beside the rest.

The wide middle of a network is the library's (cuDNN, oneDNN): at batch 16 it is within a tenth of what the hardware can
do. pygan's own kernels take what it is bad at: few channels on one side (`thin_conv`), and small maps at small batches
(`small_conv`). `path` is that rule, for the step and for `pygan doctor --kernels` alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan import streams
from pygan.ops import _beside
from pygan.ops._autograd import wants
from pygan.ops.small_conv import small_conv_why_not
from pygan.ops.thin_conv import thin_conv_why_not


class Geometry(NamedTuple):
    """What a convolution is, apart from its numbers. As in `torch.nn.functional.conv2d` and `conv_transpose2d`."""

    stride: int = 1
    padding: int = 0
    pad_mode: str = "zeros"  # or "reflect"
    transposed: bool = False
    output_padding: int = 0

    def out_size(self, size: int, kernel: int) -> int:
        """Height or width of the output for that of the input."""
        if self.transposed:
            return (size - 1) * self.stride - 2 * self.padding + kernel + self.output_padding
        return (size + 2 * self.padding - kernel) // self.stride + 1


class Path(NamedTuple):
    """The way a layer is computed: "thin", "small" or "library", and why."""

    name: str
    why: str


def path(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    geometry: Geometry,
    *,
    dtype: torch.dtype,
    device_type: str,
    own: bool = True,
) -> Path:
    """How a layer on that input is computed.

    x_shape: (n, c, h, w); weight_shape: as PyTorch has it, (o, i, kh, kw), transposed (i, o, kh, kw); dtype: of the
    products; own: False where the recipe asks for the library everywhere.
    """
    if not own:
        return Path("library", "--kernels library")
    if device_type != "cuda":
        return Path("library", f"{device_type}: oneDNN's convolution is the faster one")
    shapes, given = (tuple(x_shape), tuple(weight_shape)), geometry._asdict()
    not_small = small_conv_why_not(*shapes, **given, dtype=dtype, device_type=device_type)
    if not not_small:
        return Path("small", "a small map: the time of reading the weight, one launch with norm and activation")
    del given["output_padding"]
    not_thin = thin_conv_why_not(*shapes, **given, dtype=dtype, device_type=device_type)
    if not not_thin:
        return Path("thin", "few channels on one side")
    if min(weight_shape[:2]) <= 8:
        return Path("library", not_thin)
    if (*weight_shape[2:], geometry.stride) == (4, 4, 2):
        return Path("library", not_small)
    return Path("library", "many channels on both sides: the library is near what the hardware can do")


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """The library's convolution; where work overlaps (`streams`), with its weight gradient on the side stream.

    x: (n, c, h, w); "reflect" padding must have been applied; weight: as PyTorch has it, or `packed`.
    Returns (n, o, h', w').
    """
    if streams.overlaps(x) and torch.is_grad_enabled() and weight.requires_grad:
        return _Convolution.apply(x, weight, bias, geometry)
    return _forward(x, weight, bias, geometry)


def packs(weight: Tensor) -> bool:
    """Can `packed` be had of that weight here? On a CPU, in float32, where PyTorch has oneDNN."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_transpose_pointwise")
    return there and weight.device.type == "cpu" and weight.dtype == torch.float32


def packed(weight: Tensor, g: Geometry) -> Tensor:
    """The weight in the order that oneDNN computes in, for `convolution` without gradients.

    Given a plain one, oneDNN brings it into that order in every call, and at batch 1 that is half of a deep layer's
    time. Shape and dtype stay; nothing else can be asked of the result.
    """
    pack = torch.ops.mkldnn._reorder_convolution_weight
    if g.transposed:
        pack = torch.ops.mkldnn._reorder_convolution_transpose_weight
    return pack(weight.contiguous(), *_packed_as(g), [])


def _packed_as(g: Geometry) -> tuple:
    """Padding, output padding where it is transposed, stride, dilation and groups, as oneDNN's operators take them."""
    padding = [g.padding if g.pad_mode == "zeros" else 0] * 2
    more = ([g.output_padding] * 2,) if g.transposed else ()
    return padding, *more, [g.stride] * 2, [1, 1], 1


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry) -> Tensor:
    if weight.is_mkldnn:
        act = torch.ops.mkldnn._convolution_pointwise
        if g.transposed:
            act = torch.ops.mkldnn._convolution_transpose_pointwise
        return act(x, weight, bias, *_packed_as(g), "none", [], "")
    padding = g.padding if g.pad_mode == "zeros" else 0
    if g.transposed:
        return F.conv_transpose2d(x, weight, bias, g.stride, padding, g.output_padding)
    return F.conv2d(x, weight, bias, g.stride, padding)


class _Convolution(torch.autograd.Function):
    """`_forward`, whose backward computes the two gradients apart."""

    @staticmethod
    def forward(ctx, x, weight, bias, geometry):
        ctx.save_for_backward(x, weight, bias)
        ctx.geometry = geometry
        _beside.note_use(weight)
        return _forward(x, weight, bias, geometry)

    @staticmethod
    def backward(ctx, dy):
        x, weight, bias = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        needs_weight, needs_bias = needs_weight and wants(weight), needs_bias and wants(weight)
        if torch.is_grad_enabled():  # this backward will be differentiated: PyTorch's own formula can be
            return *_gradients(dy, x, weight, bias, ctx.geometry, (needs_x, needs_weight, needs_bias)), None
        _beside.note_backward(weight)
        if not dy.is_contiguous(memory_format=torch.channels_last):
            dy = dy.contiguous(memory_format=torch.channels_last)
        flops = 2.0 * weight.numel() * (x if ctx.geometry.transposed else dy)[:, 0].numel()
        if not needs_weight or not _beside.goes_beside(weight, flops):
            return *_gradients(dy, x, weight, bias, ctx.geometry, (needs_x, needs_weight, needs_bias)), None
        with _beside.side((weight, bias), weight, x, dy) as found:
            _, dw, db = _gradients(dy, x, weight, bias, ctx.geometry, (False, True, needs_bias))
            found += [dw if dw.stride() == weight.stride() else torch.empty_like(weight).copy_(dw), db]
        dx = _gradients(dy, x, weight, bias, ctx.geometry, (True, False, False))[0] if needs_x else None
        return dx, *found, None


def _gradients(
    dy: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry, mask: tuple[bool, bool, bool]
) -> tuple[Tensor | None, ...]:
    padding = g.padding if g.pad_mode == "zeros" else 0
    return torch.ops.aten.convolution_backward(
        dy,
        x,
        weight,
        None if bias is None else list(bias.shape),
        [g.stride] * 2,
        [padding] * 2,
        [1, 1],
        g.transposed,
        [g.output_padding] * 2,
        1,
        list(mask),
    )

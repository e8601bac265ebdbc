"""upsample_concat: nearest x2 of one map beside the skip, and the convolution that needs no upsampled map at all.

Contract: csrc/ops/upsample_concat/upsample_concat.h. The reference below is the specification.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan import errors
from pygan.ops._impl import choose, compiled


def upsample_concat_ref(x: Tensor, skip: Tensor | None) -> Tensor:
    """`upsample_concat` in plain PyTorch: what the kernels must equal."""
    y = F.interpolate(x, scale_factor=2, mode="nearest")  # (n, c1, 2h, 2w)
    if skip is not None:
        y = torch.cat([y, skip], dim=1)
    return y.contiguous(memory_format=torch.channels_last)


def upsample_concat(x: Tensor, skip: Tensor | None, *, impl: str = "auto") -> Tensor:
    """Nearest-neighbour x2 of x, beside skip in the channels. Twice differentiable (it is linear).

    Args:
        x: (n, c1, h, w) float32, bfloat16, float16 or float64; channels_last or a channel slice of such a tensor.
        skip: (n, c2, 2h, 2w), dtype and layout likewise; None for the upsampled map alone.
        impl: "native" (the kernels), "ref" (plain PyTorch) or "auto" (the faster one).

    Returns:
        (n, c1 + c2, 2h, 2w), channels_last, in the dtype of x.

    Raises:
        ValueError: a shape, dtype or device does not fit.
    """
    if x.dim() != 4 or not x.is_floating_point():
        raise ValueError(f"upsample_concat: x must be floats of shape (n, c, h, w), got {x.dtype} {list(x.shape)}")
    if skip is not None:
        n, _, h, w = x.shape
        if skip.dim() != 4 or (skip.shape[0], *skip.shape[2:]) != (n, 2 * h, 2 * w):
            expected = f"[{n}, c, {2 * h}, {2 * w}]"
            raise ValueError(
                f"upsample_concat: skip must have shape {expected} beside x {list(x.shape)}, got {list(skip.shape)}"
            )
        if skip.dtype != x.dtype or skip.device != x.device:
            raise ValueError(
                f"upsample_concat: skip must be {x.dtype} on {x.device} like x, got {skip.dtype} on {skip.device}"
            )
    # Beside a skip the CPU twin is faster, up to 10-fold, because the upsampled map is not stored twice; alone it is
    # not (benchmarks/bench_upsample_concat.py, forward and backward, one core).
    cpu_limit = 0 if skip is None else None
    if choose("upsample_concat", x, impl, cpu_limit=cpu_limit) == "ref":
        return upsample_concat_ref(x, skip)
    for name, t in (("x", x), ("skip", skip)):
        if t is not None and not _is_nhwc(t):
            errors.say_once(f"upsample_concat copies {name} on every call: it is not channels_last")
    return torch.ops.pygan.upsample_concat(_to_nhwc(x), None if skip is None else _to_nhwc(skip))


def merge_upsample_weight(w3: Tensor) -> Tensor:
    """The weight with which one transposed convolution does nearest x2 followed by a 3x3 convolution.

    An output pixel of even row sees the small rows i-1, i, i with the kernel rows 0, 1, 2, one of odd row i, i, i+1:
    kernel rows that meet the same small row add up. Columns likewise. So for pad 1 of zeros

        conv2d(interpolate(x, x2), w3, padding=1) == conv_transpose2d(x, merged, stride=2, padding=1)

    with 16 instead of 36 multiplications per small pixel. Linear in w3, and differentiable.

    Args:
        w3: (o, i, 3, 3), a conv2d weight.

    Returns:
        (i, o, 4, 4), a conv_transpose2d weight, in the dtype of w3.

    Raises:
        ValueError: w3 is not of that shape.
    """
    if w3.dim() != 4 or w3.shape[2:] != (3, 3):
        raise ValueError(f"merge_upsample_weight: w3 must have shape (o, i, 3, 3), got {list(w3.shape)}")
    rows = _merge_taps(w3, dim=2)  # (o, i, 4, 3)
    return _merge_taps(rows, dim=3).transpose(0, 1)  # (i, o, 4, 4)


def upsample_conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, pad_mode: str = "zeros") -> Tensor:
    """Nearest x2 of x, then a 3x3 convolution with padding 1, as one 4x4 transposed convolution of x.

    Args:
        x: (n, i, h, w).
        weight: (o, i, 3, 3).
        bias: (o,) or None.
        pad_mode: "zeros" or "reflect": what the convolution sees beyond the edge of the upsampled map.

    Returns:
        (n, o, 2h, 2w).

    Raises:
        ValueError: unknown pad_mode, or a weight of another shape.
    """
    if pad_mode not in ("zeros", "reflect"):
        raise ValueError(f"upsample_conv3x3: pad_mode must be 'zeros' or 'reflect', got {pad_mode!r}")
    merged = merge_upsample_weight(weight)
    if pad_mode == "zeros":
        return F.conv_transpose2d(x, merged, bias, stride=2, padding=1)
    # One step beyond the edge, the reflection of the upsampled map is its second pixel, which equals the first: the
    # small map replicated by 1. The output grows by 2 on each side; a padding of 3 instead of 1 crops it again.
    return F.conv_transpose2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), merged, bias, stride=2, padding=3)


def _merge_taps(w: Tensor, dim: int) -> Tensor:
    """3 kernel taps along `dim` become the 4 of a transposed convolution with stride 2 and padding 1."""
    first, middle, last = w.unbind(dim)
    return torch.stack([last, middle + last, first + middle, first], dim)


def _is_nhwc(t: Tensor) -> bool:
    """channels_last, or a channel slice of a channels_last tensor; strides of dimensions of size 1 say nothing."""
    n, c, h, w = t.shape
    stride_n, stride_c, stride_h, stride_w = t.stride()
    pitch = stride_w if w > 1 else stride_h if h > 1 else stride_n if n > 1 else c
    strides = ((c, stride_c, 1), (w, stride_w, pitch), (h, stride_h, pitch * w), (n, stride_n, pitch * w * h))
    return pitch >= c and all(size == 1 or stride == expected for size, stride, expected in strides)


def _to_nhwc(t: Tensor) -> Tensor:
    return t if _is_nhwc(t) else t.contiguous(memory_format=torch.channels_last)


def _empty(n, c, h, w, like):
    return torch.empty((n, c, h, w), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _fake(x, skip):
    n, c, h, w = x.shape
    return _empty(n, c + (0 if skip is None else skip.shape[1]), 2 * h, 2 * w, x)


def _fake_backward(g):
    n, c, h, w = g.shape
    return _empty(n, c, h // 2, w // 2, g)


def _setup_context(ctx, inputs, output):
    ctx.c1 = inputs[0].shape[1]


def _backward(ctx, g):
    needs_x, needs_skip = ctx.needs_input_grad
    # the consumer may have handed back an NCHW gradient, or an expanded scalar
    dx = torch.ops.pygan.upsample_concat_backward(_to_nhwc(g[:, : ctx.c1])) if needs_x else None
    return dx, g[:, ctx.c1 :] if needs_skip else None


def _setup_context_backward(ctx, inputs, output):
    pass  # linear: nothing to remember


def _backward_of_backward(ctx, ddx):
    return torch.ops.pygan.upsample_concat(_to_nhwc(ddx), None)


if compiled("upsample_concat"):
    torch.library.register_fake("pygan::upsample_concat", _fake)
    torch.library.register_fake("pygan::upsample_concat_backward", _fake_backward)
    torch.library.register_autograd("pygan::upsample_concat", _backward, setup_context=_setup_context)
    torch.library.register_autograd(
        "pygan::upsample_concat_backward", _backward_of_backward, setup_context=_setup_context_backward
    )

"""small_conv: a 4x4 convolution of stride 2, or its transpose, on a small map, and norm_act behind it, in one launch.

    z = conv(x, weight) + bias, rounded to the dtype of x,    (y, s) = norm_act(z)

These are the deep layers of a U-Net (Isola et al. 2017) at a batch of a few images: 8 to 17 MB of weights for a handful
of pixels, so a layer costs the time of reading its weight. `small_conv_ref` is the specification;
csrc/ops/small_conv/small_conv.h is the contract of the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan import errors
from pygan.ops import _beside
from pygan.ops._autograd import wants
from pygan.ops._impl import choose, compiled
from pygan.ops.norm_act import ACTS, NORMS, nhwc_pitch, norm_act

MAX_BATCH = 8
MAX_SIDE = 16  # of the smaller of the two maps
MAX_ROWS = 1024  # n * h * w of the larger one
FUSED_ROWS = 512  # n * h * w of the result, up to which the norm is done in the launch of the convolution
_CHANNELS = 64  # the kernels take multiples


class _Options(NamedTuple):
    """Everything about a call that is not a tensor."""

    transposed: bool
    norm: str
    groups: int
    eps: float
    act: str
    skip_act: str | None
    slope: float
    dropout_p: float
    rng_stream: int
    momentum: float
    use_running: bool


def small_conv_why_not(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    transposed: bool,
    dtype: torch.dtype,
    device_type: str,
    stride: int = 2,
    padding: int = 1,
    pad_mode: str = "zeros",
    output_padding: int = 0,
) -> str:
    """One line: why the kernels are not the way to compute this layer. Empty when they are.

    x_shape: (n, c, h, w); weight_shape: (o, i, 4, 4), transposed (i, o, 4, 4); dtype: of both; device_type: "cuda" or
    another. The other arguments are the layer's, as in `torch.nn.functional.conv2d`.
    """
    n, _, h, w = x_shape
    if device_type != "cuda":
        return f"small_conv is for CUDA, not {device_type}"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"small_conv is for bfloat16 and float16, not {_name(dtype)}"
    if (*weight_shape[2:], stride, padding, pad_mode, output_padding) != (4, 4, 2, 1, "zeros", 0):
        return "small_conv is for 4x4 kernels of stride 2 and padding 1 with zeros"
    if any(c % _CHANNELS for c in weight_shape[:2]):
        return f"small_conv needs multiples of {_CHANNELS} channels, got {weight_shape[0]} and {weight_shape[1]}"
    if not transposed and (h % 2 or w % 2):
        return f"small_conv needs an even map, got {h}x{w}"
    small, large = ((h, w), (2 * h, 2 * w)) if transposed else ((h // 2, w // 2), (h, w))
    if max(small) > MAX_SIDE:
        return f"map of {small[0]}x{small[1]} > {MAX_SIDE}x{MAX_SIDE} on the smaller side of small_conv"
    if n > MAX_BATCH:
        return f"batch of {n} > {MAX_BATCH}, the limit of small_conv"
    rows = n * large[0] * large[1]
    if rows > MAX_ROWS:
        return f"{rows} rows > {MAX_ROWS} on the larger side of small_conv"
    return ""


# --- the specification ------------------------------------------------------------------------------------------------


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool) -> Tensor:
    conv = F.conv_transpose2d if transposed else F.conv2d
    return conv(x, weight, bias, stride=2, padding=1)


def small_conv_ref(
    x: Tensor,
    weight: Tensor,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    *,
    transposed: bool,
    bias: Tensor | None = None,
    **norm_options,
) -> Tensor | tuple[Tensor, Tensor]:
    """`small_conv` in plain PyTorch: what the kernels must equal. Differentiable any number of times."""
    z = _convolve(x, weight, bias, transposed).contiguous(memory_format=torch.channels_last)
    return norm_act(z, norm_weight, norm_bias, **norm_options, impl="ref")


def _norm_act(z, norm_weight, norm_bias, rng, running_mean, running_var, out, skip_out, o: _Options, impl: str):
    norm_options = o._asdict()
    del norm_options["transposed"]
    return norm_act(
        z, norm_weight, norm_bias, rng=rng, running_mean=running_mean, running_var=running_var, out=out,
        skip_out=skip_out, **norm_options, impl=impl,
    )  # fmt: skip


# --- the native operators ---------------------------------------------------------------------------------------------


def _out_shape(x: Tensor, weight: Tensor, transposed: bool) -> tuple[int, int, int, int]:
    n, _, h, w = x.shape
    return (n, weight.shape[1], 2 * h, 2 * w) if transposed else (n, weight.shape[0], h // 2, w // 2)


def _empty(shape: Sequence[int], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _fake(x, weight, bias, norm_weight, norm_bias, rng, running_mean, running_var, y, s, *, transposed, norm, groups,
          use_running, **_options):  # fmt: skip
    shape = _out_shape(x, weight, transposed)
    statistic_rows = 0 if norm == "none" else 1 if use_running else x.shape[0] if norm == "instance" else groups
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    table = (statistic_rows, shape[1])
    return _empty(shape, x), x.new_empty(table, dtype=wide), x.new_empty(table, dtype=wide)


def _fake_dx(dz, weight, *, transposed):
    n, _, h, w = dz.shape
    shape = (n, weight.shape[0], h // 2, w // 2) if transposed else (n, weight.shape[1], 2 * h, 2 * w)
    return _empty(shape, dz)


def _fake_dw(dz, x, *, transposed):
    first, second = (x, dz) if transposed else (dz, x)
    return _empty((first.shape[1], second.shape[1], 4, 4), dz)


if compiled("small_conv"):
    torch.library.register_fake("pygan::small_conv", _fake)
    torch.library.register_fake("pygan::small_conv_dx", _fake_dx)
    torch.library.register_fake("pygan::small_conv_dw", _fake_dw)


def _conv_gradients(
    dz: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None, transposed: bool, needs: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias, of those that are needed. dz: (n, o, h', w')."""
    needs_x, needs_weight, needs_bias = needs
    asked = not weight.is_leaf or wants(weight)
    needs_weight, needs_bias = needs_weight and asked, needs_bias and asked
    if torch.is_grad_enabled():  # this backward will be differentiated: PyTorch's own formula can be
        channels = None if bias is None else list(bias.shape)
        mask = [needs_x, needs_weight, needs_bias]
        return torch.ops.aten.convolution_backward(
            dz, x, weight, channels, [2, 2], [1, 1], [1, 1], transposed, [0, 0], 1, mask
        )
    _beside.note_backward(weight)
    dz = dz if _is_readable(dz) else dz.clone(memory_format=torch.channels_last)
    dx = dweight = None
    if needs_weight:
        flops = 2.0 * weight.numel() * (x if transposed else dz)[:, 0].numel()
        if _beside.goes_beside(weight, flops):
            with _beside.side((weight,), weight, x, dz) as found:
                found.append(torch.ops.pygan.small_conv_dw.default(dz, x, transposed=transposed))
            dweight = found[0]
        else:
            dweight = torch.ops.pygan.small_conv_dw.default(dz, x, transposed=transposed)
    if needs_x:
        dx = torch.ops.pygan.small_conv_dx.default(dz, weight, transposed=transposed)
    # in front of a norm with batch statistics there is no bias, so this is rare
    wide = torch.float64 if dz.dtype == torch.float64 else torch.float32
    dbias = dz.sum((0, 2, 3), dtype=wide).to(dz.dtype) if needs_bias else None
    return dx, dweight, dbias


class _Convolution(torch.autograd.Function):
    """The convolution alone, on the native operators."""

    @staticmethod
    def forward(ctx, x, weight, bias, transposed):
        plain = _Options(transposed, "none", 1, 0.0, "none", None, 0.0, 0.0, 0, 0.0, False)
        z, _, _ = torch.ops.pygan.small_conv.default(x, weight, bias, *[None] * 7, **plain._asdict())
        ctx.save_for_backward(x, weight, bias)
        ctx.transposed = transposed
        _beside.note_use(weight)
        return z

    @staticmethod
    def backward(ctx, dz: Tensor):
        return *_conv_gradients(dz, *ctx.saved_tensors, ctx.transposed, ctx.needs_input_grad[:3]), None


class _SmallConv(torch.autograd.Function):
    """The convolution and norm_act behind it, on the native operators."""

    @staticmethod
    def forward(ctx, x, weight, bias, norm_weight, norm_bias, rng, running_mean, running_var, out, skip_out, o):
        def slot(given: Tensor | None) -> Tensor:
            if given is None:
                return _empty(_out_shape(x, weight, o.transposed), x)
            if not given.is_inference():  # whoever saved what lay there for backward must not read it any more
                torch.autograd.graph.increment_version(given)
            return given.detach()  # the same memory, with a history of its own

        y = slot(out)
        s = None if o.skip_act is None else slot(skip_out)
        z, mean, rstd = torch.ops.pygan.small_conv.default(
            x, weight, bias, norm_weight, norm_bias, rng, running_mean, running_var, y, s, **o._asdict()
        )
        ctx.save_for_backward(x, weight, bias, norm_weight, norm_bias, rng, z, mean, rstd)
        ctx.options = o
        ctx.set_materialize_grads(False)
        _beside.note_use(weight)
        return y, s

    @staticmethod
    def backward(ctx, dy: Tensor | None, ds: Tensor | None):
        nothing = (None,) * 6
        if dy is None and ds is None:
            return (None,) * 5 + nothing
        x, weight, bias, norm_weight, norm_bias, rng, z, mean, rstd = ctx.saved_tensors
        o, needs = ctx.options, ctx.needs_input_grad
        if torch.is_grad_enabled():  # for a second derivative z must lead to x and weight
            z = _convolve(x, weight, bias, o.transposed).contiguous(memory_format=torch.channels_last)
        norm_options = o._asdict()
        del norm_options["transposed"], norm_options["momentum"]
        dz, dnorm_weight, dnorm_bias, *_ = torch.ops.pygan.norm_act_backward.default(
            _as_nhwc(dy),
            _as_nhwc(ds),
            z,
            norm_weight,
            norm_bias,
            mean,
            rstd,
            rng,
            **norm_options,
            need_dx=any(needs[:3]),
        )
        conv = (None,) * 3
        if any(needs[:3]):
            conv = _conv_gradients(dz, x, weight, bias, o.transposed, needs[:3])
        return *conv, dnorm_weight if needs[3] else None, dnorm_bias if needs[4] else None, *nothing


def _is_readable(t: Tensor) -> bool:
    """Can the kernels walk this (n, c, h, w) tensor?"""
    pitch = nhwc_pitch(t)
    return pitch is not None and (not t.is_cuda or (pitch % 8 == 0 and t.data_ptr() % 16 == 0))


def _copied(name: str, t: Tensor) -> Tensor:
    errors.say_once(f"small_conv copies {name} on every call: it is not channels_last, or not aligned to 16 bytes")
    return t.clone(memory_format=torch.channels_last)


def _as_nhwc(grad: Tensor | None) -> Tensor | None:
    """A gradient as the kernels read it. Convolutions give channels_last; the gradient of a sum, say, does not."""
    if grad is None or nhwc_pitch(grad) is not None:
        return grad
    return grad.contiguous(memory_format=torch.channels_last)


# --- the public op ----------------------------------------------------------------------------------------------------


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check(x: Tensor, weight: Tensor, vectors: dict[str, Tensor | None], rng: Tensor | None,
           slots: dict[str, Tensor | None], o: _Options) -> None:  # fmt: skip
    """Fail at the door, by name."""
    for name, t in {"x": x, "weight": weight}.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"small_conv: {name} must be a tensor, got {type(t).__name__}")
    if x.dim() != 4 or x.numel() == 0:
        raise ValueError(f"small_conv: x must have shape (n, c, h, w) and not be empty, got {list(x.shape)}")
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise TypeError(f"small_conv: x must be float32, bfloat16, float16 or float64, got {_name(x.dtype)}")
    side = 0 if o.transposed else 1
    if weight.dim() != 4 or weight.shape[2:] != (4, 4) or weight.shape[side] != x.shape[1] or weight.numel() == 0:
        expected = f"[{x.shape[1]}, o, 4, 4]" if o.transposed else f"[o, {x.shape[1]}, 4, 4]"
        raise ValueError(f"small_conv: weight must have shape {expected} for this x, got {list(weight.shape)}")
    if min(x.shape[2:]) < 2 and not o.transposed:
        raise ValueError(f"small_conv: x must be at least 2x2 for a convolution, got {list(x.shape)}")
    _check_beside("weight", weight, x, x.dtype)
    shape = _out_shape(x, weight, o.transposed)

    if o.norm not in NORMS:
        raise ValueError(f"small_conv: norm must be one of {NORMS}, got {o.norm!r}")
    if o.act not in ACTS:
        raise ValueError(f"small_conv: act must be one of {ACTS}, got {o.act!r}")
    if o.skip_act is not None and o.skip_act not in ACTS:
        raise ValueError(f"small_conv: skip_act must be None or one of {ACTS}, got {o.skip_act!r}")
    if not isinstance(o.groups, int) or o.groups < 1 or x.shape[0] % o.groups:
        raise ValueError(f"small_conv: groups must divide the batch of {x.shape[0]}, got {o.groups}")
    if o.groups > 1 and o.norm != "batch":
        raise ValueError(f"small_conv: groups = {o.groups} is for norm 'batch', got norm {o.norm!r}")
    if not o.eps >= 0:
        raise ValueError(f"small_conv: eps must be at least 0, got {o.eps}")
    if not 0 <= o.dropout_p < 1:
        raise ValueError(f"small_conv: dropout_p must lie in [0, 1), got {o.dropout_p}")
    if not 0 <= o.momentum <= 1:
        raise ValueError(f"small_conv: momentum (the weight of the new batch) must lie in [0, 1], got {o.momentum}")

    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    for name, t in vectors.items():
        if t is None:
            continue
        if not isinstance(t, Tensor):
            raise TypeError(f"small_conv: {name} must be a tensor or None, got {type(t).__name__}")
        if t.shape != shape[1:2] or not t.is_contiguous():
            raise ValueError(f"small_conv: {name} must be contiguous of shape [{shape[1]}], got {list(t.shape)}")
        _check_beside(name, t, x, x.dtype if name == "bias" else wide)
    running = vectors["running_mean"] is not None
    if running != (vectors["running_var"] is not None):
        raise ValueError("small_conv: running_mean and running_var come together")
    if running and o.norm != "batch":
        raise ValueError(f"small_conv: running statistics are for norm 'batch', got norm {o.norm!r}")
    if o.use_running and not running:
        raise ValueError("small_conv: use_running needs running_mean and running_var")
    if o.dropout_p > 0:
        if not isinstance(rng, Tensor):
            raise TypeError("small_conv: dropout_p > 0 needs rng, an int64 tensor {seed, offset} of shape [2]")
        if rng.shape != (2,) or not rng.is_contiguous():
            raise ValueError(f"small_conv: rng must be contiguous of shape [2], got {list(rng.shape)}")
        _check_beside("rng", rng, x, torch.int64)

    if slots["skip_out"] is not None and o.skip_act is None:
        raise ValueError("small_conv: skip_out is given, but no skip_act")
    for name, t in slots.items():
        if t is None:
            continue
        if not isinstance(t, Tensor):
            raise TypeError(f"small_conv: {name} must be a tensor or None, got {type(t).__name__}")
        if t.shape != shape or nhwc_pitch(t) is None:
            raise ValueError(
                f"small_conv: {name} must be {list(shape)} in channels_last, or a channel slice of such a tensor, "
                f"got {list(t.shape)}"
            )
        _check_beside(name, t, x, x.dtype)
        if t.requires_grad:
            raise ValueError(f"small_conv: {name} is overwritten and must not require grad")


def _check_beside(name: str, t: Tensor, x: Tensor, dtype: torch.dtype) -> None:
    if t.dtype != dtype:
        raise TypeError(
            f"small_conv: {name} must be {_name(dtype)} beside an x of {_name(x.dtype)}, got {_name(t.dtype)}"
        )
    if t.device != x.device:
        raise ValueError(f"small_conv: {name} must be on the device of x, {x.device}, got {t.device}")


def _way(x: Tensor, weight: Tensor, slots: dict[str, Tensor | None], transposed: bool, impl: str) -> str:
    """Decide between "native", "ref" and "library", which is PyTorch's convolution and the kernels of norm_act."""
    if impl == "auto" and not x.is_cuda:
        return "library"  # oneDNN's convolution; the twin is there to be read
    way = choose("small_conv", x, impl)
    if way == "native" and x.is_cuda:
        why_not = small_conv_why_not(
            x.shape, weight.shape, transposed=transposed, dtype=x.dtype, device_type=x.device.type
        )
        for name, t in slots.items():
            if t is not None and not _is_readable(t):
                why_not = why_not or f"{name} must begin every pixel at a multiple of 16 bytes"
        if why_not and impl == "native":
            raise ValueError(f"small_conv: impl='native', but {why_not}")
        if why_not:
            errors.say_once(f"small_conv runs as a convolution and norm_act (slower): {why_not}")
            return "library"
    if way == "native" and not transposed and (x.shape[2] % 2 or x.shape[3] % 2):
        raise ValueError(f"small_conv: impl='native' needs an even map, got {list(x.shape)}")
    return "library" if impl == "auto" and way == "ref" else way


def small_conv(
    x: Tensor,
    weight: Tensor,
    norm_weight: Tensor | None = None,
    norm_bias: Tensor | None = None,
    *,
    transposed: bool,
    bias: Tensor | None = None,
    norm: str = "batch",
    groups: int = 1,
    eps: float = 1e-5,
    act: str = "none",
    slope: float = 0.2,
    dropout_p: float = 0.0,
    rng: Tensor | None = None,
    rng_stream: int = 0,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    momentum: float = 0.1,
    use_running: bool = False,
    out: Tensor | None = None,
    skip_act: str | None = None,
    skip_out: Tensor | None = None,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """`norm_act` of a 4x4 convolution of stride 2 and padding 1, or of its transpose.

    Args:
        x: (n, c, h, w), channels_last or a channel slice of a channels_last tensor. The kernels take bfloat16 and
            float16 on CUDA, up to the sizes that `small_conv_why_not` tells, and at least 64 channels on either side.
        weight: (o, c, 4, 4), transposed (c, o, 4, 4), in channels_last memory; the dtype of x. So is its gradient.
        norm_weight: (o,) float32 (float64 beside a float64 x), or None for 1: `weight` of norm_act.
        norm_bias: likewise, or None for 0: `bias` of norm_act.
        transposed: the transposed convolution, to (n, o, 2h, 2w), instead of the convolution, to (n, o, h/2, w/2).
        bias: (o,), the dtype of x, or None for 0: added to the convolution in front of the norm.
        norm: "batch", "instance" or "none", of the result of the convolution. This and what is not told here: as in
            `norm_act`.
        groups: ranges of the batch with statistics of their own.
        eps: added to the variance.
        act: "none", "relu", "leaky_relu" or "elu".
        slope: of leaky_relu.
        dropout_p: probability in [0, 1) of z = 0 in front of the activation.
        rng: int64 (2,) {seed, offset} on the device of x; needed for dropout.
        rng_stream: tells the layers of a model apart (32 bits).
        running_mean: (o,) like norm_weight, updated in place, or read with use_running=True.
        running_var: (o,) likewise.
        momentum: weight of the new batch in the running statistics.
        use_running: normalise with the running statistics instead of the batch's.
        skip_act: the second activation, as act; None for no second output.
        out: a tensor or channel slice to write y into; y shares its memory.
        skip_out: likewise, for s.
        impl: "native" (the kernels; on a CPU their readable twin, or an error), "ref" (plain PyTorch) or "auto": the
            kernels on CUDA wherever they fit, else PyTorch's convolution and norm_act; on CUDA that is said once.

    Returns:
        y, or (y, s) if skip_act is given; the dtype of x, channels_last. Twice differentiable.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
    """
    o = _Options(transposed, norm, groups, eps, act, skip_act, slope, dropout_p, rng_stream, momentum, use_running)
    vectors = {"bias": bias, "norm_weight": norm_weight, "norm_bias": norm_bias}
    vectors |= {"running_mean": running_mean, "running_var": running_var}
    slots = {"out": out, "skip_out": skip_out}
    _check(x, weight, vectors, rng, slots, o)
    if dropout_p == 0:
        rng = None
    way = _way(x, weight, slots, transposed, impl)
    if way != "native":
        z = _convolve(x, weight, bias, transposed).contiguous(memory_format=torch.channels_last)
        way = "ref" if way == "ref" else "auto"
        return _norm_act(z, norm_weight, norm_bias, rng, running_mean, running_var, out, skip_out, o, way)
    x = x if _is_readable(x) else _copied("x", x)
    weight = weight if _is_readable(weight) and nhwc_pitch(weight) == weight.shape[1] else _copied("weight", weight)
    n, _, h, w = _out_shape(x, weight, transposed)
    if n * h * w > FUSED_ROWS:  # norm_act spreads them over the GPU; the block that ends a fused launch is alone
        z = _Convolution.apply(x, weight, bias, transposed)
        return _norm_act(z, norm_weight, norm_bias, rng, running_mean, running_var, out, skip_out, o, "native")
    y, s = _SmallConv.apply(
        x, weight, bias, norm_weight, norm_bias, rng, running_mean, running_var, out, skip_out, o
    )  # fmt: skip
    return y if skip_act is None else (y, s)

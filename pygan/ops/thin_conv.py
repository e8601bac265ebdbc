"""thin_conv: convolutions with few channels on one side, the first and last layers of networks that work on images.

    z = conv(x, weight) + bias,    y = act(z),    s = skip_act(z)

Layers of 3 or 6 -> 64 channels, 4x4 stride 2 (DCGAN, Radford et al. 2015; pix2pix, Isola et al. 2017), 128 -> 3
transposed 4x4 stride 2, 512 -> 1 4x4 (the patch logit), 3 -> 64 and 64 -> 3 7x7 under reflection (Johnson et al. 2016).
They move bytes, not FLOPs: the kernels read each side once. Those are three, each linear map in both directions and its
weight: pygan::thin_spread (thin to thick), pygan::thin_gather (thick to thin) and pygan::thin_wgrad. Contracts:
csrc/common/thin.h, csrc/ops/thin_spread, csrc/ops/thin_gather. `thin_conv_ref` is the specification.
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
from pygan.ops.norm_act import nhwc_pitch
from pygan.ops.thin_gather import thin_gather

ACTS = ("none", "relu", "leaky_relu", "elu", "tanh")
_THICK_ACTS = ("none", "relu", "leaky_relu")  # what the kernels store on the side of many channels,
_THIN_ACTS = ("none", "tanh")  # and on that of few
_THICK, _MOST_THICK = 64, 512  # channels: a multiple of the one, up to the other

# (kernel, stride, padding, pad_mode, transposed): the map of csrc/common/thin.h that the layer is where its input is
# thin, and the one that it is the transpose of where its output is; None: no kernel.
_MAPS = {
    (4, 2, 1, "zeros", False): ("stride2", None),
    (4, 2, 1, "zeros", True): (None, "stride2"),
    (4, 1, 1, "zeros", False): (None, "zero_adjoint"),
    (7, 1, 3, "reflect", False): ("reflect", "reflect_adjoint"),
}


class _Options(NamedTuple):
    """Everything about a call that is not a tensor."""

    stride: int
    padding: int
    pad_mode: str
    transposed: bool
    act: str
    slope: float
    skip_act: str | None
    out_dtype: torch.dtype


class _Map(NamedTuple):
    """A layer as the kernels see it."""

    mode: str  # of csrc/common/thin.h
    spreads: bool  # from the thin side to the thick one; else its transpose


def _most_thin(mode: str) -> int:
    """The largest number of channels on the thin side."""
    return 8 if mode == "stride2" else 4


# --- the specification ------------------------------------------------------------------------------------------------


def _activate(z: Tensor, act: str, slope: float) -> Tensor:
    if act == "relu":
        return F.relu(z)
    if act == "leaky_relu":
        return F.leaky_relu(z, slope)
    if act == "elu":
        return F.elu(z)
    return torch.tanh(z) if act == "tanh" else z


class _Store(torch.autograd.Function):
    """Writes a value into a slot and returns the slot, with the value's history."""

    @staticmethod
    def forward(ctx, value: Tensor, slot: Tensor) -> Tensor:
        slot.copy_(value)
        return slot.detach()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, o: _Options) -> Tensor:
    x = x.to(weight.dtype)
    bias = None if bias is None else bias.to(weight.dtype)
    if o.transposed:
        return F.conv_transpose2d(x, weight, bias, o.stride, o.padding)
    if o.pad_mode == "reflect":
        return F.conv2d(F.pad(x, (o.padding,) * 4, mode="reflect"), weight, bias, o.stride)
    return F.conv2d(x, weight, bias, o.stride, o.padding)


def _reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    out: Tensor | None,
    skip_out: Tensor | None,
    o: _Options,
) -> tuple[Tensor, Tensor | None]:
    z = _convolve(x, weight, bias, o).to(o.out_dtype)

    def stored(act: str, slot: Tensor | None) -> Tensor:
        value = _activate(z, act, o.slope)
        if slot is not None:
            return _Store.apply(value, slot)
        return value.contiguous(memory_format=torch.channels_last)

    return stored(o.act, out), None if o.skip_act is None else stored(o.skip_act, skip_out)


def thin_conv_ref(x: Tensor, weight: Tensor, bias: Tensor | None = None, **options) -> Tensor | tuple[Tensor, Tensor]:
    """`thin_conv` in plain PyTorch, with the same arguments. Differentiable any number of times."""
    return thin_conv(x, weight, bias, **options, impl="ref")


# --- which layers the kernels take ------------------------------------------------------------------------------------


def _map_of(
    x_shape: Sequence[int], weight_shape: Sequence[int], stride: int, padding: int, pad_mode: str, transposed: bool
) -> _Map | str:
    """The layer as the kernels see it, or one line: why its geometry is none of theirs."""
    kernel = weight_shape[2]
    found = _MAPS.get((kernel, stride, padding, pad_mode, transposed)) if weight_shape[3] == kernel else None
    c_in, c_out = weight_shape[:2] if transposed else (weight_shape[1], weight_shape[0])
    mode = None if found is None else found[0 if c_in <= c_out else 1]
    if mode is None:
        way = "transposed convolution" if transposed else "convolution"
        size = f"{weight_shape[2]}x{weight_shape[3]}"
        return f"no kernel for a {size} {way} {c_in} -> {c_out} of stride {stride} and padding {padding} {pad_mode}"
    smallest = min(x_shape[2:])
    least = 4 if kernel == 7 else 1 if transposed else 2
    if smallest < least:
        return f"a map of {x_shape[2]}x{x_shape[3]} is smaller than {least}x{least}"
    return _Map(mode, spreads=c_in <= c_out)


def thin_conv_why_not(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    *,
    stride: int,
    padding: int,
    pad_mode: str,
    transposed: bool,
    dtype: torch.dtype,
    device_type: str,
) -> str:
    """One line: why the kernels are not the way to compute this layer. Empty when they are.

    x_shape: (n, c, h, w); weight_shape: (o, i, kh, kw), transposed (i, o, kh, kw); dtype: of the products, that is of
    the weight; device_type: "cuda" or another. The rest is the layer's, as for `thin_conv`.
    """
    found = _map_of(x_shape, weight_shape, stride, padding, pad_mode, transposed)
    if isinstance(found, str):
        return found
    thin, thick = sorted(weight_shape[:2])
    if thin > _most_thin(found.mode):
        return f"thin_conv takes 1 to {_most_thin(found.mode)} channels on the thin side here, got {thin}"
    if thick % _THICK or thick > _MOST_THICK:
        return f"thin_conv takes a multiple of {_THICK} up to {_MOST_THICK} channels on the thick side, got {thick}"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"{str(dtype).removeprefix('torch.')}: the library's convolution"
    if device_type != "cuda":
        return f"{device_type}: the library's convolution"
    return ""


# --- the native operators ---------------------------------------------------------------------------------------------


def _out_shape(x: Tensor, weight: Tensor, o: _Options) -> tuple[int, int, int, int]:
    n, _, h, w = x.shape
    kernel = weight.shape[2:]
    if o.transposed:
        size = [(s - 1) * o.stride - 2 * o.padding + k for s, k in zip((h, w), kernel, strict=True)]
        return n, weight.shape[1], *size
    size = [(s + 2 * o.padding - k) // o.stride + 1 for s, k in zip((h, w), kernel, strict=True)]
    return n, weight.shape[0], *size


def _rows(name: str, t: Tensor) -> Tensor:
    """A thick tensor as the kernels read it: channels_last or a channel slice, on a GPU with rows of whole 16 bytes."""
    pitch = nhwc_pitch(t)
    if pitch is not None and (not t.is_cuda or (pitch % 8 == 0 and t.data_ptr() % 16 == 0)):
        return t
    errors.say_once(f"thin_conv copies {name} on every call: it is not channels_last, or its rows are not aligned")
    return torch.empty_like(t, memory_format=torch.channels_last).copy_(t)


def _spread(t: Tensor, weight: Tensor, mode: str, like: Tensor) -> Tensor:
    """thin -> thick, without bias or activation: the gradient of a layer to its thick input `like`."""
    k = torch.empty_like(like, dtype=weight.dtype, memory_format=torch.channels_last)
    torch.ops.pygan.thin_spread(t, weight, None, k, None, mode, "none", None, 1.0)
    return k


def _gather(k: Tensor, weight: Tensor, mode: str, like: Tensor) -> Tensor:
    """thick -> thin, likewise."""
    return thin_gather(k, weight, mode=mode, out=torch.empty_like(like, memory_format=torch.channels_last))


class _ThinConv(torch.autograd.Function):
    """thin_conv on the native operators."""

    @staticmethod
    def forward(ctx, x, weight, bias, out, skip_out, o: _Options, found: _Map):
        def slot(given: Tensor | None) -> Tensor:
            if given is None:
                shape = _out_shape(x, weight, o)
                return torch.empty(shape, dtype=o.out_dtype, device=x.device, memory_format=torch.channels_last)
            if not given.is_inference():  # whoever saved what lay there for backward must not read it any more
                torch.autograd.graph.increment_version(given)
            return given.detach()  # the same memory, with a history of its own

        _beside.note_use(weight)
        y = slot(out)
        s = None if o.skip_act is None else slot(skip_out)
        if found.spreads:
            torch.ops.pygan.thin_spread(x, weight, bias, y, s, found.mode, o.act, o.skip_act, o.slope)
        else:
            thin_gather(x, weight, bias, mode=found.mode, act=o.act, out=y)
        # The masks of the activations are signs of y, which are those of z; tanh' is 1 - y^2.
        needs_y = o.act != "none" or o.skip_act is not None
        ctx.save_for_backward(x, weight, bias, y if needs_y else None)
        ctx.options, ctx.map = o, found
        ctx.set_materialize_grads(False)
        return y if s is None else (y, s)

    @staticmethod
    def backward(ctx, dy: Tensor | None, ds: Tensor | None = None):
        nothing = (None,) * 4
        if dy is None and ds is None:
            return (None, None, None, *nothing)
        x, weight, bias, y = ctx.saved_tensors
        needs = [needed and (i == 0 or wants(weight)) for i, needed in enumerate(ctx.needs_input_grad[:3])]
        if torch.is_grad_enabled():  # this backward will be differentiated: PyTorch's own formulas can be
            return (*_differentiable_gradients(dy, ds, (x, weight, bias), needs, ctx.options), *nothing)
        _beside.note_backward(weight)
        gradients = _gradients_of_spread if ctx.map.spreads else _gradients_of_gather
        return (*gradients(dy, ds, x, weight, bias, y, needs, ctx.options, ctx.map.mode), *nothing)


def _gradients_of_spread(dy, ds, x, weight, bias, y, needs, o: _Options, mode: str) -> tuple[Tensor | None, ...]:
    """Gradients of y, s to a thin x, the weight and the bias."""
    dz = dy if y is None else _through_acts(dy, ds, y, o)
    dz = _rows("a gradient", dz)
    fits = x.shape[1] < _most_thin(mode)  # the sum over the pixels needs a channel that is free
    rest = _weight_and_bias(x, dz, weight, bias, needs, mode, fits=fits, of_thick=True)
    return _gather(dz, weight, mode, like=x) if needs[0] else None, *rest


def _through_acts(dy: Tensor | None, ds: Tensor | None, y: Tensor, o: _Options) -> Tensor:
    """act'(z) * dy + skip_act'(z) * ds: norm_act's backward without a norm, where y stands for z (equal signs)."""
    dy, ds = (None if d is None else _rows("a gradient", d) for d in (dy, ds))
    none = y.new_empty((0, y.shape[1]), dtype=torch.float64 if y.dtype == torch.float64 else torch.float32)
    options = {"norm": "none", "groups": 1, "eps": 0.0, "dropout_p": 0.0, "rng_stream": 0, "use_running": False}
    return torch.ops.pygan.norm_act_backward(
        dy,
        ds,
        y,
        None,
        None,
        none,
        none,
        None,
        **options,
        act=o.act,
        skip_act=o.skip_act,
        slope=o.slope,
        need_dx=True,
    )[0]


def _gradients_of_gather(dy, ds, x, weight, bias, y, needs, o: _Options, mode: str) -> tuple[Tensor | None, ...]:
    """Gradients of a thin y to a thick x, the weight and the bias."""
    dt = dy if y is None else torch.ops.aten.tanh_backward(dy, y)
    rest = _weight_and_bias(dt, x, weight, bias, needs, mode, fits=True, of_thick=False)
    return _spread(dt, weight, mode, like=x) if needs[0] else None, *rest


def _weight_and_bias(
    t: Tensor,
    k: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    needs: list[bool],
    mode: str,
    *,
    fits: bool,
    of_thick: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """`_weight_and_bias_here`, beside the rest of the backward pass where that pays."""
    options = {"fits": fits, "of_thick": of_thick}
    if not needs[1] or not _beside.goes_beside(weight, 2.0 * weight.numel() * k[:, 0].numel()):
        return _weight_and_bias_here(t, k, weight, bias, needs, mode, **options)
    with _beside.side((weight, bias), weight, t, k) as found:
        found += _weight_and_bias_here(t, k, weight, bias, needs, mode, **options)
    return found[0], found[1]


def _weight_and_bias_here(
    t: Tensor,
    k: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    needs: list[bool],
    mode: str,
    *,
    fits: bool,
    of_thick: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of weight and bias from the thin and the thick side of the layer; the bias is that of the one or other.

    fits: the sum over the pixels of that side can come with the weight's gradient, in the same launch.
    """
    dweight = dbias = None
    if needs[2]:
        if needs[1] and fits:
            dbias = torch.empty_like(bias)
        else:
            summed = k if of_thick else t
            wide = torch.float64 if summed.dtype == torch.float64 else torch.float32
            dbias = summed.sum((0, 2, 3), dtype=wide).to(bias.dtype)
    if needs[1]:
        dweight = torch.empty_like(weight)
        sums = (dbias if fits and of_thick else None, dbias if fits and not of_thick else None)
        torch.ops.pygan.thin_wgrad(t, k, dweight, *sums, mode)
    return dweight, dbias


def _differentiable_gradients(dy, ds, inputs, needs, o: _Options) -> list[Tensor | None]:
    """The gradients through the specification: they lead to the inputs, and to dy and ds, for further derivatives."""
    # Views of the inputs: a graph of its own from here on. What carries no history gets one.
    sources = [None if t is None else t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in inputs]
    outputs = [
        (value, grad)
        for value, grad in zip(_reference(*sources, None, None, o), (dy, ds), strict=True)
        if grad is not None
    ]
    wanted = [t for t, needed in zip(sources, needs, strict=True) if needed]
    found = iter(
        torch.autograd.grad([v for v, _ in outputs], wanted, [g for _, g in outputs], create_graph=True)
        if wanted
        else ()
    )
    return [next(found) if needed else None for needed in needs]


for _op in ("thin_spread", "thin_wgrad"):
    if compiled(_op):
        torch.library.register_fake(f"pygan::{_op}", lambda *_tensors, **_options: None)


# --- the public op ----------------------------------------------------------------------------------------------------


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, o: _Options) -> None:
    """Fail at the door, by name."""
    if x.dim() != 4 or x.numel() == 0 or not x.is_floating_point():
        raise ValueError(f"thin_conv: x must hold floats of shape (n, c, h, w), got {x.dtype} {list(x.shape)}")
    if weight.dim() != 4 or weight.numel() == 0 or not weight.is_floating_point():
        raise ValueError(
            f"thin_conv: weight must hold floats of shape (o, i, kh, kw), got {weight.dtype} {list(weight.shape)}"
        )
    c_in = weight.shape[0 if o.transposed else 1]
    if x.shape[1] != c_in:
        raise ValueError(f"thin_conv: x must have the {c_in} channels of weight {list(weight.shape)}, got {x.shape[1]}")
    if o.pad_mode not in ("zeros", "reflect"):
        raise ValueError(f"thin_conv: pad_mode must be 'zeros' or 'reflect', got {o.pad_mode!r}")
    if o.pad_mode == "reflect" and (o.transposed or min(x.shape[2:]) <= o.padding):
        raise ValueError(
            f"thin_conv: reflection by {o.padding} is for convolutions of larger maps, got {list(x.shape)}"
            f"{', transposed' if o.transposed else ''}"
        )
    for name, act in (("act", o.act), ("skip_act", o.skip_act)):
        if act not in ACTS and not (act is None and name == "skip_act"):
            raise ValueError(f"thin_conv: {name} must be one of {ACTS}, got {act!r}")
    if not o.slope >= 0:
        raise ValueError(f"thin_conv: slope must be at least 0, got {o.slope}")
    if min(_out_shape(x, weight, o)) < 1:
        raise ValueError(f"thin_conv: a map of {list(x.shape)} is too small for the weight {list(weight.shape)}")
    if weight.device != x.device:
        raise ValueError(f"thin_conv: weight must be on the device of x, {x.device}, got {weight.device}")
    if bias is not None:
        c_out = weight.shape[1 if o.transposed else 0]
        if bias.shape != (c_out,):
            raise ValueError(f"thin_conv: bias must have shape [{c_out}], got {list(bias.shape)}")
        if bias.device != x.device:
            raise ValueError(f"thin_conv: bias must be on the device of x, {x.device}, got {bias.device}")


def _check_slot(name: str, t: Tensor | None, x: Tensor, weight: Tensor, o: _Options) -> None:
    if t is None:
        return
    shape = _out_shape(x, weight, o)
    if t.shape != shape or t.dtype != o.out_dtype or t.device != x.device:
        raise ValueError(
            f"thin_conv: {name} must be {o.out_dtype} {list(shape)} on {x.device}, "
            f"got {t.dtype} {list(t.shape)} on {t.device}"
        )
    if nhwc_pitch(t) is None:
        raise ValueError(f"thin_conv: {name} must be channels_last, or a channel slice of a channels_last tensor")
    if t.requires_grad:
        raise ValueError(f"thin_conv: {name} is overwritten and must not require grad")


def _why_not_here(x: Tensor, weight: Tensor, o: _Options, found: _Map | str) -> str:
    """One line: why this call does not go to the kernels. Empty when it does."""
    if isinstance(found, str):
        return found
    if x.is_cuda:
        why_not = thin_conv_why_not(
            x.shape,
            weight.shape,
            stride=o.stride,
            padding=o.padding,
            pad_mode=o.pad_mode,
            transposed=o.transposed,
            dtype=weight.dtype,
            device_type=x.device.type,
        )
        if why_not:
            return why_not
    acts = _THICK_ACTS if found.spreads else _THIN_ACTS
    if o.act not in acts or (o.skip_act is not None and (o.skip_act not in acts or not found.spreads)):
        skip = "" if o.skip_act is None else f" and skip_act {o.skip_act!r}"
        return f"there is no kernel with act {o.act!r}{skip} for this side"
    if found.spreads and o.out_dtype != weight.dtype:
        return f"the thick side has the dtype of the weight, {weight.dtype}, not {o.out_dtype}"
    if o.out_dtype not in (weight.dtype, torch.float32) or (weight.dtype == torch.float64) != (
        o.out_dtype == torch.float64
    ):
        return f"there is no kernel from {weight.dtype} to {o.out_dtype}"
    return ""


def thin_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int,
    padding: int,
    pad_mode: str = "zeros",
    transposed: bool = False,
    act: str = "none",
    slope: float = 0.2,
    skip_act: str | None = None,
    out: Tensor | None = None,
    skip_out: Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Convolution with few channels on one side, bias and activation: y = act(z), s = skip_act(z).

    Args:
        x: (n, c_in, h, w). As a thin side (1 to 8 channels; 1 to 4 where the stride is 1) any strides, float32 or the
            dtype of weight; as a thick side (multiples of 64 up to 512) channels_last or a channel slice.
        weight: (c_out, c_in, k, k), transposed (c_in, c_out, k, k), any memory format. Its dtype is that of the
            products; sums are float32.
        bias: (c_out,) or None for 0; the dtype of weight, or float32.
        stride: in pixels. The kernels take 4x4 of stride 2 and padding 1 (thin -> thick, transposed thick -> thin), 4x4
            of stride 1 and padding 1 (thick -> thin), and 7x7 of stride 1 and reflected padding 3 (both).
        padding: in pixels.
        pad_mode: "zeros" or "reflect" (as `F.pad(x, mode="reflect")`).
        transposed: as `F.conv_transpose2d`.
        act: "none", "relu" or "leaky_relu" onto a thick side, "none" or "tanh" onto a thin one; "elu" or the others in
            plain PyTorch.
        slope: of leaky_relu below 0; at least 0.
        skip_act: the second activation of the same sum; None for no second output.
        out: a tensor or channel slice to write y into; y shares its memory.
        skip_out: likewise, for s.
        out_dtype: of y and s: that of weight (also None), or float32 for a thin side.
        impl: "native" (the kernels, or an error), "ref" (plain PyTorch) or "auto": the kernels on CUDA wherever
            `thin_conv_why_not` says nothing, else plain PyTorch, which is said once. On a CPU plain PyTorch.

    Returns:
        y, or (y, s) if skip_act is given: (n, c_out, h', w') channels_last. Differentiable any number of times;
        derivatives beyond the first are plain PyTorch.

    Raises:
        ValueError: an argument does not fit; the message names it.
    """
    o = _Options(stride, padding, pad_mode, transposed, act, slope, skip_act, out_dtype or weight.dtype)
    _check(x, weight, bias, o)
    if skip_out is not None and skip_act is None:
        raise ValueError("thin_conv: skip_out is given, but no skip_act")
    _check_slot("out", out, x, weight, o)
    _check_slot("skip_out", skip_out, x, weight, o)
    if impl not in ("auto", "native", "ref"):
        raise ValueError(f"thin_conv: impl must be 'auto', 'native' or 'ref', got {impl!r}")
    # on a CPU the native operators are twins for tests: the library's convolution is the faster one
    chosen = "ref" if impl == "auto" and not x.is_cuda else choose("thin_spread", weight, impl)
    found = _map_of(x.shape, weight.shape, stride, padding, pad_mode, transposed)
    if chosen == "native":
        why_not = _why_not_here(x, weight, o, found)
        if why_not and impl == "native":
            raise ValueError(f"thin_conv: impl='native', but {why_not}")
        if why_not:
            errors.say_once(f"thin_conv runs in plain PyTorch: {why_not}")
            chosen = "ref"
    if chosen == "ref":
        y, s = _reference(x, weight, bias, out, skip_out, o)
        return y if s is None else (y, s)
    if found.spreads:
        x = x if x.dtype == torch.float32 and weight.dtype != torch.float64 else x.to(weight.dtype)
    else:
        x = _rows("x", x.to(weight.dtype))
    if bias is not None and (bias.dtype != torch.float32 or weight.dtype == torch.float64):
        bias = bias.to(weight.dtype)
    return _ThinConv.apply(x, weight, bias, out, skip_out, o, found)

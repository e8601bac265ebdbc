"""Batch- or InstanceNorm, affine, dropout, residual, activation and reflection padding in one op, with a second
activation for a skip connection.

    z = keep * ((x - mean) / sqrt(var + eps) * weight + bias),    u = z + residual
    y = act(u) with `pad` reflected pixels on each side,    s = skip_act(u)

BatchNorm: Ioffe & Szegedy 2015, here with grouped statistics; InstanceNorm: Ulyanov et al. 2016; dropout: Srivastava
et al. 2014; residual: He et al. 2015. `norm_act_ref` is the specification; csrc/ops/norm_act/norm_act.h is the
contract of the kernels.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan.errors import say_once
from pygan.ops import _native
from pygan.ops.philox import keep_mask

NORMS = ("batch", "instance", "none")
ACTS = ("none", "relu", "leaky_relu", "elu")
MAX_PAD = 3
IMPLS = ("auto", "native", "ref")


class _Options(NamedTuple):
    """Everything about a call that is not a tensor."""

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
    pad: int


# --- the specification ------------------------------------------------------------------------------------------------


def _activate(z: Tensor, act: str, slope: float) -> Tensor:
    if act == "relu":
        return F.relu(z)
    if act == "leaky_relu":
        return F.leaky_relu(z, slope)
    if act == "elu":
        return F.elu(z)
    return z


def _per_channel(v: Tensor) -> Tensor:
    return v.view(1, -1, 1, 1)


def _batch_statistics(x: Tensor, o: _Options) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(part of x, mean, biased variance) of each statistic group; the statistics broadcast against their part."""
    if o.norm == "instance":
        parts, dims = [x], (2, 3)
    else:
        parts, dims = x.chunk(o.groups), (0, 2, 3)
    groups = []
    for part in parts:
        mean = part.mean(dims, keepdim=True)
        groups.append((part, mean, (part - mean).square().mean(dims, keepdim=True)))
    return groups


def _normalize(x: Tensor, o: _Options, running_mean: Tensor | None, running_var: Tensor | None) -> Tensor:
    """(x - mean) / sqrt(var + eps) in the precision of x; updates the running statistics unless it uses them."""
    if o.norm == "none":
        return x
    if o.use_running:
        return (x - _per_channel(running_mean)) * torch.rsqrt(_per_channel(running_var) + o.eps)
    out = []
    for part, mean, var in _batch_statistics(x, o):
        out.append((part - mean) * torch.rsqrt(var + o.eps))
        if running_mean is not None:
            with torch.no_grad():
                count = part.numel() // part.shape[1]
                unbiased = var * (count / max(count - 1, 1))
                running_mean.copy_((1 - o.momentum) * running_mean + o.momentum * mean.flatten())
                running_var.copy_((1 - o.momentum) * running_var + o.momentum * unbiased.flatten())
    return torch.cat(out) if len(out) > 1 else out[0]


def _finish(
    x_hat: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, rng: Tensor | None, o: _Options
) -> Tensor:
    """Affine, dropout and residual: x_hat -> u."""
    z = x_hat
    if weight is not None:
        z = z * _per_channel(weight)
    if bias is not None:
        z = z + _per_channel(bias)
    if o.dropout_p > 0:
        keep = keep_mask(tuple(z.shape), o.dropout_p, rng, o.rng_stream)
        z = z * (keep.to(z.dtype) / (1 - o.dropout_p))  # a product: a NaN that is dropped still shows
    return z if residual is None else z + residual.to(z.dtype)


def _padded(u: Tensor, pad: int) -> Tensor:
    """F.pad(u, (pad,) * 4, mode="reflect"), with a gradient whose sums have a fixed order on a GPU too."""
    for dim in (2, 3):
        last = u.shape[dim] - 1
        before = u.narrow(dim, 1, pad).flip(dim)
        after = u.narrow(dim, last - pad, pad).flip(dim)
        u = torch.cat((before, u, after), dim)
    return u


def _stored(u: Tensor, act: str, pad: int, o: _Options, x: Tensor) -> Tensor:
    """What is stored of u beside an x: activated, padded and rounded, in this order, so that the gradients of
    reflected pixels are added up before they are rounded.
    """
    value = _activate(u, act, o.slope)
    if pad > 0:
        value = _padded(value, pad)
        if nhwc_view(x):
            value = value.contiguous(memory_format=torch.channels_last)
    return value.to(x.dtype)


def _interior(y: Tensor, pad: int) -> Tensor:
    """The pixels of a padded y that are no reflections: a view (n, c, h, w)."""
    return y[:, :, pad : y.shape[2] - pad, pad : y.shape[3] - pad]


class _Store(torch.autograd.Function):
    """Writes a value into a slice and returns the slice, with the value's history."""

    @staticmethod
    def forward(ctx, value: Tensor, out: Tensor) -> Tensor:
        out.copy_(value)
        return out.detach()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Interior(torch.autograd.Function):
    """The interior of a padded y, which holds the value already, with the value's own history."""

    @staticmethod
    def forward(ctx, value: Tensor, y: Tensor, pad: int) -> Tensor:
        return _interior(y.detach(), pad).detach()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        return grad, None, None


def _lies_in_y(o: _Options, skip_out: Tensor | None) -> bool:
    """Is s the interior of y, so that nothing is stored twice?"""
    return o.pad > 0 and o.skip_act == o.act and skip_out is None


def _reference(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    rng: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    out: Tensor | None,
    skip_out: Tensor | None,
    o: _Options,
) -> tuple[Tensor, Tensor | None]:
    wide = x if x.dtype == torch.float64 else x.float()
    u = _finish(_normalize(wide, o, running_mean, running_var), weight, bias, residual, rng, o)

    def placed(value: Tensor, slot: Tensor | None) -> Tensor:
        return value if slot is None else _Store.apply(value, slot)

    y = placed(_stored(u, o.act, o.pad, o, x), out)
    if o.skip_act is None:
        return y, None
    s = placed(_stored(u, o.skip_act, 0, o, x), skip_out)
    return y, _Interior.apply(s, y, o.pad) if _lies_in_y(o, skip_out) else s


def norm_act_ref(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, **options) -> Tensor | tuple:
    """The specification of `norm_act` in plain PyTorch, with the same arguments. Differentiable any number of times."""
    return norm_act(x, weight, bias, **options, impl="ref")


# --- the native operators ---------------------------------------------------------------------------------------------


def _statistic_rows(x: Tensor, norm: str, groups: int, use_running: bool) -> int:
    """Rows of the (rows, c) tables mean and rstd that the operator returns."""
    if norm == "none":
        return 0
    return 1 if use_running else x.shape[0] if norm == "instance" else groups


def _register() -> None:
    """Tell torch what the native operators return without running them, and how the backward one is differentiated."""

    @torch.library.register_fake("pygan::norm_act")
    def _(
        x, weight, bias, rng, running_mean, running_var, y, s, residual=None, *, norm, groups, use_running, **_options
    ):
        table = (_statistic_rows(x, norm, groups, use_running), x.shape[1])
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return x.new_empty(table, dtype=dtype), x.new_empty(table, dtype=dtype)

    @torch.library.register_fake("pygan::norm_act_backward")
    def _(dy, ds, x, weight, bias, mean, rstd, rng, residual=None, *, need_dx, need_dresidual=False, **_options):
        dx, dresidual = (
            torch.empty_like(x, memory_format=torch.channels_last) if needed else x.new_empty(0)
            for needed in (need_dx, need_dresidual)
        )
        of = mean.new_empty
        return dx, of(0 if weight is None else x.shape[1]), of(0 if bias is None else x.shape[1]), dresidual

    torch.library.register_autograd(
        "pygan::norm_act_backward", _backward_of_backward, setup_context=_save_for_backward_of_backward
    )


def _save_for_backward_of_backward(ctx, inputs, keyword_only_inputs, output) -> None:
    ctx.save_for_backward(*inputs)
    ctx.options = dict(keyword_only_inputs)


def _backward_of_backward(ctx, ddx: Tensor, ddweight: Tensor, ddbias: Tensor, ddresidual: Tensor) -> tuple:
    """Gradients of norm_act_backward through the specification, exact to any order.

    With statistics of the batch, mean and rstd are what they are: functions of x. The derivative to x is the total
    one, and that to mean and rstd is none.
    """
    dy, ds, x, weight, bias, mean, rstd, rng, residual = ctx.saved_tensors
    options = dict(ctx.options)
    need_dx, need_dresidual = options.pop("need_dx"), options.pop("need_dresidual")
    o = _Options(momentum=0.0, **options)
    with torch.enable_grad():
        # Views of the inputs: a graph of its own from here on, that still leads to the inputs for a third derivative.
        # What carries no history (the first backward of a plain call) gets one.
        def source(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.view_as(t) if t.requires_grad else t.detach().requires_grad_()

        dy, ds, x, weight, bias, residual = map(source, (dy, ds, x, weight, bias, residual))
        # Forward kept no residual where no activation needs it: then any is as good, but for its derivative.
        added = residual if residual is not None or not need_dresidual else torch.zeros_like(x, requires_grad=True)
        wide = x if x.dtype == torch.float64 else x.float()
        if o.use_running and o.norm != "none":
            x_hat = (wide - _per_channel(mean)) * _per_channel(rstd)
        else:
            x_hat = _normalize(wide, o, None, None)
        u = _finish(x_hat, weight, bias, added, rng, o)
        outputs = [
            (_stored(u, act, pad, o, x), grad)
            for act, pad, grad in ((o.act, o.pad, dy), (o.skip_act, 0, ds))
            if grad is not None
        ]
        wanted = [
            (t, dd)
            for t, dd, need in (
                (x, ddx, need_dx),
                (weight, ddweight, True),
                (bias, ddbias, True),
                (added, ddresidual, need_dresidual),
            )
            if t is not None and need
        ]
        first = torch.autograd.grad(
            [y for y, _ in outputs],
            [t for t, _ in wanted],
            [grad for _, grad in outputs],
            create_graph=True,
            materialize_grads=True,
        )
    inputs = [t for t in (dy, ds, x, weight, bias, residual) if t is not None]
    second = iter(
        torch.autograd.grad(
            first, inputs, [dd for _, dd in wanted], create_graph=torch.is_grad_enabled(), allow_unused=True
        )
    )
    *grads, dresidual = (None if t is None else next(second) for t in (dy, ds, x, weight, bias, residual))
    return *grads, None, None, None, dresidual


def nhwc_view(t: Tensor) -> bool:
    """Can the kernels walk this (n, c, h, w) tensor? The channels of a pixel must be neighbours in memory.

    True for channels_last, and for a slice of such a tensor along any dimension: the interior of a padded one.
    """
    n, c, h, w = t.shape
    per_sample, per_channel, per_row, per_pixel = t.stride()
    return (
        (c == 1 or per_channel == 1)
        and (w == 1 or per_pixel >= c)
        and (h == 1 or per_row >= c)
        and (n == 1 or per_sample >= c)
    )


def nhwc_pitch(t: Tensor) -> int | None:
    """Elements between neighbouring pixels of a channels_last (n, c, h, w) tensor or a channel slice of one.

    None for any other layout: the kernels cannot walk it. Strides of dimensions of size 1 say nothing and are ignored.
    """
    n, c, h, w = t.shape
    per_sample, per_channel, per_row, per_pixel = t.stride()
    pitch = per_pixel if w > 1 else per_row if h > 1 else per_sample if n > 1 else c
    fits = (
        pitch >= c
        and (c == 1 or per_channel == 1)
        and (w == 1 or per_pixel == pitch)
        and (h == 1 or per_row == pitch * w)
        and (n == 1 or per_sample == pitch * w * h)
    )
    return pitch if fits else None


def _as_nhwc(grad: Tensor | None) -> Tensor | None:
    """A gradient as the kernels read it. Convolutions give channels_last; the gradient of a sum, say, does not."""
    if grad is None or nhwc_view(grad):
        return grad
    return grad.contiguous(memory_format=torch.channels_last)


class _NormAct(torch.autograd.Function):
    """norm_act on the native operators."""

    @staticmethod
    def forward(ctx, x, weight, bias, residual, rng, running_mean, running_var, out, skip_out, o: _Options):
        def slot(given: Tensor | None, pad: int) -> Tensor:
            if given is None:
                n, c, h, w = x.shape
                shape = (n, c, h + 2 * pad, w + 2 * pad)
                return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
            if not given.is_inference():  # whoever saved what lay there for backward must not read it any more
                torch.autograd.graph.increment_version(given)
            return given.detach()  # the same memory, with a history of its own

        in_y = _lies_in_y(o, skip_out)
        y = slot(out, o.pad)
        s = None if o.skip_act is None or in_y else slot(skip_out, 0)
        options = o._asdict()
        if in_y:
            options["skip_act"] = None
        mean, rstd = torch.ops.pygan.norm_act.default(
            x, weight, bias, rng, running_mean, running_var, y, s, residual, **options
        )
        # What masks are made of: x, and a residual where there are masks.
        masked = o.act != "none" or o.skip_act not in (None, "none")
        ctx.save_for_backward(x, weight, bias, residual if masked else None, mean, rstd, rng)
        ctx.options = o
        ctx.set_materialize_grads(False)
        return y, _interior(y.detach(), o.pad).detach() if in_y else s

    @staticmethod
    def backward(ctx, dy: Tensor | None, ds: Tensor | None):
        nothing = (None,) * 6
        if dy is None and ds is None:
            return (None,) * 4 + nothing
        options = ctx.options._asdict()
        del options["momentum"]
        need_dx, need_dweight, need_dbias, need_dresidual = ctx.needs_input_grad[:4]
        x, weight, bias, residual, mean, rstd, rng = ctx.saved_tensors
        # Without activation, reflections and a second gradient, that of the sum is that of the residual.
        passed_on = need_dresidual and ds is None and ctx.options.act == "none" and ctx.options.pad == 0
        dx, dweight, dbias, dresidual = torch.ops.pygan.norm_act_backward.default(
            _as_nhwc(dy), _as_nhwc(ds), x, weight, bias, mean, rstd, rng, residual,
            **options, need_dx=need_dx, need_dresidual=need_dresidual and not passed_on,
        )  # fmt: skip
        return (
            dx if need_dx else None,
            dweight if need_dweight else None,
            dbias if need_dbias else None,
            None if not need_dresidual else dy if passed_on else dresidual,
            *nothing,
        )


if _native.available() and hasattr(torch.ops.pygan, "norm_act"):
    _register()


# --- the public op ----------------------------------------------------------------------------------------------------


def _check_like_x(name: str, t: Tensor, x: Tensor) -> None:
    if not isinstance(t, Tensor):
        raise TypeError(f"norm_act: {name} must be a tensor or None, got {type(t).__name__}")
    if t.shape != x.shape or t.dtype != x.dtype or t.device != x.device:
        raise ValueError(
            f"norm_act: {name} must be like x, {x.dtype} {list(x.shape)} on {x.device}, "
            f"got {t.dtype} {list(t.shape)} on {t.device}"
        )


def _check(
    x: Tensor,
    parameters: dict[str, Tensor | None],
    residual: Tensor | None,
    rng: Tensor | None,
    slots: dict[str, Tensor | None],
    impl: str,
    o: _Options,
) -> None:
    """Fail at the door, by name."""
    if not isinstance(x, Tensor):
        raise TypeError(f"norm_act: x must be a tensor, got {type(x).__name__}")
    if x.dim() != 4 or x.numel() == 0:
        raise ValueError(f"norm_act: x must have shape (n, c, h, w) and not be empty, got {tuple(x.shape)}")
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        raise TypeError(f"norm_act: x must be float32, bfloat16, float16 or float64, got {x.dtype}")
    if o.norm not in NORMS:
        raise ValueError(f"norm_act: norm must be one of {NORMS}, got {o.norm!r}")
    if o.act not in ACTS:
        raise ValueError(f"norm_act: act must be one of {ACTS}, got {o.act!r}")
    if o.skip_act is not None and o.skip_act not in ACTS:
        raise ValueError(f"norm_act: skip_act must be None or one of {ACTS}, got {o.skip_act!r}")
    if impl not in IMPLS:
        raise ValueError(f"norm_act: impl must be one of {IMPLS}, got {impl!r}")
    if not isinstance(o.groups, int) or o.groups < 1 or x.shape[0] % o.groups:
        raise ValueError(f"norm_act: groups must divide the batch of {x.shape[0]}, got {o.groups}")
    if o.groups > 1 and o.norm != "batch":
        raise ValueError(f"norm_act: groups = {o.groups} is for norm 'batch', got norm {o.norm!r}")
    if not o.eps >= 0:
        raise ValueError(f"norm_act: eps must be at least 0, got {o.eps}")
    if not 0 <= o.dropout_p < 1:
        raise ValueError(f"norm_act: dropout_p must lie in [0, 1), got {o.dropout_p}")
    if not 0 <= o.momentum <= 1:
        raise ValueError(f"norm_act: momentum (the weight of the new batch) must lie in [0, 1], got {o.momentum}")
    if not isinstance(o.pad, int) or not 0 <= o.pad <= MAX_PAD:
        raise ValueError(f"norm_act: pad must be a whole number from 0 to {MAX_PAD}, got {o.pad}")
    if min(x.shape[2:]) <= o.pad:
        raise ValueError(
            f"norm_act: reflection by pad = {o.pad} needs more than {o.pad} rows and columns, got {tuple(x.shape)}"
        )
    if o.pad > 0 and slots["out"] is not None:
        raise ValueError("norm_act: out is for pad 0: a padded y is a tensor of its own")
    if residual is not None:
        _check_like_x("residual", residual, x)

    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    for name, t in parameters.items():
        if t is None:
            continue
        if not isinstance(t, Tensor):
            raise TypeError(f"norm_act: {name} must be a tensor or None, got {type(t).__name__}")
        if t.shape != x.shape[1:2]:
            raise ValueError(f"norm_act: {name} must have shape (x.size(1),) = [{x.shape[1]}], got {list(t.shape)}")
        if t.dtype != wide:
            raise TypeError(f"norm_act: {name} must be {wide} beside an x of {x.dtype}, got {t.dtype}")
        if t.device != x.device:
            raise ValueError(f"norm_act: {name} must be on the device of x, {x.device}, got {t.device}")
        if not t.is_contiguous():
            raise ValueError(f"norm_act: {name} must be contiguous")
    running = parameters["running_mean"] is not None
    if running != (parameters["running_var"] is not None):
        raise ValueError("norm_act: running_mean and running_var come together")
    if running and o.norm != "batch":
        raise ValueError(f"norm_act: running statistics are for norm 'batch', got norm {o.norm!r}")
    if o.use_running and not running:
        raise ValueError("norm_act: use_running needs running_mean and running_var")

    if o.dropout_p > 0:
        if not isinstance(rng, Tensor):
            raise TypeError("norm_act: dropout_p > 0 needs rng, an int64 tensor {seed, offset} of shape [2]")
        if rng.shape != (2,) or rng.dtype != torch.int64 or rng.device != x.device or not rng.is_contiguous():
            raise ValueError(
                f"norm_act: rng must be int64 of shape [2] on {x.device}, "
                f"got {rng.dtype} {list(rng.shape)} on {rng.device}"
            )
    if slots["skip_out"] is not None and o.skip_act is None:
        raise ValueError("norm_act: skip_out is given, but no skip_act")
    for name, t in slots.items():
        if t is None:
            continue
        _check_like_x(name, t, x)
        if nhwc_pitch(t) is None:
            raise ValueError(f"norm_act: {name} must be channels_last, or a channel slice of a channels_last tensor")
        if t.requires_grad:
            raise ValueError(f"norm_act: {name} is overwritten and must not require grad")


def _why_not_native(x: Tensor, residual: Tensor | None) -> str:
    """One line: why the kernels cannot take these tensors. Empty when they can."""
    if not _native.available():
        return _native.why_missing()
    if x.device.type not in ("cpu", "cuda"):
        return f"there is no kernel for {x.device.type}"
    if x.is_cuda and not _native.has_cuda_kernels():
        return "the CUDA kernels were not compiled in; install the CUDA toolkit and reinstall pygan"
    if x.dtype == (torch.float64 if x.is_cuda else torch.float16):
        return f"there is no {x.device.type} kernel for {x.dtype}"
    if not nhwc_view(x):
        return "x is not channels_last; convert the model and its input with .to(memory_format=torch.channels_last)"
    if residual is not None and not nhwc_view(residual):
        return "residual is not channels_last"
    return ""


def norm_act(
    x: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *,
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
    residual: Tensor | None = None,
    pad: int = 0,
    out: Tensor | None = None,
    skip_act: str | None = None,
    skip_out: Tensor | None = None,
    impl: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """Normalise, scale and shift, drop, add, activate, pad: y = pad(act(u)), s = skip_act(u) with
    u = dropout(norm(x) * weight + bias) + residual.

    Args:
        x: (n, c, h, w), channels_last or a channel slice of a channels_last tensor; float32, bfloat16, float16 (CUDA)
            or float64 (CPU). Computed in float32 (float64 for float64).
        weight: (c,) float32 (float64 beside a float64 x), or None for 1.
        bias: likewise, or None for 0.
        norm: "batch", statistics over (n, h, w); "instance", over (h, w) of each sample; "none".
        groups: the batch is this many equal ranges of samples, each with its own batch statistics: the same bits as
            one call for each.
        eps: added to the (biased) variance.
        act: "none", "relu", "leaky_relu" or "elu" (alpha 1).
        slope: of leaky_relu where z <= 0, for act and skip_act.
        dropout_p: probability in [0, 1) of z = 0; what is kept is divided by 1 - p. The mask is drawn again in
            backward, so `rng` must not change in between.
        rng: int64 (2,) {seed, offset} on the device of x; needed for dropout.
        rng_stream: tells the layers of a model apart (32 bits).
        running_mean: (c,) like weight; updated in place from the batch statistics, group after group, or read with
            use_running=True.
        running_var: (c,) likewise; the update takes the unbiased variance, as PyTorch.
        momentum: weight of the new batch in the running statistics (Keras momentum 0.99 is 0.01 here).
        use_running: normalise with the running statistics instead of the batch's.
        residual: (n, c, h, w), the dtype and device of x: added in front of both activations. Any tensor whose
            channels are neighbours in memory, such as the interior of a padded one.
        pad: 0 to 3 reflected pixels on each side of y, as `F.pad(y, (pad,) * 4, mode="reflect")`; h, w > pad.
        out: a tensor or channel slice like x to write y into; y shares its memory. For pad 0.
        skip_act: the second activation, as act; None for no second output.
        skip_out: likewise, for s, which has no padding. With pad > 0, skip_act == act and no skip_out, s is a view of
            the interior of y, and nothing is stored twice.
        impl: "native" (the C++/CUDA kernels, or an error), "ref" (plain PyTorch) or "auto": native wherever a kernel
            takes x, else ref, said once. On the CPU too: forward and backward took a half to a fifth of the time of
            ref at every pix2pix layer from 64 channels at 128x128 to 512 at 1x1 (benchmarks/bench_norm_act.py).
            There ELU without a norm is ref's.

    Returns:
        y, or (y, s) if skip_act is given; y (n, c, h + 2 * pad, w + 2 * pad), s (n, c, h, w), the dtype of x. Twice
        differentiable. A NaN in x shows in y.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
    """
    o = _Options(norm, groups, eps, act, skip_act, slope, dropout_p, rng_stream, momentum, use_running, pad)
    parameters = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    _check(x, parameters, residual, rng, {"out": out, "skip_out": skip_out}, impl, o)
    why_not = "" if impl == "ref" else _why_not_native(x, residual)
    if why_not and impl == "native":
        raise ValueError(f"norm_act: impl='native', but {why_not}")
    if why_not:
        say_once(f"norm_act runs in plain PyTorch, which is slower: {why_not}")
    # The twin's exp is not vectorised: ELU alone took 4 to 28 times as long as PyTorch's at the layers of BEGAN.
    plain_elu = impl == "auto" and x.device.type == "cpu" and norm == "none" and act == "elu" and dropout_p == 0
    implementation = _reference if impl == "ref" or why_not or plain_elu else _NormAct.apply
    if dropout_p == 0:
        rng = None
    y, s = implementation(x, weight, bias, residual, rng, running_mean, running_var, out, skip_out, o)
    return y if skip_act is None else (y, s)

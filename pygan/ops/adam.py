"""adam: one step of Adam over flat buffers, working copy and average included; and the loss scale of float16.

Contract: csrc/ops/adam/adam.h. The references below are the specification.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pygan.ops._impl import choose, compiled

_GRADS = (torch.float32, torch.bfloat16, torch.float16)
_LOW = (torch.bfloat16, torch.float16)


def _in_memory_order(grad: Tensor) -> Tensor:
    """(numel,): the values of a tensor without gaps, as they follow each other in memory."""
    return grad.as_strided((grad.numel(),), (1,))


@torch.no_grad()
def adam_ref(
    param: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    grads: Sequence[Tensor],
    offsets: Sequence[int],
    *,
    hyper: Tensor,
    step: Tensor,
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    low: Tensor | None = None,
    ema: Tensor | None = None,
    ema_weight: float = 0.0,
    scale: Tensor | None = None,
    found_inf: Tensor | None = None,
) -> None:
    """`adam_` in plain PyTorch: what the kernels must equal. No argument checks."""
    dtype = param.dtype
    lr, beta1, beta2 = hyper.double().unbind()
    t = step + 1
    rate = (lr / -torch.expm1(t * torch.log(beta1))).to(dtype)
    root = torch.sqrt(-torch.expm1(t * torch.log(beta2))).to(dtype)
    weight1, weight2, lr_decay = (1 - beta1).to(dtype), (1 - beta2).to(dtype), (lr * weight_decay).to(dtype)
    for grad, offset in zip(grads, offsets, strict=True):
        here = slice(offset, offset + grad.numel())
        p, g = param[here], _in_memory_order(grad).to(dtype)
        if scale is not None:
            g = g * (1 / scale.to(dtype))
        if decoupled:
            p = p - lr_decay * p
        else:
            g = g + weight_decay * p
        m = torch.lerp(exp_avg[here], g, weight1)
        v = torch.lerp(exp_avg_sq[here], g * g, weight2)
        p = p - rate * (m / (torch.sqrt(v) / root + eps))
        new = [(param, p), (exp_avg, m), (exp_avg_sq, v)]
        if ema is not None:
            new.append((ema, torch.lerp(ema[here], p, ema_weight)))
        if low is not None:
            new.append((low, p.to(low.dtype)))
        for flat, value in new:
            flat[here] = value if found_inf is None else torch.where(found_inf == 0, value, flat[here])


def adam_(
    param: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    grads: Sequence[Tensor],
    offsets: Sequence[int],
    *,
    hyper: Tensor,
    step: Tensor,
    eps: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    low: Tensor | None = None,
    ema: Tensor | None = None,
    ema_weight: float = 0.0,
    scale: Tensor | None = None,
    found_inf: Tensor | None = None,
    impl: str = "auto",
) -> None:
    """One step of Adam (Kingma & Ba 2015, algorithm 1) in place, as `torch.optim.Adam`; AdamW if `decoupled`.

    The net's parameters lie in one flat tensor, and everything that follows from a new value is written with it. Only
    the slices of `grads` change, so a step may be made in several calls for different gradients. Nothing waits for the
    GPU and nothing is allocated: a CUDA graph can hold it.

    Args:
        param: (N,) float32, contiguous, beginning at a multiple of 16 bytes (as all that is (N,)); float64 on the CPU.
        exp_avg: (N,) like param: first moment.
        exp_avg_sq: (N,) like param: second moment.
        grads: float32, bfloat16 or float16, mixed at will (float64 beside a float64 param); any shape and order of
            dimensions, but without gaps: the i-th value in memory belongs to param[offset + i].
        offsets: where the slice of each gradient begins, multiples of 8. Slices do not overlap.
        hyper: (3,) {lr, beta1, beta2} on the device, float64 or float32. Of float32 numbers, 1 - beta2 is that of the
            rounded beta2: with 0.999 off by 1.3e-5.
        step: one int64 on the device, the steps that were done before; it is not changed.
        eps: added to the root of the second moment.
        weight_decay: factor of param that is added to the gradient (L2), or of lr * param, subtracted from param.
        decoupled: False: the former; True: the latter (Loshchilov & Hutter 2019).
        low: (N,) bfloat16 or float16: becomes the new param, rounded.
        ema: (N,) like param: moves towards the new param,
        ema_weight: by this part of the way, between 0 and 1.
        scale: one float32 on the device: the gradients are divided by it.
        found_inf: one float32 on the device: where it is not 0, nothing changes.
        impl: "native" (the kernels), "ref" (plain PyTorch) or "auto" (the faster one).

    Raises:
        ValueError: an argument does not fit the description above.
    """
    _check_flat(param, exp_avg=exp_avg, exp_avg_sq=exp_avg_sq, ema=ema)
    if low is not None and (low.dtype not in _LOW or not _lies_beside(low, param)):
        raise ValueError(f"adam_: low must be contiguous bfloat16 or float16 like param, {_told(param)}; {_got(low)}")
    if hyper.shape != (3,) or hyper.dtype not in (torch.float32, torch.float64) or hyper.device != param.device:
        raise ValueError(f"adam_: hyper must be (3,) float32 or float64 on {param.device}, {_got(hyper)}")
    _check_scalar("adam_", "step", step, torch.int64, param.device)
    for name, value in (("scale", scale), ("found_inf", found_inf)):
        if value is not None:
            _check_scalar("adam_", name, value, torch.float32, param.device)
    if not eps >= 0 or not weight_decay >= 0 or not 0 <= ema_weight <= 1:
        raise ValueError(
            "adam_: eps and weight_decay must be at least 0 and ema_weight between 0 and 1, "
            f"got {eps}, {weight_decay} and {ema_weight}"
        )
    _check_grads("adam_", grads, (torch.float64,) if param.dtype == torch.float64 else _GRADS, param.device)
    _check_slices(grads, offsets, param.numel())
    if choose("adam_", param, impl) == "ref":
        adam_ref(
            param,
            exp_avg,
            exp_avg_sq,
            grads,
            offsets,
            hyper=hyper,
            step=step,
            eps=eps,
            weight_decay=weight_decay,
            decoupled=decoupled,
            low=low,
            ema=ema,
            ema_weight=ema_weight,
            scale=scale,
            found_inf=found_inf,
        )
        return
    torch.ops.pygan.adam_(
        param,
        exp_avg,
        exp_avg_sq,
        list(grads),
        list(offsets),
        hyper,
        step,
        eps,
        weight_decay,
        decoupled,
        low,
        ema,
        ema_weight,
        scale,
        found_inf,
    )


@torch.no_grad()
def find_inf_ref(grads: Sequence[Tensor], found_inf: Tensor) -> None:
    """`find_inf_` in plain PyTorch: what the kernels must equal. No argument checks."""
    for grad in grads:
        found_inf.masked_fill_(~grad.isfinite().all(), 1.0)


def find_inf_(grads: Sequence[Tensor], found_inf: Tensor, *, impl: str = "auto") -> None:
    """Set `found_inf` to 1 where any value of any gradient is Inf or NaN; else leave it as it is.

    Args:
        grads: float32, bfloat16, float16 (float64 on the CPU), without gaps.
        found_inf: one float32 on the device of the gradients.
        impl: "native" (the kernels), "ref" (plain PyTorch) or "auto" (the faster one).

    Raises:
        ValueError: an argument does not fit the description above.
    """
    _check_scalar("find_inf_", "found_inf", found_inf, torch.float32, found_inf.device)
    dtypes = _GRADS if found_inf.is_cuda else (*_GRADS, torch.float64)
    _check_grads("find_inf_", grads, dtypes, found_inf.device)
    if choose("find_inf_", found_inf, impl) == "ref":
        find_inf_ref(grads, found_inf)
    else:
        torch.ops.pygan.find_inf_(list(grads), found_inf)


@torch.no_grad()
def loss_scale_update_ref(
    scale: Tensor,
    growth_tracker: Tensor,
    found_inf: Tensor,
    *,
    growth: float = 2.0,
    backoff: float = 0.5,
    interval: int = 2000,
) -> None:
    """`loss_scale_update_` in plain PyTorch: what the kernels must equal. No argument checks."""
    bad = found_inf != 0
    grows = ~bad & (growth_tracker + 1 >= interval)
    grown = torch.where((scale * growth).isfinite(), scale * growth, scale)
    scale.copy_(torch.where(bad, scale * backoff, torch.where(grows, grown, scale)))
    growth_tracker.copy_(torch.where(bad | grows, 0, growth_tracker + 1))
    found_inf.zero_()


def loss_scale_update_(
    scale: Tensor,
    growth_tracker: Tensor,
    found_inf: Tensor,
    *,
    growth: float = 2.0,
    backoff: float = 0.5,
    interval: int = 2000,
    impl: str = "auto",
) -> None:
    """Move a loss scale as `torch.amp.GradScaler.update` does, on the device; then `found_inf` is 0 again.

    Args:
        scale: one float32: times `backoff` after a step whose gradients were not finite, times `growth` (unless that
            is Inf) after `interval` steps in a row whose gradients were.
        growth_tracker: one int32 on the device of scale: these steps so far.
        found_inf: one float32 on the device of scale: not 0 where the gradients of this step were not finite.
        growth: greater than 1.
        backoff: between 0 and 1.
        interval: steps, at least 1.
        impl: "native" (the kernels), "ref" (plain PyTorch) or "auto" (the faster one).

    Raises:
        ValueError: an argument does not fit the description above.
    """
    _check_scalar("loss_scale_update_", "scale", scale, torch.float32, scale.device)
    _check_scalar("loss_scale_update_", "growth_tracker", growth_tracker, torch.int32, scale.device)
    _check_scalar("loss_scale_update_", "found_inf", found_inf, torch.float32, scale.device)
    if not 1 < growth < math.inf or not 0 < backoff < 1 or interval < 1:
        raise ValueError(
            "loss_scale_update_: growth must be greater than 1, backoff between 0 and 1 and interval at least 1, "
            f"got {growth}, {backoff} and {interval}"
        )
    if choose("loss_scale_update_", scale, impl) == "ref":
        loss_scale_update_ref(scale, growth_tracker, found_inf, growth=growth, backoff=backoff, interval=interval)
    else:
        torch.ops.pygan.loss_scale_update_(scale, growth_tracker, found_inf, growth, backoff, interval)


# ---- errors


def _told(param: Tensor) -> str:
    return f"{list(param.shape)} on {param.device}"


def _got(t: Tensor) -> str:
    return f"got {t.dtype} {list(t.shape)} on {t.device}"


def _lies_beside(t: Tensor, param: Tensor) -> bool:
    return t.shape == param.shape and t.device == param.device and t.is_contiguous()


def _check_flat(param: Tensor, **others: Tensor | None) -> None:
    if param.dtype not in (torch.float32, torch.float64) or param.dim() != 1 or not param.is_contiguous():
        raise ValueError(f"adam_: param must be contiguous float32 or float64 of shape (N,), {_got(param)}")
    for name, t in others.items():
        if t is not None and (t.dtype != param.dtype or not _lies_beside(t, param)):
            raise ValueError(f"adam_: {name} must be contiguous {param.dtype} like param, {_told(param)}; {_got(t)}")


def _check_scalar(op: str, name: str, t: Tensor, dtype: torch.dtype, device: torch.device) -> None:
    if t.numel() != 1 or t.dtype != dtype or t.device != device:
        raise ValueError(f"{op}: {name} must be one {dtype} value on {device}, {_got(t)}")


def _check_grads(op: str, grads: Sequence[Tensor], dtypes: Sequence[torch.dtype], device: torch.device) -> None:
    if isinstance(grads, Tensor):
        raise ValueError(f"{op}: grads must be a sequence of tensors, got one tensor")
    for i, grad in enumerate(grads):
        if grad.dtype not in dtypes or grad.device != device:
            raise ValueError(f"{op}: grads[{i}] must be one of {', '.join(map(str, dtypes))} on {device}, {_got(grad)}")
        if not _is_dense(grad):
            raise ValueError(
                f"{op}: grads[{i}] must fill one run of memory, got the shape {list(grad.shape)} with gaps or overlaps"
            )


def _is_dense(t: Tensor) -> bool:
    if t.layout != torch.strided:
        return False
    run = 1
    for stride, size in sorted(zip(t.stride(), t.shape, strict=True)):
        if size == 1:
            continue
        if stride != run:
            return t.numel() == 0
        run *= size
    return True


def _check_slices(grads: Sequence[Tensor], offsets: Sequence[int], total: int) -> None:
    if len(offsets) != len(grads):
        raise ValueError(f"adam_: offsets must hold one number for each of {len(grads)} gradients, got {len(offsets)}")
    for i, (grad, offset) in enumerate(zip(grads, offsets, strict=True)):
        if offset < 0 or offset % 8 or offset + grad.numel() > total:
            raise ValueError(
                f"adam_: offsets[{i}] must be a multiple of 8 that leaves room for {grad.numel()} of {total} values, "
                f"got {offset}"
            )
    end = 0
    for offset, count in sorted((offset, grad.numel()) for grad, offset in zip(grads, offsets, strict=True)):
        if count and offset < end:
            raise ValueError(f"adam_: the slice that begins at the offset {offset} overlaps the one before it")
        end = max(end, offset + count)


if compiled("adam_"):
    torch.library.register_fake("pygan::adam_", lambda *arguments: None)
    torch.library.register_fake("pygan::find_inf_", lambda grads, found_inf: None)
    torch.library.register_fake("pygan::loss_scale_update_", lambda *arguments: None)

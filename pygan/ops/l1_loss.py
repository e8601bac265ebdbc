"""l1_loss: mean absolute difference; value and gradient in one pass.

Contract: csrc/ops/l1_loss/l1_loss.h. The reference below is the specification.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pygan import errors
from pygan.ops._autograd import may_overwrite
from pygan.ops._impl import choose, compiled

# Values up to which the native twin is faster on a CPU: fewer PyTorch calls, but a sum that is not vectorised
# (benchmarks/bench_l1_loss.py, forward and backward, one core).
_CPU_LIMIT = 8192


def l1_loss_ref(a: Tensor, b: Tensor, *, weight: float = 1.0) -> Tensor:
    """`l1_loss` in plain PyTorch: what the kernels must equal."""
    if a.dtype != torch.float64:
        a, b = a.float(), b.float()
    return weight * (a - b).abs().mean()


def l1_loss(a: Tensor, b: Tensor, *, weight: float = 1.0, impl: str = "auto") -> Tensor:
    """weight * mean |a - b|, the reconstruction loss of pix2pix (Isola 2017, eq. 3).

    Args:
        a: any shape; float32, bfloat16, float16 or float64.
        b: the shape of a. Its dtype may differ: a 16-bit output of a network goes beside its float32 target
            without a cast.
        weight: factor of the loss.
        impl: "native" (the kernels), "ref" (plain PyTorch) or "auto" (the faster one).

    Returns:
        A 0-d tensor, float32 (float64 for float64 inputs). Differentiable in a and b with sign(0) = 0, any number of
        times: the second derivative is 0.

    Raises:
        ValueError: the shapes differ, a tensor is empty or does not hold floats.
    """
    check("l1_loss", a, b)
    a, b = same_dtype(a, b)
    if choose("l1_loss", a, impl, cpu_limit=_CPU_LIMIT) == "ref":
        return l1_loss_ref(a, b, weight=weight)
    a, b, unit = prepare(a, b, weight)
    return _L1Loss.apply(a, b, weight, unit)


def check(op: str, a: Tensor, b: Tensor) -> None:
    """The ValueErrors of `l1_loss` in the name of `op`."""
    if a.shape != b.shape:
        raise ValueError(f"{op}: a and b must have the same shape, got {list(a.shape)} and {list(b.shape)}")
    if not (a.is_floating_point() and b.is_floating_point()) or a.numel() == 0:
        raise ValueError(f"{op}: a and b must hold floats, at least one, got {a.dtype}, {b.dtype} {list(a.shape)}")
    if a.device != b.device:
        raise ValueError(f"{op}: a and b must be on the same device, got {a.device} and {b.device}")


def prepare(a: Tensor, b: Tensor, weight: float) -> tuple[Tensor, Tensor, float]:
    """a and b (of `same_dtype`) in a layout that the kernels take, and the unit of their gradient."""
    a, b = _same_layout(a, b)
    # float16 keeps the sign alone, and the rest in `unit`, until the loss scaler's factor is known.
    return a, b, (weight or 1.0) / a.numel() if a.dtype == torch.float16 else 1.0


def same_dtype(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Casts, all of them exact, until the dtypes are a pair that the kernels take."""
    if a.dtype == b.dtype:
        return a, b
    if torch.float64 in (a.dtype, b.dtype):
        return a.double(), b.double()
    # a keeps its 16 bits where b is a mere target; a gradient of b would be rounded to them
    return (a if not b.requires_grad else a.float()), b.float()


def _same_layout(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both contiguous, or both channels_last."""
    layout = torch.contiguous_format
    if a.dim() == 4 and not a.is_contiguous() and a.is_contiguous(memory_format=torch.channels_last):
        layout = torch.channels_last
    if not (a.is_contiguous(memory_format=layout) and b.is_contiguous(memory_format=layout)):
        errors.say_once("l1_loss copies an input on every call: a and b differ in memory format, or have gaps")
    return a.contiguous(memory_format=layout), b.contiguous(memory_format=layout)


def _fake(a, b, weight, unit, want_grad):
    loss = a.new_empty((), dtype=torch.float64 if a.dtype == torch.float64 else torch.float32)
    return loss, torch.empty_like(a) if want_grad else a.new_empty(0)


class _L1Loss(torch.autograd.Function):
    """The native op; its forward leaves the gradient behind, its backward scales it."""

    @staticmethod
    def forward(ctx, a, b, weight, unit):
        loss, grad = torch.ops.pygan.l1_loss(a, b, weight, unit, any(ctx.needs_input_grad))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad)
        ctx.unit = unit
        ctx.dtype_b = b.dtype
        return loss

    @staticmethod
    def backward(ctx, seed):
        if seed is None:
            return None, None, None, None
        (grad,) = ctx.saved_tensors
        if torch.is_grad_enabled():  # a derivative of this backward is wanted: plain PyTorch, linear in seed
            grad = (grad * (seed * ctx.unit)).to(grad.dtype)
        else:
            if not may_overwrite(grad):
                grad = grad.clone()
            torch.ops.pygan.l1_loss_backward_(grad, seed, ctx.unit)
        needs_a, needs_b, _, _ = ctx.needs_input_grad
        return grad if needs_a else None, -grad.to(ctx.dtype_b) if needs_b else None, None, None


if compiled("l1_loss"):
    torch.library.register_fake("pygan::l1_loss", _fake)
    torch.library.register_fake("pygan::l1_loss_backward_", lambda grad, seed, unit: None)

"""loss_sum: all losses that a net is updated by, their sum and their gradients in one launch.

Contract: csrc/ops/loss_sum/loss_sum.h. The reference below is the specification.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pygan.ops._autograd import may_overwrite
from pygan.ops._impl import choose, compiled
from pygan.ops.gan_loss import MODES, SIDES, GanLoss, gan_loss, gan_loss_ref
from pygan.ops.gan_loss import check as check_gan
from pygan.ops.gan_loss import prepare as prepare_gan
from pygan.ops.l1_loss import check as check_l1
from pygan.ops.l1_loss import l1_loss, l1_loss_ref, same_dtype
from pygan.ops.l1_loss import prepare as prepare_l1

_MAX_TERMS = 8
_L1 = -1  # in place of a mode


class GanTerm(NamedTuple):
    """The arguments of `gan_loss`. Made by `gan_term`."""

    logits: Tensor
    mode: str
    side: str
    n_real: int
    weight: float
    margin: float
    k: Tensor | None


class L1Term(NamedTuple):
    """The arguments of `l1_loss`. Made by `l1_term`."""

    a: Tensor
    b: Tensor
    weight: float


class LossSum(NamedTuple):
    """What `loss_sum` returns. Only `total` carries a gradient."""

    total: Tensor  # 0-d float32 (float64 for float64 terms)
    parts: tuple[GanLoss | Tensor, ...]  # for each term what gan_loss or l1_loss returns, detached


def gan_term(
    logits: Tensor,
    *,
    mode: str,
    side: str,
    n_real: int | None = None,
    weight: float = 1.0,
    margin: float = 1.0,
    k: Tensor | None = None,
) -> GanTerm:
    """A GAN loss as a term of `loss_sum`: arguments and errors of `gan_loss`."""
    n_real, k = check_gan("gan_term", logits, mode, side, n_real, k)
    return GanTerm(logits, mode, side, n_real, weight, margin, k)


def l1_term(a: Tensor, b: Tensor, *, weight: float = 1.0) -> L1Term:
    """A mean absolute difference as a term of `loss_sum`: arguments and errors of `l1_loss`."""
    check_l1("l1_term", a, b)
    return L1Term(a, b, weight)


def loss_sum_ref(*terms: GanTerm | L1Term) -> LossSum:
    """`loss_sum` in plain PyTorch: what the kernels must equal."""
    return _one_by_one(terms, gan_loss_ref, l1_loss_ref)


def _one_by_one(terms: tuple[GanTerm | L1Term, ...], gan: Callable[..., GanLoss], l1: Callable[..., Tensor]) -> LossSum:
    losses, parts = [], []
    for term in terms:
        if isinstance(term, L1Term):
            loss = part = l1(term.a, term.b, weight=term.weight)
            parts.append(part.detach())
        else:
            part = gan(term.logits, **{name: value for name, value in term._asdict().items() if name != "logits"})
            loss = part.loss
            parts.append(part._replace(loss=loss.detach()))
        losses.append(loss)
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return LossSum(total, tuple(parts))


def loss_sum(*terms: GanTerm | L1Term, impl: str = "auto") -> LossSum:
    """The sum of several weighted losses, in the order of the terms. On a GPU one launch makes values and gradients.

        total, (fooled, distance) = loss_sum(gan_term(logits, mode="lsgan", side="G"), l1_term(fake, B, weight=100.0))
        total.backward(gradient=unit_seed(total.device))

    The gradients are written together with the losses. The backward pass hands them on as they are, without a launch,
    when the gradient that comes in is `unit_seed` (a graph that is kept costs copies); else it multiplies them by it.
    float16 keeps gradients in a unit
    that only the incoming gradient resolves, so that a loss scale can save what float16 would lose: there the backward
    always multiplies, and the seed should be the loss scale.

    Args:
        terms: 1 to 8 of `gan_term(...)` and `l1_term(...)`, on one device; all of float64, or none. A tensor may be in
            several terms.
        impl: "native" (the kernels), "ref" (plain PyTorch) or "auto" (the faster one; on the CPU that is each loss on
            its own).

    Returns:
        A `LossSum`. Terms have the bits that their own op gives on the same inputs, and total those of their sum. The
        second derivative of L1 terms is 0; with a GAN term that needs a gradient it raises RuntimeError.

    Raises:
        ValueError: no terms or too many, not terms, several devices, float64 beside another dtype.
    """
    if not 1 <= len(terms) <= _MAX_TERMS:
        raise ValueError(f"loss_sum: there must be 1 to {_MAX_TERMS} terms, got {len(terms)}")
    for i, term in enumerate(terms):
        if not isinstance(term, (GanTerm, L1Term)):
            raise ValueError(f"loss_sum: term {i} must come from gan_term or l1_term, got {type(term).__name__}")
    devices = {term[0].device for term in terms}
    if len(devices) > 1:
        raise ValueError(f"loss_sum: all terms must be on one device, got {', '.join(sorted(map(str, devices)))}")
    if len({_widest(term).dtype == torch.float64 for term in terms}) > 1:
        raise ValueError("loss_sum: float64 terms go with float64 terms alone")
    # On a CPU there is no launch to save, and each loss knows best which way is faster (benchmarks/bench_loss_sum.py).
    if choose("loss_sum", _widest(terms[0]), impl, cpu_limit=0) == "ref":
        if impl == "ref":
            return loss_sum_ref(*terms)
        return _one_by_one(terms, gan_loss, l1_loss)
    return _native(terms)


def _widest(term: GanTerm | L1Term) -> Tensor:
    """The tensor whose dtype decides in which one a term is computed."""
    return term.b if isinstance(term, L1Term) and term.b.dtype == torch.float64 else term[0]


def _native(terms: tuple[GanTerm | L1Term, ...]) -> LossSum:
    """Terms as the operator takes them: layouts, units, and one flat list of tensors for autograd."""
    plan, a_list, b_list, k_list = [], [], [], []
    for term in terms:
        if isinstance(term, L1Term):
            a, b, unit = prepare_l1(*same_dtype(term.a, term.b), term.weight)
            plan.append((_L1, 0, 0, term.weight, 0.0, unit, _wants_grad(a, b)))
            b_list.append(b)
        else:
            a, unit = prepare_gan(term.logits, term.n_real, term.weight)
            mode, side = MODES.index(term.mode), SIDES.index(term.side)
            plan.append((mode, side, term.n_real, term.weight, term.margin, unit, _wants_grad(a)))
            if term.k is not None:
                k_list.append(term.k)
        a_list.append(a)
    total, losses, stats = _LossSum.apply(tuple(plan), *a_list, *b_list, *k_list)
    loss_of, stats_of = iter(losses.unbind()), iter(stats.unbind())
    parts = tuple(
        next(loss_of) if isinstance(term, L1Term) else GanLoss(next(loss_of), *next(stats_of).unbind())
        for term in terms
    )
    return LossSum(total, parts)


def _wants_grad(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


# ---- the seed of a backward pass

_units: dict[torch.device, Tensor] = {}


def unit_seed(device: torch.device | str) -> Tensor:
    """The gradient to start a backward pass with where nothing scales the loss: 1.0, always the same tensor.

    `loss_sum` knows it by its address, so that no kernel has to look at its value.

    Returns:
        A 0-d float32 tensor on `device`. Nobody may write into it.

    Raises:
        RuntimeError: somebody has written into it, or a CUDA graph is being captured and there is none yet.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    if device not in _units:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("unit_seed: call it once before the capture of a CUDA graph, which would own its memory")
        with torch.inference_mode(mode=False):
            unit = torch.ones((), dtype=torch.float32, device=device)
        if type(unit) is not Tensor:  # inside a mode of tensors without values (`pygan.plan`), not to be met again
            return unit
        _units[device] = unit
    if _units[device]._version != 0:
        raise RuntimeError(f"unit_seed: somebody has written into the seed of {device}, which must stay 1.0")
    return _units[device]


def _is_unit_seed(seed: Tensor) -> bool:
    if torch.compiler.is_compiling() or type(seed) is not Tensor or seed.device not in _units:
        return False
    unit = unit_seed(seed.device)
    return seed.data_ptr() == unit.data_ptr() and seed.shape == unit.shape and seed.dtype == unit.dtype


# ---- the native op


def _columns(plan):
    """The per-term lists of the schema."""
    return [list(column) for column in zip(*plan, strict=True)]


def _fake(a, b, k, mode, side, n_real, weight, margin, unit, want_grad):
    dtype = torch.float64 if a[0].dtype == torch.float64 else torch.float32
    grads = [torch.empty_like(t) if wanted else t.new_empty(0) for t, wanted in zip(a, want_grad, strict=True)]
    first, gans = a[0], sum(m != _L1 for m in mode)
    losses, stats = first.new_empty(len(a), dtype=dtype), first.new_empty((gans, 4), dtype=dtype)
    return first.new_empty((), dtype=dtype), losses, stats, grads


class _LossSum(torch.autograd.Function):
    """The native op; its forward leaves the gradients behind, its backward hands them on.

    plan: for each term {mode, side, n_real, weight, margin, unit, want_grad}. tensors: the a of every term, then the b
    of every L1 term, then the k of those that have one.
    """

    @staticmethod
    def forward(ctx, plan, *tensors):
        l1s = [i for i, term in enumerate(plan) if term[0] == _L1]
        a, b, k = tensors[: len(plan)], tensors[len(plan) : len(plan) + len(l1s)], tensors[len(plan) + len(l1s) :]
        total, losses, stats, grads = torch.ops.pygan.loss_sum(list(a), list(b), list(k), *_columns(plan))
        ctx.mark_non_differentiable(losses, stats)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*(grad for grad, term in zip(grads, plan, strict=True) if term[-1]))
        ctx.plan = plan
        ctx.other = {i: len(plan) + j for j, i in enumerate(l1s)}  # term: the place of its b among the tensors
        ctx.dtype_b = [t.dtype for t in b]
        return total, losses, stats

    @staticmethod
    def backward(ctx, seed, _losses, _stats):
        answer = [None] * len(ctx.needs_input_grad)
        if seed is None:
            return tuple(answer)
        differentiated = torch.is_grad_enabled()
        if differentiated and any(mode != _L1 and wanted for mode, *_, wanted in ctx.plan):
            raise RuntimeError(
                "loss_sum has no second derivative of a gan_term (create_graph=True); impl='ref' has one"
            )
        unscaled = not differentiated and _is_unit_seed(seed)
        saved = iter(ctx.saved_tensors)
        for i, (mode, *_, unit, wanted) in enumerate(ctx.plan):
            if not wanted:
                continue
            grad = next(saved)
            if differentiated:  # plain PyTorch, linear in seed
                grad = (grad * (seed * unit)).to(grad.dtype)
            else:
                if not may_overwrite(grad):
                    grad = grad.clone()
                if not (unscaled and unit == 1.0):
                    scale_ = torch.ops.pygan.l1_loss_backward_ if mode == _L1 else torch.ops.pygan.gan_loss_backward_
                    scale_(grad, seed, unit)
            if ctx.needs_input_grad[1 + i]:
                answer[1 + i] = grad
            b = ctx.other.get(i)
            if b is not None and ctx.needs_input_grad[1 + b]:
                answer[1 + b] = -grad.to(ctx.dtype_b[b - len(ctx.plan)])
        return tuple(answer)


if compiled("loss_sum"):
    torch.library.register_fake("pygan::loss_sum", _fake)

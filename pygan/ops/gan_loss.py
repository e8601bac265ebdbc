"""gan_loss: the adversarial losses of every GAN here; value, means and gradient in one pass over the logits.

Contract: csrc/ops/gan_loss/gan_loss.h. The reference below is the specification.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan.ops._autograd import may_overwrite
from pygan.ops._impl import choose, compiled

# In the order of GanMode and GanSide in gan_loss.h.
MODES = ("vanilla", "lsgan", "softplus", "wgangp", "hinge", "energy", "began")
SIDES = ("D", "G")

# Logits up to which the native twin is faster on a CPU: it saves a dozen small PyTorch calls, but its exp and log are
# not vectorised. Break-even of vanilla, forward and backward, one core (benchmarks/bench_gan_loss.py).
_CPU_LIMIT = 2048


class GanLoss(NamedTuple):
    """What `gan_loss` returns: 0-d tensors, float32 (float64 for float64 logits). Only `loss` carries a gradient."""

    loss: Tensor  # weighted, both halves together
    real: Tensor  # the real half, unweighted and before the 1/2 of vanilla and lsgan; 0 without real samples
    fake: Tensor  # likewise of the fake half; for began without the factor -k
    logit_real: Tensor  # mean logit of the real samples; 0 without real samples
    logit_fake: Tensor  # mean logit of the fake samples; 0 without fake samples


def gan_loss_ref(
    logits: Tensor,
    *,
    mode: str,
    side: str,
    n_real: int = 0,
    weight: float = 1.0,
    margin: float = 1.0,
    k: Tensor | None = None,
) -> GanLoss:
    """`gan_loss` in plain PyTorch: what the kernels must equal. No argument checks."""
    d = logits if logits.dtype == torch.float64 else logits.float()
    real, fake = d[:n_real], d[n_real:]
    if side == "G":
        terms = {
            "vanilla": lambda: F.softplus(-fake),
            "lsgan": lambda: (fake - 1) ** 2,
            "softplus": lambda: F.softplus(-fake),
            "wgangp": lambda: -fake,
            "hinge": lambda: -fake,
            "energy": lambda: fake,
            "began": lambda: fake,
        }
        halves = real, terms[mode]()
    else:
        both = {
            "vanilla": lambda: (F.softplus(-real), F.softplus(fake)),
            "lsgan": lambda: ((real - 1) ** 2, fake**2),
            "softplus": lambda: (F.softplus(-real), F.softplus(fake)),
            "wgangp": lambda: (-real, fake),
            "hinge": lambda: (F.relu(1 - real), F.relu(1 + fake)),
            "energy": lambda: (real, F.relu(margin - fake)),
            "began": lambda: (real, fake),
        }
        halves = both[mode]()
    value_real, value_fake = (half.mean() if half.numel() else half.sum() for half in halves)
    loss = value_real - k * value_fake if mode == "began" and side == "D" else value_real + value_fake
    if mode in ("vanilla", "lsgan") and side == "D":
        loss = loss / 2
    logit_real, logit_fake = (half.mean() if half.numel() else half.sum() for half in (real, fake))
    means = (value.detach() for value in (value_real, value_fake, logit_real, logit_fake))
    return GanLoss((weight * loss).to(d.dtype), *means)


def gan_loss(
    logits: Tensor,
    *,
    mode: str,
    side: str,
    n_real: int | None = None,
    weight: float = 1.0,
    margin: float = 1.0,
    k: Tensor | None = None,
    impl: str = "auto",
) -> GanLoss:
    r"""The loss of a discriminator (`side="D"`) or of its generator (`side="G"`).

    With d the logits (before any sigmoid; energies for energy and began), sp(z) = log(1 + e^z), and means over the
    samples and patch positions of the real and of the fake half:

    ========  =========================================  ===============  ==========================================
    mode      D                                          G                source
    ========  =========================================  ===============  ==========================================
    vanilla   1/2 [mean sp(-d_real) + mean sp(d_fake)]   mean sp(-d)      Goodfellow 2014, non-saturating G; pix2pix
    lsgan     1/2 [mean (d_real-1)^2 + mean d_fake^2]    mean (d-1)^2     Mao 2017, eq. 9 (a=0, b=c=1); CycleGAN
    softplus  mean sp(-d_real) + mean sp(d_fake)         mean sp(-d)      vanilla without the 1/2; ALI
    wgangp    -mean d_real + mean d_fake                 -mean d          Gulrajani 2017, eq. 3 without its penalty
    hinge     mean max(0,1-d_real) + mean max(0,1+d_fake)  -mean d        Lim & Ye 2017
    energy    mean d_real + mean max(0, margin-d_fake)   mean d           EBGAN, Zhao 2017, eq. 1 and 2
    began     mean d_real - k mean d_fake                mean d           BEGAN, Berthelot 2017, section 3.4
    ========  =========================================  ===============  ==========================================

    Args:
        logits: (n, ...) float32, bfloat16, float16 or float64.
        mode: the row of the table.
        side: "D" or "G".
        n_real: how many of the n samples, the first ones, are real; the others are fake. D needs it (0 and n are
            allowed: one-class batches; the missing half counts 0). G: 0, every sample is fake.
        weight: factor of the loss.
        margin: m of energy.
        k: the balance of began's D, one float32 value on the device of the logits; no other mode takes it.
        impl: "native" (the kernels), "ref" (plain PyTorch) or "auto" (the faster one).

    Returns:
        A `GanLoss`. Its loss can be differentiated once: a second derivative raises RuntimeError.

    Raises:
        ValueError: an argument does not fit the description above.
    """
    n_real, k = check("gan_loss", logits, mode, side, n_real, k)
    if choose("gan_loss", logits, impl, cpu_limit=_CPU_LIMIT) == "ref":
        return gan_loss_ref(logits, mode=mode, side=side, n_real=n_real, weight=weight, margin=margin, k=k)
    logits, unit = prepare(logits, n_real, weight)
    loss, stats = _GanLoss.apply(logits, MODES.index(mode), SIDES.index(side), n_real, weight, margin, k, unit)
    return GanLoss(loss, *stats.unbind())


def check(
    op: str, logits: Tensor, mode: str, side: str, n_real: int | None, k: Tensor | None
) -> tuple[int, Tensor | None]:
    """n_real and k as the kernels take them, or the ValueErrors of `gan_loss` in the name of `op`."""
    if mode not in MODES:
        raise ValueError(f"{op}: mode must be one of {', '.join(MODES)}, got {mode!r}")
    if side not in SIDES:
        raise ValueError(f"{op}: side must be 'D' or 'G', got {side!r}")
    if not logits.is_floating_point() or logits.dim() == 0 or logits.numel() == 0:
        raise ValueError(
            f"{op}: logits must be floats of shape (n, ...) with n > 0, got {logits.dtype} {list(logits.shape)}"
        )
    n = logits.shape[0]
    if side == "D" and n_real is None:
        raise ValueError(f"{op}: side 'D' needs n_real, the number of real samples among the {n}")
    n_real = n_real or 0
    if not 0 <= n_real <= (n if side == "D" else 0):
        expected = f"between 0 and the {n} samples of logits" if side == "D" else "0 for side 'G'"
        raise ValueError(f"{op}: n_real must be {expected}, got {n_real}")
    if (k is not None) != (mode == "began" and side == "D"):
        raise ValueError(f"{op}: k belongs to mode 'began' of side 'D', got k={k} for {mode!r} of {side!r}")
    if k is not None and (k.numel() != 1 or k.dtype != torch.float32 or k.device != logits.device or k.requires_grad):
        raise ValueError(f"{op}: k must be one float32 value on the device of the logits, without a gradient")
    return n_real, None if k is None else k.reshape(())


def prepare(logits: Tensor, n_real: int, weight: float) -> tuple[Tensor, float]:
    """logits in a layout that the kernels take, and the unit of their gradient."""
    if logits.dim() != 4 or not logits.is_contiguous(memory_format=torch.channels_last):
        logits = logits.contiguous()  # each sample one run of memory
    count, count_real = logits.numel(), n_real * (logits.numel() // logits.shape[0])
    # float16 keeps the gradient of one logit, which is of the order of 1, and `unit` until the loss scaler's factor is
    # known. A unit of 2 / the smaller half leaves the largest logits of lsgan within its range.
    smaller = min(part for part in (count_real, count - count_real) if part > 0)
    return logits, 2.0 * (weight or 1.0) / smaller if logits.dtype == torch.float16 else 1.0


def _fake(logits, mode, side, n_real, weight, margin, k, unit, want_grad):
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    grad = torch.empty_like(logits) if want_grad else logits.new_empty(0)
    return logits.new_empty((), dtype=dtype), logits.new_empty(4, dtype=dtype), grad


class _GanLoss(torch.autograd.Function):
    """The native op; its forward leaves the gradient behind, its backward scales it."""

    @staticmethod
    def forward(ctx, logits, mode, side, n_real, weight, margin, k, unit):
        want_grad = ctx.needs_input_grad[0]
        loss, stats, grad = torch.ops.pygan.gan_loss(logits, mode, side, n_real, weight, margin, k, unit, want_grad)
        ctx.mark_non_differentiable(stats)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(grad)
        ctx.unit = unit
        return loss, stats

    @staticmethod
    def backward(ctx, seed, _stats):
        if seed is None:
            return (None,) * 8
        if torch.is_grad_enabled():
            raise RuntimeError("gan_loss has no second derivative (create_graph=True); impl='ref' has one")
        (grad,) = ctx.saved_tensors
        if not may_overwrite(grad):
            grad = grad.clone()
        torch.ops.pygan.gan_loss_backward_(grad, seed, ctx.unit)
        return (grad, *(None,) * 7)


if compiled("gan_loss"):
    torch.library.register_fake("pygan::gan_loss", _fake)
    torch.library.register_fake("pygan::gan_loss_backward_", lambda grad, seed, unit: None)

"""The formulas that a paper's step is made of: adversarial losses, the mean absolute error, the gradient penalty."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pygan.ops import gan_loss, gan_term, l1_loss, l1_term, loss_sum
from pygan.ops._autograd import gradients_for

__all__ = ["gan_loss", "gan_term", "gradient_penalty", "l1_loss", "l1_term", "loss_sum"]


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, alpha: Tensor) -> Tensor:
    """mean over samples of (|| gradient of critic at x ||_2 - 1)^2 with x = alpha real + (1 - alpha) fake.

    Improved Training of Wasserstein GANs (Gulrajani et al. 2017), equation 3, without its factor lambda. real, fake:
    (n, ...), taken as constants; alpha: (n,) in [0, 1]; critic: x -> (n, ...), whose values are summed per sample.
    Returns a 0-d float32 (or float64) tensor that can be differentiated by the critic's parameters.
    """
    if real.shape != fake.shape:
        raise ValueError(f"fake must have the shape of real {list(real.shape)}, got {list(fake.shape)}")
    if alpha.shape != real.shape[:1]:
        raise ValueError(f"alpha must have shape (real.size(0),) = [{real.shape[0]}], got {list(alpha.shape)}")
    weight = alpha.to(real.dtype).view(-1, *[1] * (real.dim() - 1))
    between = torch.lerp(fake.detach().to(real.dtype), real.detach(), weight).requires_grad_()
    with gradients_for([between]):
        logits = critic(between)
        total = logits.sum(dtype=torch.promote_types(logits.dtype, torch.float32))
        (gradient,) = torch.autograd.grad(total, between, create_graph=True)
    norm = torch.linalg.vector_norm(gradient.flatten(1), dim=1)  # (n,)
    return (norm - 1.0).square().mean()

"""The moves that every GAN makes: one Adam step of one net, the end of a step, averaged weights, learning rates.

Nothing in here waits for the GPU or moves a tensor to another address, so a CUDA graph can hold all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pygan.recipe import BaseRecipe
from pygan.state import State


def adam(net: nn.Module, recipe: BaseRecipe, lr: float | None = None) -> torch.optim.Adam:
    """Adam (Kingma & Ba 2015, eps 1e-8) over the parameters of `net` with the recipe's numbers.

    One fused pass over all parameters on CUDA and on the CPU (there 1.1 to 2.3 times as fast as the loop over
    tensors). On CUDA the learning rate and the step count are tensors on the device: a captured graph sees them change.
    """
    params = [param for param in net.parameters() if param.requires_grad]
    device = params[0].device
    rate = recipe.lr if lr is None else lr
    on_cuda = device.type == "cuda"
    return torch.optim.Adam(
        params,
        lr=torch.tensor(rate, dtype=torch.float32, device=device) if on_cuda else rate,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
        capturable=on_cuda,
    )


def update(state: State, name: str, loss: Tensor) -> None:
    """One Adam step of net `name` ("G", "D") down the 0-d `loss`. No other net collects gradients.

    With a loss scaler the gradients are those of scale * loss; the fused Adam divides them again, and leaves the net
    as it is if one of them is not finite. The scale itself moves in `end_step_`.
    """
    opt = state.opts[name]
    params = [param for group in opt.param_groups for param in group["params"]]
    opt.zero_grad(set_to_none=True)
    if state.scaler is None:
        loss.backward(inputs=params)
        opt.step()
    else:
        state.scaler.scale(loss).backward(inputs=params)
        state.scaler.step(opt)
    torch.clear_autocast_cache()  # it may hold low-precision copies of the weights as they were


@torch.no_grad()
def end_step_(state: State, recipe: BaseRecipe) -> None:
    """After all updates of a step: the next random numbers, the next loss scale, the averaged weights."""
    state.rng[1].add_(1)
    if state.scaler is not None:
        state.scaler.update()
    for name, average in state.ema.items():
        ema_(average, state.nets[name], half_life_images=recipe.ema_half_life_images, batch=recipe.batch)


@torch.no_grad()
def ema_(average: nn.Module, net: nn.Module, *, half_life_images: float, batch: int) -> None:
    """Move every parameter of `average` towards `net`: after `half_life_images` images half of the old is left.

    batch: images that this step has seen. Buffers (running statistics) are averaged alike; integers are copied.
    """
    weight = 1.0 - 0.5 ** (batch / half_life_images)
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), weight)
    for old, new in zip(average.buffers(), net.buffers(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, weight)
        else:
            old.copy_(new)


def set_lr_(opt: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups; on CUDA into the tensor that is already there."""
    for group in opt.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def lr_factor(schedule: str, epoch: int, epochs: int, decay_epochs: int) -> float:
    """What to multiply the recipe's lr by in `epoch` (1-based), after `epochs` constant ones and over `decay_epochs`.

    "linear" falls to 1 / (decay_epochs + 1) in the last epoch; "linear_jy_old" (the PyTorch port before 2019) is one
    epoch ahead and trains its last at 0; "linear_torch7" (CycleGAN's Lua code) is one epoch behind; "const" stays 1.
    """
    if epoch < 1:
        raise ValueError(f"epoch counts from 1, got {epoch}")
    if schedule == "const":
        return 1.0
    if schedule == "linear":
        return max(0.0, 1.0 - max(0, epoch - epochs) / (decay_epochs + 1))
    if schedule == "linear_jy_old":
        return max(0.0, 1.0 - max(0, epoch + 1 - epochs) / (decay_epochs + 1))
    if schedule == "linear_torch7":
        return 1.0 if epoch <= epochs + 1 else max(0.0, 1.0 - (epoch - epochs - 1) / decay_epochs)
    raise ValueError(f"schedule must be linear, const, linear_jy_old or linear_torch7, got {schedule!r}")

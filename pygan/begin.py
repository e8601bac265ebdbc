"""What a run begins with: the state of step 0, from a recipe alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import active_fake_mode
from torch._subclasses.fake_tensor import unset_fake_temporarily

from pygan.errors import UserError
from pygan.nets.recompute import recompute_
from pygan.nn import choose_kernels_, place_
from pygan.ops.philox import new_rng
from pygan.optim import Adam, adam, loss_scale
from pygan.recipe import BaseRecipe
from pygan.state import State


def new_state(
    recipe: BaseRecipe,
    device: torch.device | str,
    make: Mapping[str, Callable[[Any], nn.Module]],
    begin_: Callable[..., None],
    *,
    buffers: Mapping[str, Tensor] | None = None,
    apart: bool = False,
) -> State:
    """Nets, optimizers, G's average (where the recipe has a half-life) and random numbers of a new run.

    make: {"G": recipe -> net, "D": recipe -> net}; whatever weights they make are replaced. begin_(net, generator=):
    fills a net, all on the CPU and without gradients; one net after the other in the order of `make`, from one
    generator of the recipe's seed, so that the weights do not depend on the device. Where there are no values, on a
    "meta" device and for the fake tensors of a walk (`pygan.plan`), it is called for none. buffers: what the state
    holds beside `rng` and the loss scale, on the device. apart: each child of a net has an Adam of its own, such as
    "G_AtoB", instead of one for "G".
    """
    device = torch.device(device)
    walked = active_fake_mode() is not None
    with unset_fake_temporarily(), torch.device("meta"):  # no time for weights that are about to be replaced
        nets = {name: net(recipe) for name, net in make.items()}
    draws = torch.Generator().manual_seed(recipe.seed)
    for net in nets.values():
        if device.type != "meta" and not walked:
            net.to_empty(device="cpu")
            with torch.no_grad():
                begin_(net, generator=draws)
        place_(net, device)
        choose_kernels_(net, recipe.kernels)
    if recipe.recompute and not recompute_(nets["G"]):
        raise UserError("--recompute: G has no blocks whose activations can be computed again here; leave it out")
    ema = {}
    if recipe.ema_half_life_images:
        if walked:  # a copy of a fake tensor keeps what it was copied from
            with unset_fake_temporarily(), torch.device("meta"):
                average = make["G"](recipe)
            place_(average, device)
        else:
            average = copy.deepcopy(nets["G"])
        ema["G"] = average.requires_grad_(False)
    rng = {"rng": new_rng(recipe.seed, device)}
    return State(
        nets=nets,
        opts=_optimizers(recipe, nets, ema, apart=apart),
        ema=ema,
        buffers={**rng, **loss_scale(recipe, device), **(buffers or {})},
    )


def _optimizers(
    recipe: BaseRecipe, nets: Mapping[str, nn.Module], ema: Mapping[str, nn.Module], *, apart: bool
) -> dict[str, Adam]:
    if not apart:
        return {name: adam(net, recipe, average=ema.get(name)) for name, net in nets.items()}
    return {
        f"{name}_{part}": adam(one, recipe, average=getattr(ema.get(name), part, None))
        for name, net in nets.items()
        for part, one in net.named_children()
    }

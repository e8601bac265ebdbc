"""A trained network from its run directory alone: no flag of training is repeated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pygan import checkpoint, device, gans
from pygan import recipe as recipes
from pygan.errors import UserError, say
from pygan.nn import place_
from pygan.ops.philox import new_rng
from pygan.recipe import BaseRecipe
from pygan.rundir import RECIPE, read_facts


@dataclass(frozen=True)
class Trained:
    """A generator ready for use."""

    gan: ModuleType
    recipe: BaseRecipe
    net: nn.Module
    images_seen: int
    device: torch.device

    def translate(self, A: Tensor, rng: Tensor | None = None, **options: Any) -> Tensor:
        """(n, c, h, w) in [-1, 1] on any device -> the network's images in [-1, 1], on the CPU."""
        A = A.to(self.device).contiguous(memory_format=torch.channels_last)
        return self.gan.translate(self.net, self.recipe, A, rng, **options).float().cpu()

    def rng(self, seed: int) -> Tensor:
        """Everything that is drawn in use (noise, dropout where the recipe keeps it on), from `seed`."""
        return new_rng(seed, self.device)


def load(run: Path, name: str, device_name: str) -> Trained:
    """The generator of a run: its average if it keeps one. name: "last", "best" or another folder of checkpoints/.

    A damaged "last" is named, and the checkpoint before it taken. Errors: UserError.
    """
    facts = read_facts(run)
    gan = gans.load(facts["gan"])
    recipe = recipes.from_dict(gan.Recipe, facts["recipe"], str(run / RECIPE))
    found = _choose(run, name, facts["gan"])
    recipe = gans.phases(gan, recipe)[found.facts.get("phase", 0)]
    where = device.choose(device_name)
    averaged = "G_ema.safetensors" in found.facts["files"]
    file = found.folder / ("G_ema.safetensors" if averaged else "G.safetensors")
    net = gan.generator(recipe)
    checkpoint.copy_into(net.state_dict(), checkpoint.read(file), file)
    net = place_(net, where).requires_grad_(False)
    return Trained(gan, recipe, net, found.images_seen, where)


def _choose(run: Path, name: str, gan: str) -> checkpoint.Found:
    there = checkpoint.find(run / "checkpoints")
    if not there:
        raise UserError(f"{run} has no readable checkpoint; train it (pygan train {gan} --run {run}), or restore one")
    if name != "last" and not any(found.folder.name == name for found in there):
        names = ", ".join(sorted(found.folder.name for found in there))
        raise UserError(f"{run} has no checkpoint {name!r}; there are {names}")
    for found in there:
        if name not in ("last", found.folder.name):
            continue
        try:
            checkpoint.check(found)
        except checkpoint.Damaged as reason:
            if name != "last":
                raise UserError(f"{found.folder} is damaged ({reason}); choose another --checkpoint") from reason
            say(f"{found.folder} is damaged ({reason}); looking for the one before it")
            continue
        if name == "last" and found.folder.name not in ("last", "next"):
            say(f"{run / 'checkpoints' / 'last'} is missing or damaged; using {found.folder}")
        return found
    raise UserError(f"every checkpoint of {run} is damaged; restore them from a backup")

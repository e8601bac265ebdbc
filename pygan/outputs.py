"""What a trained network makes of a batch, and what that is to be compared with, whatever GAN it is of."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pygan.errors import UserError
from pygan.recipe import BaseRecipe


class Outputs(NamedTuple):
    """Images (n, c, h, w) in [-1, 1] on the device of the network."""

    fake: Tensor  # what G painted
    real: Tensor  # pictures of the kind that it is to paint; where `paired`, the very ones
    input: Tensor | None  # what it painted from; None: noise or text
    paired: bool


def ways(gan: ModuleType, recipe: BaseRecipe) -> tuple[str, ...]:
    """The ways in which a GAN's pictures can be judged: its directions, its labels, or the one, ""."""
    if _asks(gan, "translate", "to"):
        labels = f"{recipe.labels},{getattr(recipe, 'labels_2', '')}"
        return tuple(name.strip() for name in labels.split(",") if name.strip())
    if paints_from_pictures(gan, recipe) and _asks(gan, "translate", "direction"):
        return ("AtoB",) if getattr(recipe, "learned", "") == "AtoB" else ("AtoB", "BtoA")
    return ("",)


@torch.no_grad()
def of(
    gan: ModuleType, recipe: BaseRecipe, G: nn.Module, batch: Any, rng: Tensor | None = None, *, way: str = ""
) -> Outputs:
    """What G paints of a batch of the GAN's feed. way: one of `ways`; rng: of what is drawn, None: the recipe's seed.

    From noise as many pictures as the batch has; of texts, one for each; of pictures, each translated. Real pictures of
    a label are those of the batch that have it, which may be none. Errors: UserError for a way that there is not.
    """
    known = ways(gan, recipe)
    if way not in known:
        if way or len(known) < 1:
            raise UserError(f"{way!r} is no way of this network; there are {', '.join(known)}")
        way = known[0]
    first, n = batch[0], batch[0].shape[0]
    if paints_from_pictures(gan, recipe):
        if _asks(gan, "translate", "to"):
            fake = gan.translate(G, recipe, first, rng, to=way)
            names = [name.strip() for name in recipe.labels.split(",")]
            labels = batch.label if way in names else batch.label_2
            column = names.index(way) if way in names else [x.strip() for x in recipe.labels_2.split(",")].index(way)
            images = first if way in names else batch.image_2
            return Outputs(fake, images[labels[:, column] > 0.5], first, paired=False)
        if _asks(gan, "translate", "direction"):
            given, real = (first, batch[1]) if way == "AtoB" else (batch[1], first)
            return Outputs(gan.translate(G, recipe, given, rng, direction=way), real, given, paired=False)
        columns = gan.sample(G, recipe, batch, rng)  # these know which of the two pictures is given
        beside = columns.get("target", columns.get("real"))
        return Outputs(columns["output"], beside, columns["input"], paired="target" in columns)
    more = {name: getattr(batch, name) for name in ("text", "where") if _asks(gan, "generate", name)}
    return Outputs(gan.generate(G, recipe, n, rng, **more), _beside_noise(gan, recipe, batch), None, paired=False)


def paired_channels(gan: ModuleType, recipe: BaseRecipe) -> tuple[int, int]:
    """Channels of a picture that `translate` is given, and of its result, going from A to B."""
    first, second = getattr(recipe, "input_channels", 0) or 3, getattr(recipe, "output_channels", 0) or 3
    if _asks(gan, "translate", "to") or getattr(recipe, "form", "") == "ali":  # of all domains, of the one
        first = second = recipe.channels or 3
    if hasattr(gan, "takes") and gan.takes(recipe) != first:
        first, second = second, first
    return first, second


def _beside_noise(gan: ModuleType, recipe: BaseRecipe, batch: Any) -> Tensor:
    """Real pictures of the kind that comes from noise."""
    if hasattr(batch, "image"):
        return batch.image
    A, B = batch  # two domains, which come side by side
    channels = max(A.shape[1], B.shape[1])
    return torch.cat([x.expand(-1, channels, -1, -1) if x.shape[1] == 1 else x for x in (A, B)], dim=3)


def paints_from_pictures(gan: ModuleType, recipe: BaseRecipe) -> bool:
    """Is G's usual input a picture? ALI's is noise; CoGAN's too, whose translation is a search."""
    if not hasattr(gan, "translate"):
        return False
    return not hasattr(gan, "generate") or getattr(recipe, "form", "") == "cyclegan"


def _asks(gan: ModuleType, function: str, name: str) -> bool:
    return hasattr(gan, function) and name in inspect.signature(getattr(gan, function)).parameters

"""A network applied to pictures of any size and depth: prepared as in training, padded, put through, cut back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from pygan import pictures, pixels
from pygan.data import sources, transforms
from pygan.errors import UserError
from pygan.pixels import Picture
from pygan.use import Card, Network

if TYPE_CHECKING:
    from pygan.tiles import Tiling

_SMALL = 32  # pixels


def translated(
    network: Network,
    given: Sequence[Picture],
    *,
    seed: int = 0,
    options: Mapping[str, str] = MappingProxyType({}),
    names: Sequence[str] = (),
    tile: Tiling | None = None,
    depth: np.dtype | type | None = None,
) -> list[Picture]:
    """What a network makes of pictures, each at its own size, alpha kept. depth: of the results; None: each its own.

    Pictures of one size go through together, but where dropout is on in use (`card.chance`): its mask covers a whole
    batch, so each goes alone, and no picture's result depends on the others. names: for errors. seed: of dropout.
    tile: how each is cut, alone and with the result of the whole (`pygan.tiles`); None: not at all.
    Errors: UserError for options that the network does not have, or a picture of other channels than it takes.
    """
    names = names or [f"picture {k + 1}" if len(given) > 1 else "the picture" for k in range(len(given))]
    if tile is not None:
        from pygan import tiles  # which applies networks to parts of pictures by what is here

        return [
            tiles.translated(network, one, tiling=tile, seed=seed, options=options, name=name, depth=depth)
            for one, name in zip(given, names, strict=True)
        ]
    inputs = [network_input(network, one, options, name) for one, name in zip(given, names, strict=True)]
    done: dict[int, Picture] = {}
    groups: dict[object, list[int]] = {}
    for k, one in enumerate(inputs):
        groups.setdefault(k if network.card.chance else one.shape, []).append(k)
    with torch.inference_mode():
        for members in groups.values():
            made = through(network, torch.cat([inputs[k] for k in members]), seed=seed, options=options)
            for k, image in zip(members, made, strict=True):
                done[k] = result(network, image, inputs[k][0], given[k], depth=depth)
    return [done[k] for k in range(len(given))]


def through(network: Network, A: Tensor, *, seed: int, options: Mapping[str, str] = MappingProxyType({})) -> Tensor:
    """(n, c, h, w) in [-1, 1] of any height and width -> the network's images of that size, float32 on the CPU.

    Padded by reflection at the right and bottom to what the network takes (`card.multiple`, `card.least`), cut back.
    """
    height, width = A.shape[2:]
    padded = pad(A, network.card.multiple, least=network.card.least)
    return network.translate(padded, network.rng(seed), **options)[:, :, :height, :width]


def pad(A: Tensor, multiple: int, *, least: int = 0) -> Tensor:
    """(n, c, h, w) reflected at the right and bottom until both sides are multiples; as often as a small one needs."""
    down, right = (max(side + -side % multiple, least) - side for side in A.shape[2:])
    if not (down or right):
        return A
    padded = np.pad(A.cpu().numpy(), ((0, 0), (0, 0), (0, down), (0, right)), mode="reflect")
    return torch.from_numpy(padded).to(A.device)


def network_input(network: Network, picture: Picture, options: Mapping[str, str], name: str = "the picture") -> Tensor:
    """(1, c, h, w) float32 in [-1, 1]: the picture as the network was trained to see it. Errors: UserError."""
    card = network.card
    channels = card.channels[card.direction(options)][0]
    laid = pixels.on_white(picture)
    if card.prepare == "labels" and channels == sources.N_CLASSES and laid.shape[2] != channels:
        ids = sources.classes_of(picture.indices, pixels.to_depth(laid, np.uint8), name)
        laid = sources.draw_labels(ids, channels)
    elif card.prepare in transforms.NATURAL_CHANNELS and card.prepare != "none":
        rgb = pixels.to_depth(pixels.with_channels(laid, 3, name), np.uint8)
        forward = card.recipe.get("direction", "AtoB") == "AtoB"
        both = (card.recipe["input_channels"], card.recipe["output_channels"])
        A, B = sources.transform_pair(rgb, card.prepare, both if forward else both[::-1])
        laid = A if forward else B
        if card.prepare == "canny" and forward and _only_ink(rgb):
            laid = pixels.with_channels(rgb, channels, name)  # drawn edges; Canny would find both rims of each line
    else:
        laid = pixels.with_channels(laid, channels, name)
    A = torch.from_numpy(pixels.to_signed(laid)).permute(2, 0, 1)[None]
    if card.prepare == "mask" and card.recipe.get("direction", "AtoB") == "AtoB":
        transforms.cut_hole_(A)
    if card.size is not None and _padded_size(A, card.multiple, card.least) != card.size:
        (height, width), (h, w) = card.size, picture.size
        raise UserError(
            f"cannot use {name}: it is {h}x{w} pixels, the file takes {height}x{width} alone; resize it, or export the "
            "network with --dynamic"
        )
    return A


def _padded_size(A: Tensor, multiple: int, least: int) -> tuple[int, int]:
    """Height and width after `pad`."""
    height, width = (max(side + -side % multiple, least) for side in A.shape[2:])
    return height, width


def _only_ink(rgb: np.ndarray) -> bool:
    """Is a picture, uint8 (h, w, 3), of pure black and pure white, as Canny's own edges are?"""
    return bool(((rgb == 0) | (rgb == 255)).all() and (rgb == rgb[:, :, :1]).all())


def result(
    network: Network, image: Tensor, beside: Tensor, given: Picture, *, depth: np.dtype | type | None = None
) -> Picture:
    """What a network made, (c, h, w) in [-1, 1], as a picture of the depth of the one given, with its alpha.

    beside: the input (c, h, w), whose lightness belongs to a result that is a and b of Lab. depth: another one.
    """
    depth = depth or given.pixels.dtype
    if network.card.shows != "pixels":
        image = pictures.as_rgb(image[None], beside[None])[0]
    values = image.permute(1, 2, 0).contiguous().numpy()
    alpha = None if given.alpha is None else pixels.to_depth(given.alpha, depth)
    return Picture(pixels.from_signed(values, depth), alpha)


def check(network: Network, options: Mapping[str, str], what: str) -> None:
    """Find out at once whether a network translates at all, and whether the options make sense. Errors: UserError.

    what: how to call the network in errors.
    """
    card = network.card
    asked(card, options, what)
    side = -(-max(_SMALL, card.least) // card.multiple) * card.multiple
    channels = card.channels[card.direction(options)][0]
    with torch.inference_mode():
        network.translate(torch.zeros((1, channels, *(card.size or (side, side)))), network.rng(0), **options)


def asked(card: Card, options: Mapping[str, str], what: str) -> None:
    """What of `check` the card alone decides. Errors: UserError."""
    if "translate" not in card.acts:
        raise UserError(f"{what} is of {card.gan}, which translates nothing; `pygan sample RUN` shows what it makes")
    for name in options:
        if name not in card.options:
            raise UserError(f"--{name} is not something that {card.gan} can be asked; leave it out")
        if not isinstance(options[name], str):
            raise UserError(f"--{name} must be a word, as {card.options[name][0]!r}, got {options[name]!r}")
    if "direction" in options and (way := options["direction"]) not in card.options["direction"]:
        known = " or ".join(card.options["direction"])
        one = "; it learned only that way, or only that was imported or exported" if known in ("AtoB", "BtoA") else ""
        raise UserError(f"--direction must be {known} with {what}, got {way!r}{one}")

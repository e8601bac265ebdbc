"""From a bundle to a network. Its files may come from anybody: nothing in them is run, and nothing is believed."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from pygan import checkpoint, gans
from pygan import device as devices
from pygan import recipe as recipes
from pygan.bundle import layout
from pygan.errors import UserError
from pygan.nn import place_
from pygan.recipe import BaseRecipe
from pygan.use import Trained


def read(folder: Path, device: str = "auto") -> Trained:
    """The network of a bundle, ready for use, as `use.load` makes it of the run. Errors: UserError, one line."""
    where = folder / layout.CONFIG
    facts = layout.config(folder)
    if facts.get("library_name") != "pygan":
        raise UserError(f"{where} is not of a model of pygan (its library_name is {_short(facts.get('library_name'))})")
    if facts.get("format") != layout.FORMAT:
        raise UserError(
            f"{where} has format {_short(facts.get('format'))}, this pygan reads {layout.FORMAT}; upgrade it"
        )
    card, sums = facts.get("card"), facts.get("sha256")
    if not isinstance(card, dict) or not isinstance(card.get("recipe"), dict) or not isinstance(sums, str):
        raise UserError(f'{where} is damaged: it needs "card" with "recipe", and "sha256"; download it again')
    name, images_seen = card.get("gan"), card.get("images_seen")
    if not isinstance(name, str) or name not in gans.names():
        raise UserError(f"{where} is of the GAN {_short(name)}, which this version of pygan does not know")
    if type(images_seen) is not int or images_seen < 0:
        raise UserError(
            f"{where} is damaged: images_seen is {_short(images_seen)}, expected a count; download it again"
        )
    gan = gans.load(name)
    recipe = recipes.from_dict(gan.Recipe, card["recipe"], str(where))
    weights = folder / layout.WEIGHTS
    if layout.checksum(weights) != sums:
        raise UserError(f"{weights} is not the file that {where} is of: its checksum differs; download both again")
    at = devices.choose(device)
    _check_shapes(gan, recipe, weights)
    net = gan.generator(recipe)
    checkpoint.copy_into(net.state_dict(), checkpoint.read(weights), weights)
    return Trained(gan, recipe, place_(net, at).requires_grad_(False), images_seen, at)


def _check_shapes(gan, recipe: BaseRecipe, weights: Path) -> None:
    """Compare the recipe's network with the file before memory is taken for either. Errors: UserError."""
    try:
        with safe_open(weights, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{weights} is not a readable safetensors file ({error}); download it again") from error
    try:
        with torch.device("meta"):
            net: nn.Module = gan.generator(recipe)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        text = str(error).partition("\n")[0]
        raise UserError(f"the recipe beside {weights} makes no network ({text}); download it again") from error
    live = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    if live != shapes:
        first = min(name for name in live.keys() | shapes.keys() if live.get(name) != shapes.get(name))
        raise UserError(f"{weights} does not fit the recipe beside it: {first!r} differs; download both again")


def _short(value: object) -> str:
    """A value from elsewhere, for one line."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"

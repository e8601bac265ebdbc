"""A network from a safetensors file: its weights, and in its header the recipe by which pygan builds it anew."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from pygan import checkpoint, gans
from pygan import device as devices
from pygan import recipe as recipes
from pygan.errors import UserError
from pygan.exported import facts
from pygan.use import Trained, built


def read(path: Path, device: str = "auto") -> Trained:
    """The network of a safetensors file that `pygan export` wrote. Half weights compute in float32.

    Errors: UserError for another file, one that is damaged, or of a GAN or recipe that this pygan does not know; before
    memory is taken for the network its shapes are compared with the file's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            table = file.metadata() or {}
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file ({error}); export it again") from error
    card = facts.read(table, str(path))
    gan = gans.load(card.gan)
    recipe = recipes.from_dict(gan.Recipe, card.recipe, str(path))
    where = devices.choose(device)
    try:
        with torch.device("meta"):
            empty = gan.generator(recipe)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError) as error:
        raise UserError(f"the recipe in {path} makes no network ({str(error).partition(chr(10))[0]})") from error
    expected = {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}
    if expected != shapes:
        first = min(name for name in expected.keys() | shapes.keys() if expected.get(name) != shapes.get(name))
        raise UserError(f"{path} does not fit the recipe in it: tensor {first!r} differs; export it again")
    return built(gan, recipe, checkpoint.read(path), card.images_seen, where, path)

"""How a program without pygan makes inputs of a network's file and pictures of its outputs: the words in the file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType

import torch
from torch import Tensor

from pygan.data import facades, sources
from pygan.errors import UserError
from pygan.exported.network import label_code, usual_where
from pygan.recipe import BaseRecipe
from pygan.use import Card

_ORDER = {
    1: "grey, of colours 0.299 red + 0.587 green + 0.114 blue",
    2: "a, b of Lab",
    3: "red, green, blue",
    sources.N_CLASSES: "one plane per label",
}
_PREPARED = {
    "canny": "edges of the grey picture by OpenCV's Canny, thresholds 128 and 128, black on white; a picture of pure "
    "black and white alone is taken as it is",
    "grey": "0.299 red + 0.587 green + 0.114 blue, rounded to 8 bits",
    "lab": "lightness L of CIE Lab (D65), 0 to 100, as L / 50 - 1, rounded to steps of 1 / 127.5",
    "mask": "rows h/4 to h/4 + h/2 and columns w/4 to w/4 + w/2, rounded down, made white (1) before padding",
    "labels": "a map of labels: one plane per label, 1 where it is and -1 elsewhere",
}
_LAB_BACK = "a and b of CIE Lab (D65), as a / 110 and b / 110, rounded to steps of 1 / 127.5"
_DEPTH = "any; white is 1 and black -1: 65535 of 16 bits, 1.0 of floats"
_MADE = {
    "pixels": "pixels",
    "ab": "a / 110 and b / 110 of CIE Lab (D65), beside the lightness L = 50 (input + 1)",
    "lightness": "lightness L of CIE Lab (D65), as L / 50 - 1",
    "labels": "one plane per label: the largest of a pixel's values is its label",
}
_PRIORS = {"normal": "normal, of mean 0 and deviation 1", "uniform": "uniform between -1 and 1"}


def of_pictures(card: Card, gan: ModuleType, recipe: BaseRecipe) -> dict[str, str]:
    """What a file says that translates, of its first way."""
    way, (given, made) = next(iter(card.channels.items()))
    height, width = card.size or ("any", "any")
    prepared, shown = _prepared(card, given), _shown(card, made)
    table = {
        "direction": way or getattr(recipe, "direction", "AtoB"),
        "input_channels": _channels(given, prepared),
        "output_channels": _channels(made, shown),
        "prepare": prepared,
        "shows": shown,
        "size": f"{height} x {width} (height x width)",
        "multiple": str(card.multiple),
        "least": str(card.least),
        "padding": "by reflection at the right and bottom to the multiple, and at least the least; cut away from the "
        "output",
        "depth": "8 bits: others are rounded to them before anything else" if _of_8_bits(card) else _DEPTH,
        "alpha": "a picture with alpha is laid on white; its alpha is the output's",
    }
    if sources.N_CLASSES in (given, made):
        table["planes"] = json.dumps(
            {
                name: "#{:02x}{:02x}{:02x}".format(*colour)
                for name, colour in zip(facades.CLASSES, facades.PALETTE[1:].tolist(), strict=True)
            }
        )
    if "to" in card.options:
        table |= _codes(card, gan, recipe)
    return table


def of_noise(card: Card, gan: ModuleType, recipe: BaseRecipe) -> dict[str, str]:
    """What a file says that makes pictures from noise."""
    table = {"noise": f"z, {card.z} values", "noise_distribution": _PRIORS[gan.prior(recipe)]}
    if card.text:
        by = f", by the encoder of the training ({recipe.text_encoder})" if hasattr(recipe, "text_encoder") else ""
        table["text"] = f"an embedding of {card.text} values{by}"
    if card.where:
        what = "box: x, y, width, height" if len(card.where) == 1 else f"{card.where[0]} points: x, y, 1 if seen"
        table["where"] = f"{what}; in parts of the picture's sides, from its left and top"
        usual = usual_where(gan, recipe, card)
        if usual is not None:
            table["usual_where"] = json.dumps(_plain(usual))
    return table


def _channels(count: int, how: str) -> str:
    what = "lightness" if how in (_PREPARED["lab"], _MADE["lightness"]) else _ORDER.get(count, "as trained")
    return f"{count}: {what}"


def _prepared(card: Card, given: int) -> str:
    if card.prepare == "labels":
        return _PREPARED["labels"] if given == sources.N_CLASSES else "as they are"
    if _backward(card):  # what is made of a picture is what comes out
        return _LAB_BACK if card.prepare == "lab" else "as they are"
    return _PREPARED.get(card.prepare, "as they are")


def _shown(card: Card, made: int) -> str:
    if made == sources.N_CLASSES:
        return _MADE["labels"]
    if card.prepare == "lab":
        return _MADE["lightness" if _backward(card) else "ab"]
    return _MADE["pixels"]


def _of_8_bits(card: Card) -> bool:
    """Is the input made of a picture by what takes 8 bits alone?"""
    return card.prepare in ("canny", "grey", "lab", "mask")


def _backward(card: Card) -> bool:
    return card.recipe.get("direction", "AtoB") == "BtoA"


def _codes(card: Card, gan: ModuleType, recipe: BaseRecipe) -> dict[str, str]:
    """Labels, and what the network is told for each."""
    names = card.options["to"]
    several = "of one label"
    try:
        if len(names) > 1:
            label_code(gan, recipe, f"{names[0]},{names[1]}")
            several = "of several labels: in each place the largest of their values"
    except UserError:
        pass  # a picture has one label alone
    codes: Mapping[str, object] = {name: _plain(label_code(gan, recipe, name)) for name in names}
    return {"labels": ", ".join(names), "code": f"what is to hold of the output; {several}", "codes": json.dumps(codes)}


def _plain(row: Tensor) -> list[float]:
    """The one row of a (1, ...) as JSON takes it, in float32's shortest decimals."""
    return row[0].to(torch.float64).tolist()

"""What a file says about the network in it: read before anything of the network is.

A flat table of words, the same in every kind of file. "pygan" is the card as JSON, from which `exported.load` restores
it; the other keys say for people, and for programs without pygan, how pixels become inputs and outputs pixels.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from pygan import gans, rundir
from pygan import recipe as recipes
from pygan.data import transforms
from pygan.errors import UserError
from pygan.exported import instructions
from pygan.use import Card
from pygan.version import __version__

CARD = "pygan"  # the key of the card
_KNOWN = {
    "prepare": ("labels", *transforms.TRANSFORMS),
    "shows": ("pixels", "ab", "labels"),
    "statistics": ("own", "running", "none"),
}


def write(card: Card, *, semantics: str, precision: str, kind: str) -> dict[str, str]:
    """The table of a file. semantics: "kept", what the run does in use, or "frozen"; precision: of the weights."""
    act = card.acts[0]
    table = {
        CARD: json.dumps(card.to_dict() | {"recipe": without_places(card)}),
        "pygan_version": __version__,
        "kind": kind,
        "gan": card.gan,
        "acts": ", ".join(card.acts),
        "images_seen": str(card.images_seen),
        "precision": precision,
        "semantics": semantics,
        "dropout": "on in use; the input seed, int64 {seed, offset}, decides its masks" if card.chance else "off",
        "batch_statistics": {"own": "of each picture", "running": "running ones", "none": "none"}[card.statistics]
        if act == "translate" or card.statistics != "own"
        else "of all pictures of a call",
        "layout": "NCHW",
        "range": "-1 to 1; of 8 bits: v / 127.5 - 1, and back round((x + 1) * 127.5)",
        "batch": str(card.batch or "any"),
    }
    gan = gans.load(card.gan)
    recipe = recipes.from_dict(gan.Recipe, card.recipe, "the card")
    if act == "translate":
        table |= instructions.of_pictures(card, gan, recipe)
    if "generate" in card.acts:
        table |= instructions.of_noise(card, gan, recipe)
    return table


def read(table: Mapping[str, str], where: str) -> Card:
    """The card of a table. Errors: UserError if there is none, or it is damaged."""
    if CARD not in table:
        raise UserError(f"{where} says nothing of its network: only files that `pygan export` wrote can be used")
    try:
        values = rundir.from_json(table[CARD])
    except ValueError as error:
        raise UserError(f"{where} is damaged (what it says of its network is not JSON); export it again") from error
    if not isinstance(values, dict):
        raise UserError(f"{where} is damaged (what it says of its network is no table); export it again")
    card = Card.from_dict(values, where)
    if why := _nonsense(card):
        raise UserError(f"{where} is damaged: its card {why}; export it again")
    if card.gan not in gans.names():
        raise UserError(f"{where} is of the GAN {card.gan[:40]!r}, which this version of pygan does not know")
    return card


def _nonsense(card: Card) -> str:
    """What about a card cannot be, as the rest of a sentence; "" if all of it can."""
    if not all(isinstance(value, str) for value in (card.gan, card.prepare, card.shows, card.statistics)):
        return "has something else than words where words belong"
    for name, known in _KNOWN.items():
        if getattr(card, name) not in known:
            return f"says something else of {name!r} than {', '.join(known)}"
    counts = (card.images_seen, card.multiple, card.least, card.z, card.text, card.batch, *card.where)
    counts += (card.size or ()) + tuple(c for pair in card.channels.values() for c in pair)
    if not all(type(value) is int and 0 <= value < 1 << 40 for value in counts) or card.multiple < 1:
        return "has something else than counts where counts belong"
    if not card.acts or set(card.acts) - {"translate", "generate"}:
        return "says of nothing that the network does"
    if len(card.size or (0, 0)) != 2 or any(len(pair) != 2 for pair in card.channels.values()):
        return "has sizes that are not two numbers"
    if ("translate" in card.acts) != bool(card.channels):
        return "does not say which channels the network takes"
    if not all(isinstance(name, str) and name.isprintable() for names in card.options.values() for name in names):
        return "has options that are not words"
    if set(card.asks) - {"text", "where"} or set(card.options) - {"direction", "to"}:
        return "asks for what no network of pygan asks"
    ways = card.options.get("direction", ("",))
    if "translate" in card.acts and set(ways) != set(card.channels):
        return "has other directions than channels"
    if not isinstance(card.recipe, Mapping) or not isinstance(card.chance, bool):
        return "has no recipe"
    return ""


def inputs(card: Card) -> tuple[str, ...]:
    """Names of the tensors that the recorded function takes, in their order."""
    if "translate" not in card.acts:
        return ("z", *card.asks)
    return "image", *(["code"] if "to" in card.options else []), *(["seed"] if card.chance else [])


def without_places(card: Card) -> dict[str, Any]:
    """The recipe for others to see: of a path of this machine only its last part stays."""
    recipe = dict(card.recipe)
    for field in dataclasses.fields(gans.load(card.gan).Recipe):
        value = recipe.get(field.name)
        if isinstance(value, str) and (value.startswith("/") or (field.metadata["session"] and "/" in value)):
            recipe[field.name] = PurePath(value).name
    return recipe

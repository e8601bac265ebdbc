"""What `Generator.generate` is asked: how many pictures, of which sentences, noise and places."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pygan import pictures, use
from pygan.data import text as texts
from pygan.errors import UserError

Numbers: TypeAlias = Tensor | np.ndarray[Any, np.dtype[Any]] | Sequence[Any]
Text: TypeAlias = str | Sequence[str] | Tensor | np.ndarray[Any, np.dtype[Any]]


class Given(TypedDict, total=False):
    """What may be asked beside the number of pictures, see `api.Generator.generate`."""

    seed: int
    text: Text | None
    z: Numbers | None
    where: Numbers | None


class Asked(NamedTuple):
    """How many pictures, and what of them is given: text (n, d), z (n, k), where (n, ...), float32 on the CPU."""

    n: int
    more: dict[str, Tensor]


def read(card: use.Card, n: int | None, text: Text | None, z: Numbers | None, where: Numbers | None) -> Asked:
    """What is asked of a network. What is given once is for all pictures. Errors: UserError, one line."""
    if "generate" not in card.acts:
        raise UserError(f"{card.gan} makes no pictures from noise; call the network with a picture")
    for name, value in (("text", text), ("where", where)):
        if value is not None and name not in card.asks:
            raise UserError(f"{name} is not something that {card.gan} can be asked; leave it out")
    if text is None and "text" in card.asks:
        raise UserError(f"{card.gan} paints sentences; give it one: text='a small red bird'")
    more = {}
    if text is not None:
        more["text"] = _rows("text", _embedded(card, text), (card.text,))
    if z is not None:
        more["z"] = _rows("z", z, (card.z,))
    if where is not None:
        more["where"] = _rows("where", where, card.where)
    number = whole("n", n, least=1) if n is not None else max((len(rows) for rows in more.values()), default=1)
    for name, rows in more.items():
        if len(rows) not in (1, number):
            raise UserError(f"{name} has {len(rows)} rows for {number} pictures; give one for each, or one for all")
    return Asked(number, {name: rows.expand(number, *rows.shape[1:]).contiguous() for name, rows in more.items()})


def checked(seed: int) -> int:
    """The seed. Errors: UserError if it is none."""
    number = whole("seed", seed, least=0)
    if number >= 1 << 63:
        raise UserError(f"seed must be less than 2**63, got {number}")
    return number


def whole(name: str, value: Any, *, least: int) -> int:
    """A whole number that a caller gave, Python's or numpy's. Errors: UserError for anything else, or a smaller one."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise UserError(f"{name} must be a whole number, at least {least}, got {value!r}")
    return number


def _embedded(card: use.Card, text: Text) -> Any:
    """Sentences as embeddings (n, d); what is no sentence is one already."""
    said = [text] if isinstance(text, str) else text
    if isinstance(said, Tensor | np.ndarray):
        return said
    if not isinstance(said, list | tuple) or not said or not all(isinstance(sentence, str) for sentence in said):
        raise UserError("text must be a sentence, a list of sentences, or embeddings as an array or tensor")
    return texts.sentences(said, str(card.recipe.get("text_encoder", "")), card.text)


def _rows(name: str, values: Any, shape: tuple[int, ...]) -> Tensor:
    """(n, *shape) float32 on the CPU; one without n is one row. Errors: UserError."""
    try:
        rows = torch.as_tensor(values).detach()
        if rows.is_complex():
            raise TypeError
        rows = rows.cpu().float()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name} must be real numbers, got {type(values).__name__}") from error
    rows = rows[None] if rows.dim() == len(shape) else rows
    if rows.shape[1:] != shape or not len(rows):
        wanted = ", ".join(("n", *map(str, shape)))
        raise UserError(f"{name} has shape {tuple(rows.shape)}, expected ({wanted})")
    if not bool(torch.isfinite(rows).all()):
        raise UserError(f"{name} must be finite numbers")
    return rows


def _as_pil(images: Tensor, device: torch.device) -> list[Image.Image]:
    return [pictures.to_image(image) for image in pictures.to_uint8(images)]


def _as_numpy(images: Tensor, device: torch.device) -> np.ndarray:
    return pictures.to_uint8(images)


def _as_torch(images: Tensor, device: torch.device) -> Tensor:
    return images.to(device)


BACK = {"pil": _as_pil, "numpy": _as_numpy, "torch": _as_torch}
"""(n, c, h, w) in [-1, 1] and the network's device -> what `as_` names."""

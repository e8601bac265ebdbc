"""The networks that are served: what each says of itself, and how the device runs a batch of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pygan import apply, pictures, pixels
from pygan.data import sources
from pygan.data import text as texts
from pygan.errors import UserError
from pygan.pixels import Picture
from pygan.use import Card, Network

_GRAPHS = 16  # that a network on a GPU keeps


@dataclass(frozen=True)
class Group:
    """What jobs must have in common to run together: one network, one set of options, one shape once padded."""

    model: str
    options: tuple[tuple[str, str], ...]
    shape: tuple[int, ...]  # (1, c, h, w) of a picture, padded
    seed: int | None  # None where nothing is drawn


@dataclass(frozen=True, eq=False)
class Job:
    """One picture for the device."""

    group: Group
    A: Tensor  # (1, c, h, w) in [-1, 1], padded


@dataclass(frozen=True, eq=False)
class Noise:
    """A job of pictures from noise, like no other: it runs alone."""

    model: str
    n: int
    seed: int
    text: Tensor | None  # (n, d), where the card asks for it


class Model:
    """A network under its name. It is a `use.Network` itself, whose card is read once and which replays on a GPU."""

    def __init__(self, name: str, network: Network) -> None:
        self.name, self.card, self.device = name, network.card, network.device
        self.rng, self.generate, self.translate = network.rng, network.generate, network.translate
        self.replays = network.device.type == "cuda"
        if self.replays:
            from pygan.translate.replay import Replay

            self.translate = Replay(network, most=_GRAPHS)
        self.translates, self.generates = "translate" in self.card.acts, "generate" in self.card.acts
        # Dropout's mask covers a batch: each picture alone. Places of a search (CoGAN) are those of a seed.
        self.alone, self.draws = self.card.chance, self.card.chance or self.card.z > 0
        self._encoder = _encoder(name, self.card) if "text" in self.card.asks else None

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """What the device computes in place of that height and width."""
        multiple, least = self.card.multiple, self.card.least
        return max(height + -height % multiple, least), max(width + -width % multiple, least)

    def most(self, height: int, width: int, most_pixels: int) -> int:
        """How many pictures of that padded size may run at once."""
        most = 1 if self.alone else max(1, most_pixels // (height * width))
        return min(most, self.card.batch or most)

    def prepared(self, picture: Picture, options: Mapping[str, str], seed: int, name: str) -> tuple[Tensor, Job]:
        """(a picture as the network sees it, unpadded (1, c, h, w); the job for the device). Errors: UserError."""
        A = apply.network_input(self, picture, options, name)
        padded = apply.pad(A, self.card.multiple, least=self.card.least)
        drawn = seed if self.draws else None
        return A, Job(Group(self.name, tuple(sorted(options.items())), tuple(padded.shape), drawn), padded)

    def result(self, image: Tensor, A: Tensor, given: Picture) -> Picture:
        """What the device made (c, h, w) of A, cut back, as a picture of the depth of the one given."""
        height, width = A.shape[2:]
        return apply.result(self, image[:, :height, :width], A[0], given)

    def noise(self, n: int, seed: int, sentence: str | None) -> Noise:
        """A job of n pictures. sentence: what is to be seen on all of them, where the card asks for text."""
        if self._encoder is None or sentence is None:
            return Noise(self.name, n, seed, None)
        return Noise(self.name, n, seed, torch.from_numpy(self._encoder.encode([sentence])).expand(n, -1))

    def plain(self) -> dict[str, Any]:
        """What `GET /v1/models` says of it: nothing of paths, nothing of data."""
        card = self.card
        kept = ("acts", "channels", "options", "prepare", "shows", "multiple", "least", "images_seen", "chance")
        values = {"name": self.name, "gan": card.gan} | {key: card.to_dict()[key] for key in kept}
        values["needs_text"] = "text" in card.asks
        size = card.size[0] if card.size else card.recipe.get("crop_size", 0)
        values["size"] = size if isinstance(size, int) else 0
        built_in = not card.recipe.get("data", "-") and card.recipe.get("direction") == "BtoA"  # pairs: B is labels
        if card.prepare == "labels" or (built_in and card.recipe.get("input_transform") == "none"):
            values["palette"] = sources.PALETTE[1:].tolist()
        return values


def picture_of(image: Tensor, shows: str) -> Picture:
    """A picture from noise, (c, h, w) in [-1, 1], as 8 bits."""
    if shows != "pixels" or image.shape[0] not in (1, 3):
        image = pictures.as_rgb(image[None])[0]
    return Picture(pixels.from_signed(image.permute(1, 2, 0).contiguous().numpy(), np.uint8))


def worker(models: Mapping[str, Model]):
    """`work` of the batcher: (group, items) -> results, (c, h, w) each; of noise one (n, c, h, w)."""

    def work(group: Group | Noise, items: Sequence[Tensor]) -> list[Tensor]:
        model = models[group.model]
        with torch.inference_mode():
            if isinstance(group, Noise):
                more = {} if group.text is None else {"text": group.text}
                return [model.generate(group.n, model.rng(group.seed), **more)]
            filled = [*items, *[items[-1]] * (_round(len(items), model) - len(items))]
            made = model.translate(torch.cat(filled), model.rng(group.seed or 0), **dict(group.options))
            return list(made[: len(items)])

    return work


def _round(n: int, model: Model) -> int:
    """How many pictures n are filled up to: a graph is of one number, and those of 1, 2, 4, 8 serve all."""
    most = model.card.batch or n
    return min(1 << (n - 1).bit_length(), max(n, most)) if model.replays and not model.alone else n


def check(models: Mapping[str, Model]) -> None:
    """Try each network on almost nothing, before anybody asks. Errors: UserError."""
    for name, model in models.items():
        if model.translates:
            to = model.card.options.get("to", ())
            apply.check(model, {"to": to[0]} if to else {}, name)
        if not (model.translates or model.generates):
            raise UserError(f"{name} is a run of {model.card.gan}, of which nothing can be asked")


def _encoder(name: str, card: Card) -> texts.Encoder:
    """What makes embeddings of sentences, once and not for every request. Errors: UserError."""
    known = card.recipe.get("text_encoder", "")
    encoder = texts.encoder(known)
    if encoder.dim != card.text:
        raise UserError(
            f"{name} was trained on embeddings of {card.text} numbers, and its text encoder {known!r} gives "
            f"{encoder.dim}: its captions were embedded by another program, and no sentence can be asked of it"
        )
    return encoder

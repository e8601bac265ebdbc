"""What a recipe will be trained on: how many pictures there are, what they decide, and the memory that they take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

from pygan import gans
from pygan.data import Facts, feeds
from pygan.data.choice import choose_feed


@dataclass(frozen=True)
class Found:
    """The set of one phase.

    items, held_out: of both splits; resident: bytes of those that are decoded once, 0 where batches are decoded as they
    are needed; kind: "resident", "pillow" or "dali", as the training will choose it; drawn: the built-in set;
    description: in words.
    """

    items: int
    held_out: int
    resident: int
    kind: str
    drawn: bool
    description: str


@dataclass(frozen=True)
class Sets:
    """The sets of all phases, and what they decide."""

    facts: Facts
    found: tuple[Found, ...]

    def of(self, gan: ModuleType, recipe: Any) -> list[tuple[Any, Found]]:
        """Each phase of a recipe that sees these sets, resolved by them, and what it is trained on."""
        return list(zip(gans.phases(gan, gan.resolve(recipe, self.facts)), self.found, strict=True))


def look(gan: ModuleType, recipe: Any, device: torch.device) -> Sets:
    """What the phases of a recipe are trained on. No picture is decoded.

    Errors: UserError for everything that is wrong with the data.
    """
    facts, found = None, []
    for number in range(len(gans.phases(gan, recipe))):
        one = gans.phases(gan, recipe if facts is None else gan.resolve(recipe, facts))[number]
        with gan.batches(replace(one, feed="pillow"), "train", device) as train:
            facts = facts or train.facts
            one = gans.phases(gan, gan.resolve(recipe, facts))[number]
            with gan.batches(replace(one, feed="pillow"), "held-out", device) as held_out:
                found.append(_found(one, train, held_out, device))
    return Sets(facts, tuple(found))


def _found(recipe: Any, train: Any, held_out: Any, device: torch.device) -> Found:
    kinds = [choose_feed(recipe.feed, split.sources, device)[0].kind for split in (train, held_out)]
    sources = [
        one for split, kind in zip((train, held_out), kinds, strict=True) if kind == "resident" for one in split.sources
    ]
    return Found(
        items=train.n_items,
        held_out=held_out.n_items,
        resident=sum(map(feeds.resident_bytes, sources)),
        kind=kinds[0],
        drawn=not any(source.files(0) for source in train.sources),
        description="; ".join(source.describe() for source in train.sources),
    )

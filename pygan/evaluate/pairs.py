"""Batch by batch: what a network makes of its feed, beside real pictures, each item once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from pygan import heldout, outputs
from pygan.ops.philox import new_rng
from pygan.outputs import Outputs
from pygan.recipe import BaseRecipe


@dataclass(frozen=True)
class Plan:
    """How many pictures a way gives. inputs, reals: items of each feed that are given to G, and that are real ones.

    fakes: pictures that G makes; from_noise: they do not come from pictures; paired: each has its real one; given,
    real: which part of a batch is what G is given, and which are the real ones, None where neither is one of them.
    """

    fakes: int
    inputs: tuple[int, ...]
    reals: tuple[int, ...]
    from_noise: bool
    paired: bool
    given: int | None
    real: int | None

    @property
    def length(self) -> int:
        """Pictures to go through, for a progress bar."""
        return max(self.fakes, sum(self.reals))


def plan(
    gan: ModuleType,
    recipe: BaseRecipe,
    G: nn.Module,
    feeds: Sequence[Any],
    way: str,
    *,
    number: int = 0,
    most: int = 0,
) -> Plan:
    """What there is to do. number: of pictures, 0: as many as the feeds have items; most: items of a feed used, 0: all.

    Of a network that paints from pictures `number` is items too, of which there are no more than the feeds have. In a
    feed of two domains the smaller one begins again before the larger one ends: those repetitions are not counted.
    """
    inputs, reals, left = [], [], number
    for feed in feeds:
        batch = next(heldout.batches(feed, feed.batch_size))
        out = outputs.of(gan, recipe, G, batch, new_rng(0, feed.device), way=way)
        sides = [_place(batch, side) for side in (out.input, out.real)]
        here = [min(_items(feed, side), most or feed.n_items) for side in sides]
        if number and out.input is not None:  # from pictures: the first items of all feeds
            here = [min(n, left) for n in here]
            left -= here[0]
        inputs.append(here[0])
        reals.append(here[1])
    from_noise = out.input is None
    fakes = number if number and from_noise else sum(inputs)
    return Plan(fakes, tuple(inputs), tuple(reals), from_noise, out.paired, *sides)


def batches(
    gan: ModuleType, recipe: BaseRecipe, G: nn.Module, feeds: Sequence[Any], way: str, todo: Plan, *, seed: int
) -> Iterator[Outputs]:
    """What is planned: `fake` may be empty where there are more real pictures than asked for, and the other way round.

    What is drawn (noise, dropout) comes from `seed` and the number of the batch. Where more pictures are wanted from
    noise than there are items, the feed's batches come again, for what they say besides pictures.
    """
    made = number = 0
    for feed, inputs, reals in zip(feeds, todo.inputs, todo.reals, strict=True):
        first = 0
        for batch in heldout.batches(feed, max(inputs, reals)):
            out = _of(gan, recipe, G, batch, way, seed, number)
            fakes = todo.fakes - made if todo.from_noise else min(inputs - first, todo.fakes - made)
            fakes = max(0, min(fakes, len(out.fake)))
            yield _cut(out, fakes, max(0, reals - first))
            made, number, first = made + fakes, number + 1, first + len(batch[0])
    again = 0
    while made < todo.fakes and todo.from_noise:
        feed = feeds[-1]
        # A batch of pictures alone tells how many are wanted and no more: any will do, and costs nothing to read.
        batch = feed.get(again * feed.batch_size) if hasattr(batch, "text") or again == 0 else batch
        out = _of(gan, recipe, G, batch, way, seed, number)
        fakes = min(len(out.fake), todo.fakes - made)
        yield _cut(out, fakes, 0)
        made, number, again = made + fakes, number + 1, again + 1


def _of(gan: ModuleType, recipe: BaseRecipe, G: nn.Module, batch: Any, way: str, seed: int, number: int) -> Outputs:
    rng = new_rng(seed, batch[0].device)
    rng[1] = number
    return outputs.of(gan, recipe, G, batch, rng, way=way)


def _cut(out: Outputs, fakes: int, reals: int) -> Outputs:
    given = None if out.input is None else out.input[:fakes]
    return Outputs(out.fake[:fakes], out.real[:reals], given, out.paired)


def pictures(feed: Any, part: int | None, most: int) -> Iterator[Tensor]:
    """The pictures (n, c, h, w) of one part of the batches, of the first `most` items; none of no part."""
    if part is not None:
        yield from (batch[part] for batch in heldout.batches(feed, most))


def _place(batch: Any, side: Tensor | None) -> int | None:
    """Which part of the batch a side of the outputs is."""
    return next((k for k, part in enumerate(batch) if part is side), None)


def _items(feed: Any, part: int | None) -> int:
    """How many different pictures a part of the batches has in one epoch."""
    two_domains = len(feed.sources) == 2 and part is not None and feed.sources[0] is not feed.sources[1]
    return len(feed.sources[part]) if two_domains and part < 2 else feed.n_items

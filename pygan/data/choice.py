"""Which feed a set gets: the whole of it on the device, DALI, or Pillow."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch

from pygan.data.feeds import PillowFeed, ResidentFeed, SourceFeed, memory_budget, resident_bytes
from pygan.data.sources import Source
from pygan.data.stream import Stream
from pygan.errors import UserError


def stream_of(
    recipe: Any, split: str, source: Source, *, rank: int = 0, world: int = 1, batch: int = 0, salt: int = 0
) -> Stream:
    """The order of a source's items: "train" is shuffled, cropped and mirrored, "held-out" read in order, uncropped.

    batch: images per batch, 0: recipe.batch; salt: see `Stream`.
    """
    train = split == "train"
    return Stream(
        n_items=len(source), seed=recipe.seed, batch=batch or recipe.batch, load_size=source.load_size,
        crop_size=recipe.crop_size, rank=rank, world=world, flip=recipe.flip and train, shuffle=train, salt=salt,
    )  # fmt: skip


def open_feeds(
    recipe: Any, sets: Sequence[tuple[Source, Stream]], device: torch.device | str, *, swap: bool = False
) -> list[SourceFeed]:
    """A feed of each (source, stream) on `device`, all of one kind. A source that comes twice is decoded once.

    recipe.feed "auto": resident if the decoded sets fit the memory budget, else DALI on a GPU where it is installed and
    can decode the files, else Pillow. Errors: UserError for a feed that cannot be had.
    """
    device = torch.device(device)
    feed_type, because = choose_feed(recipe.feed, list(dict.fromkeys(source for source, _ in sets)), device)
    feeds: dict[Source, SourceFeed] = {}
    opened = []
    for source, stream in sets:
        if feed_type is ResidentFeed and source in feeds:
            feed = ResidentFeed(source, stream, device, swap, beside=feeds[source])
        else:
            feed = feeds[source] = feed_type(source, stream, device, swap)
        feed.chosen_because = because
        opened.append(feed)
    return opened


def choose_feed(kind: str, sources: Sequence[Source], device: torch.device) -> tuple[type[SourceFeed], str]:
    """The feed to use, and in words why, where the recipe leaves it open. Errors: UserError if it cannot be had."""
    needed, budget = sum(map(resident_bytes, sources)), memory_budget(device)
    if kind == "resident" and needed > budget:
        raise UserError(
            f"the decoded set takes {needed / 2**30:.1f} GiB, more than a quarter of the free memory "
            f"({budget / 2**30:.1f} GiB): use --feed pillow, or --feed dali on a GPU"
        )
    if kind == "resident":
        return ResidentFeed, ""
    if kind == "pillow":
        return PillowFeed, ""
    if kind == "dali":
        from pygan.data.dali import DaliFeed  # says what to install where DALI is missing

        return DaliFeed, ""
    if needed <= budget:
        return ResidentFeed, " (the decoded set fits in memory)"
    if device.type != "cuda":
        return PillowFeed, " (too large for memory, and DALI is slower on a CPU)"
    if not _has_dali():
        return PillowFeed, " (too large for memory, and DALI is not installed)"
    from pygan.data.dali import DaliFeed, why_not

    for source in sources:
        if reason := why_not(source):
            return PillowFeed, f" (too large for memory, and {reason})"
    return DaliFeed, " (too large for memory)"


def _has_dali() -> bool:
    return importlib.util.find_spec("nvidia") is not None and importlib.util.find_spec("nvidia.dali") is not None

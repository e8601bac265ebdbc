"""From a recipe to the feed of a set that is no set of pairs: two domains, one, with labels or with captions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pygan.data.choice import open_feeds, stream_of
from pygan.data.feeds import (
    Batch,
    Captioned,
    CaptionedWrong,
    Facts,
    Feed,
    JointLabelled,
    Labelled,
    LocatedCaptioned,
    SetFeed,
)
from pygan.data.sources import Source
from pygan.data.stream import Others, Stream
from pygan.errors import UserError

_CAPTION = 2  # use of a sample's random numbers, see `Stream.random`


def unpaired_feed(recipe: Any, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """`Batch` of two domains: A and B are shuffled, cropped and mirrored each by itself. An epoch is the larger domain.

    split: "train" or "held-out". Errors: UserError, one line, for everything that is wrong with the data.
    """
    from pygan.data.unpaired import unpaired_sources

    sources = unpaired_sources(recipe, split)
    streams = [stream_of(recipe, split, s, rank=rank, world=world, salt=16 * k) for k, s in enumerate(sources)]
    parts = open_feeds(recipe, list(zip(sources, streams, strict=True)), device)
    return SetFeed(parts, (), Batch, Facts(tuple(source.channels[0] for source in sources)))


def pictures_feed(recipe: Any, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """`Pictures` of one set. Arguments and errors as in `unpaired_feed`."""
    from pygan.data.singles import pictures_source

    source = pictures_source(recipe, split)
    (feed,) = open_feeds(recipe, [(source, stream_of(recipe, split, source, rank=rank, world=world))], device)
    return feed


def labelled_feed(
    recipe: Any, split: str, device: torch.device | str, rank: int = 0, world: int = 1, *, batch: int = 0
) -> Feed:
    """`Labelled` of the set recipe.data, or `JointLabelled` of that and recipe.data_2 where there is one.

    batch: images of each set per batch, 0: recipe.batch. Else arguments and errors as in `unpaired_feed`.
    """
    from pygan.data.labelled import labelled_source

    sources = [labelled_source(recipe, split, recipe.data)]
    if recipe.data_2:
        sources.append(labelled_source(recipe, split, recipe.data_2))
    attrs = [name.strip() for name in recipe.attrs.split(",")] if getattr(recipe, "attrs", "").strip() else []
    if attrs and all(list(source.labels) != attrs for source in sources):
        raise UserError(f"--attrs {recipe.attrs}: {sources[0].describe()} has classes, no attributes; leave it out")
    parts = open_feeds(
        recipe,
        [
            (source, stream_of(recipe, split, source, rank=rank, world=world, batch=batch, salt=16 * k))
            for k, source in enumerate(sources)
        ],
        device,
    )
    labels = [_of_items(part.stream, source.facts["label"]) for part, source in zip(parts, sources, strict=True)]
    facts = Facts((sources[0].channels[0],), labels=sources[0].labels, single=_is_single(sources[0]))
    if len(sources) == 1:
        return SetFeed(parts, labels, Labelled, facts)
    if sources[0].channels != sources[1].channels:
        counts = " and ".join(str(source.channels[0]) for source in sources)
        raise UserError(f"--data and --data-2 must have as many channels, got {counts}")
    facts = Facts(
        facts.channels,
        labels=facts.labels,
        labels_2=sources[1].labels,
        single=facts.single,
        single_2=_is_single(sources[1]),
    )

    def joint(image, image_2, label, label_2):
        return JointLabelled(image, label, image_2, label_2)

    return SetFeed(parts, labels, joint, facts)


def captioned_feed(
    recipe: Any, split: str, device: torch.device | str, rank: int = 0, world: int = 1, *, wrong: bool = False
) -> Feed:
    """`Captioned` pictures; wrong: `CaptionedWrong`; with recipe.where "box" or "keypoints": `LocatedCaptioned`.

    recipe.captions_per_image: "one" drawn at random of a picture's captions, or "mean4", the mean embedding of four
    drawn without replacement (all, where there are fewer); held-out pictures have their first, or their first four.
    Arguments and errors as in `unpaired_feed`.
    """
    from pygan.data.captioned import captioned_source

    source = captioned_source(recipe, split)
    stream = stream_of(recipe, split, source, rank=rank, world=world)
    where = getattr(recipe, "where", "")
    name = {"": "", "box": "box", "keypoints": "keypoints"}[where]
    if name and name not in source.facts:
        what = {"box": "boxes", "keypoints": "key points"}[where]
        raise UserError(f"--where {where}: {source.describe()} has no {what} of its pictures")
    sets = [(source, stream)]
    if wrong or name:
        sets.append((source, Others.beside(stream, source.facts.get("class"))))
    parts = open_feeds(recipe, sets, device)
    columns = [_texts(stream, source, 4 if recipe.captions_per_image == "mean4" else 1)]
    facts = Facts((source.channels[0],), text_dim=source.texts.shape[1])
    if not name:
        return SetFeed(parts, columns, CaptionedWrong if wrong else Captioned, facts)
    columns.append(_located(stream, source, name))
    facts = Facts(facts.channels, text_dim=facts.text_dim, where=source.facts[name].shape[1:])
    return SetFeed(parts, columns, LocatedCaptioned, facts)


def _is_single(source: Source) -> bool:
    """Is exactly one label 1 in every picture?"""
    return bool((source.facts["label"].sum(1) == 1).all())


def _of_items(stream: Stream, values: np.ndarray) -> Callable[[int], np.ndarray]:
    values = values.astype(np.float32)
    return lambda images_seen: values[stream.draw(images_seen).items]


def _texts(stream: Stream, source: Any, count: int) -> Callable[[int], np.ndarray]:
    """The embedding of a caption of each picture, or the mean of those of `count`."""
    ranges, texts = source.facts["text_range"], source.texts  # (n, 2): first, how many; (captions, d)

    def column(images_seen: int) -> np.ndarray:
        rows = []
        for item, sample in zip(stream.draw(images_seen).items, stream.samples(images_seen), strict=True):
            first, there = (int(value) for value in ranges[item])
            chosen = np.arange(min(count, there))
            if stream.shuffle:
                chosen = np.argsort(stream.random(_CAPTION, sample, there), kind="stable")[: len(chosen)]
            rows.append(texts[first + chosen].mean(0, dtype=np.float32))
        return np.stack(rows)

    return column


def _located(stream: Stream, source: Source, name: str) -> Callable[[int], np.ndarray]:
    """Boxes or key points in parts of the crop, from those in parts of the whole picture."""
    values = source.facts[name].astype(np.float32)
    load, crop = stream.load_size, stream.crop_size
    mirror = list(source.mirror) or list(range(values.shape[1]))

    def column(images_seen: int) -> np.ndarray:
        draw = stream.draw(images_seen)
        corner = np.stack([draw.left, draw.top], axis=1) / load  # (n, 2), in parts of the whole
        here, flip, scale = values[draw.items].copy(), draw.flip, load / crop
        if name == "box":
            low, high = here[:, :2], here[:, :2] + here[:, 2:]
            low, high = (np.clip((edge - corner) * scale, 0, 1) for edge in (low, high))
            low[flip, 0], high[flip, 0] = 1 - high[flip, 0], 1 - low[flip, 0]
            return np.concatenate([low, high - low], axis=1).astype(np.float32)
        here[:, :, :2] = (here[:, :, :2] - corner[:, None]) * scale
        here[flip, :, 0] = 1 - here[flip, :, 0]
        here[flip] = here[flip][:, mirror]
        outside = ((here[:, :, :2] < 0) | (here[:, :, :2] > 1)).any(-1)
        here[outside] = 0
        return here.astype(np.float32)

    return column

"""The pictures that are shown to people: real ones and a network's, alike in everything but who made them."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pygan.errors import UserError

_SAY_EVERY_S = 5.0


class System(NamedTuple):
    """What is judged: a generator at a moment of its training, in one of its ways."""

    run: str  # absolute path of the run directory
    images_seen: int
    way: str  # "AtoB", a label, or "" where there is but one way


@dataclass(frozen=True)
class Pool:
    """Pictures of one system, uint8 (h, w, 3), all of one size.

    real, fake: where `paired`, a real picture and the fake of the same number belong together. inputs: what a fake
    of the same number was painted from, uint8 (h, w, 3), or its caption; None for noise. names: of the held-out items
    that the fakes belong to.
    """

    system: System
    checkpoint: str
    real: Sequence[np.ndarray]
    fake: Sequence[np.ndarray]
    paired: bool
    inputs: Sequence[np.ndarray | str] | None
    names: Sequence[str]

    @property
    def pairs(self) -> int:
        """How many pairs can be shown without showing a picture twice."""
        return min(len(self.real), len(self.fake))


def make(run: Path, *, most: int, checkpoint: str, device: str, data: str, way: str, seed: int) -> Pool:
    """At most `most` real and as many fake pictures, of the first held-out items that give them.

    checkpoint, device: as in `use.load`; data: another folder than the run's, "" for its own; way: one of
    `outputs.ways`, "" for the first; seed: of noise, and of dropout at test time. Errors: UserError.
    """
    from pygan import heldout, log, outputs, pictures, use

    trained = use.load(run, checkpoint, device)
    ways = outputs.ways(trained.gan, trained.recipe)
    if way and way not in ways:
        known = f"there are {', '.join(ways)}" if ways != ("",) else "it has only one way; leave the flag out"
        raise UserError(f"--way {way}: no way of {run}; {known}")
    way = way or ways[0]
    real: list[np.ndarray] = []
    fake: list[np.ndarray] = []
    inputs: list[np.ndarray | str] = []
    paired, out = False, log.console()
    began = said = time.monotonic()
    with _feed(trained, run, data) as feed:
        captions = _captions(feed)
        for number, batch in enumerate(heldout.batches(feed, feed.n_items)):
            # Drawing does not move a generator of random numbers on, so each batch has one of its own.
            made = outputs.of(
                trained.gan, trained.recipe, trained.net, batch, trained.rng(_mixed(seed, number)), way=way
            )
            paired = made.paired
            beside = made.input
            real += _pixels(pictures.to_uint8(pictures.as_rgb(made.real.float(), beside)))
            fake += _pixels(pictures.to_uint8(pictures.as_rgb(made.fake.float(), beside)))
            if beside is not None:
                inputs += _pixels(pictures.to_uint8(pictures.as_rgb(beside.float())))
            done = min(len(real), len(fake), most)
            if done == most:
                break
            if time.monotonic() - said > _SAY_EVERY_S:
                said = time.monotonic()
                rate = done / (said - began)
                left = log.duration((most - done) / rate) if rate else "?"
                out.print(f"{run}: {done}/{most} pictures  {rate:.1f} images/s  {left} left", markup=False)
        source = feed.sources[-1 if way == "BtoA" else 0]
        names = list(source.names())
    if not real:
        raise UserError(f"{run} has no held-out picture of {way}; choose another --way, or name a larger --data")
    if real[0].shape != fake[0].shape:
        (height, width), (h, w) = real[0].shape[:2], fake[0].shape[:2]
        raise UserError(f"{run} paints {w}x{h} pixels, its real pictures have {width}x{height}: people would see that")
    system = System(str(run.resolve()), trained.images_seen, way)
    beside = inputs[:most] if inputs else captions[: len(fake[:most])] if captions else None
    return Pool(system, checkpoint, real[:most], fake[:most], paired, beside, names[:most])


def to_png(pixels: np.ndarray) -> bytes:
    """uint8 (h, w, 3) -> a PNG file that is not compressed: pictures of one size are files of one size."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def _feed(trained: Any, run: Path, data: str) -> Any:
    """The held-out feed; decoded when asked for, since only the first items are wanted. Errors: UserError."""
    recipe = replace(trained.recipe, feed="pillow", **({"data": data} if data else {}))
    try:
        return trained.gan.batches(recipe, "held-out", trained.device)
    except UserError as reason:
        if data:
            raise UserError(f"--data {data} does not fit {run}: {reason}") from reason
        raise UserError(f"the held-out items of {run} cannot be read: {reason}; --data DIR names another place") from (
            reason
        )


def _captions(feed: Any) -> list[str]:
    """The caption that each held-out picture has been given, in order; [] where there are none, or no words."""
    source = feed.sources[0]
    if not hasattr(source, "captions"):
        return []
    said = [source.captions[first] for first, _ in source.facts["text_range"]]
    return said if all(said) else []


def _pixels(images: np.ndarray) -> list[np.ndarray]:
    """uint8 (n, h, w, 1 or 3) -> n of (h, w, 3): a grey picture among coloured ones would betray itself."""
    return [np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3))) for image in images]


def _mixed(seed: int, number: int) -> int:
    """A seed for a batch, far from those of other seeds and batches: in 0..2**63-1."""
    return int(np.random.Philox(key=seed, counter=[0, 0, 0, number]).random_raw() >> np.uint64(1))

"""Which images, which crop and which flip make the batch at a given number of images seen.

A training set is an endless stream: epoch e is a permutation drawn from (seed, e), and sample s of the stream has
its own crop and flip drawn from (seed, s). Nothing is remembered between batches, so a resumed run, a rerun and
every feed see the same pixels, and N processes share the stream by taking every N-th batch of it.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, fields

import numpy as np

_ORDER, _AUGMENT = 0x0DE5, 0xA06A  # two uses of one seed: the upper words of the Philox counter


@dataclass(frozen=True)
class Draw:
    """One batch of the stream. Arrays of length `batch`, one entry per sample."""

    items: np.ndarray  # int64, index into the dataset
    top: np.ndarray  # int64, crop offset in pixels from the top of the load-size image
    left: np.ndarray  # int64, crop offset in pixels from its left edge
    flip: np.ndarray  # bool, mirrored left to right


@dataclass(frozen=True)
class Stream:
    """Address space of a training set (spec: one set of random numbers for A and B of a pair).

    n_items: images in the set; batch: samples per process and step; rank, world: this process and how many there
    are; load_size, crop_size: pixels, height and width alike; flip: mirror half of the samples; shuffle: permute
    every epoch (off for held-out sets, which then are read in order, centre-cropped and never mirrored). salt: tells
    streams of one seed apart that must have nothing to do with each other (the two domains of an unpaired set).
    """

    n_items: int
    seed: int
    batch: int
    load_size: int
    crop_size: int
    rank: int = 0
    world: int = 1
    flip: bool = True
    shuffle: bool = True
    salt: int = 0

    def __post_init__(self) -> None:
        if self.n_items < 1:
            raise ValueError(f"n_items must be at least 1, got {self.n_items}")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank must be in 0..{self.world - 1}, got {self.rank}")
        if self.crop_size > self.load_size:
            raise ValueError(f"crop_size must not exceed load_size={self.load_size}, got {self.crop_size}")

    def order(self, epoch: int) -> np.ndarray:
        """The permutation of epoch `epoch` (0-based): int64, shape (n_items,)."""
        if not self.shuffle:
            return np.arange(self.n_items)
        return _permutation(self.seed, epoch, self.n_items, self.salt)

    def samples(self, images_seen: int) -> range:
        """The numbers, in the endless stream, of the samples of the batch at that address."""
        first = images_seen + self.rank * self.batch
        return range(first, first + self.batch)

    def random(self, use: int, sample: int, count: int) -> np.ndarray:
        """`count` numbers of this stream's sample, uint64 in [0, 2^32); use: 1 .. 15, tells purposes apart."""
        return self._random(use << 16, sample, count)

    def _random(self, use: int, sample: int, count: int) -> np.ndarray:
        return _words(self.seed, use + (self.salt << 32), sample, count) >> np.uint64(32)

    def draw(self, images_seen: int) -> Draw:
        """The batch of this process when all processes together have seen `images_seen` images."""
        samples = self.samples(images_seen)
        orders = {epoch: self.order(epoch) for epoch in {s // self.n_items for s in samples}}
        items = np.array([orders[s // self.n_items][s % self.n_items] for s in samples], dtype=np.int64)
        slack = self.load_size - self.crop_size
        if not self.shuffle:
            centre = np.full(self.batch, slack // 2, dtype=np.int64)
            return Draw(items, centre, centre.copy(), np.zeros(self.batch, dtype=bool))
        words = np.stack([self._random(_AUGMENT, s, 3) for s in samples])
        top, left = ((words[:, i] * np.uint64(slack + 1)) >> np.uint64(32) for i in (0, 1))  # 0..slack, equally likely
        return Draw(items, top.astype(np.int64), left.astype(np.int64), (words[:, 2] >> np.uint64(31) == 1) & self.flip)


@functools.lru_cache(maxsize=8)  # a batch asks for one epoch's order again and again; two at its end
def _permutation(seed: int, epoch: int, n_items: int, salt: int) -> np.ndarray:
    order = np.argsort(_words(seed, _ORDER + (salt << 32), epoch, n_items), kind="stable")
    order.flags.writeable = False
    return order


def _words(seed: int, use: int, index: int, count: int) -> np.ndarray:
    """`count` random 64-bit words: raw Philox output, which NumPy keeps the same from version to version."""
    return np.random.Philox(key=seed % (1 << 63), counter=[0, 0, index, use]).random_raw(count)


@dataclass(frozen=True)
class Others(Stream):
    """Beside each sample of a stream a picture of the same set that does not belong to it, with its own crop and flip.

    of: the stream; classes: int64 (n_items,), or None where every picture is its own class. Another picture is drawn;
    on a collision of classes its number is moved on by 100 to 199, modulo the set, as StackGAN's code does; where that
    does not help, by one until it does. In a set of one class another picture is all that can be had.
    """

    of: Stream | None = None
    classes: np.ndarray | None = None

    @staticmethod
    def beside(of: Stream, classes: np.ndarray | None) -> Others:
        """The stream of wrong pictures beside those of `of`."""
        return Others(
            **{f.name: getattr(of, f.name) for f in fields(Stream)} | {"salt": of.salt + 1}, of=of, classes=classes
        )

    def draw(self, images_seen: int) -> Draw:
        own = self.of.draw(images_seen).items
        items = [self._other(int(i), s) for i, s in zip(own, self.samples(images_seen), strict=True)]
        return dataclasses.replace(super().draw(images_seen), items=np.array(items, dtype=np.int64))

    def _other(self, own: int, sample: int) -> int:
        n = self.n_items
        if n == 1:
            return own
        where, shift = (int(word) for word in self.random(1, sample, 2))
        other = (own + 1 + (where * (n - 1) >> 32)) % n  # any but itself
        classes = self.classes
        if classes is None or (classes == classes[own]).all():
            return other
        if classes[other] == classes[own]:
            other = (other + 100 + (shift * 100 >> 32)) % n
        while classes[other] == classes[own]:
            other = (other + 1) % n
        return other

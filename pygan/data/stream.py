"""Which images, which crop and which flip make the batch at a given number of images seen.

A training set is an endless stream: epoch e is a permutation drawn from (seed, e), and sample s of the stream has
its own crop and flip drawn from (seed, s). Nothing is remembered between batches, so a resumed run, a rerun and
every feed see the same pixels, and N processes share the stream by taking every N-th batch of it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

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
    every epoch (off for held-out sets, which then are read in order, centre-cropped and never mirrored).
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
        return _permutation(self.seed, epoch, self.n_items)

    def draw(self, images_seen: int) -> Draw:
        """The batch of this process when all processes together have seen `images_seen` images."""
        first = images_seen + self.rank * self.batch
        samples = range(first, first + self.batch)
        orders = {epoch: self.order(epoch) for epoch in {s // self.n_items for s in samples}}
        items = np.array([orders[s // self.n_items][s % self.n_items] for s in samples], dtype=np.int64)
        slack = self.load_size - self.crop_size
        if not self.shuffle:
            centre = np.full(self.batch, slack // 2, dtype=np.int64)
            return Draw(items, centre, centre.copy(), np.zeros(self.batch, dtype=bool))
        words = np.stack([_words(self.seed, _AUGMENT, s, 3) >> np.uint64(32) for s in samples])  # 32 random bits each
        top, left = ((words[:, i] * np.uint64(slack + 1)) >> np.uint64(32) for i in (0, 1))  # 0..slack, equally likely
        return Draw(items, top.astype(np.int64), left.astype(np.int64), (words[:, 2] >> np.uint64(31) == 1) & self.flip)


@functools.lru_cache(maxsize=4)  # a batch asks for one epoch's order again and again; two at its end
def _permutation(seed: int, epoch: int, n_items: int) -> np.ndarray:
    order = np.argsort(_words(seed, _ORDER, epoch, n_items), kind="stable")
    order.flags.writeable = False
    return order


def _words(seed: int, use: int, index: int, count: int) -> np.ndarray:
    """`count` random 64-bit words: raw Philox output, which NumPy keeps the same from version to version."""
    return np.random.Philox(key=seed % (1 << 63), counter=[0, 0, index, use]).random_raw(count)

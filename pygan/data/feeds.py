"""Batches addressed by images seen: the one face of all feeds, and the two feeds that need nothing but Pillow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch

from pygan.data.sources import PairSource
from pygan.data.stream import Stream


class Batch(NamedTuple):
    """One batch on the device: float32, (n, c, h, w) in channels_last memory, in [-1, 1]."""

    A: torch.Tensor  # the network's input: the direction has been applied
    B: torch.Tensor  # its target


class Feed(ABC):
    """Endless batches of a `PairSource` in the order of a `Stream`.

    kind: "resident", "pillow" or "dali". Constructor of every feed: `(source, stream, device, swap)`, where swap
    means that source.B is the network's input (direction "BtoA").
    """

    kind: str

    def __init__(self, source: PairSource, stream: Stream, device: torch.device, swap: bool) -> None:
        self.source = source
        self.stream = stream
        self.device = torch.device(device)
        self.swap = swap

    @property
    def n_items(self) -> int:
        """Pairs in the set: the length of one epoch in images."""
        return self.stream.n_items

    @abstractmethod
    def get(self, images_seen: int) -> Batch:
        """The batch of this process when all processes together have seen `images_seen` images. Any order."""

    @abstractmethod
    def describe(self) -> str:
        """One line for the user: which feed, of what, and where its pixels live."""

    @abstractmethod
    def close(self) -> None:
        """Give threads and memory back; may be called twice."""

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _finish(self, A: torch.Tensor, B: torch.Tensor) -> Batch:
        """From cropped and mirrored uint8 (n, h, w, c) of the source's A and B to the batch the network sees."""
        A, B = normalise(A), normalise(B)
        if self.source.mask_centre:
            quarter, half = A.shape[2] // 4, A.shape[2] // 2
            A[:, :, quarter : quarter + half, quarter : quarter + half] = 1.0
        return Batch(B, A) if self.swap else Batch(A, B)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in channels_last memory: x / 127.5 - 1, without a copy to reorder."""
    return pixels.to(torch.float32).div_(127.5).sub_(1.0).permute(0, 3, 1, 2)

"""Where pairs of pictures come from: one face over every layout on disk and over the built-in facades."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np


class PairSource(ABC):
    """A finite, ordered set of picture pairs of one split, each at `load_size` x `load_size` pixels.

    Everything here is deterministic and safe to call from several threads: item i is the same pixels every time,
    which is what lets all feeds agree. Crop, flip, direction and normalisation belong to the feeds.

    load_size: pixels, height and width alike, of the arrays that `pair` returns.
    channels: (channels of A, channels of B), each 1, 2 (Lab: a and b), 3 or 12 (one plane per facade class).
    filters: how A and B are resized to load_size: "bicubic", "bilinear", "area" or "nearest" (Pillow's filters,
        with antialiasing; "area" is Pillow's BOX). Not aspect-preserving.
    natural_direction: "AtoB" or "BtoA", what `direction="auto"` means for this set.
    mask_centre: the feed must set the central half-size square of the cropped A to 1.0 (inpainting).
    """

    load_size: int
    channels: tuple[int, int]
    filters: tuple[str, str]
    natural_direction: str = "AtoB"
    mask_centre: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Number of pairs, at least 1."""

    @abstractmethod
    def names(self) -> list[str]:
        """One name per pair, unique, without extension: what logs and sample grids call it."""

    @abstractmethod
    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Pair i as (A, B): uint8, C-contiguous, (load_size, load_size, channels). 0..255 stands for [-1, 1]."""

    @abstractmethod
    def describe(self) -> str:
        """One line for the user: what was found, how many, which direction is natural."""

    def paths(self, i: int) -> tuple[Path, ...] | None:
        """The files of pair i for a feed that decodes on its own; None when the pixels need `pair`.

        One path: A is its left half, B its right half (the width is even). Two paths: the file of A, the file of B.
        """
        return None

    def file_modes(self) -> frozenset[tuple[str, str]]:
        """What lies on disk: (Pillow format, Pillow mode) of every file, e.g. ("JPEG", "RGB"); empty without files."""
        return frozenset()

"""Where pairs of pictures come from: one face over every layout on disk and over the built-in facades."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image

from pygan.data import transforms
from pygan.data.facades import PALETTE, facade
from pygan.data.images import halves, load, open_upright, resize
from pygan.data.index import Entry
from pygan.data.layouts import Item
from pygan.errors import UserError

N_CLASSES = len(PALETTE) - 1
"""Facade classes: a label side with this many channels is one-hot, 255 (that is 1.0) in the plane of its class."""

_SPLIT_STRIDE = 1_000_000  # house numbers of val and test start at one and two times this


class Source(ABC):
    """A finite, ordered set of items of one split, each of one or more pictures of `load_size` x `load_size` pixels.

    Everything here is deterministic and safe to call from several threads: item i is the same pixels every time,
    which is what lets all feeds agree. Crop, flip, direction and normalisation belong to the feeds.

    load_size: pixels, height and width alike, of the arrays that `pictures` returns.
    channels: of each picture of an item.
    filters: how each picture is resized to load_size: "bicubic", "bilinear", "area" or "nearest" (Pillow's filters,
        with antialiasing; "area" is Pillow's BOX). Not aspect-preserving.
    labels: names of the columns of facts["label"]; empty for a set without labels.
    facts: what is known about each item besides its pixels, by name: arrays whose first dimension is the item.
    mirror: which key point each of facts["keypoints"] becomes in a mirrored picture; empty: itself.
    """

    load_size: int
    channels: tuple[int, ...]
    filters: tuple[str, ...]
    natural_direction: str = "AtoB"
    mask_centre: bool = False
    labels: tuple[str, ...] = ()
    facts: Mapping[str, np.ndarray] = MappingProxyType({})
    mirror: tuple[int, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Number of items, at least 1."""

    @abstractmethod
    def names(self) -> list[str]:
        """One name per item, unique, without extension: what logs and sample grids call it."""

    @abstractmethod
    def pictures(self, i: int) -> tuple[np.ndarray, ...]:
        """The pictures of item i: uint8, C-contiguous, (load_size, load_size, channels). 0..255 stands for [-1, 1]."""

    @abstractmethod
    def describe(self) -> str:
        """One line for the user: what was found, and how many."""

    def paths(self, i: int) -> tuple[Path, ...] | None:
        """The files of item i for a feed that decodes on its own; None when the pixels need `pictures`."""
        return None

    def files(self, i: int) -> tuple[Path, ...]:
        """The files that item i is made from, in whatever way; empty for a set that is drawn."""
        return ()

    def file_modes(self) -> frozenset[tuple[str, str]]:
        """What lies on disk: (Pillow format, Pillow mode) of every file, e.g. ("JPEG", "RGB"); empty without files."""
        return frozenset()


class PictureSource(Source):
    """Items of one picture each. `paths`, where there are any: one file."""

    @abstractmethod
    def picture(self, i: int) -> np.ndarray:
        """The picture of item i: uint8, C-contiguous, (load_size, load_size, channels[0])."""

    def pictures(self, i: int) -> tuple[np.ndarray, ...]:
        return (self.picture(i),)


class PairSource(Source):
    """Items of two pictures each, A and B.

    channels: of A and B, each 1, 2 (Lab: a and b), 3 or 12 (one plane per facade class).
    natural_direction: "AtoB" or "BtoA", what `direction="auto"` means for this set.
    mask_centre: the feed must set the central half-size square of the cropped A to 1.0 (inpainting).
    `paths`: one file, whose left half is A and whose right half is B (the width is even), or the two files.
    """

    @abstractmethod
    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Pair i as (A, B): uint8, C-contiguous, (load_size, load_size, channels). 0..255 stands for [-1, 1]."""

    def pictures(self, i: int) -> tuple[np.ndarray, ...]:
        return self.pair(i)


class FilePairs(PairSource):
    """Pairs read from files, one or two per pair. Decodes at every call: keeping pixels is the feeds' business."""

    def __init__(
        self,
        items: Sequence[Item],
        entries: dict[Path, Entry],
        *,
        load_size: int,
        channels: tuple[int, int],
        filters: tuple[str, str],
        natural_direction: str,
        description: str,
    ) -> None:
        self.items = list(items)
        self.load_size, self.channels, self.filters = load_size, channels, filters
        self.natural_direction = natural_direction
        self._modes = frozenset(_kind_on_disk(entries[file]) for item in self.items for file in item.files)
        self._description = description

    def __len__(self) -> int:
        return len(self.items)

    def names(self) -> list[str]:
        return [item.name for item in self.items]

    def describe(self) -> str:
        return self._description

    def files(self, i: int) -> tuple[Path, ...]:
        return self.items[i].files

    def file_modes(self) -> frozenset[tuple[str, str]]:
        return self._modes

    def _load(self, file: Path, side: int) -> np.ndarray:
        return resize(load(file, self.channels[side]), self.load_size, self.filters[side])


class SideBySide(FilePairs):
    """A is the left half of each picture, B the right. The halves are cut before they are resized."""

    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        (file,) = self.items[i].files
        wide = load(file, max(self.channels))
        A, B = (
            resize(half if max(self.channels) == n else half.convert("L"), self.load_size, name)
            for half, n, name in zip(halves(wide), self.channels, self.filters, strict=True)
        )
        return A, B

    def paths(self, i: int) -> tuple[Path, ...]:
        return self.items[i].files


class TwoFolders(FilePairs):
    """A and B are files of the same name in two folders; their sizes may differ."""

    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        a, b = self.items[i].files
        return self._load(a, 0), self._load(b, 1)

    def paths(self, i: int) -> tuple[Path, ...]:
        return self.items[i].files


class CmpFacades(FilePairs):
    """The CMP facades: A is the photo, B the label picture, drawn in the CMP colours or one-hot (12 channels)."""

    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        photo, labels = self.items[i].files
        ids = resize(Image.fromarray(class_ids(labels)), self.load_size, "nearest")[:, :, 0]
        return self._load(photo, 0), draw_labels(ids, self.channels[1])


class Transformed(FilePairs):
    """One picture gives both: B is the picture, A is made from it after the resize."""

    def __init__(self, items: Sequence[Item], entries: dict[Path, Entry], *, transform: str, **how) -> None:
        super().__init__(items, entries, **how)
        self.transform = transform
        self.mask_centre = transform == "mask"

    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        (file,) = self.items[i].files
        return transform_pair(resize(load(file, 3), self.load_size, self.filters[1]), self.transform, self.channels)


class BuiltInFacades(PairSource):
    """Houses drawn at load size, straight into memory: A is the photo, B the labels in CMP colours or one-hot."""

    filters = ("bicubic", "nearest")
    natural_direction = "BtoA"

    def __init__(
        self, seed: int, indices: Sequence[int], *, load_size: int, channels: tuple[int, int], description: str
    ) -> None:
        self.seed, self.indices = seed, list(indices)
        self.load_size, self.channels = load_size, channels
        self._description = description

    def __len__(self) -> int:
        return len(self.indices)

    def names(self) -> list[str]:
        return [facade_name(index) for index in self.indices]

    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        photo, ids = facade(self.seed, self.indices[i], self.load_size)
        return transforms.with_channels(photo, self.channels[0]), draw_labels(ids, self.channels[1])

    def describe(self) -> str:
        return self._description


class BuiltInTransformed(PairSource):
    """The photos of the built-in houses as one folder of pictures for an input transform."""

    filters = ("bicubic", "bicubic")

    def __init__(self, houses: BuiltInFacades, transform: str, channels: tuple[int, int]) -> None:
        self._houses, self.transform, self.channels = houses, transform, channels
        self.load_size = houses.load_size
        self.mask_centre = transform == "mask"

    def __len__(self) -> int:
        return len(self._houses)

    def names(self) -> list[str]:
        return self._houses.names()

    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        return transform_pair(self._houses.pair(i)[0], self.transform, self.channels)

    def describe(self) -> str:
        return self._houses.describe()


def facade_name(index: int) -> str:
    """Name of the built-in house `index`, in memory and on disk."""
    return f"facade_{index:05d}"


def houses_of(n_train: int, holdout: float, what: str = "houses") -> dict[str, range]:
    """Indices of the houses of "train", "val" and "test". Held-out houses are the same whatever `n_train` is.

    n_train: training houses, 1..1,000,000; val and test have `holdout` times as many each, at least one. what: what a
    built-in set other than the facades has, for the error message.
    """
    if not 1 <= n_train <= _SPLIT_STRIDE:
        raise UserError(f"a built-in set has 1..{_SPLIT_STRIDE:,} training {what}, got {n_train}")
    n_held_out = max(1, round(holdout * n_train))
    counts = {"train": n_train, "val": n_held_out, "test": n_held_out}
    return {name: range(k * _SPLIT_STRIDE, k * _SPLIT_STRIDE + count) for k, (name, count) in enumerate(counts.items())}


def draw_labels(ids: np.ndarray, channels: int) -> np.ndarray:
    """uint8 (h, w) class indices 1..12 -> uint8 (h, w, channels): CMP colours (3), their grey (1) or one-hot (12)."""
    if channels == N_CLASSES:
        return (ids[:, :, None] == np.arange(1, N_CLASSES + 1, dtype=np.uint8)).astype(np.uint8) * np.uint8(255)
    return transforms.with_channels(PALETTE[ids], channels)


def transform_pair(rgb: np.ndarray, transform: str, channels: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(A, B) of one uint8 (h, w, 3) picture with these numbers of channels."""
    A, B = transforms.split(rgb, transform)
    if transform == "lab":
        return A, B
    return transforms.with_channels(A, channels[0]), transforms.with_channels(B, channels[1])


def class_ids(path: Path) -> np.ndarray:
    """uint8 (h, w): the classes of a label picture, from palette indices, grey levels or the colours of PALETTE."""
    image = open_upright(path)
    if image.mode in ("P", "L"):
        return np.asarray(image)
    return classes_of(None, np.asarray(image.convert("RGB")), str(path))


def classes_of(indices: np.ndarray | None, pixels: np.ndarray, name: str) -> np.ndarray:
    """uint8 (h, w): the classes of a label picture: its palette indices, its grey levels, or the colours of PALETTE.

    indices: (h, w) uint8 or None; pixels: uint8 (h, w, 1 or 3). Errors: UserError, with the name, for other colours.
    """
    if indices is not None:
        return indices
    if pixels.shape[2] == 1:
        return pixels[:, :, 0]
    colours = pixels.astype(np.int32)
    same = (colours[:, :, None] == PALETTE[1:].astype(np.int32)).all(-1)  # (h, w, classes)
    if not same.any(-1).all():
        raise UserError(f"{name} is no label picture of the facades: it has other colours than their {N_CLASSES}")
    return (same.argmax(-1) + 1).astype(np.uint8)


def _kind_on_disk(entry: Entry) -> tuple[str, str]:
    return entry.format, entry.mode + (" transparent" if entry.transparent else "")

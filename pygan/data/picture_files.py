"""Single pictures from files or from memory, cut and scaled alike for every kind of set."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pygan.data.images import MIN_SIDE, eight_bit, load, resize
from pygan.data.index import Entry, good_files, index_files, list_images, some
from pygan.data.layouts import SPLITS, Item, hold_out
from pygan.data.sources import PictureSource
from pygan.errors import UserError

Window = tuple[int, int, int, int]
"""Left, top, right, bottom of a part of a picture, in pixels, right and bottom not included."""

_PRE_CROP = re.compile(r"([0-9]+)(?:x([0-9]+)\+([0-9]+)\+([0-9]+))?")
_GREY = ("1", "L", "LA", "La", "I", "F")


class PictureFiles(PictureSource):
    """Pictures read from one file each. Decodes at every call: keeping pixels is the feeds' business.

    items: one file each; windows: what to cut from the upright picture before it is scaled, None: the whole;
    facts: arrays whose first dimension is the item; labels: names of the columns of facts["label"].
    """

    def __init__(
        self,
        items: Sequence[Item],
        entries: Mapping[Path, Entry],
        *,
        load_size: int,
        channels: int,
        filter_name: str,
        description: str,
        windows: Sequence[Window | None] = (),
        facts: Mapping[str, np.ndarray] | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        self.items = list(items)
        self.windows = list(windows) or [None] * len(self.items)
        self.load_size, self.channels, self.filters = load_size, (channels,), (filter_name,)
        self.facts, self.labels = dict(facts or {}), tuple(labels)
        found = [entries[file] for item in self.items for file in item.files]
        self._modes = frozenset((e.format, e.mode + (" transparent" if e.transparent else "")) for e in found)
        self._description = description

    def __len__(self) -> int:
        return len(self.items)

    def names(self) -> list[str]:
        return [item.name for item in self.items]

    def picture(self, i: int) -> np.ndarray:
        image = load(self.items[i].files[0], self.channels[0])
        window = self.windows[i]
        return resize(image.crop(window) if window else image, self.load_size, self.filters[0])

    def describe(self) -> str:
        return self._description

    def paths(self, i: int) -> tuple[Path, ...] | None:
        return None if any(self.windows) else self.items[i].files

    def files(self, i: int) -> tuple[Path, ...]:
        return self.items[i].files

    def file_modes(self) -> frozenset[tuple[str, str]]:
        return self._modes


class PictureArrays(PictureSource):
    """Pictures that come as arrays: of a set that is one large file, or drawn.

    names: of the items; get: item number -> uint8 (h, w, 1 or 3), the same every time and from any thread;
    pre_crop: as the recipe's; files: that all items are made from. facts, labels: as in `PictureFiles`.
    """

    def __init__(
        self,
        names: Sequence[str],
        get: Callable[[int], np.ndarray],
        *,
        load_size: int,
        channels: int,
        filter_name: str,
        description: str,
        pre_crop: str = "none",
        files: Sequence[Path] = (),
        facts: Mapping[str, np.ndarray] | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        self._names, self._get, self._pre_crop, self._files = list(names), get, pre_crop, tuple(files)
        self.load_size, self.channels, self.filters = load_size, (channels,), (filter_name,)
        self.facts, self.labels = dict(facts or {}), tuple(labels)
        self._description = description

    def __len__(self) -> int:
        return len(self._names)

    def names(self) -> list[str]:
        return list(self._names)

    def picture(self, i: int) -> np.ndarray:
        pixels = self._get(i)
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        window = window_of(self._pre_crop, *image.size)
        image = eight_bit(image.crop(window) if window else image, self.channels[0])
        return resize(image, self.load_size, self.filters[0])

    def describe(self) -> str:
        return self._description

    def files(self, i: int) -> tuple[Path, ...]:
        return self._files


def load_size_of(recipe: Any, split: str) -> int:
    """Pixels of the pictures of a split: training pictures recipe.load_size, held-out ones recipe.crop_size."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    if recipe.load_size < recipe.crop_size:
        raise UserError(f"--load-size {recipe.load_size} is smaller than --crop-size {recipe.crop_size}")
    return recipe.load_size if split == "train" else recipe.crop_size


def channels_of(recipe: Any, field: str = "channels") -> int:
    """Channels of the pictures: 3, or what the field of the recipe says where it has one that is not 0."""
    count = getattr(recipe, field, 0) or 3
    if count not in (1, 3):
        raise UserError(f"--{field.replace('_', '-')} must be 1 (grey) or 3 (colour), got {count}")
    return count


def photo_filter(recipe: Any) -> str:
    """How photos are resized: as --resample says, "auto" is bicubic."""
    resample = getattr(recipe, "resample", "auto")
    return "bicubic" if resample == "auto" else resample


def pre_crop_of(recipe: Any) -> str:
    """The recipe's pre_crop, "none" where it has no such field. UserError for one that says nothing."""
    text = getattr(recipe, "pre_crop", "none") or "none"
    if text in ("none", "square"):
        return text
    found = _PRE_CROP.fullmatch(text)
    if not found:
        raise UserError(
            f"--pre-crop must be none, square (the largest in the middle), S (S x S pixels in the middle) or WxH+X+Y "
            f"(X from the left, Y from the top), got {text!r}"
        )
    if min(int(found[1]), int(found[2] or found[1])) < MIN_SIDE:
        raise UserError(f"--pre-crop must leave at least {MIN_SIDE}x{MIN_SIDE} pixels, got {text}")
    return text


def window_of(pre_crop: str, width: int, height: int) -> Window | None:
    """What `pre_crop` cuts from a picture of this size, None: nothing. UserError when the picture is too small."""
    if pre_crop == "none":
        return None
    if pre_crop == "square":
        wide = high = min(width, height)
        left, top = (width - wide) // 2, (height - high) // 2
    else:
        side, *rest = _PRE_CROP.fullmatch(pre_crop).groups()
        wide = int(side)
        high = int(rest[0] or wide)
        left, top = (width - wide) // 2, (height - high) // 2
        if rest[0]:
            left, top = int(rest[1]), int(rest[2])
    if left < 0 or top < 0 or left + wide > width or top + high > height or min(wide, high) < MIN_SIDE:
        raise UserError(f"{width}x{height} pixels: --pre-crop {pre_crop} does not fit into it")
    return left, top, left + wide, top + high


def check_pre_crop(pre_crop: str, width: int, height: int, where: Path) -> None:
    """UserError unless `pre_crop` fits into the pictures of `where`, which are all of this size."""
    try:
        window_of(pre_crop, width, height)
    except UserError as error:
        raise UserError(f"{where}: pictures of {error}") from None


def windows_of(pre_crop: str, root: Path, items: Sequence[Item], entries: Mapping[Path, Entry]) -> list[Window | None]:
    """`window_of` each item's file. UserError that names those it does not fit into."""
    windows, misfits = [], []
    for item in items:
        entry = entries[item.files[0]]
        try:
            windows.append(window_of(pre_crop, entry.width, entry.height))
        except UserError:
            misfits.append(f"{os.path.relpath(entry.path, root)} ({entry.width}x{entry.height})")
    if misfits:
        raise UserError(
            f"--pre-crop {pre_crop} does not fit into {len(misfits)} pictures in {root}: {some(misfits)}; "
            f"make it smaller, or remove them"
        )
    return windows


def need_folder(root: Path, understood: str) -> None:
    """UserError, one line, unless `root` is a folder with pictures in it. understood: the layouts to tell of."""
    if not root.exists():
        raise UserError(f"no folder {root}: name one that is there, or leave it out for the built-in set")
    if not root.is_dir():
        raise UserError(f"{root} is a file: --data wants the folder of the training pictures")
    if not list_images(root):
        raise UserError(f"no pictures in {root}; understood are {understood}")


def open_items(root: Path, items: Sequence[Item], skip_bad: bool) -> tuple[list[Item], dict[Path, Entry], str]:
    """Check every file: (items whose files are good, entries of all files, a note on those left out or "").

    UserError that names bad files unless skip_bad, and when no good picture is left.
    """
    files = list(dict.fromkeys(file for item in items for file in item.files))
    entries = index_files(root, files)
    good = good_files(root, entries, skip_bad=skip_bad)
    left = [item for item in items if good.issuperset(item.files)]
    if not left:
        raise UserError(f"no good picture is left in {root}: see `pygan data check {root}`")
    bad = len(files) - len(good)
    return left, entries, f"{bad} bad files left out" if bad else ""


def divide(names: Sequence[str], holdout: float) -> tuple[list[int], list[int], str]:
    """(training, held-out) indices of a set without a held-out folder, and in words how they were told apart."""
    train, held_out = hold_out(names, holdout)
    return train, held_out, "the training picture itself" if train == held_out else "by hash of the names"


def sizes(entries: Sequence[Entry]) -> str:
    """As in 178x218 or 20x30 to 500x400."""
    found = sorted({(e.width, e.height) for e in entries})
    return "x".join(map(str, found[0])) + (f" to {'x'.join(map(str, found[-1]))}" if len(found) > 1 else "")


def conversions(entries: Sequence[Entry], channels: int) -> list[str]:
    """How many of the pictures are not 8-bit pictures of `channels` channels, and what becomes of them."""
    grey = sum(e.mode in _GREY or e.mode.startswith("I;16") for e in entries)
    deep = sum(e.bits == 16 for e in entries)
    clear = sum(e.transparent for e in entries)
    notes = []
    if channels == 3 and grey:
        notes.append(f"{grey} grey pictures repeated to 3 channels")
    if channels == 1 and grey < len(entries):
        notes.append(f"{len(entries) - grey} colour pictures made grey")
    if deep:
        notes.append(f"{deep} of 16 bits scaled to 8")
    if clear:
        notes.append(f"{clear} transparent ones laid on white")
    return notes


def one_hot(classes: Sequence[int], count: int) -> np.ndarray:
    """Class numbers -> float32 (n, count) of 0 and 1."""
    return np.eye(count, dtype=np.float32)[np.asarray(classes, dtype=np.int64)]

"""Pairs in one HDF5 file, as the Keras implementations of pix2pix keep them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pygan.data.images import check_size, eight_bit, resize, why
from pygan.data.index import list_images, some
from pygan.data.layouts import HELD_OUT
from pygan.data.picture_files import divide, photo_filter
from pygan.data.sources import PairSource
from pygan.errors import UserError

ENDINGS = (".h5", ".hdf5", ".hdf", ".he5")
_INPUTS = ("sketch", "raw", "gray")  # names of A: sketches, or pictures made grey or edges
_TARGETS = ("full", "gen")  # names of B: what is to be generated
_PLANES_FIRST = ("full", "sketch")  # channels first where the shape alone does not tell
_SCAN_BYTES = 1 << 24


@dataclass(frozen=True)
class Side:
    """One of the two arrays of a split."""

    name: str  # of the dataset in the file
    planes_first: bool  # (n, c, h, w), else (n, h, w, c)
    channels: int
    height: int
    width: int
    count: int


def find(root: Path) -> Path | None:
    """The HDF5 file that `root` is or holds, None where there is none, or pictures too. UserError for several."""
    if root.is_file():
        return root if root.suffix.lower() in ENDINGS else None
    if not root.is_dir():
        return None
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if found and list_images(root):
        return None
    if len(found) > 1:
        raise UserError(f"{root} has {len(found)} HDF5 files: give --data the one that is meant, like {found[0]}")
    return found[0] if found else None


class Hdf5:
    """The pictures of a file, by split. Reads one at a time; may be called from several threads and after a fork.

    splits: of "train", "val" and "test" those that are there, each (A, B): names and shapes of its two arrays.
    UserError, one line, for a file that cannot be read, or is none of this kind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._h5py = _h5py(path)
        self.splits: dict[str, tuple[Side, Side]] = {}
        with self._open() as file:
            for split in ("train", *HELD_OUT):
                sides = [self._side(file, split, names) for names in (_INPUTS, _TARGETS)]
                if sides[0] and sides[1]:
                    if sides[0].count != sides[1].count:
                        raise UserError(
                            f"{path}: {sides[0].name} has {sides[0].count} pictures, {sides[1].name} {sides[1].count}: "
                            f"write it again"
                        )
                    self.splits[split] = sides[0], sides[1]
            if "train" not in self.splits:
                raise UserError(
                    f"{path} has no train_data_full and train_data_sketch, nor train_data_gen and train_data_raw; it "
                    f"has {some(sorted(file)) or 'nothing'}"
                )

    def read(self, side: Side, i: int) -> np.ndarray:
        """Picture i: uint8 (h, w, 1 or 3)."""
        try:
            with self._open() as file:
                pixels = np.asarray(file[side.name][i])
        except (OSError, KeyError, RuntimeError) as error:
            raise UserError(f"cannot read {side.name} of {self.path}: {why(error)}") from error
        if side.planes_first:
            pixels = pixels.transpose(1, 2, 0)
        return np.ascontiguousarray(np.rint(pixels).astype(np.uint8))

    def _open(self) -> Any:
        try:
            return self._h5py.File(self.path, "r")
        except OSError as error:
            raise UserError(f"cannot read {self.path}: no HDF5 file, or damaged; write it again") from error

    def _side(self, file: Any, split: str, names: tuple[str, ...]) -> Side | None:
        known = [(name, f"{split}_data_{name}") for name in names if f"{split}_data_{name}" in file]
        if not known:
            return None
        short, name = known[0]
        data = file[name]
        if not isinstance(data, self._h5py.Dataset) or data.ndim != 4 or data.dtype.kind not in "uif" or not len(data):
            raise UserError(f"{self.path}: {name} must be pictures, N x C x H x W or N x H x W x C numbers")
        first, last = data.shape[1] in (1, 3), data.shape[3] in (1, 3)
        if not first and not last:
            raise UserError(f"{self.path}: {name} is {'x'.join(map(str, data.shape))}: no axis of 1 or 3 channels")
        planes_first = first and (not last or short in _PLANES_FIRST)
        if data.dtype != np.uint8:
            self._check_range(name, data)
        height, width = data.shape[2:] if planes_first else data.shape[1:3]
        check_size(width, height)
        return Side(name, planes_first, data.shape[1 if planes_first else 3], height, width, len(data))

    def _check_range(self, name: str, data: Any) -> None:
        step = max(1, _SCAN_BYTES // (data.dtype.itemsize * int(np.prod(data.shape[1:]))))
        low, high = np.inf, -np.inf
        for i in range(0, len(data), step):
            part = np.asarray(data[i : i + step])
            if not np.isfinite(part).all():
                raise UserError(f"{self.path}: {name} has values that are no numbers; write it again")
            low, high = min(low, part.min()), max(high, part.max())
        if low < 0 or high > 255 or (data.dtype.kind == "f" and high <= 1):
            raise UserError(f"{self.path}: {name} has values {low:g}..{high:g}, expected 0..255; write it again")


class Hdf5Pairs(PairSource):
    """The pairs of one split of a file: A is the sketch, edges or grey picture, B what is to be generated.

    rows: (split, number in it) of every pair.
    """

    natural_direction = "AtoB"

    def __init__(
        self,
        file: Hdf5,
        rows: list[tuple[str, int]],
        *,
        load_size: int,
        channels: tuple[int, int],
        filters: tuple[str, str],
        description: str,
    ) -> None:
        self._file, self._rows = file, rows
        self.load_size, self.channels, self.filters = load_size, channels, filters
        self._description = description

    def __len__(self) -> int:
        return len(self._rows)

    def names(self) -> list[str]:
        return [name_of(*row) for row in self._rows]

    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        A, B = (self._side(i, k) for k in (0, 1))
        return A, B

    def _side(self, i: int, k: int) -> np.ndarray:
        split, row = self._rows[i]
        pixels = self._file.read(self._file.splits[split][k], row)
        image = eight_bit(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), self.channels[k])
        return resize(image, self.load_size, self.filters[k])

    def describe(self) -> str:
        return self._description

    def files(self, i: int) -> tuple[Path, ...]:
        return (self._file.path,)


def pairs_source(recipe: Any, split: str, load_size: int, path: Path) -> Hdf5Pairs:
    """The pairs of one split ("train" or "held-out") of the file `path`, at `load_size` pixels.

    Fields read: direction, input_channels, output_channels, resample and holdout. Errors: UserError, one line.
    """
    file = Hdf5(path)
    train, held_out, where = rows_of(file)
    if held_out is None:
        first, last, where = divide([name_of(*row) for row in train], recipe.holdout)
        train, held_out = [train[i] for i in first], [train[i] for i in last]
    asked = [recipe.input_channels, recipe.output_channels]
    if recipe.direction == "BtoA":
        asked.reverse()
    A, B = file.splits["train"]
    channels = (asked[0] or A.channels, asked[1] or B.channels)
    if not {*channels} <= {1, 3}:
        raise UserError(f"--input-channels and --output-channels must be 1 (grey) or 3 (colour), got {channels}")
    direction = Hdf5Pairs.natural_direction if recipe.direction == "auto" else recipe.direction
    return Hdf5Pairs(
        file,
        train if split == "train" else held_out,
        load_size=load_size,
        channels=channels,
        filters=(photo_filter(recipe),) * 2,
        description=f"{path}: HDF5 pairs (A {A.name}, B {B.name}) of {B.width}x{B.height} pixels, {len(train)} to "
        f"train, {len(held_out)} held out ({where}); direction {direction}",
    )


def name_of(split: str, row: int) -> str:
    """Name of a row of a split."""
    return f"{split}/{row:05d}"


def rows_of(file: Hdf5) -> tuple[list[tuple[str, int]], list[tuple[str, int]] | None, str]:
    """(training rows, held-out rows or None, the split that they are from)."""

    def rows(split: str) -> list[tuple[str, int]]:
        return [(split, i) for i in range(file.splits[split][0].count)]

    held = next((name for name in HELD_OUT if name in file.splits), "")
    return rows("train"), rows(held) if held else None, held


def _h5py(path: Path) -> Any:
    try:
        import h5py  # optional
    except ImportError:
        raise UserError(
            f"{path} is an HDF5 file, and h5py is not installed: pip install '.[hdf5]' in pygan's checkout"
        ) from None
    return h5py

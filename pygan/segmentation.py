"""How well class maps agree: pixel accuracy, class accuracy, class IoU (Long, Shelhamer & Darrell, CVPR 2015, 5).

Class maps are int64 (n, h, w) of ids 0..k-1; -1 is unlabelled. Pictures of class maps are told apart by a palette.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pygan.data import facades
from pygan.errors import UserError
from pygan.features.kind import rgb, to_bytes

_TINY = 1e-12  # added to denominators, so that an absent class counts as 0
_MOST_COLOURS = 64  # that a class map has; a photograph has more
_EXACT, _NEAR = 8, 32  # grey levels: how far a colour may be off in a clean class map, and in one saved as JPEG
_AT_ONCE = 1 << 20  # pixels


@dataclass(frozen=True)
class Palette:
    """The colours of classes, uint8 (k, 3) RGB, and their names; unlabelled: uint8 (u, 3), what does not count."""

    name: str
    colours: np.ndarray
    classes: tuple[str, ...]
    unlabelled: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), dtype=np.uint8))


FACADES = Palette("facades", facades.PALETTE[1:], facades.CLASSES, facades.PALETTE[:1])
"""The twelve classes of CMP and of the built-in set."""

_CITYSCAPES = {
    "road": (128, 64, 128), "sidewalk": (244, 35, 232), "building": (70, 70, 70), "wall": (102, 102, 156),
    "fence": (190, 153, 153), "pole": (153, 153, 153), "traffic light": (250, 170, 30), "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35), "terrain": (152, 251, 152), "sky": (70, 130, 180), "person": (220, 20, 60),
    "rider": (255, 0, 0), "car": (0, 0, 142), "truck": (0, 0, 70), "bus": (0, 60, 100), "train": (0, 80, 100),
    "motorcycle": (0, 0, 230), "bicycle": (119, 11, 32),
}  # fmt: skip
_CITYSCAPES_IGNORED = (
    (0, 0, 0), (111, 74, 0), (81, 0, 81), (250, 170, 160), (230, 150, 140), (180, 165, 180), (150, 100, 100),
    (150, 120, 90), (0, 0, 90), (0, 0, 110),
)  # fmt: skip
CITYSCAPES = Palette(
    "cityscapes",
    np.array(list(_CITYSCAPES.values()), dtype=np.uint8),
    tuple(_CITYSCAPES),
    np.array(_CITYSCAPES_IGNORED, dtype=np.uint8),
)
"""The 19 train ids of Cityscapes in order; its other classes are unlabelled."""

KNOWN = {palette.name: palette for palette in (FACADES, CITYSCAPES)}


def histogram(truth: Tensor, guess: Tensor, classes: int) -> Tensor:
    """int64 (classes, classes): how many pixels of each true class (row) are taken for each class (column).

    Pixels whose true id is outside 0..classes-1 do not count. Errors: ValueError for other shapes, or a guess outside.
    """
    if truth.shape != guess.shape:
        raise ValueError(f"class maps of one shape are expected, got {list(truth.shape)} and {list(guess.shape)}")
    counted = (truth >= 0) & (truth < classes)
    truth, guess = truth[counted].long(), guess[counted].long()
    if len(guess) and not 0 <= int(guess.min()) <= int(guess.max()) < classes:
        raise ValueError(f"a guess is a class 0..{classes - 1}, got {int(guess.min())}..{int(guess.max())}")
    return torch.bincount(classes * truth + guess, minlength=classes * classes).view(classes, classes)


def scores(hist: Tensor, *, ignore_absent: bool = False) -> dict[str, float]:
    """pixel_accuracy, class_accuracy, class_iou of a histogram (k, k), rows the truth.

    Sum of the diagonal over all; means over the classes of diagonal/row and of diagonal/(row + column - diagonal).
    1e-12 is added to the denominators, so a class that is absent counts as 0 and lowers the mean, as in the evaluation
    of pix2pix; ignore_absent: means over the classes whose denominator is not 0, as most others do it.
    """
    hist = hist.double()
    hit, row, column = hist.diag(), hist.sum(1), hist.sum(0)
    union = row + column - hit

    def mean(denominator: Tensor) -> float:
        values = hit / (denominator + _TINY)
        there = denominator > 0
        return float(values[there].mean() if ignore_absent and bool(there.any()) else values.mean())

    return {
        "pixel_accuracy": float(hit.sum() / (hist.sum() + _TINY)),
        "class_accuracy": mean(row),
        "class_iou": mean(union),
    }


def class_ious(hist: Tensor) -> Tensor:
    """float64 (k,): the IoU of each class, 0 where it is absent."""
    hist = hist.double()
    return hist.diag() / (hist.sum(1) + hist.sum(0) - hist.diag() + _TINY)


def ids(images: Tensor, palette: Palette, *, truth: bool = False) -> Tensor:
    """Class maps of pictures (n, c, h, w) in [-1, 1]: the class with the nearest colour, int64 (n, h, w) on the CPU.

    c of 1 or 3, or one plane for each class. truth: a pixel nearest to an unlabelled colour is -1; else every pixel is
    one of the classes.
    """
    if images.shape[1] > 3:
        return images.argmax(dim=1).cpu()
    table = np.concatenate([palette.colours, palette.unlabelled]) if truth else palette.colours
    nearest, _ = _nearest(images, table)
    return torch.where(nearest < len(palette.colours), nearest, -1)


def fits(images: Tensor, palette: Palette, *, within: int = _NEAR) -> float:
    """Which part of the pixels of (n, c, h, w) in [-1, 1] is within so many grey levels of a colour of the palette."""
    _, distance = _nearest(images, np.concatenate([palette.colours, palette.unlabelled]))
    return float((distance <= within * within).double().mean())


def find(images: Iterable[Tensor], given: Palette | None = None) -> Palette | None:
    """The palette of class maps, or None where pictures are not class maps.

    images: batches (n, c, h, w) in [-1, 1], of which all are looked at; given: the one that a user named, which fits
    where nine tenths of the pixels are within 32 grey levels of its colours (JPEG blurs class maps). Without one: a
    known palette if 98 % are within 8, else the picture's own colours, at least 2 and at most 64, in sorted order. More
    than three channels are planes, one for each class.
    """
    parts = [part for part in images if len(part)]
    channels = parts[0].shape[1] if parts else 0
    if channels > 3:
        return Palette("label planes", np.zeros((channels, 3), np.uint8), tuple(map(str, range(channels))))
    if channels not in (1, 3):
        return None
    batches = [to_bytes(rgb(part)).cpu() for part in parts]
    pictures = [part.float().div(127.5).sub(1) for part in batches]

    def part_that_fits(palette: Palette, within: int) -> float:
        return float(np.mean([fits(one, palette, within=within) for one in pictures]))

    if given is not None:
        return given if part_that_fits(given, _NEAR) >= 0.9 else None
    for palette in KNOWN.values():
        if part_that_fits(palette, _EXACT) >= 0.98:
            return palette
    colours: set[int] = set()
    for part in batches:
        code = part.permute(0, 2, 3, 1).reshape(-1, 3).long() @ torch.tensor([1 << 16, 1 << 8, 1])
        colours.update(code.unique().tolist())
        if len(colours) > _MOST_COLOURS:
            return None
    if len(colours) < 2:
        return None
    table = np.array([(c >> 16, c >> 8 & 255, c & 255) for c in sorted(colours)], dtype=np.uint8)
    return Palette("the set's own colours", table, tuple(f"#{c:06x}" for c in sorted(colours)))


def read_palette(spec: str) -> Palette:
    """A palette by name (facades, cityscapes) or from a text file: a line `r g b [name]` for each class, in order.

    A class named "unlabelled" does not count; lines that begin with # are comments. Errors: UserError.
    """
    if spec in KNOWN:
        return KNOWN[spec]
    path = Path(spec)
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError as error:
        wanted = f"{', '.join(KNOWN)}, or a text file of r g b [name]"
        raise UserError(f"--palette {spec}: no such file; give {wanted}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--palette {spec} is no text; a line `r g b [name]` a class is expected") from (error)
    colours, names, ignored = [], [], []
    for number, line in enumerate(lines, start=1):
        words = line.replace(",", " ").split(maxsplit=3)
        if not words or line.lstrip().startswith("#"):
            continue
        try:
            colour = [int(word) for word in words[:3]]
            if len(colour) != 3 or not all(0 <= level <= 255 for level in colour):
                raise ValueError
        except ValueError as error:
            raise UserError(f"{path}, line {number}: `r g b [name]`, each 0..255, is expected, got {line!r}") from error
        name = words[3].strip() if len(words) > 3 else str(len(names))
        if name == "unlabelled":
            ignored.append(colour)
        else:
            colours.append(colour)
            names.append(name)
    if len(colours) < 2 or len({tuple(c) for c in colours}) < len(colours):
        raise UserError(f"{path}: at least two classes of different colours are expected")
    table = np.array(ignored, dtype=np.uint8).reshape(-1, 3)
    return Palette(path.name, np.array(colours, dtype=np.uint8), tuple(names), table)


def _nearest(images: Tensor, table: np.ndarray) -> tuple[Tensor, Tensor]:
    """(n, c, h, w) -> index into the table and squared distance in grey levels, int64 (n, h, w) both, on the CPU."""
    pixels = to_bytes(rgb(images)).permute(0, 2, 3, 1)
    shape, pixels = pixels.shape[:3], pixels.reshape(-1, 3).cpu()
    colours = torch.from_numpy(table.astype(np.int32))
    index, distance = [], []
    for part in pixels.split(max(1, _AT_ONCE // len(table))):
        apart = (part.int()[:, None] - colours).square().sum(-1)  # (pixels, colours)
        least = apart.min(dim=1)
        index.append(least.indices)
        distance.append(least.values)
    return torch.cat(index).view(shape), torch.cat(distance).long().view(shape)

"""CUB birds and Oxford flowers as StackGAN's authors distribute them: pickles of names, classes and embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pygan.data.images import MIN_SIDE, why
from pygan.data.index import Entry, some
from pygan.data.pickles import load_pickle
from pygan.data.picture_files import Window
from pygan.errors import UserError

NAMES, CLASSES, EMBEDDINGS = "filenames.pickle", "class_info.pickle", "char-CNN-RNN-embeddings.pickle"
SMALL, LARGE = "76images.pickle", "304images.pickle"

_CUB = "CUB_200_2011"
_FOLDERS = (f"{_CUB}/images", "jpg", "images", ".")
_ENDINGS = (".jpg", ".png", "")
_TEXTS = "text_c10"
_REACH = 0.75  # half the side of the square round a box, in parts of its longer side
_SMALL_SIDE = 76


@dataclass(frozen=True)
class Part:
    """The train or the test split. Lists have an entry per picture."""

    names: list[str]  # as in 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18
    kinds: list[int]  # numbers of their classes
    texts: list[np.ndarray] | None  # float32 (captions, d) each, None: not read


@dataclass(frozen=True)
class Places:
    """Where things are in the pictures, in pixels; None where the set does not tell."""

    boxes: np.ndarray | None  # float64 (n, 4): x, y, width, height
    points: np.ndarray | None  # float64 (n, k, 3): x, y, visible
    mirror: tuple[int, ...]  # which key point each becomes in a mirrored picture


def has_embeddings(root: Path) -> bool:
    """Whether `root` is a set of this kind. UserError when it is the folder above one."""
    for name in ("birds", "flowers"):
        if not (root / "train").is_dir() and (root / name / "train" / NAMES).is_file():
            raise UserError(f"{root} holds the set {name}: give --data {root / name}")
    return (root / "train" / NAMES).is_file()


def read_part(root: Path, split: str, *, embeddings: bool) -> Part | None:
    """The split "train" or "test", None where it is not there. embeddings: read them too.

    UserError, one line, for files that are missing, damaged, not what they should be, or do not fit together.
    """
    folder = root / split
    if not (folder / NAMES).is_file():
        return None
    names = load_pickle(folder / NAMES)
    names = names.tolist() if isinstance(names, np.ndarray) else names
    names = [n.decode("latin-1") if isinstance(n, bytes) else n for n in names] if isinstance(names, list) else []
    if not names or not all(isinstance(name, str) and _inside(name) for name in names):
        raise UserError(f"{folder / NAMES} must hold a list of file names")
    kinds = load_pickle(folder / CLASSES) if (folder / CLASSES).is_file() else [0] * len(names)
    kinds = kinds.tolist() if isinstance(kinds, np.ndarray) else kinds
    if not isinstance(kinds, list) or not all(isinstance(kind, (int, np.integer)) for kind in kinds):
        raise UserError(f"{folder / CLASSES} must hold a list of class numbers")
    if len(kinds) != len(names):
        raise UserError(f"{folder / CLASSES} has {len(kinds)} classes, {NAMES} {len(names)} names: fetch both again")
    if any(not -(1 << 62) < kind < 1 << 62 for kind in kinds):
        raise UserError(f"{folder / CLASSES} has class numbers that are too large")
    return Part(names, [int(kind) for kind in kinds], _texts(folder, len(names)) if embeddings else None)


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _texts(folder: Path, count: int) -> list[np.ndarray]:
    path = folder / EMBEDDINGS
    if not path.is_file():
        raise UserError(f"{folder} has no {EMBEDDINGS}: fetch it, or encode the captions with --text-encoder hashing")
    found = load_pickle(path)
    if _length(found) != count:
        raise UserError(f"{path} has embeddings of {_length(found)} pictures, {NAMES} {count} names: fetch both again")
    texts = [np.asarray(text, dtype=np.float32) if _is_floats(text) else None for text in found]
    if any(text is None or text.ndim != 2 or not text.size for text in texts):
        raise UserError(f"{path} must hold an array of captions x numbers for every picture")
    if len({text.shape[1] for text in texts}) > 1 or not all(np.isfinite(text).all() for text in texts):
        raise UserError(f"{path} has embeddings of several lengths, or values that are no numbers: fetch it again")
    return texts


def _length(value: Any) -> int:
    """Of a list or an array, else 0. What is in a list is not looked at: lists in lists can say a lot in few bytes."""
    return len(value) if isinstance(value, list) or (isinstance(value, np.ndarray) and value.ndim) else 0


def _is_floats(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def read_texts(root: Path, names: Sequence[str], counts: Sequence[int]) -> list[list[str]]:
    """The captions of each picture, from text_c10/. counts: how many embeddings each has, 0: not known.

    A picture without a text file, or with another number of captions than embeddings, has empty strings.
    """
    folder = root / _TEXTS
    found: list[list[str]] = []
    by_stem: dict[str, Path] | None = None
    for name, count in zip(names, counts, strict=True):
        path = folder / f"{name}.txt"
        if not path.is_file() and folder.is_dir():
            if by_stem is None:  # flowers: class_00001/image_06734.txt for image_06734
                by_stem = {file.stem: file for file in sorted(folder.rglob("*.txt"))}
            path = by_stem.get(PurePosixPath(name).name, path)
        try:
            text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        except OSError as error:
            raise UserError(f"cannot read {path}: {why(error)}") from error
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        good = bool(lines) and count in (0, len(lines))
        found.append(lines if good else [""] * max(1, count))
    return found


def picture_files(root: Path, names: Sequence[str], *, skip: bool) -> list[Path | None] | None:
    """The picture of each name, None instead of the list when there is no folder of pictures.

    UserError that names the missing ones, unless skip: then they are None.
    """
    bases = [root / folder for folder in _FOLDERS if (root / folder).is_dir()]
    files = [
        next((path for base in bases for ending in _ENDINGS if (path := base / f"{name}{ending}").is_file()), None)
        for name in names
    ]
    missing = [name for name, file in zip(names, files, strict=True) if file is None]
    if len(missing) == len(names):
        return None
    if missing and not skip:
        raise UserError(
            f"{len(missing)} pictures named in {NAMES} are not in {root}: {some(missing)}; unpack it again, or "
            f"leave them out with --skip-bad"
        )
    return files


def read_arrays(root: Path, split: str, load_size: int, count: int) -> tuple[list[np.ndarray], Path]:
    """(uint8 (h, w, 3) of each of the `count` pictures of a split, the file they are from).

    The small pictures serve up to 76 pixels, else the large ones; whichever is there. UserError for none and for what
    holds no pictures.
    """
    order = (SMALL, LARGE) if load_size <= _SMALL_SIDE else (LARGE, SMALL)
    path = next((root / split / name for name in order if (root / split / name).is_file()), None)
    if path is None:
        raise UserError(f"{root} has no pictures: neither {_CUB}/images or jpg/, nor {split}/{SMALL} or {LARGE}")
    found = load_pickle(path)
    if _length(found) != count:
        raise UserError(f"{path} has {_length(found)} pictures, {NAMES} {count} names: fetch both again")
    arrays = list(found)
    for array in arrays:
        good = isinstance(array, np.ndarray) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3
        if not good or min(array.shape[:2]) < MIN_SIDE:
            raise UserError(f"{path} must hold pictures, height x width x 3 numbers 0..255")
    return [np.ascontiguousarray(array) for array in arrays], path


def read_places(root: Path, names: Sequence[str]) -> Places:
    """Boxes and parts of the birds of these names; nothing for flowers. UserError for what is missing or damaged."""
    folder = root / _CUB
    if not folder.is_dir():
        return Places(None, None, ())
    ids = {}
    for number, (key, name) in _rows(folder / "images.txt", (int, str)):
        stem = name.rpartition(".")[0] or name
        if stem in ids:
            raise UserError(f"{folder / 'images.txt'} line {number}: {name} is there twice")
        ids[stem] = key
    unknown = [name for name in names if name not in ids]
    if unknown:
        raise UserError(
            f"{folder / 'images.txt'} lacks {len(unknown)} of the pictures: {some(unknown)}; fetch it again"
        )
    rows = {key: box for _, (key, *box) in _rows(folder / "bounding_boxes.txt", (int, float, float, float, float))}
    lacking = [name for name in names if ids[name] not in rows or min(rows[ids[name]][2:]) <= 0]
    if lacking:
        raise UserError(f"{folder / 'bounding_boxes.txt'} has no box of {some(lacking)}: fetch it again")
    boxes = np.array([rows[ids[name]] for name in names], dtype=np.float64)
    parts = folder / "parts" / "part_locs.txt"
    if not parts.is_file():
        return Places(boxes, None, ())
    titles = {key: " ".join(words) for _, (key, *words) in _rows(folder / "parts" / "parts.txt", (int, str), more=True)}
    columns = {key: k for k, key in enumerate(sorted(titles))}
    of_image = {ids[name]: i for i, name in enumerate(names)}
    points = np.zeros((len(names), len(columns), 3))
    for number, (image, part, x, y, seen) in _rows(parts, (int, int, float, float, int)):
        if part not in columns:
            raise UserError(f"{parts} line {number}: part {part} is not in parts.txt")
        if image in of_image:
            points[of_image[image], columns[part]] = x, y, seen
    return Places(boxes, points, _mirror([titles[key] for key in sorted(titles)]))


def _mirror(titles: Sequence[str]) -> tuple[int, ...]:
    """A left part becomes the right one and the other way round; all others stay what they are."""
    swap = {"left": "right", "right": "left"}
    other = [" ".join(swap.get(word, word) for word in title.split()) for title in titles]
    return tuple(titles.index(name) if name in titles else k for k, name in enumerate(other))


def _rows(path: Path, kinds: Sequence[Callable[[str], Any]], *, more: bool = False) -> list[tuple[int, list[Any]]]:
    """(line number, values) of every line of a text file of the set. more: further words may follow, as text."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {why(error)}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            if len(words) < len(kinds) or (len(words) > len(kinds) and not more):
                raise ValueError
            values = [kind(word) for kind, word in zip(kinds, words, strict=False)] + words[len(kinds) :]
            if not all(np.isfinite(value) for value in values if isinstance(value, float)):
                raise ValueError
        except ValueError:
            expected = " ".join(kind.__name__ for kind in kinds)
            raise UserError(f"{path} line {number}: expected {expected}, got {line[:60]!r}") from None
        rows.append((number, values))
    return rows


def bird_window(box: np.ndarray, entry: Entry) -> Window:
    """The square round the box that StackGAN's authors cut: half its side is 3/4 of the longer side of the box.

    Clipped to the picture. box: x, y, width, height in pixels. UserError when nothing of the picture is in it.
    """
    x, y, width, height = box
    reach = int(_REACH * max(width, height))
    middle_x, middle_y = int((2 * x + width) / 2), int((2 * y + height) / 2)
    left, top = max(0, middle_x - reach), max(0, middle_y - reach)
    right, bottom = min(entry.width, middle_x + reach), min(entry.height, middle_y + reach)
    if right - left < MIN_SIDE or bottom - top < MIN_SIDE:
        raise UserError(f"{entry.path}: its box {x:g} {y:g} {width:g} {height:g} is not in the picture")
    return left, top, right, bottom

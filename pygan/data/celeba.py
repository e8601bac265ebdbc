"""The CelebA faces: the files that say which attributes a face has and which split it belongs to."""

from __future__ import annotations

import difflib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pygan.data.images import why
from pygan.data.index import list_images, some
from pygan.data.layouts import Item
from pygan.errors import UserError

ATTRIBUTES_FILE, PARTITION_FILE = "list_attr_celeba.txt", "list_eval_partition.txt"
N_PICTURES = 202_599
SPLIT_SIZES = (162_770, 19_867, 19_962)
"""Training, validation and test pictures of the whole set, in the order of their names."""

DEFAULT_ATTRIBUTES = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
"""Those that StarGAN's authors train on."""

_FOLDERS = ("images", "img_align_celeba")
_TEST_ROWS = 1999  # of the whole set, see `stargan_split`
_TEST_SEED = 1234


def picture_folder(root: Path) -> Path | None:
    """The folder of the pictures if `root` looks like CelebA (a file of attributes or splits is there), else None."""
    folder = next((root / name for name in _FOLDERS if (root / name).is_dir()), None)
    if folder is None or not (find(root, ATTRIBUTES_FILE) or find(root, PARTITION_FILE) or _is_whole(folder)):
        return None
    return folder


def find(root: Path, name: str) -> Path | None:
    """A text file of the set: in its folder, or in Anno/ or Eval/ as distributed."""
    return next((path for path in (root / name, root / "Anno" / name, root / "Eval" / name) if path.is_file()), None)


def _is_whole(folder: Path) -> bool:
    return len(list_images(folder)) == N_PICTURES


def read_attributes(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """(names of the attributes, by file name int8 (k,) of -1 and 1) in the order of the file.

    Line 1 is the number of pictures, line 2 the names, then a line `000001.jpg -1 1 ...` each. UserError that names the
    line for anything else.
    """
    lines = _lines(path)
    if len(lines) < 3:
        raise UserError(f"{path} ends after {len(lines)} lines: expected a count, the names and a line per picture")
    try:
        count = int(lines[0])
    except ValueError:
        raise UserError(f"{path} line 1: expected the number of pictures, got {lines[0][:40]!r}") from None
    names = lines[1].split()
    if len(set(names)) < len(names) or not names:
        raise UserError(f"{path} line 2: expected names of attributes, each once, got {lines[1][:60]!r}")
    rows: dict[str, np.ndarray] = {}
    for number, line in enumerate(lines[2:], start=3):
        file, *values = line.split()
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise UserError(f"{path} line {number}: expected a file name and {len(names)} values 1 or -1")
        if file in rows:
            raise UserError(f"{path} line {number}: {file} is there twice")
        rows[file] = np.array(values, dtype=np.int8)
    if count != len(rows):
        raise UserError(
            f"{path} line 1 says {count} pictures, but {len(rows)} lines follow: mend it, or fetch it again"
        )
    return names, rows


def read_partition(path: Path) -> dict[str, int]:
    """By file name 0 (train), 1 (validation) or 2 (test). UserError that names the line for anything else."""
    rows: dict[str, int] = {}
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split()
        if len(parts) != 2 or parts[1] not in ("0", "1", "2") or parts[0] in rows:
            raise UserError(f"{path} line {number}: expected a file name, once, and 0, 1 or 2")
        rows[parts[0]] = int(parts[1])
    return rows


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {why(error)}") from error
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if blank := next((number for number, line in enumerate(lines, start=1) if not line.strip()), 0):
        raise UserError(f"{path} line {blank}: is empty")
    return lines


def items_of(folder: Path) -> list[Item]:
    """The pictures of the folder, named as their files."""
    return [Item(path.relative_to(folder).with_suffix("").as_posix(), (path,)) for path in list_images(folder)]


def match(
    path: Path, rows: Sequence[str], items: Sequence[Item], *, skip: bool
) -> tuple[list[tuple[int, Item]], list[str]]:
    """([(row number, item)] in the order of the rows, notes): the pictures that the rows of the file `path` are about.

    Endings may differ (the set is distributed as .jpg and as .png). UserError for rows without a picture and pictures
    without a row, unless skip: then the notes say how many were left out.
    """
    by_name = {item.name: item for item in items}
    pairs = [(i, by_name[name]) for i, name in enumerate(map(_stem, rows)) if name in by_name]
    lost, silent = mismatches(rows, items)
    if lost and not skip:
        raise UserError(
            f"{path} has {len(lost)} rows without a picture: {some(lost)}; bring the pictures back, or leave the rows "
            f"out with --skip-bad"
        )
    if silent and not skip:
        raise UserError(
            f"{len(silent)} pictures have no row in {path}: {some(silent)}; fetch the file again, or leave them "
            f"out with --skip-bad"
        )
    if not pairs:
        raise UserError(f"{path} has no row about any of the {len(items)} pictures that are there")
    notes = [f"{len(lost)} rows without a picture left out"] if lost else []
    return pairs, notes + ([f"{len(silent)} pictures without a row left out"] if silent else [])


def mismatches(rows: Sequence[str], items: Sequence[Item]) -> tuple[list[str], list[str]]:
    """(rows without a picture, files of pictures without a row), see `match`."""
    named, there = {*map(_stem, rows)}, {item.name for item in items}
    lost = [row for row in rows if _stem(row) not in there]
    return lost, [item.files[0].name for item in items if item.name not in named]


def _stem(row: str) -> str:
    return row.rpartition(".")[0] or row


def stargan_split(n: int, holdout: float) -> tuple[list[int], list[int], str]:
    """(training rows, test rows, in words how) as StarGAN's code draws them: shuffled by Python's generator, seed 1234.

    The first 1,999 of the shuffled rows are the test set; of a smaller set `holdout` of all, if that is fewer.
    """
    if n < 2:
        return [0], [0], "the training picture itself"
    count = min(_TEST_ROWS, max(1, round(holdout * n)), n - 1)
    rows = list(range(n))
    random.Random(_TEST_SEED).shuffle(rows)
    return rows[count:], rows[:count], f"the first {count} after shuffling the rows with seed {_TEST_SEED}"


def choose(asked: str, names: Sequence[str], where: str) -> list[str]:
    """The attributes that `asked` lists, separated by commas; "": the five of StarGAN where all are there, else all.

    UserError for one that is not among `names`, with those of a similar name, or that is there twice.
    """
    if not asked.strip():
        return list(DEFAULT_ATTRIBUTES if set(DEFAULT_ATTRIBUTES) <= set(names) else names)
    wanted = [name.strip() for name in asked.split(",")]
    for name in wanted:
        if name not in names:
            near = {known.lower(): known for known in names}
            close = [near[word] for word in difflib.get_close_matches(name.lower(), list(near), n=3)]
            hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}"
            raise UserError(f"--attrs: no attribute {name!r} in {where}; {hint}")
    if len(set(wanted)) < len(wanted):
        raise UserError(f"--attrs names {next(name for name in wanted if wanted.count(name) > 1)} twice")
    return wanted

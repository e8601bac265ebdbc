"""Which of the known layouts a folder has: decided from names alone, before any file is opened."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pygan.data.index import list_images, some
from pygan.errors import UserError

MARKER = "pygan.json"
"""File that `pygan data make` leaves in a set: says which half holds labels and which direction is natural."""

SPLITS = ("train", "held-out")

KNOWN = (
    "side-by-side pictures (DIR/train/* and DIR/val/*, or DIR/*: A is the left half, B the right), "
    "two folders matched by name (DIR/A and DIR/B, or DIR/trainA, DIR/trainB, DIR/testA, DIR/testB), "
    "CMP facades (DIR/base/cmp_b0001.jpg and .png), Cityscapes (DIR/leftImg8bit and DIR/gtFine), the Keras sources' "
    "HDF5 (DIR or DIR/*.h5 with train_data_full and train_data_sketch), or plain pictures with --input-transform"
)
_CMP = re.compile(r"cmp_([bx])(\d{4})$")
_CMP_TRAIN_LAST = 299  # of base; 300..378 are the test set
HELD_OUT = ("val", "test")
"""Folders of held-out pictures: the first that is there is used."""


class UnpairedError(UserError):
    """Pictures without a partner of the same name; `names` are all of them, relative to the set's folder."""

    def __init__(self, root: Path, names: list[str]) -> None:
        self.names = names
        super().__init__(
            f"{len(names)} pictures in {root} have no partner of the same name: {some(names)}; rename or remove them "
            f"(`pygan data check {root}` lists them), or leave them out with --skip-bad"
        )


@dataclass(frozen=True)
class Item:
    """One pair: a name, and its files (one: side by side or to be transformed; two: A, B)."""

    name: str  # unique, "/" between folders, no ending
    files: tuple[Path, ...]


@dataclass(frozen=True)
class Layout:
    """What a folder holds."""

    root: Path
    kind: str  # "side by side", "two folders", "cmp", "cityscapes" or "plain"
    train: tuple[Item, ...]
    held_out: tuple[Item, ...] | None  # None: the set has no folder for it, see `hold_out`
    held_out_name: str = ""  # that folder
    natural_direction: str = "AtoB"
    label_side: str = ""  # "B" where the set says that B is a label picture
    notes: tuple[str, ...] = ()  # what else is there and not used

    @property
    def files(self) -> list[Path]:
        return [file for item in (*self.train, *(self.held_out or ())) for file in item.files]


def find_layout(root: Path, *, plain: bool, skip_unpaired: bool = False) -> Layout:
    """The layout of the folder `root`. UserError, one line, for one that is missing, empty, unknown or ambiguous.

    plain: pictures are single, an input transform makes the other half (--input-transform). skip_unpaired: leave
    out names that only one of two folders has, instead of refusing.
    """
    if not root.exists():
        raise UserError(f"no folder {root}: name one that is there, or leave it out for the built-in set")
    if not root.is_dir():
        raise UserError(f"{root} is a file: --data wants the folder of the training pictures")
    if not list_images(root):
        raise UserError(f"no pictures in {root}; understood are {KNOWN}")
    if plain:
        return single(root, "plain")
    found = [
        layout for layout in (_cmp(root), cityscapes(root, skip_unpaired), _two_folders(root, skip_unpaired)) if layout
    ]
    others = [name for name in ("list_attr_celeba.txt", "captions.jsonl") if (root / name).exists()]
    if not found and others:
        raise UserError(
            f"{root} has {others[0]}, so its pictures are no side-by-side pairs: give --data a set of pairs, or make "
            "the input from the pictures with --input-transform"
        )
    if not found or (root / "train").is_dir():
        found.append(single(root, "side by side"))
    if len(found) > 1:
        kinds = " and ".join(layout.kind for layout in found)
        raise UserError(f"{root} looks like {kinds} at once: give --data the one folder that is meant")
    return found[0]


def hold_out(names: Sequence[str], part: float) -> tuple[list[int], list[int]]:
    """(training, held-out) indices, both ascending: the last `part` of the names in the order of their hash.

    Depends on the names alone, so that it is the same for every seed and machine. At least one is held out when
    there are two; a single picture is both.
    """
    if len(names) < 2:
        return [0], [0]
    count = min(max(1, round(part * len(names))), len(names) - 1)
    order = sorted(range(len(names)), key=lambda i: hashlib.blake2b(os.fsencode(names[i]), digest_size=8).digest())
    return sorted(order[:-count]), sorted(order[-count:])


def items_in(folder: Path, prefix: str = "", paths: Sequence[Path] | None = None) -> tuple[Item, ...]:
    """An item for each picture below `folder` (or each of `paths`, which lie in it), named by its place in it."""
    paths = list_images(folder) if paths is None else paths
    items: dict[str, Item] = {}
    for path in paths:
        name = prefix + path.relative_to(folder).with_suffix("").as_posix()
        if name in items:  # cat.jpg and cat.png are two pictures
            name = prefix + path.relative_to(folder).as_posix()
        items[name] = Item(name, (path,))
    return tuple(items.values())


def single(root: Path, kind: str) -> Layout:
    """One file per item: in train/, val/ and test/, or all that lie in `root`. UserError for an empty train/."""
    notes = []
    natural, label_side = _marked(root)
    if not (root / "train").is_dir():
        return Layout(root, kind, items_in(root), None, "", natural, label_side)
    train = items_in(root / "train", "train/")
    if not train:
        raise UserError(f"no pictures in {root / 'train'}; understood are {KNOWN}")
    filled = [name for name in HELD_OUT if (root / name).is_dir() and list_images(root / name)]
    used = {"train", *filled[:1]}
    rest = [path.relative_to(root).parts for path in list_images(root)]
    for place, count in sorted(Counter(p[0] if len(p) > 1 else "." for p in rest if p[0] not in used).items()):
        notes.append(f"{count} in {place}/ not used")
    held_out = items_in(root / filled[0], f"{filled[0]}/") if filled else None
    return Layout(root, kind, train, held_out, filled[0] if filled else "", natural, label_side, tuple(notes))


def _marked(root: Path) -> tuple[str, str]:
    """(natural direction, label side) as the marker or the folder's name tells."""
    try:
        marker = json.loads((root / MARKER).read_text(encoding="utf-8"))
    except FileNotFoundError:
        marker = {}
    except (OSError, ValueError) as error:
        raise UserError(f"{root / MARKER} cannot be read ({error}): mend or delete it") from error
    usual = "BtoA" if root.resolve().name == "facades" else "AtoB"  # the well-known set: photo left, labels right
    direction, labels = marker.get("natural_direction", usual), marker.get("label_side", "")
    if direction not in ("AtoB", "BtoA") or labels not in ("", "B"):
        raise UserError(f"{root / MARKER} says direction {direction!r}, labels {labels!r}: mend or delete it")
    return direction, labels


def _two_folders(root: Path, skip_unpaired: bool) -> Layout | None:
    joined = {name: root / name for name in ("trainA", "trainB")}
    apart = {name: root / name for name in ("A", "B")}
    has_joined = [folder.is_dir() for folder in joined.values()]
    has_apart = [folder.is_dir() for folder in apart.values()]
    if any(has_joined) and any(has_apart):
        raise UserError(f"{root} has both A or B and trainA or trainB: give --data the one folder that is meant")
    if not any(has_joined) and not any(has_apart):
        return None
    names, present = (joined, has_joined) if any(has_joined) else (apart, has_apart)
    if not all(present):
        missing = list(names)[present.index(False)]
        raise UserError(f"{root} has no folder {missing} beside {list(names)[present.index(True)]}")
    notes: list[str] = []
    natural, label_side = _marked(root)

    def match(a: Path, b: Path, prefix: str) -> tuple[Item, ...]:
        return _match(root, a, b, prefix, skip_unpaired, notes)

    if any(has_joined):
        train = match(root / "trainA", root / "trainB", "train/")
        held = next((name for name in HELD_OUT if (root / f"{name}A").is_dir()), "")
        held_out = match(root / f"{held}A", root / f"{held}B", f"{held}/") if held else None
    elif (root / "A" / "train").is_dir():
        train = match(root / "A" / "train", root / "B" / "train", "train/")
        held = next((name for name in HELD_OUT if (root / "A" / name).is_dir()), "")
        held_out = match(root / "A" / held, root / "B" / held, f"{held}/") if held else None
    else:
        train, held, held_out = match(root / "A", root / "B", ""), "", None
    return Layout(root, "two folders", train, held_out, held, natural, label_side, tuple(notes))


def _match(root: Path, a: Path, b: Path, prefix: str, skip: bool, notes: list[str]) -> tuple[Item, ...]:
    """Pairs of the pictures with the same name, ending aside, in the folders a and b."""
    sides: list[dict[str, Path]] = []
    for folder in (a, b):
        if not folder.is_dir() or not list_images(folder):
            raise UserError(f"no pictures in {folder}, the partner of {b if folder is a else a}")
        named: dict[str, Path] = {}
        for path in list_images(folder):
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in named:
                raise UserError(f"{named[stem]} and {path} have the same name: which one is the pair's is not clear")
            named[stem] = path
        sides.append(named)
    alone = []
    for mine, other in (sides, reversed(sides)):
        alone += [str(mine[name].relative_to(root)) for name in sorted(mine.keys() - other.keys())]
    if alone and not skip:
        raise UnpairedError(root, alone)
    both = sorted(sides[0].keys() & sides[1].keys())
    if not both:
        raise UserError(f"{a} and {b} have no name in common: the two pictures of a pair must be named alike")
    if alone:
        notes.append(f"{len(alone)} without a partner left out")
    return tuple(Item(prefix + name, (sides[0][name], sides[1][name])) for name in both)


def _cmp(root: Path) -> Layout | None:
    """CMP facades as distributed: base/ and extended/ with cmp_b0001.jpg beside cmp_b0001.png (palette 1..12)."""
    folders = [root / name for name in ("base", "extended") if (root / name).is_dir()] or [root]
    photos: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    for folder in folders:
        for path in list_images(folder):
            if _CMP.match(path.stem):
                (labels if path.suffix.lower() == ".png" else photos)[path.stem] = path
    if not labels:
        return None
    alone = sorted(photos.keys() ^ labels.keys())
    if alone:
        raise UserError(
            f"{root} looks like the CMP facades, but {some(alone)} lack the .jpg photo or the .png labels: "
            f"unpack the archive again"
        )
    train, held_out = [], []
    for name in sorted(photos):
        part, number = _CMP.match(name).groups()
        item = Item(name, (photos[name], labels[name]))
        (train if part == "x" or int(number) <= _CMP_TRAIN_LAST else held_out).append(item)
    if not train or not held_out:
        return Layout(root, "cmp", tuple(train or held_out), None, "", "BtoA", "B")
    return Layout(root, "cmp", tuple(train), tuple(held_out), f"base {_CMP_TRAIN_LAST + 1}..378", "BtoA", "B")


def cityscapes(root: Path, skip_unpaired: bool = False) -> Layout | None:
    """Cityscapes as distributed, None for another set: A is the photo, B its picture of labels in colours.

    leftImg8bit/<split>/<city>/<name>_leftImg8bit.png beside gtFine/<split>/<city>/<name>_gtFine_color.png. The labels
    of its test split are not public, so val is held out. UserError when half of it is missing.
    """
    photo_folder, label_folder = root / "leftImg8bit", root / "gtFine"
    if not photo_folder.is_dir() and not label_folder.is_dir():
        return None
    for folder in (photo_folder, label_folder):
        if not folder.is_dir():
            raise UserError(f"{root} looks like Cityscapes, but has no folder {folder.name}: unpack both archives")
    found: dict[str, tuple[Item, ...]] = {}
    alone: list[str] = []
    for split in ("train", "val"):
        sides = []
        for folder, ending in ((photo_folder, "_leftImg8bit"), (label_folder, "_gtFine_color")):
            paths = [path for path in list_images(folder / split) if path.stem.endswith(ending)]
            sides.append({p.relative_to(folder).with_suffix("").as_posix().removesuffix(ending): p for p in paths})
        alone += [str(sides[k][name].relative_to(root)) for k in (0, 1) for name in sides[k].keys() - sides[1 - k]]
        found[split] = tuple(
            Item(name, (sides[0][name], sides[1][name])) for name in sorted(sides[0].keys() & sides[1])
        )
    if alone and not skip_unpaired:
        raise UnpairedError(root, sorted(alone))
    if not found["train"]:
        raise UserError(
            f"{root} looks like Cityscapes, but no leftImg8bit/train/*/*_leftImg8bit.png has a "
            f"gtFine/train/*/*_gtFine_color.png: unpack both archives"
        )
    notes = [f"{len(alone)} without a partner left out"] if alone else []
    if unused := sum(path.stem.endswith("_leftImg8bit") for path in list_images(photo_folder / "test")):
        notes.append(f"{unused} in test not used: no public labels")
    held_out = found["val"] or None
    name = "val" if held_out else ""
    return Layout(root, "cityscapes", found["train"], held_out, name, "BtoA", "B", tuple(notes))

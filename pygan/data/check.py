"""`pygan data check`: what a folder holds, and everything that is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pygan.data import bad_classes, bad_halves, birds, celeba, cifar, hdf5
from pygan.data.caption_files import CAPTIONS, SPLIT_NAMES, mismatches, read_captions
from pygan.data.index import Entry, index_files, list_images
from pygan.data.layouts import HELD_OUT, Layout, UnpairedError, find_layout
from pygan.data.unpaired import find_domains
from pygan.errors import UserError

Rows = list[tuple[str, str]]
"""What is printed: a word and what it is, line by line."""


_OTHER_FOLDERS = {"train", *HELD_OUT, "leftImg8bit", "gtFine", "base", "extended", "A", "B"}
_OTHER_FOLDERS |= {f"{split}{side}" for split in ("train", *HELD_OUT) for side in "AB"}


@dataclass
class Found:
    """What a folder holds. rows: for the user; problems: everything wrong but damaged pictures, one line each."""

    kind: str
    rows: Rows = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def check(folder: Path, *, plain: bool) -> int:
    """Print what the set is, every file that is bad and every other problem. Returns 0, or 2 if there is any.

    plain: it is to be single pictures for an input transform, whatever else it looks like. UserError where nothing is
    recognised.
    """
    special = None if plain else _special(folder)
    files = list_images(folder) if folder.is_dir() else []
    if special is None:
        layout, problems = _pairs(folder, plain)
        entries = index_files(folder, files)
        held_out = "none, a part of train is used" if layout.held_out is None else f"{len(layout.held_out)}"
        special = Found(
            layout.kind + ("" if not layout.notes else f" ({'; '.join(layout.notes)})"),
            [
                ("pairs", f"{len(layout.train)} train, held out: {held_out}"),
                ("direction", f"{layout.natural_direction} unless --direction says otherwise"),
            ],
            [*problems, *_misfits(folder, layout, entries)],
        )
    else:
        entries = index_files(folder, files)
    good = [entry for entry in entries.values() if not entry.why]
    damaged = [f"{os.path.relpath(e.path, folder)}: {e.why}" for e in entries.values() if e.why]
    rows = [("folder", str(folder)), ("layout", special.kind), *special.rows]
    if files:
        rows += _pictures(list(entries.values()), good)
    for name, value in rows:
        print(f"{name:<10} {value}")
    problems = [*special.problems, *damaged]
    print(f"{'bad':<10} {len(problems) or 'none'}")
    for problem in problems:
        print(f"  {problem}")
    return 2 if problems else 0


def _special(folder: Path) -> Found | None:
    """What a folder is that is no set of pairs; None: pairs, or single pictures."""
    if files := cifar.find(folder):
        return _cifar(files)
    if file := hdf5.find(folder):
        return _hdf5(file)
    if birds.has_embeddings(folder):
        return _birds(folder)
    if (folder / CAPTIONS).is_file():
        return _captions(folder)
    if folder.is_dir() and (pictures := celeba.picture_folder(folder)):
        return _celeba(folder, pictures)
    return _domains(folder) or _classes(folder)


def _pairs(folder: Path, plain: bool) -> tuple[Layout, list[str]]:
    try:
        return find_layout(folder, plain=plain), []
    except UnpairedError as error:
        problems = [f"{name}: no partner of the same name" for name in error.names]
        return find_layout(folder, plain=plain, skip_unpaired=True), problems


def _misfits(folder: Path, layout: Layout, entries: dict[Path, Entry]) -> list[str]:
    """Good files that do not fit the layout: halves of unequal width, label maps without classes."""
    used = [*layout.train, *(layout.held_out or ())]
    if layout.kind == "side by side":
        return [f"{os.path.relpath(e.path, folder)}: {reason}" for e, reason in bad_halves(used, entries)]
    if layout.kind == "cmp":
        return [f"{os.path.relpath(e.path, folder)}: {reason}" for e, reason in bad_classes(used, entries)]
    return []


def _pictures(entries: Sequence[Entry], good: Sequence[Entry]) -> Rows:
    rows = [
        ("files", f"{len(entries)}, {sum(e.size for e in entries) / 2**20:.1f} MiB"),
        ("sizes", _counted(f"{e.width}x{e.height}" for e in good)),
        ("formats", _counted(e.format for e in good)),
        ("modes", _counted(f"{e.mode} {e.bits} bit" + (" transparent" if e.transparent else "") for e in good)),
    ]
    turned, misnamed = sum(e.orientation != 1 for e in good), sum(e.misnamed for e in good)
    if turned:
        rows.append(("turned", f"{turned} by EXIF orientation, read upright"))
    if misnamed:
        rows.append(("misnamed", f"{misnamed} of another format than the ending says, read by content"))
    return rows


def _counted(words: Iterable[str], shown: int = 4) -> str:
    """As in RGB 8 bit (12), L 8 bit (3): most frequent first."""
    counts = Counter(words).most_common()
    listed = ", ".join(f"{word} ({count})" for word, count in counts[:shown])
    return listed + (f" and {len(counts) - shown} more" if len(counts) > shown else "")


def _cifar(files: dict[str, list[Path]]) -> Found:
    found = Found("CIFAR-10 (pictures with classes)")
    for split, paths in files.items():
        for path in paths:
            try:
                pictures, kinds, _ = cifar.read([path])
                found.rows.append(
                    (split, f"{path.name}: {len(pictures)} pictures of {len(set(kinds.tolist()))} classes")
                )
            except UserError as error:
                found.problems.append(str(error))
    if len(files["train"]) < cifar.N_BATCHES:
        found.problems.append(f"{len(files['train'])} of the {cifar.N_BATCHES} training batches are there")
    if not files["test"]:
        found.rows.append(("test", "none, a part of train is used"))
    return found


def _hdf5(path: Path) -> Found:
    file = hdf5.Hdf5(path)
    found = Found("HDF5 (pairs)", [("file", path.name)])
    for split, (A, B) in file.splits.items():
        sides = ", ".join(f"{k} {s.name} {s.width}x{s.height}x{s.channels}" for k, s in (("A", A), ("B", B)))
        found.rows.append((split, f"{A.count} pairs: {sides}"))
    return found


def _birds(folder: Path) -> Found:
    found = Found("birds or flowers with char-CNN-RNN embeddings (pictures with captions)")
    names: list[str] = []
    for split in ("train", "test"):
        try:
            part = birds.read_part(folder, split, embeddings=True)
        except UserError as error:
            found.problems.append(str(error))
            continue
        if part is None:
            found.rows.append((split, "none, a part of train is used"))
            continue
        names += part.names
        captions = sum(map(len, part.texts))
        written = sum(any(texts) for texts in birds.read_texts(folder, part.names, list(map(len, part.texts))))
        found.rows.append((split, f"{len(part.names)} pictures of {len(set(part.kinds))} classes"))
        found.rows.append(
            ("captions", f"{captions} of {part.texts[0].shape[1]} numbers; as text: of {written} pictures")
        )
    try:
        files = birds.picture_files(folder, names, skip=True)
        if files is None:
            found.rows.append(("pictures", "in pickles, cut already"))
        else:
            found.problems += [f"{n}: no such picture" for n, file in zip(names, files, strict=True) if file is None]
        places = birds.read_places(folder, names)
        if places.points is not None:
            found.rows.append(("key points", str(places.points.shape[1])))
    except UserError as error:
        found.problems.append(str(error))
    return found


def _captions(folder: Path) -> Found:
    found = Found(f"pictures with captions ({CAPTIONS})")
    try:
        rows = read_captions(folder / CAPTIONS)
    except UserError as error:
        found.problems.append(str(error))
        return found
    lost, silent = mismatches(folder, rows)
    counts = Counter(row.split for row in rows)
    told = ", ".join(f"{counts[name]} {name}" for name in SPLIT_NAMES if counts[name])
    found.rows.append(("captions", f"{sum(len(row.captions) for row in rows)} of {len(rows)} pictures"))
    found.rows.append(("splits", told or "as the folders are called, or by hash"))
    facts = [
        (len({row.kind for row in rows}) if rows[0].kind else 0, "classes"),
        (len(rows[0].keypoints), "key points"),
    ]
    known = [f"{count} {name}" for count, name in facts if count] + (["boxes"] if rows[0].box else [])
    if known:
        found.rows.append(("known", ", ".join(known)))
    found.problems += [f"{file}: captions, but no such picture" for file in lost]
    found.problems += [f"{file}: no captions" for file in silent]
    return found


def _celeba(folder: Path, pictures: Path) -> Found:
    found = Found("CelebA (pictures with attributes)")
    items = celeba.items_of(pictures)
    for name, read in ((celeba.ATTRIBUTES_FILE, _attributes), (celeba.PARTITION_FILE, _partition)):
        path = celeba.find(folder, name)
        if path is None:
            found.rows.append((name.split("_")[1], f"no {name}"))
            continue
        try:
            row, rows = read(path)
        except UserError as error:
            found.problems.append(str(error))
            continue
        found.rows.append(row)
        lost, silent = celeba.mismatches(rows, items)
        found.problems += [f"{file}: in {name}, but no such picture" for file in lost]
        found.problems += [f"{file}: no row in {name}" for file in silent]
    return found


def _attributes(path: Path) -> tuple[tuple[str, str], list[str]]:
    names, rows = celeba.read_attributes(path)
    listed = ", ".join(names[:8]) + " ..." * (len(names) > 8)
    return ("attributes", f"{len(names)} of {len(rows)} pictures: {listed}"), list(rows)


def _partition(path: Path) -> tuple[tuple[str, str], list[str]]:
    rows = celeba.read_partition(path)
    counts = Counter(rows.values())
    return ("splits", f"{counts[0]} train, {counts[1]} val, {counts[2]} test"), list(rows)


def _domains(folder: Path) -> Found | None:
    """Two domains, where their pictures are not named as pairs."""
    if not any((folder / name).is_dir() for name in ("trainA", "trainB", "A", "B")):
        return None
    try:
        domains = find_domains(folder)
    except UserError as error:
        names = [{path.stem for path in list_images(folder / f"train{side}")} for side in "AB"]
        if all(names) and not names[0] & names[1]:
            return Found("two domains (unpaired)", problems=[str(error)])
        return None  # `find_layout` says what is missing
    sides = [{item.name.split("/", 1)[1] for item in part} for part in domains.train]
    if sides[0] & sides[1]:
        return None  # pairs, though some may be incomplete
    counts = [len(part) for part in domains.train]
    held = "none, a part of train is used" if domains.held_out is None else " + ".join(
        f"{len(part)} {side}" for part, side in zip(domains.held_out, "AB", strict=True)
    )  # fmt: skip
    return Found("two domains (unpaired)", [("pictures", f"{counts[0]} A + {counts[1]} B to train, held out: {held}")])


def _classes(folder: Path) -> Found | None:
    """A folder per class: two or more folders of pictures where no picture lies beside them."""
    if not folder.is_dir():
        return None
    inner = folder / "train" if (folder / "train").is_dir() else folder
    inside = list_images(inner)
    names = sorted({path.relative_to(inner).parts[0] for path in inside if path.parent != inner})
    if any(path.parent == inner for path in inside) or len(names) < 2 or _OTHER_FOLDERS & {*names}:
        return None
    found = Found("a folder per class (pictures with classes; side by side within, pairs)")
    for split in ("train", *HELD_OUT) if inner != folder else ("",):
        if (folder / split).is_dir():
            counts = Counter(p.relative_to(folder / split).parts[0] for p in list_images(folder / split))
            listed = ", ".join(f"{name} ({counts[name]})" for name in sorted(counts)[:8])
            found.rows.append((split or "classes", f"{len(counts)}: {listed}{' ...' * (len(counts) > 8)}"))
            found.problems += [f"{split}/{name}: no pictures of this class" for name in names if not counts[name]]
    empty = [f.name for f in inner.iterdir() if f.is_dir() and f.name not in names and not f.name.startswith(".")]
    found.problems += [f"{name}: no pictures of this class" for name in sorted(empty)]
    return found

"""`pygan data make` writes the built-in facades to disk; `pygan data check` says what a folder holds."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from pygan.data import bad_classes, bad_halves
from pygan.data.facades import PALETTE, facade
from pygan.data.feeds import cores
from pygan.data.images import EXTENSIONS, why
from pygan.data.index import Entry, index_files, list_images
from pygan.data.layouts import MARKER, Layout, UnpairedError, find_layout
from pygan.data.sources import facade_name, houses_of
from pygan.data.transforms import TRANSFORMS
from pygan.errors import UserError, say

_SAVE = {"png": {"compress_level": 1}, "jpg": {"quality": 95, "subsampling": 0}}  # 4:4:4 keeps label edges sharp
_MARK = {"set": "facades", "natural_direction": "BtoA", "label_side": "B"}
_SAY_EVERY_S = 5.0


def add_arguments(subparsers: argparse._SubParsersAction) -> None:
    """Add `make` and `check` to the subcommands of `pygan data`."""
    make = subparsers.add_parser("make", help="write a built-in set to disk")
    make.add_argument("what", choices=("facades",), help="which set")
    make.add_argument("folder", type=Path, metavar="DIR", help="where to: gets train/, val/ and test/")
    make.add_argument("--n", type=int, default=400, metavar="N", help="training pairs (default: 400 pairs)")
    make.add_argument("--size", default="256", metavar="S", help="of each half, S or WxH (default: 256 pixels)")
    make.add_argument("--seed", type=int, default=0, metavar="K", help="which set of houses (default: 0)")
    make.add_argument(
        "--holdout", type=float, default=0.1, metavar="X", help="size of val and of test (default: 0.1 of N)"
    )
    make.add_argument("--format", choices=tuple(_SAVE), default="png", help="of the files (default: png, exact labels)")
    make.add_argument("--force", action="store_true", help="write into a folder that has files; replaces older facades")

    check = subparsers.add_parser("check", help="look at every file of a set and say what is wrong")
    check.add_argument("folder", type=Path, metavar="DIR", help="the set, as for --data")
    check.add_argument(
        "--input-transform", choices=TRANSFORMS, default="none", help="as for train: other than none, single pictures"
    )


def run(args: argparse.Namespace) -> int:
    """Run the parsed command. Returns the exit code: 0, or 2 when `check` found something bad. Errors: UserError."""
    if args.act == "make":
        return make_facades(
            args.folder, n=args.n, size=args.size, seed=args.seed, holdout=args.holdout, ending=args.format,
            force=args.force,
        )  # fmt: skip
    return check(args.folder, plain=args.input_transform != "none")


def make_facades(folder: Path, *, n: int, size: str, seed: int, holdout: float, ending: str, force: bool) -> int:
    """Write train/, val/ and test/ of side-by-side pairs (photo left, labels right), file by file and atomically.

    The pictures are those that training on the built-in set `facades:<seed>` sees at the same size. Returns 0.
    UserError for a folder that is not empty (unless force), cannot be written, or arguments that make no set.
    """
    height, width = _parse_size(size)
    if not 0 <= holdout < 1:
        raise UserError(f"--holdout must be in [0, 1), got {holdout}")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2^63-1, got {seed}")
    houses = houses_of(n, holdout)
    try:
        if folder.exists() and any(folder.iterdir()) and not force:
            raise UserError(f"{folder} is not empty: give a new folder, or --force to write into it")
        for name in houses:
            (folder / name).mkdir(parents=True, exist_ok=True)
        jobs = {folder / name / f"{facade_name(i)}.{ending}": i for name, indices in houses.items() for i in indices}
        _write_all(jobs, seed, (height, width), ending)
        _remove_older([folder / name for name in houses], set(jobs))
        _replace(folder / MARKER, json.dumps(_MARK | {"seed": seed}, indent=1).encode())
    except OSError as error:
        raise UserError(f"cannot write the set to {folder}: {why(error)}") from error
    counts = ", ".join(f"{len(indices)} {name}" for name, indices in houses.items())
    print(f"{folder}: {counts} pairs of {width}x{height} pixels, photo left and labels right")
    print(f"train on them: pygan train pix2pix --data {folder}")
    return 0


def _parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "256" or "384x256" (width first, as people say it)."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match:
        raise UserError(f"--size must be S or WxH in pixels, like 256 or 384x256, got {text!r}")
    width = int(match[1])
    height = int(match[2] or width)
    if not (8 <= width <= 4096 and 8 <= height <= 4096):
        raise UserError(f"--size must be 8..4096 pixels each way, got {width}x{height}")
    return height, width


def _write_all(jobs: dict[Path, int], seed: int, size: tuple[int, int], ending: str) -> None:
    def write(path: Path) -> None:
        photo, ids = facade(seed, jobs[path], size)
        temporary = path.with_name(f".{path.name}.tmp")
        picture = Image.fromarray(np.concatenate([photo, PALETTE[ids]], axis=1))
        picture.save(temporary, format={"png": "PNG", "jpg": "JPEG"}[ending], **_SAVE[ending])
        temporary.replace(path)

    last = time.monotonic()
    pool = ThreadPoolExecutor(min(16, cores()), thread_name_prefix="pygan-make")
    try:
        for done, _ in enumerate(pool.map(write, jobs), start=1):
            if time.monotonic() - last > _SAY_EVERY_S:
                last = time.monotonic()
                say(f"{done} of {len(jobs)} pairs written")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _remove_older(folders: list[Path], written: set[Path]) -> None:
    """Houses that an earlier, larger set left: they would be trained on as if they belonged to this one."""
    for folder in folders:
        for path in folder.glob("facade_*"):
            if path not in written and path.suffix.lower() in EXTENSIONS:
                path.unlink()


def check(folder: Path, *, plain: bool) -> int:
    """Print what the set is, every file that is bad and every other problem. Returns 0, or 2 if there is any."""
    problems: list[str] = []
    layout: Layout | None = None
    try:
        layout = find_layout(folder, plain=plain)
    except UnpairedError as error:
        problems += [f"{name}: no partner of the same name" for name in error.names]
        layout = find_layout(folder, plain=plain, skip_unpaired=True)
    files = list_images(folder)
    entries = index_files(folder, files)
    good = [entry for entry in entries.values() if not entry.why]
    problems += [f"{os.path.relpath(e.path, folder)}: {e.why}" for e in entries.values() if e.why]
    problems += _misfits(folder, layout, entries)
    held_out = "none, a part of train is used" if layout.held_out is None else f"{len(layout.held_out)}"
    rows = [
        ("folder", str(folder)),
        ("layout", layout.kind + ("" if not layout.notes else f" ({'; '.join(layout.notes)})")),
        ("pairs", f"{len(layout.train)} train, held out: {held_out}"),
        ("direction", f"{layout.natural_direction} unless --direction says otherwise"),
        ("files", f"{len(files)}, {sum(e.size for e in entries.values()) / 2**20:.1f} MiB"),
        ("sizes", _counted(f"{e.width}x{e.height}" for e in good)),
        ("formats", _counted(e.format for e in good)),
        ("modes", _counted(f"{e.mode} {e.bits} bit" + (" transparent" if e.transparent else "") for e in good)),
    ]
    turned, misnamed = sum(e.orientation != 1 for e in good), sum(e.misnamed for e in good)
    if turned:
        rows.append(("turned", f"{turned} by EXIF orientation, read upright"))
    if misnamed:
        rows.append(("misnamed", f"{misnamed} of another format than the ending says, read by content"))
    for name, value in rows:
        print(f"{name:<10} {value}")
    print(f"{'bad':<10} {len(problems) or 'none'}")
    for problem in problems:
        print(f"  {problem}")
    return 2 if problems else 0


def _misfits(folder: Path, layout: Layout, entries: dict[Path, Entry]) -> list[str]:
    """Good files that do not fit the layout: halves of unequal width, label maps without classes."""
    used = [*layout.train, *(layout.held_out or ())]
    if layout.kind == "side by side":
        return [f"{os.path.relpath(e.path, folder)}: {reason}" for e, reason in bad_halves(used, entries)]
    if layout.kind == "cmp":
        return [f"{os.path.relpath(e.path, folder)}: {reason}" for e, reason in bad_classes(used, entries)]
    return []


def _counted(words: Iterable[str], shown: int = 4) -> str:
    """As in RGB 8 bit (12), L 8 bit (3): most frequent first."""
    counts = Counter(words).most_common()
    listed = ", ".join(f"{word} ({count})" for word, count in counts[:shown])
    return listed + (f" and {len(counts) - shown} more" if len(counts) > shown else "")

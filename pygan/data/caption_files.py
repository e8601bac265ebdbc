"""Captions as pygan's own sets have them: one JSON object per line in `captions.jsonl`, about one picture each."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pygan.data.images import why
from pygan.data.index import list_images
from pygan.errors import UserError

CAPTIONS = "captions.jsonl"
"""File of the captions in the folder of a set."""

SPLIT_NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Row:
    """What is said about one picture."""

    line: int
    file: str  # relative to the set's folder, "/" between folders
    captions: tuple[str, ...]
    box: tuple[float, ...] = ()  # x, y, width, height in pixels of the upright picture; empty: not told
    keypoints: tuple[tuple[float, ...], ...] = ()  # x, y in pixels, visible (0 or 1)
    kind: str = ""  # its class
    split: str = ""  # one of SPLIT_NAMES, or "": not told


def read_captions(path: Path) -> list[Row]:
    """The rows of a captions file; several lines about one picture become one row with all their captions.

    A line is {"file": "train/1.png", "caption": "a red circle"} or {"file": ..., "captions": [...]}, with, where they
    are known, "box": [x, y, width, height], "keypoints": [[x, y, visible], ...], "class" and "split". UserError that
    names the line for one that is not like this.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from error
    rows: dict[str, Row] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = _row(path, number, line)
        before = rows.get(row.file)
        if before is not None:
            if _facts(before) != _facts(row):
                raise UserError(f"{path} line {number}: says other things about {row.file} than line {before.line}")
            row = Row(before.line, row.file, before.captions + row.captions, *_facts(row))
        rows[row.file] = row
    if not rows:
        raise UserError(f"{path} is empty: it needs a line for every picture")
    found = list(rows.values())
    for name, has in (("box", [r.box for r in found]), ("keypoints", [r.keypoints for r in found]),
                      ("split", [r.split for r in found]), ("class", [r.kind for r in found])):  # fmt: skip
        if any(has) and not all(has):
            lacking = next(row for row, value in zip(found, has, strict=True) if not value)
            raise UserError(
                f'{path} line {lacking.line}: has no "{name}", which other lines have: give all one or none'
            )
    if len({len(row.keypoints) for row in found}) > 1:
        odd = next(row for row in found if len(row.keypoints) != len(found[0].keypoints))
        raise UserError(
            f"{path} line {odd.line}: has {len(odd.keypoints)} key points, line {found[0].line} has "
            f"{len(found[0].keypoints)}: list all of them everywhere, [0, 0, 0] for one that is not seen"
        )
    return found


def mismatches(root: Path, rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """(files that rows are about and that are not in `root`, pictures in `root` that no row is about)."""
    there = {file.relative_to(root).as_posix() for file in list_images(root)}
    return [row.file for row in rows if row.file not in there], sorted(there - {row.file for row in rows})


def _facts(row: Row) -> tuple[Any, ...]:
    return row.box, row.keypoints, row.kind, row.split


def _row(path: Path, number: int, line: str) -> Row:
    def refuse(what: str) -> UserError:
        return UserError(f"{path} line {number}: {what}")

    try:
        said = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise refuse(f"not JSON ({' '.join(str(error).split())})") from None
    if not isinstance(said, dict):
        raise refuse('expected an object like {"file": "1.png", "caption": "a red circle"}')
    file = said.get("file")
    if not isinstance(file, str) or not file:
        raise refuse('needs "file", the path of the picture in the set\'s folder')
    if file.startswith("/") or ".." in Path(file).parts or "\0" in file:
        raise refuse(f'"file" {file!r} must lie in the set\'s folder')
    if ("caption" in said) == ("captions" in said):
        raise refuse('needs either "caption" or "captions"')
    captions = [said["caption"]] if "caption" in said else said["captions"]
    if not isinstance(captions, list) or not captions:
        raise refuse('"captions" must be a list of one caption or more')
    if not all(isinstance(caption, str) and caption.strip() for caption in captions):
        raise refuse("a caption is empty or no text")
    split, kind = said.get("split", ""), said.get("class", "")
    if split not in ("", *SPLIT_NAMES):
        raise refuse(f'"split" must be one of {", ".join(SPLIT_NAMES)}, got {split!r}')
    if not isinstance(kind, (str, int)) or isinstance(kind, bool):
        raise refuse(f'"class" must be a name or a number, got {kind!r}')
    box = _numbers(said.get("box"), 4)
    if box is None or (box and (box[2] <= 0 or box[3] <= 0)):
        raise refuse('"box" must be [x, y, width, height] in pixels')
    points = said.get("keypoints")
    found = [_numbers(point, 3) for point in points] if isinstance(points, list) else []
    if (points is not None and not found) or not all(found):
        raise refuse('"keypoints" must be a list of [x, y, visible], x and y in pixels')
    return Row(number, Path(file).as_posix(), tuple(captions), box, tuple(found), str(kind), split)


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, () where there is nothing, None for anything else."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) != count:
        return None
    good = all(isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    return tuple(float(x) for x in value) if good else None

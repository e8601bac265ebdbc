"""Pictures with captions, and the captions as numbers: the training sets of GANs that draw what a text says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pygan.data.caption_files import CAPTIONS, Row, read_captions
from pygan.data.index import Entry, list_images, some
from pygan.data.layouts import HELD_OUT, Item
from pygan.data.picture_files import (
    PictureFiles,
    Window,
    channels_of,
    conversions,
    divide,
    load_size_of,
    need_folder,
    open_items,
    photo_filter,
    pre_crop_of,
    sizes,
    windows_of,
)
from pygan.data.sources import PictureSource
from pygan.data.text import embed, encoder
from pygan.errors import UserError

KNOWN = f"pictures with DIR/{CAPTIONS}, or CUB birds and Oxford flowers with their char-CNN-RNN embeddings"


class CaptionedPictures(PictureSource):
    """The pictures of another source, each with one or more captions.

    texts: float32 (captions, d), the embeddings of all captions; captions: as many strings, "" where only the embedding
    is known. facts: "text_range" int64 (n, 2), the first caption of a picture and how many it has; "class" int64 (n);
    "box" float32 (n, 4): x, y, width, height, and "keypoints" float32 (n, k, 3): x, y, visible (0 or 1), where the set
    has them, both in parts of the whole picture. mirror: which key point each becomes in a mirrored picture.
    """

    def __init__(
        self,
        pictures: PictureSource,
        captions: Sequence[str],
        texts: np.ndarray,
        facts: dict[str, np.ndarray],
        *,
        description: str,
        mirror: Sequence[int] = (),
    ) -> None:
        self._pictures = pictures
        self.load_size, self.channels, self.filters = pictures.load_size, pictures.channels, pictures.filters
        self.captions, self.texts, self.facts, self.mirror = list(captions), texts, facts, tuple(mirror)
        self._description = description

    def __len__(self) -> int:
        return len(self._pictures)

    def names(self) -> list[str]:
        return self._pictures.names()

    def picture(self, i: int) -> np.ndarray:
        return self._pictures.picture(i)

    def describe(self) -> str:
        return self._description

    def paths(self, i: int) -> tuple[Path, ...] | None:
        return self._pictures.paths(i)

    def files(self, i: int) -> tuple[Path, ...]:
        return self._pictures.files(i)

    def file_modes(self) -> frozenset[tuple[str, str]]:
        return self._pictures.file_modes()


def captioned_source(recipe: Any, split: str) -> CaptionedPictures:
    """The captioned pictures of one split ("train" or "held-out") of the set that the recipe names.

    recipe.data: a folder, see KNOWN. Fields read: as `pictures_source`, and text_encoder ("auto": the embeddings that
    come with the set, else the built-in encoder; else see `text.encoder`) and where ("box" or "keypoints": pictures are
    not cut to the box, which is then a condition). Errors: UserError, one line, for everything that is wrong with the
    data.
    """
    load_size_of(recipe, split)
    root = Path(os.path.expanduser(recipe.data))
    need_folder(root, KNOWN)
    return _from_jsonl(recipe, split, root)


def _from_jsonl(recipe: Any, split: str, root: Path) -> CaptionedPictures:
    rows, notes = _rows(root, recipe.skip_bad)
    items = [Item(Path(row.file).with_suffix("").as_posix(), (root / row.file,)) for row in rows]
    if len({item.name for item in items}) < len(items):  # cat.jpg and cat.png are two pictures
        items = [Item(row.file, item.files) for row, item in zip(rows, items, strict=True)]
    good, entries, left_out = open_items(root, items, recipe.skip_bad)
    here = set(good)
    rows = [row for row, item in zip(rows, items, strict=True) if item in here]
    train, held_out, where = _splits(rows, recipe.holdout, root)
    chosen = train if split == "train" else held_out
    kinds = {name: k for k, name in enumerate(sorted({row.kind for row in rows}))}
    used = [good[i] for i in chosen]
    windows = windows_of(pre_crop_of(recipe), root, used, entries)
    found, channels = [entries[item.files[0]] for item in good], channels_of(recipe)
    captions = [caption for i in chosen for caption in rows[i].captions]
    using = encoder(getattr(recipe, "text_encoder", "auto"))
    facts = {
        "text_range": ranges([len(rows[i].captions) for i in chosen]),
        "class": np.array([kinds[rows[i].kind] for i in chosen], dtype=np.int64),
    }
    frames = frames_of(windows, [entries[item.files[0]] for item in used])
    if rows[0].box:
        facts["box"] = boxes_in_parts(np.array([rows[i].box for i in chosen]), frames)
    if rows[0].keypoints:
        facts["keypoints"] = points_in_parts(np.array([rows[i].keypoints for i in chosen]), frames)
    said = [
        f"{root}: captioned pictures of {sizes(found)} pixels, {len(train)} to train, {len(held_out)} held out "
        f"({where}), {sum(len(row.captions) for row in rows)} captions, {using.identity} embeddings of {using.dim}",
        *notes,
        *conversions(found, channels),
        *([left_out] if left_out else []),
    ]
    pictures = PictureFiles(
        used,
        entries,
        load_size=load_size_of(recipe, split),
        channels=channels,
        filter_name=photo_filter(recipe),
        description="; ".join(said),
        windows=windows,
    )
    return CaptionedPictures(pictures, captions, embed(captions, using, root), facts, description=pictures.describe())


def _rows(root: Path, skip: bool) -> tuple[list[Row], list[str]]:
    """The captions of the pictures that are there, and notes on what was left out (skip: instead of refusing)."""
    path = root / CAPTIONS
    if not path.is_file():
        raise UserError(f"{root} has no {CAPTIONS}; understood are {KNOWN}")
    rows = read_captions(path)
    there = {file.relative_to(root).as_posix() for file in list_images(root)}
    lost = [row.file for row in rows if row.file not in there]
    silent = sorted(there - {row.file for row in rows})
    if lost and not skip:
        raise UserError(
            f"{path} has captions for {len(lost)} pictures that are not there: {some(lost)}; bring them back, or leave "
            f"the captions out with --skip-bad"
        )
    if silent and not skip:
        raise UserError(
            f"{len(silent)} pictures in {root} have no captions in {CAPTIONS}: {some(silent)}; write some, or leave "
            f"the pictures out with --skip-bad"
        )
    rows = [row for row in rows if row.file in there]
    if not rows:
        raise UserError(f"{path} has no caption for any picture that is there")
    notes = [f"{len(lost)} captions of missing pictures left out"] if lost else []
    return rows, notes + ([f"{len(silent)} pictures without captions left out"] if silent else [])


def _splits(rows: Sequence[Row], holdout: float, root: Path) -> tuple[list[int], list[int], str]:
    """(training rows, held-out rows, in words how): as the rows say, else their folders, else by hash."""
    splits = [row.split or Path(row.file).parts[0] for row in rows]
    if "train" not in splits or not all(name in ("train", *HELD_OUT) for name in splits):
        if rows[0].split:
            raise UserError(f'{root / CAPTIONS}: no line has "split": "train"')
        return divide([row.file for row in rows], holdout)
    train = [i for i, name in enumerate(splits) if name == "train"]
    held = next((name for name in HELD_OUT if name in splits), "")
    if held:
        return train, [i for i, name in enumerate(splits) if name == held], held
    first, last, where = divide([rows[i].file for i in train], holdout)
    return [train[i] for i in first], [train[i] for i in last], where


def ranges(counts: Sequence[int]) -> np.ndarray:
    """int64 (n, 2): first and number of the captions of each picture, when they follow each other."""
    many = np.asarray(counts, dtype=np.int64)
    return np.stack([np.cumsum(many) - many, many], axis=1)


def boxes_in_parts(boxes: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Boxes (n, 4) x, y, width, height in pixels -> float32 (n, 4) in parts of the frames, clipped to them.

    frames: (n, 4) left, top, right, bottom in pixels: what is cut from each picture.
    """
    size = np.tile(frames[:, 2:] - frames[:, :2], 2)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    corners = np.clip((corners - np.tile(frames[:, :2], 2)) / size, 0, 1)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).astype(np.float32)


def points_in_parts(points: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Key points (n, k, 3) x, y in pixels and visible -> float32 (n, k, 3) in parts of the frames; unseen ones are 0.

    frames: as in `boxes_in_parts`. What lies outside of its frame is not visible.
    """
    places = (points[:, :, :2] - frames[:, None, :2]) / (frames[:, None, 2:] - frames[:, None, :2])
    seen = (points[:, :, 2:] > 0) & ((places >= 0) & (places <= 1)).all(axis=2, keepdims=True)
    return np.where(seen, np.concatenate([places, np.ones_like(places[:, :, :1])], axis=2), 0).astype(np.float32)


def frames_of(windows: Sequence[Window | None], entries: Sequence[Entry]) -> np.ndarray:
    """float64 (n, 4): left, top, right, bottom of what is used of each picture."""
    return np.array([w or (0, 0, e.width, e.height) for w, e in zip(windows, entries, strict=True)], dtype=np.float64)

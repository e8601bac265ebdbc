"""Pictures with captions, and the captions as numbers: the training sets of GANs that draw what a text says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pygan.data import shapes
from pygan.data.birds import (
    NAMES,
    bird_window,
    has_embeddings,
    picture_files,
    read_arrays,
    read_part,
    read_places,
    read_texts,
)
from pygan.data.built_in import built_in, drawn_pictures, indices_of
from pygan.data.caption_files import CAPTIONS, Row, mismatches, read_captions
from pygan.data.index import Entry, some
from pygan.data.layouts import HELD_OUT, Item
from pygan.data.picture_files import (
    PictureArrays,
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

    recipe.data: a folder, see KNOWN; or "", "shapes" or "shapes:7" for what is drawn. Fields read: as by
    `pictures_source`, and text_encoder ("auto": the embeddings that come with the set, else the built-in encoder; else
    see `text.encoder`) and where ("box" or "keypoints": birds are not cut to their box, which is then a condition).
    Errors: UserError, one line, for everything that is wrong with the data.
    """
    load_size_of(recipe, split)
    drawn = built_in(recipe.data, "shapes", ("shapes",))
    if drawn:
        return _drawn(recipe, split, drawn[1])
    root = Path(os.path.expanduser(recipe.data))
    using = getattr(recipe, "text_encoder", "auto") or "auto"
    found = _find(recipe, root, split, embeddings=using == "auto")
    chosen = found.train if split == "train" else found.held_out
    captions = [caption for i in chosen for caption in found.captions[i]]
    texts = found.texts
    if texts is not None:
        texts, title = np.concatenate([texts[i] for i in chosen]), "char-CNN-RNN embeddings"
    else:
        if not all(captions):
            raise UserError(
                f"--text-encoder {using}: {root} has embeddings, but no captions in text_c10/ to encode; use "
                f"--text-encoder auto"
            )
        encoding = encoder(using)
        texts, title = embed(captions, encoding, root), f"{encoding.title} embeddings"
    facts = {
        "text_range": ranges([len(found.captions[i]) for i in chosen]),
        "class": np.array([found.kinds[i] for i in chosen], dtype=np.int64),
    }
    pictures, frames = _pictures(recipe, split, found, f"{len(captions)} captions, {title} of {texts.shape[1]}")
    if found.boxes is not None:
        facts["box"] = boxes_in_parts(found.boxes[chosen], frames)
    if found.points is not None:
        facts["keypoints"] = points_in_parts(found.points[chosen], frames)
    return CaptionedPictures(pictures, captions, texts, facts, description=pictures.describe(), mirror=found.mirror)


def captioned_pictures(recipe: Any, split: str, root: Path) -> PictureSource:
    """The pictures alone of a captioned set, cut as for `captioned_source`."""
    found = _find(recipe, root, split, embeddings=False)
    return _pictures(recipe, split, found, "captions not used")[0]


@dataclass
class Captioned:
    """A captioned set whose files have been checked. Lists and NumPy arrays have an entry per picture.

    items: with their file, entries: of all files; or arrays: the pictures themselves, uint8 (h, w, 3), by number.
    windows: what is cut from each. train, held_out: numbers of the pictures; where: in words. captions: by number, ""
    where only embeddings are known; texts: by number (captions, d), None: to be encoded; both of at least one split.
    kinds: numbers of the classes. boxes (n, 4), points (n, k, 3): in pixels.
    """

    root: Path
    what: str
    items: list[Item]
    entries: dict[Path, Entry]
    windows: list[Window | None]
    train: list[int]
    held_out: list[int]
    where: str
    captions: dict[int, list[str]]
    kinds: list[int]
    notes: list[str]
    arrays: dict[int, np.ndarray] | None = None
    files: tuple[Path, ...] = ()
    texts: dict[int, np.ndarray] | None = None
    boxes: np.ndarray | None = None
    points: np.ndarray | None = None
    mirror: tuple[int, ...] = ()


def _find(recipe: Any, root: Path, split: str, *, embeddings: bool) -> Captioned:
    """The set at `root`. embeddings: read those of the split that come with it."""
    if has_embeddings(root):
        return _from_birds(recipe, root, split, embeddings)
    need_folder(root, KNOWN)
    return _from_jsonl(recipe, root)


def _pictures(recipe: Any, split: str, found: Captioned, texts: str) -> tuple[PictureSource, np.ndarray]:
    """The pictures of a split, and (n, 4) the part of each that is used: left, top, right, bottom in pixels."""
    chosen, channels = found.train if split == "train" else found.held_out, channels_of(recipe)
    checked = [found.entries[file] for item in found.items for file in item.files]
    size = sizes(checked) if checked else "x".join(map(str, next(iter(found.arrays.values())).shape[1::-1]))
    said = [
        f"{found.root}: {found.what} of {size} pixels, {len(found.train)} to train, {len(found.held_out)} held out "
        f"({found.where}), {texts}",
        *found.notes,
        *conversions(checked, channels),
    ]
    common = {
        "load_size": load_size_of(recipe, split),
        "channels": channels,
        "filter_name": photo_filter(recipe),
        "description": "; ".join(said),
    }
    items, windows = [found.items[i] for i in chosen], [found.windows[i] for i in chosen]
    if found.arrays is None:
        used = [found.entries[item.files[0]] for item in items]
        frames = [w or (0, 0, e.width, e.height) for w, e in zip(windows, used, strict=True)]
        pictures = PictureFiles(items, found.entries, windows=windows, **common)
        return pictures, np.array(frames, dtype=np.float64)
    arrays = [found.arrays[i] for i in chosen]
    frames = [(0, 0, array.shape[1], array.shape[0]) for array in arrays]
    names = [item.name for item in items]
    return PictureArrays(names, arrays.__getitem__, files=found.files, **common), np.array(frames, dtype=np.float64)


def _drawn(recipe: Any, split: str, seed: int) -> CaptionedPictures:
    """The built-in shapes: classes, boxes and key points are of the main shape, and of all."""
    pictures = drawn_pictures(recipe, split, "shapes", seed)
    numbers = indices_of(recipe, split)
    scenes = [shapes.plan(seed, index) for index in numbers]
    said = [shapes.captions(scene, seed, index) for scene, index in zip(scenes, numbers, strict=True)]
    captions = [caption for of_one in said for caption in of_one]
    encoding = encoder(getattr(recipe, "text_encoder", "auto") or "auto")
    main, colours = [scene.items[0] for scene in scenes], list(shapes.COLOURS)
    facts = {
        "text_range": ranges([shapes.CAPTIONS] * len(scenes)),
        "class": np.array([colours.index(m.colour) * len(shapes.KINDS) + shapes.KINDS.index(m.kind) for m in main]),
        "box": np.array([shapes.bounds(item) for item in main], dtype=np.float32),
        "keypoints": np.array([shapes.keypoints(scene) for scene in scenes], dtype=np.float32),
    }
    return CaptionedPictures(
        pictures,
        captions,
        encoding.encode(captions),
        facts,
        description=f"{pictures.describe()}, {shapes.CAPTIONS} captions each, {encoding.title} embeddings of "
        f"{encoding.dim}",
        mirror=[5 * (k // 5) + (0, 1, 4, 3, 2)[k % 5] for k in range(shapes.KEYPOINTS)],
    )


def _from_jsonl(recipe: Any, root: Path) -> Captioned:
    rows, notes = _rows(root, recipe.skip_bad)
    items = [Item(Path(row.file).with_suffix("").as_posix(), (root / row.file,)) for row in rows]
    if len({item.name for item in items}) < len(items):  # cat.jpg and cat.png are two pictures
        items = [Item(row.file, item.files) for row, item in zip(rows, items, strict=True)]
    good, entries, left_out = open_items(root, items, recipe.skip_bad)
    here = set(good)
    rows = [row for row, item in zip(rows, items, strict=True) if item in here]
    train, held_out, where = _splits(rows, recipe.holdout, root)
    numbers = {name: k for k, name in enumerate(sorted({row.kind for row in rows}))}
    return Captioned(
        root=root,
        what="captioned pictures",
        items=good,
        entries=entries,
        windows=windows_of(pre_crop_of(recipe), root, good, entries),
        train=train,
        held_out=held_out,
        where=where,
        captions={i: list(row.captions) for i, row in enumerate(rows)},
        kinds=[numbers[row.kind] for row in rows],
        notes=[*notes, *([left_out] if left_out else [])],
        boxes=np.array([row.box for row in rows]) if rows[0].box else None,
        points=np.array([row.keypoints for row in rows]) if rows[0].keypoints else None,
    )


def _from_birds(recipe: Any, root: Path, split: str, embeddings: bool) -> Captioned:
    """Birds or flowers. Embeddings, captions and pictures in pickles are read of `split` alone."""
    has_test = (root / "test" / NAMES).is_file()
    wanted = "test" if split == "held-out" and has_test else "train"
    parts = {}
    for name in ("train", "test"):
        part = read_part(root, name, embeddings=embeddings and name == wanted)
        if part:
            parts[name] = part
    names = [name for part in parts.values() for name in part.names]
    kinds = [kind for part in parts.values() for kind in part.kinds]
    train, held_out, where = list(range(len(parts["train"].names))), [], "test"
    if has_test:
        held_out = list(range(len(train), len(names)))
    else:
        train, held_out, where = divide(names, recipe.holdout)
    first = len(parts["train"].names) if wanted == "test" else 0
    mine = range(first, first + len(parts[wanted].names))  # what belongs to the wanted part
    texts = dict(zip(mine, parts[wanted].texts, strict=True)) if embeddings else None
    counts = [len(texts[i]) for i in mine] if texts else [0] * len(mine)
    captions = dict(zip(mine, read_texts(root, parts[wanted].names, counts), strict=True))
    condition = getattr(recipe, "where", "")
    files = picture_files(root, names, skip=recipe.skip_bad)
    if files is None:
        if condition:
            raise UserError(f"--where {condition}: {root} has only pictures that are cut already; add CUB_200_2011/")
        arrays, path = read_arrays(root, wanted, load_size_of(recipe, split), len(mine))
        if (pre_crop := pre_crop_of(recipe)) != "none":
            raise UserError(f"--pre-crop {pre_crop}: the pictures in {path} are cut already; leave it out")
        return Captioned(
            root=root, what="captioned pictures in pickles", items=[Item(name, ()) for name in names], entries={},
            windows=[None] * len(names), train=train, held_out=held_out, where=where, captions=captions, kinds=kinds,
            notes=[], arrays=dict(zip(mine, arrays, strict=True)), files=(path,), texts=texts,
        )  # fmt: skip
    there = [Item(name, (file,)) for name, file in zip(names, files, strict=True) if file]
    good, entries, left_out = open_items(root, there, recipe.skip_bad)
    here = {item.name for item in good}
    new = {old: k for k, old in enumerate(i for i, name in enumerate(names) if name in here)}
    train, held_out = ([new[i] for i in part if i in new] for part in (train, held_out))
    if not train or not held_out:
        raise UserError(f"no good picture is left {'held out' if train else 'to train on'} in {root}")
    places = read_places(root, [item.name for item in good])
    pre_crop, notes = pre_crop_of(recipe), [left_out] if left_out else []
    if len(there) < len(names):
        notes.append(f"{len(names) - len(there)} missing pictures left out")
    windows = windows_of(pre_crop, root, good, entries)
    if places.boxes is not None and pre_crop == "none" and not condition:
        windows = [bird_window(box, entries[item.files[0]]) for box, item in zip(places.boxes, good, strict=True)]
        notes.insert(0, "cut to the square round the box")
    return Captioned(
        root=root,
        what="captioned pictures",
        items=good,
        entries=entries,
        windows=windows,
        train=train,
        held_out=held_out,
        where=where,
        captions={new[i]: text for i, text in captions.items() if i in new},
        kinds=[kinds[i] for i in new],
        notes=notes,
        texts={new[i]: text for i, text in texts.items() if i in new} if texts else None,
        boxes=places.boxes,
        points=places.points,
        mirror=places.mirror,
    )


def _rows(root: Path, skip: bool) -> tuple[list[Row], list[str]]:
    """The captions of the pictures that are there, and notes on what was left out (skip: instead of refusing)."""
    path = root / CAPTIONS
    if not path.is_file():
        raise UserError(f"{root} has no {CAPTIONS}; understood are {KNOWN}")
    rows = read_captions(path)
    lost, silent = mismatches(root, rows)
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
    gone = set(lost)
    rows = [row for row in rows if row.file not in gone]
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

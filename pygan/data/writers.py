"""Writes the built-in sets to disk, each in the layout that the real set of its kind is distributed in."""

from __future__ import annotations

import json
import pickle
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from pygan.data import shapes
from pygan.data.facades import PALETTE, facade
from pygan.data.faces import ATTRIBUTES, HAIR, draw_attributes, face_name, face_picture
from pygan.data.feeds import cores
from pygan.data.images import EXTENSIONS, why
from pygan.data.layouts import MARKER
from pygan.data.seasons import FIRST_WINTER, season_name, season_picture
from pygan.data.sources import facade_name, houses_of
from pygan.data.text import Hashing
from pygan.errors import UserError, say

ENDINGS = ("png", "jpg")
_SAVE = {"png": {"compress_level": 1}, "jpg": {"quality": 95, "subsampling": 0}}  # 4:4:4 keeps label edges sharp
_PILLOW_NAME = {"png": "PNG", "jpg": "JPEG"}
_SAY_EVERY_S = 5.0
_CUB_SIDES = (304, 76)  # pixels of the two stages' pictures
_CUB_WIDTH = 1024  # of an embedding


@dataclass(frozen=True)
class Order:
    """What is asked for. n: training pictures (pairs, of facades; of each domain, of seasons). holdout: part of n."""

    n: int
    height: int
    width: int
    seed: int
    holdout: float
    ending: str


@dataclass
class Files:
    """What a set consists of. Paths are relative to its folder; every content is made when it is written.

    pictures: path without ending -> its pixels, uint8 (h, w, 3). others: path -> its bytes. marker: what MARKER says of
    the set. own: a regular expression that the names of its pictures, and only they, match whole, without ending. said:
    for the user, in words. use: a command line that trains on it, {} for the folder.
    """

    marker: dict[str, object]
    said: str
    use: str
    own: str
    pictures: dict[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    others: dict[str, Callable[[], bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Kind:
    """One set that can be written. plans: by layout, the default first; each says what is to be written."""

    title: str
    plans: dict[str, Callable[[Order], Files]]
    size: str  # default, S or WxH pixels
    ending: str  # default


def facades(order: Order) -> Files:
    """train/, val/, test/ of side-by-side pairs, photo left and labels right, as pix2pix's facades."""
    houses = houses_of(order.n, order.holdout)
    counts = ", ".join(f"{len(indices)} {name}" for name, indices in houses.items())
    files = Files(
        {"set": "facades", "natural_direction": "BtoA", "label_side": "B"},
        f"{counts} pairs of {order.width}x{order.height} pixels, photo left and labels right",
        "pygan train pix2pix --data {}",
        own=r"facade_\d{5,}",
    )
    for split, indices in houses.items():
        for index in indices:
            files.pictures[f"{split}/{facade_name(index)}"] = partial(_pair, order, index)
    return files


def _pair(order: Order, index: int) -> np.ndarray:
    photo, ids = facade(order.seed, index, (order.height, order.width))
    return np.concatenate([photo, PALETTE[ids]], axis=1)


def seasons(order: Order) -> Files:
    """trainA/, trainB/, testA/, testB/ of single pictures, as CycleGAN's sets: A summer, B winter, none paired."""
    splits = houses_of(order.n, order.holdout, what="pictures of each domain")
    files = Files(
        {"set": "seasons"},
        f"{order.n} summers and {order.n} winters to train, {len(splits['test'])} of each to test, of "
        f"{order.width}x{order.height} pixels",
        "pygan train cyclegan --data {}",
        own=r"(summer|winter)_\d{5,}",
    )
    size = (order.height, order.width)
    for split in ("train", "test"):
        for domain, first in (("A", 0), ("B", FIRST_WINTER)):
            for index in splits[split]:
                picture = partial(season_picture, order.seed, first + index, size, domain)
                files.pictures[f"{split}{domain}/{season_name(first + index)}"] = picture
    return files


def faces_celeba(order: Order) -> Files:
    """images/000001.jpg, ... and list_attr_celeba.txt, as CelebA; who trains on it divides the rows."""
    indices = houses_of(order.n, 0.0, what="faces")["train"]
    files = Files(
        {"set": "faces"},
        f"{order.n} faces of {order.width}x{order.height} pixels with {len(ATTRIBUTES)} attributes in CelebA's layout",
        "pygan train stargan --data {}",
        own=r"\d{6,}",
    )
    size = (order.height, order.width)
    for index in indices:
        files.pictures[f"images/{face_name(index)}"] = partial(_face, order.seed, index, size)
    files.others["list_attr_celeba.txt"] = partial(_attributes, order, list(indices))
    return files


def _face(seed: int, index: int, size: tuple[int, int]) -> np.ndarray:
    return face_picture(seed, index, size)[0]


def _attributes(order: Order, indices: list[int]) -> bytes:
    lines = [str(len(indices)), " ".join(ATTRIBUTES)]
    for index in indices:
        values = " ".join("1" if one else "-1" for one in draw_attributes(order.seed, index))
        lines.append(f"{face_name(index)}.{order.ending} {values}")
    return ("\n".join(lines) + "\n").encode()


def faces_rafd(order: Order) -> Files:
    """train/CLASS/*.jpg and test/CLASS/*.jpg, as RaFD's folders: a class for each colour of hair."""
    splits = houses_of(order.n, order.holdout, what="faces")
    files = Files(
        {"set": "faces"},
        f"{order.n} faces to train, {len(splits['test'])} to test, of {order.width}x{order.height} pixels, in folders "
        f"by the colour of the hair",
        "pygan train stargan --data {}",
        own=r"\d{6,}",
    )
    size = (order.height, order.width)
    for split in ("train", "test"):
        lacking = list(HAIR)
        for index in splits[split]:
            has = dict(zip(ATTRIBUTES, draw_attributes(order.seed, index), strict=True))
            kind = next(name for name in HAIR if has[name])
            lacking = [name for name in lacking if name != kind]
            files.pictures[f"{split}/{kind.lower()}/{face_name(index)}"] = partial(_face, order.seed, index, size)
        if lacking:
            raise UserError(
                f"{split}/ has no {lacking[0].lower()} among {len(splits[split])} faces: ask for more with --n"
            )
    return files


def shapes_captioned(order: Order) -> Files:
    """images/000001.png, ... and captions.jsonl: a JSON object per picture.

    Its keys: file, captions (10), box (of the main shape: x, y, width, height) and keypoints (15 of x, y, visible),
    both in pixels, class ("red circle") and split ("train" or "test").
    """
    side = _square(order)
    splits = houses_of(order.n, order.holdout, what="pictures")
    files = Files(
        {"set": "shapes"},
        f"{order.n} pictures to train, {len(splits['test'])} to test, of {side}x{side} pixels, with "
        f"{shapes.CAPTIONS} captions each",
        "pygan train stackgan --data {}",
        own=r"\d{6,}",
    )
    rows = [(split, index) for split in ("train", "test") for index in splits[split]]
    for number, (_, index) in enumerate(rows, start=1):
        files.pictures[f"images/{number:06d}"] = partial(_shapes, order.seed, index, side)
    files.others["captions.jsonl"] = partial(_captions, order, rows)
    return files


def _square(order: Order) -> int:
    if order.height != order.width:
        raise UserError(
            f"--size of shapes must be one number, its pictures are square: got {order.width}x{order.height}"
        )
    return order.height


def _shapes(seed: int, index: int, side: int) -> np.ndarray:
    return shapes.shapes_picture(seed, index, side)[0]


def _captions(order: Order, rows: list[tuple[str, int]]) -> bytes:
    lines, side = [], order.width
    for number, (split, index) in enumerate(rows, start=1):
        scene = shapes.plan(order.seed, index)
        main = scene.items[0]
        lines.append(json.dumps({
            "file": f"images/{number:06d}.{order.ending}",
            "captions": shapes.captions(scene, order.seed, index),
            "box": [round(side * length, 3) for length in shapes.bounds(main)],
            "keypoints": [[round(side * x, 3), round(side * y, 3), v] for x, y, v in shapes.keypoints(scene)],
            "class": f"{main.colour} {main.kind}",
            "split": split,
        }))  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


def shapes_cub(order: Order) -> Files:
    """birds/ as StackGAN's Caltech-UCSD birds: pictures, boxes, parts, captions, and the pickles made from them.

    The class of a picture is the colour and kind of its main shape. The box is round all its shapes, so that the square
    that StackGAN cuts round a box shows what the captions say. Embeddings are those of the built-in text encoder, four
    times side by side to be as long as those of the birds.
    """
    side = _square(order)
    if order.ending != "jpg":
        raise UserError(f"--layout cub has jpg pictures, got --format {order.ending}: leave --format out")
    splits = houses_of(order.n, order.holdout, what="pictures")
    files = Files(
        {"set": "shapes"},
        f"{order.n} pictures to train, {len(splits['test'])} to test, of {side}x{side} pixels, in CUB's layout",
        "pygan train stackgan --data {}/birds",
        own=r"[A-Z][a-z]+_[A-Z][a-z]+_\d{7}",
    )
    rows = {split: [_Bird.of(order.seed, index) for index in splits[split]] for split in ("train", "test")}
    images = sorted((bird for birds in rows.values() for bird in birds), key=lambda bird: bird.name)
    top = "birds/CUB_200_2011"
    for bird in images:
        files.pictures[f"{top}/images/{bird.name}"] = partial(_shapes, order.seed, bird.index, side)
        files.others[f"birds/text_c10/{bird.name}.txt"] = partial(_lines, bird.captions)
    numbered = list(enumerate(images, start=1))
    files.others[f"{top}/images.txt"] = partial(_lines, [f"{i} {bird.name}.jpg" for i, bird in numbered])
    boxes = [f"{i} {' '.join(f'{side * length:.1f}' for length in bird.box)}" for i, bird in numbered]
    files.others[f"{top}/bounding_boxes.txt"] = partial(_lines, boxes)
    places = ("middle", "top", "right", "bottom", "left")
    names = [f"{which} {place}" for which in ("first", "second", "third") for place in places]
    files.others[f"{top}/parts/parts.txt"] = partial(_lines, [f"{k} {name}" for k, name in enumerate(names, start=1)])
    parts = [
        f"{i} {k} {side * x:.1f} {side * y:.1f} {visible}"
        for i, bird in numbered
        for k, (x, y, visible) in enumerate(shapes.keypoints(bird.scene), start=1)
    ]
    files.others[f"{top}/parts/part_locs.txt"] = partial(_lines, parts)
    for split, birds in rows.items():
        pickles: dict[str, Callable[[], object]] = {
            "filenames": partial(_list, [bird.name for bird in birds]),
            "class_info": partial(_list, [bird.number for bird in birds]),
            "char-CNN-RNN-embeddings": partial(_embeddings, birds),
        }
        for pixels in _CUB_SIDES:
            pickles[f"{pixels}images"] = partial(_cut_pictures, order.seed, birds, side, pixels)
        for name, content in pickles.items():
            files.others[f"birds/{split}/{name}.pickle"] = partial(_pickled, content)
    return files


@dataclass(frozen=True)
class _Bird:
    """A picture of the CUB layout."""

    index: int
    scene: shapes.Scene
    number: int  # of its class, from 1
    name: str  # class/picture, no ending
    captions: list[str]

    @classmethod
    def of(cls, seed: int, index: int) -> _Bird:
        scene = shapes.plan(seed, index)
        main = scene.items[0]
        number = list(shapes.COLOURS).index(main.colour) * len(shapes.KINDS) + shapes.KINDS.index(main.kind) + 1
        title = f"{main.colour}_{main.kind}".title()
        name = f"{number:03d}.{title}/{title}_{index:07d}"
        return cls(index, scene, number, name, shapes.captions(scene, seed, index))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height round all shapes, in units of the picture's side."""
        edges = [(x, y, x + w, y + h) for x, y, w, h in map(shapes.bounds, self.scene.items)]
        left, top = min(e[0] for e in edges), min(e[1] for e in edges)
        return left, top, max(e[2] for e in edges) - left, max(e[3] for e in edges) - top


def _lines(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _list(values: list) -> list:
    return values


def _pickled(content: Callable[[], object]) -> bytes:
    return pickle.dumps(content(), protocol=2)  # as Python 2 wrote the real ones


def _embeddings(birds: list[_Bird]) -> list[np.ndarray]:
    """float32 (10, 1024) of each picture."""
    encoder = Hashing()
    return [np.tile(encoder.encode(bird.captions), (1, _CUB_WIDTH // encoder.dim)) for bird in birds]


def _cut_pictures(seed: int, birds: list[_Bird], side: int, pixels: int) -> list[np.ndarray]:
    """uint8 (pixels, pixels, 3) of each picture: the square round its box, 3/4 of the longer side each way, clipped."""
    out = []
    for bird in birds:
        x, y, wide, high = (side * length for length in bird.box)
        reach = int(0.75 * max(wide, high))
        middle_x, middle_y = int(x + wide / 2), int(y + high / 2)
        cut = (
            max(middle_x - reach, 0),
            max(middle_y - reach, 0),
            min(middle_x + reach, side),
            min(middle_y + reach, side),
        )
        image = Image.fromarray(_shapes(seed, bird.index, side)).crop(cut)
        image = image.resize((_CUB_SIDES[0],) * 2, Image.Resampling.BICUBIC)
        out.append(np.asarray(image.resize((pixels, pixels), Image.Resampling.BICUBIC)))
    return out


KINDS = {
    "facades": Kind("house fronts and their labels, for pix2pix", {"pix2pix": facades}, "256", "png"),
    "seasons": Kind("landscapes in summer and in winter, for CycleGAN", {"cyclegan": seasons}, "256", "jpg"),
    "faces": Kind(
        "cartoon faces with attributes, for StarGAN", {"celeba": faces_celeba, "rafd": faces_rafd}, "178x218", "jpg"
    ),
    "shapes": Kind(
        "coloured shapes with captions, for StackGAN", {"jsonl": shapes_captioned, "cub": shapes_cub}, "128", "png"
    ),
}
"""The sets that can be written, by name."""


def write(folder: Path, files: Files, seed: int, ending: str, *, force: bool) -> None:
    """Write the files, each atomically, and remove pictures that an earlier set left in the same folders.

    UserError for a folder that is not empty (unless force) or cannot be written.
    """
    try:
        if folder.exists() and any(folder.iterdir()) and not force:
            raise UserError(f"{folder} is not empty: give a new folder, or --force to write into it")
        pictures = {folder / f"{name}.{ending}": pixels for name, pixels in files.pictures.items()}
        for place in {path.parent for path in pictures} | {(folder / name).parent for name in files.others}:
            place.mkdir(parents=True, exist_ok=True)
        _write_pictures(pictures, ending)
        for name, content in files.others.items():
            _replace(folder / name, content())
        _remove_older(folder, {*pictures, *(folder / name for name in files.others)}, files.own)
        _replace(folder / MARKER, json.dumps(files.marker | {"seed": seed}, indent=1).encode())
    except OSError as error:
        raise UserError(f"cannot write the set to {folder}: {why(error)}") from error


def _write_pictures(pictures: dict[Path, Callable[[], np.ndarray]], ending: str) -> None:
    def save(path: Path) -> None:
        buffer = BytesIO()
        Image.fromarray(pictures[path]()).save(buffer, format=_PILLOW_NAME[ending], **_SAVE[ending])
        _replace(path, buffer.getvalue())

    last = time.monotonic()
    pool = ThreadPoolExecutor(min(16, cores()), thread_name_prefix="pygan-make")
    try:
        for done, _ in enumerate(pool.map(save, pictures), start=1):
            if time.monotonic() - last > _SAY_EVERY_S:
                last = time.monotonic()
                say(f"{done} of {len(pictures)} pictures written")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _remove_older(folder: Path, written: set[Path], own: str) -> None:
    """What an earlier, larger set left, class folders too: it would be trained on as if it belonged to this one."""
    for top in sorted({folder / path.relative_to(folder).parts[0] for path in written}):
        for path in sorted(top.rglob("*")) if top.is_dir() else ():
            ours = re.fullmatch(own, path.stem) and path.suffix.lower() in {*EXTENSIONS, ".txt"}
            if ours and path not in written and path.is_file():
                path.unlink()
                if not any(path.parent.iterdir()):
                    path.parent.rmdir()

"""Pictures of which it is known what is in them: attributes of faces, or one class each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pygan.data import celeba, cifar
from pygan.data.built_in import built_in, drawn_faces
from pygan.data.faces import ATTRIBUTES
from pygan.data.layouts import HELD_OUT, Item, items_in
from pygan.data.picture_files import (
    PictureFiles,
    channels_of,
    conversions,
    divide,
    load_size_of,
    need_folder,
    one_hot,
    open_items,
    photo_filter,
    pre_crop_of,
    sizes,
    windows_of,
)
from pygan.data.singles import cifar_source
from pygan.data.sources import PictureSource
from pygan.errors import UserError

KNOWN = (
    "CelebA (DIR/images/000001.jpg and DIR/list_attr_celeba.txt), one folder per class (DIR/train/CLASS/* and "
    "DIR/test/CLASS/*, or DIR/CLASS/*), or CIFAR-10 (DIR/data_batch_1.bin)"
)


def labelled_source(recipe: Any, split: str, data: str) -> PictureSource:
    """The pictures of one split ("train" or "held-out") of the set `data`, with facts["label"]: float32 (n, k), 0 or 1.

    `labels` of the source names the k columns. data: a folder, see KNOWN; or "", "faces" or "faces:7" for what is
    drawn. Fields read: as by `pictures_source`, and attrs: names separated by commas of the attributes to take, "":
    Black_Hair, Blond_Hair, Brown_Hair, Male and Young where the set has them, else all; sets of classes have no
    attributes. Errors: UserError, one line, for everything that is wrong with the data.
    """
    load_size_of(recipe, split)
    attrs = getattr(recipe, "attrs", "")
    drawn = built_in(data, "faces", ("faces",))
    if drawn:
        return drawn_faces(recipe, split, drawn[1], celeba.choose(attrs, ATTRIBUTES, "the built-in faces"))
    root = Path(os.path.expanduser(data))
    if files := cifar.find(root):
        return cifar_source(recipe, split, root, files)
    need_folder(root, KNOWN)
    if folder := celeba.picture_folder(root):
        path = celeba.find(root, celeba.ATTRIBUTES_FILE)
        if not path:
            raise UserError(f"{root} looks like CelebA, but has no {celeba.ATTRIBUTES_FILE}: fetch it")
        return _celeba(recipe, split, root, folder, path, attrs)
    if (root / celeba.ATTRIBUTES_FILE).is_file():
        raise UserError(f"{root} has a {celeba.ATTRIBUTES_FILE}, but no folder images/: unpack the pictures there")
    return _class_folders(recipe, split, root)


def _celeba(recipe: Any, split: str, root: Path, folder: Path, path: Path, attrs: str) -> PictureSource:
    """CelebA with the attributes of the file `path`, divided as StarGAN's code does."""
    names, rows = celeba.read_attributes(path)
    chosen = celeba.choose(attrs, names, str(path))
    pairs, notes = celeba.match(path, list(rows), celeba.items_of(folder), skip=recipe.skip_bad)
    good, entries, left_out = open_items(root, [item for _, item in pairs], recipe.skip_bad)
    here = set(good)
    first, last, where = celeba.stargan_split(len(pairs), recipe.holdout)  # of all rows, as good as they are
    parts = [[pairs[i] for i in part if pairs[i][1] in here] for part in (first, last)]
    if not all(parts):
        raise UserError(f"no good picture is left {'held out' if parts[0] else 'to train on'} in {root}")
    used = parts[0] if split == "train" else parts[1]
    values = np.stack(list(rows.values()))[[i for i, _ in used]][:, [names.index(name) for name in chosen]]
    found, channels = [entries[item.files[0]] for item in good], channels_of(recipe)
    said = [
        f"{root}: CelebA, pictures of {sizes(found)} pixels with {', '.join(chosen)}, {len(parts[0])} to train, "
        f"{len(parts[1])} held out ({where})",
        *notes,
        *conversions(found, channels),
        *([left_out] if left_out else []),
    ]
    items = [item for _, item in used]
    return PictureFiles(
        items,
        entries,
        load_size=load_size_of(recipe, split),
        channels=channels,
        filter_name=photo_filter(recipe),
        description="; ".join(said),
        windows=windows_of(pre_crop_of(recipe), root, items, entries),
        facts={"label": (values > 0).astype(np.float32)},
        labels=chosen,
    )


def _class_folders(recipe: Any, split: str, root: Path) -> PictureSource:
    inner = "train" if (root / "train").is_dir() else ""
    classes = _folders(root / inner)
    if domains := [name for name in ("trainA", "trainB") if name in classes]:
        raise UserError(f"{root} holds domains ({', '.join(domains)}), not classes; understood are {KNOWN}")
    if len(classes) < 2:
        raise UserError(f"{root / inner} has no folders of two classes or more; understood are {KNOWN}")
    train = _classes(root / inner, classes, "train/" if inner else "", must=True)
    held_name = next((n for n in HELD_OUT if inner and (root / n).is_dir()), "")
    held: list[tuple[Item, int]] | None = None
    if held_name:
        strange = sorted(set(_folders(root / held_name)) - set(classes))
        if strange:
            raise UserError(f"{root / held_name} has the class {strange[0]}, which {root / inner} does not have")
        held = _classes(root / held_name, classes, f"{held_name}/", must=False)
    good, entries, left_out = open_items(root, [item for item, _ in [*train, *(held or [])]], recipe.skip_bad)
    here, where = set(good), held_name
    train = [pair for pair in train if pair[0] in here]
    if held is None:
        parts, where = _divided(train, recipe.holdout)
    else:
        parts = train, [pair for pair in held if pair[0] in here]
    for k, name in enumerate(classes):
        if not any(which == k for _, which in parts[0]):
            raise UserError(f"no good picture of the class {name} is left to train on in {root}")
    if not parts[1]:
        raise UserError(f"no good picture is left in {root / held_name}")
    chosen = parts[0] if split == "train" else parts[1]
    found, channels = [entries[item.files[0]] for item in good], channels_of(recipe)
    items = [item for item, _ in chosen]
    said = [
        f"{root}: {len(classes)} classes of pictures of {sizes(found)} pixels, {len(parts[0])} to train, "
        f"{len(parts[1])} held out ({where})",
        *conversions(found, channels),
        *([left_out] if left_out else []),
    ]
    return PictureFiles(
        items,
        entries,
        load_size=load_size_of(recipe, split),
        channels=channels,
        filter_name=photo_filter(recipe),
        description="; ".join(said),
        windows=windows_of(pre_crop_of(recipe), root, items, entries),
        facts={"label": one_hot([which for _, which in chosen], len(classes))},
        labels=classes,
    )


def _folders(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir() if f.is_dir() and not f.name.startswith((".", "__MACOSX")))


def _classes(folder: Path, classes: Sequence[str], prefix: str, *, must: bool) -> list[tuple[Item, int]]:
    """Every picture of the class folders in `folder`, named with `prefix`, and its class. must: refuse empty ones."""
    found = []
    for k, name in enumerate(classes):
        items = items_in(folder / name, f"{prefix}{name}/") if (folder / name).is_dir() else ()
        if not items and must:
            raise UserError(f"the class {folder / name} has no pictures: fill or remove it")
        found += [(item, k) for item in items]
    return found


def _divided(train: list[tuple[Item, int]], holdout: float) -> tuple[tuple[list, list], str]:
    """Hold out the same part of every class."""
    parts: tuple[list, list] = ([], [])
    where = ""
    for k in sorted({which for _, which in train}):
        members = [pair for pair in train if pair[1] == k]
        first, last, where = divide([item.name for item, _ in members], holdout)
        parts[0].extend(members[i] for i in first)
        parts[1].extend(members[i] for i in last)
    return parts, f"{where}, the same part of every class"

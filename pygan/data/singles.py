"""One set of pictures without more: the training set of a GAN that makes pictures from noise."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pygan.data import celeba, cifar, hdf5
from pygan.data.built_in import built_in, drawn_pictures
from pygan.data.caption_files import CAPTIONS
from pygan.data.layouts import Item, cityscapes, single
from pygan.data.picture_files import (
    PictureArrays,
    PictureFiles,
    channels_of,
    check_pre_crop,
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
from pygan.data.sources import PictureSource
from pygan.errors import UserError

KNOWN = (
    "folders of pictures (DIR/train/* and DIR/val/*, or DIR/*), CelebA (DIR/images), CIFAR-10 (DIR/data_batch_1.bin or "
    f"DIR/data_batch_1), captioned sets (DIR/{CAPTIONS}; CUB birds and Oxford flowers with DIR/train/filenames.pickle) "
    "and the Keras sources' HDF5 (DIR/*.h5)"
)
_DRAWN = ("faces", "shapes", "facades")


def pictures_source(recipe: Any, split: str) -> PictureSource:
    """The pictures of one split ("train" or "held-out") of the set that the recipe names.

    recipe.data: a folder or file, see KNOWN; or "" or "faces", "shapes", "facades", each also as "faces:7", for what is
    drawn. Fields read: load_size, crop_size, resample, pre_crop, holdout, skip_bad, data_images and channels; resample,
    pre_crop and channels need not be there. A set that comes with classes (CIFAR-10) has facts["label"]. Errors:
    UserError, one line, for everything that is wrong with the data.
    """
    load_size_of(recipe, split)
    drawn = built_in(recipe.data, "faces", _DRAWN)
    if drawn:
        return drawn_pictures(recipe, split, *drawn)
    root = Path(os.path.expanduser(recipe.data))
    if files := cifar.find(root):
        return cifar_source(recipe, split, root, files)
    if file := hdf5.find(root):
        return _hdf5(recipe, split, file)
    from pygan.data.captioned import captioned_pictures, has_embeddings  # reads pickles, which only they need

    if has_embeddings(root) or (root / CAPTIONS).is_file():
        return captioned_pictures(recipe, split, root)
    need_folder(root, KNOWN)
    if folder := celeba.picture_folder(root):
        return _celeba(recipe, split, root, folder)
    if cityscapes(root, skip_unpaired=True):
        raise UserError(f"{root} is Cityscapes, photos and labels: give --data {root / 'leftImg8bit'}")
    if (root / "trainA").is_dir() or (root / "trainB").is_dir():
        raise UserError(f"{root} holds two domains: give --data the one that is meant, like {root / 'trainA'}")
    layout = single(root, "plain")
    return _files(recipe, split, root, layout.train, layout.held_out, layout.held_out_name, "pictures", layout.notes)


def cifar_source(recipe: Any, split: str, root: Path, files: dict[str, list[Path]]) -> PictureSource:
    """CIFAR-10 with facts["label"], one of the ten classes. files: see `cifar.find`. Its test batch is held out."""
    train, held = (cifar.read(files[name]) if files[name] else None for name in ("train", "test"))
    where = "test_batch"
    if held is None:
        first, last, where = divide(train[2], recipe.holdout)
        held = train[0][last], train[1][last], [train[2][i] for i in last]
        train = train[0][first], train[1][first], [train[2][i] for i in first]
    pictures, kinds, names = train if split == "train" else held
    pre_crop = pre_crop_of(recipe)
    check_pre_crop(pre_crop, pictures.shape[2], pictures.shape[1], root)
    batches = "" if len(files["train"]) == cifar.N_BATCHES else f"; {len(files['train'])} of {cifar.N_BATCHES} batches"
    return PictureArrays(
        names,
        lambda i: pictures[i],
        load_size=load_size_of(recipe, split),
        channels=channels_of(recipe),
        filter_name=photo_filter(recipe),
        description=f"{root}: CIFAR-10, pictures of 32x32 pixels, {len(train[2])} to train, {len(held[2])} held out "
        f"({where}){batches}",
        pre_crop=pre_crop,
        files=[*files["train"], *files["test"]],
        facts={"label": one_hot(kinds, len(cifar.CLASSES))},
        labels=cifar.CLASSES,
    )


def _hdf5(recipe: Any, split: str, path: Path) -> PictureSource:
    """The pictures that are to be generated, of a file of pairs."""
    file = hdf5.Hdf5(path)
    train, held, where = hdf5.rows_of(file)
    if held is None:
        first, last, where = divide([hdf5.name_of(*row) for row in train], recipe.holdout)
        train, held = [train[i] for i in first], [train[i] for i in last]
    rows, pre_crop = train if split == "train" else held, pre_crop_of(recipe)
    for split_name in {name for name, _ in rows}:
        side = file.splits[split_name][1]
        check_pre_crop(pre_crop, side.width, side.height, path)
    side = file.splits["train"][1]
    return PictureArrays(
        [hdf5.name_of(*row) for row in rows],
        lambda i: file.read(file.splits[rows[i][0]][1], rows[i][1]),
        load_size=load_size_of(recipe, split),
        channels=channels_of(recipe),
        filter_name=photo_filter(recipe),
        description=f"{path}: pictures {side.name} of {side.width}x{side.height} pixels, {len(train)} to train, "
        f"{len(held)} held out ({where})",
        pre_crop=pre_crop,
        files=[path],
    )


def _celeba(recipe: Any, split: str, root: Path, folder: Path) -> PictureSource:
    """CelebA without its attributes: divided as its own file says, else by order (whole set) or by hash."""
    items = celeba.items_of(folder)
    notes: list[str] = []
    path = celeba.find(root, celeba.PARTITION_FILE)
    if path:
        rows = celeba.read_partition(path)
        pairs, notes = celeba.match(path, list(rows), items, skip=recipe.skip_bad)
        splits = list(rows.values())
        parts = [[item for i, item in pairs if splits[i] == k] for k in range(3)]
        held, name = (parts[1], "val") if parts[1] else (parts[2], "test")
        if not parts[0] or not held:
            raise UserError(f"{path} leaves no pictures {'held out' if parts[0] else 'to train on'} in {folder}")
        if parts[2] and parts[1]:
            notes = [f"{len(parts[2])} of the test split not used", *notes]
        return _files(recipe, split, root, parts[0], held, f"{name} of {path.name}", "CelebA, pictures", notes)
    if len(items) == celeba.N_PICTURES:
        first, second, third = celeba.SPLIT_SIZES
        train, held = items[:first], items[first : first + second]
        notes = [f"{third:,} of the test split not used"]
        return _files(recipe, split, root, train, held, "by order", "CelebA, pictures", notes)
    return _files(recipe, split, root, items, None, "", "CelebA, pictures", notes)


def _files(
    recipe: Any,
    split: str,
    root: Path,
    train: Sequence[Item],
    held_out: Sequence[Item] | None,
    where: str,
    what: str,
    notes: Sequence[str],
) -> PictureSource:
    """Pictures in files, all checked. held_out None: a part of train; where: in words, where held_out is from."""
    good, entries, left_out = open_items(root, [*train, *(held_out or ())], recipe.skip_bad)
    here = set(good)
    train = [item for item in train if item in here]
    if held_out is None:
        first, last, where = divide([item.name for item in train], recipe.holdout)
        train, held_out = [train[i] for i in first], [train[i] for i in last]
    else:
        held_out = [item for item in held_out if item in here]
    if not train or not held_out:
        raise UserError(f"no good picture is left {'held out' if train else 'to train on'} in {root}")
    chosen = train if split == "train" else held_out
    found, channels = [entries[item.files[0]] for item in good], channels_of(recipe)
    said = [
        f"{root}: {what} of {sizes(found)} pixels, {len(train)} to train, {len(held_out)} held out ({where})",
        *notes,
        *conversions(found, channels),
        *([left_out] if left_out else []),
    ]
    return PictureFiles(
        chosen,
        entries,
        load_size=load_size_of(recipe, split),
        channels=channels,
        filter_name=photo_filter(recipe),
        description="; ".join(said),
        windows=windows_of(pre_crop_of(recipe), root, chosen, entries),
    )

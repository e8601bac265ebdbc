"""Two domains of pictures that do not belong together in pairs: photos and paintings, horses and zebras."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pygan.data.built_in import built_in, seasons_sources
from pygan.data.index import Entry, list_images
from pygan.data.layouts import HELD_OUT, Item, cityscapes, items_in
from pygan.data.picture_files import (
    PictureFiles,
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
from pygan.errors import UserError

KNOWN = (
    "two domains of pictures (DIR/trainA and DIR/trainB with DIR/testA and DIR/testB, or DIR/A and DIR/B) or "
    "Cityscapes (DIR/leftImg8bit and DIR/gtFine)"
)


@dataclass(frozen=True)
class Domains:
    """The two domains of a folder, A and B."""

    root: Path
    kind: str  # "two domains" or "cityscapes"
    train: tuple[tuple[Item, ...], tuple[Item, ...]]
    held_out: tuple[tuple[Item, ...], tuple[Item, ...]] | None  # None: a part of train
    held_out_name: str = ""
    label_side: str = ""  # "B" where B is a label picture
    notes: tuple[str, ...] = ()


def unpaired_sources(recipe: Any, split: str) -> tuple[PictureSource, PictureSource]:
    """The domains A and B of one split ("train" or "held-out"), each with its own pictures, names and length.

    recipe.data: a folder, see KNOWN; or "", "seasons" or "seasons:7" for what is drawn. Fields read: load_size,
    crop_size, resample, pre_crop, holdout, skip_bad, data_images, input_channels (of A) and output_channels (of B);
    resample, pre_crop and the channels need not be there. Errors: UserError, one line, for everything that is wrong
    with the data.
    """
    load_size, pre_crop = load_size_of(recipe, split), pre_crop_of(recipe)
    drawn = built_in(recipe.data, "seasons", ("seasons",))
    if drawn:
        return seasons_sources(recipe, split, drawn[1])
    domains = find_domains(Path(os.path.expanduser(recipe.data)), skip_unpaired=recipe.skip_bad)
    sources = []
    for k, (side, field) in enumerate((("A", "input_channels"), ("B", "output_channels"))):
        held = domains.held_out[k] if domains.held_out else ()
        items, entries, left_out = open_items(domains.root, [*domains.train[k], *held], recipe.skip_bad)
        train, held_out, where = _divided(domains, k, items, recipe.holdout)
        chosen = train if split == "train" else held_out
        found = [entries[item.files[0]] for item in items]
        labels = domains.label_side == side or _is_palette(found)
        channels = channels_of(recipe, field)
        parts = [
            f"{domains.root}: domain {side} of {domains.kind}, pictures of {sizes(found)} pixels, "
            f"{len(train)} to train, {len(held_out)} held out ({where})",
            *(domains.notes if side == "A" else ()),
            *conversions(found, channels),
            *([left_out] if left_out else []),
        ]
        sources.append(
            PictureFiles(
                chosen,
                entries,
                load_size=load_size,
                channels=channels,
                filter_name="nearest" if labels else photo_filter(recipe),
                description="; ".join(parts),
                windows=windows_of(pre_crop, domains.root, chosen, entries),
            )
        )
    return sources[0], sources[1]


def find_domains(root: Path, *, skip_unpaired: bool = False) -> Domains:
    """The domains of the folder `root`, from names alone. UserError for one that is missing, empty or unknown.

    skip_unpaired: leave out Cityscapes photos without labels and labels without photos, instead of refusing.
    """
    need_folder(root, KNOWN)
    layout = cityscapes(root, skip_unpaired)
    if layout:
        train, held = (_apart(items) if items else None for items in (layout.train, layout.held_out))
        return Domains(root, "cityscapes", train, held, layout.held_out_name, layout.label_side, layout.notes)
    joined, apart = ([(root / f"{name}{side}") for side in "AB"] for name in ("train", ""))
    if any(f.is_dir() for f in joined) and any(f.is_dir() for f in apart):
        raise UserError(f"{root} has both A or B and trainA or trainB: give --data the one folder that is meant")
    folders = joined if any(f.is_dir() for f in joined) else apart
    if not any(f.is_dir() for f in folders):
        raise UserError(f"{root} has no two domains; understood are {KNOWN}")
    inner = "train" if folders is apart and (root / "A" / "train").is_dir() else ""
    train = tuple(_filled(folder / inner, f"{folder.name}/") for folder in folders)

    def held_folders(name: str) -> list[Path]:
        return [root / f"{name}{side}" for side in "AB"] if folders is joined else [root / s / name for s in "AB"]

    there = [name for name in HELD_OUT if any(f.is_dir() and list_images(f) for f in held_folders(name))]
    notes = [f"{name} not used" for name in there[1:]]
    if not there or (folders is apart and not inner):
        return Domains(root, "two domains", train, None, notes=tuple(notes))
    held = tuple(_filled(f, f"{f.relative_to(root).as_posix()}/") for f in held_folders(there[0]))
    return Domains(root, "two domains", train, held, there[0], notes=tuple(notes))


def _filled(folder: Path, prefix: str) -> tuple[Item, ...]:
    items = items_in(folder, prefix) if folder.is_dir() else ()
    if not items:
        what = "no pictures in" if folder.is_dir() else "no folder"
        raise UserError(f"{what} {folder}: both domains, A and B, need pictures; understood are {KNOWN}")
    return items


def _apart(items: tuple[Item, ...]) -> tuple[tuple[Item, ...], tuple[Item, ...]]:
    return tuple(tuple(Item(item.name, (item.files[k],)) for item in items) for k in (0, 1))


def _divided(domains: Domains, k: int, good: list[Item], holdout: float) -> tuple[list[Item], list[Item], str]:
    """(training items, held-out items, in words how) of domain k, of the good items only."""
    if domains.held_out is None:
        first, last, where = divide([item.name for item in good], holdout)
        return [good[i] for i in first], [good[i] for i in last], where
    here = set(good)
    parts = [[item for item in part[k] if item in here] for part in (domains.train, domains.held_out)]
    for part, name in zip(parts, ("to train", "held out"), strict=True):
        if not part:
            raise UserError(f"no good picture of domain {'AB'[k]} is left {name} in {domains.root}")
    return parts[0], parts[1], domains.held_out_name


def _is_palette(entries: list[Entry]) -> bool:
    return all((e.format, e.mode) == ("PNG", "P") for e in entries)

"""Pictures for training: from a recipe to its pairs, and to the feed that brings them to the device."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from pygan.data import hdf5
from pygan.data.choice import open_feeds, stream_of
from pygan.data.feeds import (
    Batch,
    Captioned,
    CaptionedWrong,
    Facts,
    Feed,
    JointLabelled,
    Labelled,
    LocatedCaptioned,
    Pictures,
    empty_images,
)
from pygan.data.images import MIN_SIDE
from pygan.data.index import Entry, good_files, index_files, some
from pygan.data.layouts import SPLITS, Item, Layout, find_layout, hold_out
from pygan.data.sets import captioned_feed, labelled_feed, pictures_feed, unpaired_feed
from pygan.data.sources import (
    N_CLASSES,
    BuiltInFacades,
    BuiltInTransformed,
    CmpFacades,
    PairSource,
    SideBySide,
    Transformed,
    TwoFolders,
    houses_of,
)
from pygan.data.stream import Stream
from pygan.data.transforms import NATURAL_CHANNELS
from pygan.errors import UserError

__all__ = [
    "SPLITS",
    "Batch",
    "Captioned",
    "CaptionedWrong",
    "Facts",
    "Feed",
    "JointLabelled",
    "Labelled",
    "LocatedCaptioned",
    "PairSource",
    "Pictures",
    "Stream",
    "captioned_feed",
    "empty_images",
    "labelled_feed",
    "paired_feed",
    "paired_source",
    "pictures_feed",
    "unpaired_feed",
]

_BUILT_IN = re.compile(r"(?:facades(?::(\d+))?)?")


def paired_source(recipe: Any, split: str) -> PairSource:
    """The pairs of one split ("train" or "held-out") of the set that the recipe names.

    recipe.data: a folder, or "", "facades" or "facades:7" for the built-in houses (of set 0, or of set 7). Training
    pairs are recipe.load_size pixels, held-out pairs recipe.crop_size. Folders are recognised by `find_layout`; every
    file is checked once. Raises UserError, one line, for everything that is wrong with the data.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {SPLITS}, got {split!r}")
    if recipe.load_size < recipe.crop_size:
        raise UserError(f"--load-size {recipe.load_size} is smaller than --crop-size {recipe.crop_size}")
    load_size = recipe.load_size if split == "train" else recipe.crop_size
    built_in = _BUILT_IN.fullmatch(recipe.data)
    if built_in and not (recipe.data and Path(recipe.data).is_dir()):
        return _built_in(recipe, split, load_size, int(built_in[1] or 0))
    root = Path(os.path.expanduser(recipe.data))
    if recipe.input_transform == "none" and (file := hdf5.find(root)):
        return hdf5.pairs_source(recipe, split, load_size, file)
    return _from_folder(recipe, split, load_size, root)


def paired_feed(recipe: Any, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """The feed of one split on `device`, for process `rank` of `world`.

    "train" is shuffled, cropped and mirrored as the recipe says; "held-out" is read in order, uncropped. recipe.feed
    "auto": resident if the decoded set fits the memory budget, else DALI on a GPU where it is installed and can
    decode the files, else Pillow. Raises UserError for a feed that cannot be had.
    """
    source = paired_source(recipe, split)
    stream = stream_of(recipe, split, source, rank=rank, world=world)
    swap = _direction(recipe, source.natural_direction) == "BtoA"
    (feed,) = open_feeds(recipe, [(source, stream)], device, swap=swap)
    return feed


def _direction(recipe: Any, natural: str) -> str:
    return natural if recipe.direction == "auto" else recipe.direction


def _channels(recipe: Any, natural_direction: str, *, labels: bool) -> tuple[int, int]:
    """Channels of (A, B) of the source, before the direction is applied. UserError for what cannot be given.

    Where the recipe says 0: what the transform makes, else 3. labels: B is a label map, which can be one-hot.
    """
    wanted = (recipe.input_channels, recipe.output_channels)
    if _direction(recipe, natural_direction) == "BtoA":
        wanted = wanted[::-1]
    transform = recipe.input_transform
    flags = "--input-channels and --output-channels"
    wanted = tuple(count or usual for count, usual in zip(wanted, NATURAL_CHANNELS[transform], strict=True))
    if transform == "lab":
        if wanted != (1, 2):
            raise UserError("--input-transform lab makes 1 channel (L) and 2 (a, b): leave the channel flags out")
        return wanted
    for side, count in zip("AB", wanted, strict=True):
        if count not in (1, 3) and not (labels and side == "B" and count == N_CLASSES):
            more = f"; {N_CLASSES} only for the labels of the facades" if count == N_CLASSES else ""
            raise UserError(f"{flags} must be 1 (grey) or 3 (colour), got {count} for {side}{more}")
    return wanted


def _built_in(recipe: Any, split: str, load_size: int, seed: int) -> PairSource:
    transform = recipe.input_transform
    plain = transform != "none"
    indices = houses_of(recipe.data_images, recipe.holdout)
    what, natural = (f"{transform} -> photo", "AtoB") if plain else ("A photo, B labels", "BtoA")
    houses = BuiltInFacades(
        seed,
        indices["train" if split == "train" else "val"],
        load_size=load_size,
        channels=(3, 3) if plain else _channels(recipe, natural, labels=True),
        description=f"built-in facades, set {seed} ({what}): {len(indices['train'])} to train, "
        f"{len(indices['val'])} held out; {_said_direction(recipe, natural)}",
    )
    if not plain:
        return houses
    return BuiltInTransformed(houses, transform, _channels(recipe, natural, labels=False))


def _said_direction(recipe: Any, natural: str) -> str:
    used = _direction(recipe, natural)
    return f"direction {used}" + (" (natural for this set)" if recipe.direction == "auto" else "")


def _from_folder(recipe: Any, split: str, load_size: int, root: Path) -> PairSource:
    transform = recipe.input_transform
    layout = find_layout(root, plain=transform != "none", skip_unpaired=recipe.skip_bad)
    channels = _channels(recipe, layout.natural_direction, labels=layout.kind == "cmp")
    entries = index_files(root, layout.files)
    good = good_files(root, entries, skip_bad=recipe.skip_bad)
    train, held_out = splits(layout, good, recipe.holdout)
    if layout.kind == "side by side":
        advice = "A is the left half, B the right; for single pictures use --input-transform, else DIR/A and DIR/B"
        _refuse(root, bad_halves([*train, *held_out], entries), advice)
    if layout.kind == "cmp":
        _refuse(root, bad_classes([*train, *held_out], entries), "unpack the archive again")
    source_type = {
        "side by side": SideBySide,
        "two folders": TwoFolders,
        "cityscapes": TwoFolders,
        "cmp": CmpFacades,
        "plain": Transformed,
    }
    how: dict[str, Any] = {"transform": transform} if layout.kind == "plain" else {}
    return source_type[layout.kind](
        train if split == "train" else held_out,
        entries,
        load_size=load_size,
        channels=channels,
        filters=filters(recipe.resample, layout, train, entries),
        natural_direction=layout.natural_direction,
        description=_describe(recipe, layout, train, held_out, entries, len(layout.files) - len(good)),
        **how,
    )


def splits(layout: Layout, good: set[Path], holdout: float) -> tuple[list[Item], list[Item]]:
    """(training, held-out) pairs all of whose files are good. UserError when none is left."""

    def usable(items: tuple[Item, ...]) -> list[Item]:
        left = [item for item in items if good.issuperset(item.files)]
        if not left:
            raise UserError(f"no good pair is left in {layout.root}: see `pygan data check {layout.root}`")
        return left

    train = usable(layout.train)
    if layout.held_out is not None:
        return train, usable(layout.held_out)
    first, last = hold_out([item.name for item in train], holdout)
    return [train[i] for i in first], [train[i] for i in last]


def bad_halves(items: Iterable[Item], entries: dict[Path, Entry]) -> list[tuple[Entry, str]]:
    """Good side-by-side pictures that cannot be cut into two equal halves of at least 2 pixels, and why not."""
    found = (entries[file] for item in items for file in item.files)
    return [
        (e, f"{e.width}x{e.height}: no two equal halves")
        for e in found
        if not e.why and (e.width % 2 or e.width < 2 * MIN_SIDE)
    ]


def bad_classes(items: Iterable[Item], entries: dict[Path, Entry]) -> list[tuple[Entry, str]]:
    """Good CMP label pictures that do not store class indices 1..12, and what they store."""
    labels = (entries[item.files[1]] for item in items)
    return [
        (e, f"{e.mode} {e.low}..{e.high}: not classes 1..{N_CLASSES}")
        for e in labels
        if not e.why and (e.mode not in ("P", "L") or e.low < 1 or e.high > N_CLASSES)
    ]


def _refuse(root: Path, misfits: list[tuple[Entry, str]], advice: str) -> None:
    if misfits:
        listed = some([f"{os.path.relpath(e.path, root)} ({reason})" for e, reason in misfits])
        raise UserError(f"{len(misfits)} pictures in {root} do not fit: {listed}; {advice}")


def filters(resample: str, layout: Layout, items: list[Item], entries: dict[Path, Entry]) -> tuple[str, str]:
    """How A and B are resized: photos as --resample says (auto: bicubic), label maps always by nearest pixel.

    Label maps are what the set's own description says, or a folder in which every picture is a palette PNG.
    """
    photo = "bicubic" if resample == "auto" else resample
    sides = [photo, "nearest" if layout.label_side == "B" else photo]
    if layout.kind == "two folders":
        for side in (0, 1):
            if all((e.format, e.mode) == ("PNG", "P") for e in (entries[item.files[side]] for item in items)):
                sides[side] = "nearest"
    return sides[0], sides[1]


def _describe(
    recipe: Any, layout: Layout, train: list[Item], held_out: list[Item], entries: dict[Path, Entry], bad: int
) -> str:
    what = {
        "side by side": "side-by-side pairs (A left half, B right half)",
        "two folders": "pairs in two folders (A, B)",
        "cityscapes": "Cityscapes (A photo, B labels)",
        "cmp": "CMP facades (A photo, B labels)",
        "plain": f"pictures ({recipe.input_transform} -> picture)",
    }[layout.kind]
    sizes = sorted({(entries[file].width, entries[file].height) for item in train for file in item.files})
    size = f"{sizes[0][0]}x{sizes[0][1]}" + (f" to {sizes[-1][0]}x{sizes[-1][1]}" if len(sizes) > 1 else "")
    where = layout.held_out_name or ("the training picture itself" if train == held_out else "by hash of the names")
    parts = [
        f"{layout.root}: {what} of {size} pixels, {len(train)} to train, {len(held_out)} held out ({where})",
        *layout.notes,
        *([f"{bad} bad files left out"] if bad else []),
        _said_direction(recipe, layout.natural_direction),
    ]
    return "; ".join(parts)

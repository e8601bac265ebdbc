"""One set of pictures without more: the training set of a GAN that makes pictures from noise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pygan.data.layouts import single
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

KNOWN = "folders of pictures (DIR/train/* and DIR/val/*, or DIR/*)"


def pictures_source(recipe: Any, split: str) -> PictureSource:
    """The pictures of one split ("train" or "held-out") of the set that the recipe names.

    recipe.data: a folder, see KNOWN. Fields read: load_size, crop_size, resample, pre_crop, holdout, skip_bad and
    channels; those that a recipe does not have are left at their defaults. Errors: UserError, one line, for everything
    that is wrong with the data.
    """
    load_size_of(recipe, split)
    root = Path(os.path.expanduser(recipe.data))
    need_folder(root, KNOWN)
    return _plain(recipe, split, root)


def _plain(recipe: Any, split: str, root: Path) -> PictureSource:
    layout = single(root, "plain")
    good, entries, left_out = open_items(root, [*layout.train, *(layout.held_out or ())], recipe.skip_bad)
    if layout.held_out is None:
        first, last, where = divide([item.name for item in good], recipe.holdout)
        train, held_out = [good[i] for i in first], [good[i] for i in last]
    else:
        here, where = set(good), layout.held_out_name
        train, held_out = ([item for item in part if item in here] for part in (layout.train, layout.held_out))
        if not train or not held_out:
            raise UserError(f"no good picture is left in {root / ('train' if not train else where)}")
    chosen = train if split == "train" else held_out
    found, channels = [entries[item.files[0]] for item in good], channels_of(recipe)
    parts = [
        f"{root}: pictures of {sizes(found)} pixels, {len(train)} to train, {len(held_out)} held out ({where})",
        *layout.notes,
        *conversions(found, channels),
        *([left_out] if left_out else []),
    ]
    return PictureFiles(
        chosen,
        entries,
        load_size=load_size_of(recipe, split),
        channels=channels,
        filter_name=photo_filter(recipe),
        description="; ".join(parts),
        windows=windows_of(pre_crop_of(recipe), root, chosen, entries),
    )

"""The sets that are drawn instead of read: which one `--data` names, and its pictures straight into memory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pygan.data import shapes
from pygan.data.facades import facade
from pygan.data.faces import ATTRIBUTES, draw_attributes, face_name, face_picture
from pygan.data.layouts import SPLITS
from pygan.data.picture_files import PictureArrays, channels_of, load_size_of, photo_filter
from pygan.data.seasons import FIRST_WINTER, season_name, season_picture
from pygan.data.sources import PictureSource, facade_name, houses_of
from pygan.errors import UserError

_NAMED = re.compile(r"([a-z]+)(?::(\d+))?")


def built_in(data: str, default: str, names: tuple[str, ...]) -> tuple[str, int] | None:
    """(name, seed) of the drawn set that `data` ("", "faces" or "faces:7") means, None: it is a folder.

    default: the set of "" ; names: the sets that can be asked for. A folder of that name wins. UserError for a seed
    that is too large.
    """
    if not data:
        return default, 0
    match = _NAMED.fullmatch(data)
    if not match or match[1] not in names or Path(os.path.expanduser(data)).is_dir():
        return None
    seed = int(match[2] or 0)
    if seed >= 1 << 63:
        raise UserError(f"--data {match[1]}:SEED must have a SEED less than 2**63, got {seed}")
    return match[1], seed


def seasons_sources(recipe: Any, split: str, seed: int) -> tuple[PictureSource, PictureSource]:
    """The domains of the seasons: A summers, B winters of other places. Fields read: as `unpaired_sources`."""
    sources = []
    for domain, season, first, field in (
        ("A", "summers", 0, "input_channels"),
        ("B", "winters", FIRST_WINTER, "output_channels"),
    ):

        def draw(index: int, size: int, domain: str = domain) -> np.ndarray:
            return season_picture(seed, index, size, domain)

        title = f"built-in seasons, set {seed}, {season}"
        sources.append(_drawn(recipe, split, title, draw, season_name, first=first, channels_field=field))
    return sources[0], sources[1]


def drawn_pictures(recipe: Any, split: str, name: str, seed: int) -> PictureSource:
    """The pictures of "faces", "shapes" or "facades" (the photos). Fields read: as `pictures_source`."""
    draw, name_of = {
        "faces": (lambda index, size: face_picture(seed, index, size)[0], face_name),
        "shapes": (lambda index, size: shapes.shapes_picture(seed, index, size)[0], shapes.shapes_name),
        "facades": (lambda index, size: facade(seed, index, size)[0], facade_name),
    }[name]
    return _drawn(recipe, split, f"built-in {name}, set {seed}", draw, name_of)


def drawn_faces(recipe: Any, split: str, seed: int, chosen: Sequence[str]) -> PictureSource:
    """The faces with facts["label"]: of the attributes `chosen`. Fields read: as `labelled_source`."""
    columns = [ATTRIBUTES.index(name) for name in chosen]
    labels = np.stack([draw_attributes(seed, index)[columns] for index in indices_of(recipe, split)])
    return _drawn(
        recipe,
        split,
        f"built-in faces, set {seed}, with {', '.join(chosen)}",
        lambda index, size: face_picture(seed, index, size)[0],
        face_name,
        facts={"label": labels.astype(np.float32)},
        labels=chosen,
    )


def indices_of(recipe: Any, split: str) -> range:
    """Numbers of the pictures of a split ("train" or "held-out") of a drawn set."""
    return houses_of(recipe.data_images, recipe.holdout, what="pictures")["train" if split == "train" else "val"]


def _drawn(
    recipe: Any,
    split: str,
    title: str,
    draw: Callable[[int, int], np.ndarray],
    name_of: Callable[[int], str],
    *,
    first: int = 0,
    channels_field: str = "channels",
    **more: Any,
) -> PictureSource:
    """Pictures drawn at load size: they are square already, so --pre-crop leaves them as they are."""
    numbers, size = indices_of(recipe, split), load_size_of(recipe, split)
    counts = [len(indices_of(recipe, part)) for part in SPLITS]
    return PictureArrays(
        [name_of(first + k) for k in numbers],
        lambda i: draw(first + numbers[i], size),
        load_size=size,
        channels=channels_of(recipe, channels_field),
        filter_name=photo_filter(recipe),
        description=f"{title}: {counts[0]} to train, {counts[1]} held out",
        **more,
    )

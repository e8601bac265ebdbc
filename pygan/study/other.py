"""Pictures of another set than the one that was trained on, in the manner of the run's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from pygan import heldout
from pygan.data.built_in import drawn_pictures, seasons_sources
from pygan.data.choice import stream_of
from pygan.data.feeds import PillowFeed
from pygan.data.sources import PairSource, PictureSource, transform_pair
from pygan.errors import UserError

DRAWN = ("seasons", "shapes", "faces")  # built-in sets of single pictures, each with a number: "shapes:3"


class Transformed(PairSource):
    """Single pictures that are drawn, and the network's input made of them."""

    natural_direction = "AtoB"

    def __init__(self, pictures: PictureSource, transform: str, channels: tuple[int, int]) -> None:
        self._pictures, self.transform, self.channels = pictures, transform, channels
        self.load_size, self.filters = pictures.load_size, (pictures.filters[0],) * 2
        self.mask_centre = transform == "mask"

    def __len__(self) -> int:
        return len(self._pictures)

    def names(self) -> list[str]:
        return self._pictures.names()

    def pair(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        return transform_pair(self._pictures.picture(i), self.transform, self.channels)

    def describe(self) -> str:
        return self._pictures.describe()


def feed(gan: ModuleType, recipe: Any, other: str, device: torch.device | str) -> Any:
    """Items of another set, whole and not mirrored; nothing of it was seen in training.

    other: "seasons", "shapes" or "faces" (drawn; for a recipe that makes its input from single pictures), any of them
    or "facades" with a number ("facades:7"), or a folder. The caller closes it. Errors: UserError.
    """
    name, _, number = other.partition(":")
    if name in DRAWN and not Path(other).is_dir():
        if recipe.input_transform == "none":
            raise UserError(f"--other {other} has single pictures, no pairs; use --input canny, or name a set of pairs")
        if number and not number.isdecimal():
            raise UserError(f"--other {other}: a number expected after the colon")
        whole = replace(recipe, load_size=recipe.crop_size, flip=False)
        source = Transformed(_drawn(whole, name, int(number or 0)), recipe.input_transform, _channels(recipe))
        return PillowFeed(source, stream_of(whole, "held-out", source), device, recipe.direction == "BtoA")
    return heldout.training_items(gan, replace(recipe, data=other), device)


def _drawn(recipe: Any, name: str, seed: int) -> PictureSource:
    class Asked:  # what a source of single pictures wants to know of a recipe
        load_size, crop_size, data_images = recipe.crop_size, recipe.crop_size, recipe.data_images
        holdout, resample, channels, input_channels = recipe.holdout, recipe.resample, 3, 3
        pre_crop = "none"

    return seasons_sources(Asked, "train", seed)[0] if name == "seasons" else drawn_pictures(Asked, "train", name, seed)


def _channels(recipe: Any) -> tuple[int, int]:
    """Of (A, B) as the source has them."""
    given = recipe.input_channels, recipe.output_channels
    return given if recipe.direction == "AtoB" else given[::-1]

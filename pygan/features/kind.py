"""What all features are, how pictures come to a network, and how a file of weights is read."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan.errors import UserError

RANGES = ("signed", "unit", "bytes", "imagenet")
"""What a network expects: [-1, 1]; [0, 1]; 0..255 (uint8 where the file says so); [0, 1] less ImageNet's mean, divided
by its standard deviation."""

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Facts = dict[str, Any]


@dataclass(frozen=True)
class Features:
    """Pictures to features.

    name: for reports; dim: d; facts: what a report has to say about the network: kind, file, sha256, ...; judges: good
    enough for distances of distributions; compute: (n, 3, h, w) in [-1, 1] -> features (n, d), and logits (n, classes)
    where the network has them, else None.
    """

    name: str
    dim: int
    compute: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    facts: Mapping[str, Any] = field(default_factory=dict)
    judges: bool = True
    has_logits: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) in [-1, 1], of any size, c of 1 or 3 -> float32 (n, d) on the CPU."""
        return self.with_logits(images)[0]

    @torch.no_grad()
    def with_logits(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features as above, and float32 (n, classes) on the CPU of a network that classifies too."""
        features, logits = self.compute(rgb(images))
        if features.shape[1] != self.dim:
            height, width = images.shape[2:]
            raise UserError(
                f"{self.name} gives {features.shape[1]} features of a picture of {height}x{width} pixels, and "
                f"{self.dim} at first; fix its size with --network-size"
            )
        return features.float().cpu(), None if logits is None else logits.float().cpu()


@dataclass(frozen=True)
class Perceptual:
    """A distance of two pictures: (n, c, h, w) twice, in [-1, 1], -> float32 (n,) on the CPU.

    name, facts: for reports, as in `Features`; metric: "lpips", or "feature_distance" where it is not that.
    """

    name: str
    compute: Callable[[Tensor, Tensor], Tensor]
    facts: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "lpips"

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape:
            raise ValueError(f"two (n, c, h, w) tensors of one shape are expected, got {[*a.shape]} and {[*b.shape]}")
        return self.compute(rgb(a), rgb(b)).float().cpu()


def rgb(images: Tensor) -> Tensor:
    """(n, 1 or 3, h, w) -> (n, 3, h, w) float32. Errors: ValueError."""
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"pictures (n, 1 or 3, h, w) are expected, got {list(images.shape)}")
    return images.detach().float().expand(-1, 3, -1, -1)


def to_bytes(images: Tensor) -> Tensor:
    """[-1, 1] -> uint8, as a picture file would hold it."""
    return images.add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def in_range(images: Tensor, values: str) -> Tensor:
    """(n, 3, h, w) in [-1, 1] -> float32 as `values` of `RANGES` says."""
    if values == "signed":
        return images
    if values == "bytes":
        return to_bytes(images).float()
    unit = (images + 1) / 2
    if values == "unit":
        return unit
    mean, std = (unit.new_tensor(numbers).view(1, 3, 1, 1) for numbers in (_IMAGENET_MEAN, _IMAGENET_STD))
    return (unit - mean) / std


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, c, h, w) at (height, width), bilinear, smoothed where it becomes smaller; as it is where it has that size."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def digest(path: Path) -> str:
    """The first 12 digits of a file's SHA-256: enough to tell two apart. Errors: UserError."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def weights(path: Path, what: str) -> dict[str, Tensor]:
    """The tensors of a file that torch.save wrote. No code in it is run. Errors: UserError."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is damaged or no file of tensors; give {what}") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(value) for value in state.values()):
        raise UserError(f"{path} is no file of named tensors; give {what}")
    return state


def as_file(state: Mapping[str, Tensor]) -> io.BytesIO:
    """Tensors as a file in memory, for a library that reads files with code in them."""
    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    return file

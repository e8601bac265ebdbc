"""A picture of any depth and any number of channels, and its arithmetic: depths, channels, white behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pygan.errors import UserError


@dataclass(frozen=True)
class Picture:
    """A picture as it was stored, upright.

    pixels: (h, w, c) uint8, uint16 or float32, floats from 0 to 1; without its alpha, which is (h, w) of the same type,
    or None. indices: (h, w) uint8 of a picture with a palette, of which `pixels` has the colours; else None.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    indices: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(h, w)."""
        return self.pixels.shape[:2]


def on_white(picture: Picture) -> np.ndarray:
    """The pixels (h, w, c), laid on white where they are transparent, as training sees such pictures."""
    if picture.alpha is None:
        return picture.pixels
    top = white(picture.pixels.dtype)
    alpha = picture.alpha[:, :, None].astype(np.float64) / top
    laid = picture.pixels * alpha + top * (1.0 - alpha)
    return laid.astype(np.float32) if picture.pixels.dtype == np.float32 else np.rint(laid).astype(picture.pixels.dtype)


def to_depth(pixels: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Pixels of one type as another: uint8, uint16 or float32; 255, 65535 and 1.0 are the same white."""
    if pixels.dtype == dtype:
        return pixels
    unit = pixels.astype(np.float64) / white(pixels.dtype)
    if dtype == np.float32:
        return unit.astype(np.float32)
    return np.rint(np.clip(unit, 0.0, 1.0) * white(dtype)).astype(dtype)


def white(dtype: np.dtype | type) -> float:
    """The value of white: 255, 65535 or 1.0."""
    return 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)


def with_channels(pixels: np.ndarray, channels: int, name: str = "the picture") -> np.ndarray:
    """(h, w, c) with that many channels: grey becomes RGB, RGB grey by 0.299 R + 0.587 G + 0.114 B.

    Errors: UserError for any other change.
    """
    c = pixels.shape[2]
    if c == channels:
        return pixels
    if c == 1 and channels == 3:
        return pixels.repeat(3, axis=2)
    if c == 3 and channels == 1:
        grey = pixels @ np.array([0.299, 0.587, 0.114])
        grey = grey if pixels.dtype == np.float32 else np.rint(grey)
        return grey.astype(pixels.dtype)[:, :, None]
    raise UserError(f"cannot use {name}: it has {c} channels, the network takes {channels}")


def to_signed(pixels: np.ndarray) -> np.ndarray:
    """(h, w, c) of any type -> float32 in [-1, 1]: white is 1 and black -1; 8 bits exactly as the feeds have them."""
    return pixels.astype(np.float32) * np.float32(2 / white(pixels.dtype)) - np.float32(1)


def from_signed(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """(h, w, c) in [-1, 1], clipped -> uint8, uint16 or float32 from 0 to 1."""
    if dtype == np.float32:
        return np.clip((values.astype(np.float32) + 1) / 2, 0, 1)
    half = white(dtype) / 2
    return np.rint(np.clip((values.astype(np.float64) + 1) * half, 0, 2 * half)).astype(dtype)

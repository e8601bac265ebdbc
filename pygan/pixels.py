"""Pictures of any depth and any number of channels, from files and to files: what a network is given and gives back."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pygan.data import images
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


def read(source: Path | bytes, *, name: str = "", most_pixels: int = images.MAX_PIXELS) -> Picture:
    """The picture of a file or of its bytes. name: what to call it in errors (default: the path).

    Errors: UserError, one line with the name, for what is no picture, damaged, too small or of more pixels than
    `most_pixels`, which is found out before anything is decoded.
    """
    file = source if isinstance(source, Path) else io.BytesIO(source)
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    try:
        with Image.open(file) as image:
            images.check_size(*image.size)
            image.load()
            upright = images.ImageOps.exif_transpose(image)
    except UserError as error:
        raise UserError(f"cannot use {name}: {error}") from None
    except images.DECODE_ERRORS as error:
        raise UserError(f"cannot read {name}: {images.why(error)}") from error
    return _of_image(upright, name)


def of_image(image: Image.Image, name: str = "the picture") -> Picture:
    """A Pillow image of any mode, turned as its EXIF orientation says. Errors: UserError."""
    return _of_image(images.ImageOps.exif_transpose(image), name)


def _of_image(image: Image.Image, name: str) -> Picture:
    indices = np.asarray(image) if image.mode == "P" else None
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return Picture(rgba[:, :, :3], rgba[:, :, 3], indices)
    if image.mode in ("1", "L"):
        return Picture(np.asarray(image.convert("L"))[:, :, None])
    try:
        pixels = np.asarray(images.eight_bit(image, 3))
    except ValueError as error:
        raise UserError(f"cannot use {name}: {error}") from None
    return Picture(pixels, None, indices)


def on_white(picture: Picture) -> np.ndarray:
    """The pixels (h, w, c), laid on white where they are transparent, as training sees such pictures."""
    if picture.alpha is None:
        return picture.pixels
    top = 1.0 if picture.pixels.dtype == np.float32 else float(np.iinfo(picture.pixels.dtype).max)
    alpha = picture.alpha[:, :, None].astype(np.float64) / top
    laid = picture.pixels * alpha + top * (1.0 - alpha)
    return laid.astype(np.float32) if picture.pixels.dtype == np.float32 else np.rint(laid).astype(picture.pixels.dtype)


def to_depth(pixels: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """Pixels of one type as another: uint8, uint16 or float32; 255, 65535 and 1.0 are the same white."""
    if pixels.dtype == dtype:
        return pixels
    unit = pixels.astype(np.float64) / _white(pixels.dtype)
    if dtype == np.float32:
        return unit.astype(np.float32)
    return np.rint(np.clip(unit, 0.0, 1.0) * _white(dtype)).astype(dtype)


def _white(dtype: np.dtype | type) -> float:
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
    return pixels.astype(np.float32) * np.float32(2 / _white(pixels.dtype)) - np.float32(1)


def from_signed(values: np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """(h, w, c) in [-1, 1], clipped -> uint8, uint16 or float32 from 0 to 1."""
    if dtype == np.float32:
        return np.clip((values.astype(np.float32) + 1) / 2, 0, 1)
    half = _white(dtype) / 2
    return np.rint(np.clip((values.astype(np.float64) + 1) * half, 0, 2 * half)).astype(dtype)


def encode(picture: Picture, kind: str = "png") -> bytes:
    """The picture as a file. Errors: UserError if that kind cannot hold it."""
    pixels = picture.pixels
    if picture.alpha is not None:
        pixels = np.concatenate([with_channels(pixels, 3), picture.alpha[:, :, None]], axis=2)
    if kind != "png" or pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3, 4):
        raise UserError(f"a {kind} cannot hold {pixels.dtype} pixels of {pixels.shape[2]} channels")
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()

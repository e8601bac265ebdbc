"""From a file to 8-bit pixels: every mode Pillow reads, upright, scaled and never silently clipped."""

from __future__ import annotations

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pygan.errors import UserError

EXTENSIONS = {
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".gif", ".tga",
    ".jp2", ".avif",
}  # fmt: skip
"""Lower-case file name endings that count as pictures; everything else in a folder is left alone."""

MAX_PIXELS = 89_478_485
"""Largest picture opened, width times height: Pillow's own limit, above which a small file can fill the memory."""

MIN_SIDE = 2
"""Smallest width and height in pixels: one pixel has no structure to learn and cannot be resized sensibly."""

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "area": Image.Resampling.BOX,
    "nearest": Image.Resampling.NEAREST,
}

# What Pillow's decoders raise on damaged files: there is no common base class.
DECODE_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError,
    zlib.error, struct.error, Image.DecompressionBombError,
)  # fmt: skip

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")

# Between Pillow's two limits it only warns; ours is the lower one and is an error, so the warning says nothing new.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_upright(path: Path) -> Image.Image:
    """The decoded picture in its own mode, turned as its EXIF orientation says. UserError when it cannot be."""
    try:
        with Image.open(path) as image:
            check_size(*image.size)
            image.load()
            return ImageOps.exif_transpose(image)
    except UserError as error:
        raise UserError(f"cannot use {path}: {error}") from None
    except DECODE_ERRORS as error:
        raise UserError(f"cannot read {path}: {why(error)}") from error


def load(path: Path, channels: int) -> Image.Image:
    """The picture in mode "L" (channels=1: 0.299 R + 0.587 G + 0.114 B) or "RGB" (channels=3), upright.

    Transparent pictures are laid on white, 16-bit grey is scaled to 8 bits, palettes and CMYK are converted.
    UserError, naming the file, for what has no fixed range (float, 32-bit integers) and for damaged files.
    """
    try:
        return eight_bit(open_upright(path), channels)
    except _NoRange as error:
        raise UserError(f"cannot use {path}: {error}") from None


class _NoRange(ValueError):
    pass


def eight_bit(image: Image.Image, channels: int) -> Image.Image:
    """`image` in mode "L" or "RGB", see `load`. ValueError for float and 32-bit integer pictures."""
    mode = {1: "L", 3: "RGB"}[channels]
    if image.mode in _SIXTEEN_BIT:
        values = np.asarray(image)
        problem = no_range(image.mode, int(values.min()), int(values.max()))
        if problem:
            raise _NoRange(problem)
        scaled = (values.astype(np.uint32) * 255 + 32767) // 65535  # 65535 -> 255, rounded
        image = Image.fromarray(scaled.astype(np.uint8))
    elif image.mode == "F":
        raise _NoRange(no_range("F", 0, 0))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def no_range(mode: str, low: int, high: int) -> str:
    """Why a picture of this mode and these extreme values has no 8-bit form; "" when it has."""
    if mode == "F":
        return "floating-point pixels have no fixed range; convert it to 8 or 16 bits"
    if mode == "I" and (low < 0 or high > 65535):
        return f"32-bit integer pixels of {low}..{high} have no fixed range; convert it to 8 or 16 bits"
    return ""


def check_size(width: int, height: int, *, most_pixels: int = MAX_PIXELS) -> None:
    """UserError for a picture too small to learn from or large enough to be a decompression bomb."""
    if width * height > most_pixels:
        raise UserError(f"{width}x{height} pixels: more than {most_pixels:,} pixels are not opened; make it smaller")
    if min(width, height) < MIN_SIDE:
        raise UserError(f"{width}x{height} pixels: at least {MIN_SIDE}x{MIN_SIDE} are needed")


def why(error: BaseException) -> str:
    """A decoder's error as a few words on one line for the user."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture, whatever its name says"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels are not opened; make it smaller"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = " ".join(str(error).split())
    return f"damaged: {text}" if text else f"damaged: {type(error).__name__}"


def resize(image: Image.Image, size: int, filter_name: str) -> np.ndarray:
    """`image` at size x size pixels, not aspect-preserving: uint8 (size, size, 1 or 3). filter_name: a FILTERS key."""
    if image.size != (size, size):
        image = image.resize((size, size), FILTERS[filter_name])
    pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def halves(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """(left, right) of a picture of even width."""
    width, height = image.size
    return image.crop((0, 0, width // 2, height)), image.crop((width // 2, 0, width, height))

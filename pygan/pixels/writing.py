"""From a picture to a file's bytes: which kinds can hold it, and how it is written."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import tifffile
from PIL import Image

from pygan.errors import UserError
from pygan.pixels.containers import PNG
from pygan.pixels.picture import Picture, with_channels

KINDS = ("png", "jpg", "webp", "tiff", "npy")
"""What `encode` writes."""

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp", "tiff": "image/tiff", "npy": "application/x-npy"}
)

_LONGEST = {"jpg": 65_500, "webp": 16_383}  # pixels of a side: what libjpeg and libwebp write
_JPEG_QUALITY = 95
_PNG_LEVEL = 1  # of zlib: what networks paint is noisy, 6 would take seven times as long for a sixth less
_UP = 2  # PNG filter: the difference from the row above, which numpy has in one go


def suffix(kind: str) -> str:
    """The ending of a file's name: ".png", ".jpg", ".webp", ".tif", ".npy"."""
    return ".tif" if kind == "tiff" else f".{kind}"


def why_not(kind: str, dtype: np.dtype | type, channels: int, *, alpha: bool) -> str:
    """Why a file of that kind cannot hold such a picture, in one line; "" where it can.

    png: uint8 and uint16 of 1 or 3 channels; jpg: uint8 of 1 or 3 without alpha; webp: uint8 of 1 (written as RGB) or
    3; tiff and npy: everything. channels: without the alpha. Errors: UserError for a kind that is not there.
    """
    if kind not in KINDS:
        raise UserError(f"format must be one of {', '.join(KINDS)}, got {kind!r}")
    dtype = np.dtype(dtype)
    if kind in ("tiff", "npy"):
        return ""
    if dtype.kind == "f":
        return f"a {kind} cannot hold float pixels; tiff and npy can, or ask for 8 bits"
    if channels not in (1, 3):
        return f"a {kind} cannot hold {channels} channels; tiff and npy can"
    if dtype == np.uint16 and kind != "png":
        return f"a {kind} cannot hold 16 bits; png, tiff and npy can, or ask for 8 bits"
    if alpha and kind == "jpg":
        return "a jpg cannot hold transparency; png, webp, tiff and npy can"
    return ""


def kind_for(dtype: np.dtype | type, channels: int, *, alpha: bool) -> str:
    """The kind for a picture that has none: png where that holds it, else tiff."""
    return "tiff" if why_not("png", dtype, channels, alpha=alpha) else "png"


def encode(picture: Picture, kind: str = "png", *, quality: int | None = None) -> bytes:
    """The picture as a file: without loss, but for jpg (quality 95) and, where a quality is given, webp.

    kind: one of KINDS. quality: 1 to 100 of jpg and webp. An .npy has the alpha as its last channel; a TIFF names it.
    Errors: UserError if that kind cannot hold it (`why_not`), or not one so large.
    """
    pixels, alpha = picture.pixels, picture.alpha
    height, width, channels = pixels.shape
    if reason := why_not(kind, pixels.dtype, channels, alpha=alpha is not None):
        raise UserError(reason)
    if max(height, width) > _LONGEST.get(kind, max(height, width)):
        raise UserError(f"a {kind} cannot hold {width}x{height} pixels, only {_LONGEST[kind]} on a side; use png")
    if quality is not None and not (kind in ("jpg", "webp") and 1 <= quality <= 100):
        raise UserError(f"quality is of jpg and webp, 1 to 100, got {quality} for {kind}")
    if kind == "webp":
        pixels = with_channels(pixels, 3)
    laid = pixels if alpha is None else np.concatenate([pixels, alpha[:, :, None]], axis=2)
    if kind == "tiff":
        return _tiff(laid, alpha is not None)
    if kind == "npy":
        buffer = io.BytesIO()
        np.save(buffer, laid, allow_pickle=False)
        return buffer.getvalue()
    if laid.dtype == np.uint16:
        return _png16(laid)
    image = Image.fromarray(np.ascontiguousarray(laid[:, :, 0] if laid.shape[2] == 1 else laid))
    buffer = io.BytesIO()
    if kind == "jpg":
        image.save(buffer, "JPEG", quality=quality or _JPEG_QUALITY, subsampling=0)
    elif kind == "webp":
        lossless = {"lossless": True, "exact": True} if quality is None else {"quality": quality}
        image.save(buffer, "WEBP", **lossless)
    else:
        image.save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def _png16(pixels: np.ndarray) -> bytes:
    """uint16 (h, w, 1 to 4): Pillow has no such pictures. PNG specification (third edition), 5 and 9."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    filtered[1:, 1:] = rows[1:] - rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b""))
    return PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


def _tiff(pixels: np.ndarray, alpha: bool) -> bytes:
    """(h, w, c), the alpha last, as one page with the channels beside each other, deflated."""
    colours = pixels.shape[2] - alpha
    extra = ["unspecified"] * (colours - (3 if colours == 3 else 1)) + ["unassalpha"] * alpha
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        flat,
        photometric="rgb" if colours == 3 else "minisblack",
        planarconfig="contig" if flat.ndim == 3 else None,
        extrasamples=extra or None,
        compression="zlib",
        metadata=None,
    )
    return buffer.getvalue()

"""TIFF files of every depth and number of channels: the directory is read here, libtiff only unpacks bytes.

Pillow gives 8 bits of 16-bit colours and knows no picture of five channels. So where a file is more than it can hold,
the strips or tiles are given to it as a grey 8-bit picture, as wide as their rows have bytes, and laid out here.
libtiff never unpacks more than that picture holds, whatever the compressed data would give.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from pygan.errors import UserError
from pygan.pixels import ifd

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
STRIPS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, FORMAT = 322, 323, 324, 325, 338, 339
_ONE = (WIDTH, HEIGHT, COMPRESSION, PHOTOMETRIC, FILL_ORDER, SAMPLES, PREDICTOR)  # tags of one number
_FOR_PIXELS = (
    BITS,
    EXTRA,
    FORMAT,
    292,
    293,
    320,
    332,
    347,
    529,
    530,
    531,
    532,
)  # fax options, palette, inks, JPEG tables, YCbCr
_NONE, _OLD_JPEG = 1, 6
_PACKBITS = 32773
_BYTES = (_NONE, 5, 8, 32946, _PACKBITS, 34925, 50000)  # and LZW, deflate twice, LZMA, Zstandard: of any bytes
_ASSOCIATED, _ALPHAS = 1, (1, 2)  # ExtraSamples: alpha that the colours are multiplied by, and alpha beside them
_DTYPES = {(1, 8): "u1", (1, 16): "u2", (1, 32): "u4", (2, 8): "i1", (2, 16): "i2", (2, 32): "i4"}
_DTYPES |= {(3, 16): "f2", (3, 32): "f4", (3, 64): "f8"}


@dataclass(frozen=True)
class Facts:
    """What a TIFF says about its first page, checked against the file."""

    width: int
    height: int
    samples: int
    bits: int
    format: int
    compression: int
    photometric: int
    planar: bool
    predictor: int
    block: tuple[int, int]  # height and width of a strip or tile
    tiled: bool
    extra: tuple[int, ...]
    orientation: int
    more: bool
    parts: tuple[tuple[int, int], ...]  # (offset, bytes) of the strips or tiles

    @property
    def decoded(self) -> tuple[int, int]:
        """Height and width of what is decoded: tiles are whole, strips end with the picture."""
        if not self.tiled:
            return self.height, self.width
        (height, width), (down, right) = (self.height, self.width), self.block
        return height + -height % down, width + -width % right

    @property
    def laid_here(self) -> bool:
        """Whether the samples are taken as they are; else Pillow makes an 8-bit picture of them."""
        plain = self.photometric in (0, 1, 2) or self.bits > 8
        return plain and self.compression in _BYTES and (self.format, self.bits) in _DTYPES

    @property
    def alpha(self) -> int | None:
        """Which sample is the alpha; None without one. Four samples of a colour picture that says nothing have one."""
        first = self.samples - len(self.extra)
        alphas = [first + k for k, kind in enumerate(self.extra) if kind in _ALPHAS]
        if alphas:
            return alphas[0]
        return 3 if self.photometric == 2 and self.samples == 4 and not self.extra else None

    @property
    def premultiplied(self) -> bool:
        """Whether the colours are multiplied by the alpha."""
        return _ASSOCIATED in self.extra


def facts(data: bytes, found: ifd.Directory) -> Facts:
    """Of the first page. Errors: ValueError where it does not fit the file."""
    width, height, samples = found.integer(WIDTH, 0), found.integer(HEIGHT, 0), found.integer(SAMPLES, 1)
    bits, formats = set(found.integers(BITS, (1,))), set(found.integers(FORMAT, (1,)))
    if len(bits) != 1 or len(formats) != 1:
        raise UserError("a TIFF whose channels differ in depth is not read; save it with one depth")
    tiled = TILE_WIDTH in found.tags
    block = (found.integer(TILE_HEIGHT, 0), found.integer(TILE_WIDTH, 0))
    if not tiled:
        block = (min(found.integer(ROWS_PER_STRIP, height) or height, height), width)
    offsets = found.integers(TILES if tiled else STRIPS)
    sizes = found.integers(TILE_BYTES if tiled else STRIP_BYTES)
    if min(width, height, samples, *block) < 1:
        raise ValueError("a TIFF without size")
    planar = found.integer(PLANAR, 1) == 2 and samples > 1
    down, right = -(-height // block[0]), -(-width // block[1])
    expected = down * right * (samples if planar else 1)
    compression = found.integer(COMPRESSION, _NONE)
    if compression == _NONE and not sizes and len(offsets) == 1 == expected:
        sizes = (len(data) - offsets[0],)
    if len(offsets) != expected or len(sizes) != expected:
        raise ValueError(f"{expected} strips or tiles belong to it, {len(offsets)} are there")
    if any(size < 1 or offset + size > len(data) for offset, size in zip(offsets, sizes, strict=True)):
        raise ValueError("the file is cut short")
    return Facts(
        width=width,
        height=height,
        samples=samples,
        bits=bits.pop(),
        format=formats.pop() % 4 or 1,  # 4: unknown, taken as whole numbers
        compression=compression,
        photometric=found.integer(PHOTOMETRIC, 1),
        planar=planar,
        predictor=found.integer(PREDICTOR, 1),
        block=block,
        tiled=tiled,
        extra=found.integers(EXTRA)[-samples:],
        orientation=found.orientation,
        more=found.more,
        parts=tuple(zip(offsets, sizes, strict=True)),
    )


def samples(data: bytes, of: Facts) -> np.ndarray:
    """(h, w, samples) of the type that the file has. Errors: ValueError, OSError where it is damaged."""
    dtype = np.dtype(_DTYPES[of.format, of.bits]).newbyteorder("<" if data[:2] == b"II" else ">")
    height, width = of.decoded  # whole tiles, so that what the predictor did to their rows can be undone
    planes, each = (of.samples, 1) if of.planar else (1, of.samples)
    per_plane = len(of.parts) // planes
    out = np.empty((of.height, of.width, of.samples), dtype.newbyteorder("="))
    for plane in range(planes):
        parts = of.parts[plane * per_plane : (plane + 1) * per_plane]
        tags = {WIDTH: width * each * dtype.itemsize, HEIGHT: height, BITS: 8, SAMPLES: 1, PHOTOMETRIC: 1}
        tags |= {COMPRESSION: of.compression, TILE_WIDTH: of.block[1] * each * dtype.itemsize}
        raw = _unpacked(_one_page(data, parts, of, {tag: (4, struct.pack("<I", value)) for tag, value in tags.items()}))
        laid = _undone(np.asarray(raw), of, dtype, each)
        into = out[:, :, plane : plane + 1] if of.planar else out
        into[...] = laid[: of.height, : of.width]
    return out


def image(data: bytes, of: Facts, found: ifd.Directory) -> Image.Image:
    """The first page as Pillow has it, from a copy of the file that holds nothing else. Errors: OSError, ValueError."""
    if of.compression == _OLD_JPEG:
        raise UserError("JPEG of TIFF 6.0 (compression 6) is not read; save it with another compression")
    tags = {tag: (4, struct.pack("<I", found.integer(tag, 1))) for tag in _ONE if tag in found.tags}
    for tag in _FOR_PIXELS:
        if tag in found.tags:
            kind, raw = found.tags[tag]
            size = {3: 2, 4: 4, 5: 4, 10: 4, 11: 4}.get(kind, 1)  # of what has a byte order
            tags[tag] = (kind, np.frombuffer(raw, f"{found.order}u{size}").astype(f"<u{size}").tobytes())
    return _unpacked(_one_page(data, of.parts, of, tags))


def _one_page(data: bytes, parts: tuple, of: Facts, tags: dict[int, tuple[int, bytes]]) -> bytes:
    """A little-endian TIFF of these strips or tiles and these tags alone."""
    offsets, at = [], 8
    for _, size in parts:
        offsets.append(at)
        at += size
    body = [data[offset : offset + size] for offset, size in parts] + [b"\0" * (at % 2)]
    at += at % 2
    tags = dict(tags)
    tags[TILES if of.tiled else STRIPS] = (4, np.array(offsets, "<u4").tobytes())
    tags[TILE_BYTES if of.tiled else STRIP_BYTES] = (4, np.array([size for _, size in parts], "<u4").tobytes())
    if of.tiled:
        tags[TILE_HEIGHT] = (4, struct.pack("<I", of.block[0]))
        tags.setdefault(TILE_WIDTH, (4, struct.pack("<I", of.block[1])))
    else:
        tags[ROWS_PER_STRIP] = (4, struct.pack("<I", of.block[0]))
        tags.pop(TILE_WIDTH, None)
    if SAMPLES in tags and of.planar and len(parts) == len(of.parts):
        tags[PLANAR] = (3, struct.pack("<H", 2))
    entries, values, after = [], [], at + 2 + 12 * len(tags) + 4
    for tag in sorted(tags):
        kind, raw = tags[tag]
        count = len(raw) // ifd.size_of(kind)
        if len(raw) <= 4:
            entries.append(struct.pack("<HHI4s", tag, kind, count, raw))
        else:
            entries.append(struct.pack("<HHII", tag, kind, count, after))
            values.append(raw + b"\0" * (len(raw) % 2))
            after += len(values[-1])
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", at) + b"".join(body) + directory + b"".join(values)


class _Unpacking(TiffImagePlugin.TiffImageFile):
    """A TIFF whose size was looked at before: Pillow's limit is of pixels, and here one may be a byte of a sample."""

    def load_prepare(self) -> None:
        self.im = Image.core.new(self.mode, self.size)
        super().load_prepare()


@functools.cache
def _quiet() -> None:
    """libtiff, which Pillow brings along, would print what it finds wrong with a file; pygan says it, in a line."""
    with contextlib.suppress(OSError, AttributeError):  # another system, another libtiff: it goes on printing
        for path in {
            line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libtiff" in line
        }:
            library = ctypes.CDLL(path)
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                getattr(library, name).restype = ctypes.c_void_p
                getattr(library, name)(None)


def _unpacked(file: bytes) -> Image.Image:
    _quiet()
    picture = _Unpacking(io.BytesIO(file))
    picture.load()
    return picture


def _undone(raw: np.ndarray, of: Facts, dtype: np.dtype, each: int) -> np.ndarray:
    """uint8 (rows, bytes) -> (rows, columns, each), the predictor undone (TIFF 6.0, p. 64; TIFF Technical Note 3)."""
    rows = raw.shape[0]
    if of.predictor not in (2, 3) or of.compression in (_NONE, _PACKBITS):
        return np.ascontiguousarray(raw).view(dtype).reshape(rows, -1, each)
    columns, k = of.block[1], dtype.itemsize
    tiles = raw.reshape(rows, -1, columns * each * k)
    if of.predictor == 2:
        whole = dtype if dtype.kind in "ui" else dtype.newbyteorder("=").str.replace("f", "u")
        steps = np.ascontiguousarray(tiles).view(np.dtype(whole).newbyteorder(dtype.byteorder))
        steps = steps.reshape(rows, -1, columns, each).astype(np.dtype(whole).newbyteorder("="))
        return np.cumsum(steps, axis=2, dtype=steps.dtype).view(dtype.newbyteorder("=")).reshape(rows, -1, each)
    if dtype.kind != "f":
        raise ValueError("a predictor of floats on whole numbers")
    planes = np.cumsum(tiles.reshape(rows, -1, columns * k, each), axis=2, dtype=np.uint8)
    planes = planes.reshape(rows, -1, k, columns * each)  # the highest byte of every value first
    return np.ascontiguousarray(planes.swapaxes(2, 3)).view(dtype.newbyteorder(">")).reshape(rows, -1, each)

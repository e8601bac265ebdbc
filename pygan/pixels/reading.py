"""From a file's bytes to a picture: kind by content, size before pixels, every depth kept, nothing read in part."""

from __future__ import annotations

import io
import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pygan.data import images
from pygan.errors import UserError, say_once
from pygan.pixels import containers, ifd, npy, tiff
from pygan.pixels.picture import Picture, white

_MAGIC = {
    containers.JPEG: "JPEG", containers.PNG: "PNG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"BM": "BMP",
    b"II*\0": "TIFF", b"MM\0*": "TIFF", b"II+\0": "TIFF", b"MM\0+": "TIFF", b"\x93NUMPY": "NPY",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000", b"\xffO\xffQ": "JPEG2000",
}  # fmt: skip
_PNM = re.compile(rb"P[1-7fF]\s")
_PNM_HEADER = re.compile(rb"P([56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
_VALUES_A_PIXEL = 4  # a picture of more channels may have accordingly fewer pixels
_SLACK = 1e-4  # how far a float may be beyond 0..1 and still be rounding

Range = tuple[float, float]
DecodesJpeg = Callable[[bytes], np.ndarray | None]  # a whole RGB JPEG -> uint8 (h, w, 3); None: Pillow is to do it


def most_bytes(most_pixels: int) -> int:
    """Length of the largest file that is read: what so many pixels take without compression, as floats with alpha."""
    return most_pixels * _VALUES_A_PIXEL * 4 + (1 << 24)


def read(
    source: Path | bytes,
    *,
    name: str = "",
    most_pixels: int = images.MAX_PIXELS,
    float_range: Range | None = None,
    jpegs: DecodesJpeg | None = None,
) -> Picture:
    """The picture of a file or of its bytes, upright, with the depth and the channels that it has.

    JPEG, PNG, WebP, TIFF, BMP, PPM, GIF, TGA, JPEG 2000 and AVIF, known by their content, and .npy of (h, w) or
    (h, w, c). 8-bit, 16-bit and float; 32-bit integers if they stay within 16 bits. Alpha is what the file calls so:
    the fourth channel of a TIFF that names none so, or of an .npy, is a channel. Of a file of several pages or frames
    the first is read, and a line says so for TIFF. JPEG 2000 and AVIF are read as 8 bits.

    name: what to call it in errors (default: the path). most_pixels: width times height; pictures of more than four
    channels may have accordingly fewer. float_range: the floats that are black and white; beyond them is clipped.
    Default: 0 and 1, and a picture that goes beyond is refused. jpegs: decodes colour JPEGs in place of Pillow, once
    they are known to be whole and not too large.

    May be called from several threads. Errors: UserError, one line with the name, for what is no picture, damaged or
    cut short, too small or too large; sizes are looked at before anything is decoded.
    """
    name = name or (str(source) if isinstance(source, Path) else "the picture")
    try:
        data = _bytes_of(source, most_bytes(most_pixels)) if isinstance(source, Path) else bytes(source)
        kind = _kind(data, Path(name).suffix.lower())
        return _READERS.get(kind, _other)(_Asked(data, kind, name, most_pixels, float_range, jpegs))
    except UserError as error:
        raise UserError(f"cannot use {name}: {error}") from None
    except MemoryError as error:
        raise UserError(f"cannot read {name}: there is not enough memory for it") from error
    except (*images.DECODE_ERRORS, cv2.error) as error:
        raise UserError(f"cannot read {name}: {images.why(error)}") from error


def of_image(image: Image.Image, name: str = "the picture", *, float_range: Range | None = None) -> Picture:
    """A Pillow image of any mode, turned as its EXIF orientation says. Errors: UserError."""
    try:
        return _of_image(images.ImageOps.exif_transpose(image), float_range)
    except UserError as error:
        raise UserError(f"cannot use {name}: {error}") from None
    except images.DECODE_ERRORS as error:
        raise UserError(f"cannot read {name}: {images.why(error)}") from error


@dataclass(frozen=True)
class _Asked:
    data: bytes
    kind: str
    name: str
    most_pixels: int
    float_range: Range | None
    jpegs: DecodesJpeg | None

    def check(self, width: int, height: int, channels: int = 1) -> None:
        """Errors: UserError for a picture that is too small, or too large to be decoded."""
        self.check_room(width, height, channels)
        images.check_size(width, height, most_pixels=self.most_pixels)

    def check_room(self, width: int, height: int, channels: int) -> None:
        """Errors: UserError for more pixels than are decoded."""
        most = min(self.most_pixels, self.most_pixels * _VALUES_A_PIXEL // max(channels, 1))
        if width * height > most:
            many = f" of {channels} channels" if channels > _VALUES_A_PIXEL else ""
            raise UserError(f"{width}x{height} pixels{many}: more than {most:,} pixels are not opened; make it smaller")


def _bytes_of(path: Path, most: int) -> bytes:
    """Contents of an ordinary file. Errors: UserError, OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # a pipe without a writer would wait
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise UserError("it is no ordinary file")
        if facts.st_size > most:
            raise UserError(f"{facts.st_size:,} bytes: more than {most:,} bytes are not opened; make it smaller")
        return file.read(most + 1)


def _kind(data: bytes, suffix: str) -> str:
    """What the content is; only a TGA, which has no mark, is known by its name. Errors: ValueError for no picture."""
    if not data:
        raise ValueError("empty file (0 bytes)")
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:12] in (b"ftypavif", b"ftypavis", b"ftypmif1"):
        return "AVIF"
    if _PNM.match(data):
        return "PPM"
    if suffix == ".tga":
        return "TGA"
    raise Image.UnidentifiedImageError


def _jpeg(asked: _Asked) -> Picture:
    file, exif = containers.jpeg(asked.data)
    if asked.jpegs is not None and (colours := _by_another(asked, file)) is not None:
        return _upright(Picture(colours), ifd.orientation(exif))
    image = _decoded(asked, file)
    if _ends_in_grey(image) and image.tobytes() != _decoded(asked, containers.jpeg_with_more(file)).tobytes():
        raise EOFError(containers.CUT)
    return _upright(_of_image(image, None), ifd.orientation(exif))


def _by_another(asked: _Asked, file: bytes) -> np.ndarray | None:
    """What the other decoder makes of a JPEG; None where Pillow is to look at it."""
    with _opened(file, "JPEG") as image:
        asked.check(*image.size)
        if image.mode != "RGB":
            return None
        colours = asked.jpegs(file)
    fits = colours is not None and colours.shape == (image.height, image.width, 3)
    return colours if fits and not _ends_in_grey(colours) else None


def _ends_in_grey(pixels: Image.Image | np.ndarray) -> bool:
    """Whether the last block of a JPEG is what libjpeg makes of data that are missing."""
    corner = np.asarray(pixels)[-8:, -8:]
    return bool((np.abs(corner.astype(np.int16) - 128) <= 1).all())


def _png(asked: _Asked) -> Picture:
    file, exif, small = containers.png(asked.data)
    width, height, depth, colour = struct.unpack(">IIBB", small[b"IHDR"][:10])
    asked.check(width, height)
    turn = ifd.orientation(exif)
    if depth < 16:
        return _upright(_of_image(_decoded(asked, file), None), turn)
    # Pillow would make 8 bits of them. OpenCV may hand out what it has of a picture that is cut short.
    if not containers.png_is_complete(file, small[b"IHDR"]):
        raise EOFError(containers.CUT)
    key = small.get(b"tRNS")
    values = _by_opencv(containers.png_without(file, b"tRNS"))
    if colour in (0, 4):
        pixels, alpha = values[:, :, :1], values[:, :, -1] if colour == 4 else None
    else:
        pixels, alpha = values[:, :, 2::-1], values[:, :, 3] if colour == 6 else None
    if key is not None and alpha is None:
        seen = (pixels != np.frombuffer(key[: 2 * pixels.shape[2]], ">u2")).any(-1)
        alpha = np.where(seen, np.uint16(65535), np.uint16(0))
    return _upright(Picture(pixels, alpha), turn)


def _by_opencv(file: bytes) -> np.ndarray:
    """(h, w, c), blue first. Errors: ValueError."""
    values = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None:
        raise ValueError("it cannot be decoded")
    return values if values.ndim == 3 else values[:, :, None]


def _webp(asked: _Asked) -> Picture:
    exif = containers.riff_exif(asked.data)
    return _upright(_of_image(_decoded(asked, asked.data), None), ifd.orientation(exif))


def _tiff(asked: _Asked) -> Picture:
    found = ifd.first(asked.data)
    of = tiff.facts(asked.data, found)
    asked.check(of.width, of.height, of.samples)
    asked.check_room(*of.decoded[::-1], of.samples)
    if of.more:
        say_once(f"{asked.name} has several pages, of which the first is used")
    if not of.laid_here:
        if of.bits > 8:
            raise UserError(
                f"a TIFF of {of.bits} bits, format {of.format}, compression {of.compression} and photometric "
                f"{of.photometric} is not read; save it as 8-bit, 16-bit or float RGB"
            )
        return _upright(_of_image(tiff.image(asked.data, of, found), None), of.orientation)
    values = _in_range(tiff.samples(asked.data, of), asked.float_range)
    top = white(values.dtype)
    pixels, alpha = values, None
    if of.alpha is not None:
        pixels, alpha = np.delete(values, of.alpha, axis=2), values[:, :, of.alpha]
        if of.premultiplied:
            unit = alpha[:, :, None].astype(np.float64) / top
            lifted = np.divide(pixels, unit, out=np.zeros(pixels.shape), where=unit > 0).clip(0, top)
            pixels = (lifted if top == 1.0 else np.rint(lifted)).astype(pixels.dtype)
    if of.photometric == 0:
        pixels = (top - pixels).astype(pixels.dtype)
    return _upright(Picture(pixels, alpha), of.orientation)


def _npy(asked: _Asked) -> Picture:
    (h, w, c), *_ = npy.header(asked.data)
    asked.check(w, h, c)
    return Picture(_in_range(npy.values(asked.data), asked.float_range))


def _pnm(asked: _Asked) -> Picture:
    header = _PNM_HEADER.match(asked.data)
    most = int(header[4]) if header else 0
    if most < 256:
        return _of_image(_decoded(asked, asked.data), asked.float_range)
    width, height, channels = int(header[2]), int(header[3]), 3 if header[1] == b"6" else 1
    asked.check(width, height)
    if most > 65535 or len(asked.data) - header.end() < width * height * channels * 2:
        raise EOFError(containers.CUT)
    values = np.frombuffer(asked.data, ">u2", width * height * channels, header.end()).astype(np.uint32)
    scaled = (np.minimum(values, most) * 65535 + most // 2) // most
    return Picture(scaled.astype(np.uint16).reshape(height, width, channels))


def _other(asked: _Asked) -> Picture:
    image = _decoded(asked, asked.data)
    return _upright(_of_image(image, asked.float_range), ifd.orientation(image.info.get("exif") or b""))


_READERS: dict[str, Callable[[_Asked], Picture]] = {
    "JPEG": _jpeg, "PNG": _png, "WEBP": _webp, "TIFF": _tiff, "NPY": _npy, "PPM": _pnm,
}  # fmt: skip


def _decoded(asked: _Asked, file: bytes) -> Image.Image:
    """By Pillow, as the kind that it is, after a look at its size."""
    with _opened(file, asked.kind) as image:
        asked.check(*image.size)
        image.load()
        return image


def _opened(file: bytes, kind: str) -> Image.Image:
    """Its header as Pillow reads it. Not Image.open, whose limit of pixels is one for the whole process."""
    if kind not in Image.OPEN:
        Image.init()
    try:
        return Image.OPEN[kind][0](io.BytesIO(file), "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:
        raise Image.UnidentifiedImageError from error


def _of_image(image: Image.Image, float_range: Range | None) -> Picture:
    """Errors: UserError, ValueError for a mode that has no colours."""
    if image.mode.startswith("I"):
        return Picture(_in_range(np.asarray(image), float_range)[:, :, None])
    if image.mode == "F":
        return Picture(_in_range(np.asarray(image), float_range)[:, :, None])
    if image.mode in ("LA", "La"):
        both = np.asarray(image.convert("LA"))
        return Picture(both[:, :, :1], both[:, :, 1])
    if image.mode == "L" and image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return Picture(rgba[:, :, :1], rgba[:, :, 3])
    indices = np.asarray(image) if image.mode == "P" else None
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return Picture(rgba[:, :, :3], rgba[:, :, 3], indices)
    if image.mode in ("1", "L"):
        return Picture(np.asarray(image.convert("L"))[:, :, None])
    return Picture(np.asarray(images.eight_bit(image, 3)), None, indices)


def _in_range(values: np.ndarray, float_range: Range | None) -> np.ndarray:
    """As uint8, uint16, or float32 from 0 to 1. Errors: UserError for values that have no such form."""
    if values.dtype.kind == "f":
        return _unit(values, float_range)
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise UserError(images.no_range("I", low, high))
    return values.astype(np.uint16)


def _unit(values: np.ndarray, float_range: Range | None) -> np.ndarray:
    low, high = float(values.min()), float(values.max())  # NaN anywhere is NaN here
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError("some of its values are NaN or infinite; replace them")
    if float_range is None and (low < -_SLACK or high > 1 + _SLACK):
        raise UserError(
            f"its values go from {low:.6g} to {high:.6g}, floats are expected from 0 to 1; "
            "scale them, or say to `pygan translate` with --float-range LO,HI which are black and white"
        )
    black, top = float_range or (0.0, 1.0)
    unit = values if float_range is None else (values.astype(np.float64) - black) / (top - black)
    return np.clip(unit, 0, 1).astype(np.float32)


def _upright(picture: Picture, turn: int) -> Picture:
    parts = (picture.pixels, picture.alpha, picture.indices)
    return Picture(*(None if part is None else ifd.upright(part, turn) for part in parts))

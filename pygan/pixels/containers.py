"""JPEG and PNG as files: whole or cut short, where one ends, and only what makes pixels for the decoders.

Texts, colour profiles, previews and further frames are left out before anything is decoded, so what such parts may
hold (compressed texts that fill the memory, tags without end) is never looked at. No decoder tells everything: Pillow
reads a PNG without its end, and libjpeg fills what is missing with grey. What a JPEG cannot tell, since it has no
checksum: bits that changed within its data, and the last refinement of a progressive one that was cut and closed.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from pygan.errors import UserError

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]")  # that ends compressed data: no stuffed zero, no restart
_PROGRESSIVE, _SOI, _EOI, _SOS, _APP0, _APP1, _APP14, _APP15, _COM = (
    0xC2,
    0xD8,
    0xD9,
    0xDA,
    0xE0,
    0xE1,
    0xEE,
    0xEF,
    0xFE,
)
_MOST_SCANS = 100  # of a progressive JPEG: each costs as much as a picture, and encoders write about ten
_ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type of a PNG
CUT = "the file is cut short"


def jpeg_parts(data: bytes | bytearray, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """(marker, begin, end) of every segment of the JPEG at `start`, compressed data with the SOS before it.

    Ends after EOI. Errors: EOFError where the data ends before that, ValueError where it is damaged.
    """
    at = start
    while True:
        begin = at
        if at + 2 > len(data):
            raise EOFError(CUT)
        if data[at] != 0xFF:
            raise ValueError("no JPEG marker where one belongs")
        while data[at] == 0xFF:
            at += 1
            if at >= len(data):
                raise EOFError(CUT)
        marker = data[at]
        at += 1
        if marker == _SOI and begin != start:
            raise ValueError(CUT)  # the next picture begins within this one
        if marker not in (_SOI, _EOI, 0x01) and not 0xD0 <= marker <= 0xD7:
            if at + 2 > len(data):
                raise EOFError(CUT)
            length = struct.unpack_from(">H", data, at)[0]
            if length < 2:
                raise ValueError("a JPEG segment without length")
            at += length
            if at > len(data):
                raise EOFError(CUT)
        if marker == _SOS:
            found = _MARKER.search(data, at)
            if found is None:
                raise EOFError(CUT)
            at = found.start()
        yield marker, begin, at
        if marker == _EOI:
            return


def jpeg(data: bytes) -> tuple[bytes, bytes]:
    """(the JPEG without what makes no pixels, its EXIF data). Errors: EOFError, ValueError."""
    kept, exif, scans, missing = [], b"", 0, {}
    for marker, begin, end in jpeg_parts(data):
        if marker == _APP1 and not exif and data[begin + 4 : begin + 10] == b"Exif\0\0":
            exif = data[begin + 10 : end]
        if marker == _PROGRESSIVE:
            missing = {data[k]: dict.fromkeys(range(64), True) for k in range(begin + 10, end - 2, 3)}
        if marker == _SOS:
            scans += 1
            _seen_(missing, data[begin + 4 : end])
        if marker in (_APP0, _APP14) or not (_APP0 <= marker <= _APP15 or marker == _COM):
            kept.append(data[begin:end])
    if not scans:
        raise ValueError("it holds no pixels")
    if any(missing.values()):
        raise EOFError(CUT)
    if scans > _MOST_SCANS:
        raise UserError(f"{scans} scans: more than {_MOST_SCANS} are not decoded")
    return b"".join(kept), exif


def _seen_(missing: dict[int, dict[int, bool]], scan: bytes) -> None:
    """Drop what a scan brings to its last bit from the coefficients of each component (ITU T.81, B.2.3 and G.1.1)."""
    number = scan[0]
    first, last, bits = scan[1 + 2 * number : 4 + 2 * number]
    if bits & 15 == 0:  # no bit is left for a later scan
        for component in scan[1 : 1 + 2 * number : 2]:
            for k in range(first, min(last, 63) + 1):
                missing.get(component, {}).pop(k, None)


def jpeg_with_more(data: bytes) -> bytes:
    """The JPEG with 256 bytes more in every scan: the same picture if its scans were complete, another if not."""
    more = bytes((37 * k + 11) % 251 for k in range(256))  # no 0xFF among them
    return b"".join(data[begin:end] + (more if marker == _SOS else b"") for marker, begin, end in jpeg_parts(data))


def png_parts(data: bytes | bytearray, start: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """(type, begin, end) of every chunk of the PNG at `start`, to IEND. Errors: EOFError where it is cut short."""
    at = start + len(PNG)
    while True:
        if at + 12 > len(data):
            raise EOFError(CUT)
        length, kind = struct.unpack_from(">I4s", data, at)
        if not kind.isalpha():
            raise ValueError("no PNG chunk where one belongs")
        if at + 12 + length > len(data):
            raise EOFError(CUT)
        yield kind, at, at + 12 + length
        if kind == b"IEND":
            return
        at += 12 + length


def png(data: bytes) -> tuple[bytes, bytes, dict[bytes, bytes]]:
    """(the PNG without what makes no pixels, its EXIF data, {type: contents} of IHDR and tRNS).

    Errors: EOFError, and ValueError where a checksum is wrong.
    """
    kept, exif, small = [PNG], b"", {}
    for kind, begin, end in png_parts(data):
        if kind not in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"):
            continue
        if zlib.crc32(memoryview(data)[begin + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"the checksum of its {kind.decode()} is wrong")
        if kind == b"eXIf":
            exif = data[begin + 8 : end - 4]
            continue
        if kind in (b"IHDR", b"tRNS"):
            small[kind] = data[begin + 8 : end - 4]
        kept.append(data[begin:end])
    if len(small.get(b"IHDR", b"")) != 13 or small[b"IHDR"][9] not in _SAMPLES:
        raise ValueError("its header is none of a PNG")
    return b"".join(kept), exif, small


def png_is_complete(data: bytes, header: bytes) -> bool:
    """Whether the compressed data of a PNG gives as many bytes as its pixels need. Never holds more than 64 KB of it.

    header: contents of IHDR.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _SAMPLES[colour]
    passes = _ADAM7 if interlaced else ((0, 1, 0, 1),)
    expected = 0
    for top, down, left, right in passes:
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        expected += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    inflate, made = zlib.decompressobj(), 0
    for kind, begin, end in png_parts(data):
        if kind != b"IDAT":
            continue
        rest = data[begin + 8 : end - 4]
        while rest and made <= expected and not inflate.eof:
            try:
                made += len(inflate.decompress(rest, 1 << 16))
            except zlib.error:
                return False
            rest = inflate.unconsumed_tail
    return made >= expected


def png_without(data: bytes, *kinds: bytes) -> bytes:
    """The PNG without chunks of these types."""
    return PNG + b"".join(data[begin:end] for kind, begin, end in png_parts(data) if kind not in kinds)


def riff_exif(data: bytes) -> bytes:
    """The EXIF data of a WebP, b"" without any. Errors: EOFError where the file is cut short."""
    if len(data) < 12 or 8 + int.from_bytes(data[4:8], "little") > len(data):
        raise EOFError(CUT)
    at, exif = 12, b""
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            exif = data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return exif

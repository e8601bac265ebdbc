"""The first directory of a TIFF, which is also what EXIF data is: its tags, without believing what they say."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

ORIENTATION = 274
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}  # TIFF 6.0, p. 15, and BigTIFF


@dataclass(frozen=True)
class Directory:
    """Tags as {tag: (type, the bytes of its values)}; order: "<" or ">"; more: whether other pages follow."""

    tags: dict[int, tuple[int, bytes]]
    order: str
    more: bool

    def integers(self, tag: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The values of a tag, `default` where it is missing. Errors: ValueError if they are no whole numbers."""
        if tag not in self.tags:
            return default
        kind, raw = self.tags[tag]
        if kind not in _INTEGERS:
            raise ValueError(f"TIFF tag {tag} is no whole number")
        return tuple(np.frombuffer(raw, self.order + _INTEGERS[kind]).tolist())

    def integer(self, tag: int, default: int) -> int:
        """The first value of a tag, `default` where it is missing or empty. Errors: ValueError as `integers`."""
        return (*self.integers(tag), default)[0]

    @property
    def orientation(self) -> int:
        """1 to 8; 1, upright, where it is missing or makes no sense."""
        try:
            found = self.integer(ORIENTATION, 1)
        except ValueError:
            return 1
        return found if 1 <= found <= 8 else 1


def first(data: bytes) -> Directory:
    """The first directory of TIFF or EXIF data (without its "Exif" in front). Errors: ValueError if it is damaged.

    All values together are at most as long as the data: tags that share bytes could otherwise fill the memory.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 8:
        raise ValueError("no TIFF header")
    version = struct.unpack_from(order + "H", data, 2)[0]
    if version not in (42, 43):
        raise ValueError("no TIFF header")
    big = version == 43
    word, step = ("Q", 20) if big else ("I", 12)
    try:
        start = struct.unpack_from(order + word, data, 8 if big else 4)[0]
        count = struct.unpack_from(order + ("Q" if big else "H"), data, start)[0]
        start += 8 if big else 2
        if count * step > len(data):
            raise ValueError("its directory is cut short")
        tags, total = {}, 0
        for at in range(start, start + count * step, step):
            tag, kind, number = struct.unpack_from(order + "HH" + word, data, at)
            size = number * _SIZES.get(kind, 1)
            inline = size <= struct.calcsize(word)
            begin = at + step - struct.calcsize(word)
            begin = begin if inline else struct.unpack_from(order + word, data, begin)[0]
            total += size
            if begin + size > len(data) or total > len(data):
                raise ValueError(f"TIFF tag {tag} reaches beyond the file")
            tags[tag] = (kind, data[begin : begin + size])
        end = start + count * step
        after = struct.unpack_from(order + word, data, end)[0] if end + struct.calcsize(word) <= len(data) else 0
    except (struct.error, OverflowError) as error:
        raise ValueError("its directory is cut short") from error
    return Directory(tags, order, after != 0)


def orientation(exif: bytes) -> int:
    """1 to 8 of EXIF data; 1, upright, without any or where it is damaged: a picture can be seen without."""
    try:
        return first(exif.removeprefix(b"Exif\0\0")).orientation if exif else 1
    except ValueError:
        return 1


def upright(pixels: np.ndarray, turn: int) -> np.ndarray:
    """(h, w, ...) as its orientation says (TIFF 6.0, p. 36: where the first row and the first column belong)."""
    if turn in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if turn in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if turn >= 5:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(pixels)


def size_of(kind: int) -> int:
    """Bytes of a value of a TIFF type."""
    return _SIZES.get(kind, 1)

"""Hostile pictures and file names, made from a seed: what a stranger or a bad disk hands to a picture program.

`files(count, seed)` makes pictures that are cut short, bent, mislabelled, huge by their own word, empty, compressed a
thousandfold or hostile to an EXIF reader, and among them some that nothing is wrong with. Names are a list of their own
(`name_of`), since any of them may go with any contents. hostile_requests.py sends them over HTTP.
"""

from __future__ import annotations

import functools
import io
import pickle
import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

GOOD, BAD, EITHER = "good", "bad", "either"  # must be answered right; must be refused; may be taken or refused
MEDIA = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "tiff": "image/tiff",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "npy": "application/x-npy",
}
SUFFIXES = {"jpeg": ".jpg", "tiff": ".tif"} | {kind: f".{kind}" for kind in ("png", "webp", "gif", "bmp", "npy")}
_BOMB = 60_000  # pixels: a side that no reader may believe


@dataclass(frozen=True)
class File:
    """One file: its bytes, what its name should end with, how it must be met, and what is wrong with it."""

    data: bytes
    kind: str  # a key of MEDIA: what its name and type claim
    meant: str  # GOOD, BAD or EITHER
    why: str


def good_picture(rng: random.Random, kind: str = "png") -> bytes:
    """A picture of 8 to 40 pixels a side, of blocks of a few colours, as a file of that kind."""
    width, height = rng.randint(8, 40), rng.randint(8, 40)
    block = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (-(-height // 8), -(-width // 8), 3))
    pixels = block.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].astype(np.uint8)
    return _encoded(pixels, kind)


def _encoded(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, pixels)
    else:
        Image.fromarray(pixels).save(buffer, kind, **({"lossless": True} if kind == "webp" else {}))
    return buffer.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, idat: bytes, *more: bytes, bits: int = 8, colour: int = 2) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + b"".join(more) + _chunk(b"IDAT", idat) + _chunk(b"IEND", b"")


def _tiff(*tags: tuple[int, int, int, bytes], after: bytes = b"", next_ifd: int = 0) -> bytes:
    """A little-endian TIFF of one directory: (tag, type, count, 4 bytes of value or offset)."""
    ifd = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHI", *tag[:3]) + tag[3] for tag in tags)
    return b"II*\0" + struct.pack("<I", 8) + ifd + struct.pack("<I", next_ifd) + after


def _long(value: int) -> bytes:
    return struct.pack("<I", value)


# What is wrong with a picture: each makes a File from a generator of chance.


def _truncated(rng: random.Random) -> File:
    kind = rng.choice(list(MEDIA))
    data = good_picture(rng, kind)
    # Few bytes of a head are no picture to anyone; the last bytes of some kinds carry nothing.
    cut = rng.randrange(1, len(data))
    return File(data[:cut], kind, BAD if cut < 8 else EITHER, "cut short")


def _flipped(rng: random.Random) -> File:
    kind = rng.choice(list(MEDIA))
    data = bytearray(good_picture(rng, kind))
    for _ in range(rng.choice((1, 2, 8, 64))):
        data[rng.randrange(len(data) if rng.random() < 0.5 else min(len(data), 64))] ^= 1 << rng.randrange(8)
    return File(bytes(data), kind, EITHER, "bits flipped")


def _spliced(rng: random.Random) -> File:
    one, other = good_picture(rng, rng.choice(list(MEDIA))), good_picture(rng, rng.choice(list(MEDIA)))
    at = rng.randrange(1, min(len(one), len(other)))
    return File(one[:at] + other[at:], rng.choice(list(MEDIA)), EITHER, "the head of one picture, the rest of another")


def _mislabelled(rng: random.Random) -> File:
    kind, said = rng.sample([name for name in MEDIA if name != "npy"], 2)
    return File(good_picture(rng, kind), said, EITHER, "one kind under another's name")


def _no_picture(rng: random.Random) -> File:
    what, data = rng.choice(
        (
            ("HTML", b"<!doctype html><script>alert(1)</script>"),
            ("SVG with an entity bomb", b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aaaa">]><svg>&a;</svg>'),
            ("a ZIP", b"PK\x03\x04" + bytes(60)),
            ("a PDF", b"%PDF-1.7\n%%EOF"),
            ("a program", b"\x7fELF\x02\x01\x01" + bytes(60)),
            ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file pop\n"),
            ("text", "Bitte ein Bild! \N{SNOWMAN}\n".encode() * 9),
            ("a pickle", pickle.dumps({"a": 1})),
        )
    )
    return File(data, rng.choice(list(MEDIA)), BAD, f"{what} under a picture's name")


def _empty(rng: random.Random) -> File:
    return File(b"\n" * rng.choice((0, 0, 0, 1)), rng.choice(list(MEDIA)), BAD, "empty")


def _noise(rng: random.Random) -> File:
    data = rng.randbytes(rng.choice((1, 3, 16, 100, 5000)))
    kind = rng.choice(list(MEDIA))
    magic = {
        "png": b"\x89PNG\r\n\x1a\n",
        "jpeg": b"\xff\xd8\xff\xe0",
        "webp": b"RIFF\xff\xff\0\0WEBPVP8L",
        "tiff": b"II*\0",
        "gif": b"GIF89a",
        "bmp": b"BM",
        "npy": b"\x93NUMPY\1\0",
    }
    if rng.random() < 0.5:
        return File(magic[kind] + data, kind, EITHER, "the first bytes of a picture, then noise")
    return File(b"\0" + data, kind, BAD, "noise")


def _huge_by_its_head(rng: random.Random) -> File:
    """Little data, and a head that promises 3.6 thousand million pixels or more."""
    kind = rng.choice(("png", "jpeg", "webp", "tiff", "gif", "bmp", "npy"))
    w, h = rng.choice(((_BOMB, _BOMB), (65_535, 65_535), (60_001, 59_999)))
    row = zlib.compress(bytes(1000))
    if kind == "png":
        w, h = rng.choice(((w, h), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1)))
        data = _png(w, h, row, bits=rng.choice((1, 8, 16)), colour=0)
    elif kind == "jpeg":
        whole = bytearray(good_picture(rng, "jpeg"))
        at = whole.index(b"\xff\xc0")  # start of frame: marker, length, precision, height, width
        whole[at + 5 : at + 9] = struct.pack(">HH", w, h)
        data = bytes(whole)
    elif kind == "webp":
        canvas = struct.pack("<I", 2**24 - 1)[:3] * 2
        body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas + good_picture(rng, "webp")[12:]
        data = b"RIFF" + struct.pack("<I", len(body)) + body
    elif kind == "tiff":
        tags = [(256, 4, 1, _long(w)), (257, 4, 1, _long(h)), (258, 3, 1, _long(8)), (259, 3, 1, _long(1))]
        tags += [(262, 3, 1, _long(1)), (273, 4, 1, _long(8)), (277, 3, 1, _long(1)), (278, 4, 1, _long(h))]
        data = _tiff(*tags, (279, 4, 1, _long(1000)), after=bytes(1000))
    elif kind == "gif":
        whole = bytearray(good_picture(rng, "gif"))
        whole[6:10] = struct.pack("<HH", 65_535, 65_535)
        data = bytes(whole)
    elif kind == "bmp":
        whole = bytearray(good_picture(rng, "bmp"))
        whole[18:26] = struct.pack("<ii", w, rng.choice((h, -h)))
        data = bytes(whole)
    else:
        shape = rng.choice(((w, h, 3), (2**40, 3), (2**62, 4, 4), (-1, 8, 3), (10**30, 2)))
        head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        data = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + bytes(100)
    return File(data, kind, BAD, f"a {kind} that says it is huge")


@functools.cache
def _sixty_megabytes() -> bytes:
    """Of zeros, as 58 KB of zlib."""
    return zlib.compress(bytes(60_000_000), 9)


def _bomb(rng: random.Random) -> File:
    """Compressed a thousandfold: pixels, texts and profiles in a PNG, frames in a GIF, tags in a TIFF."""
    which = rng.randrange(6)
    picture = zlib.compress(b"".join(b"\0" + bytes(48) for _ in range(16)))  # 16x16 RGB, no filter
    zeros = _sixty_megabytes() if which in (0, 1, 2) else b""
    if which == 0:
        name, lead = rng.choice(((b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"p\0\0")))
        return File(_png(16, 16, picture, _chunk(name, lead + zeros)), "png", EITHER, f"a {name.decode()} bomb")
    if which == 1:
        return File(_png(16, 16, zeros), "png", EITHER, "far more pixels than the head says")
    if which == 2:
        return File(_png(30_000, 30_000, zeros, bits=1, colour=0), "png", BAD, "nine hundred million pixels in 58 KB")
    if which == 3:
        side = 1500
        pixels = zlib.compress(b"".join(b"\0" + bytes(side) for _ in range(side)), 9)
        return File(_png(side, side, pixels, colour=0), "png", EITHER, "two million pixels in 2 KB")
    if which == 4:
        frames = [Image.new("P", (16, 16), k % 256) for k in range(300)]
        buffer = io.BytesIO()
        frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
        return File(buffer.getvalue(), "gif", EITHER, "300 frames")
    count = rng.choice((2**31, 2**32 - 1, 10**9))
    tags = [(256, 4, 1, _long(16)), (257, 4, 1, _long(16)), (258, 3, 1, _long(8)), (259, 3, 1, _long(1))]
    tags += [(262, 3, 1, _long(1)), (270, rng.choice((2, 12, 16)), count, _long(8)), (273, 4, count, _long(8))]
    return File(_tiff(*tags, after=bytes(300)), "tiff", EITHER, "tags of thousands of millions of values")


def _tiff_loop(rng: random.Random) -> File:
    tags = [(256, 4, 1, _long(4)), (257, 4, 1, _long(4)), (258, 3, 1, _long(8)), (259, 3, 1, _long(1))]
    tags += [(262, 3, 1, _long(1)), (273, 4, 1, _long(200)), (277, 3, 1, _long(1)), (278, 4, 1, _long(4))]
    tags += [(279, 4, 1, _long(16)), (330, 4, 1, _long(8))]
    return File(_tiff(*tags, after=bytes(200), next_ifd=8), "tiff", EITHER, "a directory that is its own next one")


def _npy_odd(rng: random.Random) -> File:
    """Arrays that are no pictures; one would run a command if it were unpickled."""
    array = rng.choice(
        (
            np.zeros(0, np.uint8),
            np.zeros((0, 8, 3), np.uint8),
            np.zeros((2, 2, 2, 2, 2), np.uint8),
            np.zeros((8, 8, 3), np.complex64),
            np.full((8, 8, 3), np.nan, np.float32),
            np.full((8, 8, 3), 1e30, np.float64),
            np.zeros((8, 8, 3), "M8[s]"),
            np.array(["a", "b"]),
            np.zeros(4, [("x", "u1"), ("y", "f4")]),
            np.array(5, np.uint8),
        )
    )
    buffer = io.BytesIO()
    np.save(buffer, array)
    if rng.random() < 0.7:
        meant = BAD if array.dtype.kind not in "uf" or array.size == 0 or array.ndim in (0, 5) else EITHER
        return File(buffer.getvalue(), "npy", meant, f"an array of {array.dtype} {array.shape}")
    head = "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + "\n"
    trap = b"cbuiltins\nopen\n(S'pwned-by-a-pickle'\nS'w'\ntR."  # opens a file for writing, if it is run
    return File(b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + trap, "npy", BAD, "a pickle")


def _npy_head(rng: random.Random) -> File:
    """Heads that are evaluated by careless readers, or that are very long or nested."""
    text = rng.choice(
        (
            "__import__('os').system('touch pwned-by-a-head')",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (8, 8, 3), 'more': " + "[" * 3000 + "]" * 3000 + "}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': " + "9" * 9000 + "}",
            "(" * 9000,
            "",
        )
    )
    head = (text + "\n").encode()
    return File(b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + bytes(192), "npy", BAD, "an odd head")


def _exif_odd(rng: random.Random) -> File:
    orientation = rng.choice((0, 9, 65_535, 2**31))
    odd = rng.choice(
        (
            b"Exif\0\0" + _tiff((0x0112, 3, 1, _long(orientation))),
            b"Exif\0\0" + _tiff((0x0112, 2, 4, b"six\0")),
            b"Exif\0\0" + _tiff((0x0112, 5, 2**31, _long(0))),
            b"Exif\0\0" + _tiff((0x8769, 4, 1, _long(8)), next_ifd=8),
            b"Exif\0\0MM\0*\xff\xff\xff\xff",
            b"Exif\0\0" + rng.randbytes(50),
            b"Exif\0\0",
        )
    )
    data = good_picture(rng, "jpeg")
    app1 = b"\xff\xe1" + struct.pack(">H", len(odd) + 2) + odd
    return File(data[:2] + app1 + data[2:], "jpeg", EITHER, "odd EXIF")


def _tiny(rng: random.Random) -> File:
    width, height = rng.choice(((1, 1), (1, 9), (9, 1)))
    return File(_encoded(np.zeros((height, width, 3), np.uint8), "png"), "png", EITHER, "one pixel wide or high")


def _zero_side(rng: random.Random) -> File:
    width, height = rng.choice(((0, 0), (0, 9), (9, 0)))
    return File(_png(width, height, zlib.compress(b"")), "png", BAD, "a side of no pixels")


def _good(rng: random.Random) -> File:
    kind = rng.choice(("png", "png", "webp", "bmp", "tiff"))
    return File(good_picture(rng, kind), kind, GOOD, "nothing")


_KINDS = {
    _good: 12,
    _truncated: 16,
    _flipped: 20,
    _spliced: 6,
    _mislabelled: 5,
    _no_picture: 6,
    _empty: 3,
    _noise: 8,
    _huge_by_its_head: 9,
    _bomb: 2,
    _tiff_loop: 1,
    _npy_odd: 4,
    _npy_head: 2,
    _exif_odd: 4,
    _tiny: 1,
    _zero_side: 1,
}


def files(count: int, seed: int) -> Iterator[File]:
    """That many files, the same for the same seed; about one in eight is good."""
    rng = random.Random(seed)
    for make in rng.choices(list(_KINDS), list(_KINDS.values()), k=count):
        yield make(rng)


NAMES = (
    "{}",
    " {} ",
    "-o {}",
    "--overwrite={}",
    "{}\n",
    "{}\r\nSet-Cookie: a=b",
    "new\nline {}",
    "tab\t{}",
    "bell\a{}",
    "\x1b[2J{}",
    "[{}]*?",
    "{}%00",
    "%2e%2e%2f{}",
    "..{}",
    "...{}..",
    "~{}",
    "$({})",
    "`{}`",
    "{};rm -rf .",
    "C:\\{}",
    "..\\..\\{}",
    "CON {}",
    "{}.PNG.exe",
    "\N{RIGHT-TO-LEFT OVERRIDE}{}gnp",
    "e\N{COMBINING ACUTE ACCENT}{}\N{LATIN SMALL LETTER E WITH ACUTE}",
    "\N{ZERO WIDTH JOINER}{}",
    "\N{FULLWIDTH SOLIDUS}etc\N{FULLWIDTH SOLIDUS}{}",
    "\N{GRINNING FACE}{}",
    "<script>{}<b>",
    "'\"{}",
    "long{}" + 200 * "x",
    "\udcff\udc80{}",  # bytes that are not UTF-8, as Python reads them from a disk
)

PATHS = ("../../{}", "/etc/{}", "//{}", "a/../../{}", "..", ".", "", "{}\0", "\0", "/", "NUL:{}", 9000 * "y")


def name_of(rng: random.Random, token: str, suffix: str) -> str:
    """A name that a file can have on Linux (at most 255 bytes, no slash, no NUL), odd in one of many ways."""
    return rng.choice(NAMES).format(token) + suffix

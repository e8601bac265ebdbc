"""Frames of a pipe, told apart without a length in front: JPEG after JPEG, PNG after PNG, or raw pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from pygan.errors import UserError
from pygan.pixels import containers

_CHUNK = 1 << 16  # bytes, what a pipe holds
_BETWEEN = 1 << 10  # bytes between two frames
_MARKS = {
    "mjpeg": re.compile(re.escape(containers.JPEG)),
    "png": re.compile(re.escape(containers.PNG)),
    "auto": re.compile(re.escape(containers.JPEG) + b"|" + re.escape(containers.PNG)),
}
_ENDS = re.compile(b"\xff\xd9|IEND")  # without one of these in it, what came is not the end of a frame
_END = 16  # bytes, in which all of an end has room
_NAMES = {"mjpeg": "JPEG", "png": "PNG", "auto": "JPEG or PNG"}


def raw(file: BinaryIO, *, length: int) -> Iterator[bytes | UserError]:
    """Frames of so many bytes each; an error for a last one that is cut short."""
    if length < 1:
        raise UserError("--stream rgb24:WxH: a frame has at least one pixel")
    waiting = bytearray()
    while chunk := file.read(_CHUNK if length > _CHUNK else length - len(waiting) % length):
        waiting += chunk
        while len(waiting) >= length:
            yield bytes(waiting[:length])
            del waiting[:length]
    if waiting:
        yield UserError(f"the stream ends within it, {len(waiting):,} of {length:,} bytes came")


def pictures(file: BinaryIO, kind: str, *, most: int) -> Iterator[bytes | UserError]:
    """The files that are in the stream one after the other, and an error for each that is broken.

    kind: mjpeg, png, or auto for both. most: bytes of a frame; a longer one is an error. After an error the next frame
    begins at the next mark of one, so a camera that was disturbed is seen again.
    """
    marks = _MARKS[kind]
    waiting, more, lost = bytearray(), True, False
    open_to = 0  # no frame that begins the data ends before this byte
    while more or waiting:
        if more:
            chunk = file.read(_CHUNK)
            more = bool(chunk)
            waiting += chunk or b""
        while waiting:
            begin = _first(waiting, marks, 0)
            if begin < 0 and more and len(waiting) < _BETWEEN:
                break  # the head of a part, perhaps
            between = bytes(waiting[: begin if begin >= 0 else len(waiting)])
            if between and not lost and not _separates(between):
                lost = True
                yield UserError(f"no {_NAMES[kind]} begins there")
            # The first bytes of a mark may be the last that came.
            del waiting[: begin if begin >= 0 else len(waiting) - 7 if more else len(waiting)]
            open_to = 0 if begin else open_to
            if begin < 0:
                break
            if more and open_to and len(waiting) <= most and not _ENDS.search(waiting, open_to):
                open_to = max(1, len(waiting) - _END)
                break
            try:
                end = _end(waiting)
            except EOFError as error:
                if more and len(waiting) <= most:
                    open_to = max(1, len(waiting) - _END)
                    break
                yield UserError(str(error) if not more else f"a frame of more than {most:,} bytes")
                end = None
            except ValueError as error:
                yield UserError(str(error))
                end = None
            lost, open_to = end is None, 0
            if end is None:  # begin anew behind its mark
                begin = _first(waiting, marks, 1)
                del waiting[: begin if begin > 0 else max(1, len(waiting) - 7) if more else len(waiting)]
                continue
            yield bytes(waiting[:end])
            del waiting[:end]


def _separates(between: bytes) -> bool:
    """Whether bytes between two frames may be there: padding, or the head of a part of multipart/x-mixed-replace."""
    between = between.strip(b"\0\r\n ")
    return not between or between.startswith(b"--")


def _first(data: bytearray, marks: re.Pattern[bytes], start: int) -> int:
    """Where the first mark is, -1 without one."""
    found = marks.search(data, start)  # both at once: the one that is not there would be looked for to the end
    return found.start() if found else -1


def _end(data: bytearray) -> int:
    """Where the frame that begins the data ends. Errors: EOFError if not within it, ValueError if it is damaged."""
    parts = containers.png_parts if data.startswith(containers.PNG) else containers.jpeg_parts
    end = 0
    for _, _, end in parts(data):  # noqa: B007
        pass
    return end

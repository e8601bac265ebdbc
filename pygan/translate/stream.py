"""A stream of frames, as of a camera: one after the other from a pipe, and results in the same manner into another.

    ffmpeg -i VIDEO -f mjpeg -q 2 - | pygan translate RUN --stream - -o - | ffplay -f mjpeg -

Three threads: one reads and decodes, this one has the network, one encodes and writes. Between them wait at most two
frames, so when the reader of the results is slower nothing piles up: the pipe fills, and its writer waits.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pygan import pixels
from pygan.data import images
from pygan.errors import UserError, say
from pygan.pixels import Picture
from pygan.translate import frames
from pygan.translate.one import standard_input, standard_output
from pygan.translate.work import Work

_WAITING = 2  # frames between two threads: enough that none idles, few enough that results are of now
_SAY_EVERY_S = 5.0
_MOST_SAID = 5  # lines about broken frames in that time


@dataclass(frozen=True)
class Kind:
    """How frames are told apart. name: auto, mjpeg, png or rgb24; width and height in pixels of rgb24 alone."""

    name: str
    width: int = 0
    height: int = 0


def kind_of(text: str, inputs: Sequence[str], output: Path | str, format: str) -> Kind:  # noqa: A002
    """What `--stream` says. Errors: UserError, also where the other flags do not fit to a stream."""
    name, _, size = text.partition(":")
    width, _, height = size.partition("x")
    if name == "rgb24" and width.isdecimal() and height.isdecimal():
        kind = Kind(name, int(width[:9]), int(height[:9]))
        try:
            images.check_size(kind.width, kind.height)
        except UserError as error:
            raise UserError(f"--stream {text}: {error}") from None
    elif text in ("auto", "mjpeg", "png"):
        kind = Kind(text)
    else:
        raise UserError(f"--stream must be auto, mjpeg, png or rgb24:WxH (rgb24:640x480), got {text!r}")
    if len(inputs) != 1:
        raise UserError(f"--stream reads frames of one input, - or a file, got {len(inputs)}")
    if str(output) != "-":
        raise UserError("--stream writes frames to standard output: -o -")
    if format not in ("auto", "png", "jpg"):
        raise UserError(f"--format {format}: frames are jpg or png; leave it out for the kind that comes in")
    if kind.name == "rgb24" and format != "auto":
        raise UserError(f"--format {format}: frames of rgb24 become frames of rgb24; leave it out")
    return kind


def through(work: Work, source: str, kind: Kind) -> int:
    """Translate the frames of `source` ("-" or a file) to standard output until they end or nobody reads on.

    A broken frame is left out and named by its number. Returns the exit code: 2 if there was one.
    """
    if work.channels not in (1, 3) or work.depth == "float":
        what = "--depth float" if work.depth == "float" else f"results of {work.channels} channels"
        raise UserError(f"{what}: a frame is a jpg or a png, which cannot hold that; translate files")
    out = standard_output()
    with _opened(source) as file:
        flow = _Flow(work, file, out, kind)
        try:
            return flow.run()
        except KeyboardInterrupt:
            say(f"interrupted; {flow.done} frames were translated")
            return 130
        finally:
            flow.stop()


def _opened(source: str) -> BinaryIO:
    # Unbuffered: a frame is to be seen as soon as it is there, not when 8 KB are.
    if source == "-":
        number = os.dup(standard_input().fileno())
        os.set_blocking(number, True)  # another program may have left it otherwise
        return os.fdopen(number, "rb", buffering=0)
    try:
        return open(source, "rb", buffering=0)
    except OSError as error:
        raise UserError(f"cannot read {source} ({error.strerror}); --stream takes - or a file of frames") from error


class _Flow:
    """The threads of a stream and the queues between them, from `run` to `stop`."""

    def __init__(self, work: Work, file: BinaryIO, out: BinaryIO, kind: Kind) -> None:
        self._work, self._file, self._out, self._kind = work, file, out, kind
        self._given: queue.Queue[Any] = queue.Queue(_WAITING)
        self._made: queue.Queue[Any] = queue.Queue(_WAITING)
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self.done = self._broken = self._said = 0
        self._since = self._began = time.monotonic()

    def run(self) -> int:
        reader = threading.Thread(target=self._guarded, args=(self._read,), name="pygan-frames", daemon=True)
        writer = threading.Thread(target=self._guarded, args=(self._write,), name="pygan-results", daemon=True)
        reader.start()
        writer.start()
        while (item := self._get(self._given)) is not None:
            number, picture, like = item
            made = picture
            if isinstance(picture, Picture):
                (made,) = self._work.results([picture], [f"frame {number}"])
            if isinstance(made, UserError):
                self._leave_out(made)
                continue
            self._put(self._made, (made, like))
            self._show()
        self._put(self._made, None)
        while writer.is_alive():
            writer.join(timeout=0.1)
        if self._failure is not None:
            raise self._failure
        seconds = time.monotonic() - self._began
        left_out = f"; {self._broken} could not be read" if self._broken else ""
        say(f"translated {self.done} frames ({self.done / max(seconds, 1e-9):.1f} frames/s){left_out}")
        return 2 if self._broken else 0

    def stop(self) -> None:
        """Let the threads end; what they wait for never comes."""
        self._over.set()

    def _guarded(self, act: Any) -> None:
        try:
            act()
        except BrokenPipeError:
            say("nobody reads the results any more")
            self._over.set()
        except OSError as error:
            self._failure = UserError(f"the stream broke off ({error.strerror}) after {self.done} frames")
            self._over.set()
        except Exception as error:  # told by the thread that waits
            self._failure = error
            self._over.set()

    def _read(self) -> None:
        for number, frame in enumerate(self._frames(), start=1):
            if self._over.is_set():
                return
            name = f"frame {number}"
            picture: Picture | UserError
            if isinstance(frame, UserError):
                picture = UserError(f"cannot use {name}: {frame}")
            else:
                picture = frame if isinstance(frame, Picture) else self._decoded(frame, name)
            like = "jpg" if isinstance(frame, bytes) and frame[:2] == b"\xff\xd8" else "png"
            self._put(self._given, (number, picture, like))
        self._put(self._given, None)

    def _frames(self) -> Iterator[bytes | Picture | UserError]:
        if self._kind.name != "rgb24":
            yield from frames.pictures(self._file, self._kind.name, most=pixels.most_bytes(self._work.most_pixels))
            return
        shape = (self._kind.height, self._kind.width, 3)
        for frame in frames.raw(self._file, length=shape[0] * shape[1] * shape[2]):
            yield frame if isinstance(frame, UserError) else Picture(np.frombuffer(frame, np.uint8).reshape(shape))

    def _decoded(self, frame: bytes, name: str) -> Picture | UserError:
        try:
            return self._work.read(frame, name)
        except UserError as error:
            return error

    def _write(self) -> None:
        while (item := self._get(self._made)) is not None:
            made, like = item
            if self._kind.name == "rgb24":
                data = pixels.with_channels(pixels.to_depth(made.pixels, np.uint8), 3).tobytes()
            else:
                data = self._encoded(made, like)
            view = memoryview(data)
            while view:  # an unbuffered pipe may take a part
                view = view[self._out.write(view) :]
            self._out.flush()
            self.done += 1

    def _encoded(self, made: Picture, like: str) -> bytes:
        kind = like if self._work.format == "auto" else self._work.format
        if kind == "jpg" and made.pixels.shape[2] not in (1, 3):
            kind = "png"
        return self._work.encode(made, kind)

    def _leave_out(self, error: UserError) -> None:
        self._broken += 1
        self._said += 1
        if self._said <= _MOST_SAID:
            say(str(error))

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._since > _SAY_EVERY_S:
            say(f"{self.done} frames  {self.done / (now - self._began):.1f} frames/s")
            if self._said > _MOST_SAID:
                say(f"and {self._said - _MOST_SAID} frames more that could not be used")
            self._since, self._said = now, 0

    def _put(self, to: queue.Queue[Any], item: Any) -> None:
        """Wait for room; not for ever: the other end may be gone."""
        while not self._over.is_set():
            try:
                return to.put(item, timeout=0.1)
            except queue.Full:
                continue

    def _get(self, of: queue.Queue[Any]) -> Any:
        """The next item; None at the end, also when the other end is gone."""
        while not self._over.is_set():
            try:
                return of.get(timeout=0.1)
            except queue.Empty:
                continue
        return None

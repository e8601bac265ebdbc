"""What came in: a body within its limits and its time, the parts of a form, the values of a query."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pygan.serve.answers import Refused

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

PICTURE_TYPES = (
    "image/png", "image/jpeg", "image/webp", "image/tiff", "image/bmp", "image/gif", "application/x-npy",
    "application/octet-stream",
)  # fmt: skip
"""Media types of a body that is a picture. What it really is, its first bytes say."""

MOST_JSON = 1 << 16  # bytes
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # what is wrong with a form, its sender is told
_NUMBER = re.compile("0|[1-9][0-9]{0,18}")
_NAME = 255  # characters of a file's name that are given back


@dataclass
class Part:
    """A field of a form: a file, if it has a name."""

    key: str = ""
    name: str | None = None
    data: bytearray = field(default_factory=bytearray)


class Bodies:
    """Reads bodies; all that are being read and held hold `budget` bytes at most."""

    def __init__(self, budget: int) -> None:
        self._left = budget

    async def read(self, headers: Mapping[str, str], receive: Any, most: int, timeout_s: float) -> Held:
        """The whole body.

        Errors: Refused: 411 without a length, 415 packed, 413 too long, 408 too slow, 429 no memory for it.
        """
        if (packed := headers.get("content-encoding", "identity").lower()) not in ("", "identity"):
            raise Refused(415, f"a body with Content-Encoding {packed[:60]!r} is not unpacked; send it plain")
        length = headers.get("content-length")
        if length is None and "transfer-encoding" not in headers:
            raise Refused(411, "the request has no body: send it with a Content-Length, or in chunks")
        if length is not None and int(length) > most:
            waits = "expect" in headers  # for leave to send it, which it does not get
            raise Refused(413, f"the body has {int(length):,} bytes; at most {most:,} are taken", "bytes", close=waits)
        held = Held(self)
        try:
            async with asyncio.timeout(timeout_s):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise Left
                    held.add(message.get("body", b""), most)
                    more = message.get("more_body", False)
        except TimeoutError:
            held.close()
            raise Refused(408, f"the body did not arrive within {timeout_s:g} s", "slow", close=True) from None
        except BaseException:
            held.close()
            raise
        return held

    def take(self, n: int) -> None:
        """Errors: Refused."""
        if n > self._left:
            raise Refused(429, "the server holds as many bytes as it may; try again", "memory", retry_s=1)
        self._left -= n

    def give(self, n: int) -> None:
        self._left += n


class Held:
    """A body in memory, until `close`."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies, self.data = bodies, bytearray()

    def add(self, data: bytes, most: int) -> None:
        """Errors: Refused."""
        if len(self.data) + len(data) > most:
            raise Refused(413, f"the body has more than the {most:,} bytes that are taken", "bytes")
        self._bodies.take(len(data))
        self.data += data

    def close(self) -> None:
        """Let go of it. May be called twice."""
        self._bodies.give(len(self.data))
        self.data = bytearray()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Left(Exception):
    """The client went away."""


def media_type(headers: Mapping[str, str]) -> str:
    """The type of the body, without its parameters, in lower case; "" where none is said."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def pictures(content_type: str, body: bytes, most: int) -> list[Part]:
    """The files of the fields `image` of a multipart form. Errors: Refused."""
    parts = multipart(content_type, body, most)
    for part in parts:
        if part.key != "image":
            raise Refused(422, f"the form has a field {part.key[:60]!r}; only image is taken")
    if not parts:
        raise Refused(422, "the form has no field image")
    return parts


def multipart(content_type: str, body: bytes, most: int) -> list[Part]:
    """The fields of a multipart form, `most` at most. Errors: Refused."""
    _, parameters = parse_options_header(content_type)
    boundary = parameters.get(b"boundary")
    if not boundary:
        raise Refused(400, "the multipart body says no boundary in its Content-Type")
    parts: list[Part] = []
    header: dict[str, bytearray] = {"name": bytearray(), "value": bytearray()}
    disposition = b""
    ended = False

    def begin() -> None:
        nonlocal disposition
        if len(parts) == most:
            raise Refused(422, f"the form has more than the {most} fields that are taken at once", "pictures")
        parts.append(Part())
        disposition = b""

    def header_end() -> None:
        nonlocal disposition
        if bytes(header["name"]).lower() == b"content-disposition":
            disposition = bytes(header["value"])
        header["name"].clear()
        header["value"].clear()

    def headers_end() -> None:
        _, options = parse_options_header(disposition)
        parts[-1].key = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" in options:
            parts[-1].name = options[b"filename"].decode("utf-8", "replace")[:_NAME]

    def end() -> None:
        nonlocal ended
        ended = True

    callbacks: MultipartCallbacks = {
        "on_part_begin": begin,
        "on_header_field": lambda data, a, b: header["name"].extend(data[a:b]),
        "on_header_value": lambda data, a, b: header["value"].extend(data[a:b]),
        "on_header_end": header_end,
        "on_headers_finished": headers_end,
        "on_part_data": lambda data, a, b: parts[-1].data.extend(data[a:b]),
        "on_end": end,
    }
    try:
        parser = MultipartParser(boundary, callbacks)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise Refused(400, "the body is not the multipart form that its Content-Type says") from error
    if not ended:
        raise Refused(400, "the multipart form has no end")
    return parts


def query(pairs: Sequence[tuple[str, str]], known: Sequence[str]) -> dict[str, str]:
    """The values of a query, each at most once. Errors: Refused."""
    values: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise Refused(422, f"{name[:60]!r} cannot be asked here; there are {', '.join(known)}")
        if name in values:
            raise Refused(422, f"{name} is said twice")
        values[name] = value
    return values


def seed(text: str) -> int:
    """Errors: Refused."""
    if not _NUMBER.fullmatch(text) or int(text) >= 1 << 63:
        raise Refused(422, f"seed must be in 0..2**63-1, got {text[:60]!r}")
    return int(text)


def choice(name: str, value: str, known: Sequence[str]) -> str:
    """Errors: Refused."""
    if value not in known:
        raise Refused(422, f"{name} must be one of {', '.join(known)}, got {value[:60]!r}")
    return value


def asked_of_noise(body: bytes, *, most: int, texts: bool) -> tuple[int, int | None, str | None]:
    """(n, seed, sentence) of the JSON of `POST /v1/generate`. texts: is a sentence needed? Errors: Refused."""
    try:
        values = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "the body is not JSON") from error
    if not isinstance(values, dict):
        raise Refused(422, "the body must be a JSON object")
    for name in values:
        if name not in ("n", "seed", "text"):
            raise Refused(422, f"{name[:60]!r} cannot be asked here; there are n, seed, text")
    n = _whole("n", values.get("n", 1), 1, most)
    drawn = _whole("seed", values["seed"], 0, (1 << 63) - 1) if "seed" in values else None
    said = values.get("text")
    if (said is not None) != texts or not isinstance(said, str | None):
        raise Refused(422, "text must be a sentence: what is to be seen" if texts else "this network takes no text")
    if said is not None and (not said.strip() or len(said) > 1000):
        raise Refused(422, "text must say something, in at most 1,000 characters")
    if said is not None and any("\ud800" <= letter <= "\udfff" for letter in said):
        raise Refused(422, "text has half a character (a lone surrogate)")
    return n, drawn, said


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, float) and value.is_integer():  # 1.0 is an integer to JSON Schema
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refused(422, f"{name} must be a whole number in {least}..{most}")
    return value


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def reason(error: BaseException) -> str:
    """An error as one line."""
    return " ".join(str(error).split())

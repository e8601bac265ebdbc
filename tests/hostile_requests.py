"""Hostile HTTP requests, byte for byte, from a seed: hostile_files.py's pictures and names, in odd bodies and paths."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from hostile_files import BAD, EITHER, GOOD, MEDIA, NAMES, PATHS, SUFFIXES, File, files, good_picture


@dataclass(frozen=True)
class Request:
    """One HTTP request as it goes over the wire.

    picture: what a good answer is an answer to, else b"". whole: False if the request itself breaks off or is not
    HTTP, so that a closed connection is an answer too.
    """

    data: bytes
    meant: str
    why: str
    picture: bytes = b""
    whole: bool = True


def _disposition(rng: random.Random, token: str, suffix: str) -> bytes:
    """The name as a client may send it: quoted or not, escaped or not, with a path, a NUL or nothing in it."""
    name = rng.choice(NAMES + PATHS).format(token) + rng.choice((suffix, ""))
    text = name.encode("utf-8", "surrogateescape").replace(b"\r", b"%0D").replace(b"\n", b"%0A").replace(b'"', b"%22")
    return rng.choice(
        (b'filename="%b"' % text, b"filename=\"x.png\"; filename*=UTF-8''%b" % text.replace(b" ", b"%20"))
    )


def _raw(method: str, target: str, body: bytes = b"", headers: tuple[str, ...] = (), length: str | None = "") -> bytes:
    """A whole HTTP/1.1 request that asks for the connection to be closed after it. length: another Content-Length."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length or len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + body


def translate(model: str, picture: bytes, media: str, *, meant: str = GOOD, why: str = "nothing") -> Request:
    """The picture as the raw body, under that type."""
    data = _raw("POST", f"/v1/translate/{model}", picture, (f"Content-Type: {media}",))
    return Request(data, meant, f"body: {why}", picture)


def _post_file(rng: random.Random, model: str, file: File) -> Request:
    return translate(model, file.data, MEDIA[file.kind], meant=file.meant, why=file.why)


def _post_form(rng: random.Random, model: str, file: File) -> Request:
    """The file as a field of a form, with an odd name."""
    head = b'--sep\r\nContent-Disposition: form-data; name="image"; '
    head += _disposition(rng, "form", SUFFIXES[file.kind]) + b"\r\nContent-Type: " + MEDIA[file.kind].encode()
    body = head + b"\r\n\r\n" + file.data + b"\r\n--sep--\r\n"
    data = _raw("POST", f"/v1/translate/{model}", body, ("Content-Type: multipart/form-data; boundary=sep",))
    # What a name does to the parser is the parser's: a good picture may be refused for it, but never wrongly answered.
    return Request(data, EITHER if file.meant == GOOD else file.meant, f"form: {file.why}", file.data)


def _wrong_type(rng: random.Random, model: str, file: File) -> Request:
    kind = rng.choice(("text/html", "application/json", "application/x-www-form-urlencoded", "a", "/", "image/", "é/ü"))
    body = file.data or b"x"
    return Request(_raw("POST", f"/v1/translate/{model}", body, (f"Content-Type: {kind}",)), EITHER, f"type {kind}")


def _broken_form(rng: random.Random, model: str, file: File) -> Request:
    part = b'--sep\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    which = rng.randrange(9)
    boundary = "sep"
    if which == 0:
        boundary, body = "", part % (b"image", file.data) + b"--sep--\r\n"
    elif which == 1:
        boundary, body = "other", part % (b"image", file.data) + b"--sep--\r\n"
    elif which == 2:
        body = part % (b"image", file.data)  # no end
    elif which == 3:
        body = part % (b"picture", file.data) + b"--sep--\r\n"
    elif which == 4:
        body = (part % (b"image", b"x")) * 2000 + b"--sep--\r\n"
    elif which == 5:
        body = b"--sep\r\n" + b"X-Long: " + b"y" * 200_000 + b"\r\n\r\nx\r\n--sep--\r\n"
    elif which == 6:
        body = b"--sep\r\nContent-Disposition: \xff\xfe\r\n\r\nx\r\n--sep--\r\n"
    elif which == 7:
        boundary, body = "s" * 5000, b"--sep--\r\n"
    else:
        body = b""
    target = f"/v1/translate/{model}{rng.choice(('', '/batch'))}"
    kind = (
        f"Content-Type: multipart/form-data; boundary={boundary}" if boundary else "Content-Type: multipart/form-data"
    )
    # A form that does not end, or a batch whose pictures are each refused, has been read as far as it makes sense.
    return Request(_raw("POST", target, body, (kind,)), EITHER, "a broken form")


def _odd_target(rng: random.Random, model: str, file: File) -> Request:
    target = rng.choice(
        (
            "/v1/translate/../../../etc/passwd",
            "/v1/translate/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
            "/static/../../../../etc/passwd",
            "/static/%2e%2e/%2e%2e/__init__.py",
            "/static/..%2f..%2f__init__.py",
            "/static//etc/passwd",
            "/static/%00",
            "/static/\\..\\..\\app.py",
            "/v1/translate/%00",
            "/v1/translate/" + "a" * 5000,
            "/v1/translate/no-such-model",
            "/v1/translate/%f0%28%8c%28",
            "//evil.example/x",
            "/v1/models/../../x",
            "/.git/config",
            "/%",
        )
    )
    method = rng.choice(("GET", "POST"))
    return Request(_raw(method, target, file.data if method == "POST" else b""), BAD, f"{method} {target[:60]}")


def _odd_query(rng: random.Random, model: str, file: File) -> Request:
    query = rng.choice(
        (
            "seed=-1",
            "seed=1e9",
            "seed=" + "9" * 400,
            "seed=NaN",
            "seed=",
            "seed=%00",
            "format=exe",
            "format=../../x",
            "format=" + "p" * 3000,
            "direction=sideways",
            "direction=%0d%0aSet-Cookie:%20a=b",
            "to=" + "," * 2000,
            "to=Nobody",
        )
    )
    picture = good_picture(rng)
    data = _raw("POST", f"/v1/translate/{model}?{query}", picture, ("Content-Type: image/png",))
    return Request(data, BAD, f"query {query[:40]}")


def _odd_method(rng: random.Random, model: str, file: File) -> Request:
    method = rng.choice(("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"))
    return Request(_raw(method, f"/v1/translate/{model}", file.data), BAD, f"method {method}")


def _odd_json(rng: random.Random, model: str, file: File) -> Request:
    body = rng.choice(
        (
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"n": -1}',
            b'{"n": 1e99}',
            b'{"n": "many"}',
            b'{"n": NaN}',
            b'{"n": 1, "seed": 1e400}',
            b"[" * 20_000,
            b'{"text": "\\ud800"}',
            b"\xff\xfe\0\0",
            json.dumps({"n": 10**9}).encode(),
        )
    )
    return Request(
        _raw("POST", f"/v1/generate/{model}", body, ("Content-Type: application/json",)), BAD, f"JSON {body[:30]!r}"
    )


def _odd_lengths(rng: random.Random, model: str, file: File) -> Request:
    target, body = f"/v1/translate/{model}", good_picture(rng)
    kind = "Content-Type: image/png"
    which = rng.randrange(6)
    if which == 0:
        data, why = _raw("POST", target, body[: len(body) // 2], (kind,), str(len(body))), "half a body, then gone"
    elif which == 1:
        data, why = _raw("POST", target, b"x", (kind,), str(10**12)), "a body of a terabyte"
    elif which == 2:
        data, why = _raw("POST", target, body, (kind,), "-5"), "a length below zero"
    elif which == 3:
        data, why = (
            _raw("POST", target, body, (kind, "Transfer-Encoding: chunked"), None),
            "chunked, without chunks",
        )
    elif which == 4:
        return Request(_raw("POST", target, b"", (kind,)), BAD, "an empty body")
    else:
        data = _raw("POST", target, body, (kind, "Content-Encoding: gzip"))
        return Request(data, EITHER, "no gzip, though it says so")
    return Request(data, BAD, why, whole=False)


def _no_http(rng: random.Random, model: str, file: File) -> Request:
    data = rng.choice(
        (
            rng.randbytes(200),
            b"GET\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + rng.randbytes(100),  # somebody speaks TLS
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200_000,
            b"GET / HTTP/1.1\r\nHost: a\r\nNo colon here\r\n\r\n",
            b"",
        )
    )
    return Request(data, BAD, "no HTTP", whole=False)


_REQUESTS = {
    _post_file: 50,
    _post_form: 16,
    _wrong_type: 4,
    _broken_form: 7,
    _odd_target: 7,
    _odd_query: 5,
    _odd_method: 3,
    _odd_json: 4,
    _odd_lengths: 2,
    _no_http: 2,
}


def requests(count: int, seed: int, model: str) -> Iterator[Request]:
    """That many requests to a server that translates with `model`, the same for the same seed."""
    rng = random.Random(seed)
    makers = rng.choices(list(_REQUESTS), list(_REQUESTS.values()), k=count)
    for make, file in zip(makers, files(count, seed + 1), strict=True):
        yield make(rng, model, file)

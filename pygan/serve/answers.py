"""What goes out: JSON, pictures, and errors of one line; every answer with the headers that keep a browser safe."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",  # with less, a browser says of the form of /login that it comes from nowhere
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MEDIA_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
    "tiff": "image/tiff",
    "npy": "application/x-npy",
}


class Refused(Exception):
    """A request that is not done: a status, one line, and what it counts as in the metrics."""

    def __init__(self, status: int, line: str, why: str = "", *, retry_s: int = 0, close: bool = False) -> None:
        super().__init__(line)
        self.status, self.why, self.retry_s, self.close = status, why or str(status), retry_s, close
        self.headers: dict[str, str] = {}

    def response(self) -> Response:
        headers = self.headers | ({"Retry-After": str(self.retry_s)} if self.retry_s else {})
        headers |= {"Connection": "close"} if self.close else {}
        return as_json({"error": " ".join(str(self).split())}, self.status, headers)


def as_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON, in ASCII, so that no byte of a name can hurt a terminal."""
    body = json.dumps(value, separators=(",", ":")).encode()
    return Response(body, status, headers, "application/json")

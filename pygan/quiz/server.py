"""The test as a web page of this machine: which request may do what."""

from __future__ import annotations

import errno
import hashlib
import ipaddress
import json
import secrets
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any

import numpy as np

from pygan.errors import UserError, say, say_once
from pygan.quiz.pool import to_png
from pygan.quiz.sessions import Refused, Sessions

_MOST_BYTES = 4096  # of a request's body
_MOST_PICTURES = 4096  # that were promised and not yet fetched
_SILENT_S = 30  # a client that says nothing for so long is left
_COOKIE_S = 30 * 86_400
_ASSETS = {"/": ("page.html", "text/html"), "/quiz.js": ("page.js", "text/javascript")}
_ASSETS |= {"/quiz.css": ("page.css", "text/css")}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Has an address from the beginning, `url`, and serves a test there from `begin` to `shutdown`.

    Errors: UserError if the address cannot be had.
    """

    daemon_threads = True

    test: Sessions
    told: dict[str, Any]
    cookie: str

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._waiting: dict[str, np.ndarray] = {}  # address -> picture; each is given away once
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UserError(_no_address(host, port, error)) from error
        name = socket.gethostname() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        self.url = f"http://{name}:{self.server_address[1]}/"

    def begin(self, test: Sessions, told: Mapping[str, Any]) -> None:
        """Serve in a thread of its own. told: what the page needs to know before anything is asked."""
        self.test, self.told = test, dict(told)
        # Cookies do not know ports: each file of results has a name of its own.
        own = hashlib.sha256(f"{test.kind} {test.results.path.resolve()}".encode(errors="surrogateescape"))
        self.cookie = f"pygan_quiz_{own.hexdigest()[:8]}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def server_bind(self) -> None:
        """Without asking a name server, which can take seconds, what this machine is called."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def promise(self, pictures: list[np.ndarray]) -> list[str]:
        """Addresses at which these pictures, uint8 (h, w, 3), can be fetched, each once. The names are random."""
        with self._lock:
            names = [f"/picture/{secrets.token_hex(16)}" for _ in pictures]
            self._waiting |= dict(zip(names, pictures, strict=True))
            while len(self._waiting) > _MOST_PICTURES:  # promised to pages that are gone
                self._waiting.pop(next(iter(self._waiting)))
            return names

    def take(self, name: str) -> np.ndarray | None:
        """The picture at an address, which is empty from now on."""
        with self._lock:
            return self._waiting.pop(name, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is nobody's error; anything else is said in a line."""
        error = sys.exception()
        if not isinstance(error, OSError):
            say_once(f"a request failed ({type(error).__name__}: {error}); the quiz goes on")


class _Handler(BaseHTTPRequestHandler):
    """One request. Every way out sends an answer of known length."""

    protocol_version = "HTTP/1.1"
    timeout = _SILENT_S
    server_version, sys_version = "pygan", ""
    server: Server

    def do_GET(self) -> None:
        self._serve({"/state": self._state} | dict.fromkeys(_ASSETS, self._asset), self._picture)

    def do_POST(self) -> None:
        self._serve({"/start": self._start, "/show": self._show, "/answer": self._answer, "/leave": self._leave})

    def _wrong_method(self) -> None:
        self._serve({})

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _wrong_method  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """The console is for the person who runs the quiz."""

    def _serve(self, known: Mapping[str, Callable[[], None]], other: Callable[[], None] | None = None) -> None:
        try:
            self._check_who_asks()
            self.path = self.path.partition("?")[0]  # some browsers inside editors add something
            if self.path in known:
                known[self.path]()
            elif other is not None and self.path.startswith("/picture/"):
                other()
            elif self.path in (*_ASSETS, "/state", "/start", "/show", "/answer", "/leave"):
                raise Refused(405, "not in this way")
            else:
                raise Refused(404, "there is no such page")
        except Refused as refused:
            self.close_connection = True  # a body may not have been read
            self._json({"error": str(refused)}, refused.status)
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            say(f"cannot write into {self.server.test.results.path} ({error.strerror}); the answer was not taken")
            self._json({"error": "the answer could not be written to the disk; nothing earlier is lost"}, 507)

    def _asset(self) -> None:
        name, kind = _ASSETS[self.path]
        text = resources.files("pygan.quiz").joinpath(name).read_text(encoding="utf-8")
        self._send(text.encode(), f"{kind}; charset=utf-8")

    def _picture(self) -> None:
        pixels = self.server.take(self.path)
        if pixels is None:
            raise Refused(410, "this picture has been shown")
        self._send(to_png(pixels), "image/png")

    def _state(self) -> None:
        self._json(self.server.told | self.server.test.state(self._session()))

    def _start(self) -> None:
        self._body()
        name = self._session()
        if self.server.test.state(name)["stage"] == "new":
            name = self.server.test.start()
        self._json(self.server.told | self.server.test.state(name), cookie=f"{name}; Max-Age={_COOKIE_S}")

    def _show(self) -> None:
        pictures = self.server.test.show(self._session(), self._body().get("trial"))
        self._json({"pictures": self.server.promise(pictures)})

    def _answer(self) -> None:
        reply = self.server.test.answer(self._session(), self._body())
        self._json(reply | {"state": self.server.told | reply["state"]})

    def _leave(self) -> None:
        """The next person at this screen begins anew."""
        self._body()
        self._json(self.server.told | {"stage": "new"}, cookie="gone; Max-Age=0")

    def _session(self) -> str:
        """The name in the cookie, "" without one. It is only ever looked up."""
        try:
            cookie = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return ""
        return cookie.value if cookie else ""

    def _body(self) -> dict[str, Any]:
        """The JSON object that was sent. Errors: Refused."""
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "application/json is expected")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(411, "a Content-Length is expected")
        if int(length) > _MOST_BYTES:
            raise Refused(413, f"at most {_MOST_BYTES} bytes are expected")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise Refused(400, "the body is not JSON") from error
        if not isinstance(body, dict):
            raise Refused(400, "a JSON object is expected")
        return body

    def _check_who_asks(self) -> None:
        """A page of another site has no business here, under its own name or under a name bent to this machine."""
        host = self.headers.get("Host", "")
        if not _is_own_name(host, self.server.host):
            raise Refused(421, "this server is not known by that name")
        origin = self.headers.get("Origin")
        if origin is not None and origin.partition("://")[2] != host:
            raise Refused(403, "the request comes from another site")

    def _json(self, value: dict[str, Any], status: int = 200, *, cookie: str = "") -> None:
        self._send(json.dumps(value).encode(), "application/json", status, cookie=cookie)

    def _send(self, data: bytes, kind: str, status: int = 200, *, cookie: str = "") -> None:
        self.send_response(HTTPStatus(status))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if cookie:
            self.send_header("Set-Cookie", f"{self.server.cookie}={cookie}; Path=/; HttpOnly; SameSite=Strict")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)


def _is_own_name(host: str, bound: str) -> bool:
    """Is a Host header one of this machine's names? Numbers always are: a bent name is a name."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name in ("localhost", bound.lower(), socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _no_address(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; choose another --port, or --port 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} is not for everybody; choose a --port from 1024 on, or 0 for any that is free"
    return f"cannot serve at {host} ({error.strerror}); --host 127.0.0.1 is this machine, 0.0.0.0 the whole network"

"""HTTP itself: a socket, uvicorn with the time-outs that it lacks, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from pygan.errors import UserError, say
from pygan.serve.limits import Settings

_HEAD_S = 10.0  # for the head of a request to arrive
_LINGER_S = 2.0  # for the rest of a body that was refused
_KEEP_S = 5  # a connection on which nothing is asked
_STUCK_S, _LEAST_TAKEN = 30.0, 64 << 10  # of an answer a client takes at least so many bytes in that time
_LAME_S = 0.2  # after a signal, new requests are still told that it is over
_MOST_HEAD = 16 << 10  # bytes


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at that address; nobody answers yet. Errors: UserError."""
    if not 0 <= port <= 65_535:
        raise UserError(f"--port must be in 0..65535, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"{host!r} is no address of this machine; --host 127.0.0.1 is for this machine alone"
        ) from error
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)  # until somebody listens, two sockets may have the same address
    except OSError as error:
        sock.close()
        raise UserError(_no_address(host, port, error)) from error
    return sock


def url(sock: socket.socket, host: str) -> str:
    """The address to give to a browser."""
    name = "127.0.0.1" if host == "0.0.0.0" else "[::1]" if host == "::" else f"[{host}]" if ":" in host else host
    return f"http://{name}:{sock.getsockname()[1]}/"


class Server(uvicorn.Server):
    """Serves an application of `app.create` until a signal. A first one: it stops taking, and finishes. A second: it
    stops at once. ready: called as soon as it answers. `lost`: requests that had no answer when the time for finishing
    was over.
    """

    def __init__(self, app: Starlette, settings: Settings, ready: Callable[[], None] = lambda: None) -> None:
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # what there is to say, the application says
        self._house = app.state.house
        self._house.unsent = self._unsent
        self._drain_s, self._ready = settings.drain_s, ready
        self.lost = 0
        Protocol = type("_Protocol", (_Timed,), {"most_connections": settings.connections})
        super().__init__(
            uvicorn.Config(
                app,
                http=Protocol,
                ws="none",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                lifespan="on",
                timeout_keep_alive=_KEEP_S,
                h11_max_incomplete_event_size=_MOST_HEAD,
                timeout_graceful_shutdown=max(1, round(settings.drain_s)),
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(_say_error)
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Requests that are on their way are still told that it is over; what was taken is finished."""
        self._house.batcher.drain()
        await asyncio.sleep(_LAME_S)
        end = time.monotonic() + self._drain_s
        await super().shutdown(sockets)
        if time.monotonic() >= end:
            self.lost = len(self.server_state.tasks)

    def _unsent(self) -> int:
        """Bytes of answers that their clients have not taken yet."""
        return sum(one.transport.get_write_buffer_size() for one in self.server_state.connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn would raise the signal again when all is done, and the exit code would say that it was killed."""
        try:
            before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: whoever started it ends it with `should_exit`
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            say("stopped at once; what was not answered is lost")
            os._exit(128 + sig)
        self.should_exit = True
        say("shutting down: what was accepted is finished; once more stops at once")


class _Timed(H11Protocol):
    """h11 as uvicorn drives it, and nobody may keep it waiting: heads, refused bodies and answers have their time."""

    most_connections = 1024
    _clock: asyncio.TimerHandle | None = None  # of what is to come
    _taken: asyncio.TimerHandle | None = None  # of what has to be taken

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._answer(503, "too many connections")
            return
        self._expect(_HEAD_S, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(0, None)
        if self._taken is not None:
            self._taken.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()  # closes, once the client has taken the last answer
        self._watch()

    def pause_writing(self) -> None:
        """The client has much to take; until it has, nothing more is written."""
        super().pause_writing()
        self._look_after_answer()

    def _look_after_answer(self) -> None:
        """Give up on a client that takes too little of what waits for it."""
        left = self.transport.get_write_buffer_size()

        def look() -> None:
            if not (self.flow.write_paused or self.transport.is_closing()):
                self._taken = None
            elif self.transport.get_write_buffer_size() > max(0, left - _LEAST_TAKEN):
                self.transport.abort()
            else:
                self._look_after_answer()

        if self._taken is not None:
            self._taken.cancel()
        self._taken = self.loop.call_later(_STUCK_S, look)

    def send_400_response(self, msg: str) -> None:
        self._answer(400, "this is not HTTP")

    def _watch(self) -> None:
        """Which clock runs depends on who has to say something."""
        state = self.conn.their_state
        if self.transport.is_closing():
            if self._taken is None:
                self._look_after_answer()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._expect(0, None)  # the application's clocks run
        elif state is h11.SEND_BODY:
            if self._clock is None:
                self._expect(_LINGER_S, self.transport.abort)
        elif state is h11.IDLE and self.timeout_keep_alive_task is None and self._clock is None:
            self._expect(_HEAD_S, self._late)
        elif state is h11.IDLE and self.timeout_keep_alive_task is not None:
            self._expect(0, None)

    def _expect(self, seconds: float, act: Any) -> None:
        if self._clock is not None:
            self._clock.cancel()
        self._clock = self.loop.call_later(seconds, act) if act else None

    def _late(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._answer(408, f"the head of the request did not arrive within {_HEAD_S:g} s")

    def _answer(self, status: int, line: str) -> None:
        """Before there is a request, or in place of one."""
        body = json.dumps({"error": line}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]
        with contextlib.suppress(h11.LocalProtocolError):  # an answer has begun, which can only be cut off
            data = self.conn.send(h11.Response(status_code=status, headers=headers, reason=HTTPStatus(status).phrase))
            data += self.conn.send(h11.Data(data=body)) + self.conn.send(h11.EndOfMessage())
            self.transport.write(data)
        self.transport.close()
        self._expect(_LINGER_S, self.transport.abort)


def _say_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if not isinstance(error, ConnectionError | TimeoutError):
        line = " ".join(f"{context.get('message')} {type(error).__name__}: {error}".split())
        say(f"a connection failed ({line[:300]}); serving goes on")


def _no_address(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; choose another --port, or --port 0 for any that is free"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} is not for everybody; choose a --port from 1024 on, or 0 for any that is free"
    return f"cannot serve at {host} ({error.strerror}); --host 127.0.0.1 is this machine, 0.0.0.0 the whole network"

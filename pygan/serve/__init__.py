"""Trained networks as a web page and an HTTP API of this machine."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from pygan.errors import UserError, say

_NAMED = re.compile("([A-Za-z0-9][A-Za-z0-9._-]{0,63})=(.+)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pygan serve`."""
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="run directory or exported file; NAME=PATH names it")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0: the whole network (default: this machine)")
    add("--port", type=int, default=8000, metavar="N", help="0: any that is free (default: 8000)")
    add("--allow-host", action="append", default=[], metavar="NAME", help="a name that it is reached by, as of a proxy "
        "in front; repeatable; beyond this machine no others are answered then")  # fmt: skip
    add("--api-key", metavar="KEY", help="asked of every request; others of this machine see it here, but not in the "
        "variable PYGAN_API_KEY (default: that, else none)")  # fmt: skip
    add("--checkpoint", default="last", metavar="NAME", help="last, best or a kept one (default: last)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)")
    add("--batch", type=int, default=8, metavar="N", help="pictures at once on the device (default: 8)")
    add("--wait-ms", type=float, default=2.0, metavar="MS", help="how long a batch waits for company (default: 2 ms)")
    add("--queue", type=int, default=128, metavar="N", help="pictures in the house; more get 429 (default: 128)")
    add("--timeout", type=float, default=30.0, metavar="S", help="for a body, and for an answer (default: 30 s)")
    add(
        "--drain", type=float, default=30.0, metavar="S", help="to finish what was accepted, at the end (default: 30 s)"
    )
    add("--max-bytes", type=int, default=32 << 20, metavar="N", help="of a request (default: 32 MiB)")
    add("--max-pixels", type=int, default=1 << 22, metavar="N", help="of a picture (default: 2048 x 2048)")
    add("--max-pictures", type=int, default=32, metavar="N", help="of one request (default: 32)")
    add("--workers", type=int, metavar="N", help="threads that decode and encode (default: the CPUs, 2 to 4)")
    add("--seed", type=int, default=0, metavar="N", help="of dropout and noise, where a request has none (default: 0)")


def run(args: argparse.Namespace) -> int:
    """`pygan serve`: until a signal. Returns the exit code. Errors: UserError."""
    try:
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"serving needs {error.name}: pip install '.[serve]' in pygan's checkout") from error
    from pygan.serve.limits import Settings

    settings = Settings(
        host=args.host,
        names=tuple(args.allow_host),
        api_key=os.environ.get("PYGAN_API_KEY", "") if args.api_key is None else _key(args.api_key),
        batch=args.batch,
        wait_s=args.wait_ms / 1000,
        queue=args.queue,
        timeout_s=args.timeout,
        drain_s=args.drain,
        most_bytes=args.max_bytes,
        most_pixels=args.max_pixels,
        most_pictures=args.max_pictures,
        seed=args.seed,
        **({} if args.workers is None else {"workers": args.workers}),
    )
    return serve(args.runs, settings, port=args.port, checkpoint=args.checkpoint, device=args.device)


def serve(runs: Sequence[str], settings, *, port: int = 8000, checkpoint: str = "last", device: str = "auto") -> int:
    """Serve runs and exported files, "PATH" or "NAME=PATH" each, until a signal. settings: a `limits.Settings`.

    Returns 0; 1 if something that was accepted could not be finished in time. Errors: UserError.
    """
    from pygan import log, use
    from pygan.serve import app, server

    paths = names(runs)
    with server.bound(settings.host, port) as sock:  # before anything that takes long
        networks = {name: use.network(path, checkpoint, device) for name, path in paths.items()}
        made = app.create(networks, settings)
        out = log.console()
        for name, network in networks.items():
            does = " and ".join(network.card.acts)
            line = f"{name}: {network.card.gan} at {network.card.images_seen:,} images, {does}s, on {network.device}"
            out.print(line, markup=False)
        out.print(_limits(settings), markup=False)
        if not settings.on_loopback and not settings.api_key:
            say("everybody who reaches this address may use it; --api-key, or PYGAN_API_KEY, asks for a key")

        def ready() -> None:
            out.print(f"serving at {server.url(sock, settings.host)} (Ctrl-C ends it)", markup=False)
            sys.stdout.flush()

        running = server.Server(made, settings, ready)
        running.run(sockets=[sock])
    if running.lost:
        say(f"{running.lost} requests were not finished within {settings.drain_s:g} s")
    return 1 if running.lost else 0


def names(runs: Sequence[str]) -> dict[str, Path]:
    """{name: path} of "PATH" and "NAME=PATH", each name once. Errors: UserError."""
    found: dict[str, Path] = {}
    for text in runs:
        named = None if Path(text).exists() else _NAMED.fullmatch(text)
        path = Path(named[2] if named else text)
        stem = path.resolve().stem if path.is_file() else path.resolve().name
        name = named[1] if named else re.sub("[^A-Za-z0-9._-]", "-", stem).lstrip("._-")[:64] or "model"
        if name in found:
            raise UserError(f"{found[name]} and {path} would both be called {name}; give one a name: other={path}")
        found[name] = path
    return found


def _key(given: str) -> str:
    if not given:
        raise UserError("--api-key is empty; leave it out to serve without a key")
    return given


def _limits(settings) -> str:
    key = "a key is asked for" if settings.api_key else "no key is asked for"
    return (
        f"up to {settings.batch} pictures at once, {settings.queue} in the house, {settings.most_bytes:,} bytes and "
        f"{settings.most_pixels:,} pixels each, {settings.timeout_s:g} s; {key}"
    )

"""Real or fake? The perceptual tests of the papers, asked of people in a browser, or on one picture."""

from __future__ import annotations

import argparse
import math
import os
import sys
import threading
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pygan import signals
from pygan.errors import UserError, say

if TYPE_CHECKING:
    from rich.console import Console

    from pygan.quiz.pool import Pool
    from pygan.quiz.records import Results
    from pygan.quiz.server import Server
    from pygan.quiz.sessions import Sessions

_PRACTICE, _TRIALS, _ROWS, _GRID = 10, 40, 50, 64
_MOST_RANKED = 26  # letters
_HERE = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pygan quiz`."""
    add = parser.add_argument
    add("run", type=Path, nargs="*", metavar="RUN", help="run directory; with several each person judges one of them")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--grid", type=Path, metavar="FILE", help="instead write one PNG of both kinds mixed, and a key")
    what.add_argument("--rank", action="store_true", help="instead let people order the pictures of several runs")
    what.add_argument("--results-only", action="store_true", help="instead print what the answers so far say")
    shown = parser.add_argument_group("what is shown")
    add = shown.add_argument
    add("--practice", type=int, metavar="N", help=f"pairs with feedback, not counted (default: {_PRACTICE} pairs)")
    add("--trials", type=int, metavar="N", help=f"pairs that count (default: {_TRIALS} pairs; --rank: {_ROWS} rows)")
    add("--exposure", type=float, metavar="X", help="time that a pair is on the screen (default: 1 s)")
    add("-n", "--number", type=int, metavar="N", help=f"pictures of the --grid (default: {_GRID} images)")
    add("--size", type=int, default=256, metavar="N", help="width of a picture on the screen (default: 256 pixels)")
    add("--pool", type=int, metavar="N", help="held-out items to draw from (default: as many as a person sees)")
    add("--data", default="", metavar="DIR", help="other pictures than the run's own held-out ones (default: none)")
    add(
        "--way",
        default="",
        metavar="NAME",
        help="AtoB, BtoA or a label, where there are several (default: the first)",
    )
    add("--checkpoint", default="last", metavar="NAME", help="last, best or a kept one (default: last)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)")
    add("--seed", type=int, default=0, metavar="N", help="of noise, and of the grid's places (default: 0)")
    served = parser.add_argument_group("where")
    add = served.add_argument
    add("--results", type=Path, metavar="FILE", help="answers are appended here (default: quiz.jsonl or, with --rank, "
        "rank.jsonl in the first RUN)")  # fmt: skip
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to serve at (default: 127.0.0.1, this machine)")
    add("--port", type=int, default=8321, metavar="N", help="0: any that is free (default: 8321)")
    add("--no-open", action="store_true", help="do not open the page in this machine's browser")


def run(args: argparse.Namespace) -> int:
    """Run the verb. Returns the exit code. Errors: UserError."""
    from pygan import log

    _check(args)
    out = log.console()
    if args.results_only:
        from pygan.quiz import records

        path = _results_file(args)
        _print_results(out, path, records.read(path))
        return 0
    if args.grid is not None:
        return _write_grid(out, args)
    return _serve(out, args)


def _check(args: argparse.Namespace) -> None:
    """Errors: UserError for values and combinations that make no sense."""
    least = {"practice": 0, "trials": 1, "number": 1, "size": 16, "pool": 1}
    for name, at_least in least.items():
        value = getattr(args, name)
        if value is not None and value < at_least:
            raise UserError(f"--{name} must be at least {at_least}, got {value}")
    if args.exposure is not None and not (math.isfinite(args.exposure) and 0.02 <= args.exposure <= 600):
        raise UserError(f"--exposure must be from 0.02 to 600 seconds, got {args.exposure}")
    if not 0 <= args.port <= 65535:
        raise UserError(f"--port must be in 0..65535, got {args.port}")
    if not 0 <= args.seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2**63-1, got {args.seed}")
    if not args.run and not (args.results_only and args.results):
        raise UserError("RUN is missing: name the run directory that is to be judged")
    mode = "--grid" if args.grid is not None else "--rank" if args.rank else ""
    foreign = {"--grid": ("practice", "trials", "exposure"), "--rank": ("practice", "exposure", "number")}
    for name in foreign.get(mode, ("number",)):
        if getattr(args, name) is not None:
            raise UserError(f"--{name} has no meaning {'with ' + mode if mode else 'without --grid'}; leave it out")
    if args.rank and not 2 <= len(args.run) <= _MOST_RANKED:
        raise UserError(f"--rank orders the pictures of 2 to {_MOST_RANKED} runs, got {len(args.run)}")
    if args.grid is not None:
        if len(args.run) != 1:
            raise UserError(f"--grid mixes the pictures of one run with real ones, got {len(args.run)} runs")
        if args.grid.suffix.lower() != ".png":
            raise UserError(f"{args.grid}: a grid is written as PNG; name it {args.grid.stem or 'grid'}.png")
    if len({run.resolve() for run in args.run}) != len(args.run):
        raise UserError("the same RUN is named twice; name each once")


def _results_file(args: argparse.Namespace) -> Path:
    return args.results or args.run[0] / ("rank.jsonl" if args.rank else "quiz.jsonl")


def _print_results(out: Console, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """The tables of a results file."""
    from pygan.quiz import rates

    fooled, ranked = rates.fooling(rows), rates.ranks(rows)
    if fooled:
        out.print(rates.fooling_table(fooled))
    if ranked:
        out.print(rates.ranks_table(ranked))
    if not fooled and not ranked:
        out.print(f"{path}: no answer that counts so far", markup=False)


def _pools(args: argparse.Namespace, most: int) -> list[Pool]:
    from pygan.quiz import pool

    asked = {"checkpoint": args.checkpoint, "device": args.device, "data": args.data, "way": args.way}
    return [pool.make(run, most=max(most, args.pool or 0), seed=args.seed, **asked) for run in args.run]


def _write_grid(out: Console, args: argparse.Namespace) -> int:
    from pygan.quiz import grid

    number = args.number or _GRID
    (pool,) = _pools(args, number)
    cells, files = grid.write(pool, args.grid, number=number, seed=args.seed)
    if len(cells) < number:
        say(f"{args.run[0]} has only {pool.pairs} real pictures for this: {len(cells)} in the grid instead of {number}")
    real = sum(cell.real for cell in cells)
    out.print(f"wrote {files[0]}: {real} real and {len(cells) - real} generated pictures, mixed", markup=False)
    out.print(f"the answers are in {files[1]} and {files[2]}", markup=False)
    return 0


def _serve(out: Console, args: argparse.Namespace) -> int:
    """Ask people until Ctrl-C, then print what they said."""
    from pygan.quiz.records import Results
    from pygan.quiz.server import Server
    from pygan.rundir import read_facts

    for one in args.run:
        read_facts(one)
    results = Results(_results_file(args)).open()  # at once: answers that cannot be kept are not asked for
    try:
        with Server(args.host, args.port) as server:
            test, plan = (_ranks if args.rank else _pairs)(args, results)
            server.begin(test, {"test": test.kind, "size": args.size, "exposure": test.exposure, "plan": plan})
            _introduce(out, args, test, plan, server.url)
            _until_stopped(server, args)
    finally:
        results.close()
    _print_results(out, results.path, results.rows)
    return 0


def _pairs(args: argparse.Namespace, results: Results) -> tuple[Sessions, dict[str, Any]]:
    from pygan.quiz import protocol, sessions

    asked = (_PRACTICE if args.practice is None else args.practice, args.trials or _TRIALS)
    pools = _pools(args, sum(asked))
    fewest = min(pool.pairs for pool in pools)
    practice, trials = protocol.fitted(fewest, *asked)
    if (practice, trials) != asked:
        say(
            f"{fewest} held-out pairs are too few for {asked[0]} + {asked[1]}, since nobody sees one twice: "
            f"{practice} for practice, {trials} that count"
        )
    how = {"seed": args.seed, "exposure": args.exposure or 1.0}
    test = sessions.Pairs(pools, results, practice=practice, trials=trials, **how)
    return test, {"practice": practice, "trials": trials, "systems": len(pools), "given": "nothing"}


def _ranks(args: argparse.Namespace, results: Results) -> tuple[Sessions, dict[str, Any]]:
    from pygan.quiz import sessions

    asked = args.trials or _ROWS
    pools = _pools(args, asked)
    _check_same_items(pools)
    trials = min(asked, *(len(pool.fake) for pool in pools))
    if trials < asked:
        say(f"there are {trials} held-out items: {trials} rows instead of {asked}")
    inputs = pools[0].inputs
    given = "nothing" if inputs is None else "text" if isinstance(inputs[0], str) else "picture"
    test = sessions.Ranks(pools, results, seed=args.seed, trials=trials)
    return test, {"practice": 0, "trials": trials, "systems": len(pools), "given": given}


def _check_same_items(pools: Sequence[Pool]) -> None:
    """Errors: UserError if the systems of a row would have painted from different inputs."""
    first = pools[0]
    for pool in pools[1:]:
        least = min(len(first.fake), len(pool.fake))
        if (first.inputs is None) != (pool.inputs is None):
            raise UserError(
                f"--rank: {first.system.run} and {pool.system.run} do not paint from the same kind of input"
            )
        if first.inputs is not None and first.names[:least] != pool.names[:least]:
            raise UserError(f"--rank: {first.system.run} and {pool.system.run} hold out other items; give --data DIR")


def _introduce(out: Console, args: argparse.Namespace, test: Sessions, plan: dict[str, Any], url: str) -> None:
    from pygan.quiz import rates

    names = ", ".join(rates.named(list(test.pools)).values())
    if args.rank:
        out.print(f"human rank of {names}: {plan['trials']} rows per person", markup=False)
    else:
        each = " (one of them per person)" if len(test.pools) > 1 else ""
        counts = f"{plan['practice']} pairs for practice, {plan['trials']} that count"
        out.print(f"real or fake? {names}{each}: {counts}, {test.exposure:g} s each", markup=False)
    people = len({row["session"] for row in test.results.rows if row["what"] in ("answer", "rank")})
    before = f" ({people} {'person' if people == 1 else 'people'} so far)" if people else ""
    out.print(f"answers go to {test.results.path}{before}", markup=False)
    if args.host not in _HERE:
        say(f"--host {args.host}: anybody on the network can open the page and answer")
    out.print(f"open {url} in a browser; Ctrl-C ends the quiz and prints the result", markup=False)


def _until_stopped(server: Server, args: argparse.Namespace) -> None:
    """Wait for Ctrl-C or SIGTERM, then let the server rest."""
    stop = threading.Event()
    with signals.handled(lambda *_: stop.set(), *signals.STOPS):
        try:
            if not args.no_open and _has_screen():
                webbrowser.open(server.url)
            stop.wait()
        finally:
            server.shutdown()


def _has_screen() -> bool:
    """Is a person with a window system at this machine? A text browser would take the terminal."""
    window = sys.platform == "darwin" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return bool(window and sys.stdout.isatty())

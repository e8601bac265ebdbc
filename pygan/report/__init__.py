"""`pygan report RUN`: one page that shows a run, and needs no server, no network and no pygan to be read."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory, finished or not")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the page (default: RUN/report.html)")
    parser.add_argument(
        "-n", "--triplets", type=int, default=8, metavar="N", help="held-out items shown; 0: none (default: 8 images)"
    )
    parser.add_argument(
        "--checkpoint", default="last", metavar="NAME", help="whose pictures: last, best or a kept one (default: last)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute them (default: auto)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page. Returns the exit code. Errors: UserError (no run, wrong flag, nowhere to write)."""
    from pygan.report.write import write

    return write(args.run, args.output, triplets=args.triplets, checkpoint=args.checkpoint, device=args.device)

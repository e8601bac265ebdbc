"""`pygan compare RUN RUN...`: runs side by side in one page: what differs, curves, pictures, measures."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories, two or more")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("compare.html"),
        metavar="FILE",
        help="the page (default: compare.html)",
    )
    parser.add_argument(
        "-n",
        "--inputs",
        type=int,
        default=6,
        metavar="N",
        help="held-out items of the first run that go through every network; 0: none (default: 6 images)",
    )
    parser.add_argument(
        "--checkpoint", default="last", metavar="NAME", help="whose pictures: last, best or a kept one (default: last)"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute them (default: auto)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page. Returns the exit code. Errors: UserError (not two runs, wrong flag, nowhere to write)."""
    from pygan.compare.write import write

    return write(args.runs, args.output, inputs=args.inputs, checkpoint=args.checkpoint, device=args.device)

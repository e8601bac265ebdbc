"""`pygan plan GAN`: what a training will take, before it is begun; and what to change to make it fit.

Memory is that of one training step walked on tensors without values (`walk.py`), and of some real steps in a child
process (`measure.py`), which also say how long a step takes here. Nothing is written but the file of `-o`.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from pygan import gans
from pygan.errors import UserError

_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_TIMES = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pygan plan`; those of a recipe come with the GAN that is named."""

    class OfOneGan(type(parser)):
        """Loads its GAN when it is the one that is asked for."""

        gan = ""

        def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
            if self.gan:
                self.usage = f"{self.prog} [--fit SIZE] [--within TIME] [any flag below]"
                _flags(self, gans.load(self.gan))
                self.gan = ""
            return super().parse_known_args(args, namespace)

    names = parser.add_subparsers(dest="gan", metavar="GAN", required=True, parser_class=OfOneGan)
    for name in gans.names():
        one = names.add_parser(name, help=gans.title(name), allow_abbrev=False, formatter_class=parser.formatter_class)
        one.gan = name


def _flags(parser: argparse.ArgumentParser, gan: Any) -> None:
    from pygan.recipe import PRESETS_DIFFER, add_flags

    own = parser.add_argument_group("the plan")
    own.add_argument(
        "--preset", metavar="NAME", help=f"one of {', '.join(gan.PRESETS)} (default: demo on a CPU, fast on a GPU)"
    )
    own.add_argument("--fit", metavar="SIZE", help="memory it must fit into: 6GB, 512MB, 6GiB, or auto: what is free")
    own.add_argument("--within", metavar="TIME", help="time it must be done in: 90s, 45min, 3h, 2d")
    own.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the recipe as JSON, for `train --recipe`")
    own.add_argument("--json", action="store_true", help="the plan as JSON")
    own.add_argument("--no-measure", action="store_true", help="train no step here: computed memory, and no time")
    own.add_argument(
        "--seconds", type=float, default=8.0, metavar="N", help="how long steps are measured (default: 8 s)"
    )
    own.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where it would train (default: auto)"
    )
    add_flags(parser.add_argument_group("the recipe", PRESETS_DIFFER), gan.Recipe)


_MOST = 1e18  # of whatever unit


def read_size(text: str) -> int:
    """Bytes: "6GB" -> 6000000000, "6GiB" -> 6442450944. Errors: UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", text.strip().lower())
    if match is None or not 0 < float(match[1]) < _MOST:
        raise UserError(f"--fit must be a size such as 6GB, 512MB or 6GiB, or auto, got {text!r}")
    return int(float(match[1]) * _SIZES[match[2] or ""])


def read_time(text: str) -> float:
    """Seconds: "90s", "45min", "3h", "1.5d". Errors: UserError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d)", text.strip().lower())
    if match is None or not 0 < float(match[1]) < _MOST:
        raise UserError(f"--within must be a time such as 90s, 45min or 3h, got {text!r}")
    return float(match[1]) * _TIMES[match[2]]


def run(args: argparse.Namespace) -> int:
    """Print the plan, and with --fit or --within a proposal. Returns 0. Errors: UserError."""
    from pygan.plan.command import run

    return run(args)

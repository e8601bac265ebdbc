"""`pygan data make` writes a built-in set to disk; `pygan data check` says what a folder holds."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from pygan.data.check import check
from pygan.data.transforms import TRANSFORMS
from pygan.data.writers import ENDINGS, KINDS, Order, write
from pygan.errors import UserError


def add_arguments(subparsers: argparse._SubParsersAction) -> None:
    """Add `make` and `check` to the subcommands of `pygan data`."""
    titles = "; ".join(f"{name}: {kind.title}" for name, kind in KINDS.items())
    make_ = subparsers.add_parser("make", help="write a built-in set to disk", description=titles)
    make_.add_argument("what", choices=tuple(KINDS), help="which set")
    make_.add_argument("folder", type=Path, metavar="DIR", help="where to")
    make_.add_argument(
        "--n", type=int, default=400, metavar="N",
        help="training pictures; of facades pairs, of seasons pictures of each domain (default: 400 pictures)",
    )  # fmt: skip
    make_.add_argument("--size", metavar="S", help=f"of a picture, S or WxH (default: {_defaults('size')} pixels)")
    make_.add_argument("--seed", type=int, default=0, metavar="K", help="which set of its kind (default: 0)")
    make_.add_argument("--holdout", type=float, metavar="X", help="size of val and of test (default: 0.1 of N)")
    make_.add_argument("--format", choices=ENDINGS, help=f"of the files (default: {_defaults('ending')})")
    make_.add_argument(
        "--layout", choices=[name for kind in KINDS.values() for name in kind.plans], help="of the folder (default: "
        + ", ".join(f"{next(iter(kind.plans))} of {name}" for name, kind in KINDS.items()) + ")",
    )  # fmt: skip
    make_.add_argument("--force", action="store_true", help="write into a folder that has files; replaces an older set")

    check = subparsers.add_parser("check", help="look at every file of a set and say what is wrong")
    check.add_argument("folder", type=Path, metavar="DIR", help="the set, as for --data")
    check.add_argument(
        "--input-transform", choices=TRANSFORMS, default="none", help="as for train: other than none, single pictures"
    )


def _defaults(what: str) -> str:
    """As in 256 of facades, 128 of shapes."""
    return ", ".join(f"{getattr(kind, what)} of {name}" for name, kind in KINDS.items())


def run(args: argparse.Namespace) -> int:
    """Run the parsed command. Returns the exit code: 0, or 2 when `check` found something bad. Errors: UserError."""
    if args.act == "make":
        return make(
            args.what, args.folder, n=args.n, size=args.size, seed=args.seed, holdout=args.holdout, ending=args.format,
            layout=args.layout, force=args.force,
        )  # fmt: skip
    return check(args.folder, plain=args.input_transform != "none")


def make(
    what: str,
    folder: Path,
    *,
    n: int,
    size: str | None = None,
    seed: int = 0,
    holdout: float | None = None,
    ending: str | None = None,
    layout: str | None = None,
    force: bool = False,
) -> int:
    """Write the built-in set `what` (a key of KINDS) to the folder, file by file and atomically. Returns 0.

    n: training pictures. size: "S" or "WxH" pixels. holdout: part of n that val and test have. ending: "png" or "jpg".
    layout: how the folder is laid out. None: as KINDS says, and 0.1 of n. The pictures are those that training on the
    built-in set `<what>:<seed>` sees at the same size. UserError for a folder that is not empty (unless force), cannot
    be written, or arguments that make no set.
    """
    kind = KINDS[what]
    height, width = _parse_size(size or kind.size)
    if holdout is not None and not 0 <= holdout < 1:
        raise UserError(f"--holdout must be in [0, 1), got {holdout}")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2^63-1, got {seed}")
    layout = layout or next(iter(kind.plans))
    if layout not in kind.plans:
        raise UserError(f"--layout of {what} must be one of {', '.join(kind.plans)}, got {layout}")
    if layout == "celeba" and holdout is not None:
        raise UserError("--holdout: CelebA's layout has one folder, training divides it; leave --holdout out")
    ending = ending or ("jpg" if layout == "cub" else kind.ending)
    files = kind.plans[layout](Order(n, height, width, seed, 0.1 if holdout is None else holdout, ending))
    write(folder, files, seed, ending, force=force)
    print(f"{folder}: {files.said}")
    print(f"train on them: {files.use.format(folder)}")
    return 0


def _parse_size(text: str) -> tuple[int, int]:
    """(height, width) of "256" or "384x256" (width first, as people say it)."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    if not match:
        raise UserError(f"--size must be S or WxH in pixels, like 256 or 384x256, got {text!r}")
    width = int(match[1])
    height = int(match[2] or width)
    if not (8 <= width <= 4096 and 8 <= height <= 4096):
        raise UserError(f"--size must be 8..4096 pixels each way, got {width}x{height}")
    return height, width

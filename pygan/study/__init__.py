"""`pygan study skips|lambda|patch`: train variants on equal budgets, and say what the difference is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

ROOT = Path("runs") / "study"
_TITLES = {
    "skips": "from encoder-decoder to U-Net: does a net with more skips overfit more?",
    "lambda": "weights of L1",
    "patch": "receptive fields of the discriminator",
}
_SESSION = ("kind", "out", "device", "verb")  # what is no part of a plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pygan study`. One that is not given does not appear in the namespace."""
    kinds = parser.add_subparsers(dest="kind", metavar="STUDY", required=True)
    for kind, title in _TITLES.items():
        one = kinds.add_parser(
            kind,
            help=title,
            allow_abbrev=False,
            formatter_class=parser.formatter_class,
            argument_default=argparse.SUPPRESS,
        )
        _flags(one, kind)


def _flags(parser: argparse.ArgumentParser, kind: str) -> None:
    where = parser.add_argument_group("this session")
    where.add_argument(
        "-o",
        "--out",
        "--output",
        dest="out",
        type=Path,
        metavar="DIR",
        help=f"directory of the study; goes on with the one there (default: {ROOT / kind})",
    )
    where.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to compute (default: auto)")

    what = parser.add_argument_group("what is compared")
    if kind == "skips":
        what.add_argument(
            "--variants",
            metavar="LISTS",
            help="skips kept, 1 the innermost: lists such as 'none;1;1,2,3;all', or continuum, outermost-first, "
            "innermost-first, single, blog (default: continuum)",
        )
        what.add_argument(
            "--dropout", "--dropout-levels", dest="dropout", metavar="LISTS",
            help="decoder levels with dropout, as well: 'none;1,2,3;all' (default: the preset's)",
        )  # fmt: skip
        what.add_argument("--lambdas", metavar="X,Y", help="weights of L1, as well: 10,100 (default: 100)")
    elif kind == "lambda":
        what.add_argument("--lambdas", metavar="X,Y", help="weights of L1 (default: 0,1,10,100,1000)")
    else:
        what.add_argument("--fields", metavar="N,M", help="pixels that D sees (default: 1,16,34,70,142,286)")
    usual = "canny" if kind == "skips" else "labels"
    what.add_argument(
        "--input",
        choices=("canny", "labels", "both"),
        help=f"edges of the picture, or the pairs as they are (default: {usual})",
    )
    what.add_argument(
        "--domains",
        choices=("same", "other", "both"),
        help="what networks are tested on: held-out pictures of the set, of another one, or both (default: same)",
    )
    what.add_argument(
        "--other",
        metavar="DIR",
        help="the other set: a folder, seasons, shapes, faces, facades:N (default: seasons for edges, else facades:1)",
    )

    budget = parser.add_argument_group("budget, the same for every variant")
    budget.add_argument("--preset", choices=("quick", "readme", "full"), help="size of it all (default: readme)")
    budget.add_argument(
        "--data", metavar="DIR", help="folder with the training pictures (default: the built-in facades)"
    )
    budget.add_argument(
        "--size", type=int, metavar="N", help="height and width (default: 64 pixels; quick 32, full 256)"
    )
    budget.add_argument("--images", type=int, metavar="N", help="of the built-in set (default: 80; quick 24, full 400)")
    budget.add_argument("--items", type=int, metavar="N", help="measured of each set (default: 64; quick 16, full 100)")
    length = budget.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=int, metavar="N", help="passes (default: 100; quick 50, full 200)")
    length.add_argument("--budget-images", type=int, metavar="N", help="length in images instead")
    length.add_argument("--minutes", type=float, metavar="X", help="about this long, timed when the study begins")
    budget.add_argument("--seed", type=int, metavar="N", help="first seed (default: 0)")
    budget.add_argument("--seeds", type=int, metavar="N", help="networks of each variant (default: 1)")
    budget.add_argument(
        "--set", action="append", metavar="FIELD=VALUE", help="a field of the recipe of all variants; may be repeated"
    )
    budget.add_argument(
        "--lpips", metavar="SPEC", help="network of LPIPS: alex, vgg, alex:FILE, ...; or none (default: alex)"
    )


def run(args: argparse.Namespace) -> int:
    """Begin a study, or go on with it. Returns the exit code. Errors: UserError."""
    from pygan.study import lab, plan

    values = vars(args)
    given: dict[str, Any] = {name: value for name, value in values.items() if name not in _SESSION}
    for name in ("data", "other"):
        if Path(given.get(name) or "?").exists():
            given[name] = str(Path(given[name]).resolve())  # so that the study can be gone on with from anywhere
    folder, device = values.get("out", ROOT / args.kind), values.get("device", "auto")
    found = plan.read(folder)
    if found is None:  # everything that can be wrong is, before the first file is written
        found = plan.make(args.kind, given, device)
        lab.check(found, device)
    with lab.opened(folder) as there:
        if there is None:
            lab.begin(found, folder)
            there = found
        else:
            plan.check_same(there, args.kind, given, folder)
        return lab.work(there, folder, device)

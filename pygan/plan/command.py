"""What `pygan plan` does with its flags."""

from __future__ import annotations

import argparse
from pathlib import Path

from pygan import device as devices
from pygan import gans, log, plan
from pygan import recipe as recipes
from pygan.errors import UserError
from pygan.plan import make, show
from pygan.plan.make import Plan
from pygan.rundir import write_atomic


def run(args: argparse.Namespace) -> int:
    """Print the plan, and with --fit or --within a proposal. Returns 0. Errors: UserError."""
    gan = gans.load(args.gan)
    if not args.seconds > 0:
        raise UserError(f"--seconds must be more than 0, got {args.seconds:g}")
    where = devices.choose(args.device)
    limit = None if args.fit is None or args.fit == "auto" else plan.read_size(args.fit)
    if args.fit == "auto":
        limit = make.free_bytes(where)
    within = None if args.within is None else plan.read_time(args.within)
    if within is not None and args.no_measure:
        raise UserError("--within needs the time of a step, which --no-measure leaves out; leave one of them out")
    _check_writable(args.output)
    preset = args.preset or ("fast" if where.type == "cuda" and "fast" in gan.PRESETS else "demo")
    given = {name: value for name, value in vars(args).items() if name in gan.Recipe.__dataclass_fields__}
    asked = recipes.make(gan.Recipe, gan.PRESETS, preset, given)
    out = log.console()
    made = make.make(gan, asked, preset, where, seconds=args.seconds, measured=not args.no_measure)
    if not args.json:
        for line in show.table(made):
            out.print(line, markup=False)
    if args.output is not None:
        write(args.output, made)
    if args.json:
        out.print(show.as_json(_as_file(made)), markup=False)
    else:
        out.print(show.summary(made), markup=False)
        out.print(f"train it: {show.command(made.gan, preset, made.asked, gan.PRESETS, where.type)}", markup=False)
    return 0


def write(file: Path, made: Plan) -> None:
    """Write what `pygan train GAN --recipe FILE` takes. Errors: OSError; an old file is untouched then."""
    write_atomic(file, show.as_json(_as_file(made)).encode())


def _as_file(made: Plan) -> dict:
    return {
        "gan": made.gan,
        "preset": made.preset,
        "recipe": recipes.to_dict(made.asked),
        "plan": make.to_json(made),
    }


def _check_writable(file: Path | None) -> None:
    """Errors: UserError if `-o` names what cannot be written, before time is spent."""
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise UserError(f"cannot write {file}: its folder is not there, or it is a folder; choose another -o")

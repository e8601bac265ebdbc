"""What `pygan plan` does with its flags."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from pygan import device as devices
from pygan import gans, log, plan
from pygan import recipe as recipes
from pygan.errors import UserError
from pygan.loop import plain
from pygan.plan import fit, make, show
from pygan.plan.fit import Proposal
from pygan.plan.make import Plan
from pygan.rundir import write_atomic

_TIME_MARGIN = 1.15  # how far a step's time may be off (benchmarks/plan.py)
_MOST_TRIES = 3  # proposals that are measured
_TOO_MUCH = (
    "nothing fits into {}: what was predicted to fit took more when it was measured here; "
    "ask for a little more, or take a smaller --batch"
)


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
    asked = recipes.make(gan.Recipe, gan.PRESETS, preset, plain(given))
    out = log.console()

    def say(line: str) -> None:
        if not args.json:
            out.print(line, markup=False)

    made = make.make(gan, asked, preset, where, seconds=args.seconds, measured=not args.no_measure)
    for line in show.table(made):
        say(line)
    say(show.summary(made))
    proposals: list[Proposal] = []
    if limit is not None or within is not None:
        if within is not None and made.total_s is None:
            raise UserError(f"--within {args.within}: no step could be measured here ({'; '.join(made.notes)})")
        made, proposals = _fitting(gan, made, where, args, limit, within, say)
    if args.output is not None:
        write(args.output, made, proposals)
        say(f"written: {args.output}; pygan train {made.gan} --recipe {args.output}")
    if args.json:
        out.print(show.as_json(_as_file(made, proposals)), end="", markup=False)
    else:
        say(f"train it: {show.command(made.gan, preset, made.asked, gan.PRESETS, where.type)}")
    return 0


def _fitting(
    gan: ModuleType,
    made: Plan,
    where: torch.device,
    args: argparse.Namespace,
    limit: int | None,
    within: float | None,
    say: Callable[[str], None],
) -> tuple[Plan, list[Proposal]]:
    """(the plan of the best recipe that fits, measured where that is not left out, all that fit).

    Errors: UserError if none does, with the least that there is.
    """
    search = fit.Fitter(gan, made, where, limit=limit, within=within)
    wanted = " and ".join(
        words
        for words in (
            f"{show.size(limit)} of memory" if limit is not None else "",
            log.duration(within) if within is not None else "",
        )
        if words
    )
    proposals = search.proposals()
    if not proposals:
        least = search.least()
        base = max(part.memory.least for part in made.parts)
        told = show.size(least.peak) + ("" if least.total_s is None else f" and {log.duration(least.total_s)}")
        raise UserError(
            f"nothing fits into {wanted}: the least that is known of {made.gan} is {told} ({least.what}), of which "
            f"{show.size(base)} are the process and its libraries; ask for more, or take another preset"
        )
    say(f"to fit into {wanted}, the cheapest to quality first:")
    for number, one in enumerate(proposals, start=1):
        time = "" if one.total_s is None else f", {log.duration(one.total_s)}"
        say(f"  {number}. {one.what}: {show.size(one.peak)}{time}")
    for _ in range(_MOST_TRIES):
        one = proposals[0]
        if one.recipe == made.asked:
            return made, proposals
        best = make.make(gan, one.recipe, made.preset, where, seconds=args.seconds, measured=not args.no_measure)
        over = [*([best.peak > limit] if limit is not None else []), *([_late(best, within)] if within else [])]
        if not any(over):
            break
        say(f"  measured, {one.what} takes {show.summary(best).partition(': ')[2]}: too much")
        search.learn(one, best.peak, best.total_s)
        proposals = search.proposals()
        if not proposals:
            raise UserError(_TOO_MUCH.format(wanted))
    else:
        raise UserError(_TOO_MUCH.format(wanted))
    say(f"the best of them: {show.summary(best)}")
    return best, proposals


def _late(best: Plan, within: float) -> bool:
    return best.total_s is not None and best.total_s > _TIME_MARGIN * within


def write(file: Path, made: Plan, proposals: Sequence[Proposal] = ()) -> None:
    """Write what `pygan train GAN --recipe FILE` takes. Errors: OSError; an old file is untouched then."""
    write_atomic(file, show.as_json(_as_file(made, proposals)).encode())


def _as_file(made: Plan, proposals: Sequence[Proposal]) -> dict[str, Any]:
    return {
        "gan": made.gan,
        "preset": made.preset,
        "recipe": recipes.to_dict(made.asked),
        "plan": make.to_json(made),
        "proposals": [{"changes": list(p.changes), "peak_bytes": p.peak, "total_s": p.total_s} for p in proposals],
    }


def _check_writable(file: Path | None) -> None:
    """Errors: UserError if `-o` names what cannot be written, before time is spent."""
    if file is None:
        return
    folder = file.absolute().parent
    if file.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"cannot write {file}: its folder is not there, or may not be written; choose another -o")

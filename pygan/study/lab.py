"""Trains what a plan asks for, measures it, and writes down what was found; goes on where it was stopped."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from pygan import log, resume, signals
from pygan.errors import Diverged, UserError, say
from pygan.rundir import RunDir, write_atomic
from pygan.study import report
from pygan.study.plan import Plan, Unit, read
from pygan.study.plan import write as freeze

RESULTS, VARIANTS, EXAMPLES = "results.jsonl", "variants", "examples"


class _Stop(Exception):
    """A signal came while nothing was being trained."""


def work(plan: Plan, folder: Path, device: str) -> int:
    """Train and measure every unit that is not done yet. Returns the exit code: 0 when done, or when stopped and saved.

    Errors: UserError, Diverged only within: a network that diverges is noted, and the others go on.
    """
    out = log.console()
    go_on = shlex.join(["pygan", "study", plan.kind, "--out", str(folder)])
    done = read_results(folder)
    lpips = _lpips(plan, device) if any(unit.name not in done for unit in plan.units) else None
    try:
        with _signals():
            for at, unit in enumerate(plan.units):
                if unit.name in done:
                    continue
                out.print(f"\n== {_place(plan, at, done)}: {_title(plan, unit)} ==", markup=False)
                row = _one(plan, unit, folder, device, lpips, go_on)
                if row is None:  # stopped, which training has said
                    return 0
                done[unit.name] = row
                _write(folder, lambda: _save(folder, done))
                _write(folder, lambda: report.write(plan, done, folder))
            _write(folder, lambda: report.write(plan, done, folder))
    except _Stop as stop:
        out.print(f"stopped by {stop}; nothing is lost, the study goes on with: {go_on}", markup=False)
        return 0
    for line in report.summary(plan, done):
        out.print(line, markup=False)
    out.print(f"report  {folder / report.PAGE}\ntable   {folder / report.TABLE}", markup=False)
    return 0


def check(plan: Plan, device: str) -> None:
    """Errors: UserError if a --lpips was asked for by name and is not there."""
    if plan.asked["lpips"] not in ("", "none", "alex"):
        _load_lpips(plan, device)


def begin(plan: Plan, folder: Path) -> None:
    """Freeze the plan of a new study and say what it is. Errors: UserError."""
    if any((folder / name).exists() for name in ("recipe.json", RESULTS)):
        raise UserError(f"{folder} holds something else already; choose another --out")
    _write(folder, lambda: freeze(plan, folder))
    units, fields = plan.units, plan.fields
    epochs = fields["epochs"] + fields["decay_epochs"]
    length = f"{fields['steps']} steps" if fields["steps"] else f"{epochs} passes"
    log.console().print(
        f"study of {plan.kind}: {len(plan.variants)} variants"
        + (f" from {plan.asked['seeds']} seeds" if plan.asked["seeds"] > 1 else "")
        + f", {len(units)} trainings of {length} at {fields['crop_size']} pixels, in {folder}",
        markup=False,
    )


def _one(plan: Plan, unit: Unit, folder: Path, device: str, lpips: Any, go_on: str) -> dict[str, Any] | None:
    """Train and measure one network; None if training was stopped before its end, and has named `go_on`."""
    from pygan.loop import train
    from pygan.study import measure

    run, began = folder / VARIANTS / unit.name, time.monotonic()
    facts = {"unit": unit.name, "variant": unit.variant.name, "seed": unit.seed, "axes": dict(unit.variant.axes)}
    if not resume.is_finished(run):
        try:
            train(plan.gan, preset=plan.preset, run=run, device=device, go_on=go_on, **plan.given(unit))
        except Diverged as reason:
            say(f"{unit.variant.title}: {reason}; the study goes on without it")
            return facts | {"diverged": str(reason)}
        if not resume.is_finished(run):
            return None
    trained = time.monotonic() - began
    found = measure.network(
        run,
        items=plan.asked["items"],
        other_set=plan.other_set(unit) if plan.others() else "",
        lpips=lpips,
        device=device,
        examples=folder / EXAMPLES / unit.name,
    )
    return facts | found | {"seconds": round(time.monotonic() - began, 1), "seconds_of_training": round(trained, 1)}


def _place(plan: Plan, at: int, done: Mapping[str, Mapping[str, Any]]) -> str:
    """As in: variant 3 of 6, 2 done, about 4 min left."""
    units = plan.units
    what = "variant" if plan.asked["seeds"] == 1 else "training"
    times = [row["seconds"] for row in done.values() if "seconds" in row]
    left = log.duration(sum(times) / len(times) * (len(units) - len(done))) if times else ""
    return f"{what} {at + 1} of {len(units)}" + (f", {len(done)} done, about {left} left" if left else "")


def _title(plan: Plan, unit: Unit) -> str:
    return unit.variant.title + (f", seed {unit.seed}" if plan.asked["seeds"] > 1 else "")


def _lpips(plan: Plan, device: str) -> Any:
    """The perceptual distance that the plan names; None, with a line, where it cannot be had."""
    if plan.asked["lpips"] in ("", "none"):
        return None
    try:
        return _load_lpips(plan, device)
    except UserError as reason:
        say(f"LPIPS is left out: {reason}")
        return None


def _load_lpips(plan: Plan, device: str) -> Any:
    from pygan import features
    from pygan.device import choose

    return features.lpips(plan.asked["lpips"], choose(device))


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """What was measured so far, by unit. A line that cannot be read is named; its network is measured again."""
    try:
        lines = (folder / RESULTS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            found[_name(row)] = row
        except (ValueError, TypeError, KeyError, AttributeError):
            say(f"{folder / RESULTS}: line {number} cannot be read; that network is measured again")
    return found


def _name(row: Any) -> str:
    """Errors: KeyError, TypeError, ValueError or AttributeError if the row is not one that `_one` makes."""
    if "diverged" not in row:
        if not {"train", "held_out", "nearest", "skips", "kept", "axes"} <= row.keys():
            raise KeyError("train")
        for values in (*row["train"].values(), *row["held_out"].values(), *row.get("other", {}).values()):
            if not all(isinstance(value, int | float) for value in values):
                raise ValueError("numbers expected")
        if not {"output", "own", "target", "seen", "unseen", "chance"} <= row["nearest"].keys():
            raise KeyError("nearest")
    return row["unit"]


def _save(folder: Path, done: Mapping[str, Mapping[str, Any]]) -> None:
    """The file is written anew: a kill leaves it with the newest line or without."""
    write_atomic(folder / RESULTS, "".join(json.dumps(row) + "\n" for row in done.values()).encode())


def _write(folder: Path, act: Any) -> None:
    try:
        act()
    except OSError as error:
        raise UserError(
            f"cannot write into {folder} ({error.strerror}); what is done is kept, make room and go on"
        ) from error


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Plan | None]:
    """The directory of a study, this process alone being in it; gives the plan that lies there. Errors: UserError."""
    try:
        with contextlib.closing(RunDir(folder).open()):
            yield read(folder)
    except UserError as error:
        raise UserError(str(error).replace("--run", "--out")) from error


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGINT and SIGTERM end what is being done at once: it has no state of its own. Training has its own handlers."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Stop(signal.Signals(number).name)

    with signals.handled(stop, *signals.STOPS):
        yield

"""A plan in words: a table of what it takes, and one line that says all of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from pygan.log import duration
from pygan.plan.make import Part, Plan
from pygan.recipe import flag


def size(number: float) -> str:
    """1234567 -> "1.2 MiB"."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if number >= factor:
            shown = number / factor
            return f"{shown:.0f} {unit}" if shown >= 100 else f"{shown:.1f} {unit}"
    return f"{number:.0f} B"


def step_time(seconds: float) -> str:
    """0.0123 -> "12.3 ms"."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"


def table(plan: Plan) -> Iterator[str]:
    """The lines of a plan."""
    where = f"the CPU, {plan.threads} thread{'s' if plan.threads != 1 else ''}" if plan.device == "cpu" else "the GPU"
    yield f"{plan.gan}, {plan.preset}, on {where}"
    for number, part in enumerate(plan.parts, start=1):
        if len(plan.parts) > 1:
            yield f"phase {number} of {len(plan.parts)}"
        yield from _part(part, plan.device)
    yield "disk at the end"
    for name, bytes_ in plan.disk.items():
        yield _line(name, size(bytes_), _of_checkpoints(plan) if name == "checkpoints" else "")
    yield _line("in all", size(sum(plan.disk.values())))
    for note in plan.notes:
        yield f"note: {note}"


def summary(plan: Plan) -> str:
    """All of it in one line."""
    time = "time not measured" if plan.total_s is None else duration(plan.total_s)
    if plan.total_s != plan.whole_s:
        time += f" (--max-minutes) of {duration(plan.whole_s)}"
    first = plan.parts[-1].length
    rate = "" if not first.step_s else f" at {first.per_step / first.step_s:.3g} images/s"
    steps = sum(part.length.steps for part in plan.parts)
    kind = "measured" if all(part.memory.measured for part in plan.parts) else "computed"
    return (
        f"{plan.gan}: {size(plan.peak)} of memory ({kind}), {time} for {steps:,} steps{rate}, "
        f"{size(sum(plan.disk.values()))} of disk"
    )


def _part(part: Part, device: str) -> Iterator[str]:
    found, one, walk = part.found, part.length, part.walk
    kept = "decoded in memory" if found.kind == "resident" else f"decoded as needed ({found.kind})"
    yield "data"
    yield f"  {found.description}"
    yield _line("images to train on", f"{found.items:,}", f"{found.held_out:,} held out; {kept}")
    yield "parameters"
    for name, count in walk.parameters.items():
        yield _line(name, f"{count:,}")
    yield f"memory of {'this machine' if device == 'cpu' else 'the GPU'} at its peak"
    for name, bytes_ in part.memory.parts.items():
        if bytes_:
            yield _line(name, size(bytes_))
    yield _line("peak", size(part.memory.peak), "measured here" if part.memory.measured else "computed, not measured")
    yield "time"
    yield _line("length", f"{one.images:,} images", f"{one.steps:,} steps of {one.per_step}, {one.epochs:.4g} epochs")
    if one.step_s is None:
        yield _line("a step", "not measured")
        return
    yield _line("a step", step_time(one.step_s), f"{one.step_from}; {one.per_step / one.step_s:.3g} images/s")
    yield _line("an epoch", duration(one.epoch_s))
    for name, seconds in one.seconds.items():
        yield _line(name, duration(seconds))
    limit = f"--max-minutes stops it after {duration(one.limit_s)}" if one.limit_s else ""
    yield _line("in all", duration(one.total_s), limit if one.limit_s and one.limit_s < one.total_s else "")


def _of_checkpoints(plan: Plan) -> str:
    one = max((part.length for part in plan.parts), key=lambda length: length.disk["checkpoints"])
    return f"at most {one.kept} of {size(one.checkpoint_bytes)} each"


def _line(name: str, value: str, more: str = "") -> str:
    return f"  {name:<26}{value:>14}" + (f"   {more}" if more else "")


def command(gan: str, preset: str, recipe: Any, presets: dict[str, dict[str, Any]], device: str) -> str:
    """The `pygan train` command that trains this recipe: the preset, and what differs from it."""
    base = type(recipe)(**presets[preset]) if preset in presets else type(recipe)()
    words = ["pygan", "train", gan, "--preset", preset] if preset in presets else ["pygan", "train", gan]
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if value == getattr(base, field.name):
            continue
        name = flag(field.name)
        if isinstance(value, bool):
            words.append(name if value else "--no-" + name.removeprefix("--"))
        else:  # a word that begins with - is no flag
            words += [f"{name}={value}"] if str(value).startswith("-") else [name, str(value)]
    return shlex.join([*words, "--device", device])


def as_json(values: Any) -> str:
    """For `--json` and `-o`."""
    return json.dumps(values, indent=2) + "\n"

"""The diagnosis of a run, told again from its files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pygan import rundir
from pygan.diagnosis.spells import Diagnosis, Finding
from pygan.errors import UserError

DIVERGED_ADVICE = "start a new --run with a lower --lr, or without --amp"


class Replay(NamedTuple):
    """What a run's files say."""

    gan: str
    findings: list[Finding]
    rows: int
    steps: int  # of the last row
    unseen: str  # what could not be checked, and why; "" if everything could be


def replay(run: Path) -> list[Finding]:
    """The findings of a run directory, in the order in which they were to be said. Errors: UserError if it is none."""
    return replayed(run).findings


def replayed(run: Path, progress: Callable[[int, int], None] | None = None) -> Replay:
    """`replay`, with what it is based on. Rows that were cut short or are damaged are passed over.

    progress: is told (rows looked at, of all); tens of thousands take a minute.
    Errors: UserError if `run` is not a run directory, or its files cannot be read.
    """
    facts = rundir.read_facts(run)
    try:
        rows, said = rundir.read_metrics(run), rundir.read_findings(run)
    except OSError as error:
        raise _unreadable(run, error) from error
    diagnosis = Diagnosis(facts["recipe"], facts["gan"])
    findings, forward = [], _forward(rows)
    for done, row in enumerate(forward, start=1):
        findings += diagnosis.see(row)
        if progress is not None:
            progress(done, len(forward))
    findings += _diverged(rows, said)
    return Replay(facts["gan"], findings, diagnosis.seen_rows, diagnosis.seen_steps, diagnosis.unseen())


def _unreadable(run: Path, error: OSError) -> UserError:
    return UserError(f"the rows of {run} cannot be read ({error.strerror or error}); make its files readable")


def _forward(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that stand: where a run was taken up at a checkpoint, those that came after it were written again."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        while kept and kept[-1]["images"] > row["images"]:
            kept.pop()
        kept.append(row)
    return kept


def _diverged(rows: list[dict[str, Any]], said: list[dict[str, Any]]) -> list[Finding]:
    """That a loss was no number: as it was said when training stopped by it, else from the first row that has it."""
    last = max((row["images"] for row in rows), default=0)
    for values in reversed(said):
        if values.get("name") == "diverged" and values["images"] >= last and (finding := _finding(values)):
            return [finding]
    for row in rows:
        bad = [key for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
        bad = [key for key in bad if key.startswith("loss/")]
        if bad and isinstance(row.get("steps"), int):
            line = f"{', '.join(bad)} became NaN or infinite, since step {row['steps']}"
            place = (row["images"], row["steps"])
            return [Finding("diverged", *place, *place, math.nan, line, DIVERGED_ADVICE)]
    return []


def _finding(values: Mapping[str, Any]) -> Finding | None:
    """A line of findings.jsonl; None if a part of it is missing or of another kind."""
    kinds = {"name": str, "images": int, "steps": int, "since_images": int, "since_steps": int, "line": str}
    kinds |= {"advice": str}
    if not all(isinstance(values.get(name), kind) for name, kind in kinds.items()):
        return None
    evidence = values.get("evidence")
    evidence = float(evidence) if isinstance(evidence, int | float) else math.nan
    return Finding(evidence=evidence, **{name: values[name] for name in kinds})

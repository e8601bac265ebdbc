"""What a run directory says about itself, as far as it can be read; only recipe.json has to be there."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import math
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from pygan import checkpoint, diagnosis, gans
from pygan.errors import UserError
from pygan.progress import Counter
from pygan.recipe import flag
from pygan.rundir import METRICS, SCORES, from_json, read_facts, read_metrics

_SAMPLE = re.compile(r"images-(\d+)\.png")
_EVENTS = re.compile(r"events\.out\.tfevents\.(\d+)\.")


@dataclass(frozen=True)
class Record:
    """A run, read once. Values that are not what they should be are left out and named in `problems`."""

    path: Path
    gan: str
    preset: str
    facts: dict[str, Any]
    rows: list[dict[str, Any]]
    scores: dict[str, Any]  # of scores.json; {} without one
    evaluation: Any  # of evaluation.json; None without one
    environment: Any  # of environment.json; None without one
    findings: list[dict[str, Any]]  # of `diagnosis.Finding`
    unseen: str  # what the diagnosis could not look at, and why
    samples: list[tuple[int, Path]]  # (images seen, grid), oldest first
    checkpoints: list[checkpoint.Found]  # newest first
    status: str  # finished, training, interrupted, diverged, imported, not begun
    problems: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> dict[str, Any]:
        return self.facts["recipe"]

    @property
    def asked(self) -> dict[str, Any]:
        return self.facts["asked"]

    @property
    def name(self) -> str:
        return self.path.resolve().name or str(self.path)

    @property
    def images_seen(self) -> int:
        """Where the run is: of its rows, or of its newest checkpoint if that is further."""
        seen = [row["images"] for row in self.rows[-1:]] + [found.images_seen for found in self.checkpoints[:1]]
        return max(seen, default=0)

    @property
    def steps(self) -> int:
        seen = [row["steps"] for row in self.rows[-1:] if isinstance(row.get("steps"), int)]
        return max([*seen, *(found.facts["steps"] for found in self.checkpoints[:1])], default=0)

    def module(self) -> ModuleType | None:
        """The GAN's module; None if this version of pygan has no such GAN."""
        return gans.load(self.gan) if self.gan in gans.names() else None


def read(path: Path) -> Record:
    """Read a run directory. Errors: UserError if it is none."""
    facts = read_facts(path)
    problems: list[str] = []
    rows = _rows(path, problems)
    scores = _json(path / SCORES, problems)
    if scores is not None and not (isinstance(scores, dict) and isinstance(scores.get("scores"), dict)):
        problems.append(f"{SCORES} is damaged and left out")
        scores = None
    findings, unseen = _findings(path, problems)
    checkpoints = checkpoint.find(path / "checkpoints")
    preset = facts.get("preset")
    return Record(
        path=path,
        gan=facts["gan"],
        preset=preset if isinstance(preset, str) else "",
        facts=facts,
        rows=rows,
        scores=scores or {},
        evaluation=_json(path / "evaluation.json", problems),
        environment=_json(path / "environment.json", problems),
        findings=findings,
        unseen=unseen,
        samples=_samples(path / "samples"),
        checkpoints=checkpoints,
        status=_status(path, facts, rows, checkpoints, findings),
        problems=problems,
    )


def command(record: Record) -> str:
    """The command that trains the run anew: its preset, and every flag by which it was another one; "" if imported."""
    gan = record.module()
    if gan is None or record.facts.get("imported"):
        return ""
    preset = record.preset if record.preset in gan.PRESETS else "paper"
    usual = {f.name: f.default for f in dataclasses.fields(gan.Recipe)} | dict(gan.PRESETS[preset])
    words = ["pygan", "train", record.gan, "--preset", preset]
    for name, value in record.asked.items():
        if name in usual and value != usual[name]:
            words += _words(name, value)
    return shlex.join([*words, "--run", f"{record.path}-again"])


def when(record: Record) -> tuple[str, str]:
    """When training began, as far as its files tell, and when it wrote last; "" where nothing tells."""
    began = _first_session(record.environment)
    if began is None:
        began = min((int(m[1]) for p in _listed(record.path) if (m := _EVENTS.match(p.name))), default=None)
    last = None
    with contextlib.suppress(OSError):
        last = (record.path / METRICS).stat().st_mtime
    return tuple(
        "" if t is None else datetime.datetime.fromtimestamp(t).strftime("%Y-%m-%d %H:%M") for t in (began, last)
    )


def _first_session(environment: Any) -> float | None:
    """Seconds since 1970, as environment.json tells it."""
    try:
        return datetime.datetime.fromisoformat(environment["sessions"][0]["began"]).timestamp()
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def is_number(value: Any) -> bool:
    """A float (NaN too) or an int that is no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [flag(name) if value else flag("no_" + name)]
    text = str(value)
    return [f"{flag(name)}={text}"] if text.startswith("-") or not text else [flag(name), text]


def _rows(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    try:
        return read_metrics(path)
    except OSError as error:
        problems.append(f"{METRICS} cannot be read ({error.strerror}); there are no curves")
        return []


def _json(path: Path, problems: list[str]) -> Any:
    try:
        return from_json(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        problems.append(f"{path.name} is damaged and left out")
        return None


def _findings(path: Path, problems: list[str]) -> tuple[list[dict[str, Any]], str]:
    """What is wrong with the run, by the rules as they are now over all its rows; and what they could not see."""
    try:
        with Counter(f"looking through the rows of {path}", unit="rows") as counter:
            found = diagnosis.replayed(path, counter.of)
    except UserError as error:
        problems.append(str(error))
        return [], ""
    return [dataclasses.asdict(finding) for finding in found.findings], found.unseen


def _samples(folder: Path) -> list[tuple[int, Path]]:
    return sorted((int(match[1]), path) for path in _listed(folder) if (match := _SAMPLE.fullmatch(path.name)))


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _status(
    path: Path,
    facts: dict[str, Any],
    rows: list[dict[str, Any]],
    found: list[checkpoint.Found],
    findings: list[dict[str, Any]],
) -> str:
    if facts.get("imported"):
        return "imported"
    if _in_use(path):
        return "training"
    if found and found[0].facts.get("finished") is True:
        return "finished"
    last = rows[-1] if rows else {}
    bad = any(is_number(value) and not math.isfinite(value) for key, value in last.items() if key.startswith("loss/"))
    # Training stops before it writes such a row; what it says of it is a finding beyond all rows.
    if bad or any(one["name"] == "diverged" and one["images"] > last.get("images", -1) for one in findings):
        return "diverged"
    return "interrupted" if rows or found else "not begun"


def _in_use(path: Path) -> bool:
    """Does a process hold the run's lock (see `rundir.RunDir`)?"""
    try:
        with open(path / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False

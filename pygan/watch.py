"""What a training session writes down about itself beside its rows: findings.jsonl and environment.json."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from pygan import device as devices
from pygan import recipe as recipes
from pygan.diagnosis import Diagnosis, Finding
from pygan.recipe import BaseRecipe
from pygan.rundir import ENVIRONMENT, FINDINGS, RunDir, read_findings, read_metrics, write_atomic
from pygan.state import State
from pygan.version import __version__
from pygan.vitals import Vitals


class Watch:
    """The diagnosis of a run while it trains.

    images_seen: where this session begins; what earlier rows say is known and not said again, and later findings of an
    earlier session are dropped with their rows.
    """

    def __init__(self, run: RunDir, gan: str, recipe: BaseRecipe, images_seen: int) -> None:
        self._run, self._vitals = run, Vitals()
        self._diagnosis = Diagnosis(recipes.to_dict(recipe), gan)
        kept = [finding for finding in read_findings(run.path) if finding["images"] <= images_seen]
        if (run.path / FINDINGS).exists():
            write_atomic(run.path / FINDINGS, "".join(json.dumps(finding) + "\n" for finding in kept).encode())
        for row in read_metrics(run.path):
            self._diagnosis.see(row)

    def vitals(self, state: State) -> dict[str, Tensor]:
        """How the last step's pictures and gradients look: 0-d tensors on the device; nobody waits."""
        with torch.no_grad():
            return self._vitals.measure(state)

    def see(self, row: Mapping[str, Any]) -> list[str]:
        """The lines to be said after a row; they are also recorded. Errors: OSError."""
        found = self._diagnosis.see(row)
        for finding in found:
            _append(self._run, finding)
        return [line for finding in found for line in (f"finding: {finding.line}", f"         {finding.advice}")]


def note_diverged(run: RunDir, images: int, steps: int, first: int, line: str) -> None:
    """Record that a loss was no number first in step `first`, which rows cannot tell. Errors: OSError."""
    what, _, advice = line.rpartition(". ")
    since = max(0, images - (steps - first) * (images // steps))
    _append(run, Finding("diverged", images, steps, since, first, float("nan"), what, advice))


def note_environment(run: RunDir, device: torch.device, dtype: torch.dtype, images_seen: int) -> None:
    """Add this session to environment.json: versions, device, precision, threads, command line. Errors: OSError."""
    session = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": images_seen,
        "pygan": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": devices.describe(device),
        "precision": devices.describe_precision(dtype, device),
        "threads": torch.get_num_threads(),
        "command": shlex.join(["pygan", *sys.argv[1:]]),
    }
    path = run.path / ENVIRONMENT
    try:
        before = json.loads(path.read_text())["sessions"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        before = []
    sessions = [*(before if isinstance(before, list) else []), session]
    write_atomic(path, (json.dumps({"sessions": sessions}, indent=2) + "\n").encode())


def _append(run: RunDir, finding: Finding) -> None:
    with open(run.path / FINDINGS, "a") as file:
        file.write(json.dumps(finding.to_json()) + "\n")

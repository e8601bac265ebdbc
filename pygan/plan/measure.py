"""A few real steps of a recipe in a fresh process, with a time limit: what is said of a machine is measured on it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from pygan import recipe as recipes
from pygan.plan.data import Found

_START_S = 60.0  # for a fresh process to import everything on a busy machine


@dataclass(frozen=True)
class Phase:
    """What was measured of a phase; times in seconds, sizes in bytes, None or 0: not measured.

    step: the median of `steps` of them without the first; cpu: of what their threads computed meanwhile; feed: to open
    the small set; decode: one item; row, evaluate (an item), sample (an item), save: acts of a training; png: a picture
    of a grid; peak: of main memory, with a set of `items`; gpu: {"gpu_reserved", "gpu_taken", "gpu_allocated"}.
    """

    step: float | None = None
    steps: int = 0
    cpu: float = 0.0
    feed: float = 0.0
    items: int = 0
    decode: float = 0.0
    build: float = 0.0
    row: float = 0.0
    values: int = 0
    evaluate: float = 0.0
    sample: float = 0.0
    png: float = 0.0
    save: float = 0.0
    peak: int = 0
    gpu: Mapping[str, int] = field(default_factory=dict)
    lacks: str = ""  # what was not reached, in words


@dataclass(frozen=True)
class Measured:
    """baseline: bytes of a process with all libraries and nothing of a recipe; start: seconds until it is there."""

    baseline: int
    start: float
    threads: int
    phases: tuple[Phase, ...] = ()
    failed: str = ""  # why there is less than was asked for, in words


def measure(
    name: str, phases: Sequence[tuple[Any, Found]], device: str, *, seconds: float, steps: bool = True
) -> Measured:
    """Train each phase for about `seconds` / len(phases) in a child process; steps=False: look at its baseline only.

    A child that takes much longer is stopped: what it told by then counts. It never raises for what goes wrong in it:
    the result says so.
    """
    asked = {
        "gan": name,
        "device": device,
        "seconds": seconds,
        "tensorboard": phases[0][0].tensorboard,
        "phases": [{"recipe": recipes.to_dict(one), "few": _few(one, found)} for one, found in phases] if steps else [],
    }
    began = time.monotonic()
    told, failed, start = _run(asked, limit=_START_S + 5 * seconds)
    baseline = next((line for line in told if line["what"] == "baseline"), None)
    if baseline is None:
        return Measured(0, time.monotonic() - began, 0, tuple(Phase() for _ in asked["phases"]), failed or "no answer")
    found = tuple(_phase([line for line in told if line.get("phase") == i]) for i in range(len(asked["phases"])))
    return Measured(baseline["peak"], start, baseline["threads"], found, failed)


def _few(recipe: Any, found: Found) -> dict[str, Any]:
    """Fields that make the set small: a smaller built-in one; of a folder, only the pictures that are asked for."""
    if not found.drawn:
        return {"feed": "pillow"}
    items = min(recipe.data_images, max(16, 2 * recipe.batch))
    return {"data_images": items}


def _run(asked: dict[str, Any], *, limit: float) -> tuple[list[dict], str, float]:
    """(what the child told, why it ended early or "", seconds until it had its libraries)."""
    began, start = time.monotonic(), 0.0
    child = subprocess.Popen(
        [sys.executable, "-m", "pygan.plan.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[str | None] = queue.Queue()
    errors: list[str] = []
    readers = [
        threading.Thread(target=lambda: [lines.put(line) for line in child.stdout] and None, daemon=True),
        threading.Thread(target=lambda: errors.extend(child.stderr), daemon=True),
    ]
    told, failed = [], ""
    try:
        for reader in readers:
            reader.start()
        child.stdin.write(json.dumps(asked) + "\n")
        child.stdin.close()
        while True:
            try:
                told.append(json.loads(lines.get(timeout=0.05)))
                if told[-1]["what"] == "baseline":
                    start = time.monotonic() - began
            except queue.Empty:
                if not readers[0].is_alive() and lines.empty():
                    break
            if time.monotonic() - began > limit:
                failed = f"stopped after {limit:.0f} s"
                break
        if not failed and child.wait(timeout=10):
            last = errors[-1].strip() if errors else f"exit code {child.returncode}"
            failed = f"it ended early: {last}"
    except OSError as error:
        failed = f"it could not be started ({error.strerror})"
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
    return told, failed, start


def _phase(told: Sequence[dict]) -> Phase:
    """What the lines of a phase say."""
    by = {line["what"]: line for line in told}
    times = [line["seconds"] for line in told if line["what"] == "step"]
    later = times[1:] or times
    stages = ("feed", "build", "step", "row", "evaluation", "checkpoint")
    lacks = ", ".join(stage for stage in stages if stage not in by)
    gpu = {key: max(line.get(key, 0) for line in told) for key in ("gpu_reserved", "gpu_taken", "gpu_allocated")}
    return Phase(
        step=median(later) if later else None,
        steps=len(times),
        cpu=median([line["cpu"] for line in told if line["what"] == "step"][1:] or [0.0]),
        feed=by.get("feed", {}).get("open", 0.0),
        items=by.get("feed", {}).get("items", 0),
        decode=by.get("feed", {}).get("decode", 0.0),
        build=by.get("build", {}).get("seconds", 0.0),
        row=by.get("row", {}).get("seconds", 0.0),
        values=by.get("row", {}).get("values", 0),
        evaluate=by.get("evaluation", {}).get("measure", 0.0),
        sample=by.get("evaluation", {}).get("sample", 0.0),
        png=by.get("evaluation", {}).get("png", 0.0),
        save=by.get("checkpoint", {}).get("seconds", 0.0),
        peak=max((line.get("peak", 0) for line in told), default=0),
        gpu={key: size for key, size in gpu.items() if size},
        lacks=lacks,
    )

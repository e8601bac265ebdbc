"""A few real steps of a recipe in a fresh process, with a time limit: what is said of a machine is measured on it."""

from __future__ import annotations

import contextlib
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

    step: the median of `steps` of them without the first, where there are more; cpu: of what their threads computed
    meanwhile; feed: to open the set, with the decoding of a small one; decode: one item; row, evaluate (an item),
    sample (an item), baseline (a training item), save: acts of a training; values, row_bytes: of a row; png: a picture
    of a grid; peak: of main memory, with a set of `items`; gpu: of a GPU's memory {"reserved", "context"}: by its
    tensors, and what the process took of it besides.
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
    row_bytes: int = 0
    evaluate: float = 0.0
    baseline: float = 0.0
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
        "phases": [_of_phase(one, found) for one, found in phases] if steps else [],
    }
    began = time.monotonic()
    others = _taken(device)
    told, failed, start = _run(asked, limit=_START_S + 5 * seconds)
    baseline = next((line for line in told if line["what"] == "baseline"), None)
    if baseline is None:
        return Measured(0, time.monotonic() - began, 0, tuple(Phase() for _ in asked["phases"]), failed or "no answer")
    found = tuple(
        _phase([line for line in told if line.get("phase") == i], others) for i in range(len(asked["phases"]))
    )
    return Measured(baseline["peak"], start, baseline["threads"], found, failed)


def _of_phase(recipe: Any, found: Found) -> dict[str, Any]:
    """What the child is told of a phase: its recipe, the fields that make its set small (a smaller built-in one, with a
    batch held out; of a folder, only the pictures that are asked for), and whether steps find their pictures decoded.
    """
    whole = recipes.to_dict(recipe)
    if not found.drawn:
        kind = "dali" if found.kind == "dali" else "pillow"
        return {"recipe": whole, "few": {"feed": kind}, "ready": found.kind == "resident"}
    items = min(recipe.data_images, max(16, 2 * recipe.batch))
    held_out = min(found.held_out, recipe.batch, items - 1)
    return {"recipe": whole, "few": {"data_images": items, "holdout": held_out / items}, "ready": False}


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
        child.stdin.flush()  # it stays open: a child ends with whoever holds it
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
        with contextlib.suppress(OSError):
            child.stdin.close()
    return told, failed, start


def _taken(device: str) -> int:
    """Bytes of a GPU's memory that are taken, by whomever; this process has its context there from now on."""
    if device != "cuda":
        return 0
    import torch

    free, total = torch.cuda.mem_get_info()
    return total - free


def _phase(told: Sequence[dict], others: int) -> Phase:
    """What the lines of a phase say. others: bytes of a GPU that were taken before."""
    by = {line["what"]: line for line in told}
    steps = [line for line in told if line["what"] == "step"]
    later = steps[1:] or steps
    stages = ("feed", "build", "step", "row", "evaluation", "checkpoint")
    lacks = ", ".join(stage for stage in stages if stage not in by)
    seen = [line for line in told if "gpu_reserved" in line]
    gpu = {}
    if seen:
        beside = max(line["gpu_beside"] for line in seen)
        gpu = {"reserved": max(line["gpu_reserved"] for line in seen), "context": max(0, beside - others)}
    return Phase(
        step=median(line["seconds"] for line in later) if later else None,
        steps=len(steps),
        cpu=median(line["cpu"] for line in later) if later else 0.0,
        feed=by.get("feed", {}).get("open", 0.0),
        items=by.get("feed", {}).get("items", 0),
        decode=by.get("feed", {}).get("decode", 0.0),
        build=by.get("build", {}).get("seconds", 0.0),
        row=by.get("row", {}).get("seconds", 0.0),
        values=by.get("row", {}).get("values", 0),
        row_bytes=by.get("row", {}).get("size", 0),
        evaluate=by.get("evaluation", {}).get("measure", 0.0),
        baseline=by.get("evaluation", {}).get("baseline", 0.0),
        sample=by.get("evaluation", {}).get("sample", 0.0),
        png=by.get("evaluation", {}).get("png", 0.0),
        save=by.get("checkpoint", {}).get("seconds", 0.0),
        peak=max((line.get("peak", 0) for line in told), default=0),
        gpu=gpu,
        lacks=lacks,
    )

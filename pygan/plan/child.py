"""A training of a few steps in a process of its own: `python -m pygan.plan.child`, driven by `measure.py`.

Reads a JSON of one line: {"gan", "phases": [{"recipe": {...}, "few": {...}, "ready": bool}], "device", "seconds",
"tensorboard"}; few: fields of the recipe that make its set small; ready: do steps find their pictures decoded, though
this set is not? Writes a line of JSON as soon as it knows something, so that a child that is stopped has told what it
found: {"what": stage, ...}. Sizes in bytes, times in seconds. It ends when its stdin does: with who asked.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

MOST_STEPS = {"cpu": 24, "cuda": 400}  # a GPU's take milliseconds, and its clock has to come up first
LEAST_STEPS = 3  # the first is not like the others
_LONGER = 3  # times the seconds that there are, which these may take
_READY = 3  # batches that are decoded beforehand
_MOST_BASELINES = 32  # training items that baselines are taken from here


def main() -> None:
    """Measure what is asked for on stdin."""
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    began = time.perf_counter()
    import torch

    from pygan import device as devices
    from pygan import gans

    where = torch.device(asked["device"])
    _libraries(where, tensorboard=asked["tensorboard"])
    _tell("baseline", began=began, rss=_status("VmRSS"), peak=_status("VmHWM"), threads=torch.get_num_threads())
    gan = gans.load(asked["gan"])
    for number, phase in enumerate(asked["phases"]):
        from pygan import recipe as recipes

        recipe = recipes.from_dict(gan.Recipe, phase["recipe"], "plan")
        devices.make_deterministic(where, recipe.deterministic)
        _phase(gan, recipe, phase, where, number, asked["seconds"] / len(asked["phases"]))


def _end_with_stdin() -> None:
    """Who asked holds the other end open; it is gone when whoever that was is."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def _libraries(device: Any, *, tensorboard: bool) -> None:
    """What every training loads and starts, whatever its recipe."""
    import torch

    from pygan import loop  # noqa: F401

    if tensorboard:
        from torch.utils.tensorboard import SummaryWriter

        with tempfile.TemporaryDirectory() as folder:
            SummaryWriter(folder).close()
    weight = torch.randn(8, 8, 3, 3, device=device, requires_grad=True)
    torch.nn.functional.conv2d(torch.randn(2, 8, 16, 16, device=device), weight).sum().backward()


def _phase(gan: ModuleType, recipe: Any, asked: dict, device: Any, number: int, seconds: float) -> None:
    """Feed, steps, a row, a grid, an evaluation and a checkpoint, as `loop.py` does them. asked: {"few", "ready"}."""
    import torch

    from pygan import checkpoint, gans, heldout, pictures
    from pygan.heap import Heap
    from pygan.judge import Judge
    from pygan.nn import full_precision
    from pygan.vitals import Vitals

    began = time.perf_counter()
    small = replace(recipe, **asked["few"])
    feed = gan.batches(small, "train", device)
    held_out = gan.batches(small, "held-out", device)
    opened = time.perf_counter() - began
    decode = _median(lambda: [source.pictures(0) for source in feed.sources], 3)
    _tell("feed", phase=number, open=opened, decode=decode, items=feed.n_items, **_memory(device))

    began = time.perf_counter()
    state = gan.build(recipe, device)
    state.buffers["watch"] = torch.zeros(2, dtype=torch.int64, device=device)
    _tell("build", phase=number, seconds=time.perf_counter() - began, **_memory(device))

    step, logs, per_step = _make(gan, recipe, state, feed), {}, gans.images_per_step(gan, recipe)
    addresses, first = _addresses(feed, per_step, ready=asked["ready"]), time.perf_counter()
    heap = Heap() if device.type == "cpu" else None
    while state.steps < MOST_STEPS[device.type]:
        most = seconds * (_LONGER if state.steps < LEAST_STEPS else 1)
        if state.steps and time.perf_counter() - first > most:
            break
        began, computed = time.perf_counter(), time.process_time()
        for opt in state.opts.values():
            opt.set_lr_(opt.lr)
        logs = step(next(addresses))
        _wait(device)
        took, computed = time.perf_counter() - began, time.process_time() - computed
        state.images_seen, state.steps = state.images_seen + per_step, state.steps + 1
        if heap is not None:
            heap.end_of_round()
        _tell("step", phase=number, seconds=took, cpu=computed, **_memory(device))

    vitals = Vitals() if recipe.diagnose else None
    row: dict[str, float] = {}

    def record() -> None:
        values = logs | (vitals.measure(state) if vitals else {})
        row.update(zip(values, torch.stack([v.detach().float() for v in values.values()]).tolist(), strict=True))

    record()
    seconds = _median(record, 3)
    line = {"images": state.images_seen, "steps": state.steps, "epoch": 1, "lr": recipe.lr, "images_per_s": 12.345}
    size = len(json.dumps(row | line)) + 1
    _tell("row", phase=number, seconds=seconds, values=len(row), size=size, **_memory(device))

    nets = state.nets | state.ema
    count = min(held_out.batch_size, held_out.n_items)
    picture: list[bytes] = []

    def sample() -> None:
        parts = [pictures.columns(gan.sample(nets["G"], recipe, one)) for one in heldout.batches(held_out, count)]
        picture.append(pictures.to_png(pictures.grid(pictures.joined(parts))))

    judge = Judge(gan, small, held_out, device)
    measured = _timed(lambda: judge.scores(nets, count))
    _timed(lambda: judge.of_training_items(nets, count))  # its threads take memory
    of_training = min(feed.n_items, _MOST_BASELINES)
    compared = 0.0
    if hasattr(gan, "baselines"):
        compared = _timed(lambda: gan.baselines(recipe, heldout.batches(feed, of_training)))
    with full_precision(), torch.no_grad():
        sampled = _timed(sample)
    judge.close()
    each = {"measure": measured / count, "sample": sampled / count, "png": len(picture[0]) / count}
    each |= {"baseline": compared / of_training}
    _tell("evaluation", phase=number, **each, **_memory(device))

    with tempfile.TemporaryDirectory() as folder:
        facts = {"gan": gans.name_of(gan), "recipe": {}}
        saved = _timed(lambda: checkpoint.save(Path(folder), state, facts, {}))
        size = sum(file.stat().st_size for file in (Path(folder) / "last").iterdir())
    _tell("checkpoint", phase=number, seconds=saved, size=size, **_memory(device))
    feed.close()
    held_out.close()


def _make(gan: ModuleType, recipe: Any, state: Any, feed: Any) -> Callable[[Any], dict]:
    """The step that a training makes, on a GPU as one CUDA graph."""
    from pygan.graph import GraphedStep

    def plain(address: Any) -> dict:
        return gan.step(state, recipe, feed.batch(address))

    if state.device.type != "cuda" or recipe.graph == "off":
        return plain
    return GraphedStep(plain, state, feed.address(0))


def _addresses(feed: Any, per_step: int, *, ready: bool) -> Iterator[Any]:
    """Addresses of one batch after the other; ready: of a few in turns, decoded before the first is given."""
    if ready:
        yield from itertools.cycle([feed.address(number * per_step) for number in range(_READY)])
    yield from map(feed.address, itertools.count(step=per_step))


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _median(act: Callable[[], Any], times: int) -> float:
    return statistics.median(_timed(act) for _ in range(times))


def _memory(device: Any) -> dict[str, int]:
    """What this process takes of main memory, now and at most; of a GPU's what its tensors took at most, and what all
    processes take beside these tensors: contexts, libraries, graphs.
    """
    found = {"rss": _status("VmRSS"), "peak": _status("VmHWM")}
    if device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(device)
        found["gpu_reserved"] = torch.cuda.max_memory_reserved(device)
        found["gpu_beside"] = total - free - torch.cuda.memory_reserved(device)
    return found


def _status(name: str) -> int:
    """A size of /proc/self/status in bytes; 0 where there is none."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _tell(what: str, **found: Any) -> None:
    print(json.dumps({"what": what, **found}), flush=True)


if __name__ == "__main__":
    main()

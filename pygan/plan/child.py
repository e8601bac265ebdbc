"""A training of a few steps in a process of its own: `python -m pygan.plan.child`, driven by `measure.py`.

Reads a JSON of one line: {"gan", "phases": [{"recipe": {...}, "few": {...}}], "device", "seconds"}; few: fields of the
recipe that make its set small. Writes a line of JSON as soon as it knows something, so that a child that is stopped has
told what it found: {"what": stage, ...}. Sizes in bytes, times in seconds.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

MOST_STEPS = 24
LEAST_STEPS = 3


def main() -> None:
    """Measure what is asked for on stdin."""
    asked = json.loads(sys.stdin.readline())
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
        _phase(gan, recipe, phase["few"], where, number, asked["seconds"] / len(asked["phases"]))


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


def _phase(gan: ModuleType, recipe: Any, few: dict, device: Any, number: int, seconds: float) -> None:
    """Feed, steps, a row, a grid, an evaluation and a checkpoint, as `loop.py` does them."""
    import torch

    from pygan import checkpoint, gans, heldout, pictures
    from pygan.judge import Judge
    from pygan.nn import full_precision
    from pygan.vitals import Vitals

    began = time.perf_counter()
    small = replace(recipe, **few)
    feed = gan.batches(small, "train", device)
    held_out = gan.batches(small, "held-out", device)
    source = feed.sources[0]
    decode = _median(lambda: source.pictures(0), 3)
    _tell("feed", phase=number, open=time.perf_counter() - began, decode=decode, items=feed.n_items, **_memory(device))

    began = time.perf_counter()
    state = gan.build(recipe, device)
    state.buffers["watch"] = torch.zeros(2, dtype=torch.int64, device=device)
    _tell("build", phase=number, seconds=time.perf_counter() - began, **_memory(device))

    step, times, logs = _make(gan, recipe, state, feed), [], {}
    ends, images = time.perf_counter() + seconds, 0
    while len(times) < MOST_STEPS and (len(times) < LEAST_STEPS or time.perf_counter() < ends):
        began, computed = time.perf_counter(), time.process_time()
        for opt in state.opts.values():
            opt.set_lr_(opt.lr)
        logs = step(feed.address(images))
        _wait(device)
        times.append(time.perf_counter() - began)
        images += gans.images_per_step(gan, recipe)
        state.images_seen, state.steps = images, state.steps + 1
        computed = time.process_time() - computed
        _tell("step", phase=number, seconds=times[-1], cpu=computed, **_memory(device))
        if len(times) == 1 and times[0] > seconds:
            break

    vitals = Vitals() if recipe.diagnose else None
    row: dict[str, float] = {}

    def record() -> None:
        values = logs | (vitals.measure(state) if vitals else {})
        row.update(zip(values, torch.stack([v.detach().float() for v in values.values()]).tolist(), strict=True))

    first = _timed(record)
    _tell("row", phase=number, first=first, seconds=_median(record, 3), values=len(row), **_memory(device))

    nets = state.nets | state.ema
    batch = held_out.get(0)
    count = batch[0].shape[0]
    picture: list[bytes] = []

    def sample() -> None:
        parts = [pictures.columns(gan.sample(nets["G"], recipe, one)) for one in heldout.batches(held_out, count)]
        picture.append(pictures.to_png(pictures.grid(pictures.joined(parts))))

    judge = Judge(gan, small, held_out, device)
    measured = _timed(lambda: judge.scores(nets, count))
    _timed(lambda: judge.of_training_items(nets, count))  # its threads take memory
    if hasattr(gan, "baselines"):
        _timed(lambda: gan.baselines(recipe, heldout.batches(feed, feed.n_items)))
    with full_precision(), torch.no_grad():
        sampled = _timed(sample)
    judge.close()
    each = {"measure": measured / count, "sample": sampled / count, "png": len(picture[0]) / count}
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
    """What this process takes now and took at most: of main memory, and of the GPU's."""
    found = {"rss": _status("VmRSS"), "peak": _status("VmHWM")}
    if device.type == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info(device)
        found |= {"gpu_reserved": torch.cuda.max_memory_reserved(device), "gpu_taken": total - free}
        found |= {"gpu_allocated": torch.cuda.max_memory_allocated(device)}
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

"""What the diagnosis of a training costs: a row of metrics with it and without, and the training round it.

    row     one row as `pygan train` writes it: the losses brought to the host, metrics.jsonl, TensorBoard; with the
            diagnosis also its vital signs, in the same transfer, and what it makes of them
    loop    windows of training that end in a row, 2 s of steps each as by default, with and without it in turn

`share_of_2_s` is the difference of the two rows over the 2 seconds between them: what is lost of a training. It must be
under 2 %. Every case first trains the same steps with and without, and its losses must be the same bits. `load` is that
of the machine: who else computes makes both rows slower, and the difference larger.

    OMP_NUM_THREADS=2 pytest benchmarks/bench_diagnosis.py --benchmark-only --record
"""

import dataclasses
import itertools
import os
import statistics
import time

import pytest
import torch

from benchmarks import cases, timing
from pygan import gans
from pygan.graph import GraphedStep
from pygan.log import Log
from pygan.loop import LOG_EVERY_S
from pygan.rundir import RunDir
from pygan.watch import Watch

MOST_SHARE = 0.02
CHECK_STEPS = 5
WINDOWS = 24  # of each kind
CASES = ("p1@64", "p1") if timing.DEVICE == "cpu" else ("p1@64", "p1", "p16", "c1")


class Training:
    """A case as `pygan train` runs it, with a run directory for its rows."""

    def __init__(self, name, folder, *, diagnosed):
        case, device = cases.CASES[name], timing.DEVICE
        gan = gans.load(case.gan)
        fields = {"load_size": case.size, "crop_size": case.size, "ngf": case.width, "ndf": case.width}
        amp = device == "cuda" and cases.bf16_is_fast(device)
        recipe = gan.resolve(gan.Recipe(**fields, batch=case.batch, amp=amp))
        self.state, self.count = gan.build(recipe, device), case.batch
        self._batches = itertools.cycle(cases.batches(case, cases.WAYS["pygan"], device))

        def step(batch):
            return gan.step(self.state, recipe, batch)

        self._step = GraphedStep(step, self.state, next(self._batches)) if device == "cuda" else step
        run = RunDir(folder).open()
        run.write_facts({"gan": case.gan, "asked": {}, "recipe": dataclasses.asdict(recipe)})
        self._log = Log(run, total_images=10**9, images_seen=0, tensorboard=True)
        self._log.out.quiet = True
        self._watch = Watch(run, case.gan, recipe, 0) if diagnosed else None

    def step(self):
        self.logs = self._step(next(self._batches))
        self.state.steps += 1
        self.state.images_seen += self.count
        return self.logs

    def row(self):
        """As `train._row` has it. Returns what was read."""
        values = {**self.logs, **(self._watch.vitals(self.state) if self._watch else {})}
        read = torch.stack([value.detach().float() for value in values.values()]).tolist()
        facts = {"epoch": 1, "lr": 2e-4}
        row = self._log.row(self.state.images_seen, self.state.steps, dict(zip(values, read, strict=True)), facts)
        if self._watch:
            self._watch.see(row)
        return row

    def window(self):
        """Steps for 2 s, and a row. Returns the seconds per step, the row's among them."""
        began, steps = time.perf_counter(), 0
        while time.perf_counter() - began < LOG_EVERY_S:
            self.step()
            steps += 1
            if steps % 8 == 0 and timing.DEVICE == "cuda":
                torch.cuda.synchronize()  # or the host would be done with 2 s of steps in no time
        self.row()
        return (time.perf_counter() - began) / steps


@pytest.fixture(params=CASES)
def both(request, tmp_path):
    """(name, {with the diagnosis, without}), whose first steps had the same losses to the last bit."""
    deterministic = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    torch.use_deterministic_algorithms(True, warn_only=True)
    found = {way: Training(request.param, tmp_path / way, diagnosed=way == "with") for way in ("without", "with")}
    rows = {}
    for way, training in found.items():
        rows[way] = []
        for _ in range(CHECK_STEPS):
            training.step()
            rows[way].append({key: value for key, value in training.row().items() if key.startswith(("loss", "logit"))})
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic
    assert rows["with"] == rows["without"]
    return request.param, found


def test_row(benchmark, both):
    name, found = both

    def timed(training):
        if timing.DEVICE == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        training.row()
        return 1e3 * (time.perf_counter() - began)

    rounds = {way: [] for way in found}
    for way, training in itertools.chain.from_iterable(itertools.repeat(list(found.items()), 60)):
        rounds[way].append(timed(training))
    medians = {way: statistics.median(values) for way, values in rounds.items()}
    more = medians["with"] - medians["without"]
    share = more / (1e3 * LOG_EVERY_S)
    benchmark.group = f"diagnosis {name}"
    benchmark.extra_info.update(cases.described(cases.CASES[name]), case=name, losses="the same bits")
    benchmark.extra_info |= {"ms_without": round(medians["without"], 3), "ms_with": round(medians["with"], 3)}
    benchmark.extra_info |= {"more_ms": round(more, 3), "share_of_2_s": round(share, 5), "load": os.getloadavg()[0]}
    benchmark.pedantic(found["with"].row, rounds=20)
    assert share < MOST_SHARE


def test_loop(benchmark, both):
    name, found = both
    for training in found.values():
        training.window()
    rounds = {way: [] for way in found}
    for turn in range(WINDOWS):
        for way in ("without", "with") if turn % 2 else ("with", "without"):
            rounds[way].append(found[way].window())
    medians = {way: 1e3 * statistics.median(values) for way, values in rounds.items()}
    ratios = sorted(a / b for a, b in zip(rounds["with"], rounds["without"], strict=True))
    benchmark.group = f"diagnosis {name}"
    benchmark.extra_info.update(cases.described(cases.CASES[name]), case=name, losses="the same bits", windows=WINDOWS)
    benchmark.extra_info |= {f"ms_per_step_{way}": round(value, 3) for way, value in medians.items()}
    benchmark.extra_info |= {"with_to_without": [round(ratios[i], 4) for i in (0, len(ratios) // 2, -1)]}
    benchmark.extra_info["load"] = os.getloadavg()[0]
    benchmark.pedantic(found["with"].window, rounds=1)

"""One case after the other, all its ways in one process: first the same losses, then the time, in turn.

Losses: every way trains 20 steps from the same weights on the same batches, without dropout and image pool and at a low
learning rate (`cases.CHECK_LR`); every loss of every step must be that of the plain step in float32 (no TF32),
|difference| <= relative x |loss| + absolute, with

    in float32           relative 0.002, absolute 0.0005
    in bf16 or TF32      relative 0.01, absolute 0.005

pygan must pass both, whichever is timed. (tests/test_benchmarks.py holds it to 1e-9 in float64, at a small size.)
A row says its largest difference in units of what is allowed (`losses_off`, at most 1), and the tolerance. A way that
loses differently is timed too, but its row says `reason` and README shows no figure for it.

Time: after the warm-up the ways take turns, round after round; a round is as many steps as fill some tenths of a second
on batches that change from step to step. The row has the median round and the fastest and slowest. On a GPU the time is
between CUDA events and so has the launches in it, and copying a batch into a graph's own.

Memory: what a way adds to the GPU while it trains: the most that its tensors take at once; of a graph its whole pool.

Rows of one case and session share `run`. A way that cannot be taken has a row with the `reason` and no figures.
"""

import dataclasses
import gc
import itertools
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from benchmarks import cases, floor, timing
from benchmarks.record import facts

STEPS = 20
TOLERANCES = {"float32": (0.002, 0.0005), "low": (0.01, 0.005)}  # relative, absolute
ROUNDS, QUICK_ROUNDS = 5, 2
COMPILE_AHEAD_S = 240


def tolerance(way, device):
    """(relative, absolute) that a way's losses may be off."""
    exact = not way.amp and (way.pygan or device == "cpu")
    return TOLERANCES["float32" if exact or not cases.bf16_is_fast(device) else "low"]


def losses(run, data):
    """[{name: loss}] of `STEPS` steps."""
    return [
        {name: value.item() for name, value in run(batch).items()}
        for batch in itertools.islice(itertools.cycle(data), STEPS)
    ]


def off(got, expected, relative, absolute):
    """The largest difference of losses, in units of what is allowed: at most 1 where they agree."""
    return max(
        abs(step[name] - value) / (relative * abs(value) + absolute)
        if name in step and step[name] == step[name]
        else float("inf")
        for step, wanted in zip(got, expected, strict=True)
        for name, value in wanted.items()
    )


def why(error):
    """An exception in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def check(case, ways, device):
    """{way: {"losses_off": ...} or the reason that ended it}: how far off, in units of what is allowed.

    pygan is checked in float32 too, where the tolerance is small: "losses_off_float32".
    """
    torch._dynamo.reset()  # code for the shapes of another case would count against its limits

    def train(way, *, tf32):
        _tidy()
        before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, tf32
        try:
            return losses(cases.build(case, way, device, check=True), cases.batches(case, way, device))
        finally:
            torch.backends.cudnn.allow_tf32 = before

    try:
        expected = train(cases.WAYS["eager"], tf32=False)
    except Exception as error:
        return dict.fromkeys(ways, f"the plain step in float32: {why(error)}")
    found = {}
    for name in ways:
        way = cases.WAYS[name]
        try:
            got = train(way, tf32=not way.pygan)
            found[name] = {"losses_off": off(got, expected, *tolerance(way, device))}
            if way.pygan:
                exact = dataclasses.replace(way, amp=False)
                got = train(exact, tf32=False) if way.amp else got
                found[name]["losses_off_float32"] = off(got, expected, *tolerance(exact, device))
        except Exception as error:
            found[name] = why(error)
    _tidy()
    return found


def _tidy():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def _held():
    """Bytes of live tensors, and of all the memory of graphs."""
    return sum(
        segment["allocated_size"] if tuple(segment["segment_pool_id"]) == (0, 0) else segment["total_size"]
        for segment in torch.cuda.memory_snapshot()
    )


class Runner:
    """A way, built and warmed up; called, it trains a step on the next batch."""

    def __init__(self, case, way, device):
        self._data = itertools.cycle(cases.batches(case, way, device))
        _tidy()
        before = _held() if device == "cuda" else 0
        self._run = cases.build(case, way, device)
        for _ in range(3):
            self()
        self.peak_gib = None
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            resting = torch.cuda.memory_allocated()
            self()
            torch.cuda.synchronize()
            peak = _held() + torch.cuda.max_memory_allocated() - resting
            self.peak_gib = (peak - before) / 2**30

    def __call__(self):
        self._run(next(self._data))


def measure(name, ways, device, *, rounds=ROUNDS, rates=None):
    """The rows of a case. ways: names; rates: `floor.Rates` of this GPU, None on a CPU."""
    case = cases.CASES[name]
    reasons = {way: cases.why_not(cases.WAYS[way], device) for way in ways}
    can = [way for way in ways if not reasons[way]]
    agreement = check(case, can, device)
    torch._dynamo.reset()
    runners, times = {}, {}
    for way in can:
        if isinstance(agreement[way], str):
            reasons[way] = agreement[way]
            continue
        try:
            runners[way] = Runner(case, cases.WAYS[way], device)
        except Exception as error:
            reasons[way] = why(error)
            if isinstance(error, torch.OutOfMemoryError):
                reasons[way] += f" beside {len(runners)} other ways: try --ways"
    if runners:
        times, failed = timing.interleaved(runners, device=device, rounds=rounds, seconds=0.3)
        reasons |= {way: why(error) for way, error in failed.items()}
    peaks = {way: runner.peak_gib for way, runner in runners.items()}
    del runners
    _tidy()
    return rows(name, ways, device, reasons, agreement, times, peaks, rates)


def rows(name, ways, device, reasons, agreement, times, peaks, rates):
    """What `measure` found, as it is recorded."""
    case = cases.CASES[name]
    best = floor.floor(cases.work_of(case), rates) if rates else None
    common = facts() | {"run": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "case": name} | cases.described(case)
    if best:
        common |= {"floor_ms": round(best.ms, 4), "floor_parts_ms": {k: round(v, 4) for k, v in best._asdict().items()}}
        common |= {"copy_tb_per_s": round(rates.bytes_per_s / 1e12, 3)}
        common |= {"matmul_tflop_per_s": round(rates.flop_per_s / 1e12, 1)}
    median = {way: statistics.median(found) for way, found in times.items()}
    out = []
    for way in ways:
        row = common | {"way": way, "title": cases.WAYS[way].title, "reason": reasons.get(way, "")}
        if isinstance(agreement.get(way), dict):
            row |= {key: _significant(min(amount, 1e9)) for key, amount in agreement[way].items()}
            row |= {"losses_steps": STEPS, "losses_tolerance": tolerance(cases.WAYS[way], device)}
            if (worst := max(agreement[way].values())) > 1:
                row["reason"] = row["reason"] or f"its losses differ, by {worst:.3g} times what is allowed"
        if way in median:
            ms = median[way]
            row |= {"ms": _significant(ms), "ms_min": _significant(min(times[way]))}
            row |= {"ms_max": _significant(max(times[way])), "rounds": len(times[way])}
            row |= {"images_per_s": _significant(1e3 * case.batch / ms)}
            row |= {"peak_gib": None if peaks[way] is None else round(peaks[way], 3)}
            row["faster_than"] = {
                other: _significant(median[other] / ms) for other in cases.YARDSTICKS if other in median
            }
            row["share_of_floor"] = round(best.ms / ms, 4) if best else None
        out.append(row)
    return out


def _significant(value):
    """Five digits are more than any of these times has."""
    return float(f"{value:.5g}")


def compile_ahead(names, ways):
    """Fill torch.compile's cache on disk, several cases at once, so that measuring finds the code ready.

    Only for speed: a case whose helper fails or takes too long is compiled when its turn comes.
    """
    if not any(cases.WAYS[way].compiled for way in ways):
        return
    cores = os.cpu_count() or 1
    at_once = max(1, min(8, cores // 2))
    environment = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": str(max(1, cores // at_once))}

    def one(name):
        command = [sys.executable, "-m", "benchmarks.side_by_side", name]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        try:
            subprocess.run(command, env=environment, timeout=COMPILE_AHEAD_S, check=False, **quiet)
        except subprocess.TimeoutExpired:
            print(f"{name}: compiling ahead took longer than {COMPILE_AHEAD_S} s", flush=True)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, names))


def _compile(name):
    """What a helper of `compile_ahead` does: one step of both forms of a case."""
    case, way = cases.CASES[name], cases.WAYS["compile"]
    for checking in (True, False):
        cases.build(case, way, timing.DEVICE, check=checking)(cases.batches(case, way, timing.DEVICE, 1)[0])


if __name__ == "__main__":
    _compile(sys.argv[1])

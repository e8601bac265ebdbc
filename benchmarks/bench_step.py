"""One whole training step, as a benchmark of its own: `pytest benchmarks/bench_step.py --benchmark-only --record`.

The same cases, ways and check of losses as the table of `python -m benchmarks.table`, which measures the ways in turn
and is what README shows; here every row stands alone, for a before and after of a change.
"""

import pytest

from benchmarks import cases, side_by_side, timing

CPU_WAYS = ("eager", "pygan float32")


def measure(benchmark, name, way):
    case, device = cases.CASES[name], timing.DEVICE
    if reason := cases.why_not(cases.WAYS[way], device):
        pytest.skip(reason)
    found = side_by_side.check(case, [way], device)[way]
    assert isinstance(found, dict), found
    assert max(found.values()) <= 1, f"{way} and the plain step lose differently: {found}"
    run = side_by_side.Runner(case, cases.WAYS[way], device)
    calls = 1 if device == "cpu" else 20
    benchmark.group = f"step {name}"
    benchmark.extra_info.update(cases.described(case), case=name, way=way, peak_gib=run.peak_gib, **found)
    # In one timed call several steps, so that a GPU is not waited for in between.
    benchmark.pedantic(lambda: timing.ms_per_call(run, calls, device), warmup_rounds=1, rounds=20)
    if benchmark.stats:
        step_s = benchmark.stats.stats.median / calls
        benchmark.extra_info |= {"ms_per_step": round(1e3 * step_s, 4), "images_per_s": round(case.batch / step_s, 2)}


@pytest.mark.skipif(timing.DEVICE == "cuda", reason="the CPU rows")
@pytest.mark.parametrize("way", CPU_WAYS)
@pytest.mark.parametrize("name", cases.DEFAULT_CASES["cpu"])
def test_cpu_step(benchmark, name, way):
    measure(benchmark, name, way)


@pytest.mark.cuda
@pytest.mark.parametrize("way", cases.DEFAULT_WAYS["cuda"])
@pytest.mark.parametrize("name", ["p1", "p16", "p64", "c1", "c8"])
def test_cuda_step(benchmark, name, way):
    measure(benchmark, name, way)

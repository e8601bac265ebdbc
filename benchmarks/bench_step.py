"""One whole pix2pix training step against plain PyTorch, from the same weights on the same batch.

    pytest benchmarks/bench_step.py --benchmark-only --record

Cases: pN is the paper's U-Net at 256 pixels and batch N; demo is the U-Net at the size that the bare command trains on
a CPU. Every way first trains three steps in float32 without dropout beside the plain step, and must lose the same; then
it is timed with dropout. On a GPU the yardsticks are those a user can have without pygan: eager (TF32 convolutions),
AMP with channels_last and fused Adam, the same in a CUDA graph, torch.compile, and torch.compile in a CUDA graph.
"""

import pytest
import torch

from benchmarks.plain import Plain
from pygan.data import Batch
from pygan.gans import pix2pix
from pygan.graph import GraphedStep
from pygan.ops import _native

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = {  # name: (size, width, batch)
    "demo": (128, 32, 4),
    "p1": (256, 64, 1),
    "p16": (256, 64, 16),
    "p64": (256, 64, 64),
}
CPU_CASES = ("demo", "p1")
CPU_WAYS = ("plain eager", "pygan")
WAYS = (
    "plain eager",
    "plain amp channels_last",
    "plain amp graph",
    "plain compile",
    "plain compile graph",
    "pygan amp",
    "pygan amp graph",
)


def make_batch(size, n):
    generator = torch.Generator().manual_seed(1)
    A, B = (torch.rand(n, 3, size, size, generator=generator).mul(2).sub(1) for _ in "AB")
    return Batch(*(t.to(DEVICE).contiguous(memory_format=torch.channels_last) for t in (A, B)))


def make_recipe(size, width, n, *, dropout):
    return pix2pix.resolve(
        pix2pix.Recipe(
            load_size=size, crop_size=size, ngf=width, ndf=width, batch=n, dropout_p=0.5 if dropout else 0.0
        ),
        (3, 3),
        "AtoB",
    )


def ours(size, width, n, *, dropout, weights=None):
    """(state, step) of pygan; weights: of a `Plain` to start from."""
    recipe = make_recipe(size, width, n, dropout=dropout)
    state = pix2pix.build(recipe, DEVICE)
    for name, values in (weights or {}).items():
        mine = list(state.nets[name].parameters())
        assert [p.shape for p in mine] == [v.shape for v in values], f"{name}: the networks differ"
        with torch.no_grad():
            for p, value in zip(mine, values, strict=True):
                p.copy_(value)
    return state, lambda batch: pix2pix.step(state, recipe, batch)


def check_losses(size, width, n):
    """Three steps of pygan and of the plain step, float32, no dropout: the same losses."""
    plain = Plain(size, DEVICE, ngf=width, dropout=0.0)
    _, step = ours(size, width, n, dropout=False, weights=plain.parameters_in_order())
    batch = make_batch(size, n)
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        for _ in range(3):
            expected = [value.item() for value in plain.step(*batch)]
            logs = step(batch)
            got = [logs[name].item() for name in ("loss/D", "loss/G_gan", "loss/G_l1")]
            assert got == pytest.approx(expected, rel=2e-3), "pygan and the plain step lose differently"
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


def make_way(way, size, width, n):
    """A function of no arguments that trains one step."""
    batch = make_batch(size, n)
    amp = "amp" in way or "compile" in way
    if way.startswith("pygan"):
        state, step = ours(size, width, n, dropout=True)

        def run_ours(batch):
            with torch.autocast(DEVICE, torch.bfloat16, enabled=amp, cache_enabled="graph" not in way):
                return step(batch)

        run = GraphedStep(run_ours, state, batch) if "graph" in way else run_ours
        return lambda: run(batch)
    plain = Plain(size, DEVICE, ngf=width, channels_last=amp, fused=amp or None, capturable="graph" in way)
    step = plain.step
    if "compile" in way:
        plain.G, plain.D = torch.compile(plain.G), torch.compile(plain.D)

    def run_plain():
        with torch.autocast(DEVICE, torch.bfloat16, enabled=amp, cache_enabled="graph" not in way):
            return step(*batch)

    if "graph" not in way:
        return run_plain
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(5):
            run_plain()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run_plain()
    return graph.replay


def measure(benchmark, case, way):
    assert _native.available(), _native.why_missing()
    size, width, n = CASES[case]
    check_losses(size, width, min(n, 4))
    torch.backends.cudnn.benchmark = True
    run = make_way(way, size, width, n)
    benchmark.group = f"step {case}"
    benchmark.extra_info.update(case=case, way=way, size=size, width=width, batch=n)

    def timed():
        run()
        if DEVICE == "cuda":
            torch.cuda.synchronize()

    slow = DEVICE == "cpu"
    benchmark.pedantic(timed, warmup_rounds=3 if slow else 10, rounds=(15 if case == "p1" else 60) if slow else 50)
    if DEVICE == "cuda":
        benchmark.extra_info["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        torch.cuda.reset_peak_memory_stats()
    benchmark.extra_info["images_per_s"] = round(n / benchmark.stats.stats.median, 2)


@pytest.mark.skipif(DEVICE == "cuda", reason="the CPU rows")
@pytest.mark.parametrize("way", CPU_WAYS)
@pytest.mark.parametrize("case", CPU_CASES)
def test_cpu_step(benchmark, case, way):
    measure(benchmark, case, way)


@pytest.mark.cuda
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", ["p1", "p16", "p64"])
def test_cuda_step(benchmark, case, way):
    measure(benchmark, case, way)

"""How things are timed: the device, the dtypes, an op in a graph of many, whole steps in turn."""

import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COPY_BYTES_PER_US, FLOP_PER_US = 4.28e6, 785e6  # an H200's, measured: memory read and written, bf16 products
REPEATS = 20 if DEVICE == "cuda" else 1  # steps in one timed call


def graphed(step):
    """What a row times: the step itself, or on a GPU a graph of several."""
    if DEVICE == "cpu":
        return step
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(REPEATS):
            step()

    def replay():
        graph.replay()
        torch.cuda.synchronize()

    return replay


def record(benchmark, group, step, *, moved, flop=0, rounds=40):
    """Time `step` as a row of pytest-benchmark: bytes moved, the bandwidth that makes, and on a GPU the floor.

    moved: bytes that the contract allows; flop: on tensor cores.
    """
    benchmark.group = group
    benchmark.extra_info.update(
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
        threads=torch.get_num_threads(),
        repeats=REPEATS,
        bytes=moved,
    )
    benchmark.pedantic(graphed(step), warmup_rounds=3, rounds=rounds)
    if benchmark.stats is not None:  # None under --benchmark-disable
        benchmark.extra_info["gb_per_s"] = round(moved * REPEATS / benchmark.stats.stats.median / 1e9, 2)
    if DEVICE == "cuda":
        benchmark.extra_info["floor_us"] = round(max(moved / COPY_BYTES_PER_US, flop / FLOP_PER_US), 3)


def ms_per_call(run, calls, device):
    """Milliseconds of one of `calls` calls in a row; on a GPU from its first kernel to its last, by events."""
    if device == "cpu":
        began = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - began) / calls * 1e3
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    for _ in range(calls):
        run()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / calls


def interleaved(runs, *, device, rounds, seconds):
    """Time functions in turn, so that a GPU that warms up or a busy machine is everybody's.

    runs: {name: function of no arguments}, warmed up. In every round each has its turn, another one first each time:
    one call that is not counted, then as many as fill about `seconds`. Returns ({name: [ms per call, by round]},
    {name: the error that ended it}); who fails takes no further part.
    """
    times, failed, calls = {name: [] for name in runs}, {}, {}
    names = list(runs)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            if name in failed:
                continue
            try:
                once = ms_per_call(runs[name], 1, device)
                if name not in calls:
                    calls[name] = max(3, min(500, round(seconds * 1e3 / max(once, 1e-3))))
                times[name].append(ms_per_call(runs[name], calls[name], device))
            except Exception as error:
                failed[name] = error.with_traceback(None)  # which would keep its tensors alive
    return {name: found for name, found in times.items() if name not in failed}, failed

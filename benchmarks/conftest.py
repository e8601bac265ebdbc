"""`--record` appends one row per benchmark to results/<file>.jsonl: what ran, where, on which versions, how long."""

from pathlib import Path

import pytest
import torch

from benchmarks.record import append, facts


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="append the measured rows to benchmarks/results/")


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU and a CUDA build of torch"))


def pytest_sessionfinish(session):
    benchmarks = getattr(getattr(session.config, "_benchmarksession", None), "benchmarks", [])
    if not session.config.getoption("--record") or not benchmarks:
        return
    common = facts()
    for benchmark in benchmarks:
        stats = benchmark.stats
        row = common | {
            "group": benchmark.group,
            "name": benchmark.name,
            "median_ms": round(stats.median * 1e3, 5),
            "min_ms": round(stats.min * 1e3, 5),
            "max_ms": round(stats.max * 1e3, 5),
            "rounds": stats.rounds,
            **benchmark.extra_info,
        }
        append(Path(benchmark.fullname.partition("::")[0]).stem, [row])

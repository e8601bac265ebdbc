"""`--record` appends one row per benchmark to results/<file>.jsonl: what ran, where, on which versions, how long."""

import datetime
import json
import platform
import subprocess
from pathlib import Path

import pytest
import torch

import pygan

RESULTS = Path(__file__).parent / "results"


def pytest_addoption(parser):
    parser.addoption("--record", action="store_true", help="append the measured rows to benchmarks/results/")


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU and a CUDA build of torch"))


def _commit():
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=RESULTS.parent, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"


def _cpu():
    """The processor's name as Linux tells it, and how many threads torch uses."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"


def facts():
    """What every row says beside its figures: date, commit, versions, device."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "pygan": pygan.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _cpu(),
    }


def pytest_sessionfinish(session):
    benchmarks = getattr(getattr(session.config, "_benchmarksession", None), "benchmarks", [])
    if not session.config.getoption("--record") or not benchmarks:
        return
    common = facts()
    RESULTS.mkdir(exist_ok=True)
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
        file = RESULTS / (Path(benchmark.fullname.partition("::")[0]).stem + ".jsonl")
        with open(file, "a") as out:
            out.write(json.dumps(row) + "\n")

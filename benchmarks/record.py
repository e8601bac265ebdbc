"""What every recorded row says beside its figures."""

import datetime
import platform
import subprocess
from pathlib import Path

import torch

import pygan

RESULTS = Path(__file__).parent / "results"


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

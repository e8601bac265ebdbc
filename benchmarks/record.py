"""Where measured rows are kept, and what every one says beside its figures."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

import torch

import pygan

RESULTS = Path(__file__).parent / "results"


def append(name, rows):
    """Add rows to results/<name>.jsonl."""
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.jsonl", "a") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)


def _commit():
    """As git tells it; of a copy without its history $PYGAN_COMMIT says what it is a copy of."""
    if told := os.environ.get("PYGAN_COMMIT"):
        return told
    command = ["git", "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, cwd=RESULTS.parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cpu():
    """The processor's name as Linux tells it, and how many threads torch uses."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.processor()}, {threads} thread{'s' if threads != 1 else ''}"


def facts():
    """What every row says beside its figures: date, commit, versions, device."""
    cuda = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()} if torch.cuda.is_available() else {}
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "pygan": pygan.__version__,
        "torch": torch.__version__,
        **cuda,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu(),
    }

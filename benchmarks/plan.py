"""Is a plan right? Predict, then train by the real command in a process of its own, and compare.

    python -m benchmarks.plan [CASE ...] [--check]

Peak memory within 10 %, the time of a step within 15 %; on a machine that others use meanwhile, its computing time.
A row per case goes to benchmarks/results/plan.jsonl. --check: exit with 1 where one is off five times.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import append, facts

MEMORY, TIME = 0.10, 0.15
BUSY = 1.15  # wall time by computing time of a thread, above which others have had the cores meanwhile
TRIES = 5  # of a case that is off
ROW_STEPS = 4  # steps from one row to the next

# A GAN and its flags; CI-size: seconds each on a CPU.
CASES = {
    "pix2pix 64 px": "pix2pix --preset demo --load-size 72 --crop-size 64 --batch 1 --steps 80",
    "pix2pix 128 px, batch 4, recomputed": "pix2pix --preset demo --batch 4 --steps 24 --recompute",
    "cyclegan": "cyclegan --preset demo --batch 1 --steps 40",
    "dcgan": "dcgan --preset demo --steps 40",
    "pix2pix 64 px, batch 4": "pix2pix --preset demo --load-size 72 --crop-size 64 --batch 4 --steps 40",
    "pix2pix 128 px": "pix2pix --preset demo --batch 1 --steps 40",
    "cyclegan, batch 4": "cyclegan --preset demo --batch 4 --steps 20",
    "stargan": "stargan --preset demo --batch 4 --steps 40",
    "began": "began --preset demo --batch 4 --steps 40",
}

_TRAIN = """
import json, sys, time
from pygan import log
from pygan.__main__ import main
wall, cpu, row = [], [], log.Log.row
def noted(*args):
    wall.append(time.perf_counter()), cpu.append(time.process_time())
    return row(*args)
log.Log.row = noted
code = main(sys.argv[2:])
peak = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM")) * 1024
open(sys.argv[1], "w").write(json.dumps({"peak": peak, "wall": wall, "cpu": cpu}))
sys.exit(code)
"""


def main() -> int:
    """Run the cases that are named, or all. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--check", action="store_true", help="only the first four; exit with 1 where one is off")
    args = parser.parse_args()
    wrong = []
    cases = args.cases or list(CASES)[: 4 if args.check else None]
    for case in cases:
        row = compare(case)
        for _ in range(TRIES - 1):  # a machine that others use is not the same from one minute to the next
            if row["good"]:
                break
            print(f"{case}: off, once more (load {os.getloadavg()[0]:.1f})")
            row = compare(case)
        append("plan", [row])
        if not row["good"]:
            wrong.append(case)
    print(f"{len(wrong)} of {len(cases)} off" + (f": {', '.join(wrong)}" if wrong else ""))
    return 1 if args.check and wrong else 0


def compare(case: str) -> dict[str, Any]:
    """Predict and measure one case: a row of results."""
    gan, *flags = CASES[case].split()
    common = [gan, *flags, "--data-images", "48", "--device", "cpu", "--max-minutes", "0", "--no-tensorboard"]
    with tempfile.TemporaryDirectory() as folder:
        predicted = _predict(common)
        peak, step_s, cpu_s = _train(common, Path(folder))
    told = predicted["phases"][0]
    said, said_cpu = (told[key] + told["row_s"] / ROW_STEPS for key in ("step_s", "cpu_s"))
    off = {"memory": predicted["peak_bytes"] / peak - 1, "step": said / step_s - 1, "cpu": said_cpu / cpu_s - 1}
    # Where others take turns on the cores, what a step waits for them is not its own.
    busy = step_s > BUSY * cpu_s / predicted["threads"] or said > BUSY * said_cpu / predicted["threads"]
    good = abs(off["memory"]) <= MEMORY and abs(off["cpu" if busy else "step"]) <= TIME
    print(
        f"{case:<36} memory {predicted['peak_bytes'] / 2**20:5.0f} MiB, was {peak / 2**20:5.0f} "
        f"({off['memory']:+.1%}); "
        f"step {1000 * said:6.1f} ms, was {1000 * step_s:6.1f} ({off['step']:+.1%}), computing {off['cpu']:+.1%}"
        f"{'; busy, which is not counted' if busy else ''}{'' if good else '  OFF'}",
        flush=True,
    )
    return facts() | {
        "case": case, "predicted_mib": round(predicted["peak_bytes"] / 2**20, 1), "peak_mib": round(peak / 2**20, 1),
        "predicted_step_s": said, "step_s": step_s, "memory_off": round(off["memory"], 4),
        "step_off": round(off["step"], 4), "cpu_off": round(off["cpu"], 4), "busy": busy, "good": good,
        "load": os.getloadavg()[0], "threads": predicted["threads"],
    }  # fmt: skip


def _predict(flags: list[str]) -> dict[str, Any]:
    """What `pygan plan --json` says."""
    run = subprocess.run(
        [sys.executable, "-m", "pygan", "plan", *flags, "--json", "--seconds", "4"], capture_output=True, text=True
    )
    if run.returncode:
        raise SystemExit(run.stderr)
    return json.loads(run.stdout)["plan"]


def _train(flags: list[str], folder: Path) -> tuple[int, float, float]:
    """(bytes at the peak of the process, seconds of a step, what it computed of them) of a real training: medians."""
    gan, *rest = flags
    never = str(10**9)
    own = ["--run", str(folder / "run"), "--log-every", str(ROW_STEPS * _per_step(flags))]
    own += ["--sample-every", never, "--checkpoint-every", never]
    command = [sys.executable, "-c", _TRAIN, str(folder / "told"), "train", gan, *rest, *own]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    told = json.loads((folder / "told").read_text())
    wall, cpu = (
        median((b - a) / ROW_STEPS for a, b in itertools.pairwise(times[:-1]))  # the last has an evaluation in it
        for times in (told["wall"], told["cpu"])
    )
    return told["peak"], wall, cpu


def _per_step(flags: list[str]) -> int:
    """Images that a step of a case sees."""
    from pygan import gans
    from pygan import recipe as recipes

    gan = gans.load(flags[0])
    given = {"batch": int(flags[flags.index("--batch") + 1])} if "--batch" in flags else {}
    return gans.images_per_step(gan, recipes.make(gan.Recipe, gan.PRESETS, "demo", given))


if __name__ == "__main__":
    sys.exit(main())

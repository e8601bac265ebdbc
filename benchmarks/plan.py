"""Is a plan right? Predict, then train by the real command in a process of its own, and compare.

    python -m benchmarks.plan [CASE ...] [--check]

Peak memory within 10 %, the time of a step within 15 %; on a machine that others use meanwhile, its computing time.
A case that is off is measured in more pairs of plan and training, of which the median counts. A row per case goes to
benchmarks/results/plan.jsonl.

--check, on any machine: four cases, by computing time on one thread (threads that wait for each other spin, which
counts as computing: ten times as much where other programs have the cores); no rows; exit with 1 where one is off.
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
PAIRS = (1, 3, 5, 7)  # how many are measured of a case: more as long as their median is off
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
    "pix2pix 128 px, batch 16": "pix2pix --preset demo --batch 16 --steps 24",
    "pix2pix 128 px, batch 16, recomputed": "pix2pix --preset demo --batch 16 --steps 24 --recompute",
    "cyclegan, batch 16": "cyclegan --preset demo --batch 16 --steps 24",
    "cyclegan, batch 16, recomputed": "cyclegan --preset demo --batch 16 --steps 24 --recompute",
    "stargan, batch 32": "stargan --preset demo --batch 32 --steps 24",
    "stargan, batch 32, recomputed": "stargan --preset demo --batch 32 --steps 24 --recompute",
    "dcgan, batch 128": "dcgan --preset demo --batch 128 --steps 60",
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
    parser.add_argument("--check", action="store_true", help="only the first four; no rows")
    args = parser.parse_args()
    wrong = []
    cases = args.cases or list(CASES)[: 4 if args.check else None]
    if args.check:
        os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started
    for case in cases:
        row = compare(case, by_computing=args.check)
        if not args.check:
            append("plan", [row])
        if not row["good"]:
            wrong.append(case)
    print(f"{len(wrong)} of {len(cases)} off" + (f": {', '.join(wrong)}" if wrong else ""))
    return 1 if args.check and wrong else 0


def compare(case: str, *, by_computing: bool = False) -> dict[str, Any]:
    """Predict and measure one case, in turns: a row of results. by_computing: wall time never counts."""
    pairs: list[dict[str, Any]] = []
    for count in PAIRS:  # a machine that others use is not the same from one minute to the next
        while len(pairs) < count:
            pairs.append(_pair(case))
        row = judged(pairs, by_computing=by_computing)
        if row["good"]:
            break
        print(f"{case}: off in the median of {count} (load {os.getloadavg()[0]:.1f})", flush=True)
    return facts() | {"case": case} | row | {"load": os.getloadavg()[0]}


def judged(pairs: list[dict[str, Any]], *, by_computing: bool) -> dict[str, Any]:
    """The pair whose step is off by the median, with the medians of what is off: {"memory_off", "step_off", "cpu_off",
    "busy", "good", ...}. busy: others have had the cores in most pairs; by_computing: wall time does not count anyway.
    """
    middle = len(pairs) // 2
    busy = by_computing or sorted(pair["busy"] for pair in pairs)[middle]
    key = "cpu_off" if busy else "step_off"
    off = {name: median(pair[name] for pair in pairs) for name in ("memory_off", "step_off", "cpu_off")}
    good = abs(off["memory_off"]) <= MEMORY and abs(off[key]) <= TIME
    return sorted(pairs, key=lambda pair: pair[key])[middle] | off | {"busy": busy, "good": good, "pairs": len(pairs)}


def _pair(case: str) -> dict[str, Any]:
    """A plan and a training of a case."""
    gan, *flags = CASES[case].split()
    common = [gan, *flags, "--data-images", "48", "--device", "cpu", "--max-minutes", "0", "--no-tensorboard"]
    with tempfile.TemporaryDirectory() as folder:
        predicted = _predict(common)
        peak, step_s, cpu_s = _train(common, Path(folder))
    told, threads = predicted["phases"][0], predicted["threads"]
    said, said_cpu = (told[key] + told["row_s"] / ROW_STEPS for key in ("step_s", "cpu_s"))
    off = {"memory": predicted["peak_bytes"] / peak - 1, "step": said / step_s - 1, "cpu": said_cpu / cpu_s - 1}
    # Where others take turns on the cores, what a step waits for them is not its own.
    busy = step_s > BUSY * cpu_s / threads or said > BUSY * said_cpu / threads
    print(
        f"{case:<36} memory {predicted['peak_bytes'] / 2**20:5.0f} MiB, was {peak / 2**20:5.0f} "
        f"({off['memory']:+.1%}); "
        f"step {1000 * said:6.1f} ms, was {1000 * step_s:6.1f} ({off['step']:+.1%}), computing {off['cpu']:+.1%}"
        f"{'; busy' if busy else ''}",
        flush=True,
    )
    return {
        "predicted_mib": round(predicted["peak_bytes"] / 2**20, 1), "peak_mib": round(peak / 2**20, 1),
        "predicted_step_s": said, "step_s": step_s, "memory_off": round(off["memory"], 4),
        "step_off": round(off["step"], 4), "cpu_off": round(off["cpu"], 4), "busy": busy, "threads": threads,
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

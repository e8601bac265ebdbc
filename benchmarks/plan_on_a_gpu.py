"""Is a plan right on a GPU? `python -m benchmarks.plan_on_a_gpu [CASE ...]`

As `plan.py` on a CPU: predicts, then trains by the real command in a process of its own, and compares. Memory is the
GPU's: the most that the tensors of the training took, and what its process has of it beside them, which is what is
taken at its end less what others had before it began. Peak memory within 10 %, the time of a step within 15 %. A row
per case goes to benchmarks/results/plan.jsonl. Exit code 1 where one is off. Nothing else may use the GPU meanwhile.
"""

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import torch

from benchmarks import record
from benchmarks.plan import MEMORY, TIME

ROW_STEPS = 50  # steps from one row to the next

# A GAN and its flags: the sizes of the papers, seconds each on an H100.
CASES = {
    "pix2pix 256 px, float32": "pix2pix --preset paper --schedule const --steps 600",
    "pix2pix 256 px, batch 16": "pix2pix --preset fast --schedule const --steps 400",
    "pix2pix 256 px, batch 16, recomputed": "pix2pix --preset fast --schedule const --steps 400 --recompute",
    "cyclegan 256 px, batch 8": "cyclegan --preset fast --schedule const --steps 300",
    "stargan 128 px, batch 32": "stargan --preset fast --steps 300",
    "began 64 px": "began --preset fast --steps 600",
    "dcgan 64 px, batch 256": "dcgan --preset fast --steps 600",
}

_TRAIN = """
import json, sys, time
import torch
from pygan import log
from pygan.__main__ import main
at, row = [], log.Log.row
def noted(*args):
    at.append(time.perf_counter())
    return row(*args)
log.Log.row = noted
code = main(sys.argv[3:])
free, total = torch.cuda.mem_get_info()
beside = total - free - torch.cuda.memory_reserved() - int(sys.argv[2])
open(sys.argv[1], "w").write(json.dumps({"peak": torch.cuda.max_memory_reserved() + beside, "at": at}))
sys.exit(code)
"""


def compare(case):
    """Predict and measure one case: a row of results."""
    flags = [*CASES[case].split(), "--data-images", "48", "--device", "cuda", "--max-minutes", "0", "--no-tensorboard"]
    with tempfile.TemporaryDirectory() as folder:
        said = predicted(flags)
        peak, step_s = trained(flags, Path(folder))
    return record.facts() | {"case": case} | judged(said, peak, step_s)


def judged(said, peak, step_s):
    """How far a plan (its JSON) is off from bytes and the seconds of a step."""
    told = said["phases"][0]
    said_s = told["step_s"] + told["row_s"] / ROW_STEPS
    off = {"memory_off": said["peak_bytes"] / peak - 1, "step_off": said_s / step_s - 1}
    good = abs(off["memory_off"]) <= MEMORY and abs(off["step_off"]) <= TIME
    sizes = {"predicted_mib": round(said["peak_bytes"] / 2**20, 1), "peak_mib": round(peak / 2**20, 1)}
    rounded = {name: round(value, 4) for name, value in off.items()}
    return sizes | {"predicted_step_s": said_s, "step_s": step_s} | rounded | {"busy": False, "good": good}


def predicted(flags):
    """What `pygan plan --json` says."""
    return json.loads(_told([sys.executable, "-m", "pygan", "plan", *flags, "--json"]))["plan"]


def trained(flags, folder):
    """(bytes of the GPU at the peak of the process, seconds of a step) of a real training."""
    never = str(10**9)
    free, total = torch.cuda.mem_get_info()  # this process has its context there from now on, and to the end
    own = ["--run", str(folder / "run"), "--log-every", str(ROW_STEPS * per_step(flags))]
    own += ["--sample-every", never, "--checkpoint-every", never]
    _told([sys.executable, "-c", _TRAIN, str(folder / "told"), str(total - free), "train", *flags, *own])
    told = json.loads((folder / "told").read_text())
    # Without the first rows, in which the clock comes up, and the last, which has an evaluation in it.
    return told["peak"], median((b - a) / ROW_STEPS for a, b in itertools.pairwise(told["at"][1:-1]))


def per_step(flags):
    """Images that a step of a case sees."""
    from pygan import gans
    from pygan import recipe as recipes

    gan = gans.load(flags[0])
    return gans.images_per_step(gan, recipes.make(gan.Recipe, gan.PRESETS, flags[flags.index("--preset") + 1], {}))


def _told(command):
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    return run.stdout


def main(argv=None):
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan_on_a_gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    args = parser.parse_args(argv)
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {min(unknown)!r}: choose from {', '.join(CASES)}")
    if not torch.cuda.is_available():
        parser.error("torch sees no GPU; `python -m benchmarks.plan` is for CPUs")
    wrong = []
    for case in args.cases or CASES:
        row = compare(case)
        record.append("plan", [row])
        if not row["good"]:
            wrong.append(case)
        memory = f"memory {row['predicted_mib']:.0f} MiB, was {row['peak_mib']:.0f} ({row['memory_off']:+.1%})"
        said, was = (1000 * row[name] for name in ("predicted_step_s", "step_s"))
        step = f"step {said:.2f} ms, was {was:.2f} ({row['step_off']:+.1%})"
        print(f"{case:<36} {memory}; {step}{'' if row['good'] else '  OFF'}", flush=True)
    print(f"{len(wrong)} of {len(args.cases or CASES)} off" + (f": {', '.join(wrong)}" if wrong else ""))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

"""Kills a training run at random moments, with SIGKILL, and shows that nothing is ever lost.

    python tests/kill_resume.py --kills 200 [more flags of pygan train pix2pix]

One run is trained to its end undisturbed. Then runs of the same recipe are killed again and again, and resumed each
time. After every kill each finished checkpoint on disk must pass its checksums, and every loss that was written must
equal the undisturbed run's, bit for bit; at the end of each run so must all weights, moments and random numbers.

The runs are forked from this process, which has imported torch but computed nothing: a kill every few hundred
milliseconds of training instead of one per start of Python.
"""

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from pygan import checkpoint
from pygan.__main__ import main as pygan
from pygan.rundir import read_metrics

FLAGS = ["--preset", "tiny", "--log-every-images", "2", "--checkpoint-every-images", "4", "--epochs", "3"]
# Of a row: what depends on the clock, and diversity, which is measured over the last rows of the same session.
NOT_COMPARED = {"images_per_s", "vital/diversity_fake", "vital/diversity_real", "vital/diversity_input"}


def start(run: Path) -> int:
    """Train `run` in a forked child, quietly. Returns its process id."""
    child = os.fork()
    if child:
        return child
    quiet = os.open(run.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    code = 1
    try:
        code = pygan(["train", "pix2pix", "--run", str(run), "--device", "cpu", *FLAGS])
    finally:
        os._exit(code)


def wait(child: int, seconds: float) -> int | None:
    """The exit code of the child, or None if it still runs after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)


def size(file: Path) -> int:
    """Bytes of a file, 0 if there is none."""
    return file.stat().st_size if file.exists() else 0


def wait_for_training(child: int, run: Path) -> int | None:
    """Until the child has written a row of its own, or ended. Returns its exit code, or None if it still runs."""
    before = size(run / "metrics.jsonl")
    while (code := wait(child, 0.001)) is None and size(run / "metrics.jsonl") <= before:
        before = min(before, size(run / "metrics.jsonl"))  # resuming drops the rows after the checkpoint
    return code


def losses(run: Path) -> dict[int, dict]:
    """Every row of metrics.jsonl by its images seen, without the clock."""
    rows = read_metrics(run)
    return {row["images"]: {k: v for k, v in row.items() if k not in NOT_COMPARED} for row in rows}


def tensors(run: Path) -> dict[str, np.ndarray]:
    """Every tensor of the newest checkpoint."""
    folder = run / "checkpoints" / "last"
    files = sorted(folder.glob("*.safetensors"))
    return {f"{file.stem}/{name}": array for file in files for name, array in load_file(file).items()}


def check_after_kill(run: Path, reference: dict[int, dict]) -> None:
    """Nothing on disk is damaged, and what was computed is right."""
    folder = run / "checkpoints"
    for found in checkpoint.find(folder):
        checkpoint.check(found)
    if folder.is_dir():
        whole = {found.folder.name for found in checkpoint.find(folder)}
        names = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")}
        assert names - {"next", "previous"} <= whole, f"unreadable checkpoint among {names}, readable: {whole}"
        assert whole or names <= {"next"}, f"no readable checkpoint is left among {names}"
    for images, row in losses(run).items():
        assert row == reference[images], f"row at {images} images differs:\n{row}\n{reference[images]}"


def check_finished(run: Path, reference: Path) -> None:
    """The run ended where the undisturbed one did."""
    assert losses(run) == losses(reference), "metrics.jsonl differs from the undisturbed run's"
    ours, theirs = tensors(run), tensors(reference)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.tobytes() == theirs[name].tobytes(), f"{name} differs from the undisturbed run's"


def main() -> int:
    """Returns 0 if every kill was survived."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args, more = parser.parse_known_args()
    FLAGS.extend(more)
    chance = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="pygan-kill-"))
    reference = folder / "reference"
    began = time.monotonic()
    child = start(reference)
    code = wait_for_training(child, reference)
    starting, began = time.monotonic() - began, time.monotonic()
    code = wait(child, 300) if code is None else code
    training = time.monotonic() - began
    assert code == 0, f"the undisturbed run ended with {code}:\n{reference.with_suffix('.log').read_text()}"
    expected = losses(reference)
    kills = runs = early = saving = 0
    while kills < args.kills:
        run = folder / f"run-{runs}"
        while True:
            child = start(run)
            if kills == args.kills:
                code = wait(child, 300)
            elif chance.random() < 0.2:  # one in five while it starts and reads the checkpoint
                code = wait(child, chance.uniform(0, starting))
            else:
                code = wait_for_training(child, run)
                code = wait(child, chance.uniform(0, training / 2)) if code is None else code
            if code is None:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                kills += 1
                saving += (run / "checkpoints" / "next").exists()
                early += not (run / "metrics.jsonl").exists()
                check_after_kill(run, expected)
                continue
            assert code == 0, f"a resumed run ended with {code}:\n{run.with_suffix('.log').read_text()[-2000:]}"
            break
        check_finished(run, reference)
        runs += 1
        print(f"run {runs}: bit-identical after {kills} kills so far", flush=True)
        shutil.rmtree(run)
    shutil.rmtree(folder)
    print(f"of the kills {saving} left a checkpoint half written, {early} came before the first step of a run")
    print(f"{kills} kills over {runs} runs of {len(expected)} steps: every one resumed bit-identically")
    return 0


if __name__ == "__main__":
    sys.exit(main())

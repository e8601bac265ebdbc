"""The paper's run by the real command, from start to end, and whether it is as good: `python -m benchmarks.headline`.

Timed: `pygan train pix2pix --preset paper --amp` on 400 pairs, 200 epochs = 80 000 steps at batch 1, with its data,
logs, samples, checkpoints and final scores, from the start of Python to its end. Unless `--data` names a folder, the
built-in facades are written to disk first by `pygan data make`; that is not timed.

Quality: as many runs of the same command as seeds, and as many of the plain step in float32 (`plain.py`, no TF32) on
the same pairs in the same order, crops and mirrorings, learning rates and number of steps. Each ends with the mean L1
and SSIM over the held-out pairs, both as the paper uses a generator: dropout on, each picture's own statistics. The
means of both sides are "within noise" when they differ by at most 2 standard errors of their difference (the seeds'
variances, not pooled, each divided by the number of seeds). `--quality-steps` makes these runs shorter than the timed
one; their rows say so.

A run that is done is kept under `--work`, so that a benchmark that was interrupted goes on with the next. The timed run
begins again; where it has as many steps, it is also the first of the quality runs. Rows go to results/headline.jsonl.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

import pygan
from benchmarks import cases, timing
from benchmarks.plain import PlainPix2pix
from benchmarks.record import append, facts
from pygan import data, heldout, metrics, optim
from pygan.gans import pix2pix

WORK = Path(__file__).parent.parent / "build" / "headline"
NOISE = 2.0  # standard errors
MEASURES = {"l1": "lower", "ssim": "higher"}  # which way is better
MOST_HELD_OUT = 500  # as `pygan train` scores at its end


def fields(settings, steps, seed):
    """The recipe fields of a run beside the preset: whole epochs, as near to `steps` as they come."""
    epochs = max(2, round(steps / settings["pairs"]))
    load = round(settings["size"] * 286 / 256)
    shape = {"load_size": load, "crop_size": settings["size"], "seed": seed, "data": settings["data"]}
    return shape | {"epochs": epochs - epochs // 2, "decay_epochs": epochs // 2}


def n_steps(settings, steps):
    """The steps that these epochs have."""
    chosen = fields(settings, steps, 0)
    return (chosen["epochs"] + chosen["decay_epochs"]) * settings["pairs"]


def pygan_command(*words):
    """Run a pygan command in a process of its own, with the pygan that is imported here."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(pygan.__file__).parent.parent), *sys.path])}
    subprocess.run([sys.executable, "-m", "pygan", *map(str, words)], env=environment, check=True)


def train_pygan(settings, steps, seed, run, *, timed):
    """Scores of a run of the real command, and its seconds if it is timed."""
    if timed:
        shutil.rmtree(run, ignore_errors=True)
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in fields(settings, steps, seed).items()]
    began = time.monotonic()
    pygan_command("train", "pix2pix", "--preset", "paper", "--amp", "--run", run, *flags)
    seconds = {"seconds": time.monotonic() - began} if timed else {}
    scores = json.loads((run / "scores.json").read_text())["scores"]["pix2pix (this run)"]
    return {measure: scores[measure] for measure in MEASURES} | seconds


def train_plain(settings, steps, seed):
    """Scores of the plain step on the same pictures."""
    device = timing.DEVICE
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    recipe = pix2pix.Recipe(**pix2pix.PRESETS["paper"] | fields(settings, steps, seed))
    with contextlib.ExitStack() as stack:
        feed = stack.enter_context(pix2pix.batches(recipe, "train", device))
        held_out = stack.enter_context(pix2pix.batches(recipe, "held-out", device))
        model = PlainPix2pix(recipe.crop_size, device, seed=seed, capturable=device == "cuda")

        def batch_at(seen):  # in the layout of the network
            return data.Batch(*(tensor.contiguous() for tensor in feed.get(seen)))

        step = cases.Replay(model, batch_at(0)) if device == "cuda" else lambda batch: model.step(*batch)
        total, said = n_steps(settings, steps), time.monotonic()
        for seen in range(total):
            factor = optim.lr_factor(recipe.schedule, seen // feed.n_items + 1, recipe.epochs, recipe.decay_epochs)
            model.set_lr_(recipe.lr * factor)
            step(batch_at(seen))
            if time.monotonic() - said > 10:
                said = time.monotonic()
                print(f"plain, seed {seed}: {seen + 1} of {total} steps", flush=True)
        most = min(held_out.n_items, MOST_HELD_OUT)
        with torch.no_grad():
            scores = heldout.means(
                lambda batch: metrics.of_pairs(model.G(batch.A.contiguous()), batch.B), held_out, most
            )
    return {measure: scores[measure] for measure in MEASURES}


def kept(work, name, make):
    """What `make()` returned, now or in an earlier call of this benchmark."""
    path = work / f"{name}.json"
    if path.exists():
        print(f"{name}: done before", flush=True)
        return json.loads(path.read_text())
    print(f"{name} ...", flush=True)
    result = make()
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(result))
    temporary.replace(path)
    print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in result.items()), flush=True)
    return result


def compared(ours, plain, better):
    """The means of two lists, their difference and whether it is more than noise. better: "lower" or "higher"."""

    def summary(values):
        deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
        return {"values": values, "mean": statistics.mean(values), "deviation": deviation}

    sides = {"pygan": summary(ours), "plain": summary(plain)}
    difference = sides["pygan"]["mean"] - sides["plain"]["mean"]
    error = sum(side["deviation"] ** 2 / len(side["values"]) for side in sides.values()) ** 0.5
    if error != error:
        verdict, error = "one seed says nothing of noise", None
    elif abs(difference) <= NOISE * error:
        verdict = "within noise"
    else:
        verdict = "pygan is better" if (difference < 0) == (better == "lower") else "pygan is worse"
    return sides | {"difference": difference, "standard_error": error, "verdict": verdict}


def prepared(args):
    """The settings of this benchmark, its pictures on disk."""
    folder = args.data
    if folder is None:
        folder = args.work / "facades"
        if not (args.work / "settings.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            pygan_command("data", "make", "facades", folder, "--n", args.pairs, "--size", args.size)
    settings = {"data": str(folder.resolve()), "size": args.size, "pairs": 1}
    recipe = pix2pix.Recipe(**pix2pix.PRESETS["paper"] | fields(settings, 1, 0))
    settings["pairs"] = len(data.paired_source(recipe, "train"))
    known = {**settings, **{key: value for key, value in facts().items() if key != "date"}}
    path = args.work / "settings.json"
    if not path.exists():
        path.write_text(json.dumps(known))
    elif (before := json.loads(path.read_text())) != known:
        other = [key for key in known if known[key] != before.get(key)]
        raise SystemExit(f"{args.work} was made with another {', '.join(other)}: remove it, or choose another --work")
    return settings


def main(argv=None):
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.headline", description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=("timed", "quality"), help="one part (default: both)")
    parser.add_argument("--steps", type=int, default=80_000, metavar="N", help="of the timed run (default: 80000)")
    parser.add_argument("--quality-steps", type=int, metavar="N", help="of the quality runs (default: as --steps)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="quality runs of each side (default: 3)")
    parser.add_argument("--pairs", type=int, default=400, metavar="N", help="of the built-in facades (default: 400)")
    parser.add_argument("--size", type=int, default=256, metavar="N", help="pixels (default: 256)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="other pictures")
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR", help="for unfinished business")
    args = parser.parse_args(argv)
    args.work.mkdir(parents=True, exist_ok=True)
    settings = prepared(args)
    what = {"pairs": settings["pairs"], "size": args.size, "data": args.data.name if args.data else "built-in facades"}

    def ours(steps, seed, *, timed):
        name = f"pygan-{steps}-steps-seed-{seed}"
        if timed or (args.work / f"{name}-timed.json").exists():
            name, timed = f"{name}-timed", True
        return kept(args.work, name, lambda: train_pygan(settings, steps, seed, args.work / name, timed=timed))

    if args.only != "quality":
        steps = n_steps(settings, args.steps)
        result = ours(steps, 0, timed=True)
        speed = {"seconds": round(result["seconds"], 2), "images_per_s": round(steps / result["seconds"], 2)}
        scores = {measure: round(result[measure], 5) for measure in MEASURES}
        append("headline", [facts() | {"kind": "timed", "steps": steps, **what, **speed, **scores}])
    if args.only != "timed":
        steps = n_steps(settings, args.quality_steps or args.steps)
        found = [ours(steps, seed, timed=False) for seed in range(args.seeds)]
        plain = [
            kept(args.work, f"plain-{steps}-steps-seed-{s}", lambda s=s: train_plain(settings, steps, s))
            for s in range(args.seeds)
        ]
        quality = {
            measure: compared([one[measure] for one in found], [one[measure] for one in plain], better)
            for measure, better in MEASURES.items()
        }
        append("headline", [facts() | {"kind": "quality", "steps": steps, "seeds": args.seeds, **what, **quality}])
        for measure, result in quality.items():
            print(f"{measure}: {result['verdict']} ({result['difference']:+.4g})", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What is an exported file worth? `python -m benchmarks.export [CASE ...]`

Every GAN at its demo preset, and papers' networks at their own size, with weights moved as training moves them: the
ONNX file that `pygan export` writes, its size, the largest difference of ONNX Runtime from pygan's own network on the
inputs that are then timed, and ms per picture of both in turn, with the same threads. No data set is read: the proof
inside is on made-up inputs. On a GPU both compute there (`pip install onnxruntime-gpu`), with TF32 as they come. A row
per case goes to results/export.jsonl; README's table is written from the rows by `python -m benchmarks.table
--write-only`. Exit code 1 where a file differs by more than 1e-4, on a GPU by more than 2e-2.
"""

import argparse
import copy
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from benchmarks import record, timing
from pygan import exported, gans, use
from pygan.export import network, prove
from pygan.export.record import to_onnx
from pygan.exported import facts
from pygan.nn import NormAct, place_

CASES = [f"{name} demo" for name in gans.names()] + ["pix2pix paper", "cyclegan paper", "stargan paper"]
BATCH = {"demo": 4, "paper": 1}  # pictures at once
ROUNDS, SECONDS = 5, 0.3
TOLERANCE = {"cpu": prove.TOLERANCE, "cuda": 2e-2}  # TF32 has 10 bits of mantissa


def trained(name, preset):
    """A network of a preset with scales, shifts and running statistics that no longer are 1 and 0, on the CPU."""
    gan = gans.load(name)
    recipe = gan.resolve(gan.Recipe(**gan.PRESETS[preset]))
    random = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = gan.generator(recipe)
    with torch.no_grad():
        for module in net.modules():
            if not isinstance(module, NormAct):
                continue
            if module.weight is not None:
                module.weight.normal_(1.0, 0.2, generator=random)
                module.bias.normal_(0.0, 0.2, generator=random)
            if module.running_mean is not None:
                module.running_mean.normal_(0.0, 0.2, generator=random)
                module.running_var.uniform_(0.5, 1.5, generator=random)
    return use.Trained(gan, recipe, place_(net, "cpu").requires_grad_(False), 0, torch.device("cpu"))


def inputs(form, n):
    """n of what the network takes, by name, from a fixed seed."""
    random, given = torch.Generator().manual_seed(1), {}
    for one in form.inputs:
        shape = [n if isinstance(size, str) else size for size in one.shape]  # only the batch is free here
        given[one.name] = torch.tensor([1, 0]) if one.name == "seed" else torch.rand(shape, generator=random) * 2 - 1
    return given


def call(used, form, given):
    """What a network, of a run or of a file, makes of inputs by name."""
    given = {name: x.to(used.device) if name in ("code", "seed") else x for name, x in given.items()}
    with torch.inference_mode():
        if "image" not in given:
            return used.generate(given["z"].shape[0], None, **given)
        image, seed = given.pop("image"), given.pop("seed", None)
        return used.translate(image, seed, **given, **form.module.options)


def measure(case, folder, *, device="cpu", rounds=ROUNDS, seconds=SECONDS):
    """The row of a case, without what every row says. device: "cpu" or "cuda"."""
    name, preset = case.split()
    one, path = trained(name, preset), folder / f"{name}.onnx"
    began = time.perf_counter()
    form = network.form(one, network.Asked())
    table = facts.write(form.card, semantics="kept", precision="float32", kind="onnx")
    to_onnx(form, table, path)
    took, made, n = time.perf_counter() - began, exported.load(path, device), BATCH[preset]
    if made.device.type != device:
        raise SystemExit("onnxruntime does not compute on this GPU; pip install onnxruntime-gpu, or add --device cpu")
    one = dataclasses.replace(one, net=place_(copy.deepcopy(one.net), device), device=torch.device(device))
    given = inputs(form, n)
    expected, got = call(one, form, given), call(made, form, given)
    difference = (got - expected).abs().max().item()
    runs = {"eager": lambda: call(one, form, given), "onnx": lambda: call(made, form, given)}
    times, failed = timing.interleaved(runs, device=device, rounds=rounds, seconds=seconds)
    if failed:
        raise next(iter(failed.values()))
    ms = {way: median(found) / n for way, found in times.items()}
    return {
        "case": case,
        "gan": name,
        "preset": preset,
        "act": form.card.acts[0],
        "batch": n,
        "image": list(expected.shape[1:]),
        "dropout": form.card.chance,
        "weights": sum(p.numel() for p in form.module.net.parameters()),
        "megabytes": path.stat().st_size / 1e6,
        "export_s": took,
        "difference": difference,
        "deviation": expected.std().item(),  # of the images: what the difference is to be seen against
        "ms_eager": ms["eager"],
        "ms_onnx": ms["onnx"],
        "faster": median(e / o for e, o in zip(times["eager"], times["onnx"], strict=True)),
    }


def table(found):
    """README's lines from rows: the newest of each case and device."""
    newest = {(row["device"], row["case"]): row for row in found}
    if not newest:
        return ["not yet run"]
    lines = []
    for device in dict.fromkeys(device for device, _ in newest):
        mine = [row for (where, _), row in newest.items() if where == device]
        head = ["GAN, preset", "images, at once", "weights", "file, MB", "largest difference", "ms per image, eager"]
        head += ["ONNX Runtime", "", "date, commit"]
        versions = f"torch {mine[-1]['torch']}, onnxruntime {mine[-1]['onnxruntime']}"
        lines += ["", f"{device}, {versions}, float32; of [-1, 1]:", ""]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for row in mine:
            channels, height, width = row["image"]
            cells = [f"{row['gan']}, {row['preset']}", f"{height}x{width}x{channels}, {row['batch']}"]
            cells += [f"{row['weights']:,}", f"{row['megabytes']:.1f}", f"{row['difference']:.1e}"]
            cells += [f"{row['ms_eager']:.3g}", f"{row['ms_onnx']:.3g}", f"{row['faster']:.2f}x"]
            lines.append("| " + " | ".join([*cells, f"{row['date']}, {row['commit']}"]) + " |")
    return lines[1:]


def main(argv=None):
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.export", description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default=timing.DEVICE, help="(default: a GPU if there is one)"
    )
    parser.add_argument("--quick", action="store_true", help="one short round, nothing recorded")
    args = parser.parse_args(argv)
    if unknown := set(args.cases) - set(CASES):
        parser.error(f"unknown case {min(unknown)!r}: choose from {', '.join(CASES)}")
    import onnxruntime

    effort = {"rounds": 1, "seconds": 0.0} if args.quick else {}
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for case in args.cases or CASES:
            row = record.facts() | {"onnxruntime": onnxruntime.__version__}
            row |= {"device": record.cpu()} if args.device == "cpu" else {}
            row |= measure(case, Path(folder), device=args.device, **effort)
            if not args.quick:
                record.append("export", [row])
            if not row["difference"] <= TOLERANCE[args.device]:
                wrong.append(case)
            print(
                f"{case:18} {row['megabytes']:7.1f} MB, off by {row['difference']:.1e}, ms per image: eager "
                f"{row['ms_eager']:8.2f}, ONNX Runtime {row['ms_onnx']:8.2f} ({row['faster']:.2f}x); exported in "
                f"{row['export_s']:.1f} s",
                flush=True,
            )
    if wrong:
        print(f"off by more than {TOLERANCE[args.device]:g}: {', '.join(wrong)}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

"""Put pictures of any size through a trained network: files, folders and globs, from the run directory alone."""

from __future__ import annotations

import argparse
import glob
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from pygan import log, pictures, use
from pygan.data import images, sources, transforms
from pygan.data.feeds import normalise
from pygan.data.index import list_images
from pygan.errors import UserError, say
from pygan.rundir import write_atomic

_SMALL = 32  # pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pygan translate`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="picture, folder or glob")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="where the results go")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="pictures at once (default: 8 images)")
    parser.add_argument("--checkpoint", default="last", metavar="NAME", help="last, best or a kept one (default: last)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of dropout at test time (default: 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace results that are already there")
    parser.add_argument(
        "--direction", choices=("AtoB", "BtoA"), help="which way, of a GAN that learned both (default: AtoB)"
    )
    parser.add_argument("--to", metavar="NAMES", help="labels of the result, of a GAN of many domains: Blond_Hair,Male")


def run(args: argparse.Namespace) -> int:
    """`pygan translate`. Returns the exit code."""
    return translate(
        args.run,
        args.inputs,
        args.output,
        checkpoint=args.checkpoint,
        device=args.device,
        batch=args.batch,
        seed=args.seed,
        overwrite=args.overwrite,
        options={name: value for name in ("direction", "to") if (value := getattr(args, name)) is not None},
    )


def translate(
    run: Path,
    inputs: Sequence[str],
    output: Path,
    *,
    checkpoint: str = "last",
    device: str = "auto",
    batch: int = 8,
    seed: int = 0,
    overwrite: bool = False,
    options: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Write one PNG into `output` for every picture of `inputs` (files, folders, globs; folders keep their shape).

    A picture of any size is padded by reflection to the network's multiple, and the result cropped back. A picture
    that cannot be read is named and skipped, the rest is done, and the exit code is 2; existing results stay unless
    `overwrite`. options: what the GAN's own `translate` asks, such as direction or to.
    Returns the exit code. Errors: UserError (no run, no input, nowhere to write, an option that the GAN has not).
    """
    if batch < 1:
        raise UserError(f"--batch must be at least 1, got {batch}")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2**63-1, got {seed}")
    trained = use.load(run, checkpoint, device)
    _check_options(trained, run, options)
    jobs = _jobs(inputs, output)
    out = log.console()
    bad = kept = done = 0
    began = said = time.monotonic()
    # A dropout mask covers a whole batch: with dropout in use a picture goes alone, so that no neighbour matters.
    size = 1 if getattr(trained.recipe, "test_dropout", False) else batch
    with torch.inference_mode():
        waiting: list[tuple[Path, np.ndarray, tuple[int, int]]] = []
        for source, target in jobs:
            if target.exists() and not overwrite:
                kept += 1
                continue
            try:
                pixels = _network_input(trained, source, options)
            except UserError as error:
                say(str(error))
                bad += 1
                continue
            padded = pad_to_multiple(pixels, trained.net.multiple, least=getattr(trained.net, "least", 0))
            if waiting and (len(waiting) == size or waiting[0][1].shape != padded.shape):
                done += _flush(trained, waiting, seed, options)
            waiting.append((target, padded, pixels.shape[:2]))
            if time.monotonic() - said > 5:
                said = time.monotonic()
                rate = done / (said - began)
                left = log.duration((len(jobs) - done - kept - bad) / rate) if rate else "?"
                out.print(f"{done + kept + bad}/{len(jobs)} pictures  {rate:.1f} images/s  {left} left", markup=False)
        done += _flush(trained, waiting, seed, options)
    if kept:
        say(f"{kept} results were already in {output} and were left alone (--overwrite replaces them)")
    seconds = time.monotonic() - began
    out.print(
        f"translated {done} pictures into {output} ({done / seconds:.1f} images/s), by {run} at "
        f"{trained.images_seen:,} images{f'; {bad} could not be read' if bad else ''}",
        markup=False,
    )
    return 2 if bad else 0


def pad_to_multiple(pixels: np.ndarray, multiple: int, *, least: int = 0) -> np.ndarray:
    """(h, w, c) reflected at the right and bottom until both sides are multiples; as often as a small one needs.

    least: pixels that both sides have at the end at least, a multiple too.
    """
    down, right = (max(side + -side % multiple, least) - side for side in pixels.shape[:2])
    return np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="reflect") if down or right else pixels


def _jobs(inputs: Sequence[str], output: Path) -> list[tuple[Path, Path]]:
    """(picture, result) for everything that is asked for, each picture once. Errors: UserError."""
    found: dict[Path, tuple[Path, Path]] = {}  # file -> (as it was named, where below `output`)
    for text in inputs:
        matches = [Path(text)] if Path(text).exists() else sorted(map(Path, glob.glob(text, recursive=True)))
        if not matches:
            raise UserError(f"{text}: no such picture, folder or glob")
        for match in matches:
            if match.is_dir():
                inside = [path for path in list_images(match) if output.resolve() not in path.resolve().parents]
                if not inside and len(matches) == 1:
                    raise UserError(f"{match} holds no picture ({', '.join(sorted(images.EXTENSIONS))})")
                for path in inside:
                    found.setdefault(path.resolve(), (path, path.relative_to(match)))
            else:
                found.setdefault(match.resolve(), (match, Path(match.name)))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {output} ({error.strerror}); choose another -o") from error
    jobs, taken = [], set()
    for path, below in found.values():
        target = below.with_suffix(".png")
        if target in taken:  # a.jpg and a.png, or the same name from two folders
            target = below.with_name(f"{below.stem}_{below.suffix[1:]}.png")
        number = 2
        while target in taken:
            target, number = below.with_name(f"{below.stem}_{number}.png"), number + 1
        taken.add(target)
        if (output / target).resolve() in found:
            raise UserError(f"{output / target} is one of the inputs and would be replaced; choose another -o")
        jobs.append((path, output / target))
    return jobs


def _check_options(trained: use.Trained, run: Path, options: Mapping[str, str]) -> None:
    gan = trained.gan.__name__.rpartition(".")[2]
    if not hasattr(trained.gan, "translate"):
        raise UserError(f"{run} is a run of {gan}, which translates nothing; `pygan sample` shows what it makes")
    known = inspect.signature(trained.gan.translate).parameters
    for name in options:
        if name not in known:
            raise UserError(f"--{name} is not something that {gan} can be asked; leave it out")
    trained.gan.translate(trained.net, trained.recipe, _nothing(trained, options), None, **options)


def _nothing(trained: use.Trained, options: Mapping[str, str]) -> torch.Tensor:
    """The smallest grey picture from 32 pixels on, to find out at once whether the options make sense."""
    side = -(-_SMALL // trained.net.multiple) * trained.net.multiple
    return torch.zeros((1, _channels(trained, options), side, side), device=trained.device)


def _channels(trained: use.Trained, options: Mapping[str, str]) -> int:
    """Of the network's input."""
    if options.get("direction") == "BtoA" and "direction" in inspect.signature(trained.gan.translate).parameters:
        return trained.recipe.output_channels
    takes = getattr(trained.gan, "takes", None)
    return takes(trained.recipe) if takes else trained.recipe.input_channels


def _network_input(trained: use.Trained, path: Path, options: Mapping[str, str]) -> np.ndarray:
    """uint8 (h, w, channels) of a picture as the network was trained to see it. Errors: UserError."""
    recipe = trained.recipe
    if (transform := getattr(recipe, "input_transform", "none")) != "none":
        channels = (recipe.input_channels, recipe.output_channels)
        forward = recipe.direction == "AtoB"
        A, B = sources.transform_pair(
            np.asarray(images.load(path, 3)), transform, channels if forward else channels[::-1]
        )
        return A if forward else B
    channels = _channels(trained, options)
    if channels == sources.N_CLASSES:
        return sources.draw_labels(sources.class_ids(path), sources.N_CLASSES)
    pixels = np.asarray(images.load(path, channels))
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _flush(
    trained: use.Trained,
    waiting: list[tuple[Path, np.ndarray, tuple[int, int]]],
    seed: int,
    options: Mapping[str, str],
) -> int:
    """Translate and write the pictures that wait, all of one size; empties the list. Returns how many."""
    for image, (target, _, (height, width)) in _results(trained, waiting, seed, options):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(target, pictures.to_png(pictures.to_image(image[:height, :width])))
        except OSError as error:
            raise UserError(f"cannot write {target} ({error.strerror}); results so far are kept") from error
    count = len(waiting)
    waiting.clear()
    return count


def _results(
    trained: use.Trained, waiting: list, seed: int, options: Mapping[str, str]
) -> Iterator[tuple[np.ndarray, tuple]]:
    if not waiting:
        return
    A = normalise(torch.from_numpy(np.stack([padded for _, padded, _ in waiting])))
    if getattr(trained.recipe, "input_transform", "none") == "mask" and trained.recipe.direction == "AtoB":
        transforms.cut_hole_(A)
    outputs = pictures.as_rgb(trained.translate(A, trained.rng(seed), **options), A)
    yield from zip(pictures.to_uint8(outputs), waiting, strict=True)

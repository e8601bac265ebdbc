"""Put pictures of any size, depth and kind through a trained network: files, folders, globs, a pipe, a stream."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pygan.errors import UserError
from pygan.signals import sigterm_is_ctrl_c

PIPE = "-"
"""Standard input among the inputs, standard output as the output."""

_LARGEST = (2 - 2**-23) * 2.0**127  # that a float of a result can be


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pygan translate`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory, or a file that `pygan export` wrote")
    inputs = parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="picture, folder or glob; - reads a picture from standard input"
    )
    inputs.required = False  # `--stream -` takes the - for its own value; `translate` says what is missing
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="DIR",
        help="where the results go, each by its picture's name (of a.jpg and a.png together: a_jpg.png, a_png.png); "
        "- writes to standard output",
    )
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="pictures at once (default: 8 images)")
    parser.add_argument(
        "--format",
        choices=("auto", "png", "jpg", "webp", "tiff", "npy"),
        default="auto",
        help="of the results (default: auto, png where that holds them, else tiff; npy of an .npy)",
    )
    parser.add_argument(
        "--depth",
        choices=("auto", "8", "16", "float"),
        default="auto",
        help="of the results, in bits (default: auto, that of the picture)",
    )
    parser.add_argument(
        "--quality", type=int, metavar="N", help="of jpg and webp, 1 to 100 (default: jpg 95, webp without loss)"
    )
    parser.add_argument(
        "--float-range",
        metavar="LO,HI",
        help="which floats are black and white, given and made; write --float-range=-1,1 (default: 0,1)",
    )
    parser.add_argument(
        "--stream",
        nargs="?",
        const="auto",
        metavar="KIND",
        help="frames from the input, one after the other, and results in the same manner to -o -: "
        "mjpeg, png or rgb24:WxH (default: auto, mjpeg or png by the first byte)",
    )
    parser.add_argument(
        "--tile",
        nargs="?",
        const=0,
        type=int,
        metavar="PIXELS",
        help="put each picture through in parts of that many pixels a side, with the result of the whole: for pictures "
        "that are larger than the memory (default with --tile: as large as fits, whole where it does)",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        metavar="PIXELS",
        help="of --tile: computed around a part and blended; less than the default is faster and an approximation "
        "(default: as far as the network sees)",
    )
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
    with sigterm_is_ctrl_c():
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    stream, inputs = args.stream, list(args.inputs or ())
    if stream == PIPE:  # `--stream - -o -`: the - is the input
        stream, inputs = "auto", [PIPE, *inputs]
    return translate(
        args.run,
        inputs or ([] if stream is None else [PIPE]),
        args.output,
        checkpoint=args.checkpoint,
        device=args.device,
        batch=args.batch,
        seed=args.seed,
        overwrite=args.overwrite,
        options={name: value for name in ("direction", "to") if (value := getattr(args, name)) is not None},
        format=args.format,
        depth=args.depth,
        quality=args.quality,
        float_range=_range(args.float_range),
        stream=stream,
        tile=args.tile,
        overlap=args.overlap,
    )


def translate(
    run: Path,
    inputs: Sequence[str],
    output: Path | str,
    *,
    checkpoint: str = "last",
    device: str = "auto",
    batch: int = 8,
    seed: int = 0,
    overwrite: bool = False,
    options: Mapping[str, str] = MappingProxyType({}),
    format: str = "auto",  # noqa: A002
    depth: str = "auto",
    quality: int | None = None,
    float_range: tuple[float, float] | None = None,
    stream: str | None = None,
    tile: int | None = None,
    overlap: int | None = None,
) -> int:
    """Write one file into `output` for every picture of `inputs` (files, folders, globs; folders keep their shape).

    A result has its picture's name, with the ending of what it is; of pictures that differ in nothing but the ending,
    or the folder, each has that in its name (a_jpg.png, a_png.png), so that none takes the name of an earlier result.

    A picture of any size comes back at its size, with its depth and its alpha, as a PNG where that holds it, else as
    a TIFF; format, depth, quality and float_range (`pixels.read`) say otherwise. A picture that cannot be used is named
    and left out, the rest is done, and the exit code is 2. Results that are there stay unless `overwrite`. "-" among
    the inputs is a picture from standard input; as the output it is standard output, for one picture. stream: frames
    from the one input to standard output, see `pygan.translate.stream`. options: direction, to. tile: each picture in
    parts of that many pixels a side, 0: as many as fit into memory (`pygan.tiles`), with `overlap` pixels around them;
    None: whole. Larger pictures are opened then.

    Returns the exit code: 130 after Ctrl-C, and of the command after SIGTERM; only whole files are left then. Errors:
    UserError (no run, no input, nowhere to write, a format that cannot hold what is asked for, an option that the
    network has not).
    """
    if batch < 1:
        raise UserError(f"--batch must be at least 1, got {batch}")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2**63-1, got {seed}")
    if quality is not None and not 1 <= quality <= 100:
        raise UserError(f"--quality must be from 1 to 100, got {quality}")
    if not inputs:
        raise UserError("which pictures? name files, folders or globs, or - for standard input")
    if str(output) == "":
        raise UserError("-o is empty: name the folder of the results, . for this one")
    if overlap is not None and tile is None:
        raise UserError("--overlap is of --tile: add that, or leave it out")
    if tile is not None and stream is not None:
        raise UserError("--tile is for pictures from files; leave it out with --stream")
    from pygan import apply, tiles, use
    from pygan.translate import files, jpegs, one
    from pygan.translate import stream as frames
    from pygan.translate.replay import Replay
    from pygan.translate.work import Work

    tiling = None if tile is None else tiles.Tiling(tile, overlap)
    frame_kind = frames.kind_of(stream, inputs, output, format) if stream is not None else None
    network = use.network(run, checkpoint, device)
    apply.check(network, options, str(run))
    if tiling is None and network.device.type == "cuda":
        network = Replay(network)
    work = Work(network, batch, seed, options, format, depth, quality, float_range)
    if tiling is not None:
        work = dataclasses.replace(work, batch=1, tile=tiling, most_pixels=tiles.MOST_PIXELS)
    work.check()
    if frame_kind:
        return frames.through(work, inputs[0], frame_kind)
    if str(output) == PIPE:
        return one.through(work, inputs)
    with jpegs.on(network.device) as decoder:
        work = dataclasses.replace(work, jpegs=decoder)
        return files.through(work, run, inputs, Path(output), overwrite=overwrite)


def _range(text: str | None) -> tuple[float, float] | None:
    """The two numbers of "LO,HI". Errors: UserError."""
    if text is None:
        return None
    try:
        low, high = (float(word) for word in text.split(","))
        if not (max(abs(low), abs(high)) <= _LARGEST and low < high):
            raise ValueError
    except ValueError:
        raise UserError(f"--float-range must be two numbers like 0,255, the smaller first, got {text!r}") from None
    return low, high

"""One file of a trained network that runs without pygan: ONNX, TorchScript, PT2, safetensors, a Hugging Face folder."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pygan.errors import UserError, say
from pygan.signals import sigterm_is_ctrl_c

if TYPE_CHECKING:
    from pygan.export.network import Asked, Form
    from pygan.export.prove import Proof
    from pygan.use import Trained

ENDINGS = {"onnx": ".onnx", "torchscript": ".pt", "pt2": ".pt2", "safetensors": ".safetensors", "hub": ""}
# What a file says, and the command where it matters, of a translation that is no pass through the network.
_SEARCH = "a search for the noise whose picture is nearest; the file was compared with the run on pictures from noise"
_SEARCH_IN_HALF = "; by weights of 16 bits the search may end elsewhere, for which there is no tolerance"
_OTHER_ENDINGS = {"torchscript": (".pt", ".ts")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pygan export`."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory, or a safetensors file or folder of one")
    parser.add_argument("--to", choices=tuple(ENDINGS), required=True, help="kind of file; hub: a Hugging Face folder")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="where to write (default: GAN-RUN.ENDING)")
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument("--checkpoint", default="last", metavar="NAME", help="last, best or a kept one (default: last)")
    form = parser.add_argument_group("the network in it")
    form.add_argument(
        "--what", choices=("translate", "generate"), help="of a GAN that does both (default: what it is usually for)"
    )
    form.add_argument(
        "--direction", choices=("AtoB", "BtoA"), help="which way, of a GAN that learned both (default: AtoB)"
    )
    form.add_argument(
        "--freeze", action="store_true", help="dropout off and running statistics, whatever the run does in use"
    )
    form.add_argument("--fp16", action="store_true", help="weights in 16 bits; inputs and outputs stay in 32")
    form.add_argument("--dynamic", action="store_true", help="any height and width (default: those of training)")
    form.add_argument("--size", metavar="HxW", help="height and width of pictures (default: as trained)")
    form.add_argument("--batch", type=int, default=0, metavar="N", help="pictures at once (default: any number)")
    form.add_argument(
        "--tolerance", type=float, metavar="X", help="largest difference from the run (default: 1e-4; --fp16: 2e-2)"
    )
    hub = parser.add_argument_group("--to hub")
    hub.add_argument("--license", "--licence", metavar="NAME", help="licence of the weights: mit, cc-by-4.0, ...")


def run(args: argparse.Namespace) -> int:
    """`pygan export`. Returns the exit code: 1 if the file would not have been the network, 130 after Ctrl-C."""
    from pygan.export.prove import Differs

    try:
        with sigterm_is_ctrl_c():
            return _run(args)
    except KeyboardInterrupt:
        say("interrupted; what is at the place of the file is whole, or as it was")
        return 130
    except Differs as error:
        say(f"error: {error}; nothing was written")
        return 1


def _run(args: argparse.Namespace) -> int:
    export(
        args.run,
        args.to,
        args.output,
        checkpoint=args.checkpoint,
        what=args.what or "",
        direction=args.direction or "",
        freeze=args.freeze,
        half=args.fp16,
        dynamic=args.dynamic,
        size=None if args.size is None else _size(args.size),
        batch=args.batch,
        tolerance=args.tolerance,
        license=args.license,
        overwrite=args.overwrite,
    )
    return 0


def export(
    run: Path,
    kind: str,
    output: Path | None = None,
    *,
    checkpoint: str = "last",
    what: str = "",
    direction: str = "",
    freeze: bool = False,
    half: bool = False,
    dynamic: bool = False,
    size: tuple[int, int] | None = None,
    batch: int = 0,
    tolerance: float | None = None,
    license: str | None = None,  # noqa: A002 (the word of the Hub)
    overwrite: bool = False,
) -> Path:
    """Write a network as one file, prove that it is the network, and only then let it be there. Returns its path.

    Args:
        run: run directory; or a safetensors file or Hugging Face folder that a run was exported to.
        kind: "onnx", "torchscript", "pt2", "safetensors" or "hub".
        output: the file; None: GAN-RUN with the kind's ending, here.
        checkpoint: "last", "best" or a kept one.
        what: "translate" or "generate", of a GAN that does both; "": what it is usually for.
        direction: "AtoB" or "BtoA", of a GAN that learned both; "": AtoB.
        freeze: dropout off and running statistics, whatever the run does in use.
        half: weights in float16; inputs and outputs stay in float32.
        dynamic: any height and width that the network takes.
        size: (height, width) of a file that takes one; None: as trained.
        batch: pictures at once; 0: any number.
        tolerance: largest difference from the run's own network, in units of [-1, 1]; None: 1e-4, with half 2e-2.
        license: with "hub", of the weights.
        overwrite: replace a file that is there.

    Raises:
        UserError: what cannot be done, in one line.
        Differs: the file would differ by more than the tolerance; nothing is written.
    """
    from pygan import use

    _check(kind, output, tolerance, batch, license, {"--what": what, "--direction": direction, "--fp16": half,
           "--dynamic": dynamic, "--size": size, "--batch": batch, "--tolerance": tolerance})  # fmt: skip
    trained = use.as_saved(run, checkpoint, "cpu")
    if not isinstance(trained, use.Trained):
        raise UserError(f"{run} is an exported file already; export the run that it was made from")
    path = output or Path(
        f"{trained.card.gan}-{run.resolve().stem}{f'-{direction}' if direction else ''}{ENDINGS[kind]}"
    )
    if kind == "hub":
        from pygan import bundle
        from pygan.export.network import frozen

        return bundle.write(
            frozen(trained) if freeze else trained, run, path, license=license or "", frozen=freeze, overwrite=overwrite
        )
    _check_free(path, overwrite)
    from pygan.export.network import Asked

    asked = Asked(what, direction, freeze, half, dynamic, size, batch)
    with _written(path, overwrite) as new, _in_memory():
        made, proof = _file(trained, run, kind, asked, new, tolerance)
    _tell(path, made, proof, kind)
    return path


def write_safetensors(trained: Trained, path: Path, *, half: bool = False, semantics: str = "kept") -> None:
    """The weights of a network as a safetensors file whose header holds its card. Errors: OSError.

    semantics: what the header says of dropout and batch statistics, "kept" as the run has them, or "frozen".
    """
    from pygan.export import network, weights
    from pygan.exported import facts

    table = facts.write(trained.card, semantics=semantics, precision=_precision(half), kind="safetensors")
    if network.searches(trained):
        table["translation"] = _SEARCH + _SEARCH_IN_HALF * half
    weights.write(trained, table, path, half=half)


def _check(
    kind: str,
    output: Path | None,
    tolerance: float | None,
    batch: int,
    license: str | None,  # noqa: A002
    of_files: Mapping[str, object],
) -> None:
    """What can be said before anything is read. Errors: UserError."""
    if kind not in ENDINGS:
        raise UserError(f"--to must be one of {', '.join(ENDINGS)}, got {kind!r}")
    endings = _OTHER_ENDINGS.get(kind, (ENDINGS[kind],))
    if output is not None and kind != "hub" and output.suffix.lower() not in endings:
        raise UserError(
            f"-o {output}: a file of --to {kind} ends in {' or '.join(endings)}, by which it is known again"
        )
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise UserError(f"--tolerance must be more than 0 and finite, got {tolerance}")
    if batch < 0:
        raise UserError(f"--batch must be at least 1, or left out for any number, got {batch}")
    if kind != "hub" and license is not None:
        raise UserError("--license belongs to --to hub, whose page names it; leave it out")
    not_here = {
        "hub": of_files,
        "safetensors": {k: v for k, v in of_files.items() if k not in ("--fp16", "--tolerance")},
    }
    for flag, value in not_here.get(kind, {}).items():
        if value:
            raise UserError(f"{flag} has no meaning with --to {kind}, which holds all of the network; leave it out")


def _file(
    trained: Trained, run: Path, kind: str, asked: Asked, new: Path, tolerance: float | None
) -> tuple[Form, Proof]:
    """Write `new` and prove it."""
    from pygan import exported
    from pygan.export import network, prove, record
    from pygan.exported import facts

    semantics = "frozen" if asked.frozen else "kept"
    if kind == "safetensors":
        forms = network.every(trained, asked)
        write_safetensors(forms[0].trained, new, half=asked.half, semantics=semantics)
    else:
        forms = [network.form(trained, asked)]
        table = facts.write(forms[0].card, semantics=semantics, precision=_precision(asked.half), kind=kind)
        record.WRITERS[kind](forms[0], table, new)
    usual = prove.HALF_TOLERANCE if asked.half else prove.TOLERANCE
    made = exported.load(new, "cpu")
    return forms[0], prove.prove(forms, made, run, usual if tolerance is None else tolerance)


@contextlib.contextmanager
def _written(path: Path, overwrite: bool) -> Iterator[Path]:
    """A place to write to; it becomes `path` at the end, and is gone if that is not reached."""
    from pygan.export.aside import aside

    try:
        with aside(path) as new:
            yield new
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            _check_free(path, overwrite)  # again: a proof takes its time
            os.replace(new, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error}); choose another -o") from error


def _check_free(path: Path, overwrite: bool) -> None:
    """Errors: UserError where something is that would be lost."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; choose another -o")
    if os.path.lexists(path) and not overwrite:  # a link to nothing too
        raise UserError(f"{path} is there already; add --overwrite to replace it, or choose another -o")


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    """Inside, memory that is too small is the user's affair. Errors: UserError."""
    from pygan import device

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (where := device.out_of_memory(error)):
            raise
        raise UserError(f"{where} has too little memory to record this; take a smaller --size or --batch") from error


def _tell(path: Path, made: Form, proof: Proof, kind: str) -> None:
    """Say what was written, and what is proven of it."""
    from pygan import log
    from pygan.export import network

    out, card = log.console(), made.card
    lines = [f"file       {path}, {path.stat().st_size / 1e6:.1f} MB"]
    if kind == "safetensors":
        lines.append(f"holds      G of {card.gan} at {card.images_seen:,} images; pygan builds the network around it")
    else:
        kinds = {one.name: str(one.dtype).removeprefix("torch.") for one in made.inputs}
        for one in made.inputs:
            lines.append(f"input      {one.name}: {kinds[one.name]} ({', '.join(map(str, one.shape))})")
        lines.append(f"output     float32 ({', '.join(map(str, made.output))}) in [-1, 1]")
    dropout = "on, its masks decided by the seed" if card.chance else "off"
    batch_norm = {"own": "each picture's own", "running": "running", "none": "there are none"}[card.statistics]
    how = "frozen" if made.asked.frozen else "kept as the run has them"
    lines.append(f"semantics  {how}: dropout {dropout}; batch statistics: {batch_norm}")
    of = "held-out" if proof.held_out else "made-up"
    shapes = ", ".join("x".join(map(str, shape)) for shape in proof.shapes)
    lines.append(
        f"proof      largest difference from the run {proof.largest:.2g} ({proof.grey_levels:.2g} grey levels) in "
        f"{proof.images} images of {of} inputs ({shapes}); tolerance {proof.tolerance:.2g}"
    )
    if kind == "safetensors" and made.asked.half and network.searches(made.trained):
        lines.append(f"translates {_SEARCH}{_SEARCH_IN_HALF}")
    for line in lines:
        out.print(line, markup=False)


def _precision(half: bool) -> str:
    return "float16 weights of convolutions and dense layers, float32 norms, inputs and outputs" if half else "float32"


def _size(text: str) -> tuple[int, int]:
    """`256x512` or `256` -> (height, width). Errors: UserError."""
    found = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text.strip().lower())
    if not found:
        raise UserError(f"--size must be HEIGHTxWIDTH in pixels, as 256x512, got {text!r}")
    height = int(found[1])
    return height, int(found[2] or height)

"""From a run to a bundle: written beside its place, proven equal to the run, then put there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import torch

from pygan import export, log, outputs
from pygan.bundle import layout, licence, model_card, reading, samples
from pygan.errors import UserError, say
from pygan.export import prove
from pygan.export.aside import aside
from pygan.exported import facts
from pygan.use import Trained
from pygan.version import __version__

_FROZEN = " with dropout off and running statistics"
_COMPARED = 4  # held-out items
_LFS = "".join(f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in ("safetensors", "png"))


def write(
    trained: Trained,
    run: Path,
    folder: Path,
    *,
    license: str = "",  # noqa: A002 (the Hub's word)
    pictures: int = 4,
    frozen: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a trained network as a folder that can be pushed to the Hugging Face Hub as it is. Returns the folder.

    run: its directory, for scores and held-out items. license: an identifier, as mit or cc-by-4.0; "": unknown, and a
    line says how to name one. pictures: held-out items that samples/ shows; 0: none. frozen: say that dropout and
    batch statistics are those of no training any more. overwrite: replace the files of a bundle that is there; what
    else is in that folder (.git, a LICENSE) stays.

    The folder is complete or not there. Before it is, it is loaded anew, and must paint what the run paints, bit for
    bit, from held-out items. What was done is printed. Errors: UserError.
    """
    fields = licence.fields(license)
    if folder.name in ("", ".."):
        raise UserError(f"-o {folder}: name a folder that is to be written")
    try:
        _check_place(folder, overwrite)
        with aside(folder, folder=True) as new:
            card = _write_network(trained, new, "frozen" if frozen else "kept")
            batch, held_out = prove.batch_of(trained, run, max(_COMPARED, pictures))
            images = _prove_equal(trained, reading.read(new, trained.device.type), batch)
            shown = samples.write(trained, batch if held_out else None, pictures, new / layout.SAMPLES)
            text = model_card.text(trained, run, fields, shown, card)
            (new / layout.CARD).write_text(text)
            (new / layout.ATTRIBUTES).write_text(_LFS)
            _put(new, folder)
    except OSError as error:
        where = error.filename or folder
        raise UserError(f"cannot write {where} ({error.strerror or error}); choose another -o") from error
    out = log.console()
    weights = folder / layout.WEIGHTS
    out.print(f"folder     {folder}, {weights.stat().st_size / 1e6:.1f} MB of weights", markup=False)
    of = f"{images} images of {'held-out' if held_out else 'made-up'} inputs"
    out.print(f"proof      {of} are the run's{_FROZEN * frozen}, bit for bit", markup=False)
    if fields["license"] == "unknown":
        say(f"{folder / layout.CARD} says `license: unknown`; name one with --license mit, or whichever it is")
    if shown.held_out:
        say(f"{folder / layout.SAMPLES} shows held-out pictures of the run's data; look at them before you publish it")
    return folder


def _check_place(folder: Path, overwrite: bool) -> None:
    """Errors: UserError where something is that would be lost."""
    if folder.is_dir():
        if not any(folder.iterdir()):
            return
        if not layout.is_bundle(folder):
            raise UserError(f"{folder} is there and holds something else than a model of pygan; choose another -o")
        if not overwrite:
            raise UserError(f"{folder} is there already; add --overwrite to replace it, or choose another -o")
        if (folder / layout.SAMPLES).is_symlink():
            raise UserError(f"{folder / layout.SAMPLES} is a link to another place, which is left alone; remove it")
    elif folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} is there and is no folder; choose another -o")


def _write_network(trained: Trained, new: Path, semantics: str) -> dict[str, Any]:
    """model.safetensors and config.json. Returns the card in it: the network's, without the folders of this machine."""
    weights = new / layout.WEIGHTS
    export.write_safetensors(trained, weights, semantics=semantics)
    card = trained.card.to_dict() | {"recipe": facts.without_places(trained.card)}
    config = {
        "library_name": "pygan",
        "format": layout.FORMAT,
        "model_type": card["gan"],
        "card": card,
        "semantics": semantics,
        "sha256": layout.checksum(weights),
        "versions": {"pygan": __version__, "torch": torch.__version__},
    }
    (new / layout.CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    return card


def _prove_equal(trained: Trained, fresh: Trained, batch: Any) -> int:
    """The number of images that were compared. Errors: UserError if one of them is not the run's, bit for bit."""
    images = 0
    with torch.inference_mode():
        for way in outputs.ways(trained.gan, trained.recipe):
            painted = [
                outputs.of(one.gan, one.recipe, one.net, batch, one.rng(0), way=way).fake for one in (trained, fresh)
            ]
            if not torch.equal(*painted):
                most = (painted[0] - painted[1]).abs().max().item()
                raise UserError(
                    f"the files do not paint what the run paints{f' ({way})' if way else ''}: they differ by {most:g}; "
                    f"nothing was written"
                )
            images += painted[0].shape[0]
    return images


def _put(new: Path, folder: Path) -> None:
    """Put a complete bundle where it belongs. config.json comes last: its checksum tells half a bundle from a whole."""
    for path in (path for path in new.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    if not folder.exists():
        os.rename(new, folder)
        return
    (folder / layout.SAMPLES).mkdir(exist_ok=True)
    for stale in (folder / layout.SAMPLES).iterdir():
        if re.fullmatch(r"\d+\.png", stale.name):
            stale.unlink()
    files = sorted((path for path in new.rglob("*") if path.is_file()), key=lambda path: path.name == layout.CONFIG)
    for path in files:
        os.replace(path, folder / path.relative_to(new))

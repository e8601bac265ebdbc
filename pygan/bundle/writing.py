"""From a run to a bundle: written beside its place, proven equal to the run, then put there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from pygan import outputs
from pygan import recipe as recipes
from pygan.bundle import layout, licence, model_card, reading, samples
from pygan.errors import UserError, say
from pygan.use import Trained
from pygan.version import __version__

_COMPARED = 4  # held-out items
_LFS = "".join(f"*.{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in ("safetensors", "png"))


def write(
    trained: Trained,
    run: Path,
    folder: Path,
    *,
    license: str = "",  # noqa: A002 (the Hub's word)
    pictures: int = 4,
    overwrite: bool = False,
) -> Path:
    """Write a trained network as a folder that can be pushed to the Hugging Face Hub as it is. Returns the folder.

    run: its directory, for scores and held-out items. license: an identifier, as mit or cc-by-4.0; "": unknown, and a
    line says how to name one. pictures: held-out items that samples/ shows; 0: none. overwrite: replace the files of a
    bundle that is there; what else is in that folder (.git, a LICENSE) stays.

    The folder is complete or not there. Before it is, it is loaded anew, and must paint what the run paints, bit for
    bit, from held-out items. Errors: UserError.
    """
    fields = licence.fields(license)
    _check_place(folder, overwrite)
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        with _batch_of(trained, run, max(_COMPARED, pictures)) as (batch, held_out):
            card = _write_network(trained, new)
            _prove_equal(trained, reading.read(new, trained.device.type), batch)
            shown = samples.write(trained, batch if held_out else None, pictures, new / layout.SAMPLES)
        text = model_card.text(trained, run, fields, shown, card)
        (new / layout.CARD).write_text(text)
        (new / layout.ATTRIBUTES).write_text(_LFS)
        _put(new, folder)
    except OSError as error:
        where = error.filename or folder
        raise UserError(f"cannot write {where} ({error.strerror or error}); choose another -o") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    if fields["license"] == "unknown":
        say(f"{folder / layout.CARD} says `license: unknown`; name one with --license mit, or whichever it is")
    if shown.held_out:
        say(f"{folder / layout.SAMPLES} shows held-out pictures of the run's data; look at them before you publish it")
    return folder


def _check_place(folder: Path, overwrite: bool) -> None:
    """Errors: UserError where something is that would be lost."""
    if not folder.name:
        raise UserError(f"-o {folder}: name a folder that is to be written")
    if folder.is_dir():
        if not any(folder.iterdir()):
            return
        if not layout.is_bundle(folder):
            raise UserError(f"{folder} is there and holds something else than a model of pygan; choose another -o")
        if not overwrite:
            raise UserError(f"{folder} is there already; add --overwrite to replace it, or choose another -o")
    elif folder.exists() or folder.is_symlink():
        raise UserError(f"{folder} is there and is no folder; choose another -o")


@contextlib.contextmanager
def _batch_of(trained: Trained, run: Path, number: int) -> Iterator[tuple[Any, bool]]:
    """Held-out items of the run, on its device, and True; where they cannot be read made-up ones, and False."""
    from pygan.sample import given

    try:
        batches = list(given.held_out(trained, run, number))
        yield type(batches[0])(*(torch.cat(parts) for parts in zip(*batches, strict=True))), True
    except UserError as reason:
        say(f"{reason}. The files are compared on made-up inputs, and samples/ shows none of the data")
        yield _made_up(trained), False


def _made_up(trained: Trained) -> Any:
    """A batch of the GAN's feed with values from a fixed seed in it."""
    example = trained.gan.example(dataclasses.replace(trained.recipe, batch=2), "meta")
    rng = torch.Generator().manual_seed(0)
    values = (torch.rand(tensor.shape, generator=rng).mul(2).sub(1) for tensor in example)
    return type(example)(*(value.to(trained.device) for value in values))


def _write_network(trained: Trained, new: Path) -> dict[str, Any]:
    """model.safetensors and config.json. Returns the card in it: the network's, without the folders of this machine."""
    card = _public(trained)
    weights = new / layout.WEIGHTS
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in trained.net.state_dict().items()}
    try:
        save_file(tensors, weights, metadata={"pygan": json.dumps(card)})
    except SafetensorError as error:  # its text holds the system's reason (a full disk, a limit)
        raise OSError(f"{weights.name} could not be written: {error}") from error
    facts = {
        "library_name": "pygan",
        "format": layout.FORMAT,
        "model_type": card["gan"],
        "card": card,
        "sha256": layout.checksum(weights),
        "versions": {"pygan": __version__, "torch": torch.__version__},
    }
    (new / layout.CONFIG).write_text(json.dumps(facts, indent=2) + "\n")
    return card


def _public(trained: Trained) -> dict[str, Any]:
    """The network's card for others: of a path of this machine that the recipe names only the last part stays."""
    recipe = recipes.to_dict(trained.recipe)
    for field in dataclasses.fields(trained.recipe):
        value = recipe[field.name]
        if isinstance(value, str) and (value.startswith("/") or (field.metadata["session"] and "/" in value)):
            recipe[field.name] = PurePath(value).name
    return trained.card.to_dict() | {"recipe": recipe}


def _prove_equal(trained: Trained, fresh: Trained, batch: Any) -> None:
    """Errors: UserError if the network that was written paints anything else than the run's, bit for bit."""
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


def _put(new: Path, folder: Path) -> None:
    """Put a complete bundle where it belongs. config.json comes last: its checksum tells half a bundle from a whole."""
    for path in (path for path in new.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    if not folder.exists():
        os.rename(new, folder)
        return
    (folder / layout.SAMPLES).mkdir(exist_ok=True)
    for stale in (folder / layout.SAMPLES).glob("*.png"):
        stale.unlink()
    files = sorted((path for path in new.rglob("*") if path.is_file()), key=lambda path: path.name == layout.CONFIG)
    for path in files:
        os.replace(path, folder / path.relative_to(new))

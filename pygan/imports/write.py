"""Make the run of a network: its weights under our names, its recipe beside them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from pygan import checkpoint, gans, log, resume
from pygan.errors import UserError
from pygan.imports import recipes
from pygan.imports.asked import Asked, check
from pygan.imports.network import Network, recognise
from pygan.recipe import to_dict
from pygan.resume import ROOT
from pygan.rundir import RunDir
from pygan.state import State

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def import_network(file: Path, name: str, run: Path | None, asked: Asked) -> int:
    """Make a run of GAN `name` from the generator in `file`. Returns the exit code.

    run: the directory, None: runs/NAME/<file's name>. Errors: UserError, one line: what the file is instead, or what it
    does not say and which flag would.
    """
    check(name, asked)
    network = recognise(file, asked)
    gan = gans.load(name)
    recipe, parts = recipes.MAKE[name](gan, network, asked)
    path = run or ROOT / name / file.stem
    with torch.device("meta"):
        G = gan.generator(recipe)
    G.to_empty(device="cpu")
    live, count = G.state_dict(), 0
    for tensor in live.values():
        tensor.zero_()
    for prefix, part in parts.items():
        below = {key.removeprefix(prefix): value for key, value in live.items() if key.startswith(prefix)}
        _copy_into(below, _ours(part), part)
        count += sum(tensor.numel() for tensor in below.values())
    facts = {"gan": name, "preset": "imported", "imported": [part.file.name for part in parts.values()]}
    with closing(RunDir(path).open()) as run_dir:
        if resume.is_run(path):
            raise UserError(f"{path} already holds a run; choose another --run")
        try:
            header = {"gan": name, "recipe": to_dict(recipe)}
            # "finished": its D and moments are not there to train on with.
            checkpoint.save(run_dir.checkpoints, State(nets={"G": G}, opts={}), header, {"finished": True})
        except OSError as error:
            raise UserError(f"cannot write into {path} ({error.strerror}); choose another --run") from error
        resume.write_recipe(run_dir, facts, recipe, recipe)
    log.console().print(
        f"imported {file}, {network}, {count:,} values, into {path}; use it: pygan translate {path} PICTURES -o DIR",
        markup=False,
    )
    return 0


def _ours(network: Network) -> dict[str, Tensor]:
    """The tensors by our names. Errors: UserError for tensors that such a network does not have."""
    left, ours = dict(network.tensors), {}
    for layer in network.layers:
        conv = layer.ours if layer.alone else f"{layer.ours}.conv"
        for key in ("weight", "bias"):
            value = left.pop(f"{layer.conv}.{key}", None)
            if value is not None:
                ours[f"{conv}.{key}"] = _swap(value) if layer.swap and key == "weight" else value
        for key in ("weight", "bias", *_BUFFERS) if layer.norm else ():
            value = left.pop(f"{layer.norm}.{key}", None)
            kept = key not in _BUFFERS or (network.norm == "batch" and key != "num_batches_tracked")
            if value is not None and kept:
                ours[f"{layer.ours}.norm_act.{key}"] = value
    if left:
        raise UserError(f"{network.file} looks like {network}, but has a tensor {min(left)!r} that such a one has not")
    return ours


def _swap(weight: Tensor) -> Tensor:
    """Both halves of the input channels of a transposed convolution, (i, o, kh, kw), in the other order."""
    first, second = weight.chunk(2)
    return torch.cat((second, first))


@torch.no_grad()
def _copy_into(live: dict[str, Tensor], found: dict[str, Tensor], network: Network) -> None:
    """Errors: UserError naming the first misfit, or a value that is no number."""
    if missing := sorted(live.keys() ^ found.keys()):
        raise UserError(f"{network.file} looks like {network}, but {missing[0]} is in only one of it and its kind")
    for key, tensor in live.items():
        value = found[key]
        if value.shape != tensor.shape:
            raise UserError(
                f"{network.file} looks like {network}, but {key} has shape {list(value.shape)}, "
                f"expected {list(tensor.shape)}"
            )
        if not value.isfinite().all():
            raise UserError(f"{network.file} holds NaN or infinite values in {key}: its training had diverged")
        tensor.copy_(value)

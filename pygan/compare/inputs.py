"""The same held-out items through the networks of several runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from pygan import apply, heldout, metrics, outputs, pictures, use
from pygan.errors import UserError
from pygan.progress import Counter
from pygan.report.triplets import opened

_SEED = 0


@dataclass(frozen=True)
class Same:
    """Rows of pictures by column, with the L1 (grey levels) of each where there is a target; why some runs lack."""

    rows: list[tuple[dict[str, Image.Image], dict[str, float]]]
    words: str  # what they are made from
    left_out: dict[str, str] = field(default_factory=dict)  # {run: why}


class _Given(NamedTuple):
    """What the networks get: inputs, and what they are to paint where that is known; (n, c, h, w) in [-1, 1]."""

    input: Tensor
    target: Tensor | None
    direction: str  # AtoB or BtoA where the GAN has one, else ""
    run: str


def of(runs: Mapping[str, Path], checkpoint: str, device: str, n: int) -> Same:
    """The first n held-out items of the first run that translates, through every run that takes them.

    Where no run translates, n pictures of each from its own held-out sentences or from noise, without a common input.
    A run that cannot be used, or does not take them, is named with the reason.
    """
    trained, left_out = _loaded(runs, checkpoint, device)
    translating = [name for name, one in trained.items() if outputs.paints_from_pictures(one.gan, one.recipe)]
    if not translating:
        return _made(trained, runs, n, left_out)
    given = None
    for name in translating:
        try:
            given = _given(trained, name, translating, runs[name], n)
            break
        except UserError as reason:
            left_out[name] = str(reason)
    if given is None:
        return Same([], "", left_out)
    columns: dict[str, Tensor] = {"input": given.input}
    for name, one in trained.items():
        if name not in translating:
            left_out[name] = "it makes pictures from noise or sentences, and takes none"
        elif words := _unfit(one, given):
            left_out[name] = words
        else:
            columns[name] = _through(one, given)
            left_out.pop(name, None)
    if given.target is not None:
        columns["target"] = given.target
    words = f"The first {given.input.shape[0]} held-out items of {given.run}, through each network."
    return Same(_rows(columns, given.target), words, left_out)


def _loaded(runs: Mapping[str, Path], checkpoint: str, device: str) -> tuple[dict[str, use.Trained], dict[str, str]]:
    trained, left_out = {}, {}
    for name, path in runs.items():
        try:
            trained[name] = use.load(path, checkpoint, device)
        except UserError as reason:
            if checkpoint != "last":  # it was asked for by name
                raise
            left_out[name] = str(reason)
        except OSError as reason:  # a run in training: its checkpoint was replaced meanwhile
            left_out[name] = f"{reason.filename} cannot be read ({reason.strerror})"
    return trained, left_out


def _given(trained: Mapping[str, use.Trained], name: str, translating: Sequence[str], path: Path, n: int) -> _Given:
    """The first n held-out items of a run. Of a GAN that goes both ways: the way in which most others go."""
    one = trained[name]
    ways = outputs.ways(one.gan, one.recipe)
    fixed = [_direction(trained[other]) for other in translating if not _asks_direction(trained[other])]
    way = next((direction for direction in fixed if direction in ways), ways[0])
    inputs, targets = [], []
    with torch.inference_mode(), opened(one, path) as feed:
        for batch in heldout.batches(feed, n):
            made = outputs.of(one.gan, one.recipe, one.net, batch, one.rng(_SEED), way=way)
            inputs.append(made.input.float().cpu())
            targets.append(made.real.float().cpu() if made.paired else None)
    target = None if targets[0] is None else torch.cat(targets)
    direction = way if way in ("AtoB", "BtoA") else _direction(one)
    return _Given(torch.cat(inputs), target, direction, name)


def _unfit(one: use.Trained, given: _Given) -> str:
    """Why a network does not take these inputs; "" if it does."""
    own = _direction(one)
    if given.direction and own and own != given.direction and not _asks_direction(one):
        return f"it goes {own}, the inputs are those of {given.direction}"
    if _asks_direction(one) and given.direction and given.direction not in outputs.ways(one.gan, one.recipe):
        return f"it did not learn {given.direction}"
    wanted = _channels(one, given.direction)
    if wanted != given.input.shape[1]:
        return f"it takes pictures of {wanted} channels, the inputs have {given.input.shape[1]}"
    return ""


def _through(one: use.Trained, given: _Given) -> Tensor:
    """What a network makes of the inputs, at their size: padded to its multiple by reflection, and cropped back."""
    options: dict[str, Any] = {}
    if _asks_direction(one) and given.direction:
        options["direction"] = given.direction
    if "to" in inspect.signature(one.gan.translate).parameters:
        options["to"] = outputs.ways(one.gan, one.recipe)[0]
    with torch.inference_mode():
        made = []
        with Counter(f"painting inputs of {given.run}", len(given.input)) as counter:
            for item in given.input:
                made.append(apply.through(one, item[None], seed=_SEED, options=options))
                counter.add(1)
        return torch.cat(made)


def _made(trained: Mapping[str, use.Trained], runs: Mapping[str, Path], n: int, left_out: dict[str, str]) -> Same:
    """Pictures of each run from what it makes them from."""
    columns: dict[str, Tensor] = {}
    for name, one in trained.items():
        try:
            with torch.inference_mode(), opened(one, runs[name]) as feed:
                made = [
                    outputs.of(one.gan, one.recipe, one.net, batch, one.rng(_SEED + k)).fake.float().cpu()
                    for k, batch in enumerate(heldout.batches(feed, n))
                ]
            columns[name] = torch.cat(made)
        except UserError as reason:
            left_out[name] = str(reason)
    words = (
        "None of them translates: each makes pictures from its own noise or held-out sentences, so rows are no pairs."
    )
    return Same(_rows(columns, None), words, left_out)


def _rows(
    columns: Mapping[str, Tensor], target: Tensor | None
) -> list[tuple[dict[str, Image.Image], dict[str, float]]]:
    if not columns:
        return []
    lightness = columns.get("input")
    seen = {
        name: pictures.to_uint8(pictures.as_rgb(column, lightness if column.shape[1] == 2 else None))
        for name, column in columns.items()
    }
    rows = []
    for k in range(min(len(column) for column in seen.values())):
        images = {name: pictures.to_image(column[k]) for name, column in seen.items()}
        far = {}
        for name, column in columns.items():
            if target is not None and name not in ("input", "target") and column.shape == target.shape:
                far[name] = float(metrics.l1(column[k : k + 1], target[k : k + 1])) * 127.5
        rows.append((images, far))
    return rows


def _direction(one: use.Trained) -> str:
    direction = getattr(one.recipe, "direction", "")
    return direction if direction in ("AtoB", "BtoA") else ""


def _asks_direction(one: use.Trained) -> bool:
    return "direction" in inspect.signature(one.gan.translate).parameters


def _channels(one: use.Trained, direction: str) -> int:
    """Of the pictures that a network takes."""
    if _asks_direction(one) and direction == "BtoA":
        return one.recipe.output_channels
    takes = getattr(one.gan, "takes", None)
    return takes(one.recipe) if takes else one.recipe.input_channels

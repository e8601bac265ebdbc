"""What a run's network makes of held-out items, one by one: input, output, target."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from pygan import heldout, metrics, outputs, pictures, use
from pygan.errors import UserError
from pygan.progress import Counter

_SEED = 0


@dataclass(frozen=True)
class Triplets:
    """Items with their pictures by name, and with what each is measured by where the right answer is known."""

    items: list[tuple[dict[str, Image.Image], dict[str, float]]]
    images_seen: int
    checkpoint: str
    of_noise: bool  # there is no input: columns have nothing to do with each other


def of(run: Path, checkpoint: str, device: str, n: int) -> Triplets:
    """The first n held-out items through a run's generator. Errors: UserError (no checkpoint, data gone)."""
    trained = use.load(run, checkpoint, device)
    with torch.inference_mode(), opened(trained, run) as feed:
        parts, total = [], min(n, feed.n_items)
        with Counter("painting held-out items", total) as counter:
            for batch in heldout.batches(feed, n):
                parts.append(_columns(trained, batch))
                counter.add(len(batch[0]))
    items = list(itertools.chain.from_iterable(_items(columns) for columns in parts))
    noise = bool(parts) and "input" not in parts[0] and len(parts[0]) == 2 and "samples" in parts[0]
    return Triplets(items, trained.images_seen, checkpoint, noise)


def opened(trained: use.Trained, run: Path) -> Any:
    """The held-out feed of a run. Errors: UserError that says how to tell it where its data is now."""
    try:
        return trained.gan.batches(replace(trained.recipe, feed="auto"), "held-out", trained.device)
    except UserError as reason:
        gan = trained.gan.__name__.rpartition(".")[2]
        where = f"`pygan train {gan} --run {run} --data DIR` tells the run where its pictures are now"
        raise UserError(f"the held-out items of {run} cannot be read: {reason}; {where}") from reason


def _columns(trained: use.Trained, batch: Any) -> dict[str, Tensor]:
    """The GAN's own columns of a batch; pictures from noise get real ones beside them."""
    columns = trained.gan.sample(trained.net, trained.recipe, batch, trained.rng(_SEED))
    if list(columns) == ["samples"]:
        columns = dict(columns) | {"real (held out)": outputs.of(
            trained.gan, trained.recipe, trained.net, batch, trained.rng(_SEED)
        ).real}  # fmt: skip
    return dict(columns)


def _items(columns: Mapping[str, Tensor]) -> Iterator[tuple[dict[str, Image.Image], dict[str, float]]]:
    seen = pictures.columns(columns)
    pixels = {name: pictures.to_uint8(images) for name, images in seen.items()}
    n = min(len(images) for images in pixels.values())
    for k in range(n):
        images = {name: pictures.to_image(column[k]) for name, column in pixels.items()}
        yield images, _measured(columns, k)


def _measured(columns: Mapping[str, Tensor], k: int) -> dict[str, float]:
    """L1 and SSIM of one output, where there is a target of its shape and an input that asks for it."""
    output, target = columns.get("output"), columns.get("target")
    if output is None or target is None or "input" not in columns or output.shape[1:] != target.shape[1:]:
        return {}
    if min(output.shape[2:]) < 11:  # pixels that SSIM needs
        return {}
    found = metrics.of_pairs(output[k : k + 1].cpu(), target[k : k + 1].cpu())
    return {name: float(found[name]) for name in ("l1", "ssim")}

"""What is measured of one trained network: errors item by item, what its skips carry, which pictures it remembers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pygan import heldout, metrics, neighbours, outputs, pictures, use
from pygan.errors import UserError
from pygan.nn import full_precision
from pygan.rundir import read_findings, read_metrics, write_atomic
from pygan.study import other

SHOWN = 6  # items of every set whose pictures are kept
LEVELS = 127.5  # grey levels of 255 in one unit of [-1, 1]

Lpips = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Seen:
    """What a network made of the first items of a feed: each (n, c, h, w) in [-1, 1], on the CPU."""

    input: Tensor
    output: Tensor
    target: Tensor


def network(
    run: Path, *, items: int, other_set: str = "", lpips: Lpips | None = None, device: str = "auto", examples: Path
) -> dict[str, Any]:
    """Everything that is measured of a finished run, as plain values; lists have one number per item.

    items: how many of every set at most; other_set: of `study.other.feed`, "": none; examples: folder and beginning of
    the names of the pictures to keep. Keys: images, parameters, kept; train, held_out and other {metric: [...]}; skips
    {skip: {set: {"output": [...], "error": [...]}}} in grey levels; nearest {...}; losses, findings. Errors: UserError
    (the data is gone), OSError.
    """
    trained = use.load(run, "last", device)
    gan, recipe, net = trained.gan, trained.recipe, trained.net
    found: dict[str, Any] = {
        "images": trained.images_seen,
        "parameters": sum(p.numel() for p in net.parameters()),
        "kept": list(getattr(net, "skips", ())),
    }
    with ExitStack() as stack, torch.inference_mode(), full_precision():
        feeds = {
            "train": stack.enter_context(_open(lambda: heldout.training_items(gan, recipe, trained.device), run)),
            "held_out": stack.enter_context(_open(lambda: gan.batches(recipe, "held-out", trained.device), run)),
        }
        if other_set:
            feeds["other"] = stack.enter_context(_open(lambda: other.feed(gan, recipe, other_set, trained.device), run))
        whole = {name: painted(gan, recipe, net, feed, items) for name, feed in feeds.items()}
        for name, seen in whole.items():
            found[name] = of_items(seen, lpips)
        found["skips"] = skips(gan, recipe, net, feeds, whole, items)
        found["nearest"] = nearest(whole, feeds["train"], examples)
    for name, seen in whole.items():
        keep([seen.input, seen.output, seen.target], examples.with_name(f"{examples.name}-{name}.png"))
    rows = [row for row in read_metrics(run) if any(key.startswith("loss/") for key in row)]
    last = rows[-1] if rows else {}
    found["losses"] = {key: value for key, value in last.items() if key.startswith(("loss/", "logit/"))}
    lines = {finding.get("name"): finding.get("line") for finding in read_findings(run)}
    found["findings"] = [[name, line] for name, line in lines.items() if isinstance(name, str)]
    return found


def _open(feed: Callable[[], Any], run: Path) -> Any:
    try:
        return feed()
    except UserError as reason:
        raise UserError(f"the pictures of {run} cannot be read: {reason}; bring them back and go on") from reason


def painted(gan: ModuleType, recipe: Any, net: nn.Module, feed: Any, items: int) -> Seen:
    """What `net` makes of the first `items` items. Errors: UserError for a GAN whose items have no target."""
    parts = [outputs.of(gan, recipe, net, batch) for batch in heldout.batches(feed, items)]
    if parts[0].input is None or not parts[0].paired:
        raise UserError("this GAN's pictures have no target to be compared with; a study needs pairs")
    return Seen(
        *(torch.cat([getattr(part, name).float().cpu() for part in parts]) for name in ("input", "fake", "real"))
    )


def of_items(seen: Seen, lpips: Lpips | None = None) -> dict[str, list[float]]:
    """One number per item: l1 (grey levels), ssim, edges (correlation of gradients with the target's), input_edges
    (with the input's: 1 where every edge of the input, and no other, is in the output), rms (grey levels), lpips.
    """
    found: dict[str, list[float]] = {"l1": [], "ssim": [], "edges": [], "input_edges": [], "rms": []}
    for input, output, target in zip(*(x.split(1) for x in (seen.input, seen.output, seen.target)), strict=True):  # noqa: A001
        found["l1"].append(float(metrics.l1(output, target)) * LEVELS)
        found["ssim"].append(float(metrics.ssim(output, target)))
        found["edges"].append(float(metrics.gradient_correlation(output, target)))
        found["input_edges"].append(float(metrics.gradient_correlation(_grey(output), _grey(input))))
        found["rms"].append(float((output - target).square().mean().sqrt()) * LEVELS)
    if lpips is not None:
        pairs = zip(*(_rgb(x).split(8) for x in (seen.output, seen.target)), strict=True)
        found["lpips"] = [float(value) for a, b in pairs for value in lpips(a, b)]
    return found


def _grey(images: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, 1, h, w)."""
    images = pictures.as_rgb(images)
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    return (images * images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def _rgb(images: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, 3, h, w), as people see them."""
    shown = pictures.as_rgb(images)
    return shown.expand(-1, 3, -1, -1) if shown.shape[1] == 1 else shown


def skips(
    gan: ModuleType, recipe: Any, net: nn.Module, feeds: dict[str, Any], whole: dict[str, Seen], items: int
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """What each skip carries: by how many grey levels (L1, per item) the output changes when it is zeroed, and the
    error grows.
    """
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for skip in getattr(net, "skips", ()):
        with net.without_skip(skip):
            for name, feed in feeds.items():
                lacking, seen = painted(gan, recipe, net, feed, items).output, whole[name]
                change = _l1(lacking, seen.output)
                error = _l1(lacking, seen.target) - _l1(seen.output, seen.target)
                found.setdefault(str(skip), {})[name] = {"output": change.tolist(), "error": error.tolist()}
    return found


def _l1(a: Tensor, b: Tensor) -> Tensor:
    """(n,): mean absolute difference of each pair, in grey levels."""
    return (a - b).abs().flatten(1).mean(dim=1) * LEVELS


def nearest(whole: dict[str, Seen], training: Any, examples: Path) -> dict[str, Any]:
    """Does a network paint pictures that it was trained on? RMS distances in grey levels, one per held-out item.

    "output": from what it painted to the nearest of all training targets; "own": to the target that it should have
    painted; "target": from that target to the nearest training target, what is usual in this set; "index" of the
    nearest ones, the first of which are kept as a picture. And what `memory` says.
    """
    seen, n = whole["held_out"], len(whole["held_out"].output)
    both = torch.cat((seen.output, seen.target))
    near = neighbours.search(both, training, 1, (None,), pick=lambda batch: batch.B)[0].neighbours
    keep([near.images[:SHOWN, 0].float() / LEVELS - 1], examples.with_name(f"{examples.name}-nearest.png"))
    to_training, to_held_out = _rms(seen.output, whole["train"].target), _rms(seen.output, seen.target)
    return {
        "output": near.distance[:n, 0].tolist(),
        "target": near.distance[n:, 0].tolist(),
        "own": to_held_out.diagonal().tolist(),
        "index": near.index[:n, 0].tolist(),
        **memory(to_training.numpy(), to_held_out.numpy()),
    }


def memory(to_training: np.ndarray, to_held_out: np.ndarray, swaps: int = 2000) -> dict[str, Any]:
    """Are outputs nearer to pictures that were trained on than to as many that were not? A blurred output is near to
    everything, but to the ones no more than to the others.

    to_training (n, t), to_held_out (n, n): distances of output i to training targets and to held-out ones, of which i
    is its own and does not count. "seen", "unseen": (n,) to the nearest of as many of each. "chance": how often these
    differ as much the same way when training and held-out pictures are exchanged at random, pair by pair (a permutation
    test, Efron & Tibshirani 1993, 15): the pictures that happen to be in a set decide much.
    """
    pairs = min(to_training.shape)
    d = np.stack((to_training[:, :pairs], to_held_out[:, :pairs]))  # (2, n, pairs)
    if pairs < 2:
        return {"seen": [], "unseen": [], "chance": 1.0}
    d[:, np.arange(pairs), np.arange(pairs)] = np.inf  # the own one, and so that both sides are as many, its partner
    seen, unseen = d.min(axis=2)
    random, as_much = np.random.Generator(np.random.Philox(key=pairs)), 0
    for _ in range(swaps):
        swapped = random.integers(2, size=pairs, dtype=np.int64).astype(bool)
        first = np.where(swapped, d[1], d[0]).min(axis=1)
        second = np.where(swapped, d[0], d[1]).min(axis=1)
        as_much += (second - first).mean() >= (unseen - seen).mean()
    return {"seen": seen.tolist(), "unseen": unseen.tolist(), "chance": (1 + int(as_much)) / (1 + swaps)}


def _rms(a: Tensor, b: Tensor) -> Tensor:
    """(n, m): root mean square differences of all pairs, in grey levels."""
    a, b = a.flatten(1).double(), b.flatten(1).double()
    return torch.cdist(a, b) / a.shape[1] ** 0.5 * LEVELS


def keep(rows: Sequence[Tensor], path: Path) -> None:
    """Write the first of some images (n, c, h, w), a row of them for each tensor, as one PNG. Errors: OSError."""
    lightness = rows[0][:SHOWN] if rows[0].shape[1] == 1 else None
    shown = [pictures.to_uint8(_rgb(pictures.as_rgb(images[:SHOWN], lightness))) for images in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet = np.concatenate([np.concatenate(list(row), axis=1) for row in shown])
    write_atomic(path, pictures.to_png(Image.fromarray(sheet)))

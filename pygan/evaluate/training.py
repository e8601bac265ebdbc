"""Scores of a network while it is trained."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import nn

from pygan import distributions, outputs
from pygan.errors import UserError
from pygan.evaluate import pairs
from pygan.evaluate.scoring import METRICS, SETS, Tools, WayScores
from pygan.features import Features, Perceptual
from pygan.nn import full_precision
from pygan.recipe import BaseRecipe

_SUBSETS = 20  # of the KID: enough to compare checkpoints by


@torch.no_grad()
def judge(
    gan: ModuleType,
    recipe: BaseRecipe,
    G: nn.Module,
    feed: Any,
    metrics: Sequence[str],
    *,
    features: Features | None = None,
    lpips: Perceptual | None = None,
    most: int,
    seed: int = 0,
) -> dict[str, float]:
    """The scores asked for, each one number: the mean over the ways of the network that have it.

    metrics: of "fid", "kid", "is" (which need `features`, the last with logits), "lpips" (which needs `lpips`), and
    "ssim", "psnr", "l1", "gradient_correlation"; feed: held-out items, of which the first `most` are used; from noise
    as many pictures are made. Quiet; the same numbers for the same weights, whatever was drawn before; nets and global
    random numbers stay as they are.
    Errors: ValueError for a metric that there is not, or one without its network; UserError if one cannot be had of
    this network and these items.
    """
    known = METRICS[:-1]
    if unknown := [name for name in metrics if name not in known]:
        raise ValueError(f"{unknown[0]!r} is no score of training; there are {', '.join(known)}")
    if features is None and (lacking := [name for name in metrics if name in SETS]):
        raise ValueError(f"{lacking[0]!r} needs features")
    if lpips is None and "lpips" in metrics:
        raise ValueError("'lpips' needs its network")
    if features is not None and not features.judges:
        raise UserError(f"{features.name} is for similar pictures; a distance of two sets needs a network")
    if "is" in metrics and not features.has_logits:
        raise UserError(f"the Inception score needs logits, and {features.name} gives none as its second output")
    tools = Tools(features, features, lpips, kept=max(2, min(most, distributions.KEPT)), subsets=_SUBSETS)
    values: dict[str, list[float]] = {name: [] for name in metrics}
    why = "what this network makes has no target to be compared with"
    with full_precision():
        for way in outputs.ways(gan, recipe):
            todo = pairs.plan(gan, recipe, G, [feed], way, most=most)
            scores = WayScores(metrics, tools, todo.fakes, sum(todo.reals), seed=seed)
            for out in pairs.batches(gan, recipe, G, [feed], way, todo, seed=seed):
                scores.add(out)
            for name, score in scores.result().items():
                values["lpips" if name == "feature_distance" else name].append(score["value"])
            why = next(iter(scores.left_out.values()), why)
    for name, numbers in values.items():
        if not numbers:
            raise UserError(f"{name} cannot be had: {why}")
    return {name: sum(numbers) / len(numbers) for name, numbers in values.items()}

"""Measure a trained network: as a set (FID, KID, Inception score), picture by picture, and by the classes in them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pygan.features import Features, Perceptual


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `pygan evaluate`."""
    from pygan.evaluate import command

    command.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """`pygan evaluate`: write evaluation.json and show a table. Returns the exit code. Errors: UserError."""
    from pygan.evaluate import command

    return command.run(args)


def judge(
    gan: Any,
    recipe: Any,
    G: Any,
    feed: Any,
    metrics: Sequence[str],
    *,
    features: Features | None = None,
    lpips: Perceptual | None = None,
    most: int,
    seed: int = 0,
) -> dict[str, float]:
    """Scores of a network in training, as numbers: {"fid": ..., "kid": ...}; what and how: `training.judge`."""
    from pygan.evaluate import training

    return training.judge(gan, recipe, G, feed, metrics, features=features, lpips=lpips, most=most, seed=seed)

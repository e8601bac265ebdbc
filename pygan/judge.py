"""How good is a run while it trains, on items that it never saw and on its own?"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from pygan import heldout, metrics
from pygan.errors import UserError
from pygan.nn import full_precision
from pygan.recipe import BaseRecipe

OF_DISTRIBUTIONS = ("fid", "kid", "is")  # by the features of a network
_KEPT_BYTES = 1 << 28  # of training items that stay decoded between two evaluations


class Judge:
    """The evaluations of one phase of a run; `close` gives memory and threads back.

    held_out: the feed of that split. Errors: UserError if --best-by names what cannot be measured.
    """

    def __init__(self, gan: ModuleType, recipe: BaseRecipe, held_out: Any, device: torch.device) -> None:
        self._gan, self._recipe, self._held_out, self._device = gan, recipe, held_out, device
        self._seen: Any = None  # the feed of training items, while it is needed
        self._kept: list[Any] | None = None
        self._networks: dict[str, Any] = {}
        if recipe.best_by in OF_DISTRIBUTIONS or recipe.best_by == "lpips":
            self._networks = _networks(recipe, device)

    def check(self, nets: Mapping[str, nn.Module]) -> None:
        """Errors: UserError if --best-by is no metric of this run, or cannot be had of its items."""
        wanted = self._recipe.best_by
        if not wanted:
            return
        if self._networks:
            self._by_network(nets["G"], self._recipe.eval_images)
            return
        known = heldout.means(lambda batch: self._gan.measure(nets, self._recipe, batch), self._held_out, 1)
        if wanted not in known:
            names = ", ".join([*known, *OF_DISTRIBUTIONS, "lpips"])
            raise UserError(f"--best-by {wanted}: no metric of this run; there are {names}")

    def close(self) -> None:
        """Give memory and threads back."""
        if self._seen is not None:
            self._seen.close()
        self._seen = self._kept = None

    def scores(self, nets: Mapping[str, nn.Module], most: int) -> heldout.Scores:
        """What the GAN's `measure` says of the first `most` held-out items, with the metric of --best-by among it."""
        with full_precision():
            found = heldout.means(lambda batch: self._gan.measure(nets, self._recipe, batch), self._held_out, most)
            if self._networks:
                found |= self._by_network(nets["G"], most)
        return found

    def of_training_items(self, nets: Mapping[str, nn.Module], most: int) -> heldout.Scores:
        """The same measures of as many training items: where these go on getting better alone, the run memorises."""
        with full_precision():
            return heldout.means_over(
                lambda batch: self._gan.measure(nets, self._recipe, batch), self._training_batches(most)
            )

    def yardstick(self, scores: heldout.Scores) -> float:
        """What decides about checkpoints/best, lower is better: --best-by, else the GAN's first metric."""
        name = self._recipe.best_by or next(iter(scores))
        return -scores[name] if name in metrics.HIGHER_IS_BETTER else scores[name]

    def _training_batches(self, most: int) -> Iterable[Any]:
        """Read once and kept, so that the set need not stay open; again each time where that would be too much."""
        if self._kept is not None:
            return self._kept
        if self._seen is None:
            self._seen = heldout.training_items(self._gan, self._recipe, self._device)
        batches = heldout.batches(self._seen, most)
        first = next(batches)
        size = sum(tensor.numel() * tensor.element_size() for tensor in first) / first[0].shape[0]
        if size * most > _KEPT_BYTES:
            return itertools.chain([first], batches)
        kept = [first, *batches]
        self.close()
        self._kept = kept
        return kept

    def _by_network(self, G: nn.Module, most: int) -> heldout.Scores:
        from pygan import evaluate

        return evaluate.judge(
            self._gan, self._recipe, G, self._held_out, [self._recipe.best_by], most=most, **self._networks
        )


def _networks(recipe: BaseRecipe, device: torch.device) -> dict[str, Any]:
    """What the metric of --best-by needs. Errors: UserError, one line, if it is not there."""
    from pygan import features

    try:
        if recipe.best_by == "lpips":
            return {"features": None, "lpips": features.lpips(recipe.eval_lpips or "alex", device)}
        return {"features": features.load(recipe.eval_features or "inception", device), "lpips": None}
    except UserError as error:  # the flags have other names here
        told = str(error).replace("--features", "--eval-features").replace("--lpips", "--eval-lpips")
        raise UserError(f"--best-by {recipe.best_by}: {told}") from error

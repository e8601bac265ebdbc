"""How good is a run while it trains, on items that it never saw and on its own?"""

from __future__ import annotations

from collections.abc import Mapping
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
        self._gan, self._recipe, self._held_out = gan, recipe, held_out
        self._seen = heldout.training_items(gan, recipe, device)
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
        self._seen.close()
        self._kept = None

    def scores(self, nets: Mapping[str, nn.Module], most: int) -> heldout.Scores:
        """What the GAN's `measure` says of the first `most` held-out items, with the metric of --best-by among it."""
        with full_precision():
            found = heldout.means(lambda batch: self._gan.measure(nets, self._recipe, batch), self._held_out, most)
            if self._networks:
                found |= self._by_network(nets["G"], most)
        return found

    def of_training_items(self, nets: Mapping[str, nn.Module], most: int) -> heldout.Scores:
        """The same measures of as many training items: where these go on getting better alone, the run memorises."""
        sums: heldout.Scores = {}
        count = 0
        with full_precision(), torch.no_grad():
            for batch in self._training_batches(most):
                n = batch[0].shape[0]
                for name, value in self._gan.measure(nets, self._recipe, batch).items():
                    sums[name] = sums.get(name, 0.0) + float(value) * n
                count += n
        return {name: total / count for name, total in sums.items()}

    def yardstick(self, scores: heldout.Scores) -> float:
        """What decides about checkpoints/best, lower is better: --best-by, else the GAN's first metric."""
        name = self._recipe.best_by or next(iter(scores))
        return -scores[name] if name in metrics.HIGHER_IS_BETTER else scores[name]

    def _training_batches(self, most: int) -> Any:
        if self._kept is not None:
            return self._kept
        batches = heldout.batches(self._seen, most)
        first = next(batches)
        size = sum(tensor.numel() * tensor.element_size() for tensor in first) / first[0].shape[0]
        if size * most > _KEPT_BYTES:
            return (batch for group in ([first], batches) for batch in group)
        self._kept = [first, *batches]
        return self._kept

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

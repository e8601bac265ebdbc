"""Which scores can be had, and the networks that they take."""

from __future__ import annotations

from typing import Any

import torch

from pygan import features
from pygan.errors import UserError
from pygan.evaluate import segmenter
from pygan.evaluate.asked import Asked
from pygan.evaluate.scoring import METRICS, PAIRS, SETS, Tools
from pygan.features import Features

_NO_TARGET = "what this network makes has no target to be compared with"
_NO_MAPS = "neither are class maps painted, nor read by a --segmenter in what is painted from them (--palette)"


class Networks:
    """What `load_for` has loaded: tools, segmenter; and left_out: metric -> why it cannot be had.

    A metric that the user named and that cannot be had is an error; of those taken by default it is said.
    """

    def __init__(self, ask: Asked, device: torch.device) -> None:
        self._ask, self._device = ask, device
        self.left_out: dict[str, str] = {}
        self.tools, self.segmenter = Tools(), None

    def load_for(self, *, paired: bool, maps: bool, given_maps: bool) -> list[str]:
        """The metrics to measure, of what the network makes: paired: some has a target; maps: some of that is class
        maps; given_maps: some is painted from them. Errors: UserError.
        """
        ask = self._ask
        wanted = list(ask.metrics or METRICS)
        if not paired:
            self._leave_out(wanted, PAIRS, _NO_TARGET, silent=True)
        if ask.segmenter is not None:
            if not given_maps:
                why = "the pictures that this network paints from are not class maps"
                raise UserError(
                    f"--segmenter {ask.segmenter}: {why}; name their colours with --palette, or leave it out"
                )
            self.segmenter = segmenter.load(ask.segmenter, self._device, ask.segmenter_input, ask.segmenter_size)
        if not maps and self.segmenter is None:
            self._leave_out(wanted, ("segmentation",), _NO_MAPS, silent=True)
        loaded: dict[str, Any] = {}
        if {"fid", "kid"} & set(wanted) or ("is" in wanted and not ask.logits):
            of_features = ("fid", "kid") if ask.logits else SETS
            loaded["features"] = self._try(wanted, of_features, self._features)
        if "is" in wanted:
            if ask.logits:
                loaded["logits"] = self._try(wanted, ("is",), lambda: self._of(ask.logits))
            elif loaded["features"].has_logits:
                loaded["logits"] = loaded["features"]
            else:
                why = f"{loaded['features'].name} gives no logits; name a network that does: --logits NET"
                self._leave_out(wanted, ("is",), why)
        if "lpips" in wanted:
            loaded["lpips"] = self._try(wanted, ("lpips",), self._lpips)
        loaded = {name: network for name, network in loaded.items() if network is not None}
        self.tools = Tools(
            **loaded,
            drop_first_class=ask.drop_first_class,
            kept=ask.kid_kept,
            subsets=ask.kid_subsets,
            subset_size=ask.kid_subset_size,
            splits=ask.splits,
        )
        return wanted

    def facts(self, wanted: list[str]) -> dict[str, Any]:
        """What evaluation.json says of the networks that were used."""
        tools = self.tools
        used = {}
        if tools.features and {"fid", "kid"} & set(wanted):
            used["features"] = tools.features
        if tools.logits and "is" in wanted:
            used["logits"] = tools.logits
        if tools.lpips and "lpips" in wanted:
            used["lpips"] = tools.lpips
        facts = {role: {"name": network.name, **network.facts} for role, network in used.items()}
        if self.segmenter is not None:
            facts["segmenter"] = {"name": self.segmenter.net.name, **self.segmenter.facts}
        return facts

    def _features(self) -> Features:
        found = self._of(self._ask.features or "inception")
        if not found.judges:
            raise UserError(f"--features {self._ask.features} is for similar pictures; FID and KID need a network")
        return found

    def _of(self, spec: str) -> Features:
        return features.load(spec, self._device, size=self._ask.network_size, values=self._ask.network_range)

    def _lpips(self) -> Any:
        spec, size = self._ask.lpips or "alex", self._ask.network_size
        return features.lpips(spec, self._device, size=size, values=self._ask.network_range)

    def _try(self, wanted: list[str], metrics: tuple[str, ...], load: Any) -> Any:
        """The network of some metrics, or None where these can be left out. Errors: UserError where they cannot."""
        named = {"features": self._ask.features, "lpips": self._ask.lpips, "is": self._ask.logits}
        try:
            return load()
        except UserError as reason:
            flag = "features" if "fid" in metrics else metrics[0]
            if named[flag]:  # what the user named has to work
                raise
            self._leave_out(wanted, metrics, str(reason))
            return None

    def _leave_out(self, wanted: list[str], metrics: tuple[str, ...], why: str, *, silent: bool = False) -> None:
        """Errors: UserError if the user named one of them. silent: of course, and not worth a line."""
        here = [name for name in metrics if name in wanted]
        if here and self._ask.metrics:
            raise UserError(f"--metrics {here[0]}: {why}")
        for name in here:
            wanted.remove(name)
            if not silent:
                self.left_out[name] = why

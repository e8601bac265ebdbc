"""Everything a run needs to go on: nets, optimizers, averaged weights, random numbers, images seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class State:
    """Lives as long as a run; saved and restored whole.

    nets: {"G": net, "D": net}, also `state.G`; opts: {"G": Adam, ...}, also `state.opt_G`; ema: averaged copies of
    nets, also `state.ema_G` (None where a net has none); buffers: named tensors that a step changes in place, also
    attributes (`state.rng`: int64 [2] on the device, {seed, offset} of Philox); scaler: the loss scaler of fp16
    training, or None. `images_seen` and `steps` count what has been trained on, over all processes.
    """

    def __init__(
        self,
        *,
        nets: Mapping[str, nn.Module],
        opts: Mapping[str, torch.optim.Optimizer],
        ema: Mapping[str, nn.Module] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.nets, self.opts, self.ema = dict(nets), dict(opts), dict(ema or {})
        self.buffers, self.scaler = dict(buffers or {}), scaler
        self.images_seen = self.steps = 0
        for opt in self.opts.values():
            _materialise(opt)
        if scaler is not None and scaler._scale is None:
            scaler._lazy_init_scale_growth_tracker(next(self._parameters()).device)

    def __getattr__(self, name: str) -> Any:
        for prefix, table in (("opt_", "opts"), ("ema_", "ema"), ("", "nets"), ("", "buffers")):
            entries = self.__dict__.get(table, {})
            if name.startswith(prefix) and name[len(prefix) :] in entries:
                return entries[name[len(prefix) :]]
        if name.startswith("ema_") and name[4:] in self.__dict__.get("nets", {}):
            return None
        raise AttributeError(f"state has no {name!r}: nets {list(self.nets)}, buffers {list(self.buffers)}")

    @property
    def device(self) -> torch.device:
        return next(self._parameters()).device

    def networks(self) -> dict[str, nn.Module]:
        """All nets by the name of their file: "G", "D", and "G_ema" for the average of G."""
        return self.nets | {f"{name}_ema": net for name, net in self.ema.items()}

    def rest(self) -> dict[str, Tensor]:
        """What is not in a net: moments and step counts of the optimizers, buffers, loss scale. Live tensors."""
        tensors = {f"buffer.{name}": tensor for name, tensor in self.buffers.items()}
        for opt_name, opt in self.opts.items():
            for param_name, param in self.nets[opt_name].named_parameters():
                for key, value in opt.state.get(param, {}).items():
                    tensors[f"opt.{opt_name}.{param_name}.{key}"] = value
        if self.scaler is not None:
            tensors["scaler.scale"] = self.scaler._scale
            tensors["scaler.growth_tracker"] = self.scaler._growth_tracker
        return tensors

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, live: `rest()` and the parameters and buffers of all nets."""
        nets = self.networks().items()
        return self.rest() | {
            f"net.{name}.{key}": value for name, net in nets for key, value in net.state_dict().items()
        }

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (param for net in self.nets.values() for param in net.parameters())


def _materialise(opt: torch.optim.Optimizer) -> None:
    """Give Adam its moments now, as it would at its first step, so that they can be saved, restored and captured."""
    for group in opt.param_groups:
        on_device = group.get("capturable") or group.get("fused")
        for param in group["params"]:
            if not opt.state[param]:
                opt.state[param] = {
                    "step": torch.zeros((), dtype=torch.float32, device=param.device if on_device else "cpu"),
                    "exp_avg": torch.zeros_like(param, memory_format=torch.preserve_format),
                    "exp_avg_sq": torch.zeros_like(param, memory_format=torch.preserve_format),
                }

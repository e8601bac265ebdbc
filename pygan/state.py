"""Everything a run needs to go on: nets, optimizers, averaged weights, random numbers, images seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Optimizer(Protocol):
    """What a state knows of an optimizer (`optim.Adam`)."""

    def tensors(self) -> dict[str, Tensor]: ...

    def refresh_(self) -> None: ...


class State:
    """Lives as long as a run; saved and restored whole.

    nets: {"G": net, "D": net}, also `state.G`; opts: {"G": optim.Adam, ...}, also `state.opt_G`; ema: averaged copies
    of nets, also `state.ema_G` (None where a net has none); buffers: named tensors that a step changes in place, also
    attributes (`state.rng`: int64 [2] on the device, {seed, offset} of Philox). `images_seen` and `steps` count what
    has been trained on, over all processes. `shown`: the pictures of the last step, see `show`; not saved.
    """

    def __init__(
        self,
        *,
        nets: Mapping[str, nn.Module],
        opts: Mapping[str, Optimizer],
        ema: Mapping[str, nn.Module] | None = None,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.nets, self.opts, self.ema = dict(nets), dict(opts), dict(ema or {})
        self.buffers = dict(buffers or {})
        self.images_seen = self.steps = 0
        self.shown: dict[str, Tensor] = {}

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
        """What is not in a net: moments and step counts of the optimizers, buffers. Live tensors."""
        tensors = {f"buffer.{name}": tensor for name, tensor in self.buffers.items()}
        for name, opt in self.opts.items():
            tensors |= {f"opt.{name}.{key}": tensor for key, tensor in opt.tensors().items()}
        return tensors

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, live: `rest()` and the parameters and buffers of all nets."""
        nets = self.networks().items()
        return self.rest() | {
            f"net.{name}.{key}": value for name, net in nets for key, value in net.state_dict().items()
        }

    def show(self, **images: Tensor) -> None:
        """Called by a step: what it painted, for whoever watches the training. Nothing is computed or copied.

        images: (n, c, h, w) in [-1, 1]: `fake`, what G painted; `input`, what it painted that from, if from pictures;
        `target`, what it should have painted, or `real`, pictures of that kind. The second way of a GAN that goes two
        has names that end in _A. They stay as they are until the next step (inside a CUDA graph: until its replay).
        """
        self.shown = {name: image.detach() for name, image in images.items()}

    def refresh_(self) -> None:
        """Bring what follows from the tensors up to date, after somebody wrote into them (a checkpoint)."""
        for opt in self.opts.values():
            opt.refresh_()

    def _parameters(self) -> Iterator[nn.Parameter]:
        return (param for net in self.nets.values() for param in net.parameters())

"""What a network does to a picture, found out on a small one: how far a pixel sees, and which norms ask for the whole.

A picture is cut at multiples of the network's own, so that a cell of every inner map belongs to one tile. The reach is
how far beyond such a cell the convolutions behind it can look. A convolution of stride s, kernel k and padding p, whose
outputs are q pixels of the picture apart, reads p q / s pixels before and (k - p - s) q / s behind its cell; a
transposed one (k - 1 - p) q and (p + s - 1) q. Along any path through the network these add up, so their sum over all
of its convolutions in the order of execution is never too small, whatever skips and residuals there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from pygan.errors import UserError
from pygan.nets.unet import UNet
from pygan.nn import ConvNormAct, Mode, NormAct, UpsampleConv, is_convolution
from pygan.tiles.chain import Part, borders

Call = Callable[[Tensor], Tensor]
_PART = 2  # how deep in calls the parts of a network are, which itself is called once


@dataclass(frozen=True)
class Norm:
    """A norm whose statistics are the whole picture's. reach: pixels that its input has seen beyond its cell."""

    module: NormAct
    reach: int


@dataclass(frozen=True)
class Level:
    """A level of a U-Net's encoder. scale: pixels of the picture to one of its output; reach: of its input."""

    scale: int
    reach: int


@dataclass(frozen=True)
class Survey:
    """norms: in the order of execution. reach: of the result, in pixels. parts: where it is a chain of several.

    unet: where the network is one, with a `Level` for each of its encoder, and the mode that it was called with.
    values: that each convolution with its norm reads and writes, per pixel of the picture.
    """

    norms: tuple[Norm, ...] = ()
    reach: int = 0
    parts: tuple[Part, ...] = ()
    unet: UNet | None = None
    levels: tuple[Level, ...] = ()
    mode: Mode | None = None
    values: Mapping[nn.Module, float] = field(default_factory=dict)


def survey(net: nn.Module, call: Call, channels: int, side: int, multiple: int) -> Survey:
    """Run `call`, which puts a picture (1, channels, h, w) through `net`, on small pictures, and watch.

    side: of a picture that the network takes; multiple: what its sides are multiples of. Errors: UserError for a
    network that cannot be cut: whose maps do not follow its picture, or that has layers which see all of it.
    """
    if side == multiple and _goes_block_by_block(call, channels, side):
        return Survey()
    watch = _Watch(side)
    handles = [module.register_forward_pre_hook(watch.before, with_kwargs=True) for module in net.modules()]
    handles += [module.register_forward_hook(watch.after) for module in net.modules()]
    try:
        # Noise, in which no map equals another by chance.
        call(torch.rand((1, channels, side, side), generator=torch.Generator().manual_seed(0)) * 2 - 1)
    finally:
        for handle in handles:
            handle.remove()
    whole = watch.unet is not None and len(watch.levels) == len(watch.unet.downs)
    return Survey(
        norms=tuple(watch.norms),
        reach=watch.reach,
        parts=tuple(watch.parts) if watch.is_chain and len(watch.parts) > 1 else (),
        unet=watch.unet if whole else None,
        levels=tuple(watch.levels),
        mode=watch.mode,
        values=watch.values,
    )


def _goes_block_by_block(call: Call, channels: int, side: int) -> bool:
    """Does no pixel of a block of `side` pixels depend on another block? NaN in the first, none in the second."""
    A = torch.zeros((1, channels, side, 2 * side))
    A[..., :side] = float("nan")
    return not call(A)[..., side:].isnan().any()


class _Watch:
    """What hooks see of one call."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._depth = 0  # in calls
        self.reach = 0
        self.norms: list[Norm] = []
        self.unet: UNet | None = None
        self.mode: Mode | None = None
        self.levels: list[Level] = []
        self.values: dict[nn.Module, float] = {}
        self.parts: list[Part] = []
        self.is_chain = True
        self._reach_before = 0  # the part that is being computed
        self._made: tuple = ()  # by the last part

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        self._depth += 1
        if self._depth == _PART:
            self._reach_before = self.reach
            given = [one for one in args if isinstance(one, Tensor)]
            self.is_chain &= not self.parts or all(any(one is made for made in self._made) for one in given)
        mode = next((one for one in (*args, *kwargs.values()) if isinstance(one, Mode)), Mode())
        if isinstance(module, UNet):
            self.unet, self.mode = module, mode
        elif isinstance(module, NormAct):
            self._see_norm(module, mode)
        elif self._is_level(module):
            self.levels.append(Level(0, self.reach))
        elif not list(module.children()) and not is_convolution(module):
            kind = type(module).__name__
            raise UserError(f"--tile: this network has a {kind}, which may see all of the picture; leave --tile out")

    def after(self, module: nn.Module, args: tuple, output: object) -> None:
        self._depth -= 1
        outputs = output if isinstance(output, tuple) else (output,)
        if isinstance(module, ConvNormAct):
            self.values[module] = (args[0].numel() + outputs[0].numel()) / self._side**2
        if is_convolution(module):
            self.reach += _reach(module, args[0], output, self._side)
        elif self._is_level(module):
            self.levels[-1] = Level(_scale(outputs[0], self._side), self.levels[-1].reach)
        if self._depth == _PART - 1:
            self._see_part(module, args, outputs, alone=not isinstance(output, tuple))

    def _is_level(self, module: nn.Module) -> bool:
        return self.unet is not None and any(module is down for down in self.unet.downs)

    def _see_norm(self, module: NormAct, mode: Mode) -> None:
        told = module.given is not None and module.given.mean is not None
        own = module.norm == "instance" or (module.norm == "batch" and mode.statistics != "running")
        if told or not own:
            return
        if any(norm.module is module for norm in self.norms):
            raise UserError("--tile: this network uses a norm twice, which tiles cannot follow; leave --tile out")
        self.norms.append(Norm(module, self.reach))

    def _see_part(self, module: nn.Module, args: tuple, outputs: tuple, *, alone: bool) -> None:
        self._made = outputs
        x = min((one for one in args if isinstance(one, Tensor)), key=lambda one: one.shape[3])
        plain = all(one is None or isinstance(one, Tensor) for one in outputs)
        found = borders(outputs) if plain else None
        if found is None or self._side % x.shape[3] or any(part.module is module for part in self.parts):
            self.is_chain = False
            return
        self.parts.append(Part(module, self._reach_before, _scale(x, self._side), x.shape[1], found, alone))


def _scale(x: Tensor, side: int) -> int:
    """Pixels of the picture to one of a map."""
    if side % x.shape[3]:
        raise UserError("--tile: the maps of this network do not follow its picture; leave --tile out")
    return side // x.shape[3]


def _reach(conv: nn.Module, x: Tensor, y: Tensor, side: int) -> int:
    """Pixels of the picture that a convolution x -> y looks beyond its cell, to the farther side."""
    scale = _scale(y, side)
    if isinstance(conv, UpsampleConv):  # 3x3 on pixels that are there twice
        return 2 * scale
    g, kernel = conv.geometry, max(conv.weight.shape[2:])
    if g.transposed:
        return max(kernel - 1 - g.padding, g.padding + g.stride - 1) * scale
    border = (x.shape[3] - y.shape[3] * g.stride) // 2  # that came with x
    padding = border if border > 0 else g.padding
    return max(padding, kernel - padding - g.stride, 0) * scale // g.stride

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

Call = Callable[[Tensor], Tensor]


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
    """norms in the order of execution. reach: of the result, in pixels. drops: has it dropout that is on?

    values: that each convolution with its norm reads and writes, per pixel of the picture.
    unet: where the network is one, with a `Level` for each of its encoder, and the mode that it was called with.
    """

    norms: tuple[Norm, ...]
    reach: int
    drops: bool
    values: Mapping[nn.Module, float] = field(default_factory=dict)
    unet: UNet | None = None
    levels: tuple[Level, ...] = ()
    mode: Mode | None = None


def survey(net: nn.Module, call: Call, channels: int, side: int, multiple: int) -> Survey:
    """Run `call`, which puts a picture (1, channels, h, w) through `net`, on small pictures, and watch.

    side: of a picture that the network takes. Errors: UserError for a network that cannot be cut: whose maps do not
    follow its picture, or that has layers which see all of it.
    """
    if _goes_block_by_block(call, channels, side, multiple):
        return Survey(norms=(), reach=0, drops=False)
    watch = _Watch(side)
    handles = [module.register_forward_hook(watch.after, with_kwargs=True) for module in net.modules()]
    handles += [module.register_forward_pre_hook(watch.before, with_kwargs=True) for module in net.modules()]
    try:
        call(torch.zeros((1, channels, side, side)))
    finally:
        for handle in handles:
            handle.remove()
    whole = watch.unet is not None and len(watch.levels) == len(watch.unet.downs)
    of_unet = (watch.unet, tuple(watch.levels), watch.mode) if whole else (None, (), None)
    return Survey(tuple(watch.norms), watch.reach, watch.drops, watch.values, *of_unet)


def _goes_block_by_block(call: Call, channels: int, side: int, multiple: int) -> bool:
    """Does no pixel of a block of `multiple` pixels depend on another block? NaN in the first, none in the second."""
    if side != multiple:
        return False
    A = torch.zeros((1, channels, side, 2 * side))
    A[..., :side] = float("nan")
    return not call(A)[..., side:].isnan().any()


class _Watch:
    """What hooks see of one call."""

    def __init__(self, side: int) -> None:
        self._side = side
        self.reach = 0
        self.norms: list[Norm] = []
        self.levels: list[Level] = []
        self.values: dict[nn.Module, float] = {}
        self.drops = False
        self.unet: UNet | None = None
        self.mode: Mode | None = None

    def before(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        mode = kwargs.get("mode", args[1] if len(args) > 1 and isinstance(args[1], Mode) else Mode())
        if isinstance(module, UNet):
            self.unet, self.mode = module, mode
        elif isinstance(module, NormAct):
            told = module.given is not None and module.given.mean is not None
            own = not told and module.norm != "none" and (module.norm == "instance" or mode.statistics != "running")
            if own and any(norm.module is module for norm in self.norms):
                raise UserError("--tile: this network uses a norm twice, which tiles cannot follow; leave --tile out")
            if own:
                self.norms.append(Norm(module, self.reach))
            self.drops = self.drops or (module.dropout_p > 0 and mode.rng is not None)
        elif self.unet is not None and any(module is down for down in self.unet.downs):
            self.levels.append(Level(0, self.reach))
        elif not list(module.children()) and not is_convolution(module):
            kind = type(module).__name__
            raise UserError(f"--tile: this network has a {kind}, which may see all of the picture; leave --tile out")

    def after(self, module: nn.Module, args: tuple, kwargs: dict, output: object) -> None:
        if isinstance(module, ConvNormAct):
            y = output[0] if isinstance(output, tuple) else output
            self.values[module] = (args[0].numel() + y.numel()) / self._side**2
        if is_convolution(module):
            self.reach += _reach(module, args[0], output, self._side)
        elif self.levels and self.unet is not None and any(module is down for down in self.unet.downs):
            y = output[0]
            self.levels[-1] = Level(_scale(y.shape[3], self._side), self.levels[-1].reach)


def _scale(width: int, side: int) -> int:
    if side % width:
        raise UserError("--tile: the maps of this network do not follow its picture; leave --tile out")
    return side // width


def _reach(conv: nn.Module, x: Tensor, y: Tensor, side: int) -> int:
    """Pixels of the picture that a convolution x -> y looks beyond its cell, to the farther side."""
    scale = _scale(y.shape[3], side)
    if isinstance(conv, UpsampleConv):  # 3x3 on pixels that are there twice
        return 2 * scale
    g, kernel = conv.geometry, max(conv.weight.shape[2:])
    if g.transposed:
        return max(kernel - 1 - g.padding, g.padding + g.stride - 1) * scale
    border = (x.shape[3] - y.shape[3] * g.stride) // 2  # that came with x
    padding = border if border > 0 else g.padding
    return max(padding, kernel - padding - g.stride, 0) * scale // g.stride

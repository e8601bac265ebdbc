"""A U-Net as two: an outer one for tiles, and the small maps inside it, which are computed whole.

Deep levels see far, 765 pixels to each side with 8 halvings, but their maps are small: behind K halvings 4^-K of the
picture. So the outer levels of the encoder are computed tile by tile, the map that they end with is put together, the
inner levels make of it what the decoder goes on with, and the outer levels of the decoder are tiles again. Their reach
is that of a net with K + 1 halvings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pygan.nets.unet import UNet
from pygan.nn import Mode
from pygan.tiles.cut import Span, Tile
from pygan.tiles.survey import Survey
from pygan.tiles.whole import Place

_FLOAT = 4  # bytes


class _AsItIs(nn.Module):
    """The head of a U-Net that has none."""

    def image(self, x: Tensor, *, tanh: bool, dtype: torch.dtype) -> Tensor:
        return x


class Inner(nn.Module):
    """Stands in the encoder for all inner levels: a tile gets its part of the map (1, c, h / step, w / step) they make.

    step: pixels of the picture to one of that map. mode: that the network is called with.
    """

    def __init__(self, unet: UNet, place: Place, step: int, mode: Mode) -> None:
        super().__init__()
        self.step = step
        self._unet = [unet]  # in a list: its modules are no part of the outer net
        self._place, self._mode = place, mode
        self._map: Tensor | None = None

    def forward(self, x: Tensor, mode: Mode) -> tuple[Tensor, None]:
        (_, _, top, bottom), (_, _, left, right) = self._place.tile
        step = self.step
        part = self._map[:, :, top // step : bottom // step, left // step : right // step]
        return part.contiguous(memory_format=torch.channels_last), None

    def finish(self, entered: Tensor) -> None:
        """Compute the inner levels whole, of the map (1, c, h, w) that the outer levels of the encoder end with."""
        self._map = self._unet[0](entered, self._mode)

    def pretend(self, side: int) -> None:
        """Zeros in the place of the map, for looking at the outer net with pictures of that side, in pixels."""
        (unet,) = self._unet
        weight = unet.downs[0].conv.weight
        entered = weight.new_zeros((1, weight.shape[1], unet.multiple, unet.multiple))
        made = unet(entered, self._mode)
        self._map = made.new_zeros((1, made.shape[1], side // self.step, side // self.step))
        self._place.tile = Tile(Span(0, side, 0, side), Span(0, side, 0, side))


def take_apart(found: Survey, place: Place, *, least: int, bytes_: float) -> Inner:
    """Change the U-Net that was surveyed into its outer levels. Returns the inner ones, which stand in the encoder.

    The encoder keeps `least` levels where it has more, and as many more as it takes until the inner maps of a picture
    fit into bytes_; one at least goes inside.
    """
    unet = found.unet
    height, width = place.size
    for outer in range(min(least, len(unet.downs) - 1), len(unet.downs)):
        ups = len(unet.downs) - 1 - outer
        levels = [*unet.downs[outer:], *unet.ups[:ups]]
        if _FLOAT * sum(found.values[level] for level in levels) * height * width <= bytes_:
            break
    inner = UNet(unet.downs[outer:], unet.ups[:ups], _AsItIs(), tanh=False)
    known = Inner(inner, place, found.levels[outer].scale, found.mode)
    unet.downs = nn.ModuleList([*unet.downs[:outer], known])
    unet.ups = unet.ups[ups:]
    unet.multiple = known.step
    return known

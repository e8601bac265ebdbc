"""The networks of GAN-INT-CLS as in the authors' code: noise and a text to a picture, picture and text to one logit.

Every convolution has a bias, as in that code; behind a norm it changes nothing and costs nothing (`ConvNormAct`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pygan.nets.text import TextLayer, beside_map
from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv, Mode, NormAct

_INNER = 4  # height and width of the smallest map


def widths(base: int, size: int) -> list[int]:
    """Channels of the maps from `size / 2` pixels down to 4: base, 2 base, 4 base, ... (4 maps of 64 pixels)."""
    return [base * 2**i for i in range((size // _INNER).bit_length() - 1)]


def _normed(conv: nn.Module, act: str, norm: str = "batch") -> ConvNormAct:
    return ConvNormAct(conv, NormAct(conv.out_channels, norm=norm, act=act, slope=0.2))


class Bottleneck(nn.Module):
    """act(x + body(x)), body: 1x1 to a quarter of the channels, 3x3, and 3x3 back, each with BatchNorm."""

    def __init__(self, channels: int, *, act: str) -> None:
        super().__init__()
        inner = channels // 4
        self.reduce = _normed(Conv(channels, inner, kernel=1), act)
        self.middle = _normed(Conv(inner, inner, kernel=3, padding=1), act)
        self.expand = _normed(Conv(inner, channels, kernel=3, padding=1), act)

    def forward(self, x: Tensor, mode: Mode = TRAIN) -> Tensor:
        return self.expand(self.middle(self.reduce(x, mode), mode), mode, residual=x)


class G(nn.Module):
    """z (n, z_dim) and text (n, text_dim) -> pictures (n, channels, size, size) in (-1, 1).

    The text is reduced to c_dim values (LeakyReLU 0.2) that stand behind z. The maps of 4 and 8 pixels have a
    `Bottleneck`, in front of which nothing is activated.
    """

    def __init__(self, channels: int, *, text_dim: int, c_dim: int, z_dim: int, ngf: int, size: int) -> None:
        super().__init__()
        inner, second, *outer = reversed(widths(ngf, size))
        self.text = TextLayer(text_dim, c_dim)
        first = Deconv(z_dim + c_dim, inner, kernel=_INNER, stride=1, padding=0)
        self.blocks = nn.ModuleList(
            [
                *(_normed(first, "none"), Bottleneck(inner, act="relu")),
                *(_normed(Deconv(inner, second), "none"), Bottleneck(second, act="relu")),
            ]
        )
        c = second
        for c_next in outer:
            self.blocks.append(_normed(Deconv(c, c_next), "relu"))
            c = c_next
        self.head = Deconv(c, channels)

    def forward(self, z: Tensor, text: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = torch.cat((z, self.text(text, mode)), dim=1)[:, :, None, None]  # (n, z_dim + c_dim, 1, 1)
        for block in self.blocks:
            h = block(h, mode)
        return self.head.image(h, tanh=True, dtype=z.dtype)


class D(nn.Module):
    """Pictures (n, channels, size, size) and texts (n, text_dim) -> logits (n, 1, 1, 1), up where they are real pairs.

    The map in front of the smallest one is normalised and not activated, as in the authors' code.
    """

    def __init__(self, channels: int, *, text_dim: int, c_dim: int, ndf: int, size: int) -> None:
        super().__init__()
        self.downs = nn.ModuleList()
        maps = widths(ndf, size)
        c = channels
        for i, c_next in enumerate(maps):
            act = "none" if i > 0 and len(maps) - 2 <= i else "leaky_relu"
            conv = Conv(c, c_next, kernel=4, stride=2, padding=1)
            self.downs.append(_normed(conv, act, norm="none" if i == 0 else "batch"))
            c = c_next
        self.residual = Bottleneck(c, act="leaky_relu")
        self.text = TextLayer(text_dim, c_dim, norm="batch", bias=True)
        self.join = _normed(Conv(c + c_dim, c, kernel=1), "leaky_relu")
        self.head = Conv(c, 1, kernel=_INNER)

    def forward(self, image: Tensor, text: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = image
        for down in self.downs:
            h = down(h, mode)
        h = self.residual(h, mode)  # (n, c, 4, 4)
        return self.head(self.join(beside_map(h, self.text(text, mode)), mode))

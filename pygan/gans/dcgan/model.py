"""The networks of DCGAN: noise to picture, picture to one logit. Any size that is a power of two."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv, Linear, Mode, NormAct

_INNER = 4  # height and width of the smallest map


def widths(base: int, size: int) -> list[int]:
    """Channels of the maps from `size / 2` pixels down to 4: base, 2 base, 4 base, ... (3 maps of 32, 4 of 64)."""
    return [base * 2**i for i in range((size // _INNER).bit_length() - 1)]


def _double(c_in: int, c_out: int, kernel: int) -> Deconv:
    """Transposed convolution of stride 2 that doubles height and width, with a kernel of 4 or 5."""
    return Deconv(c_in, c_out, kernel=kernel, padding=(kernel - 1) // 2, output_padding=kernel % 2, bias=False)


class _Project(nn.Module):
    """The dense beginning: z (n, z_dim) -> (n, c, 4, 4), normalised value by value over the batch."""

    def __init__(self, z_dim: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.linear = Linear(z_dim, channels * _INNER**2, bias=False)
        self.norm_act = NormAct(channels * _INNER**2, norm="batch", act="relu")

    def forward(self, z: Tensor, mode: Mode) -> Tensor:
        h = self.norm_act(self.linear(z)[:, :, None, None], mode)  # (n, 16 c, 1, 1)
        return h.reshape(-1, self.channels, _INNER, _INNER).contiguous(memory_format=torch.channels_last)


class _Spread(ConvNormAct):
    """The convolutional beginning: z (n, z_dim) is a map of one pixel, and becomes (n, c, 4, 4)."""

    def __init__(self, z_dim: int, channels: int) -> None:
        conv = Deconv(z_dim, channels, kernel=_INNER, stride=1, padding=0, bias=False)
        super().__init__(conv, NormAct(channels, norm="batch", act="relu"))

    def forward(self, z: Tensor, mode: Mode) -> Tensor:
        return super().forward(z[:, :, None, None], mode)


class G(nn.Module):
    """z (n, z_dim) -> pictures (n, channels, size, size) in (-1, 1). BatchNorm and ReLU but for the last layer: tanh.

    dense: begins with a linear layer instead of a transposed convolution. kernel: 4 or 5, of what doubles the map.
    """

    def __init__(self, channels: int, *, z_dim: int, ngf: int, size: int, kernel: int, dense: bool) -> None:
        super().__init__()
        c, *rest = reversed(widths(ngf, size))
        self.first = (_Project if dense else _Spread)(z_dim, c)
        self.ups = nn.ModuleList()
        for c_next in rest:
            self.ups.append(ConvNormAct(_double(c, c_next, kernel), NormAct(c_next, norm="batch", act="relu")))
            c = c_next
        self.head = _double(c, channels, kernel)

    def forward(self, z: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = self.first(z, mode)  # (n, c, 4, 4)
        for up in self.ups:
            h = up(h, mode)
        return self.head.image(h, tanh=True, dtype=z.dtype)


class D(nn.Module):
    """Pictures (n, channels, size, size) -> logits (n, 1, 1, 1), real up. BatchNorm but at both ends, LeakyReLU 0.2.

    dense: ends with a linear layer instead of a 4x4 convolution; the same sum. kernel: 4 or 5, of what halves the map.
    """

    def __init__(self, channels: int, *, ndf: int, size: int, kernel: int, dense: bool) -> None:
        super().__init__()
        self.downs = nn.ModuleList()
        c = channels
        for i, c_next in enumerate(widths(ndf, size)):
            conv = Conv(c, c_next, kernel=kernel, stride=2, padding=(kernel - 1) // 2, bias=False)
            norm = "none" if i == 0 else "batch"
            self.downs.append(ConvNormAct(conv, NormAct(c_next, norm=norm, act="leaky_relu", slope=0.2)))
            c = c_next
        self.dense = dense
        self.head = Linear(c * _INNER**2, 1, bias=False) if dense else Conv(c, 1, kernel=_INNER, bias=False)

    def forward(self, image: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = image
        for down in self.downs:
            h = down(h, mode)
        return self.head(h.flatten(1))[:, :, None, None] if self.dense else self.head(h)

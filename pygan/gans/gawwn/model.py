"""The networks of GAWWN after the authors' code: a generator and a discriminator for boxes, and for key points.

G: z (n, z_dim), text (n, text_dim), where -> pictures (n, channels, size, size) in (-1, 1). D: pictures, text, where ->
logits (n, 1, 1, 1), real and matching up. where: see `place`. No layer in front of a norm has a bias.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan.gans.gawwn import place
from pygan.nets.text import Residual, TextLayer, beside_map, conv_bn
from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv, Linear, Mode, NormAct

WHERE = ("box", "keypoints")
_INNER = 4  # height and width of the smallest maps


def doublings(size: int) -> int:
    """From the 16 cells of the place to the picture: 3 for 128 pixels."""
    return (size // place.CELLS).bit_length() - 1


def _up(c: int, c_next: int, act: str = "relu") -> ConvNormAct:
    """x2: (n, c, h, w) -> (n, c_next, 2h, 2w)."""
    return ConvNormAct(Deconv(c, c_next, bias=False), NormAct(c_next, norm="batch", act=act))


def _spread(c: int, c_next: int, act: str = "relu") -> ConvNormAct:
    """(n, c, 1, 1) -> (n, c_next, 4, 4)."""
    conv = Deconv(c, c_next, kernel=_INNER, stride=1, padding=0, bias=False)
    return ConvNormAct(conv, NormAct(c_next, norm="batch", act=act))


def _gather(c: int, c_next: int, act: str, norm: str = "batch") -> ConvNormAct:
    """(n, c, 4, 4) -> (n, c_next, 1, 1)."""
    conv = Conv(c, c_next, kernel=_INNER, bias=norm == "none")
    return ConvNormAct(conv, NormAct(c_next, norm=norm, act=act))


def _dense(c: int, c_next: int, act: str, norm: str = "batch") -> TextLayer:
    """Linear, norm, activation: (n, c) -> (n, c_next)."""
    return TextLayer(c, c_next, norm=norm, act=act)


def _halve(c: int, c_next: int, act: str) -> ConvNormAct:
    return conv_bn(c, c_next, kernel=4, stride=2, act=act)


def _through(blocks: nn.ModuleList, h: Tensor, mode: Mode) -> Tensor:
    for block in blocks:
        h = block(h, mode)
    return h


def _placed(text: Tensor, by: place.Sampling) -> Tensor:
    """text (n, c), the same in each cell, sampled: (n, c, 16, 16)."""
    return (text[:, :, None, None] * place.covered(by)).contiguous(memory_format=torch.channels_last)


class BoxG(nn.Module):
    """Global stream: the text's place and noise. Local stream: a picture of the text, pasted into the box."""

    def __init__(self, channels: int, *, text_dim: int, z_dim: int, ngf: int, size: int) -> None:
        super().__init__()
        k = doublings(size)
        self.text = Linear(text_dim, 4 * ngf)
        self.noise_global, self.noise_local = Linear(z_dim, 4 * ngf), Linear(z_dim, 4 * ngf)
        self.where = nn.ModuleList(
            [_halve(4 * ngf, 4 * ngf, "relu"), _halve(4 * ngf, 4 * ngf, "relu"), _gather(4 * ngf, 4 * ngf, "relu")]
        )
        self.whole = nn.ModuleList([_spread(8 * ngf, 8 * ngf), _up(8 * ngf, 4 * ngf), _up(4 * ngf, 2 * ngf)])
        self.part = nn.ModuleList(
            [
                *(_spread(8 * ngf, 8 * ngf, act="none"), Residual(8 * ngf, inner=2 * ngf)),
                *(_up(8 * ngf, 4 * ngf, act="none"), Residual(4 * ngf, inner=ngf)),
                _up(4 * ngf, 2 * ngf, act="none"),
            ]
        )
        self.mix = conv_bn(4 * ngf, 2 * ngf, kernel=3, act="relu")
        maps = [2 * ngf, ngf, *[max(1, ngf // 4)] * (k - 2)][:k]
        self.ups = nn.ModuleList(_up(c, c_next) for c, c_next in itertools.pairwise(maps))
        self.head = Deconv(maps[-1], channels)

    def forward(self, z: Tensor, text: Tensor, where: Tensor, mode: Mode = TRAIN) -> Tensor:
        """where: boxes (n, 4)."""
        into, said = place.paste(where), self.text(text)  # (n, 4 ngf)
        there = _through(self.where, _placed(said, into), mode).flatten(1)  # (n, 4 ngf)
        both = torch.cat((F.relu(self.noise_global(z)), there), dim=1)  # (n, 8 ngf)
        whole = _through(self.whole, both[:, :, None, None], mode)  # (n, 2 ngf, 16, 16)
        both = F.relu(torch.cat((self.noise_local(z), said), dim=1))
        part = _through(self.part, both[:, :, None, None], mode)
        part = F.relu(place.resample(part, into))  # (n, 2 ngf, 16, 16), 0 outside of the box
        h = self.mix(torch.cat((whole, part), dim=1), mode)
        return self.head.image(_through(self.ups, h, mode), tanh=True, dtype=z.dtype)


class PointG(nn.Module):
    """Global stream: text, noise and the key points, down to a vector. Local stream: text and noise at the points."""

    def __init__(self, channels: int, *, points: int, text_dim: int, z_dim: int, ngf: int, size: int) -> None:
        super().__init__()
        k = doublings(size)
        self.text, self.noise = Linear(text_dim, 4 * ngf), Linear(z_dim, 4 * ngf)
        self.for_part, self.for_whole = _dense(8 * ngf, 4 * ngf, "relu"), _dense(8 * ngf, 4 * ngf, "relu")
        self.where = nn.ModuleList(
            [_halve(points, ngf, "relu"), _halve(ngf, 2 * ngf, "relu"), _gather(2 * ngf, 4 * ngf, "relu")]
        )
        self.whole = nn.ModuleList([_spread(8 * ngf, 4 * ngf), _up(4 * ngf, 2 * ngf), _up(2 * ngf, ngf)])
        self.part = conv_bn(4 * ngf, 4 * ngf, kernel=3, act="relu")
        self.mix = nn.ModuleList(
            [
                conv_bn(5 * ngf + points, 4 * ngf, kernel=3, act="relu"),
                conv_bn(4 * ngf, 4 * ngf, kernel=3, act="none"),
                Residual(4 * ngf, inner=ngf),
            ]
        )
        maps = [4 * ngf, 2 * ngf, *[ngf] * (k - 2)][:k]
        self.ups = nn.ModuleList(_up(c, c_next) for c, c_next in itertools.pairwise(maps))
        self.head = Deconv(maps[-1], channels)

    def forward(self, z: Tensor, text: Tensor, where: Tensor, mode: Mode = TRAIN) -> Tensor:
        """where: key points (n, k, 3)."""
        maps = place.point_maps(where)  # (n, k, 16, 16)
        both = F.relu(torch.cat((self.noise(z), self.text(text)), dim=1))  # (n, 8 ngf)
        there = _through(self.where, maps, mode).flatten(1)  # (n, 4 ngf)
        whole = torch.cat((self.for_whole(both, mode), there), dim=1)[:, :, None, None]
        whole = _through(self.whole, whole, mode)  # (n, ngf, 16, 16)
        part = self.for_part(both, mode)[:, :, None, None] * maps.sum(dim=1, keepdim=True).clamp(0, 1)
        part = self.part(part.contiguous(memory_format=torch.channels_last), mode)  # (n, 4 ngf, 16, 16)
        h = torch.cat((whole, part, maps.to(part.dtype)), dim=1)
        h = _through(self.ups, _through(self.mix, h, mode), mode)
        return self.head.image(h, tanh=True, dtype=z.dtype)


class _Features(nn.Module):
    """Pictures -> (n, 2 ndf, 16, 16). All but the last halving are without a norm; a 3x3 convolution follows."""

    def __init__(self, channels: int, *, ndf: int, size: int) -> None:
        super().__init__()
        self.blocks, c = nn.ModuleList(), channels
        for _ in range(doublings(size) - 1):
            conv = Conv(c, ndf, kernel=4, stride=2, padding=1)
            self.blocks.append(ConvNormAct(conv, NormAct(ndf, norm="none", act="leaky_relu")))
            c = ndf
        self.blocks.append(_halve(c, 2 * ndf, "leaky_relu"))
        self.blocks.append(conv_bn(2 * ndf, 2 * ndf, kernel=3, act="leaky_relu"))

    def forward(self, image: Tensor, mode: Mode) -> Tensor:
        return _through(self.blocks, image, mode)


class _D(nn.Module):
    """What both discriminators share. points: key points, 0 for boxes; beside: channels beside the whole's 8 ndf.

    vector_norm: "batch" or "none", of what is left of a picture when its streams have become vectors.
    """

    def __init__(
        self,
        channels: int,
        *,
        text_dim: int,
        c_dim: int,
        ndf: int,
        size: int,
        points: int,
        beside: int,
        vector_norm: str,
    ) -> None:
        super().__init__()
        self.features = _Features(channels, ndf=ndf, size=size)
        self.text = TextLayer(text_dim, c_dim)
        self.join = conv_bn(2 * ndf + c_dim, 2 * ndf, kernel=3, act="leaky_relu")
        self.part = conv_bn(2 * ndf + points, 2 * ndf, kernel=1, act="leaky_relu")
        self.part_head = Conv(2 * ndf, ndf, kernel=1)
        self.whole = nn.ModuleList([_halve(2 * ndf, 4 * ndf, "leaky_relu"), _halve(4 * ndf, 8 * ndf, "leaky_relu")])
        self.whole_join = conv_bn(8 * ndf + beside, 4 * ndf, kernel=1, act="leaky_relu")
        self.whole_head = _gather(4 * ndf, ndf, "leaky_relu", norm=vector_norm)
        self.both = _dense(2 * ndf, ndf, "leaky_relu", norm=vector_norm)
        self.head = Linear(ndf, 1)

    def judge(self, part: Tensor, whole: Tensor, mode: Mode) -> Tensor:
        """part (n, 2 ndf + points, 16, 16), whole (n, 8 ndf + beside, 4, 4) -> logits (n, 1, 1, 1)."""
        part = F.leaky_relu(self.part_head(self.part(part, mode)).mean(dim=(2, 3)), 0.2)  # (n, ndf)
        whole = self.whole_head(self.whole_join(whole, mode), mode).flatten(1)  # (n, ndf)
        return self.head(self.both(torch.cat((part, whole), dim=1), mode))[:, :, None, None]


class BoxD(_D):
    """Local stream: what is in the box, enlarged. Global stream: the picture beside the text in its place."""

    def __init__(self, channels: int, *, c_dim: int, ndf: int, **shape: Any) -> None:
        super().__init__(channels, c_dim=c_dim, ndf=ndf, points=0, beside=ndf, **shape)
        self.where = nn.ModuleList([_halve(c_dim, 4 * ndf, "relu"), _halve(4 * ndf, ndf, "relu")])

    def forward(self, image: Tensor, text: Tensor, where: Tensor, mode: Mode = TRAIN) -> Tensor:
        """where: boxes (n, 4)."""
        features, said = self.features(image, mode), self.text(text, mode)  # (n, 2 ndf, 16, 16), (n, c_dim)
        part = place.resample(self.join(beside_map(features, said), mode), place.crop(where))
        there = _through(self.where, _placed(said, place.paste(where)), mode)  # (n, ndf, 4, 4)
        whole = torch.cat((_through(self.whole, features, mode), there), dim=1)
        return self.judge(part, whole, mode)


class PointD(_D):
    """Local stream: features at the key points, and which point it is. Global stream: picture and text."""

    def __init__(self, channels: int, *, c_dim: int, **shape: Any) -> None:
        super().__init__(channels, c_dim=c_dim, beside=c_dim, **shape)

    def forward(self, image: Tensor, text: Tensor, where: Tensor, mode: Mode = TRAIN) -> Tensor:
        """where: key points (n, k, 3)."""
        features, said = self.features(image, mode), self.text(text, mode)
        joined = self.join(beside_map(features, said), mode)
        maps = place.point_maps(where).to(joined.dtype)  # (n, k, 16, 16)
        part = torch.cat((joined * maps.sum(dim=1, keepdim=True).clamp(0, 1), maps), dim=1)
        return self.judge(part, beside_map(_through(self.whole, features, mode), said), mode)

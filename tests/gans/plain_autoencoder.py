"""The networks of BEGAN written from its paper and codes in stock PyTorch, for BEGAN and EBGAN to be compared with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from pygan.ops.philox import words


def elu3(c_in, c_out):
    return nn.Conv2d(c_in, c_out, 3, padding=1)


class PlainDecoder(nn.Module):
    """Section 3.5 of the paper, figure 1: dense to 8x8, two convolutions with ELU, nearest x2, ..., a convolution."""

    def __init__(self, r):
        super().__init__()
        self.r, n = r, r.n
        self.linear = nn.Linear(r.z_dim, 64 * n)
        self.convs, sizes = nn.ModuleList(), int(math.log2(r.crop_size)) - 2
        for i in range(sizes):
            self.convs += [elu3(2 * n if i and r.skips else n, n), elu3(n, n)]
        self.last = elu3(n, r.channels)

    def forward(self, z, carry=0.0):
        h = self.linear(z)
        if self.r.dense_elu:
            h = F.elu(h)
        h = first = h.view(-1, self.r.n, 8, 8)
        for i, conv in enumerate(self.convs):
            if i and i % 2 == 0:
                h = F.interpolate(h, scale_factor=2, mode="nearest")
                if self.r.skips:
                    h = torch.cat((h, F.interpolate(first, scale_factor=h.shape[2] // 8, mode="nearest")), dim=1)
                h = F.elu(conv(h))
            else:
                h = carry * h + (1 - carry) * F.elu(conv(h))
        h = self.last(h)
        return torch.tanh(h) if self.r.tanh else h


class PlainEncoder(nn.Module):
    """Two convolutions with ELU at each size, i n channels at the i-th, and what halves between them; then dense."""

    def __init__(self, r):
        super().__init__()
        self.r, n = r, r.n
        self.convs, self.kinds = nn.ModuleList([elu3(r.channels, n)]), ["plain"]
        sizes, c = int(math.log2(r.crop_size)) - 2, n
        padding = 1 if r.pad == "symmetric" else 0
        for i in range(1, sizes + 1):
            width, last = i * n, i == sizes
            self._add(elu3(c, width), "same" if c == width else "plain")
            c = width
            strided = nn.Conv2d(width, width, 3, stride=2, padding=padding)
            if r.down == "second" and not last:
                self._add(strided, "strided")
            else:
                self._add(elu3(width, width), "same")
            if r.down == "conv" and not last:
                self._add(strided, "strided")
            if r.down == "pool" and not last:
                c = width + n
                self._add(nn.Conv2d(width, c, 1), "widen")
        self.linear = nn.Linear(64 * sizes * n, r.z_dim)

    def _add(self, conv, kind):
        self.convs.append(conv)
        self.kinds.append(kind)

    def forward(self, h, carry=0.0):
        for conv, kind in zip(self.convs, self.kinds, strict=True):
            if kind == "same":
                h = carry * h + (1 - carry) * F.elu(conv(h))
            elif kind == "widen":
                h = F.avg_pool2d(conv(h), 2)
            elif kind == "strided" and self.r.pad == "right_bottom":
                h = F.elu(conv(F.pad(h, (0, 1, 0, 1))))
            else:
                h = F.elu(conv(h))
        code = self.linear(h.flatten(1))
        return F.elu(code) if self.r.dense_elu else code


class PlainD(nn.Module):
    """A discriminator that paints again what it is shown."""

    def __init__(self, r):
        super().__init__()
        self.encoder, self.decoder = PlainEncoder(r), PlainDecoder(r)

    def forward(self, v, carry=0.0):
        return self.decoder(self.encoder(v, carry), carry)


def beside(plain, net):
    """(parameter of a stock net, the same one of ours)."""
    layers = [[module for module in one.modules() if isinstance(module, nn.Conv2d | nn.Linear)] for one in (plain, net)]
    for own, theirs in zip(*layers, strict=True):
        yield own.weight, theirs.weight
        yield own.bias, theirs.bias


def even(rng, stream, recipe):
    """z of the paper: uniform in [-1, 1), from the words of the stream."""
    count = recipe.batch * recipe.z_dim
    return words(rng, stream, count).double().view(recipe.batch, recipe.z_dim) / 2**31 - 1

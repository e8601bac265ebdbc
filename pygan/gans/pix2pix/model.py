"""The networks of pix2pix beside its U-Net (`nets.unet`): two well-known relatives of it, and the discriminators.

Every G maps A (n, c_in, h, w) to an image (n, c_out, h, w); every D maps the pair (A, B) to logits (n, ...), real up.
Both take a `Mode`: dropout's random numbers, which statistics norms use, groups of samples.
Levels count from the outermost in the encoder (e1 .. eL) and from the innermost in the decoder (d1 .. dL); skip i joins
d_i's output and e_(L-i), so skip 1 is the innermost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from pygan import nets
from pygan.nets.unet import Down, UNet, Up, plan
from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv, DeconvSame, Linear, Mode, NormAct, UpsampleConv


def keras_unet(
    c_in: int,
    c_out: int,
    *,
    ngf: int = 64,
    levels: int = 7,
    skips: Collection[int] | None = None,
    dropout_levels: Collection[int] = (1, 2, 3),
    dropout_p: float = 0.5,
    upsample: str = "nearest",
    decoder_first: bool = True,
    norm: str = "batch",
    bn: str = "keras",
    in_affine: bool = False,
    pad: str = "right_bottom",
) -> UNet:
    """The U-Net of the Keras implementations: 3x3 convolutions with bias, a norm at the innermost map too.

    upsample "nearest": x2 by repetition and conv 3x3, as one merged transposed convolution, beside the skip afterwards;
    "deconv": transposed 3x3 of stride 2, whose decoder is one entry wider. levels: one per halving down to 1 pixel.
    """
    kept = plan(levels, skips)
    encoder = [ngf * min(8, 2**i) for i in range(levels)]
    deconv = upsample == "deconv"
    decoder = encoder[: levels - (1 if deconv else 2)][::-1]  # without the last one or two entries, reversed
    decoder += [ngf] * (levels - 1 - len(decoder))
    up_conv = DeconvSame if deconv else UpsampleConv
    common = {"bn": bn, "in_affine": in_affine}

    downs = []
    for level, (c, c_next) in enumerate(zip([c_in, *encoder], encoder, strict=False), start=1):
        skip = levels - level
        norm_act = NormAct(
            c_next,
            norm="none" if level == 1 else norm,
            act="relu" if level == levels else "leaky_relu",
            skip_act="relu" if skip in kept else None,
            **common,
        )
        room = decoder[skip - 1] if skip in kept else None
        conv = Conv(c, c_next, kernel=3, stride=2, padding=1, pad=pad)
        downs.append(Down(conv, norm_act, room=room, decoder_first=decoder_first))

    ups, c = [], encoder[-1]
    for level, c_next in enumerate(decoder, start=1):
        p = dropout_p if level in dropout_levels else 0.0
        norm_act = NormAct(c_next, norm=norm, act="relu", dropout_p=p, rng_stream=level, **common)
        ups.append(Up(up_conv(c, c_next), norm_act, decoder_first=decoder_first))
        c = c_next + (encoder[levels - level - 1] if level in kept else 0)
    return UNet(downs, ups, up_conv(c, c_out), tanh=True)


def chainer_unet(
    c_in: int,
    c_out: int,
    *,
    ngf: int = 64,
    levels: int = 7,
    skips: Collection[int] | None = None,
    dropout_levels: Collection[int] = (1, 2, 3),
    dropout_p: float = 0.5,
    decoder_first: bool = True,
    norm: str = "batch",
    bn: str = "chainer",
    in_affine: bool = False,
) -> UNet:
    """The encoder and decoder of the Chainer implementation: 3x3 convolutions at full size at both ends, no tanh.

    levels: halvings (7 for 256x256, down to 2x2). A skip carries the tensor that the next convolution reads, leaky and
    without another activation; skip i joins d_i and the encoder block of its size, `levels` of them.
    """
    kept = plan(levels + 1, skips)
    encoder = [ngf * min(8, 2**i) for i in range(levels + 1)]  # channels at full size, then after each halving
    decoder = encoder[-2::-1]
    common = {"bn": bn, "in_affine": in_affine}

    downs = []
    for level, (c, c_next) in enumerate(zip([c_in, *encoder], encoder, strict=False)):
        skip = levels - level
        norm_act = NormAct(
            c_next,
            norm="none" if level == 0 else norm,
            act="leaky_relu",
            skip_act="leaky_relu" if skip in kept else None,
            **common,
        )
        shape = {"kernel": 3} if level == 0 else {"kernel": 4, "stride": 2}
        room = decoder[skip - 1] if skip in kept else None
        downs.append(Down(Conv(c, c_next, padding=1, **shape), norm_act, room=room, decoder_first=decoder_first))

    ups, c = [], encoder[-1]
    for level, c_next in enumerate(decoder, start=1):
        p = dropout_p if level in dropout_levels else 0.0
        norm_act = NormAct(c_next, norm=norm, act="relu", dropout_p=p, rng_stream=level, **common)
        ups.append(Up(Deconv(c, c_next), norm_act, decoder_first=decoder_first))
        c = c_next + (encoder[levels - level] if level in kept else 0)
    return UNet(downs, ups, Conv(c, c_out, kernel=3, padding=1), tanh=False)


class PatchD(nets.PatchD):
    """PatchGAN on A and B together (A first in the concat) if `conditional`, else on B alone; see `nets.PatchD`."""

    def __init__(self, c_a: int, c_b: int, *, conditional: bool = True, norm: str = "batch", **shape: Any) -> None:
        super().__init__(c_a + c_b if conditional else c_b, norm=norm, **shape)
        self.conditional = conditional

    def forward(self, A: Tensor | None, B: Tensor, mode: Mode = TRAIN) -> Tensor:
        return super().forward(torch.cat((A, B), dim=1) if self.conditional else B, mode)  # (n, c_a + c_b, h, w)


class TwoInputD(nn.Module):
    """The discriminator of the Chainer implementation: A and B enter by a convolution of their own.

    Logits (n, 1, h/16, w/16).
    """

    def __init__(
        self, c_a: int, c_b: int, *, ndf: int = 64, norm: str = "batch", bn: str = "chainer", in_affine: bool = False
    ) -> None:
        super().__init__()

        def down(c: int, c_next: int, norm: str) -> ConvNormAct:
            norm_act = NormAct(c_next, norm=norm, act="leaky_relu", bn=bn, in_affine=in_affine)
            return ConvNormAct(Conv(c, c_next, kernel=4, stride=2, padding=1), norm_act)

        self.enter_a = down(c_a, ndf // 2, "none")
        self.enter_b = down(c_b, ndf // 2, "none")
        self.blocks = nn.ModuleList(down(ndf * 2**i, ndf * 2 ** (i + 1), norm) for i in range(3))
        self.head = Conv(ndf * 8, 1, kernel=3, padding=1)

    def forward(self, A: Tensor, B: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = torch.cat((self.enter_a(A, mode), self.enter_b(B, mode)), dim=1)
        for block in self.blocks:
            h = block(h, mode)
        return self.head(h)


def _precise(x: Tensor) -> Tensor:
    """x in at least float32."""
    return x if x.dtype == torch.float64 else x.float()


class KerasD(nn.Module, ABC):
    """What both Keras discriminators do: two classes per patch, then two classes from all patches together.

    The image is cut into patches in reading order; all go through one trunk, each as a batch of its own. The class
    pair (fake, real) is softmax(class_logits); forward returns the log odds of real, (n, 1), so that binary
    cross-entropy on it is the sources' loss on the pair.
    """

    def __init__(self, features: int, patches: int, patch: int, extra: int = 0) -> None:
        super().__init__()
        self.patch = patch
        self.judge_patch = Linear(features, 2)
        self.judge = Linear(2 * patches + extra, 2)

    def forward(self, A: Tensor, B: Tensor, mode: Mode = TRAIN) -> Tensor:
        logits = self.class_logits(A, B, mode)
        return logits[:, 1:] - logits[:, :1]

    def class_logits(self, A: Tensor, B: Tensor, mode: Mode = TRAIN) -> Tensor:
        """(n, 2): fake, real."""
        n = B.shape[0]
        features = self.trunk(A, B, mode)  # (patches n, features), patch after patch
        votes = torch.softmax(_precise(self.judge_patch(features)), dim=1).view(-1, n, 2)
        votes = votes.transpose(0, 1).flatten(1)  # (n, 2 patches)
        return _precise(self.judge(self.with_extra(votes, features, mode)))

    @abstractmethod
    def trunk(self, A: Tensor | None, B: Tensor, mode: Mode) -> Tensor:
        """The shared layers: (patches n, features), patch after patch."""

    def with_extra(self, votes: Tensor, features: Tensor, mode: Mode) -> Tensor:
        """What else the last layer sees."""
        return votes

    def _cut(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (patches n, c, patch, patch), patch after patch in reading order."""
        n, c, h, w = x.shape
        p = self.patch
        x = x.reshape(n, c, h // p, p, w // p, p).permute(2, 4, 0, 1, 3, 5)
        return x.reshape(-1, c, p, p).contiguous(memory_format=torch.channels_last)

    def _apart(self, mode: Mode, x: Tensor, n: int) -> Mode:
        """Each patch has its own statistics, as a layer called once per patch has."""
        return Mode(mode.rng, mode.statistics, mode.groups * (x.shape[0] // n))


def _keras_down(c: int, c_next: int, norm: str, bn: str, in_affine: bool, pad: str) -> ConvNormAct:
    norm_act = NormAct(c_next, norm=norm, act="leaky_relu", bn=bn, in_affine=in_affine)
    return ConvNormAct(Conv(c, c_next, kernel=3, stride=2, padding=1, pad=pad), norm_act)


class KerasTwoBranchD(KerasD):
    """A patch of B and the same patch of A enter by a convolution each; one more follows, then a dense layer."""

    def __init__(
        self,
        c_a: int,
        c_b: int,
        *,
        size: tuple[int, int],
        patch: int = 64,
        ndf: int = 64,
        norm: str = "batch",
        bn: str = "keras",
        in_affine: bool = False,
        pad: str = "right_bottom",
    ) -> None:
        patches = (size[0] // patch) * (size[1] // patch)
        super().__init__(features=8 * ndf * (patch // 4) ** 2, patches=patches, patch=patch)
        common = (norm, bn, in_affine, pad)
        self.enter_b = _keras_down(c_b, ndf, *common)
        self.enter_a = _keras_down(c_a, ndf, *common)
        self.join = _keras_down(2 * ndf, 8 * ndf, *common)

    def trunk(self, A: Tensor, B: Tensor, mode: Mode) -> Tensor:
        a, b = self._cut(A), self._cut(B)
        mode = self._apart(mode, b, B.shape[0])
        h = self.join(torch.cat((self.enter_b(b, mode), self.enter_a(a, mode)), dim=1), mode)
        return h.permute(0, 2, 3, 1).flatten(1)  # rows, columns, channels: the order of a Keras tensor


class KerasPatchD(KerasD):
    """Convolutions of stride 2 down to one pixel per patch of B; A is not seen.

    minibatch: features that tell how near the other samples are are appended (Salimans et al. 2016, 3.2: 100 kernels
    of 5 dimensions), so that a collapsed G can be told.
    """

    KERNELS, DIMENSIONS = 100, 5

    def __init__(
        self,
        c_b: int,
        *,
        size: tuple[int, int],
        patch: int = 64,
        ndf: int = 64,
        minibatch: bool = False,
        norm: str = "batch",
        bn: str = "keras",
        in_affine: bool = False,
        pad: str = "right_bottom",
    ) -> None:
        halvings = patch.bit_length() - 1
        widths = [ndf * min(8, 2**i) for i in range(halvings)]
        patches = (size[0] // patch) * (size[1] // patch)
        super().__init__(features=widths[-1], patches=patches, patch=patch, extra=self.KERNELS if minibatch else 0)
        self.blocks = nn.ModuleList(
            _keras_down(c, c_next, norm, bn, in_affine, pad) for c, c_next in zip([c_b, *widths], widths, strict=False)
        )
        size = self.KERNELS * self.DIMENSIONS
        self.compare = Linear(widths[-1] * patches, size, bias=False) if minibatch else None

    def trunk(self, A: Tensor | None, B: Tensor, mode: Mode) -> Tensor:
        h = self._cut(B)
        mode = self._apart(mode, h, B.shape[0])
        for block in self.blocks:
            h = block(h, mode)
        return h.flatten(1)

    def with_extra(self, votes: Tensor, features: Tensor, mode: Mode) -> Tensor:
        if self.compare is None:
            return votes
        n = votes.shape[0]
        whole = features.view(-1, n, features.shape[1]).transpose(0, 1).flatten(1)  # (n, patches features)
        points = _precise(self.compare(whole)).view(mode.groups, n // mode.groups, self.KERNELS, self.DIMENSIONS)
        distance = (points[:, :, None] - points[:, None]).abs().sum(dim=-1)  # (groups, m, m, kernels)
        nearness = torch.exp(-distance).sum(dim=2).reshape(n, self.KERNELS)
        return torch.cat((votes, nearness), dim=1)

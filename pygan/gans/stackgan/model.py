"""StackGAN's networks: a generator that sketches from a text, one that finishes the sketch, and what judges them.

Two families, `arch`: "pytorch", the authors' PyTorch code, and "tf", the TensorFlow code behind the paper. Pictures are
(n, 3, s, s) in [-1, 1], s a power of two from 16 on; texts are embeddings (n, d).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pygan.nets.text import (
    Condition,
    ConditioningAugmentation,
    Residual,
    TextJudge,
    TextLayer,
    beside_map,
    conv_bn,
    up_bn,
)
from pygan.nn import TRAIN, Conv, Mode, UpsampleConv

SMALLEST = 4  # height and width of the map that G begins with and D ends with


def doublings(size: int) -> int:
    """How often the smallest map is doubled to reach `size`, a power of two."""
    return (size // SMALLEST).bit_length() - 1


class Painted(NamedTuple):
    """What `StackG` returns."""

    image: Tensor  # (n, 3, s, s) of the last stage
    sketch: Tensor  # (n, 3, s, s) of stage I: the same tensor where there is no stage II
    condition: Condition  # what the last stage that reads the text made of it


class StageI(nn.Module):
    """Text and noise to a small picture (Zhang et al. 2017, 3.3): 4x4 map of 8 gf channels, doubled up to `size`.

    "tf": c before z, a bottleneck residual after the first and second map, and a last doubling that ends in the three
    channels of the picture.
    """

    def __init__(
        self, size: int, *, gf: int, text_dim: int, c_dim: int, z_dim: int, arch: str, ca_act: str, sample: bool
    ) -> None:
        super().__init__()
        self.tf = arch == "tf"
        ups = doublings(size)
        widths = [8 * gf // 2**i for i in range(ups + 1)]
        self.ca = ConditioningAugmentation(text_dim, c_dim, act=ca_act, log_sigma=self.tf, sample=sample)
        self.fc = TextLayer(
            z_dim + c_dim,
            widths[0] * SMALLEST**2,
            norm="batch",
            act="none" if self.tf else "relu",
            bias=self.tf,
        )
        self.ups = nn.ModuleList(up_bn(c, c_next) for c, c_next in itertools.pairwise(widths))
        if self.tf:
            self.ups = self.ups[:-1]
            self.ups[0] = up_bn(widths[0], widths[1], act="none")
            self.residuals = nn.ModuleList(Residual(c, inner=c // 4) for c in widths[:2])
            self.head = UpsampleConv(widths[-2], 3, bias=False)
        else:
            self.head = Conv(widths[-1], 3, kernel=3, padding=1, bias=False)

    def forward(self, text: Tensor, z: Tensor, eps: Tensor | None, mode: Mode = TRAIN) -> tuple[Tensor, Condition]:
        """text (n, d), z (n, z_dim), eps (n, c_dim) or None -> picture (n, 3, s, s), condition."""
        condition = self.ca(text, eps)
        both = (condition.c, z) if self.tf else (z, condition.c)
        h = self.fc(torch.cat(both, dim=1), mode).view(z.shape[0], -1, SMALLEST, SMALLEST)  # (n, 8 gf, 4, 4)
        h = h.contiguous(memory_format=torch.channels_last)
        if self.tf:
            h = self.residuals[0](h, mode)
        for i, up in enumerate(self.ups):
            h = up(h, mode)
            if self.tf and i == 0:
                h = self.residuals[1](h, mode)
        return self.head.image(h, tanh=True, dtype=z.dtype), condition


class StageII(nn.Module):
    """Sketch and text to a large picture (Zhang et al. 2017, 3.4): down to a quarter, beside c, up to `size`.

    r: residual blocks at the quarter. text_twice=False: no text enters here, and there is no condition.
    """

    def __init__(
        self,
        size: int,
        sketch_size: int,
        *,
        gf: int,
        r: int,
        text_dim: int,
        c_dim: int,
        arch: str,
        ca_act: str,
        sample: bool,
        text_twice: bool,
    ) -> None:
        super().__init__()
        quarter = 4 * gf
        widths = [quarter // 2**i for i in range((4 * size // sketch_size).bit_length())]
        self.encode = nn.ModuleList(
            (
                conv_bn(3, gf, kernel=3, act="relu", norm="none"),
                conv_bn(gf, 2 * gf, kernel=4, stride=2, act="relu"),
                conv_bn(2 * gf, quarter, kernel=4, stride=2, act="relu"),
            )
        )
        self.ca = None
        if text_twice:
            self.ca = ConditioningAugmentation(text_dim, c_dim, act=ca_act, log_sigma=arch == "tf", sample=sample)
        self.join = conv_bn(quarter + (c_dim if text_twice else 0), quarter, kernel=3, act="relu")
        self.residuals = nn.ModuleList(Residual(quarter) for _ in range(r))
        self.ups = nn.ModuleList(up_bn(c, c_next) for c, c_next in itertools.pairwise(widths))
        self.head = Conv(widths[-1], 3, kernel=3, padding=1, bias=False)

    def forward(
        self, sketch: Tensor, text: Tensor, eps: Tensor | None, mode: Mode = TRAIN
    ) -> tuple[Tensor, Condition | None]:
        """sketch (n, 3, s', s'), text (n, d), eps (n, c_dim) or None -> picture (n, 3, s, s), condition."""
        h = sketch
        for block in self.encode:
            h = block(h, mode)
        condition = None
        if self.ca is not None:
            condition = self.ca(text, eps)
            h = beside_map(h, condition.c)
        h = self.join(h, mode)
        for block in (*self.residuals, *self.ups):
            h = block(h, mode)
        return self.head.image(h, tanh=True, dtype=sketch.dtype), condition


class StackG(nn.Module):
    """The generator: stage I alone, or stage II on top of a stage I that it does not train.

    Stage I gets no gradients then, but normalises as the rest does: by batch in training, where its running statistics
    follow, and by those in use.
    """

    def __init__(self, stage1: StageI, stage2: StageII | None = None) -> None:
        super().__init__()
        self.stage1, self.stage2 = stage1, stage2
        if stage2 is not None:
            stage1.requires_grad_(False)

    def forward(self, text: Tensor, z: Tensor, eps: tuple[Tensor | None, Tensor | None], mode: Mode = TRAIN) -> Painted:
        """text (n, d), z (n, z_dim), eps of both stages, each (n, c_dim) or None."""
        if self.stage2 is None:
            image, condition = self.stage1(text, z, eps[0], mode)
            return Painted(image, image, condition)
        with torch.no_grad():
            sketch, first = self.stage1(text, z, eps[0], mode)
        image, second = self.stage2(sketch, text, eps[1], mode)
        return Painted(image, sketch, first if second is None else second)


class TextD(nn.Module):
    """Discriminator (Zhang et al. 2017, 3.3 and 3.4): 4x4 convolutions of stride 2 down to 4x4, then a `TextJudge`.

    stage: 1 or 2. "pytorch": sees c (n, c_dim); joins by 3x3; stage 2 has a logit of the picture alone too. "tf": sees
    the text (n, d) through a layer of its own; a residual at the end of the trunk; joins by 1x1; logits without bias.
    """

    def __init__(self, size: int, *, stage: int, df: int, text_dim: int, c_dim: int, arch: str) -> None:
        super().__init__()
        tf = arch == "tf"
        downs = doublings(size)
        widths = [df * 2**i for i in range(downs)]
        features = min(8 * df, widths[-1])
        reducers = downs - 1 - widths.index(features)  # halvings of the width that are left at 4x4
        act = "leaky_relu"
        trunk = [conv_bn(3, df, kernel=4, stride=2, act=act, norm="none")]
        for i, (c, c_next) in enumerate(itertools.pairwise(widths), start=1):
            linear = tf and stage == 1 and i == downs - 2  # the last but one, as that code has it
            trunk.append(conv_bn(c, c_next, kernel=4, stride=2, act="none" if linear else act))
        c = widths[-1]
        for _ in range(reducers):
            trunk.append(conv_bn(c, c // 2, kernel=1 if tf else 3, act=act))
            c //= 2
        if tf:
            trunk[-1].norm_act.act = "none"  # what a residual is added to is activated with it
            trunk.append(Residual(features, inner=features // 4, act=act))
        self.trunk = nn.ModuleList(trunk)
        self.text = TextLayer(text_dim, c_dim) if tf else None
        self.conditional = TextJudge(features, c_dim, size=SMALLEST, kernel=1 if tf else 3, bias=not tf)
        self.alone = TextJudge(features, 0, size=SMALLEST) if stage == 2 and not tf else None

    def encode(self, image: Tensor, mode: Mode = TRAIN) -> Tensor:
        """(n, 3, s, s) -> features (n, f, 4, 4)."""
        h = image.contiguous(memory_format=torch.channels_last)
        for block in self.trunk:
            h = block(h, mode)
        return h

    def judge(self, features: Tensor, about: Tensor, mode: Mode = TRAIN) -> Tensor:
        """Logits (n, 1, 1, 1) of features together with what they are said to be about."""
        return self.conditional(features, about if self.text is None else self.text(about), mode)

    def forward(self, image: Tensor, about: Tensor, mode: Mode = TRAIN) -> tuple[Tensor, Tensor | None]:
        """(logits with the text, logits of the picture alone or None), each (n, 1, 1, 1)."""
        features = self.encode(image, mode)
        return self.judge(features, about, mode), None if self.alone is None else self.alone(features)

"""The residual generator of Johnson et al. 2016 as CycleGAN has it: (n, c_in, h, w) -> (n, c_out, h, w)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from pygan.nets.recompute import run
from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv3, Mode, NormAct

RESNETS = {"resnet_6": 6, "resnet_9": 9}  # the blocks of a generator by its name


def usual_resnet(size: int) -> str:
    """The generator for pictures of `size` pixels: 6 blocks up to 128, 9 above (Zhu et al. 2017, 7.2)."""
    return "resnet_6" if size <= 128 else "resnet_9"


class ResBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), convolutions 3x3. What the last norm's act does is done to the sum.

    padding "reflect": each convolution reads what the norm before it has stored with its border reflected, so no tensor
    is padded by itself; last: the sum is stored without a border. "zeros": the convolutions pad; "replicate": a copy.
    """

    def __init__(self, first: ConvNormAct, second: ConvNormAct, *, last: bool, padding: str = "reflect") -> None:
        super().__init__()
        self.first, self.second = first, second
        self.last = last
        self.padding = padding

    def forward(self, padded: Tensor | None, x: Tensor, mode: Mode = TRAIN) -> tuple[Tensor | None, Tensor]:
        """padded: x (n, c, h, w) with its border, (n, c, h + 2, w + 2), None unless it is reflected.

        Returns the sum in both forms, too.
        """
        if self.padding != "reflect":
            h = self.first(self._bordered(x), mode)
            return None, self.second(self._bordered(h), mode, residual=x)
        h = self.first(padded, mode, padded=True, pad=1)
        if self.last:
            return None, self.second(h, mode, padded=True, residual=x)
        return self.second(h, mode, padded=True, residual=x, pad=1)

    def _bordered(self, x: Tensor) -> Tensor:
        return replicated(x) if self.padding == "replicate" else x


def replicated(x: Tensor) -> Tensor:
    """x (n, c, h, w) with its outermost pixels once more around it, (n, c, h + 2, w + 2).

    By concatenation: the gradient of PyTorch's own replication padding adds in any order on a GPU.
    """
    for dim in (2, 3):
        x = torch.cat((x.narrow(dim, 0, 1), x, x.narrow(dim, x.shape[dim] - 1, 1)), dim)
    return x


class ResNet(nn.Module):
    """The generator (Zhu et al. 2017, 7.2, after Johnson et al. 2016): 7x7, two halvings, blocks, two doublings, 7x7.

    blocks: 6 for pictures of 128 pixels, 9 from 256 pixels on. Convolutions in front of a BatchNorm have no bias.
    padding: of the blocks' convolutions, "reflect", "zeros" or "replicate" (the first and the last one always reflect).
    sum_act: done to the sum of every block, "none" or "relu". dropout_p: in every block, between its convolutions.
    first_stream: number of the first block in the random stream.
    h and w of the input must be multiples of `multiple`, and at least `least`: one pixel has no reflection.
    recompute: see `nets.recompute`.
    """

    multiple = 4
    least = 8
    recompute = False

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        ngf: int = 64,
        blocks: int = 9,
        norm: str = "instance",
        in_affine: bool = False,
        padding: str = "reflect",
        sum_act: str = "none",
        dropout_p: float = 0.0,
        first_stream: int = 1,
    ) -> None:
        super().__init__()
        if padding not in ("reflect", "zeros", "replicate"):
            raise ValueError(f'padding must be "reflect", "zeros" or "replicate", got {padding!r}')
        bias = norm != "batch"
        self.reflects = padding == "reflect"

        def layer(conv: nn.Module, act: str = "relu", **more) -> ConvNormAct:
            return ConvNormAct(conv, NormAct(conv.out_channels, norm=norm, act=act, in_affine=in_affine, **more))

        rim = 0 if padding == "replicate" else 1  # pixels that a block's convolution adds by itself

        def block(i: int) -> ResBlock:
            def conv() -> Conv:
                pad_mode = "reflect" if self.reflects else "zeros"
                return Conv(4 * ngf, 4 * ngf, kernel=3, padding=rim, pad_mode=pad_mode, bias=bias)

            last = i == blocks - 1
            first = layer(conv(), dropout_p=dropout_p, rng_stream=first_stream + i)
            second = layer(conv(), act=sum_act, skip_act=sum_act if self.reflects and not last else None)
            return ResBlock(first, second, last=last, padding=padding)

        skip = "relu" if self.reflects else None
        self.stem = layer(Conv(c_in, ngf, kernel=7, padding=3, pad_mode="reflect", bias=bias))
        self.down_1 = layer(Conv(ngf, 2 * ngf, kernel=3, stride=2, padding=1, bias=bias))
        self.down_2 = layer(Conv(2 * ngf, 4 * ngf, kernel=3, stride=2, padding=1, bias=bias), skip_act=skip)
        self.blocks = nn.ModuleList(block(i) for i in range(blocks))
        self.up_1 = layer(Deconv3(4 * ngf, 2 * ngf, bias=bias))
        self.up_2 = layer(Deconv3(2 * ngf, ngf, bias=bias))
        self.head = Conv(ngf, c_out, kernel=7, padding=3, pad_mode="reflect")

    def forward(self, image: Tensor, mode: Mode = TRAIN) -> Tensor:
        height, width = image.shape[2:]
        if height % self.multiple or width % self.multiple or min(height, width) < self.least:
            raise ValueError(
                f"height and width must be multiples of {self.multiple} and at least {self.least}, got {height}x{width}"
            )
        act = partial(run, self.recompute, mode=mode)
        h = act(self.stem, image.contiguous(memory_format=torch.channels_last))  # (n, ngf, h, w)
        h = act(self.down_1, h)  # (n, 2 ngf, h/2, w/2)
        if self.reflects:
            padded, h = act(self.down_2, h, pad=1)  # (n, 4 ngf, h/4 + 2, w/4 + 2) and its inner part
        else:
            padded, h = None, act(self.down_2, h)  # (n, 4 ngf, h/4, w/4)
        for block in self.blocks:
            padded, h = act(block, padded, h)
        h = act(self.up_2, act(self.up_1, h))  # (n, ngf, h, w)
        return self.head.image(h, tanh=True, dtype=image.dtype)

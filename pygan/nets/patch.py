"""Discriminators that judge a picture patch by patch, or as a whole. Logits (n, 1, h', w'), real up."""

from __future__ import annotations

from torch import Tensor, nn

from pygan.nn import TRAIN, Conv, ConvNormAct, Mode, NormAct


class PatchD(nn.Module):
    """PatchGAN (Isola et al. 2017, 6.1.2): each logit judges one patch; receptive field 70 pixels with 3 layers.

    n_layers: convolutions of stride 2 (1 to 6); two of stride 1 follow. 0: the pixel classifier of 1x1 convolutions.
    bias "auto": the middle ones only where the norm is not BatchNorm; "all": everywhere. Logits (n, 1, h', w').
    """

    def __init__(
        self,
        c_in: int,
        *,
        ndf: int = 64,
        n_layers: int = 3,
        norm: str = "instance",
        bias: str = "auto",
        bn: str = "pytorch",
        in_affine: bool = False,
    ) -> None:
        super().__init__()
        with_bias = bias == "all" or norm != "batch"
        strides = [2] * n_layers + [1] if n_layers else [1, 1]
        self.blocks = nn.ModuleList()
        c = c_in
        for i, stride in enumerate(strides):
            c_next = ndf * min(8, 2**i)
            shape = {"kernel": 4, "stride": stride, "padding": 1} if n_layers else {"kernel": 1}
            conv = Conv(c, c_next, bias=i == 0 or with_bias, **shape)
            norm_act = NormAct(c_next, norm="none" if i == 0 else norm, act="leaky_relu", bn=bn, in_affine=in_affine)
            self.blocks.append(ConvNormAct(conv, norm_act))
            c = c_next
        self.head = Conv(c, 1, kernel=4, padding=1) if n_layers else Conv(c, 1, kernel=1, bias=with_bias)

    def forward(self, image: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = image
        for block in self.blocks:
            h = block(h, mode)
        return self.head(h)


class ImageD(nn.Module):
    """ImageGAN of CycleGAN's Lua code: seven convolutions 4x4 of stride 2, each logit sees 382 pixels.

    2x2 logits of a picture of 256 pixels; at least 128. Every convolution has a bias.
    """

    halvings = 7

    def __init__(self, c_in: int, *, ndf: int = 64, norm: str = "batch", in_affine: bool = False) -> None:
        super().__init__()
        widths = [ndf * min(8, 2**i) for i in range(self.halvings - 1)]
        self.blocks = nn.ModuleList()
        for i, (c, c_next) in enumerate(zip([c_in, *widths], widths, strict=False)):
            norm_act = NormAct(c_next, norm="none" if i == 0 else norm, act="leaky_relu", in_affine=in_affine)
            self.blocks.append(ConvNormAct(Conv(c, c_next, kernel=4, stride=2, padding=1), norm_act))
        self.head = Conv(widths[-1], 1, kernel=4, stride=2, padding=1)

    def forward(self, image: Tensor, mode: Mode = TRAIN) -> Tensor:
        h = image
        for block in self.blocks:
            h = block(h, mode)
        return self.head(h)

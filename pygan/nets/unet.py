"""U-Nets and encoder-decoders: what goes down comes up again, beside what went down.

Every G maps A (n, c_in, h, w) to an image (n, c_out, h, w) and takes a `Mode`: dropout's random numbers, which
statistics norms use, groups of samples. Levels count from the outermost in the encoder (e1 .. eL) and from the
innermost in the decoder (d1 .. dL); skip i joins d_i's output and e_(L-i), so skip 1 is the innermost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pygan import ops
from pygan.nets.recompute import run
from pygan.nn import TRAIN, Conv, ConvNormAct, Deconv, Mode, NormAct, UpsampleConv


class Joint(NamedTuple):
    """What a level of the encoder hands to its level of the decoder."""

    skip: Tensor  # the encoder's activated features
    buffer: Tensor | None = None  # (n, c_decoder + c_encoder, h, w) that holds `skip`; None: skip stands alone
    room: Tensor | None = None  # the channels of `buffer` that the decoder is to fill


class Down(ConvNormAct):
    """A level of the encoder: conv, norm, and at once both activated copies, one for the next conv, one for the skip.

    room: None without a skip, 0 for a skip that stands alone, else the decoder's channels to stand beside it.
    recompute: see `nets.recompute`, here and below.
    """

    recompute = False

    def __init__(self, conv: nn.Module, norm_act: NormAct, *, room: int | None, decoder_first: bool) -> None:
        super().__init__(conv, norm_act)
        self.room = room
        self.decoder_first = decoder_first

    def forward(self, x: Tensor, mode: Mode = TRAIN) -> tuple[Tensor, Joint | None]:
        act = partial(run, self.recompute, super().forward, x, mode=mode)
        if self.room is None:
            return act(), None
        if self.room == 0:
            y, skip = act()
            return y, Joint(skip)
        n, c, h, w = self.conv.out_shape(x.shape)  # (n, c, h/2, w/2)
        buffer = torch.empty(
            (n, self.room + c, h, w),
            dtype=self.conv.compute_dtype(),
            device=x.device,
            memory_format=torch.channels_last,
        )
        if self.decoder_first:
            room, place = buffer[:, : self.room], buffer[:, self.room :]
        else:
            place, room = buffer[:, :c], buffer[:, c:]
        y, skip = act(places={"skip_out": place})
        return y, Joint(skip, buffer, room)


class Up(ConvNormAct):
    """A level of the decoder: x2 convolution, norm, dropout, activation, stored beside the skip."""

    recompute = False

    def __init__(self, conv: nn.Module, norm_act: NormAct, *, decoder_first: bool) -> None:
        super().__init__(conv, norm_act)
        self.decoder_first = decoder_first

    def forward(self, x: Tensor, mode: Mode = TRAIN, joint: Joint | None = None) -> Tensor:
        act = partial(run, self.recompute, super().forward, x, mode=mode)
        if joint is None:
            return act()  # (n, c, 2h, 2w)
        y = act(places={"out": joint.room})
        first, second = (y, joint.skip) if self.decoder_first else (joint.skip, y)
        return ops.joined(first, second, joint.buffer)


class UpNearest(ConvNormAct):
    """A level of the decoder against checkerboards: nearest x2 beside the skip, then conv 3x3, norm, dropout, act."""

    recompute = False

    def forward(self, x: Tensor, mode: Mode = TRAIN, joint: Joint | None = None) -> Tensor:
        plain = super().forward
        if joint is None:
            return run(self.recompute, plain, x, mode=mode)
        return run(self.recompute, lambda x, skip, mode: plain(x, mode, skip=skip), x, joint.skip, mode=mode)


class UNet(nn.Module):
    """Encoder, decoder and what joins them; `unet` below and the functions of a GAN say of what.

    h and w of the input must be multiples of `multiple`.
    """

    def __init__(self, downs: Sequence[Down], ups: Sequence[nn.Module], head: nn.Module, *, tanh: bool) -> None:
        super().__init__()
        self.downs = nn.ModuleList(downs)
        self.ups = nn.ModuleList(ups)
        self.head = head
        self.tanh = tanh
        self.multiple = 2 ** sum(down.conv.stride == (2, 2) for down in downs)

    def forward(self, A: Tensor, mode: Mode = TRAIN) -> Tensor:
        if A.shape[2] % self.multiple or A.shape[3] % self.multiple:
            raise ValueError(
                f"height and width of A must be multiples of {self.multiple}, got {A.shape[2]}x{A.shape[3]}"
            )
        h = A.contiguous(memory_format=torch.channels_last)
        joints = []
        for down in self.downs:
            h, joint = down(h, mode)
            joints.append(joint)
        for up, joint in zip(self.ups, reversed(joints[:-1]), strict=True):
            h = up(h, mode, joint)
        return self.head.image(h, tanh=self.tanh, dtype=A.dtype)

    @property
    def skips(self) -> tuple[int, ...]:
        """The skips that this net has; 1 is the innermost."""
        return tuple(i for i in range(1, len(self.downs)) if self._down_of(i).room is not None)

    @contextlib.contextmanager
    def without_skip(self, skip: int) -> Iterator[None]:
        """Inside, the decoder gets zeros in the place of that skip: what a trained net lacks then, the skip carried.

        For use, not for training. Errors: ValueError if the net has no such skip.
        """
        if skip not in self.skips:
            raise ValueError(f"this net has no skip {skip}; it has {self.skips or 'none'}")

        def silence(_down: nn.Module, _inputs: tuple, output: tuple[Tensor, Joint]) -> tuple[Tensor, Joint]:
            h, joint = output
            return h, joint._replace(skip=torch.zeros_like(joint.skip))

        hook = self._down_of(skip).register_forward_hook(silence)  # nothing in `forward` knows of it
        try:
            yield
        finally:
            hook.remove()

    def _down_of(self, skip: int) -> Down:
        """The level of the encoder that a skip comes from."""
        return self.downs[len(self.downs) - 1 - skip]


def plan(downs: int, skips: Collection[int] | None) -> set[int]:
    """The kept skips of a net with that many encoder blocks; None keeps all."""
    every = set(range(1, downs))
    kept = every if skips is None else set(skips)
    if kept - every:
        raise ValueError(f"skips must be in 1..{downs - 1}, got {max(kept - every)}")
    return kept


def unet(
    c_in: int,
    c_out: int,
    *,
    ngf: int = 64,
    levels: int = 8,
    skips: Collection[int] | None = None,
    dropout_levels: Collection[int] = (1, 2, 3),
    dropout_p: float = 0.5,
    upsample: str = "deconv",
    decoder_first: bool = True,
    norm: str = "batch",
    bias: str = "auto",
    bottleneck_norm: bool = False,
    bn: str = "pytorch",
    in_affine: bool = False,
    first_stream: int = 1,
) -> UNet:
    """The U-Net of pix2pix (Isola et al. 2017, 6.1.1): 4x4 convolutions of stride 2 down, transposed ones up.

    levels 8 for 256x256, 7 for 128x128; skips: which are kept, None for all, () for the encoder-decoder. bias "auto":
    none in front of a BatchNorm nor in e1 and eL, all with another norm; "all": everywhere. upsample "nearest": x2 by
    repetition beside the skip, then conv 3x3. The innermost map has no norm unless `bottleneck_norm`. first_stream:
    number of d1 in the random stream.
    """
    kept = plan(levels, skips)
    encoder = [ngf * min(8, 2**i) for i in range(levels)]  # channels of e1 .. eL
    decoder = encoder[-2::-1]  # channels of d1 .. d(L-1), each as wide as its partner
    with_bias = bias == "all" or norm != "batch"
    nearest = upsample == "nearest"
    common = {"bn": bn, "in_affine": in_affine}

    downs = []
    for level, (c, c_next) in enumerate(zip([c_in, *encoder], encoder, strict=False), start=1):
        inner, skip = level == levels, levels - level
        here = "none" if level == 1 or (inner and not bottleneck_norm) else norm
        norm_act = NormAct(
            c_next,
            norm=here,
            act="relu" if inner else "leaky_relu",
            skip_act="relu" if skip in kept else None,
            **common,
        )
        room = None if skip not in kept else 0 if nearest else decoder[skip - 1]
        conv = Conv(c, c_next, kernel=4, stride=2, padding=1, bias=with_bias)
        downs.append(Down(conv, norm_act, room=room, decoder_first=decoder_first))

    ups, c = [], encoder[-1]
    for level, c_next in enumerate(decoder, start=1):
        norm_act = NormAct(
            c_next,
            norm=norm,
            act="relu",
            dropout_p=dropout_p if level in dropout_levels else 0.0,
            rng_stream=first_stream + level - 1,
            **common,
        )
        joined = encoder[levels - level - 1] if level in kept else 0
        if nearest:
            ups.append(UpNearest(UpsampleConv(c + joined, c_next, bias=with_bias), norm_act))
            c = c_next
        else:
            ups.append(Up(Deconv(c, c_next, bias=with_bias), norm_act, decoder_first=decoder_first))
            c = c_next + joined
    head = UpsampleConv(c, c_out) if nearest else Deconv(c, c_out)
    return UNet(downs, ups, head, tanh=True)

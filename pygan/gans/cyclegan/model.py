"""The networks of CycleGAN in pairs: a generator for each direction, a patch classifier for each domain."""

from __future__ import annotations

from torch import nn

from pygan.nets import PatchD, ResNet, UNet


class Generators(nn.Module):
    """Both directions. Height and width of a picture: multiples of `multiple`, at least `least`."""

    def __init__(self, AtoB: ResNet | UNet, BtoA: ResNet | UNet) -> None:
        super().__init__()
        self.AtoB, self.BtoA = AtoB, BtoA
        self.multiple = AtoB.multiple
        self.least = getattr(AtoB, "least", AtoB.multiple)


class Discriminators(nn.Module):
    """One for each domain: A judges pictures of A, B those of B."""

    def __init__(self, A: PatchD, B: PatchD) -> None:
        super().__init__()
        self.A, self.B = A, B

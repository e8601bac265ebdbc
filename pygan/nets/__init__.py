"""Networks that more than two GANs are made of. A GAN's own networks are in its folder."""

from pygan.nets.patch import PatchD
from pygan.nets.resnet import ResNet
from pygan.nets.unet import UNet, unet

__all__ = ["PatchD", "ResNet", "UNet", "unet"]

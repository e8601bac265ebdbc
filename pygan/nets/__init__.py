"""Networks that more than two GANs are made of. A GAN's own networks are in its folder."""

from pygan.nets.patch import ImageD, PatchD
from pygan.nets.resnet import RESNETS, ResNet, usual_resnet
from pygan.nets.unet import UNet, unet

__all__ = ["RESNETS", "ImageD", "PatchD", "ResNet", "UNet", "unet", "usual_resnet"]

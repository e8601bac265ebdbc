"""The formulas under everything, one file each. Every op has a reference in plain PyTorch, its specification."""

from pygan.ops.conv import convolution
from pygan.ops.crop_flip import crop_flip
from pygan.ops.gan_loss import GanLoss, gan_loss, gan_loss_ref
from pygan.ops.joined import joined
from pygan.ops.l1_loss import l1_loss, l1_loss_ref
from pygan.ops.loss_sum import LossSum, gan_term, l1_term, loss_sum
from pygan.ops.norm_act import norm_act, norm_act_ref
from pygan.ops.small_conv import small_conv
from pygan.ops.thin_conv import thin_conv
from pygan.ops.upsample_concat import merge_upsample_weight, upsample_concat, upsample_concat_ref, upsample_conv3x3

__all__ = [
    "GanLoss",
    "LossSum",
    "convolution",
    "crop_flip",
    "gan_loss",
    "gan_loss_ref",
    "gan_term",
    "joined",
    "l1_loss",
    "l1_loss_ref",
    "l1_term",
    "loss_sum",
    "merge_upsample_weight",
    "norm_act",
    "norm_act_ref",
    "small_conv",
    "thin_conv",
    "upsample_concat",
    "upsample_concat_ref",
    "upsample_conv3x3",
]

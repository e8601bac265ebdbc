"""The formulas under everything, one file each. Every op has a reference in plain PyTorch, its specification."""

from pygan.ops.gan_loss import GanLoss, gan_loss, gan_loss_ref
from pygan.ops.joined import joined
from pygan.ops.l1_loss import l1_loss, l1_loss_ref
from pygan.ops.norm_act import norm_act, norm_act_ref
from pygan.ops.upsample_concat import merge_upsample_weight, upsample_concat, upsample_concat_ref, upsample_conv3x3

__all__ = [
    "GanLoss",
    "gan_loss",
    "gan_loss_ref",
    "joined",
    "l1_loss",
    "l1_loss_ref",
    "merge_upsample_weight",
    "norm_act",
    "norm_act_ref",
    "upsample_concat",
    "upsample_concat_ref",
    "upsample_conv3x3",
]

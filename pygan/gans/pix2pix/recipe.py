"""How pix2pix is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pygan import baselines as without_network
from pygan import data, metrics, nets
from pygan.data import Batch, Facts, Feed
from pygan.errors import UserError
from pygan.gans.pix2pix import model
from pygan.losses import gan_term, gradient_penalty, l1_term, loss_sum
from pygan.nn import INIT_KINDS, Mode, choose_kernels_, init_weights_, place_
from pygan.ops.philox import words
from pygan.optim import adam, end_step_, loss_scale, update
from pygan.recipe import BaseRecipe, flag, option
from pygan.state import State

_MOST_LEVELS = {"unet": 8, "keras_unet": 32, "chainer": 7}
_LEAST_LEVELS = 4  # fewer only when asked for: such a G sees too little of the picture at once
_NO_FACTS = Facts()
_PENALTY_STREAM = 1 << 16  # number in the random stream, beyond those of the layers


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """pix2pix. The defaults are those of the paper (Isola et al. 2017, 3 and 6) where its code does not differ."""

    direction: str = option(
        "auto", "what becomes what; auto: as is natural for the data", choices=("auto", "AtoB", "BtoA")
    )
    load_size: int = option(286, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(256, "height and width of the random crop that is trained on", unit="pixels")
    flip: bool = option(True, "mirror half of the pairs")
    resample: str = option(
        "auto",
        "filter for resizing; auto: bicubic, nearest for label maps",
        choices=("auto", "bicubic", "bilinear", "area", "nearest"),
    )
    input_transform: str = option(
        "none", "make the input from single pictures instead of reading pairs", choices=data.transforms.TRANSFORMS
    )

    generator: str = option("unet", "family of G", choices=("unet", "keras_unet", "chainer"))
    input_channels: int = option(0, "channels of G's input; 0: as in the data", unit="channels")
    output_channels: int = option(0, "channels of G's output; 0: as in the data", unit="channels")
    ngf: int = option(64, "channels of G's first convolution", unit="channels")
    levels: int = option(0, "halvings in G; 0: as many as crop_size allows", unit="levels")
    skips: str = option("all", "skips kept in G: all, none (encoder-decoder), or a list, 1 the innermost: 1,2,3")
    upsample: str = option(
        "auto",
        "how G doubles: transposed convolution, or nearest with a convolution (no checkerboards)",
        choices=("auto", "deconv", "nearest"),
    )
    concat: str = option(
        "decoder_first", "order of channels where a skip joins", choices=("decoder_first", "encoder_first")
    )
    dropout_levels: str = option("px", "decoder levels with dropout: px (1,2,3), jy (2,3,4 of 8), none, or a list")
    dropout_p: float = option(0.5, "part of the values that dropout sets to 0", unit="of all values")

    discriminator: str = option(
        "patch", "family of D", choices=("patch", "two_input", "keras_two_branch", "keras_patch")
    )
    ndf: int = option(64, "channels of D's first convolution", unit="channels")
    n_layers_d: int = option(3, "strided convolutions of the patch D, 0 to 6; 3 sees 70x70 pixels", unit="layers")
    d_conditional: bool = option(True, "the patch D sees the input beside the output")
    d_patch: int = option(64, "patch that the Keras Ds judge alone", unit="pixels")
    d_minibatch: bool = option(False, "keras_patch D: minibatch discrimination")

    norm: str = option("batch", "normalisation in both nets", choices=("batch", "instance", "none"))
    bn: str = option(
        "auto",
        "eps and momentum of BatchNorm; auto: the library's that G comes from",
        choices=("auto", "pytorch", "keras", "chainer"),
    )
    in_affine: bool = option(False, "InstanceNorm with scale and shift")
    bottleneck_norm: bool = option(False, "unet: normalise the innermost map too")
    bias: str = option("auto", "convolution biases; auto: none before BatchNorm", choices=("auto", "all"))
    pad: str = option(
        "right_bottom", "padding of the Keras nets' strided convolutions", choices=("right_bottom", "symmetric")
    )
    init: str = option("normal", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")

    gan_mode: str = option("vanilla", "adversarial loss", choices=("vanilla", "lsgan", "softplus", "wgangp"))
    d_loss_scale: float = option(0.5, "vanilla, lsgan: factor of the sum of D's real and fake halves; 1: not halved")
    lambda_gan: float = option(1.0, "weight of the adversarial loss in G")
    lambda_l1: float = option(100.0, "weight of the distance to the target in G")
    l1_reduction: str = option(
        "mean", "distance to the target per pixel: mean or sum over its channels", choices=("mean", "channel_sum")
    )
    lambda_gp: float = option(10.0, "wgangp: weight of the gradient penalty in D")

    test_dropout: bool = option(True, "dropout stays on in use, as in the paper: outputs vary a little")
    test_bn: str = option(
        "batch",
        "statistics of BatchNorm in use: each image's own, as in the paper, or the running ones",
        choices=("batch", "running"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"crop_size": 11, "ngf": 1, "ndf": 1, "input_channels": 0, "output_channels": 0, "levels": 0}
        least |= {"n_layers_d": 0, "d_patch": 4, "init_gain": 0.0}
        least |= {"d_loss_scale": 0.0, "lambda_gan": 0.0, "lambda_l1": 0.0, "lambda_gp": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        if not 0.0 <= self.dropout_p < 1.0:
            raise UserError(f"--dropout-p must be in [0, 1), got {self.dropout_p}")
        _check_generator(self)
        _check_discriminator(self)


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "fast": {"batch": 16, "epochs": 50, "decay_epochs": 50, "amp": True, "test_dropout": False, "test_bn": "running"},
    "demo": {
        "load_size": 144, "crop_size": 128, "ngf": 32, "ndf": 32, "batch": 4, "epochs": 14, "decay_epochs": 14,
        "upsample": "nearest", "ema_half_life_images": 400.0, "test_dropout": False, "test_bn": "running",
        "checkpoint_every_images": 2800, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 36, "crop_size": 32, "ngf": 8, "ndf": 8, "n_layers_d": 2, "batch": 2, "epochs": 2,
        "decay_epochs": 2, "data_images": 8, "sample_images": 2, "eval_images": 2, "sample_every_images": 8,
        "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError if a number of channels was asked for that the data does not have.
    """
    direction = facts.natural_direction if recipe.direction == "auto" else recipe.direction
    here = facts.channels if direction == "AtoB" else facts.channels[::-1]
    for name, count in zip(("input_channels", "output_channels"), here, strict=True):
        if getattr(recipe, name) not in (0, count):
            raise UserError(
                f"{flag(name)} is {getattr(recipe, name)}, but the data has {count} ({direction}); leave the flag out"
            )
    return dataclasses.replace(
        recipe, direction=direction, input_channels=here[0], output_channels=here[1], levels=_levels(recipe)
    )


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers and random numbers of a new run. The weights depend on the recipe alone, not on the device."""
    device = torch.device(device)
    with torch.device("meta"):  # no time for weights that are about to be replaced
        nets = {"G": generator(recipe), "D": discriminator(recipe)}
    draws = torch.Generator().manual_seed(recipe.seed)
    norm_std = 0.0 if recipe.generator == "chainer" else None  # its norms begin at 1
    for net in nets.values():
        net.to_empty(device="cpu")
        init_weights_(net, recipe.init, recipe.init_gain, draws, norm_std)
        place_(net, device)
        choose_kernels_(net, recipe.kernels)
    ema = {"G": copy.deepcopy(nets["G"]).requires_grad_(False)} if recipe.ema_half_life_images else {}
    return State(
        nets=nets,
        opts={name: adam(net, recipe, average=ema.get(name)) for name, net in nets.items()},
        ema=ema,
        buffers={
            "rng": torch.tensor([recipe.seed, 0], dtype=torch.int64, device=device),
            **loss_scale(recipe, device),
        },
    )


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Pairs for training ("train") or the others ("held-out"), already in the recipe's direction."""
    return data.paired_feed(_with_channels(recipe), split=split, device=device, rank=rank, world=world)


def step(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """One iteration (Isola et al. 2017, 3.3): D first, then G against the new D. Returns 0-d tensors for the logs."""
    G, D = state.G, state.D
    A, B = batch  # (n, c_a, h, w), (n, c_b, h, w) in [-1, 1]
    n = A.shape[0]
    logs = {}

    # The generator paints; dropout is its only source of chance.
    fake = G(A, Mode(rng=state.rng))  # (n, c_b, h, w)

    # Discriminator: real logits up, fake logits down. One batch, but real and fake keep their own statistics.
    logits = D(torch.cat((A, A)), torch.cat((B, fake.detach())), Mode(groups=2))
    halved = recipe.gan_mode in ("vanilla", "lsgan")  # the loss has their 1/2 of the paper in it
    weight = 2 * recipe.d_loss_scale if halved else 1.0
    loss_D, (judged,) = loss_sum(gan_term(logits, mode=recipe.gan_mode, side="D", n_real=n, weight=weight))
    if recipe.gan_mode == "wgangp":
        # A critic's slope is held near 1 on the way from fake to real.
        alpha = words(state.rng, _PENALTY_STREAM, n) / 2**32  # (n,) in [0, 1]
        penalty = gradient_penalty(lambda x: D(A, x, Mode(statistics="batch")), B, fake, alpha)
        loss_D = loss_D + recipe.lambda_gp * penalty
        logs["loss/gp"] = penalty.detach()
    update(state, "D", loss_D)

    # Generator: fake logits up, and near the target in L1, which leaves only detail to the discriminator.
    weight = recipe.lambda_l1 * (B.shape[1] if recipe.l1_reduction == "channel_sum" else 1)
    loss_G, (fooled, distance) = loss_sum(
        gan_term(D(A, fake), mode=recipe.gan_mode, side="G", weight=recipe.lambda_gan), l1_term(fake, B, weight=weight)
    )
    update(state, "G", loss_G)

    end_step_(state, recipe)
    logs |= {"loss/G": loss_G, "loss/D": loss_D, "loss/G_gan": fooled.loss, "loss/G_l1": distance}
    logs |= {"loss/D_real": judged.real, "loss/D_fake": judged.fake}
    logs |= {"logit/real": judged.logit_real, "logit/fake": judged.logit_fake}
    return {name: value.detach() for name, value in logs.items()}


@torch.no_grad()
def translate(G: nn.Module, recipe: Recipe, A: Tensor, rng: Tensor | None = None) -> Tensor:
    """G's images of A, (n, c_b, h, w) in [-1, 1], as the recipe says that G is to be used.

    A: (n, c_a, h, w) in [-1, 1], h and w multiples of `G.multiple`. rng: int64[2] on the device {seed, offset} for
    dropout in use; without one the recipe's seed decides, the same each time. The mask differs from place to place in
    the batch. Nothing else depends on the batch: batch statistics are each image's own.
    """
    if not recipe.test_dropout:
        rng = None
    elif rng is None:
        rng = torch.tensor([recipe.seed, 0], dtype=torch.int64, device=A.device)
    groups = A.shape[0] if recipe.test_bn == "batch" else 1
    return G(A, Mode(rng=rng, statistics=recipe.test_bn, groups=groups)).clamp(-1.0, 1.0)


def sample(G: nn.Module, recipe: Recipe, batch: Batch, rng: Tensor | None = None) -> dict[str, Tensor]:
    """Columns of a picture grid, each (n, c, h, w) in [-1, 1]: what G is given, paints, and should have painted."""
    return {"input": batch.A, "output": translate(G, recipe, batch.A, rng), "target": batch.B}


def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Batch, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """Means over a held-out batch, 0-d: l1 (grey levels of 255), psnr (dB), ssim, gradient_correlation."""
    return metrics.of_pairs(translate(nets["G"], recipe, batch.A, rng), batch.B)


def baselines(recipe: Recipe, batches: Iterator[Batch]) -> dict[str, Callable[[Batch], dict[str, Tensor]]]:
    """What needs no network, from batches of training pairs: functions like `measure` of a held-out batch alone."""

    def judged(predict: Callable[[Batch], Tensor]) -> Callable[[Batch], dict[str, Tensor]]:
        return lambda batch: metrics.of_pairs(predict(batch), batch.B)

    return {name: judged(predict) for name, predict in without_network.paired(batches).items()}


def example(recipe: Recipe, device: torch.device | str = "meta") -> Batch:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    recipe = _with_channels(recipe)
    return Batch(
        *(
            torch.empty((recipe.batch, channels, recipe.crop_size, recipe.crop_size), device=device).contiguous(
                memory_format=torch.channels_last
            )
            for channels in (recipe.input_channels, recipe.output_channels)
        )
    )


def generator(recipe: Recipe) -> nets.UNet:
    """G of a recipe, with PyTorch's weights or none (under a meta device)."""
    recipe = _with_defaults(recipe)
    levels = recipe.levels
    common = {
        "ngf": recipe.ngf,
        "levels": levels,
        "skips": _skips(recipe, levels),
        "dropout_levels": _dropout_levels(recipe, levels),
        "dropout_p": recipe.dropout_p,
        "decoder_first": recipe.concat == "decoder_first",
        "norm": recipe.norm,
        "bn": recipe.bn,
        "in_affine": recipe.in_affine,
    }
    c_in, c_out = recipe.input_channels, recipe.output_channels
    if recipe.generator == "keras_unet":
        return model.keras_unet(c_in, c_out, upsample=recipe.upsample, pad=recipe.pad, **common)
    if recipe.generator == "chainer":
        return model.chainer_unet(c_in, c_out, **common)
    return nets.unet(
        c_in,
        c_out,
        upsample=recipe.upsample,
        bias=recipe.bias,
        bottleneck_norm=recipe.bottleneck_norm,
        **common,
    )


def discriminator(recipe: Recipe) -> nn.Module:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    recipe = _with_defaults(recipe)
    c_a, c_b = recipe.input_channels, recipe.output_channels
    common = {"ndf": recipe.ndf, "norm": recipe.norm, "bn": recipe.bn, "in_affine": recipe.in_affine}
    if recipe.discriminator == "patch":
        shape = {"n_layers": recipe.n_layers_d, "conditional": recipe.d_conditional, "bias": recipe.bias}
        return model.PatchD(c_a, c_b, **shape, **common)
    if recipe.discriminator == "two_input":
        return model.TwoInputD(c_a, c_b, **common)
    common |= {"size": (recipe.crop_size, recipe.crop_size), "patch": recipe.d_patch, "pad": recipe.pad}
    if recipe.discriminator == "keras_two_branch":
        return model.KerasTwoBranchD(c_a, c_b, **common)
    return model.KerasPatchD(c_b, minibatch=recipe.d_minibatch, **common)


def _with_channels(recipe: Recipe) -> Recipe:
    """Channels left open become those of photographs, or of what the input transform makes of them."""
    natural = data.transforms.NATURAL_CHANNELS[recipe.input_transform]
    c_in, c_out = natural[::-1] if recipe.direction == "BtoA" else natural
    return dataclasses.replace(
        recipe, input_channels=recipe.input_channels or c_in, output_channels=recipe.output_channels or c_out
    )


def _with_defaults(recipe: Recipe) -> Recipe:
    """What "auto" and 0 mean for the networks."""
    library = {"unet": "pytorch", "keras_unet": "keras", "chainer": "chainer"}[recipe.generator]
    doubling = "nearest" if recipe.generator == "keras_unet" else "deconv"
    return dataclasses.replace(
        _with_channels(recipe),
        bn=library if recipe.bn == "auto" else recipe.bn,
        upsample=doubling if recipe.upsample == "auto" else recipe.upsample,
        levels=_levels(recipe),
    )


def _halvings(size: int) -> int:
    """How often `size` can be halved without a remainder."""
    return (size & -size).bit_length() - 1


def _levels(recipe: Recipe) -> int:
    if recipe.levels:
        return recipe.levels
    levels = min(_halvings(recipe.crop_size), _MOST_LEVELS[recipe.generator])
    if recipe.generator == "chainer" and recipe.crop_size >> levels == 1:
        levels -= 1  # its innermost map is normalised, and one pixel has no variance
    return levels


def _check_generator(recipe: Recipe) -> None:
    size, levels = recipe.crop_size, _levels(recipe)
    if recipe.levels and size % 2**recipe.levels:
        near = max(1, round(size / 2**recipe.levels)) * 2**recipe.levels
        raise UserError(
            f"--crop-size {size} cannot be halved {recipe.levels} times: "
            f"take a multiple of {2**recipe.levels} such as {near}, or --levels {_halvings(size)}"
        )
    if recipe.levels == 1 or (not recipe.levels and levels < _LEAST_LEVELS):
        step = 2 ** (_LEAST_LEVELS + (recipe.generator == "chainer"))
        below, above = size // step * step or step, (size // step + 1) * step
        raise UserError(
            f"--crop-size {size} halves evenly only {_halvings(size)} times, too few for G: "
            f"take a multiple of {step} such as {below} or {above}, or set --levels (2 or more)"
        )
    normed = recipe.generator == "keras_unet" or recipe.bottleneck_norm
    if recipe.norm == "instance" and normed and size >> levels == 1:
        raise UserError(
            f"--norm instance makes an innermost map of one pixel 0: take --levels {levels - 1}, or "
            + ("another norm" if recipe.generator == "keras_unet" else "leave --bottleneck-norm out")
        )
    _skips(recipe, levels)
    _dropout_levels(recipe, levels)
    if recipe.upsample == "nearest" and recipe.generator == "chainer":
        raise UserError("--upsample nearest is not part of --generator chainer; take unet or keras_unet")
    if recipe.upsample == "nearest" and recipe.generator == "unet" and recipe.concat == "encoder_first":
        raise UserError("--upsample nearest joins decoder_first; leave --concat out")


def _check_discriminator(recipe: Recipe) -> None:
    size = recipe.crop_size
    if recipe.discriminator == "patch":
        if recipe.n_layers_d > 6:
            raise UserError(f"--n-layers-d must be at most 6, got {recipe.n_layers_d}")
        if recipe.n_layers_d and size // 2**recipe.n_layers_d < 3:
            raise UserError(
                f"--n-layers-d {recipe.n_layers_d} leaves no logit of {size} pixels: "
                f"take a crop size of at least {3 * 2**recipe.n_layers_d}, or fewer layers"
            )
    elif recipe.discriminator == "two_input":
        if size < 16:
            raise UserError(f"--discriminator two_input needs a crop size of at least 16, got {size}")
    elif recipe.d_patch & (recipe.d_patch - 1) or size % recipe.d_patch:
        raise UserError(
            f"--d-patch must be a power of two that divides --crop-size {size}, got {recipe.d_patch}; "
            f"{min(64, size & -size)} would do"
        )
    if not recipe.d_conditional and recipe.discriminator != "patch":
        raise UserError(f"--no-d-conditional is for --discriminator patch, not {recipe.discriminator}")


def _skips(recipe: Recipe, levels: int) -> set[int] | None:
    """The kept skips; None: all."""
    most = levels if recipe.generator == "chainer" else levels - 1
    return _numbers("skips", recipe.skips, most, {"all": None, "none": set()})


def _dropout_levels(recipe: Recipe, levels: int) -> set[int]:
    most = levels if recipe.generator == "chainer" else levels - 1
    words = {"px": set(range(1, min(3, most) + 1)), "jy": set(range(2, levels - 3)), "none": set()}
    return _numbers("dropout_levels", recipe.dropout_levels, most, words)


def _numbers(name: str, text: str, most: int, words: Mapping[str, set[int] | None]) -> set[int] | None:
    """A word, or a list such as "1,2,3" of numbers from 1 to `most`."""
    if text in words:
        return words[text]
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= most for part in parts):
        raise UserError(f"{flag(name)} must be {', '.join(words)} or a list of levels from 1 to {most}, got {text!r}")
    return {int(part) for part in parts}

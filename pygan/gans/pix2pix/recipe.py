"""How pix2pix is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan import baselines as without_network
from pygan import data, metrics, nets
from pygan.begin import new_state
from pygan.data import Batch, Facts, Feed
from pygan.errors import UserError
from pygan.gans.pix2pix import model
from pygan.losses import gan_term, gradient_penalty, l1_term, loss_sum
from pygan.nn import INIT_KINDS, Mode, init_weights_
from pygan.ops.gan_loss import GanLoss
from pygan.ops.philox import new_rng, uniform, words
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, flag, option
from pygan.state import State

_MOST_LEVELS = {"unet": 8, "keras_unet": 32, "chainer": 7}
_LEAST_LEVELS = 4  # fewer only when asked for: such a G sees too little of the picture at once
_NO_FACTS = Facts()
# Numbers in the random stream, beyond those of the layers.
_PENALTY_STREAM, _SMOOTH_STREAM, _FLIP_STREAM = 1 << 16, (1 << 16) + 1, (1 << 16) + 2


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
    first: str = option(
        "D", "D moves first, and G against the new D; or G does, and both against the old (Chainer)", choices=("D", "G")
    )
    d_batches: str = option(
        "both", "D sees real and fake images in each step, or (Keras) in turn", choices=("both", "one_class")
    )
    d_fakes: str = option(
        "step", "fakes of D: those that G learns from, or (Keras) as in use, without dropout", choices=("step", "use")
    )
    label_smoothing: bool = option(False, "D's labels of real images are drawn from 0.9 to 1")
    label_flip: float = option(0.0, "how often D's labels of real and of fake images are exchanged", unit="of batches")
    label_bug_compat: bool = option(False, "Keras Ds: labels of real images are (0, 0), a mistake of the sources")

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
        if not 0.0 <= self.label_flip < 1.0:
            raise UserError(f"--label-flip must be in [0, 1), got {self.label_flip}")
        _check_generator(self)
        _check_discriminator(self)
        _check_labels(self)


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "fast": {"batch": 16, "epochs": 50, "decay_epochs": 50, "amp": True, "test_dropout": False, "test_bn": "running"},
    "keras": {
        "load_size": 128, "crop_size": 128, "flip": False, "input_transform": "canny", "generator": "keras_unet",
        "discriminator": "keras_two_branch", "init": "glorot", "gan_mode": "softplus", "lambda_l1": 10.0,
        "l1_reduction": "channel_sum", "d_batches": "one_class", "d_fakes": "use", "batch": 5, "epochs": 400,
        "decay_epochs": 0, "schedule": "const", "lr": 1e-3, "beta1": 0.9, "test_dropout": False, "test_bn": "running",
    },
    "chainer": {
        "flip": False, "input_channels": 12, "generator": "chainer", "discriminator": "two_input",
        "gan_mode": "softplus", "first": "G", "weight_decay": 1e-5, "epochs": 200, "decay_epochs": 0,
        "schedule": "const",
    },
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
    norm_std = 0.0 if recipe.generator == "chainer" else None  # its norms begin at 1
    begin_ = partial(init_weights_, kind=recipe.init, gain=recipe.init_gain, norm_std=norm_std)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Pairs for training ("train") or the others ("held-out"), already in the recipe's direction."""
    return data.paired_feed(_with_channels(recipe), split=split, device=device, rank=rank, world=world)


def step(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """One iteration (Isola et al. 2017, 3.3): D first, then G against the new D. Returns 0-d tensors for the logs."""
    G = state.G
    A, B = batch  # (n, c_a, h, w), (n, c_b, h, w) in [-1, 1]

    # The generator paints; dropout is its only source of chance. D may be shown what G would paint in use instead.
    with torch.no_grad():
        in_use = G(A, Mode(statistics="running")) if recipe.d_fakes == "use" else None
    fake = G(A, Mode(rng=state.rng))  # (n, c_b, h, w)
    shown = fake.detach() if in_use is None else in_use

    if recipe.first == "D":
        loss_D, of_D = _update_d(state, recipe, A, B, shown)
        loss_G, of_G = _update_g(state, recipe, A, B, fake)
    else:  # both from where they are together
        loss_G, of_G = _update_g(state, recipe, A, B, fake)
        loss_D, of_D = _update_d(state, recipe, A, B, shown)

    end_step_(state, recipe)
    state.show(input=A, fake=fake, target=B)
    logs = {"loss/G": loss_G, "loss/D": loss_D, **of_G, **of_D}
    return {name: value.detach() for name, value in logs.items()}


def _update_d(state: State, recipe: Recipe, A: Tensor, B: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Discriminator: real logits up, fake logits down. (its loss, more for the logs)"""
    D, n = state.D, A.shape[0]
    halved = recipe.gan_mode in ("vanilla", "lsgan")  # the loss has their 1/2 of the paper in it
    weight = 2 * recipe.d_loss_scale if halved else 1.0
    if recipe.d_batches == "one_class":
        return _update_d_with_one_class(state, recipe, A, B, fake, weight)

    # One batch, but real and fake keep their own statistics.
    logits = D(torch.cat((A, A)), torch.cat((B, fake)), Mode(groups=2))
    if _has_hard_labels(recipe):
        loss, (judged,) = loss_sum(gan_term(logits, mode=recipe.gan_mode, side="D", n_real=n, weight=weight))
    else:
        targets = _targets(state, recipe, n, logits)
        halves = [_soft_loss(half, target, recipe) for half, target in zip(logits.chunk(2), targets, strict=True)]
        loss = (weight / 2 if halved else weight) * (halves[0] + halves[1])
        judged = GanLoss(loss, *halves, logits[:n].float().mean(), logits[n:].float().mean())
    logs = {"loss/D_real": judged.real, "loss/D_fake": judged.fake}
    logs |= {"logit/real": judged.logit_real, "logit/fake": judged.logit_fake}
    if recipe.gan_mode == "wgangp":
        # A critic's slope is held near 1 on the way from fake to real.
        alpha = words(state.rng, _PENALTY_STREAM, n) / 2**32  # (n,) in [0, 1]
        penalty = gradient_penalty(lambda x: D(A, x, Mode(statistics="batch")), B, fake, alpha)
        loss = loss + recipe.lambda_gp * penalty
        logs["loss/gp"] = penalty
    update(state, "D", loss)
    return loss, logs


def _update_d_with_one_class(
    state: State, recipe: Recipe, A: Tensor, B: Tensor, fake: Tensor, weight: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Real images in one step, fake ones in the next, as the Keras sources have it: the first step's are real.

    The number of the step is that of the random numbers, so that a CUDA graph alternates, too. loss/D is of one class.
    """
    is_fake = (state.rng[1] & 1).to(torch.bool)
    logits = state.D(A, torch.where(is_fake, fake, B))
    target_real, target_fake = _targets(state, recipe, A.shape[0], logits)
    loss = weight * _soft_loss(logits, torch.where(is_fake, target_fake, target_real), recipe)
    update(state, "D", loss)
    return loss, {}


def _has_hard_labels(recipe: Recipe) -> bool:
    """Is real 1 and fake 0, always?"""
    return not (recipe.label_smoothing or recipe.label_flip or recipe.label_bug_compat)


def _targets(state: State, recipe: Recipe, n: int, logits: Tensor) -> tuple[Tensor, Tensor]:
    """What D is to say of n real and of n fake images, as probabilities of "real", (n,) each; like `logits` in type.

    The Keras Ds have a pair of labels (fake, real), not one: their loss, the mean of two cross-entropies, is that of
    one logit with the target (1 - fake + real) / 2.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    real = torch.ones(n, dtype=dtype, device=logits.device)
    fake = torch.zeros_like(real)
    if recipe.label_smoothing:
        real = uniform(state.rng, _SMOOTH_STREAM, (n,), low=0.9, high=1.0, dtype=dtype)
        real = (1 + real) / 2 if recipe.discriminator.startswith("keras") else real
    if recipe.label_bug_compat:
        real = torch.full_like(real, 0.5)  # the pair (0, 0)
    if recipe.label_flip:
        flipped = uniform(state.rng, _FLIP_STREAM, (2,), dtype=torch.float64) < recipe.label_flip
        real, fake = torch.where(flipped[0], 1 - real, real), torch.where(flipped[1], 1 - fake, fake)
    return real, fake


def _soft_loss(logits: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
    """0-d: the mean over samples and patches of what logits (n, ...) cost with targets (n,) in [0, 1]."""
    d = logits.to(target.dtype)
    target = target.view(-1, *[1] * (d.dim() - 1))
    if recipe.gan_mode == "lsgan":
        return (d - target).square().mean()
    return (target * F.softplus(-d) + (1 - target) * F.softplus(d)).mean()


def _update_g(state: State, recipe: Recipe, A: Tensor, B: Tensor, fake: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Generator: fake logits up, and near the target in L1, which leaves detail to D. (its loss, more for the logs)"""
    weight = recipe.lambda_l1 * (B.shape[1] if recipe.l1_reduction == "channel_sum" else 1)
    loss, (fooled, distance) = loss_sum(
        gan_term(state.D(A, fake), mode=recipe.gan_mode, side="G", weight=recipe.lambda_gan),
        l1_term(fake, B, weight=weight),
    )
    update(state, "G", loss)
    return loss, {"loss/G_gan": fooled.loss, "loss/G_l1": distance}


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
        rng = new_rng(recipe.seed, A.device)
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
    channels = recipe.input_channels, recipe.output_channels
    return Batch(*(data.empty_images(recipe.batch, c, recipe.crop_size, device) for c in channels))


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


def _check_labels(recipe: Recipe) -> None:
    if recipe.gan_mode == "wgangp":
        for name, default in (("d_batches", "both"), ("label_smoothing", False), ("label_flip", 0.0)):
            if getattr(recipe, name) != default:
                raise UserError(f"{flag(name)} is not for --gan-mode wgangp, whose D has no labels; leave it out")
    if recipe.label_bug_compat and not recipe.discriminator.startswith("keras"):
        raise UserError(
            "--label-bug-compat is for a D with a pair of labels: take --discriminator keras_two_branch or keras_patch"
        )
    if recipe.label_bug_compat and recipe.gan_mode not in ("vanilla", "softplus"):
        raise UserError(f"--label-bug-compat is for --gan-mode vanilla or softplus, not {recipe.gan_mode}")
    if recipe.label_bug_compat and recipe.label_smoothing:
        raise UserError("--label-bug-compat leaves no label to smooth: leave --label-smoothing out")


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

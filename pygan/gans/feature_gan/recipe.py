"""How the feature-loss GAN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from pygan import data, metrics, nets, pool
from pygan.begin import new_state
from pygan.data import Batch, Facts, Feed
from pygan.errors import UserError, say_once
from pygan.gans.feature_gan import model
from pygan.losses import gan_term, l1_term, loss_sum
from pygan.nn import INIT_KINDS, choose_kernels_, init_weights_, place_
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

_NO_FACTS = Facts()
_POOL_STREAM = 1 << 17  # number in the random stream of the pool


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """Feature loss + GAN. The defaults are those of CycleGAN's comparison (Zhu et al. 2017, 5.1)."""

    direction: str = option("auto", "what becomes what; auto: AtoB", choices=("auto", "AtoB", "BtoA"))
    load_size: int = option(286, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(256, "height and width of the random crop that is trained on", unit="pixels")
    flip: bool = option(True, "mirror half of the images")
    resample: str = option(
        "auto",
        "filter for resizing; auto: bicubic, nearest for label maps",
        choices=("auto", "bicubic", "bilinear", "area", "nearest"),
    )

    generator: str = option(
        "auto", "G; auto: 6 residual blocks up to 128 pixels, else 9", choices=("auto", *nets.RESNETS)
    )
    input_channels: int = option(0, "channels of A; 0: as in the data", unit="channels")
    output_channels: int = option(0, "channels of B; 0: as in the data", unit="channels")
    ngf: int = option(64, "channels of G's first convolution", unit="channels")
    ndf: int = option(64, "channels of D's first convolution", unit="channels")
    n_layers_d: int = option(3, "strided convolutions of D, 0 to 6; 3 sees 70x70 pixels", unit="layers")
    in_affine: bool = option(False, "InstanceNorm with scale and shift")
    init: str = option("normal", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")

    features: str = option(
        "vgg16",
        "what is to stay: relu4_2 of VGG-16, or of the same network with random weights (not how people see)",
        choices=("vgg16", "random"),
    )
    vgg_weights: str = option("", f"features vgg16: file with {model.HOW}", session=True)
    feature_size: int = option(224, "height and width that pictures are resized to for the features", unit="pixels")

    gan_mode: str = option("lsgan", "adversarial loss", choices=("lsgan", "vanilla", "softplus"))
    d_loss_scale: float = option(0.5, "lsgan, vanilla: factor of the sum of D's real and fake halves; 1: not halved")
    lambda_gan: float = option(1.0, "weight of the adversarial loss in G")
    lambda_features: float = option(10.0, "weight of the mean distance of the features in G")
    pool_size: int = option(50, "generated images that D is shown again later; 0: only new ones", unit="images")

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple = nets.ResNet.multiple
        least = {"crop_size": 2 * multiple, "ngf": 1, "ndf": 1, "input_channels": 0, "output_channels": 0}
        least |= {"n_layers_d": 0, "pool_size": 0, "init_gain": 0.0, "feature_size": model.MULTIPLE}
        least |= {"d_loss_scale": 0.0, "lambda_gan": 0.0, "lambda_features": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        for name, divisor in {"crop_size": multiple, "feature_size": model.MULTIPLE}.items():
            size = getattr(self, name)
            if size % divisor:
                below = size // divisor * divisor
                raise UserError(
                    f"{flag(name)} must be a multiple of {divisor} such as {below} or {below + divisor}, got {size}"
                )
        if self.n_layers_d > 6:
            raise UserError(f"--n-layers-d must be at most 6, got {self.n_layers_d}")
        if self.n_layers_d and self.crop_size // 2**self.n_layers_d < 3:
            raise UserError(
                f"--n-layers-d {self.n_layers_d} leaves no logit of {self.crop_size} pixels: "
                f"take a crop size of at least {3 * 2**self.n_layers_d}, or fewer layers"
            )
        if not (self.lambda_gan or self.lambda_features):
            raise UserError("--lambda-gan and --lambda-features are both 0: there is nothing to train G with")
        if self.features == "random" and self.vgg_weights:
            raise UserError("--vgg-weights is for --features vgg16; leave one of the two out")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"load_size": 143, "crop_size": 128},
    "fast": {"load_size": 143, "crop_size": 128, "batch": 16, "epochs": 50, "decay_epochs": 50, "amp": True},
    "demo": {
        "features": "random", "feature_size": 32, "load_size": 72, "crop_size": 64, "ngf": 16, "ndf": 16, "batch": 4,
        "epochs": 5, "decay_epochs": 5, "sample_every_images": 400, "checkpoint_every_images": 400, "max_minutes": 5.0,
    },
    "tiny": {
        "features": "random", "feature_size": 16, "load_size": 36, "crop_size": 32, "ngf": 8, "ndf": 8,
        "n_layers_d": 2, "pool_size": 4, "batch": 2, "epochs": 2, "decay_epochs": 2, "data_images": 8,
        "sample_images": 2, "eval_images": 2, "sample_every_images": 8, "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError if a number of channels was asked for that the data does not have, or that VGG-16 cannot see.
    """
    recipe = fitted(recipe, input_channels=facts.channels[0], output_channels=facts.channels[1])
    for name in ("input_channels", "output_channels"):
        count = getattr(recipe, name)
        if count not in (1, 3):
            raise UserError(f"{flag(name)} must be 1 (grey) or 3 (colour) for the features, got {count}")
    return dataclasses.replace(
        recipe,
        direction=facts.natural_direction if recipe.direction == "auto" else recipe.direction,
        generator=_generator(recipe),
    )


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers, pool, random numbers and features of a new run. The weights depend on the recipe alone.

    `state.vgg`, the network of the features, is no part of what is saved: it is what the recipe says, and never moves.
    Errors: UserError if its weights are missing or wrong (a "meta" device needs none).
    """
    shape = (_channels(recipe)[1], recipe.crop_size, recipe.crop_size)
    buffers = pool.empty(recipe.pool_size, shape, device=device, prefix="pool_") if recipe.pool_size else {}
    begin_ = partial(init_weights_, kind=recipe.init, gain=recipe.init_gain)
    state = new_state(recipe, device, {"G": generator, "D": discriminator}, begin_, buffers=buffers)
    state.vgg = _features(recipe, torch.device(device), state.G.head.compute_dtype())
    return state


def _features(recipe: Recipe, device: torch.device, dtype: torch.dtype) -> model.Vgg:
    """The network of the features on its device, its convolutions in the precision of the step."""
    with unset_fake_temporarily():  # `place_` wants it so
        vgg = model.Vgg(recipe.crop_size, size=recipe.feature_size).requires_grad_(False)
        if recipe.features == "random":
            init_weights_(vgg, "kaiming", 1.0, torch.Generator().manual_seed(0))  # the same ones in every run
            say_once("--features random: the features are not VGG-16's, and their distance is not how people see")
        elif device.type != "meta":
            model.load_(vgg, _weights_file(recipe))
        vgg.convs.to(dtype)
    place_(vgg, device)
    choose_kernels_(vgg, "library")  # its weights have no gradient, which is all that pygan's kernels would save
    return vgg


def _weights_file(recipe: Recipe) -> Path:
    """Where VGG-16's weights are. Errors: UserError, one line, if that was not said."""
    if not recipe.vgg_weights:
        raise UserError(
            f"--features vgg16 needs --vgg-weights FILE: {model.HOW}; "
            "--features random goes without, but its distance is not how people see"
        )
    return Path(os.path.expanduser(recipe.vgg_weights))


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Pictures of A and of B that have nothing to do with each other, for training ("train") or others ("held-out").

    Errors: UserError also before training if the features have no weights, so that nothing is begun without them.
    """
    if split == "train" and recipe.features == "vgg16":
        _weights_file(recipe)
    return data.unpaired_feed(recipe, split=split, device=device, rank=rank, world=world)


def step(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """One iteration: D, then G against the new D. Returns 0-d tensors for the logs."""
    G, D, vgg = state.G, state.D, state.vgg
    given, real = _facing(recipe, batch)  # (n, c, h, w) in [-1, 1], with nothing to do with each other
    painted = G(given)

    # Discriminator: real logits up, painted logits down. Half of the painted ones are older.
    shown = painted.detach()
    if recipe.pool_size:
        shown = pool.exchange_(state.pool_images, state.pool_count, shown, rng=state.rng, stream=_POOL_STREAM)
    halved = recipe.gan_mode in ("lsgan", "vanilla")  # gan_loss has their 1/2 in it
    weight = 2 * recipe.d_loss_scale if halved else 1.0
    logits = D(torch.cat((real, shown)))
    loss_D, (judged,) = loss_sum(gan_term(logits, mode=recipe.gan_mode, side="D", n_real=real.shape[0], weight=weight))
    update(state, "D", loss_D)

    # Generator: painted logits up, and the features those of the picture that was given.
    terms = [gan_term(D(painted), mode=recipe.gan_mode, side="G", weight=recipe.lambda_gan)]
    if recipe.lambda_features:
        with torch.no_grad():
            features = vgg(given)  # (n, 512, feature_size / 8, feature_size / 8)
        terms.append(l1_term(vgg(painted), features, weight=recipe.lambda_features))
    loss_G, (fooled, *distance) = loss_sum(*terms)
    update(state, "G", loss_G)

    end_step_(state, recipe)
    state.show(input=given, fake=painted, real=real)
    logs = {"loss/G": loss_G, "loss/D": loss_D, "loss/G_gan": fooled.loss}
    if distance:
        logs["loss/G_features"] = distance[0]
    logs |= {"logit/real": judged.logit_real, "logit/fake": judged.logit_fake}
    return {name: value.detach() for name, value in logs.items()}


def takes(recipe: Recipe) -> int:
    """Channels of the pictures that `translate` takes: those of the domain that the direction begins at."""
    return _channels(recipe)[0]


@torch.no_grad()
def translate(G: nn.Module, recipe: Recipe, A: Tensor, rng: Tensor | None = None) -> Tensor:
    """Pictures of the first domain as ones of the second, in [-1, 1]. rng plays no part, nothing depends on the batch.

    A: (n, c, h, w) in [-1, 1] of the domain that the recipe's direction begins at, h and w multiples of `G.multiple`.
    """
    return G(A).clamp(-1.0, 1.0)


def sample(G: nn.Module, recipe: Recipe, batch: Batch, rng: Tensor | None = None) -> dict[str, Tensor]:
    """Columns of a picture grid, each (n, c, h, w) in [-1, 1]: given, painted, and real ones beside them."""
    given, real = _facing(recipe, batch)
    return {"input": given, "output": translate(G, recipe, given), "real": real}


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Batch, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """Of a held-out batch, 0-d, in grey levels of 255.

    colours: how far the values of the painted pictures' pixels are from those of real ones (Wasserstein-1, a mean over
    the channels). Where both domains have as many channels, colours_before: the same of the given ones; change: how far
    painted is from given.
    """
    given, real = _facing(recipe, batch)
    painted = translate(nets["G"], recipe, given)
    values = {"colours": _colours(painted, real) * 127.5}
    if given.shape[1] == real.shape[1]:
        values["colours_before"] = _colours(given, real) * 127.5
        values["change"] = metrics.l1(painted, given) * 127.5
    return values


def _colours(a: Tensor, b: Tensor) -> Tensor:
    """Wasserstein-1 distance of the values of all pixels of a and of b, mean over the channels; both (n, c, h, w)."""
    a, b = (x.float().transpose(0, 1).flatten(1).sort(dim=1).values for x in (a, b))  # (c, n h w)
    return (a - b).abs().mean()


def example(recipe: Recipe, device: torch.device | str = "meta") -> Batch:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    channels = recipe.input_channels or 3, recipe.output_channels or 3
    return Batch(*(data.empty_images(recipe.batch, c, recipe.crop_size, device) for c in channels))


def generator(recipe: Recipe) -> nets.ResNet:
    """G of a recipe, with PyTorch's weights or none (under a meta device)."""
    blocks = nets.RESNETS[_generator(recipe)]
    return nets.ResNet(*_channels(recipe), ngf=recipe.ngf, blocks=blocks, in_affine=recipe.in_affine)


def discriminator(recipe: Recipe) -> nets.PatchD:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    shape = {"ndf": recipe.ndf, "n_layers": recipe.n_layers_d, "in_affine": recipe.in_affine}
    return nets.PatchD(_channels(recipe)[1], **shape)


def _facing(recipe: Recipe, batch: Batch) -> tuple[Tensor, Tensor]:
    """(pictures to repaint, real pictures of the other domain) of a batch."""
    return (batch.B, batch.A) if recipe.direction == "BtoA" else (batch.A, batch.B)


def _channels(recipe: Recipe) -> tuple[int, int]:
    """Of what G is given and of what it paints; left open, they become those of photographs."""
    channels = recipe.input_channels or 3, recipe.output_channels or 3
    return channels[::-1] if recipe.direction == "BtoA" else channels


def _generator(recipe: Recipe) -> str:
    return nets.usual_resnet(recipe.crop_size) if recipe.generator == "auto" else recipe.generator

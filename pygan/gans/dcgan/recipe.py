"""How DCGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan import data
from pygan.begin import new_state
from pygan.data import Facts, Feed, Pictures
from pygan.errors import UserError, say_once
from pygan.gans.dcgan import model
from pygan.losses import gan_loss
from pygan.nn import Mode, init_weights_
from pygan.ops.philox import new_rng, normal, uniform
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

_NO_FACTS = Facts()
_Z_STREAM = 1 << 16  # number in the random stream
_WIDTHS = {"conv": 64, "do": 128}  # channels of the widest maps, where the recipe leaves them open
# The yardstick: directions that pictures of 8x8 blocks are looked at from, the same for everybody.
_BLOCKS, _DIRECTIONS, _DIRECTION_STREAM = 8, 128, 1 << 17


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """DCGAN. The defaults are those of the PyTorch example; the preset `faces` is the authors' first code."""

    batch: int = option(64, "images per step", unit="images")
    epochs: int = option(25, "passes at the full learning rate", unit="epochs")
    decay_epochs: int = option(0, "passes while the learning rate falls", unit="epochs")
    schedule: str = option(
        "const", "learning rate over the epochs", choices=("linear", "const", "linear_jy_old", "linear_torch7")
    )

    load_size: int = option(64, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(64, "height and width of the pictures: a power of two, at least 16", unit="pixels")
    flip: bool = option(False, "mirror half of the images")
    resample: str = option(
        "auto",
        "filter for resizing; auto: bicubic",
        choices=("auto", "bicubic", "bilinear", "area", "nearest"),
    )
    pre_crop: str = option(
        "square", "cut out of the middle before resizing: square (the largest), none, or a size in pixels such as 178"
    )

    arch: str = option(
        "conv",
        "conv: 4x4 kernels, convolutions alone; do: 5x5 kernels, linear first and last layers (the authors' faces)",
        choices=("conv", "do"),
    )
    channels: int = option(0, "channels of a picture, 1 or 3; 0: as in the data", unit="channels")
    z_dim: int = option(100, "length of the noise", unit="values")
    z: str = option("normal", "noise: N(0, 1), or uniform in [-1, 1)", choices=("normal", "uniform"))
    ngf: int = option(0, "channels of G's last map; 0: 64, with --arch do 128", unit="channels")
    ndf: int = option(0, "channels of D's first map; 0: 64, with --arch do 128", unit="channels")
    init_gain: float = option(0.02, "standard deviation of the weights at the beginning")

    test_bn: str = option(
        "running",
        "statistics of BatchNorm in use: the running ones, or those of the pictures made together",
        choices=("running", "batch"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"crop_size": 16, "channels": 0, "z_dim": 1, "ngf": 0, "ndf": 0, "init_gain": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.crop_size & (self.crop_size - 1):
            below = 1 << (self.crop_size.bit_length() - 1)
            raise UserError(
                f"--crop-size must be a power of two such as {below} or {2 * below}, got {self.crop_size}: "
                f"each level of the networks doubles it"
            )
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "faces": {"arch": "do", "z": "uniform", "weight_decay": 1e-5, "batch": 128},
    "fast": {"batch": 256, "amp": True, "ema_half_life_images": 10_000.0},
    "demo": {
        "load_size": 32, "crop_size": 32, "ngf": 32, "ndf": 32, "batch": 16, "epochs": 12, "flip": True,
        "data_images": 2000, "ema_half_life_images": 1000.0, "sample_images": 16,
        "checkpoint_every_images": 4000, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 16, "crop_size": 16, "ngf": 8, "ndf": 8, "z_dim": 8, "batch": 4, "epochs": 4, "data_images": 8,
        "sample_images": 4, "eval_images": 4, "sample_every_images": 8, "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError if a number of channels was asked for that the data does not have.
    """
    recipe = fitted(recipe, channels=facts.channels[0])
    width = _WIDTHS[recipe.arch]
    return dataclasses.replace(recipe, ngf=recipe.ngf or width, ndf=recipe.ndf or width)


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers and random numbers of a new run. The weights depend on the recipe alone.

    Weights N(0, init_gain), norm scales N(1, init_gain) (section 4 of the paper); no layer has a bias but the norms.
    """
    begin_ = partial(init_weights_, kind="normal", gain=recipe.init_gain)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """The pictures of one split ("train" or "held-out")."""
    return data.pictures_feed(recipe, split, device, rank, world)


def example(recipe: Recipe, device: torch.device | str = "meta") -> Pictures:
    """A batch of the right shape with nothing in it."""
    return Pictures(data.empty_images(recipe.batch, recipe.channels or 3, recipe.crop_size, device))


def step(state: State, recipe: Recipe, batch: Pictures) -> dict[str, Tensor]:
    """One iteration, D then G, with one set of pictures from noise (the order of the PyTorch example).

    Returns 0-d tensors for the logs. prob/real is the mean of sigmoid(D(x)), prob/fake_before and prob/fake_after that
    of sigmoid(D(G(z))) before and after D has learned: the D(x) and D(G(z)) of the example's lines.
    """
    G, D = state.G, state.D
    real = batch.image  # (n, c, h, w) in [-1, 1]
    n = real.shape[0]
    fake = G(latent(recipe, state.rng, n, dtype=next(G.parameters()).dtype))

    # Discriminator: real logits up, fake logits down. One batch whose halves keep their own statistics.
    logits = D(torch.cat((real, fake.detach())), Mode(groups=2))  # (2 n, 1, 1, 1)
    judged = gan_loss(logits, mode="softplus", side="D", n_real=n)
    before = _probability(logits)  # (2 n,)
    update(state, "D", judged.loss)

    # Generator: the new D's logits of the same pictures up (the non-saturating loss).
    logits_fake = D(fake)
    fooled = gan_loss(logits_fake, mode="softplus", side="G")
    after = _probability(logits_fake)
    update(state, "G", fooled.loss)

    end_step_(state, recipe)
    state.show(fake=fake, real=real)
    logs = {"loss/G": fooled.loss, "loss/D": judged.loss, "loss/D_real": judged.real, "loss/D_fake": judged.fake}
    logs |= {"logit/real": judged.logit_real, "logit/fake": judged.logit_fake}
    logs |= {"prob/real": before[:n].mean(), "prob/fake_before": before[n:].mean(), "prob/fake_after": after.mean()}
    return {name: value.detach() for name, value in logs.items()}


def latent(recipe: Recipe, rng: Tensor, n: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise (n, z_dim) from the random stream `rng`, int64[2] {seed, offset}, on its device."""
    if recipe.z == "uniform":
        return uniform(rng, _Z_STREAM, (n, recipe.z_dim), low=-1.0, high=1.0, dtype=dtype)
    return normal(rng, _Z_STREAM, (n, recipe.z_dim), dtype=dtype)


def prior(recipe: Recipe) -> str:
    """The distribution of z, "normal" or "uniform"."""
    return recipe.z


def _probability(logits: Tensor) -> Tensor:
    """What D thinks, (n,) in (0, 1), at least in float32."""
    logits = logits.detach().flatten()
    return torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))


@torch.no_grad()
def generate(G: nn.Module, recipe: Recipe, n: int, rng: Tensor | None = None, *, z: Tensor | None = None) -> Tensor:
    """n pictures from noise, (n, c, h, w) in [-1, 1].

    rng: int64[2] {seed, offset} of the noise on G's device; None: the recipe's seed, the same pictures every time. With
    running statistics a picture does not depend on the others. z: the noise (n, z_dim) itself, there too, in place of
    what rng would draw (`latent`).
    """
    if z is None:
        first = next(G.parameters())
        rng = new_rng(recipe.seed, first.device) if rng is None else rng
        z = latent(recipe, rng, n, dtype=first.dtype)
    elif recipe.test_bn == "batch":
        say_once("--test-bn batch: pictures of given noise depend on those made together, so a walk flickers a little")
    return G(z, Mode(statistics=recipe.test_bn)).clamp(-1.0, 1.0)


def sample(G: nn.Module, recipe: Recipe, batch: Pictures, rng: Tensor | None = None) -> dict[str, Tensor]:
    """As many pictures as the batch has, for people to look at: {"samples": (n, c, h, w)} in [-1, 1]."""
    return {"samples": generate(G, recipe, batch.image.shape[0], rng)}


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Pictures, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """How good G is, on a held-out batch: 0-d tensors.

    sliced_w, in grey levels, lower is better: see `sliced_w`; as many pictures are generated as the batch has.
    prob/real, prob/fake: what D, with its running statistics, thinks of both.
    """
    G, D = nets["G"], nets["D"]
    real, look = batch.image, Mode(statistics="running")
    fake = generate(G, recipe, real.shape[0], rng)
    return {
        "sliced_w": sliced_w(real, fake),
        "prob/real": _probability(D(real, look)).mean(),
        "prob/fake": _probability(D(fake, look)).mean(),
    }


def sliced_w(real: Tensor, fake: Tensor) -> Tensor:
    """Distance of two sets of pictures as sets, in grey levels (0-d): the sliced Wasserstein-1 distance.

    real, fake: (n, c, h, w) in [-1, 1], h and w multiples of 8. Each picture is averaged to 8x8 blocks; these 64 c
    numbers are projected on 128 fixed random unit vectors, and along each the sorted projections are compared (Bonneel
    et al. 2015). It sees colours, layout and missing variety, and nothing finer than a block. Two sets of real pictures
    are not 0 apart but nearer the larger n is, so only values of one batch size can be compared.
    """
    blocks = torch.stack([_blocks(images) for images in (real, fake)])  # (2, n, 64 c)
    rng = torch.zeros(2, dtype=torch.int64, device=real.device)
    directions = normal(rng, _DIRECTION_STREAM, (blocks.shape[2], _DIRECTIONS), dtype=blocks.dtype)
    shadows = blocks @ F.normalize(directions, dim=0)  # (2, n, 128)
    one, other = shadows.sort(dim=1).values
    return (one - other).abs().mean()


def _blocks(images: Tensor) -> Tensor:
    """(n, c, h, w) in [-1, 1] -> (n, 64 c): means of 8x8 blocks, in grey levels of 0 to 255."""
    wide = images.to(torch.promote_types(images.dtype, torch.float32))
    size = (images.shape[2] // _BLOCKS, images.shape[3] // _BLOCKS)
    return ((F.avg_pool2d(wide, size) + 1) * 127.5).flatten(1)


def generator(recipe: Recipe) -> model.G:
    """G of a recipe, with PyTorch's weights or none (under a meta device)."""
    ngf = recipe.ngf or _WIDTHS[recipe.arch]
    return model.G(recipe.channels or 3, z_dim=recipe.z_dim, ngf=ngf, **_shape(recipe))


def discriminator(recipe: Recipe) -> model.D:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    ndf = recipe.ndf or _WIDTHS[recipe.arch]
    return model.D(recipe.channels or 3, ndf=ndf, **_shape(recipe))


def _shape(recipe: Recipe) -> dict[str, Any]:
    """What G and D have in common."""
    do = recipe.arch == "do"
    return {"size": recipe.crop_size, "kernel": 5 if do else 4, "dense": do}

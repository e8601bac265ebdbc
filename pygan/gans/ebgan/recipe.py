"""How EBGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pygan import data
from pygan.begin import new_state
from pygan.data import Facts, Feed, Pictures
from pygan.errors import UserError
from pygan.losses import gan_loss
from pygan.nets.autoencoder import DOWNS, Autoencoder, Decoder, Shape
from pygan.nn import INIT_KINDS, init_weights_
from pygan.ops.philox import new_rng, uniform
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

_NO_FACTS = Facts()
_Z_STREAM, _USE_STREAM = 1, 2  # numbers in the random stream


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """EBGAN on the networks of BEGAN, so that the two can be compared; the paper has no single set of numbers."""

    batch: int = option(16, "images per step", unit="images")
    steps: int = option(500_000, "length of the training in steps; 0: as --epochs says", unit="steps")
    schedule: str = option("const", "learning rate over the training", choices=("const",))

    load_size: int = option(64, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(64, "height and width of the crop that is trained on: 16, 32, 64, 128, ...", unit="pixels")
    flip: bool = option(False, "mirror half of the images")
    pre_crop: str = option("none", "cut out of each image before resizing: none, square, S pixels, or WxH+X+Y")
    resample: str = option(
        "auto", "filter for resizing; auto: bicubic", choices=("auto", "bicubic", "bilinear", "area", "nearest")
    )
    channels: int = option(0, "channels of the images; 0: as in the data", unit="channels")

    n: int = option(128, "channels of a decoder's maps; an encoder has multiples of it", unit="channels")
    z_dim: int = option(64, "length of the noise z and of an encoder's code", unit="numbers")
    down: str = option(
        "conv",
        "how D's encoder halves: a third convolution, the second one, or 1x1 convolution and mean",
        choices=DOWNS,
    )
    pad: str = option(
        "right_bottom", "padding of the strided convolutions", choices=("right_bottom", "symmetric")
    )  # as TensorFlow pads even sizes
    dense_elu: bool = option(False, "ELU behind the dense layers")
    tanh: bool = option(False, "tanh at the end of G and D")
    skips: bool = option(False, "a decoder's first map stands beside what each upsampling enlarges")
    init: str = option("glorot", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")

    energy: str = option(
        "mse",
        "of a picture: mean square of what D's copy of it lacks, or its Euclidean norm",
        choices=("mse", "l2norm"),
    )
    margin: float = option(1.0, "energy up to which D pushes G's pictures", unit="energy")
    pt_weight: float = option(0.1, "weight of the pulling-away term in G; 0: off")

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"n": 1, "z_dim": 1, "channels": 0, "margin": 0.0, "pt_weight": 0.0, "init_gain": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        if self.crop_size < 16 or self.crop_size & (self.crop_size - 1):
            raise UserError(f"--crop-size must be 16, 32, 64, 128 or another doubling, got {self.crop_size}")
        if self.pt_weight and self.batch < 2:
            raise UserError("--batch 1 leaves no pair for the pulling-away term: take 2 or more, or --pt-weight 0")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "celeba": {"pre_crop": "128x128+25+50", "resample": "nearest"},
    "cifar10": {"load_size": 32, "crop_size": 32},
    "fast": {"amp": True, "n": 64, "steps": 100_000},
    "demo": {
        "load_size": 32, "crop_size": 32, "n": 16, "z_dim": 32, "margin": 0.08, "steps": 1_500,
        "checkpoint_every_images": 8_000, "sample_images": 16, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 16, "crop_size": 16, "n": 4, "z_dim": 8, "batch": 2, "steps": 8, "data_images": 8,
        "sample_images": 2, "eval_images": 2, "sample_every_images": 8, "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError if a number of channels was asked for that the data does not have.
    """
    return fitted(recipe, channels=facts.channels[0])


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers and random numbers of a new run. The weights depend on the recipe alone, not on the device."""
    begin_ = partial(init_weights_, kind=recipe.init, gain=recipe.init_gain)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Pictures for training ("train") or the others ("held-out")."""
    return data.pictures_feed(recipe, split=split, device=device, rank=rank, world=world)


def example(recipe: Recipe, device: torch.device | str = "meta") -> Pictures:
    """A batch of the right shape with anything in it, to walk a step without data."""
    return Pictures(data.empty_images(recipe.batch, recipe.channels or 3, recipe.crop_size, device))


def step(state: State, recipe: Recipe, batch: Pictures) -> dict[str, Tensor]:
    """One iteration (Zhao et al. 2017, 2.1 and 2.4): D first, then G against the new D. Returns 0-d tensors for logs.

    energy/real and energy/fake are means as D had them before it learned.
    """
    G, D = state.G, state.D
    real = batch.image  # (n, c, h, w) in [-1, 1]
    n = real.shape[0]
    fake = G(_noise(recipe, state.rng, _Z_STREAM, real))  # (n, c, h, w)

    # Discriminator: energy of real pictures down, that of fake ones up to the margin (equation 1).
    seen = torch.cat((real, fake.detach()))  # without norms, one batch is two
    judged = gan_loss(_energy(recipe, D(seen), seen), mode="energy", side="D", n_real=n, margin=recipe.margin)
    update(state, "D", judged.loss)

    # Generator: energy of fake pictures down (equation 2), their codes apart (2.4).
    code = D.encode(fake)
    fooled = gan_loss(_energy(recipe, D.decode(code, fake.dtype), fake), mode="energy", side="G")
    loss_G, logs = fooled.loss, {}
    if recipe.pt_weight:
        pulled = _pulling_away(code)
        loss_G = loss_G + recipe.pt_weight * pulled
        logs["loss/pt"] = pulled
    update(state, "G", loss_G)

    end_step_(state, recipe)
    state.show(fake=fake, real=real)
    logs |= {"loss/G": loss_G, "loss/D": judged.loss}
    logs |= {"energy/real": judged.logit_real, "energy/fake": judged.logit_fake}
    return {name: value.detach() for name, value in logs.items()}


def _energy(recipe: Recipe, again: Tensor, image: Tensor) -> Tensor:
    """Of each picture (n,), from what D paints of it: mean square error, or Euclidean norm; at least float32."""
    lack = (again - image).flatten(1)
    return torch.linalg.vector_norm(lack, dim=1) if recipe.energy == "l2norm" else lack.square().mean(dim=1)


def _pulling_away(code: Tensor) -> Tensor:
    """Mean over pairs i != j of the squared cosine between codes (n, z) i and j (Zhao et al. 2017, 2.4); n >= 2."""
    code = code.to(torch.promote_types(code.dtype, torch.float32))
    direction = nn.functional.normalize(code, dim=1)
    squared = (direction @ direction.T).square()  # (n, n)
    n = code.shape[0]
    return (squared.sum() - squared.diagonal().sum()) / (n * (n - 1))


def latent(recipe: Recipe, rng: Tensor, n: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise z of n pictures as `generate` draws it: (n, z_dim), uniform in [-1, 1); rng: int64[2] {seed, offset}."""
    return uniform(rng, _USE_STREAM, (n, recipe.z_dim), low=-1.0, high=1.0, dtype=dtype)


def prior(recipe: Recipe) -> str:
    """The distribution of z: of evenly spread noise a walk goes straight on."""
    return "uniform"


@torch.no_grad()
def generate(G: nn.Module, recipe: Recipe, n: int, rng: Tensor | None = None, *, z: Tensor | None = None) -> Tensor:
    """n pictures of noise, (n, c, h, w) in [-1, 1].

    rng: int64[2] on G's device {seed, offset}; without one the recipe's seed decides, the same each time. z: the noise
    (n, z_dim) itself, there too, in place of what rng would draw (`latent`).
    """
    return (_paint(G, recipe, n, rng) if z is None else G(z)).clamp(-1.0, 1.0)


def sample(G: nn.Module, recipe: Recipe, batch: Pictures, rng: Tensor | None = None) -> dict[str, Tensor]:
    """As many pictures as the batch has, (n, c, h, w) in [-1, 1]; see `generate`."""
    return {"samples": generate(G, recipe, batch.image.shape[0], rng)}


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Pictures, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """BEGAN's measure of convergence for energies that should agree, and the two of them, 0-d.

    M = E(x) + |E(x) - E(G(z))|: at the optimum D cannot tell the two (Zhao et al. 2017, theorem 2), and both are low.
    """
    real = batch.image
    seen = torch.cat((real, _paint(nets["G"], recipe, real.shape[0], rng)))
    energy_real, energy_fake = (half.mean() for half in _energy(recipe, nets["D"](seen), seen).chunk(2))
    return {
        "M": energy_real + (energy_real - energy_fake).abs(),
        "energy_real": energy_real,
        "energy_fake": energy_fake,
    }


def generator(recipe: Recipe) -> Decoder:
    """G of a recipe, with PyTorch's weights or none (under a meta device)."""
    return Decoder(_shape(recipe))


def discriminator(recipe: Recipe) -> Autoencoder:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    return Autoencoder(_shape(recipe))


def _shape(recipe: Recipe) -> Shape:
    return Shape(
        size=recipe.crop_size,
        channels=recipe.channels or 3,
        n=recipe.n,
        z_dim=recipe.z_dim,
        down=recipe.down,
        pad=recipe.pad,
        dense_elu=recipe.dense_elu,
        tanh=recipe.tanh,
        skips=recipe.skips,
    )


def _paint(G: nn.Module, recipe: Recipe, n: int, rng: Tensor | None) -> Tensor:
    """n pictures as G gives them."""
    weight = next(G.parameters())
    rng = new_rng(recipe.seed, weight.device) if rng is None else rng
    return G(latent(recipe, rng, n, dtype=weight.dtype))


def _noise(recipe: Recipe, rng: Tensor, stream: int, like: Tensor) -> Tensor:
    """z for as many pictures as `like` has, in its dtype: (n, z_dim), uniform in [-1, 1) as in BEGAN."""
    return uniform(rng, stream, (like.shape[0], recipe.z_dim), low=-1.0, high=1.0, dtype=like.dtype)

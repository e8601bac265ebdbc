"""How BEGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

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
from pygan.losses import l1_loss
from pygan.nets.autoencoder import DOWNS, Autoencoder, Decoder, Shape, fade_
from pygan.nn import INIT_KINDS, init_weights_
from pygan.ops.philox import new_rng, uniform
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

_NO_FACTS = Facts()
_Z_STREAM, _Z_OF_D_STREAM, _USE_STREAM = 1, 2, 3  # numbers in the random stream
_SMALLEST_K = 1e-16  # what stands for a k of 0 where it is divided by: no digit of a sum of gradients sees it


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """BEGAN. The defaults are those of its widely used TensorFlow code, carpedm20/BEGAN-tensorflow."""

    batch: int = option(16, "images per step", unit="images")
    steps: int = option(500_000, "length of the training in steps; 0: as --epochs says", unit="steps")
    lr: float = option(8e-5, "learning rate of Adam")
    beta1: float = option(0.9, "Adam: decay of the first moment")
    schedule: str = option("const", "the learning rate follows --lr-decay instead", choices=("const",))
    lr_decay: str = option(
        "halve_floor",
        "learning rate: halved every --lr-decay-every steps, halved when M stalls, or left alone",
        choices=("halve_floor", "m_stall", "none"),
    )
    lr_decay_every: int = option(100_000, "halve_floor: halves the learning rate this often", unit="steps")
    lr_floor: float = option(2e-5, "halve_floor, m_stall: the learning rate falls no lower")
    stall_window: int = option(10_000, "m_stall: a mean of M over so many must be a new lowest", unit="steps")

    load_size: int = option(64, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(64, "height and width of the crop that is trained on: 16, 32, 64, 128, ...", unit="pixels")
    flip: bool = option(False, "mirror half of the images")
    pre_crop: str = option("none", "cut out of each image before resizing: none, square, S pixels, or WxH+X+Y")
    resample: str = option(
        "auto", "filter for resizing; auto: bicubic", choices=("auto", "bicubic", "bilinear", "area", "nearest")
    )
    channels: int = option(0, "channels of the images; 0: as in the data", unit="channels")
    unit_range: bool = option(False, "nets see values in [0, 1] instead of [-1, 1]")

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
    residuals: bool = option(False, "vanishing residuals: layers begin as the identity and come in slowly")
    carry_steps: int = option(16_000, "residuals: until they have vanished", unit="steps")
    init: str = option("glorot", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")

    gamma: float = option(0.5, "diversity: energy of G's pictures at balance, as a part of that of real ones")
    lambda_k: float = option(0.001, "how fast k follows the balance, per step")
    k_clip: bool = option(True, "k stays in [0, 1]")
    separate_z: bool = option(False, "D and G see pictures of different noise")
    order: str = option(
        "simultaneous",
        "both nets learn from the same pass, or G first and then D from the new G's pictures",
        choices=("simultaneous", "g_then_d"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"n": 1, "z_dim": 1, "channels": 0, "lambda_k": 0.0, "carry_steps": 1, "lr_decay_every": 1}
        least |= {"lr_floor": 0.0, "stall_window": 1, "init_gain": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        if self.crop_size < 16 or self.crop_size & (self.crop_size - 1):
            raise UserError(f"--crop-size must be 16, 32, 64, 128 or another doubling, got {self.crop_size}")
        if not 0.0 <= self.gamma <= 1.0:
            raise UserError(f"--gamma must be in [0, 1], got {self.gamma}")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "celeba": {"pre_crop": "128x128+25+50", "resample": "nearest"},
    "cifar10": {"load_size": 32, "crop_size": 32},
    "keras": {
        "down": "second", "dense_elu": True, "tanh": True, "n": 64, "z_dim": 128, "lr": 1e-4, "k_clip": False,
        "separate_z": True, "lr_decay_every": 20_000, "lr_floor": 1e-6, "steps": 50_000,
    },
    "seed": {
        "load_size": 32, "crop_size": 32, "down": "pool", "n": 32, "z_dim": 32, "unit_range": True, "init": "normal",
        "lr": 1e-4, "beta1": 0.5, "lr_decay": "none", "order": "g_then_d", "steps": 31_250,
    },
    "fast": {"amp": True, "n": 64, "steps": 100_000, "lr_decay_every": 25_000},
    "demo": {
        "load_size": 32, "crop_size": 32, "n": 16, "z_dim": 32, "lr": 1e-3, "lr_decay": "none", "gamma": 0.7,
        "lambda_k": 0.05, "steps": 3_000, "checkpoint_every_images": 8_000, "sample_images": 16, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 16, "crop_size": 16, "n": 4, "z_dim": 8, "batch": 2, "steps": 8, "lr_decay_every": 4,
        "stall_window": 2, "carry_steps": 4, "data_images": 8, "sample_images": 2, "eval_images": 2,
        "sample_every_images": 8, "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError if a number of channels was asked for that the data does not have.
    """
    return fitted(recipe, channels=facts.channels[0])


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers, the balance and random numbers of a new run. The weights depend on the recipe alone."""
    buffers = {"k": torch.zeros((), device=device), "M": torch.zeros((), device=device)}
    if recipe.lr_decay == "m_stall":
        exact = {"dtype": torch.float64, "device": device}
        buffers |= {
            "lr_factor": torch.ones((), **exact),
            "stall_sum": torch.zeros((), **exact),
            "stall_lowest": torch.full((), torch.inf, **exact),
            "stall_steps": torch.zeros((), dtype=torch.int64, device=device),
        }
    begin_ = partial(_begin_, recipe=recipe)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_, buffers=buffers)


def _begin_(net: nn.Module, recipe: Recipe, generator: torch.Generator) -> None:
    init_weights_(net, recipe.init, recipe.init_gain, generator)
    if recipe.residuals:
        net.carry.fill_(1.0)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Pictures for training ("train") or the others ("held-out")."""
    return data.pictures_feed(recipe, split=split, device=device, rank=rank, world=world)


def example(recipe: Recipe, device: torch.device | str = "meta") -> Pictures:
    """A batch of the right shape with anything in it, to walk a step without data."""
    return Pictures(data.empty_images(recipe.batch, recipe.channels or 3, recipe.crop_size, device))


def lr_factor(recipe: Recipe, epoch: int, step: int) -> float:
    """What to multiply the recipe's lr by after `step` steps; epochs play no part.

    halve_floor: lr becomes max(lr / 2, floor) every so many steps. m_stall: 1, for its factor is on the device.
    """
    if recipe.lr_decay != "halve_floor":
        return 1.0
    return max(0.5 ** (step // recipe.lr_decay_every), _floor_factor(recipe))


def step(state: State, recipe: Recipe, batch: Pictures) -> dict[str, Tensor]:
    """One iteration (Berthelot et al. 2017, 3.4): both nets, and then k. Returns 0-d tensors for the logs.

    energy/real and energy/fake are L(x) and L(G(z)) as the nets were before the step, k and M as they are behind it.
    """
    real = _in_range(recipe, batch.image)  # (n, c, h, w)
    if recipe.residuals:
        for net in state.nets.values():
            fade_(net, state.rng, recipe.carry_steps)
    if recipe.lr_decay == "m_stall":
        for opt in state.opts.values():
            opt.scale_lr_(state.lr_factor)

    one_pass = recipe.order == "simultaneous" and not recipe.separate_z and "loss_scale" not in state.buffers
    loss_D, energy_real, energy_fake = (_learn_in_one_pass if one_pass else _learn_apart)(state, recipe, real)

    _balance_(state, recipe, energy_real, energy_fake)
    if recipe.lr_decay == "m_stall":
        _halve_lr_if_stalled_(state, recipe)
    end_step_(state, recipe)
    logs = {"loss/G": energy_fake, "loss/D": loss_D, "energy/real": energy_real, "energy/fake": energy_fake}
    logs |= {"k": state.k, "M": state.M}
    if recipe.lr_decay == "m_stall":
        logs["lr_factor"] = state.lr_factor
    return {name: value.detach().clone() for name, value in logs.items()}


def _learn_in_one_pass(state: State, recipe: Recipe, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both updates from one forward and one backward pass of D. Returns (D's loss, L(x), L(G(z))).

    D's loss is L(x) - k L(G(z)) and G's is L(G(z)), so D's backward pass arrives at G's pictures with -k times G's own
    gradient. It is divided by -k there and goes on into G: a forward and a backward pass of D less than one for each
    loss. Of float16, whose gradients would not survive a small k, `_learn_apart` takes care.
    """
    fake = state.G(_noise(recipe, state.rng, _Z_STREAM, real))  # (n, c, h, w)
    seen = fake.detach().requires_grad_()
    k = torch.where(state.k.abs() < _SMALLEST_K, _SMALLEST_K, state.k)

    # Discriminator: paint real pictures well, and G's badly as far as k says.
    energy_real, energy_fake = _energies(state.D, real, seen)
    loss_D = energy_real - k * energy_fake
    update(state, "D", loss_D, also=[seen])

    # Generator: pictures that D, as it was, paints well; by themselves and by what D makes of them.
    slope = seen.grad / -k  # of L(G(z)) in each pixel
    update(state, "G", (fake * slope).sum())
    _show(state, recipe, real, fake)
    return loss_D, energy_real, energy_fake


def _learn_apart(state: State, recipe: Recipe, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The updates one after the other: for two draws of noise, G before D, or a loss scale. Returns as above."""
    G, D = state.G, state.D
    z = _noise(recipe, state.rng, _Z_STREAM, real)
    other = _noise(recipe, state.rng, _Z_OF_D_STREAM, real) if recipe.separate_z else None
    fresh = None
    if recipe.order == "simultaneous" and other is not None:
        with torch.no_grad():
            fresh = G(other)  # by G as it is before its own update

    # Generator: pictures that D paints well.
    fake = G(z)
    energy_fake = l1_loss(D(fake), fake)
    update(state, "G", energy_fake)

    # Discriminator: paint real pictures well, and G's badly as far as k says.
    if recipe.order == "g_then_d":
        with torch.no_grad():
            fresh = G(z if other is None else other)
    energy_real, energy_seen = _energies(D, real, fake.detach() if fresh is None else fresh)
    loss_D = energy_real - state.k * energy_seen
    update(state, "D", loss_D)
    _show(state, recipe, real, fake)
    return loss_D, energy_real, energy_fake


def _show(state: State, recipe: Recipe, real: Tensor, fake: Tensor) -> None:
    """The pictures of a step, in [-1, 1] whatever the nets see."""
    real, fake = (image.detach() * 2.0 - 1.0 if recipe.unit_range else image for image in (real, fake))
    state.show(fake=fake, real=real)


def _energies(D: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """L(v) = mean |v - D(v)| (equation 1) of real and of generated pictures, which D sees in one batch."""
    real_again, fake_again = D(torch.cat((real, fake))).chunk(2)
    return l1_loss(real_again, real), l1_loss(fake_again, fake)


@torch.no_grad()
def _balance_(state: State, recipe: Recipe, energy_real: Tensor, energy_fake: Tensor) -> None:
    """Move k towards L(G(z)) = gamma L(x), and take the measure of convergence (3.4 and 3.4.1)."""
    balance = recipe.gamma * energy_real - energy_fake
    k = state.k + recipe.lambda_k * balance
    state.k.copy_(k.clamp(min=0.0, max=1.0) if recipe.k_clip else k)
    state.M.copy_(energy_real + balance.abs())


@torch.no_grad()
def _halve_lr_if_stalled_(state: State, recipe: Recipe) -> None:
    """At the end of a window: halve the learning rate of the next steps unless the window's mean M is a new lowest."""
    state.stall_sum.add_(state.M)
    state.stall_steps.add_(1)
    full = state.stall_steps == recipe.stall_window
    mean = state.stall_sum / recipe.stall_window
    halved = (state.lr_factor / 2).clamp(min=_floor_factor(recipe))
    state.lr_factor.copy_(torch.where(full & (mean >= state.stall_lowest), halved, state.lr_factor))
    state.stall_lowest.copy_(torch.where(full, torch.minimum(mean, state.stall_lowest), state.stall_lowest))
    state.stall_sum.masked_fill_(full, 0.0)
    state.stall_steps.masked_fill_(full, 0)


def latent(recipe: Recipe, rng: Tensor, n: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Noise z of n pictures as `generate` draws it: (n, z_dim), uniform in [-1, 1); rng: int64[2] {seed, offset}."""
    return uniform(rng, _USE_STREAM, (n, recipe.z_dim), low=-1.0, high=1.0, dtype=dtype)


def prior(recipe: Recipe) -> str:
    """The distribution of z: of evenly spread noise a walk goes straight on (Berthelot et al. 2017, 4.2)."""
    return "uniform"


@torch.no_grad()
def generate(G: nn.Module, recipe: Recipe, n: int, rng: Tensor | None = None, *, z: Tensor | None = None) -> Tensor:
    """n pictures of noise, (n, c, h, w) in [-1, 1].

    rng: int64[2] on G's device {seed, offset}; without one the recipe's seed decides, the same each time. z: the noise
    (n, z_dim) itself, there too, in place of what rng would draw (`latent`).
    """
    image = _paint(G, recipe, n, rng) if z is None else G(z)
    return (image * 2.0 - 1.0 if recipe.unit_range else image).clamp(-1.0, 1.0)


def sample(G: nn.Module, recipe: Recipe, batch: Pictures, rng: Tensor | None = None) -> dict[str, Tensor]:
    """As many pictures as the batch has, (n, c, h, w) in [-1, 1]; see `generate`."""
    return {"samples": generate(G, recipe, batch.image.shape[0], rng)}


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Pictures, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """The measure of convergence and its two energies of held-out pictures and as many of noise, 0-d.

    M = L(x) + |gamma L(x) - L(G(z))| (Berthelot et al. 2017, 3.4.1), which has no k in it.
    """
    real = _in_range(recipe, batch.image)
    energy_real, energy_fake = _energies(nets["D"], real, _paint(nets["G"], recipe, real.shape[0], rng))
    M = energy_real + (recipe.gamma * energy_real - energy_fake).abs()
    return {"M": M, "energy_real": energy_real, "energy_fake": energy_fake}


def _paint(G: nn.Module, recipe: Recipe, n: int, rng: Tensor | None) -> Tensor:
    """n pictures as G gives them, in the range that the nets see."""
    weight = next(G.parameters())
    rng = new_rng(recipe.seed, weight.device) if rng is None else rng
    return G(latent(recipe, rng, n, dtype=weight.dtype))


def _in_range(recipe: Recipe, image: Tensor) -> Tensor:
    """Pictures in [-1, 1] as the nets see them."""
    return image * 0.5 + 0.5 if recipe.unit_range else image


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
        residuals=recipe.residuals,
    )


def _noise(recipe: Recipe, rng: Tensor, stream: int, like: Tensor) -> Tensor:
    """z for as many pictures as `like` has, in its dtype: (n, z_dim), uniform in [-1, 1)."""
    return uniform(rng, stream, (like.shape[0], recipe.z_dim), low=-1.0, high=1.0, dtype=like.dtype)


def _floor_factor(recipe: Recipe) -> float:
    """What the learning rate may at most be multiplied down to."""
    return min(1.0, recipe.lr_floor / recipe.lr) if recipe.lr else 1.0

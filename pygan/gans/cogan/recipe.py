"""How CoGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan import data
from pygan.begin import new_state
from pygan.data import Batch, Facts, Feed
from pygan.errors import UserError
from pygan.gans.cogan import model
from pygan.losses import gan_loss
from pygan.nn import INIT_KINDS, Mode, init_weights_
from pygan.ops._autograd import gradients_for
from pygan.ops.philox import new_rng, normal
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

# Numbers in the random stream.
_Z_FOR_D, _Z_FOR_G, _Z_IN_USE, _DIRECTIONS = 1 << 16, (1 << 16) + 1, (1 << 16) + 2, (1 << 16) + 3
_N_DIRECTIONS = 128  # of the projections that `measure` compares
_MEASURED_SIZE = 16  # pixels of the pictures that `measure` compares
_NO_FACTS = Facts()


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """CoGAN, trained as in the authors' PyTorch code. The nets are DCGAN's, or with --form mnist the authors'."""

    form: str = option(
        "comparison",
        "nets: for squares of 32 to 256 pixels, as in CycleGAN's comparison, or the authors' for 28-pixel digits",
        choices=("comparison", "mnist"),
    )
    load_size: int = option(143, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(128, "height and width of the random crop that is trained on", unit="pixels")
    flip: bool = option(True, "mirror half of the images")
    resample: str = option(
        "auto",
        "filter for resizing; auto: bicubic, nearest for label maps",
        choices=("auto", "bicubic", "bilinear", "area", "nearest"),
    )
    input_channels: int = option(0, "channels of A; 0: as in the data", unit="channels")
    output_channels: int = option(0, "channels of B; 0: as in the data", unit="channels")

    z_dim: int = option(100, "length of the noise that both pictures of a pair are made of", unit="values")
    ngf: int = option(64, "comparison: channels in front of G's last layer", unit="channels")
    ndf: int = option(64, "comparison: channels of D's first convolution", unit="channels")
    init: str = option("xavier_uniform", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(math.sqrt(2.0), "gain (normal: standard deviation) of the weights at the beginning")
    init_bias: float = option(0.1, "biases of convolutions at the beginning")
    gan_mode: str = option(
        "softplus", "adversarial loss; softplus: cross-entropy", choices=("softplus", "vanilla", "lsgan")
    )

    batch: int = option(64, "images per step", unit="images")
    steps: int = option(25_000, "length of the training in steps; 0: as --epochs and --decay-epochs say", unit="steps")
    schedule: str = option(
        "const", "learning rate over the epochs", choices=("linear", "const", "linear_jy_old", "linear_torch7")
    )
    weight_decay: float = option(5e-4, "Adam: L2 term added to the gradient")

    translate_steps: int = option(500, "steps of the search for the noise that makes a given picture", unit="steps")
    translate_starts: int = option(4, "places that the search begins at; the best end is taken", unit="places")
    translate_lr: float = option(0.1, "learning rate of the search")

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"input_channels": 0, "output_channels": 0, "z_dim": 1, "ngf": 1, "ndf": 1, "init_gain": 0.0}
        least |= {"translate_steps": 1, "translate_starts": 1, "translate_lr": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        sizes = (model.MNIST_SIZE,) if self.form == "mnist" else (32, 64, 128, 256)
        if self.crop_size not in sizes:
            raise UserError(
                f"--crop-size must be {' or '.join(map(str, sizes))} with --form {self.form}, got {self.crop_size}"
            )
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "mnist": {
        "form": "mnist", "load_size": 28, "crop_size": 28, "flip": False, "input_channels": 1, "output_channels": 1,
        "steps": 5000,
    },
    "fast": {"amp": True},
    "demo": {
        "load_size": 36, "crop_size": 32, "ngf": 32, "ndf": 32, "batch": 32, "steps": 1500, "translate_steps": 200,
        "ema_half_life_images": 3200.0, "sample_every_images": 8000, "checkpoint_every_images": 16_000,
        "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 36, "crop_size": 32, "ngf": 8, "ndf": 8, "z_dim": 8, "batch": 2, "steps": 0, "epochs": 2,
        "decay_epochs": 2, "translate_steps": 5, "translate_starts": 2, "data_images": 8, "sample_images": 2,
        "eval_images": 2, "sample_every_images": 8, "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError if a number of channels was asked for that the data does not have.
    """
    return fitted(recipe, input_channels=facts.channels[0], output_channels=facts.channels[1])


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers and random numbers of a new run. The weights depend on the recipe alone, not on the device."""
    begin_ = partial(_begin_, recipe=recipe)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_)


def _begin_(net: nn.Module, recipe: Recipe, generator: torch.Generator) -> None:
    init_weights_(net, recipe.init, recipe.init_gain, generator, norm_std=0.0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            module.bias.fill_(recipe.init_bias)
        elif isinstance(module, model.PReLU):
            module.slope.fill_(module.BEGIN)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Pictures of both domains, drawn independently, for training ("train") or the others ("held-out")."""
    return data.unpaired_feed(recipe, split, device, rank, world)


def example(recipe: Recipe, device: torch.device | str = "meta") -> Batch:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    return Batch(*(data.empty_images(recipe.batch, c, recipe.crop_size, device) for c in _channels(recipe)))


def step(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """One iteration (Liu & Tuzel 2016, equation 3; order and noise as in their code): both Ds, then both Gs.

    Returns 0-d tensors for the logs. A loss is the mean over both domains.
    """
    G, D = state.G, state.D
    A, B = batch  # (n, c_a, h, w), (n, c_b, h, w) in [-1, 1], with nothing to do with each other
    n = A.shape[0]

    # Discriminators: real logits up, fake logits down. Real and fake in one batch, each with its own statistics.
    with torch.no_grad():
        fake_A, fake_B = G(normal(state.rng, _Z_FOR_D, (n, recipe.z_dim), dtype=A.dtype))
    logits = D(torch.cat((A, fake_A)), torch.cat((B, fake_B)), Mode(groups=2))  # real A, real B, fake A, fake B
    judged = gan_loss(logits, mode=recipe.gan_mode, side="D", n_real=2 * n)
    update(state, "D", judged.loss)

    # Generators: fake logits up, with other noise. Both pictures of a pair come from one z.
    fake_A, fake_B = G(normal(state.rng, _Z_FOR_G, (n, recipe.z_dim), dtype=A.dtype))
    fooled = gan_loss(D(fake_A, fake_B), mode=recipe.gan_mode, side="G")
    update(state, "G", fooled.loss)

    end_step_(state, recipe)
    state.show(fake=fake_B, real=B, fake_A=fake_A, real_A=A)
    logs = {"loss/G": fooled.loss, "loss/D": judged.loss, "loss/D_real": judged.real, "loss/D_fake": judged.fake}
    logs |= {"logit/real": judged.logit_real, "logit/fake": judged.logit_fake}
    return {name: value.detach() for name, value in logs.items()}


def latent(recipe: Recipe, rng: Tensor, n: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The noise z of n pictures as `generate` draws it: (n, z_dim) from N(0, 1); rng: int64[2] {seed, offset}."""
    return normal(rng, _Z_IN_USE, (n, recipe.z_dim), dtype=dtype)


def prior(recipe: Recipe) -> str:
    """The distribution of z."""
    return "normal"


def _pairs(G: nn.Module, recipe: Recipe, n: int, rng: Tensor | None, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """n pairs of pictures, each of one z; running statistics, so that no pair depends on another."""
    if z is None:
        weight = next(G.parameters())
        rng = new_rng(recipe.seed, weight.device) if rng is None else rng
        z = latent(recipe, rng, n, dtype=weight.dtype)
    return G(z, Mode(statistics="running"))


@torch.no_grad()
def sample(G: nn.Module, recipe: Recipe, batch: Batch, rng: Tensor | None = None) -> dict[str, Tensor]:
    """Columns of a picture grid, {"A": (n, c_a, h, w), "B": (n, c_b, h, w)} in [-1, 1]; a row comes from one z.

    n: of the batch, which plays no other part. rng: int64[2] on the device {seed, offset}; without one the recipe's
    seed decides, the same each time.
    """
    A, B = _pairs(G, recipe, batch.A.shape[0], rng)
    return {"A": A, "B": B}


@torch.no_grad()
def generate(G: nn.Module, recipe: Recipe, n: int, rng: Tensor | None = None, *, z: Tensor | None = None) -> Tensor:
    """n pairs, A at the left of B, (n, c, h, 2w) in [-1, 1]; c of the one that has more. rng: as in `sample`.

    z: the noise (n, z_dim) itself, on the device, in place of what rng would draw (`latent`).
    """
    A, B = _pairs(G, recipe, n, rng, z)
    channels = max(A.shape[1], B.shape[1])  # a grey picture beside a colour one becomes one
    return torch.cat([x.expand(-1, channels, -1, -1) if x.shape[1] == 1 else x for x in (A, B)], dim=3)


def translate(G: nn.Module, recipe: Recipe, A: Tensor, rng: Tensor | None = None, *, direction: str = "AtoB") -> Tensor:
    """The pictures of the other domain that belong to A: (n, c, h, w) in [-1, 1].

    The z whose picture is nearest to A in the mean square is searched for (Liu & Tuzel 2016, 4, "cross-domain image
    transformation"), by Adam from `translate_starts` places, for each picture by itself; then the other domain's
    picture of it is painted. A: (n, c, h, w) in [-1, 1] of the domain that `direction` ("AtoB" or "BtoA") begins at, h
    and w multiples of `G.multiple`; a larger picture than trained on is taken tile by tile. rng: int64[2] {seed,
    offset} on the device, of the places; None: the recipe's seed.
    """
    if direction not in ("AtoB", "BtoA"):
        raise ValueError(f'direction must be "AtoB" or "BtoA", got {direction!r}')
    n, c, height, width = A.shape
    size = recipe.crop_size
    if height % size or width % size:
        raise ValueError(f"height and width of A must be multiples of {size}, got {height}x{width}")
    rng = new_rng(recipe.seed, A.device) if rng is None else rng
    tiles = A.view(n, c, height // size, size, width // size, size).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, size, size)
    tiles = _search(G, recipe, tiles, rng, direction[0], direction[-1])
    tiles = tiles.reshape(n, height // size, width // size, -1, size, size)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(n, -1, height, width)


def _search(G: nn.Module, recipe: Recipe, image: Tensor, rng: Tensor, source: str, target: str) -> Tensor:
    """The pictures of the domain `target` for those of `source`, (n, c, size, size)."""
    n, starts = image.shape[0], recipe.translate_starts
    mode = Mode(statistics="running")
    with torch.inference_mode(mode=False):
        wanted = image.clone()[:, None]  # (n, 1, c, h, w); a clone, as an inference tensor cannot be learned from
        begin = normal(rng.clone(), _Z_IN_USE, (starts, recipe.z_dim), dtype=image.dtype)
        z = begin.repeat(n, 1).requires_grad_()  # (n starts, z_dim): for each picture the same places
    with torch.inference_mode(mode=False), torch.enable_grad(), gradients_for([z]):
        opt = torch.optim.Adam([z], lr=recipe.translate_lr)
        for _ in range(recipe.translate_steps):
            distance = _distance(G.paint(G.features(z, mode), source, image.dtype), wanted)
            (z.grad,) = torch.autograd.grad(distance.sum(), z)
            opt.step()
    with torch.no_grad():
        features = G.features(z.detach(), mode)
        best = _distance(G.paint(features, source, image.dtype), wanted).argmin(dim=1)  # (n,)
        rows = torch.arange(n, device=image.device) * starts + best
        return G.paint(features.index_select(0, rows), target, image.dtype)


def _distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squares (n, starts) of found (n starts, c, h, w) from wanted (n, 1, c, h, w)."""
    n = wanted.shape[0]
    return (found.view(n, -1, *found.shape[1:]) - wanted).square().mean(dim=(2, 3, 4))


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Batch, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """How far generated pictures are from held-out ones, 0-d: `sliced` of both domains, sliced_A, sliced_B.

    The sliced Wasserstein distance in grey levels of 255 per pixel: pictures of 16x16 pixels are projected on random
    directions (the same each time), and what is sorted of one kind is compared with what is sorted of the other.
    """
    fakes = _pairs(nets["G"], recipe, batch.A.shape[0], rng)
    distances = [_sliced(real, fake) for real, fake in zip(batch, fakes, strict=True)]
    return {"sliced": (distances[0] + distances[1]) / 2, "sliced_A": distances[0], "sliced_B": distances[1]}


def _sliced(real: Tensor, fake: Tensor) -> Tensor:
    """0-d distance of two sets of n pictures (n, c, h, w) in [-1, 1], in grey levels."""
    a, b = (F.adaptive_avg_pool2d(x.double(), _MEASURED_SIZE).flatten(1) for x in (real, fake))  # (n, d)
    fixed = torch.zeros(2, dtype=torch.int64, device=a.device)
    directions = normal(fixed, _DIRECTIONS, (a.shape[1], _N_DIRECTIONS), dtype=a.dtype)
    directions = directions / torch.linalg.vector_norm(directions, dim=0)
    moved = (a @ directions).sort(dim=0).values - (b @ directions).sort(dim=0).values  # (n, directions)
    return moved.square().mean().sqrt() * 127.5


def generator(recipe: Recipe) -> model.Generators:
    """Both Gs of a recipe, with PyTorch's weights or none (under a meta device)."""
    if recipe.form == "mnist":
        return model.mnist_generators(*_channels(recipe), z_dim=recipe.z_dim)
    return model.generators(*_channels(recipe), size=recipe.crop_size, z_dim=recipe.z_dim, ngf=recipe.ngf)


def discriminator(recipe: Recipe) -> model.Discriminators:
    """Both Ds of a recipe, with PyTorch's weights or none (under a meta device)."""
    if recipe.form == "mnist":
        return model.mnist_discriminators(*_channels(recipe))
    return model.discriminators(*_channels(recipe), size=recipe.crop_size, ndf=recipe.ndf)


def _channels(recipe: Recipe) -> tuple[int, int]:
    """Of A and B; those left open become those of photographs."""
    return recipe.input_channels or 3, recipe.output_channels or 3

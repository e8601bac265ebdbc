"""How GAN-INT-CLS is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pygan import data, metrics
from pygan.begin import new_state
from pygan.data import Captioned, CaptionedWrong, Facts, Feed
from pygan.errors import UserError
from pygan.gans.gan_int_cls import model
from pygan.losses import gan_term, loss_sum
from pygan.nn import Mode, init_weights_
from pygan.ops.philox import new_rng, normal
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

_NO_FACTS = Facts()
_TEXT_DIM = 1024  # of the authors' embeddings, where neither recipe nor data say anything
_D_STREAM, _G_STREAM, _USE_STREAM = 1 << 16, (1 << 16) + 1, (1 << 16) + 2  # noise for D's update, for G's, in use


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """GAN-INT-CLS. The defaults are those of the authors' code (Reed et al. 2016, 5)."""

    batch: int = option(64, "images per step", unit="images")
    epochs: int = option(600, "passes over the images", unit="epochs")
    decay_epochs: int = option(0, "more of them", unit="epochs")
    schedule: str = option(
        "halving", "learning rate: halved every --halve-every epochs, or constant", choices=("halving", "const")
    )
    halve_every: int = option(100, "schedule halving: the learning rate is halved this often", unit="epochs")

    load_size: int = option(76, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(64, "height and width of the pictures: a power of two, at least 16", unit="pixels")
    flip: bool = option(True, "mirror half of the images")
    resample: str = option(
        "auto",
        "filter for resizing; auto: bicubic",
        choices=("auto", "bicubic", "bilinear", "area", "nearest"),
    )
    text_encoder: str = option(
        "auto", "makes numbers of captions; auto: embeddings that come with the data, else hashing; or a model's folder"
    )
    captions_per_image: str = option(
        "mean4", "text of a picture: one of its captions, or the mean embedding of four", choices=("one", "mean4")
    )

    channels: int = option(0, "channels of a picture, 1 or 3; 0: as in the data", unit="channels")
    text_dim: int = option(0, "length of a text's embedding; 0: as in the data", unit="values")
    c_dim: int = option(128, "values that a text is reduced to in each net", unit="values")
    z_dim: int = option(100, "length of the noise, from N(0, 1)", unit="values")
    ngf: int = option(128, "channels of G's last map", unit="channels")
    ndf: int = option(64, "channels of D's first map", unit="channels")
    init_gain: float = option(0.02, "standard deviation of the weights at the beginning")

    cls_weight: float = option(
        0.5, "CLS: part of D's two negative losses that real pictures with wrong texts have; 0: off, none are shown"
    )
    int_weight: float = option(1.0, "INT: weight of interpolated texts beside the others in G; 0: off, none are made")
    int_beta: float = option(0.5, "INT: part of the first of the two texts in their mixture")

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"crop_size": 16, "channels": 0, "text_dim": 0, "c_dim": 1, "z_dim": 1, "ngf": 1, "ndf": 1}
        least |= {"init_gain": 0.0, "int_weight": 0.0, "halve_every": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        for name in ("cls_weight", "int_beta"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"{flag(name)} must be in [0, 1], got {getattr(self, name)}")
        if self.crop_size & (self.crop_size - 1):
            below = 1 << (self.crop_size.bit_length() - 1)
            raise UserError(
                f"--crop-size must be a power of two such as {below} or {2 * below}, got {self.crop_size}: "
                f"each level of the networks doubles it"
            )
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        if self.int_weight and self.batch < 2:
            raise UserError("--batch must be at least 2 to interpolate between texts, got 1; or set --int-weight 0")


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "gan": {"cls_weight": 0.0, "int_weight": 0.0},
    "gan-cls": {"int_weight": 0.0},
    "gan-int": {"cls_weight": 0.0},
    "gan-int-cls": {},
    "fast": {"batch": 128, "amp": True, "ema_half_life_images": 10_000.0},
    "demo": {
        "load_size": 36, "crop_size": 32, "ngf": 32, "ndf": 32, "z_dim": 16, "c_dim": 64, "batch": 16, "epochs": 100,
        "flip": False,  # captions say what is left and right
        "captions_per_image": "one", "halve_every": 60, "ema_half_life_images": 1000.0,
        "checkpoint_every_images": 4000, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 18, "crop_size": 16, "ngf": 8, "ndf": 8, "z_dim": 4, "c_dim": 8, "batch": 4, "epochs": 4,
        "data_images": 8, "sample_images": 4, "eval_images": 4, "sample_every_images": 8,
        "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError for a number of channels or a length of embeddings that the data does not have.
    """
    found = {"channels": facts.channels[0], "text_dim": facts.text_dim or recipe.text_dim or _TEXT_DIM}
    return fitted(recipe, **found)


def lr_factor(recipe: Recipe, epoch: int, step: int) -> float:
    """What to multiply the recipe's lr by in `epoch` (1-based): 1/2 to the power of floor(epoch / halve_every).

    So the first halving comes one epoch early, as in the authors' code. The number of steps done plays no part.
    """
    return 0.5 ** (epoch // recipe.halve_every) if recipe.schedule == "halving" else 1.0


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers and random numbers of a new run. The weights depend on the recipe alone.

    Weights N(0, init_gain), norm scales N(1, init_gain), biases 0.
    """
    begin_ = partial(init_weights_, kind="normal", gain=recipe.init_gain)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """The captioned pictures of one split ("train" or "held-out"); beside wrong ones where D is shown some."""
    return data.captioned_feed(recipe, split, device, rank, world, wrong=recipe.cls_weight > 0)


def example(recipe: Recipe, device: torch.device | str = "meta") -> Captioned | CaptionedWrong:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    image = data.empty_images(recipe.batch, recipe.channels or 3, recipe.crop_size, device)
    text = torch.empty((recipe.batch, recipe.text_dim or _TEXT_DIM), device=device)
    return CaptionedWrong(image, torch.empty_like(image), text) if recipe.cls_weight else Captioned(image, text)


def step(state: State, recipe: Recipe, batch: Captioned | CaptionedWrong) -> dict[str, Tensor]:
    """One iteration (Reed et al. 2016, algorithm 1), D then G, each with pictures from its own noise.

    Returns 0-d tensors for the logs. The parts of loss/D and loss/G are logged without their weights: loss/D_real,
    loss/D_wrong (with CLS), loss/D_fake, loss/G_text, loss/G_int (with INT).
    """
    G, D = state.G, state.D
    real, text = batch.image, batch.text  # (n, c, h, w) in [-1, 1], (n, d)
    n, dtype = real.shape[0], next(G.parameters()).dtype

    # Discriminator: logits of real pictures with their texts up; of wrong pictures, and of G's, down. One batch of n
    # real, n wrong and n painted ones, each with its own statistics.
    with torch.no_grad():
        fake = G(normal(state.rng, _D_STREAM, (n, recipe.z_dim), dtype=dtype), text)
    shown = (real, batch.wrong, fake) if recipe.cls_weight else (real, fake)
    groups = len(shown)
    logits = D(torch.cat(shown), text.repeat(groups, 1), Mode(groups=groups))  # (groups n, 1, 1, 1)
    terms = {"real": gan_term(logits[:n], mode="softplus", side="D", n_real=n)}
    if recipe.cls_weight:
        terms["wrong"] = gan_term(logits[n : 2 * n], mode="softplus", side="D", n_real=0, weight=recipe.cls_weight)
    terms["fake"] = gan_term(logits[-n:], mode="softplus", side="D", n_real=0, weight=1.0 - recipe.cls_weight)
    loss_D, parts = loss_sum(*terms.values())
    judged = dict(zip(terms, parts, strict=True))
    update(state, "D", loss_D)

    # Generator: logits of new pictures up, for the texts and for mixtures of the first half of them with the second
    # (equation 5). All in one batch, and the loss is a mean over it.
    texts = torch.cat((text, _mixed(recipe, text))) if recipe.int_weight else text  # (n + n / 2, d)
    count = texts.shape[0]
    painted = G(normal(state.rng, _G_STREAM, (count, recipe.z_dim), dtype=dtype), texts)
    logits = D(painted, texts)
    fooling = {"text": gan_term(logits[:n], mode="softplus", side="G", weight=n / count)}
    if recipe.int_weight:
        weight = recipe.int_weight * (count - n) / count
        fooling["int"] = gan_term(logits[n:], mode="softplus", side="G", weight=weight)
    loss_G, fooled = loss_sum(*fooling.values())
    update(state, "G", loss_G)

    end_step_(state, recipe)
    state.show(fake=painted[:n], real=real)
    logs = {"loss/G": loss_G, "loss/D": loss_D}
    logs |= {f"loss/G_{name}": part.fake for name, part in zip(fooling, fooled, strict=True)}
    logs |= {f"loss/D_{name}": part.real if name == "real" else part.fake for name, part in judged.items()}
    logs |= {f"logit/{name}": part.logit_real if name == "real" else part.logit_fake for name, part in judged.items()}
    return {name: value.detach() for name, value in logs.items()}


def _mixed(recipe: Recipe, text: Tensor) -> Tensor:
    """Texts half-way between those of the first half of the batch and of the second: (n, d) -> (n / 2, d)."""
    half = text.shape[0] // 2
    return recipe.int_beta * text[:half] + (1.0 - recipe.int_beta) * text[half : 2 * half]


def latent(recipe: Recipe, rng: Tensor, n: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The noise z of n pictures as `generate` draws it: (n, z_dim) from N(0, 1); rng: int64[2] {seed, offset}."""
    return normal(rng, _USE_STREAM, (n, recipe.z_dim), dtype=dtype)


def prior(recipe: Recipe) -> str:
    """The distribution of z."""
    return "normal"


@torch.no_grad()
def generate(
    G: nn.Module,
    recipe: Recipe,
    n: int,
    rng: Tensor | None = None,
    *,
    text: Tensor,
    z: Tensor | None = None,
) -> Tensor:
    """n pictures of n texts, (n, c, h, w) in [-1, 1]; BatchNorm takes its running statistics.

    text: (n, d) on G's device; rng: int64[2] {seed, offset} of the noise, there too; None: the recipe's seed, the same
    pictures every time. z: the noise (n, z_dim) itself in place of what rng would draw (`latent`).
    """
    if text.dim() != 2 or text.shape[0] != n:
        raise ValueError(f"text must have shape (n, d) with n = {n}, got {list(text.shape)}")
    if z is None:
        first = next(G.parameters())
        rng = new_rng(recipe.seed, first.device) if rng is None else rng
        z = latent(recipe, rng, n, dtype=first.dtype)
    return G(z, text, Mode(statistics="running")).clamp(-1.0, 1.0)


def sample(
    G: nn.Module, recipe: Recipe, batch: Captioned | CaptionedWrong, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """Columns for people to look at: a picture of each text, and the picture that the text is of."""
    n = batch.image.shape[0]
    return {"output": generate(G, recipe, n, rng, text=batch.text), "target": batch.image}


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Captioned | CaptionedWrong, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """How good G is, on a held-out batch: 0-d tensors.

    colour_l1, in grey levels, lower is better: how far a picture is from the real one of its text, when both are
    averaged to 8x8 blocks. logit/real, logit/fake: of D with its running statistics.
    """
    G, D = nets["G"], nets["D"]
    fake = generate(G, recipe, batch.image.shape[0], rng, text=batch.text)
    look = Mode(statistics="running")
    return {
        "colour_l1": metrics.colour_l1(fake, batch.image),
        "logit/real": _mean(D(batch.image, batch.text, look)),
        "logit/fake": _mean(D(fake, batch.text, look)),
    }


def _mean(logits: Tensor) -> Tensor:
    return logits.mean(dtype=torch.promote_types(logits.dtype, torch.float32))


def generator(recipe: Recipe) -> model.G:
    """G of a recipe, with PyTorch's weights or none (under a meta device)."""
    return model.G(recipe.channels or 3, z_dim=recipe.z_dim, ngf=recipe.ngf, **_shape(recipe))


def discriminator(recipe: Recipe) -> model.D:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    return model.D(recipe.channels or 3, ndf=recipe.ndf, **_shape(recipe))


def _shape(recipe: Recipe) -> dict[str, int]:
    """What G and D have in common."""
    return {"text_dim": recipe.text_dim or _TEXT_DIM, "c_dim": recipe.c_dim, "size": recipe.crop_size}

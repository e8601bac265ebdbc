"""How GAWWN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan import data, metrics
from pygan.begin import new_state
from pygan.data import Facts, Feed, LocatedCaptioned
from pygan.errors import UserError
from pygan.gans.gawwn import model, place
from pygan.losses import gan_loss, gan_term, loss_sum
from pygan.nn import Mode, init_weights_
from pygan.ops.philox import new_rng, normal
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

_NO_FACTS = Facts()
_TEXT_DIM, _POINTS = 1024, 15  # the authors' embeddings and birds, where neither recipe nor data say anything
_STREAM, _USE_STREAM = 1 << 16, (1 << 16) + 1  # numbers in the random stream: noise of a step, and in use
_MIDDLE = (0.125, 0.125, 0.75, 0.75)  # the box of a picture for which none was given


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """GAWWN. The defaults are those of the authors' code (Reed et al. 2016, 5)."""

    batch: int = option(16, "images per step", unit="images")
    epochs: int = option(600, "passes over the images", unit="epochs")
    decay_epochs: int = option(0, "more of them", unit="epochs")
    schedule: str = option(
        "halving", "learning rate: halved every --halve-every epochs, or constant", choices=("halving", "const")
    )
    halve_every: int = option(100, "schedule halving: the learning rate is halved this often", unit="epochs")

    load_size: int = option(150, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(128, "height and width of the pictures: a power of two, at least 32", unit="pixels")
    flip: bool = option(True, "mirror half of the images, and what is where in them")
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

    where: str = option("box", "what is given beside the text: a bounding box, or key points", choices=model.WHERE)
    keypoints: int = option(0, "where keypoints: how many a picture has; 0: as in the data", unit="points")
    channels: int = option(0, "channels of a picture, 1 or 3; 0: as in the data", unit="channels")
    text_dim: int = option(0, "length of a text's embedding; 0: as in the data", unit="values")
    c_dim: int = option(128, "values that a text is reduced to in D", unit="values")
    z_dim: int = option(100, "length of the noise, from N(0, 1)", unit="values")
    ngf: int = option(128, "width of G, in whose multiples its maps are", unit="channels")
    ndf: int = option(128, "width of D, in whose multiples its maps are", unit="channels")
    d_vector_norm: bool = option(
        True, "BatchNorm also where a picture is one vector in D, as in the authors' code; off: small Ds learn sooner"
    )
    init_gain: float = option(0.02, "standard deviation of the weights at the beginning")

    cls_weight: float = option(
        0.5, "part of D's two negative losses that wrong pairs of pictures and texts have; 0: off, none are shown"
    )
    wrong: str = option(
        "text",
        "a wrong pair: the picture and its place with another's text, or another picture with the text and the place",
        choices=("text", "image"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"crop_size": 2 * place.CELLS, "keypoints": 0, "channels": 0, "text_dim": 0, "c_dim": 1, "z_dim": 1}
        least |= {"ngf": 1, "ndf": 1, "init_gain": 0.0, "halve_every": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if not 0.0 <= self.cls_weight <= 1.0:
            raise UserError(f"--cls-weight must be in [0, 1], got {self.cls_weight}")
        if self.crop_size & (self.crop_size - 1):
            below = 1 << (self.crop_size.bit_length() - 1)
            raise UserError(
                f"--crop-size must be a power of two such as {below} or {2 * below}, got {self.crop_size}: "
                f"each level of the networks doubles it"
            )
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        if self.where != "keypoints" and self.keypoints:
            raise UserError(f"--keypoints {self.keypoints} is for --where keypoints, not --where {self.where}")
        if self.cls_weight and self.wrong == "text" and self.batch < 2:
            raise UserError("--batch must be at least 2 for texts of other pictures, got 1; or take --wrong image")


# Small enough for two CPU cores.
_DEMO = {
    "load_size": 36, "crop_size": 32, "ngf": 16, "ndf": 16, "z_dim": 16, "c_dim": 64, "epochs": 40, "lr": 4e-4,
    "flip": False,  # captions say what is left and right
    "halve_every": 30, "captions_per_image": "one", "d_vector_norm": False, "ema_half_life_images": 1000.0,
    "checkpoint_every_images": 4000, "max_minutes": 5.0,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "keypoints": {"where": "keypoints"},
    "fast": {"batch": 64, "amp": True, "ema_half_life_images": 10_000.0},
    "demo": _DEMO,
    "demo-keypoints": {**_DEMO, "where": "keypoints"},
    "tiny": {
        "load_size": 36, "crop_size": 32, "ngf": 4, "ndf": 4, "z_dim": 4, "c_dim": 8, "batch": 4, "epochs": 4,
        "data_images": 8, "sample_images": 4, "eval_images": 4, "sample_every_images": 8,
        "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError for a number of channels, of key points or a length of embeddings that the data does not have.
    """
    found = {"channels": facts.channels[0], "text_dim": facts.text_dim or recipe.text_dim or _TEXT_DIM}
    if recipe.where == "keypoints":
        found["keypoints"] = facts.where[0] if len(facts.where) == 2 else recipe.keypoints or _POINTS
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
    """The captioned pictures of one split ("train" or "held-out"), wrong ones beside them, and what is where."""
    return data.captioned_feed(recipe, split, device, rank, world, wrong=True)


def example(recipe: Recipe, device: torch.device | str = "meta") -> LocatedCaptioned:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    n = recipe.batch
    image = data.empty_images(n, recipe.channels or 3, recipe.crop_size, device)
    where = (n, 4) if recipe.where == "box" else (n, _points(recipe), 3)
    text = torch.empty((n, recipe.text_dim or _TEXT_DIM), device=device)
    return LocatedCaptioned(image, torch.empty_like(image), text, torch.empty(where, device=device))


def step(state: State, recipe: Recipe, batch: LocatedCaptioned) -> dict[str, Tensor]:
    """One iteration, D then G, with one set of painted pictures (the losses of Reed et al., ICML 2016).

    Returns 0-d tensors for the logs. The parts of loss/D are logged without their weights: loss/D_real, loss/D_wrong,
    loss/D_fake.
    """
    G, D = state.G, state.D
    real, text, where = batch.image, batch.text, batch.where  # (n, c, h, w), (n, d), (n, 4) or (n, k, 3)
    n = real.shape[0]
    z = normal(state.rng, _STREAM, (n, recipe.z_dim), dtype=next(G.parameters()).dtype)
    fake = G(z, text, where)

    # Discriminator: logits of real pictures with their texts and places up; of wrong pairs, and of painted pictures,
    # down. One batch of n of each, each with its own statistics.
    shown = [("real", real, text)]
    if recipe.cls_weight:
        other = recipe.wrong == "text"
        shown.append(("wrong", real, text.roll(1, 0)) if other else ("wrong", batch.wrong, text))
    shown.append(("fake", fake.detach(), text))
    names, images, texts = zip(*shown, strict=True)
    groups = len(shown)
    places = where.repeat(groups, *[1] * (where.dim() - 1))
    logits = D(torch.cat(images), torch.cat(texts), places, Mode(groups=groups))  # (groups n, 1, 1, 1)
    weights = {"real": 1.0, "wrong": recipe.cls_weight, "fake": 1.0 - recipe.cls_weight}
    terms = (
        gan_term(part, mode="softplus", side="D", n_real=n if name == "real" else 0, weight=weights[name])
        for name, part in zip(names, logits.split(n), strict=True)
    )
    loss_D, parts = loss_sum(*terms)
    update(state, "D", loss_D)

    # Generator: the new D's logits of the same pictures up.
    fooled = gan_loss(D(fake, text, where), mode="softplus", side="G")
    update(state, "G", fooled.loss)

    end_step_(state, recipe)
    state.show(fake=fake, real=real)
    logs = {"loss/G": fooled.loss, "loss/D": loss_D}
    for name, part in zip(names, parts, strict=True):
        logs[f"loss/D_{name}"] = part.real if name == "real" else part.fake
        logs[f"logit/{name}"] = part.logit_real if name == "real" else part.logit_fake
    return {name: value.detach() for name, value in logs.items()}


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
    where: Tensor | None = None,
    z: Tensor | None = None,
) -> Tensor:
    """n pictures of n texts, (n, c, h, w) in [-1, 1]; BatchNorm takes its running statistics.

    text: (n, d) on G's device; where: boxes (n, 4) or key points (n, k, 3) as in `LocatedCaptioned`, there too; None: a
    box of three quarters of the picture in its middle, or no point that can be seen. rng: int64[2] {seed, offset} of
    the noise; None: the recipe's seed, the same pictures every time. z: the noise (n, z_dim) itself in place of what
    rng would draw (`latent`).
    """
    if text.dim() != 2 or text.shape[0] != n:
        raise ValueError(f"text must have shape (n, d) with n = {n}, got {list(text.shape)}")
    shape = (n, 4) if recipe.where == "box" else (n, _points(recipe), 3)
    first = next(G.parameters())
    if where is None:
        where = torch.zeros(shape, dtype=first.dtype, device=first.device)
        if recipe.where == "box":
            where += torch.tensor(_MIDDLE, dtype=first.dtype, device=first.device)
    if where.shape != shape:
        raise ValueError(f"where must have shape {list(shape)}, got {list(where.shape)}")
    if z is None:
        rng = new_rng(recipe.seed, first.device) if rng is None else rng
        z = latent(recipe, rng, n, dtype=first.dtype)
    return G(z, text, where, Mode(statistics="running")).clamp(-1.0, 1.0)


def sample(G: nn.Module, recipe: Recipe, batch: LocatedCaptioned, rng: Tensor | None = None) -> dict[str, Tensor]:
    """Columns for people to look at: the place, a picture of each text there, and the picture that both are of."""
    output = generate(G, recipe, batch.image.shape[0], rng, text=batch.text, where=batch.where)
    return {"input": draw(recipe, batch.where).to(output.dtype), "output": output, "target": batch.image}


def draw(recipe: Recipe, where: Tensor) -> Tensor:
    """Places as pictures (n, channels, crop_size, crop_size): white in the box or at the points, black elsewhere."""
    maps = place.point_maps(where).amax(dim=1, keepdim=True) if recipe.where == "keypoints" else _inside(where)
    white = F.interpolate(maps, size=(recipe.crop_size,) * 2, mode="nearest")  # (n, 1, h, w)
    return (white * 2 - 1).expand(-1, recipe.channels or 3, -1, -1)


def _inside(box: Tensor) -> Tensor:
    """(n, 1, 16, 16): 1 in the cells whose middle is in the box."""
    return (place.covered(place.paste(box)) > 0.5).to(box.dtype)


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: LocatedCaptioned, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """How good G is, on a held-out batch: 0-d tensors.

    colour_l1, in grey levels, lower is better: how far a picture is from the real one of its text and place, when both
    are averaged to 8x8 blocks. logit/real, logit/fake: of D with its running statistics.
    """
    G, D = nets["G"], nets["D"]
    fake = generate(G, recipe, batch.image.shape[0], rng, text=batch.text, where=batch.where)
    look = Mode(statistics="running")
    return {
        "colour_l1": metrics.colour_l1(fake, batch.image),
        "logit/real": _mean(D(batch.image, batch.text, batch.where, look)),
        "logit/fake": _mean(D(fake, batch.text, batch.where, look)),
    }


def _mean(logits: Tensor) -> Tensor:
    return logits.mean(dtype=torch.promote_types(logits.dtype, torch.float32))


def generator(recipe: Recipe) -> model.BoxG | model.PointG:
    """G of a recipe, with PyTorch's weights or none (under a meta device)."""
    shape = {"z_dim": recipe.z_dim, "ngf": recipe.ngf, **_shape(recipe)}
    return model.BoxG(**shape) if recipe.where == "box" else model.PointG(points=_points(recipe), **shape)


def discriminator(recipe: Recipe) -> model.BoxD | model.PointD:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    shape = {"c_dim": recipe.c_dim, "ndf": recipe.ndf, **_shape(recipe)}
    shape["vector_norm"] = "batch" if recipe.d_vector_norm else "none"
    return model.BoxD(**shape) if recipe.where == "box" else model.PointD(points=_points(recipe), **shape)


def _points(recipe: Recipe) -> int:
    return recipe.keypoints or _POINTS


def _shape(recipe: Recipe) -> dict[str, int]:
    """What G and D have in common."""
    return {"channels": recipe.channels or 3, "text_dim": recipe.text_dim or _TEXT_DIM, "size": recipe.crop_size}

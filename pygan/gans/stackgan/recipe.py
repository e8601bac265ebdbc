"""How StackGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan import checkpoint, data, metrics, optim
from pygan.begin import new_state
from pygan.data import Captioned, CaptionedWrong, Facts, Feed
from pygan.errors import UserError
from pygan.gans.stackgan import model
from pygan.losses import gan_term, loss_sum
from pygan.nets.text import kl_to_standard_normal
from pygan.nn import INIT_KINDS, TRAIN, Mode, init_weights_
from pygan.ops import philox
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, flag, option
from pygan.state import State

_NO_FACTS = Facts()
_USUAL_TEXT_DIM = 1024  # of the published char-CNN-RNN embeddings
_SIZES = {"1": 64, "2": 256, "both": 256}  # pixels of the pictures that a stage ends with
_Z, _EPS_1, _EPS_2 = 1, 2, 3  # numbers in the random stream: z, and eps of the stages
_AGAIN = 8  # added to them for a second draw in the same step


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """StackGAN. The defaults are those of the authors' PyTorch code with the widths of the paper's birds.

    With `--stage both` the plain flags are stage I's where a flag of the same name ending in -2 is there for stage II.
    """

    stage: str = option(
        "both", "what is trained: the sketches (1), the finished pictures (2), or one after the other (both)",
        choices=("both", "1", "2"),
    )  # fmt: skip
    stage1: str = option("", "--stage 2: run directory or G.safetensors that stage I is taken from", session=True)

    load_size: int = option(0, "height and width that pictures are resized to; 0: 19/16 of the crop", unit="pixels")
    crop_size: int = option(
        0, "height and width of the finished pictures; 0: 64 for --stage 1, else 256", unit="pixels"
    )
    low_size: int = option(64, "height and width of the sketches below a stage II", unit="pixels")
    flip: bool = option(True, "mirror half of the pictures")
    resample: str = option(
        "auto", "filter for resizing; auto: bicubic", choices=("auto", "bicubic", "bilinear", "area", "nearest")
    )
    text_encoder: str = option(
        "auto",
        "what turns captions into numbers: a sentence-transformers model by name or folder; auto: the embeddings that "
        "come with the set, else hashed words",
    )
    captions_per_image: str = option(
        "one", "a random caption of each picture, or the mean embedding of four", choices=("one", "mean4")
    )
    text_dim: int = option(0, "length of a caption's embedding; 0: as in the data", unit="values")

    batch: int = option(64, "images per step", unit="images")
    batch_2: int = option(0, "--stage both: images per step of stage II; 0: as --batch", unit="images")
    epochs: int = option(600, "passes over the data", unit="epochs")
    epochs_2: int = option(0, "--stage both: passes of stage II; 0: as --epochs", unit="epochs")
    decay_epochs: int = option(0, "passes while the learning rate falls as --schedule says", unit="epochs")
    steps_2: int = option(0, "--stage both: length of stage II in steps; 0: as --steps", unit="steps")
    halve_every: int = option(100, "the learning rate is halved this often; 0: never", unit="epochs")
    halve_every_2: int = option(0, "--stage both: the same for stage II; 0: as --halve-every", unit="epochs")

    arch: str = option("pytorch", "networks of the authors' PyTorch or TensorFlow code (tf)", choices=("pytorch", "tf"))
    gf: int = option(128, "width of G: an eighth of the channels of its first map", unit="channels")
    df: int = option(64, "channels of D's first convolution", unit="channels")
    c_dim: int = option(128, "length of the condition c that G and D see of a text", unit="values")
    z_dim: int = option(100, "length of the noise", unit="values")
    r: int = option(4, "residual blocks of stage II; the paper has 2 for 128 pixels", unit="blocks")
    init: str = option("normal", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")

    cond_augmentation: bool = option(True, "c is drawn around what the text says; off: it is what the text says")
    ca_act: str = option("lrelu", "activation of mu and log sigma^2", choices=("lrelu", "relu"))
    text_twice: bool = option(True, "stage II reads the text too")
    lambda_kl: float = option(2.0, "weight of the divergence of c from N(0, 1) in G")
    kl_reduction: str = option("mean", "the divergence over the values of c", choices=("mean", "sum"))
    use_wrong_pairs: bool = option(True, "D also learns that a picture with another's text is wrong")
    wrong_pairs: str = option(
        "next",
        "which: each picture with the text of the next in the batch, or each text with another picture, of another "
        "class where there are classes",
        choices=("next", "other"),
    )
    redraw: bool = option(False, "G is updated on new noise instead of the pictures that D has just seen")

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"batch": 2, "gf": 4, "df": 4, "c_dim": 1, "z_dim": 1, "r": 0, "text_dim": 0, "load_size": 0}
        least |= {"crop_size": 0, "batch_2": 0, "epochs_2": 0, "steps_2": 0, "halve_every": 0, "halve_every_2": 0}
        least |= {"init_gain": 0.0, "lambda_kl": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                why = ": BatchNorm has no statistics of one picture" if name == "batch" else ""
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}{why}")
        if self.batch_2 == 1:
            raise UserError("--batch-2 must be 0 or at least 2, got 1: BatchNorm has no statistics of one picture")
        if self.stage1 and self.stage != "2":
            raise UserError(f"--stage1 is for --stage 2 alone, not --stage {self.stage}; leave it out")
        _check_sizes(self)


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "oxford": {},  # the flowers are trained as the birds are
    "coco": {
        "gf": 192, "df": 96, "r": 2, "batch": 128, "batch_2": 40, "epochs": 120, "epochs_2": 100, "halve_every": 20,
    },
    "tf": {
        "arch": "tf", "init": "truncated", "captions_per_image": "mean4", "wrong_pairs": "other", "redraw": True,
        "halve_every": 50, "halve_every_2": 100,
    },
    "no-ca": {"cond_augmentation": False},
    "text-once": {"text_twice": False},
    "one-stage": {"stage": "1", "crop_size": 256},
    "fast": {"amp": True, "batch": 128, "batch_2": 64},
    "demo": {
        "arch": "tf", "crop_size": 64, "low_size": 32, "gf": 32, "df": 32, "c_dim": 32, "z_dim": 32, "r": 1,
        "flip": False,  # captions say what is left and right
        "captions_per_image": "mean4", "lambda_kl": 0.1, "batch": 16, "steps": 1800, "steps_2": 2000, "lr": 4e-4,
        "load_size": 64, "data_images": 2000, "halve_every": 0, "ema_half_life_images": 320.0,
        "checkpoint_every_images": 3200, "max_minutes": 9.0,
    },
    "tiny": {
        "crop_size": 32, "low_size": 16, "gf": 4, "df": 4, "c_dim": 4, "z_dim": 4, "r": 1, "batch": 2, "epochs": 2,
        "data_images": 8, "sample_images": 2, "eval_images": 2, "sample_every_images": 8, "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the stage or to the data; a resolved one comes back as it is.

    Errors: UserError if an embedding of another length was asked for than the data has.
    """
    if recipe.text_dim and facts.text_dim and recipe.text_dim != facts.text_dim:
        raise UserError(
            f"--text-dim is {recipe.text_dim}, but captions of the data have {facts.text_dim} values; leave it out"
        )
    return dataclasses.replace(_sized(recipe), text_dim=facts.text_dim or _text_dim(recipe))


def phases(recipe: Recipe) -> tuple[Recipe, ...]:
    """What is trained one after the other: the recipes of both stages, or the one stage that was asked for.

    Errors: UserError if stage II is asked for without the stage I that it paints over.
    """
    if recipe.stage == "2" and not recipe.stage1:
        raise UserError(
            "--stage 2 needs a trained stage I: give its run directory or G.safetensors with --stage1, "
            "or train both with --stage both"
        )
    recipe = _sized(recipe)
    if recipe.stage != "both":
        return (recipe,)
    low = recipe.low_size
    low_load = max(low, round(recipe.load_size * low / recipe.crop_size))
    second = {name.removesuffix("_2"): getattr(recipe, name) for name in _OF_STAGE_2 if getattr(recipe, name)}
    return (
        dataclasses.replace(recipe, stage="1", load_size=low_load, crop_size=low),
        dataclasses.replace(recipe, stage="2", **second),
    )


_OF_STAGE_2 = ("batch_2", "epochs_2", "steps_2", "halve_every_2")


def lr_factor(recipe: Recipe, epoch: int, step: int) -> float:
    """What to multiply the learning rate by in `epoch` (1-based): halved every `halve_every` epochs.

    step, the number of steps done, plays no part. Without halving, and times it else, `--schedule` counts.
    """
    halvings = (epoch - 1) // recipe.halve_every if recipe.halve_every else 0
    return 0.5**halvings * optim.lr_factor(recipe.schedule, epoch, recipe.epochs, recipe.decay_epochs)


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers and random numbers of a new run. Weights depend on the recipe alone, and on `--stage1`'s file.

    Stage II's G holds a frozen stage I: of that file, or until `inherit_` an untrained one.
    """
    begin_ = partial(_begin_, recipe=recipe)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_)


@torch.no_grad()
def inherit_(state: State, before: Mapping[str, nn.Module]) -> None:
    """Put stage I of the phase before into stage II's G, and into its average. before: nets by name, as a state has.

    Its averaged G ("G_ema") goes first where there is one.
    """
    stage1 = before.get("G_ema", before["G"]).stage1.state_dict()
    for net in (state.nets["G"], *(state.ema[name] for name in ("G",) if name in state.ema)):
        net.stage1.load_state_dict(stage1)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Pictures with their captions for training ("train") or the others ("held-out")."""
    wrong = _wrong_from_feed(recipe)
    return data.captioned_feed(_sized(recipe), split=split, device=device, rank=rank, world=world, wrong=wrong)


def step(state: State, recipe: Recipe, batch: Captioned | CaptionedWrong) -> dict[str, Tensor]:
    """One iteration of either stage (Zhang et al. 2017, equations 3 to 6): D, then G against the new D.

    Returns 0-d tensors for the logs. "wrong" is of pictures with other texts; "alone" of D's logit without a text.
    """
    G, D = state.G, state.D
    logs = {}

    # The generator paints from texts and noise.
    with torch.set_grad_enabled(not recipe.redraw):
        painted = _paint(G, recipe, batch.text, state.rng)

    # Discriminator: real logits up; down those of painted pictures, and of real ones with another's text.
    logits = _look(D, recipe, batch, painted)
    lost = [name for name in logits if not name.startswith("real")]
    terms = [
        gan_term(
            logit,
            mode="softplus",
            side="D",
            n_real=0 if name in lost else logit.shape[0],
            weight=1.0 / (len(lost) if name in lost else len(logits) - len(lost)),
        )
        for name, logit in logits.items()
    ]
    loss_D, judged = loss_sum(*terms)
    update(state, "D", loss_D)
    for name, said in zip(logits, judged, strict=True):
        logs[f"loss/D_{name}"] = said.fake if name in lost else said.real
        logs[f"logit/{name}"] = said.logit_fake if name in lost else said.logit_real

    # Generator: logits of what it painted up, and c near N(0, 1).
    if recipe.redraw:
        painted = _paint(G, recipe, batch.text, state.rng, again=True)
    features = D.encode(painted.image)
    adversarial = {"mode": "softplus", "side": "G"}
    terms = [gan_term(D.judge(features, _about(recipe, batch.text, painted)), **adversarial)]
    if D.alone is not None:
        terms.append(gan_term(D.alone(features), **adversarial))
    loss_G, fooled = loss_sum(*terms)
    if _augments(recipe):
        kl = kl_to_standard_normal(painted.condition, reduction=recipe.kl_reduction)
        loss_G = loss_G + recipe.lambda_kl * kl
        logs["loss/kl"] = kl
    update(state, "G", loss_G)

    end_step_(state, recipe)
    state.show(fake=painted.image, real=batch.image)
    logs |= {"loss/G": loss_G, "loss/D": loss_D, "loss/G_fake": fooled[0].loss}
    if D.alone is not None:
        logs["loss/G_fake_alone"] = fooled[1].loss
    return {name: value.detach() for name, value in logs.items()}


def _look(
    D: model.TextD, recipe: Recipe, batch: Captioned | CaptionedWrong, painted: model.Painted
) -> dict[str, Tensor]:
    """D's logits of each kind of pair, (n, 1, 1, 1), those of real pictures with their texts first.

    Pictures of all kinds go through D in one batch, whose parts keep statistics of their own.
    """
    n = batch.image.shape[0]
    about = _about(recipe, batch.text, painted)
    images = {"real": batch.image, "fake": painted.image.detach()}
    if _wrong_from_feed(recipe):
        images["wrong"] = batch.wrong
    mode = Mode(groups=len(images))
    features = D.encode(torch.cat(tuple(images.values())), mode)  # (kinds n, f, 4, 4)
    said = D.judge(features, about.repeat(len(images), 1), mode)
    logits = dict(zip(images, said.split(n), strict=True))
    if recipe.use_wrong_pairs and recipe.wrong_pairs == "next":
        logits["wrong"] = D.judge(features[: n - 1], about[1:])  # picture i with the text of i + 1
    if D.alone is not None:
        real, fake = D.alone(features[: 2 * n]).split(n)
        logits |= {"real_alone": real, "fake_alone": fake}
    return logits


def _about(recipe: Recipe, text: Tensor, painted: model.Painted) -> Tensor:
    """What D is told of the texts: their mu, which does not learn from it, or (tf) the embedding itself."""
    return text if recipe.arch == "tf" else painted.condition.mu.detach()


def _paint(
    G: model.StackG,
    recipe: Recipe,
    text: Tensor,
    rng: Tensor,
    mode: Mode = TRAIN,
    *,
    again: bool = False,
    rows: int = 0,
) -> model.Painted:
    """G's pictures of texts (n, d). again: the step's second draw; rows: of noise, 1 for all the same, 0 for n."""
    noises = _noise(recipe, rng, rows or text.shape[0], shift=_AGAIN if again else 0, dtype=text.dtype)
    z, *eps = (noise.expand(text.shape[0], -1) for noise in noises)
    return G(text, z, tuple(eps), mode)


def _noise(recipe: Recipe, rng: Tensor, n: int, *, shift: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """z (n, z_dim), and eps of c for both stages (n, c_dim); shift: of the numbers in the random stream."""
    z = philox.normal(rng, _Z + shift, (n, recipe.z_dim), dtype=dtype)
    normal = _truncated_normal if recipe.arch == "tf" else philox.normal
    return z, *(normal(rng, stream + shift, (n, recipe.c_dim), dtype=dtype) for stream in (_EPS_1, _EPS_2))


def _truncated_normal(rng: Tensor, stream: int, shape: tuple[int, ...], *, dtype: torch.dtype) -> Tensor:
    """Like `philox.normal`, but up to two standard deviations: sqrt(2) erfinv(u), u even in +-erf(sqrt(2))."""
    most = math.erf(math.sqrt(2.0))
    u = philox.uniform(rng, stream, shape, low=-most, high=most, dtype=torch.float64)
    return (math.sqrt(2.0) * torch.erfinv(u)).to(dtype)


def latent(recipe: Recipe, rng: Tensor, n: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """All noise of n pictures as `generate` draws it, z and c's of both stages side by side: (n, z_dim + 2 c_dim).

    rng: int64[2] {seed, offset}.
    """
    return torch.cat(_noise(recipe, rng, n, shift=0, dtype=dtype), dim=1)


def prior(recipe: Recipe) -> str:
    """The distribution of the noise."""
    return "normal"


@torch.no_grad()
def generate(
    G: model.StackG,
    recipe: Recipe,
    n: int,
    rng: Tensor | None = None,
    *,
    text: Tensor,
    same_noise: bool = False,
    z: Tensor | None = None,
) -> Tensor:
    """Pictures of texts, (n, 3, s, s) in [-1, 1], with running statistics: no picture depends on the others.

    text: (n, d) embeddings on the device of G; between two of them lie pictures that change gradually. rng: int64[2]
    on the device {seed, offset} of z and of c's noise; without one the recipe's seed decides. same_noise: all rows have
    the noise of the first, so that only texts make the difference. z: all the noise, (n, z_dim + 2 c_dim), in place of
    what rng would draw (`latent`). Errors: ValueError for a text of another shape.
    """
    if text.shape != (n, _text_dim(recipe)):
        raise ValueError(f"text must have shape (n, d) = [{n}, {_text_dim(recipe)}], got {list(text.shape)}")
    if z is not None:
        z, *eps = z.split((recipe.z_dim, recipe.c_dim, recipe.c_dim), dim=1)
        return G(text, z, tuple(eps), Mode(statistics="running")).image
    return _use(G, recipe, text, rng, rows=1 if same_noise else 0).image


def sample(
    G: model.StackG, recipe: Recipe, batch: Captioned | CaptionedWrong, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """Columns of a picture grid, (n, 3, s, s) in [-1, 1]: the caption's own picture, and what each stage paints."""
    painted = _use(G, recipe, batch.text, rng)
    columns = {"picture": batch.image}
    columns["stage I"] = F.interpolate(painted.sketch, size=batch.image.shape[2:], mode="nearest")
    if G.stage2 is not None:
        columns["stage II"] = painted.image
    return columns


def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Captioned | CaptionedWrong, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """Means over a held-out batch, 0-d.

    colour_l1: between the colours of a picture and of what is painted from its caption, on a grid of 8x8 cells, in grey
    levels of 255: near 0 needs the caption's colours in the right places, and no sharpness. It needs no other network,
    and says nothing of detail. logit_fake: what D says of the painted pictures. kl: of c from N(0, 1).
    """
    painted = _use(nets["G"], recipe, batch.text, rng)
    with torch.no_grad():
        logits, _ = nets["D"](painted.image, _about(recipe, batch.text, painted), Mode(statistics="batch"))
    return {
        "colour_l1": metrics.colour_l1(painted.image, batch.image),
        "logit_fake": logits.float().mean(),
        "kl": kl_to_standard_normal(painted.condition, reduction=recipe.kl_reduction),
    }


@torch.no_grad()
def _use(G: model.StackG, recipe: Recipe, text: Tensor, rng: Tensor | None, *, rows: int = 0) -> model.Painted:
    rng = philox.new_rng(recipe.seed, text.device) if rng is None else rng
    return _paint(G, recipe, text, rng, Mode(statistics="running"), rows=rows)


def example(recipe: Recipe, device: torch.device | str = "meta") -> Captioned | CaptionedWrong:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    recipe = _sized(recipe)
    image = data.empty_images(recipe.batch, 3, recipe.crop_size, device)
    text = torch.empty((recipe.batch, _text_dim(recipe)), device=device)
    return CaptionedWrong(image, torch.empty_like(image), text) if _wrong_from_feed(recipe) else Captioned(image, text)


def generator(recipe: Recipe) -> model.StackG:
    """G of a recipe up to the last stage that it trains, with PyTorch's weights or none (under a meta device)."""
    recipe = _sized(recipe)
    common = {
        "gf": recipe.gf,
        "text_dim": _text_dim(recipe),
        "c_dim": recipe.c_dim,
        "arch": recipe.arch,
        "ca_act": {"lrelu": "leaky_relu", "relu": "relu"}[recipe.ca_act],
        "sample": recipe.cond_augmentation,
    }
    if recipe.stage == "1":
        return model.StackG(model.StageI(recipe.crop_size, z_dim=recipe.z_dim, **common))
    stage1 = model.StageI(recipe.low_size, z_dim=recipe.z_dim, **common)
    shape = {"r": recipe.r, "text_twice": recipe.text_twice}
    return model.StackG(stage1, model.StageII(recipe.crop_size, recipe.low_size, **shape, **common))


def discriminator(recipe: Recipe) -> model.TextD:
    """D of the last stage that a recipe trains, with PyTorch's weights or none (under a meta device)."""
    recipe = _sized(recipe)
    return model.TextD(
        recipe.crop_size,
        stage=1 if recipe.stage == "1" else 2,
        df=recipe.df,
        text_dim=_text_dim(recipe),
        c_dim=recipe.c_dim,
        arch=recipe.arch,
    )


def _begin_(net: nn.Module, recipe: Recipe, generator: torch.Generator) -> None:
    """`init_weights_`, but for what the authors' codes leave to their libraries or draw otherwise, and `--stage1`."""
    init_weights_(net, recipe.init, recipe.init_gain, generator)
    for module in net.modules():
        if isinstance(module, nn.Linear) and recipe.init == "truncated":
            nn.init.normal_(module.weight, 0.0, recipe.init_gain, generator=generator)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:  # logits: PyTorch's default
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            nn.init.uniform_(module.bias, -bound, bound, generator=generator)
    if recipe.stage1 and isinstance(net, model.StackG):
        _take_stage1_(net, recipe.stage1)


def _take_stage1_(G: model.StackG, where: str) -> None:
    """Copy the stage I of a run directory, a checkpoint's folder or a G.safetensors into G."""
    path = Path(os.path.expanduser(where))
    folders = (path, path / "checkpoints" / "last", path / "checkpoints" / "previous")
    names = ("G_ema.safetensors", "G.safetensors")
    found = [path] if path.is_file() else [folder / name for folder in folders for name in names]
    file = next((candidate for candidate in found if candidate.is_file()), None)
    if file is None:
        raise UserError(f"--stage1 {where} must be a run directory with a checkpoint or a G.safetensors; there is none")
    try:
        saved = checkpoint.read(file)
        stage1 = {name: tensor for name, tensor in saved.items() if name.startswith("stage1.")}
        checkpoint.copy_into(G.stage1.state_dict(prefix="stage1."), stage1, file)
    except UserError as reason:
        raise UserError(
            f"--stage1: {reason}; it takes a stackgan trained with the same --arch, --gf, --c-dim, --z-dim, "
            "--low-size and captions"
        ) from reason


def _sized(recipe: Recipe) -> Recipe:
    """Sizes that were left to the stage; pictures are resized to 19/16 of the crop: 76 for 64, 304 for 256."""
    crop = recipe.crop_size or _SIZES[recipe.stage]
    return dataclasses.replace(recipe, crop_size=crop, load_size=recipe.load_size or crop * 19 // 16)


def _text_dim(recipe: Recipe) -> int:
    return recipe.text_dim or _USUAL_TEXT_DIM


def _wrong_from_feed(recipe: Recipe) -> bool:
    return recipe.use_wrong_pairs and recipe.wrong_pairs == "other"


def _augments(recipe: Recipe) -> bool:
    """Does the stage that is trained draw its c, so that the divergence says something to it?"""
    return recipe.cond_augmentation and (recipe.stage == "1" or recipe.text_twice)


def _check_sizes(recipe: Recipe) -> None:
    crop, low = recipe.crop_size or _SIZES[recipe.stage], recipe.low_size
    for name, size in (("crop_size", crop), ("low_size", low)):
        if size < 16 or size & (size - 1):
            raise UserError(f"{flag(name)} must be a power of two from 16 on such as 64 or 256, got {size}")
    if recipe.load_size and recipe.load_size < crop:
        raise UserError(f"--load-size must be at least the crop size {crop}, got {recipe.load_size}")
    if recipe.stage != "1" and crop < low:
        raise UserError(f"--crop-size must be at least --low-size {low}, got {crop}")
    # the widths at the end of G: 8 gf halved once per doubling from 4 pixels on, and 4 gf from a quarter of the sketch
    first = crop if recipe.stage == "1" else low
    least = first // (8 * model.SMALLEST)
    if recipe.stage != "1":
        least = max(least, 4 * crop // (4 * low))
    if recipe.gf < least or (least and recipe.gf % least):
        raise UserError(f"--gf must be a multiple of {least} for pictures of that size, got {recipe.gf}")

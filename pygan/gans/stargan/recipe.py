"""How StarGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan import data, optim
from pygan.begin import new_state
from pygan.data import Facts, Feed, JointLabelled, Labelled
from pygan.errors import UserError
from pygan.gans.stargan.model import Discriminator, Generator
from pygan.losses import gan_term, l1_term, loss_sum
from pygan.nn import INIT_KINDS, init_weights_
from pygan.ops.philox import words
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

CELEBA = "Black_Hair,Blond_Hair,Brown_Hair,Male,Young"  # the attributes of the paper
RAFD = "angry,contemptuous,disgusted,fearful,happy,neutral,sad,surprised"
_HAIR = ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair")  # of these a head has one
# Numbers in the random stream; each update of D in a step, and each data set, has its own.
_PENALTY_STREAM, _TARGET_STREAM = 1 << 16, 1 << 17


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """StarGAN. The defaults are those of the paper (Choi et al. 2018, 5.3) where its code does not differ."""

    data_2: str = option("", "second folder, whose labels are others, to train on both; empty: none", session=True)
    joint: bool = option(False, "two sets: --data-2 must name the second")
    attrs: str = option("", "of a set of attributes, those that are labels, a list; empty: the paper's five")
    load_size: int = option(128, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(128, "height and width of the random crop that is trained on", unit="pixels")
    pre_crop: str = option(
        "none", "cut before resizing: square, S (pixels in the middle) or WxH+X+Y; none: nothing is cut"
    )
    flip: bool = option(True, "mirror half of the images")
    resample: str = option(
        "auto", "filter for resizing; auto: bicubic", choices=("auto", "bicubic", "bilinear", "area", "nearest")
    )

    channels: int = option(0, "channels of the images; 0: as in the data", unit="channels")
    labels: str = option("", "names of the labels, a list; empty: as in the data")
    labels_2: str = option("", "names of the labels of --data-2; empty: as in the data")
    cls_mode: str = option(
        "auto",
        "labels: each is there or not (multi), or exactly one is (single); auto: as in the data",
        choices=("auto", "multi", "single"),
    )
    cls_mode_2: str = option("auto", "the same for --data-2", choices=("auto", "multi", "single"))
    ngf: int = option(64, "channels of G's first convolution", unit="channels")
    blocks: int = option(6, "residual blocks of G", unit="blocks")
    ndf: int = option(64, "channels of D's first convolution", unit="channels")
    n_layers_d: int = option(6, "strided convolutions of D", unit="layers")
    init: str = option("pytorch", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")

    batch: int = option(16, "images per update of D, of each set", unit="images")
    n_critic: int = option(5, "updates of D per step; G is updated once", unit="updates")
    steps: int = option(40_000, "length of the training in steps; 0: as --epochs and --decay-epochs say", unit="steps")
    lr: float = option(1e-4, "learning rate of Adam")
    decay_part: float = option(
        0.5, "last part of the steps, in which the learning rate falls to 0", unit="of all steps"
    )
    lr_bug: bool = option(False, "let the learning rate fall by as little as the authors' code does")
    lr_bug_every: int = option(1000, "lr_bug: updates of D from one fall to the next", unit="updates")
    lambda_cls: float = option(1.0, "weight of the classification losses")
    lambda_rec: float = option(10.0, "weight in G of the distance between an image and what came back")
    lambda_gp: float = option(10.0, "weight of the gradient penalty in D")

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"ngf": 1, "blocks": 0, "ndf": 1, "n_layers_d": 1, "n_critic": 1, "lr_bug_every": 1, "init_gain": 0.0}
        least |= {"channels": 0, "lambda_cls": 0.0, "lambda_rec": 0.0, "lambda_gp": 0.0, "decay_part": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.decay_part > 1:
            raise UserError(f"--decay-part must be at most 1, got {self.decay_part}")
        if self.n_layers_d > 10:
            raise UserError(f"--n-layers-d must be at most 10, got {self.n_layers_d}")
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        multiple = max(Generator.multiple, 2**self.n_layers_d)
        if self.crop_size < multiple or self.crop_size % multiple:
            below = max(multiple, self.crop_size // multiple * multiple)
            raise UserError(
                f"--crop-size must be a multiple of {multiple} such as {below} or {below + multiple} with "
                f"--n-layers-d {self.n_layers_d}, got {self.crop_size}"
            )
        for name in ("labels", "labels_2"):
            _check_names(f"{flag(name)} {getattr(self, name)!r}", _names(getattr(self, name)))

    @property
    def input_channels(self) -> int:
        """Of the pictures that a trained network takes."""
        return self.channels


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"pre_crop": "178"},
    "rafd": {"pre_crop": "256", "cls_mode": "single"},
    "joint": {"joint": True, "load_size": 256, "crop_size": 256, "pre_crop": "square"},
    "fast": {"pre_crop": "178", "amp": True, "batch": 32, "steps": 20_000},
    "demo": {
        "load_size": 32, "crop_size": 32, "ngf": 16, "blocks": 2, "ndf": 16, "n_layers_d": 4, "batch": 8, "n_critic": 2,
        "steps": 2500, "lr": 5e-4, "lambda_rec": 30.0, "data_images": 1000, "checkpoint_every_images": 8000,
        "sample_every_images": 4000, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 20, "crop_size": 16, "ngf": 4, "blocks": 1, "ndf": 4, "n_layers_d": 3, "batch": 2, "n_critic": 2,
        "steps": 0, "epochs": 2, "decay_epochs": 2, "data_images": 8, "sample_images": 2, "eval_images": 2,
        "sample_every_images": 8, "checkpoint_every_images": 8,
    },
}  # fmt: skip


class _Set(NamedTuple):
    """One of the data sets of a recipe."""

    names: tuple[str, ...]  # of its labels
    mode: str  # "multi" or "single"
    first: int  # of its labels among those of all sets

    @property
    def last(self) -> int:
        """One behind the last."""
        return self.first + len(self.names)


def resolve(recipe: Recipe, facts: Facts | None = None) -> Recipe:
    """The recipe with every field fixed that was left to the data.

    facts: what the data says; None, or without labels: those of the paper's sets. A resolved recipe comes back as it
    is. Errors: UserError for labels or a number of channels that the data does not have.
    """
    facts = facts or Facts()
    recipe, found = fitted(recipe, channels=facts.channels[0]), {}
    if facts.labels and recipe.labels_2 and not recipe.data_2:
        raise UserError(f"--labels-2 {recipe.labels_2}: there is no second data set; name it with --data-2")
    if recipe.data_2 or recipe.labels_2:
        found |= _resolved(recipe, "_2", facts.labels_2, RAFD, facts.single_2)
    found |= _resolved(recipe, "", facts.labels, recipe.attrs or CELEBA, facts.single)
    return dataclasses.replace(recipe, **found)


def _resolved(recipe: Recipe, which: str, names: tuple[str, ...], usual: str, single: bool) -> dict[str, str]:
    """Labels and mode of one data set. names: of the data, () where there is none; usual: the names without data."""
    asked, mode = getattr(recipe, f"labels{which}"), getattr(recipe, f"cls_mode{which}")
    _check_names("the data's labels", names)
    if asked and names and _names(asked) != names:
        raise UserError(f"--labels{which.replace('_', '-')} is {asked}, but the data has {','.join(names)}")
    if mode == "single" and names and not single:
        raise UserError(
            f"--cls-mode{which.replace('_', '-')} is single, but pictures of the data have none or several of "
            f"{', '.join(names)}; leave it out"
        )
    if mode == "auto":
        mode = "single" if single or (not names and usual == RAFD) else "multi"
    return {f"labels{which}": ",".join(names) or asked or usual, f"cls_mode{which}": mode}


def _names(text: str) -> tuple[str, ...]:
    """The parts of a list as it is typed: a,b."""
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _check_names(what: str, names: tuple[str, ...]) -> None:
    if any(not name or "," in name for name in names) or len(set(names)) < len(names):
        raise UserError(f"{what} must be different names without commas, got {', '.join(map(repr, names))}")


def _sets(recipe: Recipe) -> tuple[_Set, ...]:
    """The data sets of a recipe, in the order of their labels in D."""
    recipe = recipe if recipe.labels else resolve(recipe)
    names, names_2 = _names(recipe.labels), _names(recipe.labels_2)
    sets = (_Set(names, recipe.cls_mode, 0), _Set(names_2, recipe.cls_mode_2, len(names)))
    return sets if names_2 else sets[:1]


def images_per_step(recipe: Recipe) -> int:
    """Images of each data set that a step takes: a batch for each update of D."""
    return recipe.batch * recipe.n_critic


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers and random numbers of a new run. The weights depend on the recipe alone, not on the device."""
    per_step = dataclasses.replace(recipe, batch=images_per_step(recipe))  # between two moves of the average
    begin_ = partial(init_weights_, kind=recipe.init, gain=recipe.init_gain, norm_std=0.0)
    return new_state(per_step, device, {"G": generator, "D": discriminator}, begin_)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Images with labels for training ("train") or the others ("held-out"), `images_per_step` at once.

    Errors: UserError, among others if a second set is wanted and not named.
    """
    if recipe.joint and not recipe.data_2:
        raise UserError("--joint trains on two sets: name the second with --data-2, or take another --preset")
    return data.labelled_feed(recipe, split, device, rank, world, batch=images_per_step(recipe))


def example(recipe: Recipe, device: torch.device | str = "meta") -> Labelled | JointLabelled:
    """A batch without values."""
    n, size = images_per_step(recipe), recipe.crop_size
    tensors = []
    for one in _sets(recipe):
        tensors.append(data.empty_images(n, recipe.channels or 3, size, device))
        tensors.append(torch.empty((n, len(one.names)), device=device))
    return Labelled(*tensors) if len(tensors) == 2 else JointLabelled(*tensors)


def lr_factor(recipe: Recipe, epoch: int, step: int) -> float:
    """What to multiply the recipe's lr by in the step after `step` others, in `epoch` (1-based)."""
    if not recipe.steps:
        return optim.lr_factor(recipe.schedule, epoch, recipe.epochs, recipe.decay_epochs)
    total, done = recipe.steps * recipe.n_critic, step * recipe.n_critic  # updates of D: the paper's iterations
    falling = round(total * recipe.decay_part)
    constant = total - falling
    if done <= constant:
        return 1.0
    if recipe.lr_bug:
        # Each fall is by the share of one update, but there is one fall for `lr_bug_every` updates.
        return 1.0 - (done // recipe.lr_bug_every - constant // recipe.lr_bug_every) / falling
    return max(0.0, 1.0 - (done - constant) / falling)


def step(state: State, recipe: Recipe, batch: Labelled | JointLabelled) -> dict[str, Tensor]:
    """`n_critic` updates of D on successive parts of the batch, then one of G on the last (Choi et al. 2018, 3 and 5).

    With two data sets each update is made for the one and then for the other. Returns 0-d tensors for the logs, of the
    last update; those of the second set end in _2.
    """
    sets, logs = _sets(recipe), {}
    for i, parts in enumerate(_parts(recipe, batch)):
        last = i == recipe.n_critic - 1
        for k, (one, (real, label)) in enumerate(zip(sets, parts, strict=True)):
            draw = len(sets) * i + k
            said = _update(state, recipe, one, real, label, draw=draw, with_G=last)
            logs |= {name + ("_2" if k else ""): value.detach() for name, value in said.items() if last}
    end_step_(state, recipe)
    return logs


def _parts(recipe: Recipe, batch: Labelled | JointLabelled) -> Iterator[tuple[tuple[Tensor, Tensor], ...]]:
    """For each update of D its (images, labels) of every data set."""
    chunks = [tensor.chunk(recipe.n_critic) for tensor in batch]
    pairs = [zip(image, label, strict=True) for image, label in zip(chunks[::2], chunks[1::2], strict=True)]
    return zip(*pairs, strict=True)


def _update(
    state: State, recipe: Recipe, one: _Set, real: Tensor, label: Tensor, *, draw: int, with_G: bool
) -> dict[str, Tensor]:
    """One update of D, and one of G against the new D if asked for.

    real: (n, c, h, w) in [-1, 1]; label: (n, k) of 0 and 1, those of `one`; draw: number of this update in the random
    streams of the step.
    """
    G, D, n = state.G, state.D, real.shape[0]

    # The images are to take each other's labels.
    order = words(state.rng, _TARGET_STREAM + draw, n).argsort(stable=True)
    target = label.index_select(0, order)
    with torch.set_grad_enabled(with_G):  # G stays as it is while D is updated: its update needs no second pass
        fake = G(real, _code(recipe, one, target))  # (n, c, h, w)

    # Discriminator: source up on real images and down on fake ones, a slope of 1 on the way from one to the other
    # (equation 8), the labels of real images named (equation 2).
    features = D.features(torch.cat((real, fake.detach())))
    loss_D, (judged,) = loss_sum(gan_term(D.source(features), mode="wgangp", side="D", n_real=n))
    named = _classification(D.classes(features[:n])[:, one.first : one.last], label, one.mode)
    alpha = words(state.rng, _PENALTY_STREAM + draw, n) / 2**32  # (n,) in [0, 1)
    between = torch.lerp(fake.detach(), real, alpha.to(real.dtype).view(n, 1, 1, 1))
    slope = torch.linalg.vector_norm(_precise(D.input_gradient(between)).flatten(1), dim=1)  # (n,)
    penalty = (slope - 1.0).square().mean()
    loss_D = loss_D + recipe.lambda_cls * named + recipe.lambda_gp * penalty
    update(state, "D", loss_D)
    if not with_G:
        return {}
    logs = {"loss/D": loss_D, "loss/D_cls": named, "loss/gp": penalty}
    logs |= {"logit/real": judged.logit_real, "logit/fake": judged.logit_fake}

    # Generator: source up on fake images, their new labels named (equation 3), and with its old label an image is what
    # it was (equation 4).
    source, classes = D(fake)
    back = G(fake, _code(recipe, one, label))
    total, (fooled, distance) = loss_sum(
        gan_term(source, mode="wgangp", side="G"), l1_term(back, real, weight=recipe.lambda_rec)
    )
    named = _classification(classes[:, one.first : one.last], target, one.mode)
    loss_G = total + recipe.lambda_cls * named
    update(state, "G", loss_G)
    state.show(input=real, fake=fake, real=real)
    return {"loss/G": loss_G, "loss/G_gan": fooled.loss, "loss/G_rec": distance, "loss/G_cls": named} | logs


def _code(recipe: Recipe, one: _Set, label: Tensor) -> Tensor:
    """What G is told: the label of `one`; with two data sets those of both, 0 where they are not known, and a mask.

    Choi et al. 2018, equation 7. (n, k) -> (n, k), with two sets (n, k_1 + k_2 + 2).
    """
    sets = _sets(recipe)
    if len(sets) == 1:
        return label
    n, k = label.shape[0], sets[-1].last
    code = label.new_zeros((n, k + 2))
    code[:, one.first : one.last] = label
    code[:, k + sets.index(one)] = 1.0
    return code


def _classification(logits: Tensor, label: Tensor, mode: str) -> Tensor:
    """0-d: the mean over images of the cross-entropies of all labels ("multi"), or of the one that holds ("single")."""
    label = label.to(logits.dtype)
    if mode == "multi":
        return F.binary_cross_entropy_with_logits(logits, label, reduction="sum") / logits.shape[0]
    return F.cross_entropy(logits, label)


def _precise(x: Tensor) -> Tensor:
    """x in at least float32."""
    return x if x.dtype == torch.float64 else x.float()


@torch.no_grad()
def translate(
    G: Generator,
    recipe: Recipe,
    A: Tensor,
    rng: Tensor | None = None,
    *,
    to: str = "",
    code: Tensor | None = None,
) -> Tensor:
    """G's images of A with the labels `to`, (n, c, h, w) in [-1, 1].

    A: (n, c, h, w) in [-1, 1], h and w multiples of `G.multiple`; to: names, a list such as "Blond_Hair,Male": these
    labels are 1 and all others 0. With two data sets the names are all of one of them. rng plays no part. code: what G
    is told itself, (n, k) or (1, k), in place of `to`: see `codes`. Errors: UserError for names that the network does
    not know.
    """
    code = _code_of(recipe, to, A.device) if code is None else code
    return G(A, code.expand(A.shape[0], -1)).clamp(-1.0, 1.0)


def codes(
    recipe: Recipe, to: Sequence[str] = (), batch: Labelled | JointLabelled | None = None
) -> list[tuple[str, Tensor]]:
    """The stops of a walk between domains, name and code: what to tell G of n pictures (n, k), without a batch (1, k).

    to: lists of names as in `translate`; none: each label in turn. batch: of the pictures that are walked with, whose
    own labels are the first stop, "as it is", and of which each label is turned over in turn, as in `sample`.
    Errors: UserError for names that the network does not know, or where there are less than two stops.
    """
    sets, stops = _sets(recipe), []
    own = torch.zeros((1, len(sets[0].names))) if batch is None else batch.label
    if batch is not None:
        stops.append(("as it is", _code(recipe, sets[0], own)))
    for name in to:
        stops.append((name, _code_of(recipe, name, own.device).expand(own.shape[0], -1)))
    for one in () if to else sets:
        # Of the labels of a second set nothing is known.
        label = own if one.first == 0 else own.new_zeros((own.shape[0], len(one.names)))
        stops += [(name, _code(recipe, one, target)) for name, target in _targets(one, label)]
    if len(stops) < 2:
        raise UserError("a walk between domains needs two stops: name another --to, or leave --to out for all labels")
    return stops


def _code_of(recipe: Recipe, to: str, device: torch.device) -> Tensor:
    """What to tell G for a list of names, (1, k); nothing is copied to the device, so a CUDA graph can hold it."""
    sets, names = _sets(recipe), _names(to)
    known = "; or ".join(", ".join(one.names) for one in sets)
    for one in sets:
        if names and set(names) <= set(one.names):
            if one.mode == "single" and len(names) > 1:
                raise UserError(f"--to must name one of {', '.join(one.names)}, got {to!r}")
            label = torch.zeros((1, len(one.names)), device=device)
            for k, name in enumerate(one.names):
                if name in names:
                    label[:, k].fill_(1.0)
            return _code(recipe, one, label)
    unknown = [name for name in names if not any(name in one.names for one in sets)]
    got = f"does not know {unknown[0]!r}" if unknown else f"got {to!r}" if to else "is missing"
    raise UserError(f"--to {got}: name labels to paint, of {known}")


def _targets(one: _Set, label: Tensor) -> Iterator[tuple[str, Tensor]]:
    """For each label of a set its name, and the labels (n, k) with which an image is to be painted to show it.

    "single": that label alone. "multi": the label turned over; a hair colour is set, and the others taken away.
    """
    for i, name in enumerate(one.names):
        if one.mode == "single":
            yield name, F.one_hot(torch.full_like(label[:, 0], i, dtype=torch.int64), len(one.names)).to(label.dtype)
            continue
        target = label.clone()
        if name in _HAIR:
            for j, other in enumerate(one.names):
                if other in _HAIR:
                    target[:, j] = float(j == i)
        else:
            target[:, i] = 1.0 - target[:, i]
        yield name, target


@torch.no_grad()
def sample(
    G: Generator, recipe: Recipe, batch: Labelled | JointLabelled, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """Columns for people: the images as they are and painted with each label in turn, (n, c, h, w) in [-1, 1].

    With two data sets, the images of the first, painted with the labels of both. rng plays no part.
    """
    columns, image = {"input": batch.image}, batch.image
    for one in _sets(recipe):
        own = batch.label if one.first == 0 else batch.label.new_zeros((image.shape[0], len(one.names)))
        for name, target in _targets(one, own):
            columns[_free(name, columns)] = G(image, _code(recipe, one, target)).clamp(-1.0, 1.0)
    return columns


def _free(name: str, taken: dict[str, Any]) -> str:
    """The name, or one like it that is not taken: both sets may have a label "smiling"."""
    return f"{name}_2" if name in taken else name


@torch.no_grad()
def measure(
    nets: dict[str, nn.Module], recipe: Recipe, batch: Labelled | JointLabelled, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """What is held out, painted with each label in turn and back with its own: 0-d means. rng plays no part.

    rec_l1: mean distance to the image itself, in grey levels of 255; cls_error: part of the labels ("single": of the
    images) that D's class head names otherwise on what was painted; cls_error_real: likewise on the images themselves.
    Of two data sets the second ones end in _2.
    """
    G, D, found = nets["G"], nets["D"], {}
    for one, image, label in zip(_sets(recipe), batch[::2], batch[1::2], strict=True):
        distances, errors = [], []
        for _, target in _targets(one, label):
            fake = G(image, _code(recipe, one, target))
            back = G(fake, _code(recipe, one, label))
            distances.append((_precise(back) - image).abs().mean() * 127.5)
            errors.append(_error(D(fake)[1][:, one.first : one.last], target, one.mode))
        end = "_2" if one.first else ""
        found[f"rec_l1{end}"] = torch.stack(distances).mean()
        found[f"cls_error{end}"] = torch.stack(errors).mean()
        found[f"cls_error_real{end}"] = _error(D(image)[1][:, one.first : one.last], label, one.mode)
    return found


def _error(logits: Tensor, label: Tensor, mode: str) -> Tensor:
    """0-d: part of the labels ("multi") or images ("single") that the logits get wrong."""
    wrong = (logits > 0) != (label > 0.5) if mode == "multi" else logits.argmax(1) != label.argmax(1)
    return wrong.to(logits.dtype).mean()


def generator(recipe: Recipe) -> Generator:
    """G of a recipe, with PyTorch's weights or none (under a meta device)."""
    sets = _sets(recipe)
    labels = sets[-1].last + (2 if len(sets) > 1 else 0)
    return Generator(recipe.channels or 3, labels, ngf=recipe.ngf, blocks=recipe.blocks)


def discriminator(recipe: Recipe) -> Discriminator:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    return Discriminator(
        recipe.channels or 3,
        _sets(recipe)[-1].last,
        size=recipe.crop_size,
        ndf=recipe.ndf,
        layers=recipe.n_layers_d,
    )

"""How CycleGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pygan import data, metrics, nets, pool
from pygan.begin import new_state
from pygan.data import Batch, Facts, Feed
from pygan.errors import UserError
from pygan.gans.cyclegan import model
from pygan.losses import gan_term, gradient_penalty, l1_term, loss_sum
from pygan.nn import INIT_KINDS, Mode, init_weights_
from pygan.ops.gan_loss import GanLoss
from pygan.ops.philox import words
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State
from pygan.streams import side_by_side

_LEVELS = {"unet_128": 7, "unet_256": 8, "unet": 0}  # halvings; 0: as --levels says
_MOST_LEVELS = 8
_NO_FACTS = Facts()
# Numbers in the random stream: layers with dropout of AtoB from 1 and of BtoA from 64, then these, for domain A and B.
_FIRST_STREAM_BTOA = 64
_PENALTY_STREAMS = {"A": 1 << 16, "B": (1 << 16) + 1}
_POOL_STREAMS = {"A": 1 << 17, "B": (1 << 17) + 1}
_SECOND_PASS = 1 << 62  # a bit of the seed: the passes back draw other dropout masks than the passes there


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """CycleGAN. The defaults are those of the paper (Zhu et al. 2017, 4 and 7) where its code does not differ."""

    load_size: int = option(286, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(256, "height and width of the random crop that is trained on", unit="pixels")
    flip: bool = option(True, "mirror half of the images")
    resample: str = option(
        "auto",
        "filter for resizing; auto: bicubic, nearest for label maps",
        choices=("auto", "bicubic", "bilinear", "area", "nearest"),
    )

    generator: str = option(
        "auto",
        "both Gs; auto: 6 residual blocks up to 128 pixels, else 9",
        choices=("auto", *nets.RESNETS, *_LEVELS),
    )
    levels: int = option(0, "generator unet: halvings; 0: as many as crop_size allows, at most 8", unit="levels")
    input_channels: int = option(0, "channels of A; 0: as in the data", unit="channels")
    output_channels: int = option(0, "channels of B; 0: as in the data", unit="channels")
    ngf: int = option(64, "channels of a G's first convolution", unit="channels")
    dropout_p: float = option(
        0.0, "part of the values that dropout sets to 0 in G's blocks or inner levels", unit="of all values"
    )
    padding: str = option(
        "reflect", "what residual blocks see beyond the edge", choices=("reflect", "zeros", "replicate")
    )
    sum_relu: bool = option(False, "ReLU behind the sum of each residual block, as one TensorFlow port has it")
    ndf: int = option(64, "channels of a D's first convolution", unit="channels")
    discriminator: str = option(
        "patch", "both Ds: patch, or image, whose logits see 382 pixels", choices=("patch", "image")
    )
    n_layers_d: int = option(3, "strided convolutions of a D, 0 to 6; 3 sees 70x70 pixels", unit="layers")

    norm: str = option("instance", "normalisation in all nets", choices=("instance", "batch"))
    in_affine: bool = option(False, "InstanceNorm with scale and shift")
    init: str = option("normal", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")

    gan_mode: str = option("lsgan", "adversarial loss", choices=("lsgan", "vanilla", "softplus", "wgangp"))
    d_loss_scale: float = option(0.5, "lsgan, vanilla: factor of the sum of D's real and fake halves; 1: not halved")
    pool_size: int = option(50, "generated images that a D is shown again later; 0: only new ones", unit="images")
    lambda_gan: float = option(1.0, "weight of the adversarial losses in G")
    lambda_a: float = option(10.0, "weight of the cycle A to B to A")
    lambda_b: float = option(10.0, "weight of the cycle B to A to B")
    lambda_identity: float = option(
        0.5, "weight, times lambda_a or lambda_b, of leaving A to a G that makes A, and B to one that makes B"
    )
    lambda_gp: float = option(10.0, "wgangp: weight of the gradient penalty in D")
    optimizers: str = option(
        "pair",
        "pair: both Gs together, then both Ds; four: each net in turn, G to B, D of B, G to A, D of A (Torch code)",
        choices=("pair", "four"),
    )

    test_bn: str = option(
        "batch", "statistics of BatchNorm in use: each image's own or the running ones", choices=("batch", "running")
    )

    learned: str = option("both", "directions that there are; AtoB: of an imported network", choices=("both", "AtoB"))

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"crop_size": 8, "levels": 0, "ngf": 1, "ndf": 1, "input_channels": 0, "output_channels": 0}
        least |= {"n_layers_d": 0, "pool_size": 0, "init_gain": 0.0, "d_loss_scale": 0.0, "lambda_gp": 0.0}
        least |= {"lambda_gan": 0.0, "lambda_a": 0.0, "lambda_b": 0.0, "lambda_identity": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        _check_generator(self)
        if self.discriminator == "image" and self.crop_size < 2**nets.ImageD.halvings * 2:
            raise UserError(
                f"--discriminator image needs a crop size of at least {2**nets.ImageD.halvings * 2}, "
                f"got {self.crop_size}; take patch"
            )
        if self.n_layers_d > 6:
            raise UserError(f"--n-layers-d must be at most 6, got {self.n_layers_d}")
        if self.n_layers_d and self.crop_size // 2**self.n_layers_d < 3:
            raise UserError(
                f"--n-layers-d {self.n_layers_d} leaves no logit of {self.crop_size} pixels: "
                f"take a crop size of at least {3 * 2**self.n_layers_d}, or fewer layers"
            )
        if not 0.0 <= self.dropout_p < 1.0:
            raise UserError(f"--dropout-p must be in [0, 1), got {self.dropout_p}")
        if not (self.lambda_gan or self.lambda_a or self.lambda_b):
            raise UserError("--lambda-gan, --lambda-a and --lambda-b are all 0: there is nothing to train G with")


# Tables 4 and 5 of the paper: parts of the objective, on pictures of 128 pixels.
_ABLATION = {"load_size": 143, "crop_size": 128, "lambda_identity": 0.0}

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "fast": {"batch": 8, "epochs": 50, "decay_epochs": 50, "amp": True},
    "cycle-only": {**_ABLATION, "lambda_gan": 0.0},
    "gan-only": {**_ABLATION, "lambda_a": 0.0, "lambda_b": 0.0},
    "forward": {**_ABLATION, "lambda_b": 0.0},
    "backward": {**_ABLATION, "lambda_a": 0.0},
    "demo": {
        "load_size": 72, "crop_size": 64, "ngf": 16, "ndf": 16, "batch": 4, "epochs": 5, "decay_epochs": 5,
        "lambda_identity": 0.0, "sample_every_images": 400, "checkpoint_every_images": 400, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 36, "crop_size": 32, "ngf": 8, "ndf": 8, "n_layers_d": 2, "pool_size": 4, "batch": 2, "epochs": 2,
        "decay_epochs": 2, "data_images": 8, "sample_images": 2, "eval_images": 2, "sample_every_images": 8,
        "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Both directions are learned: the natural one plays no part. Errors: UserError if a number of channels was asked for
    that the data does not have, or an identity loss between pictures of unlike channels.
    """
    channels = facts.channels
    recipe = fitted(recipe, input_channels=channels[0], output_channels=channels[1])
    if channels[0] != channels[1] and _identity_weights(recipe) != {"A": 0.0, "B": 0.0}:
        raise UserError(
            f"--lambda-identity needs as many channels in A as in B, got {channels[0]} and {channels[1]}: set it to 0"
        )
    kind = _generator(recipe)
    return dataclasses.replace(
        recipe,
        generator=kind,
        levels=_levels(recipe) if kind == "unet" else 0,
    )


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers, pools and random numbers of a new run. The weights depend on the recipe alone."""
    buffers = {}
    if recipe.pool_size:
        for domain, channels in zip("AB", _channels(recipe), strict=True):
            shape = (channels, recipe.crop_size, recipe.crop_size)
            buffers |= pool.empty(recipe.pool_size, shape, device=device, prefix=f"pool_{domain}_")
    begin_ = partial(init_weights_, kind=recipe.init, gain=recipe.init_gain)
    return new_state(
        recipe, device, {"G": generator, "D": discriminator}, begin_, buffers=buffers, apart=recipe.optimizers == "four"
    )


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Pictures of A and of B that have nothing to do with each other, for training ("train") or others ("held-out")."""
    if split == "train" and recipe.learned != "both":
        raise UserError(f"--learned {recipe.learned} is of imported networks; training learns both: leave it out")
    return data.unpaired_feed(recipe, split=split, device=device, rank=rank, world=world)


def step(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """One iteration (Zhu et al. 2017, 3 and 4): both Gs against the Ds as they are, then both Ds.

    Returns 0-d tensors for the logs. Their last letter is the domain of the pictures that they are about: loss/G_B is
    what D.B makes of fake_B, loss/cycle_A the distance of A from what went to B and came back, with its weight.
    """
    if recipe.optimizers == "four":
        return _step_in_turns(state, recipe, batch)
    G, D = state.G, state.D
    A, B = batch  # (n, c_a, h, w), (n, c_b, h, w) in [-1, 1], with nothing to do with each other
    keep = _identity_weights(recipe)

    # There: each generator paints the other domain. In the same batch, it is to leave a picture of that domain alone.
    there = Mode(rng=state.rng)
    (fake_B, same_B), (fake_A, same_A) = side_by_side(
        lambda: _paint(G.AtoB, A, B if keep["B"] else None, there),
        lambda: _paint(G.BtoA, B, A if keep["A"] else None, there),
    )

    # Back again, where the way back has a weight, and before the discriminators as they are.
    back = Mode(rng=state.rng ^ _SECOND_PASS if recipe.dropout_p else None)
    (cycled_B, logits_A), (cycled_A, logits_B) = side_by_side(
        lambda: (G.AtoB(fake_A, back) if recipe.lambda_b else None, D.A(fake_A)),
        lambda: (G.BtoA(fake_B, back) if recipe.lambda_a else None, D.B(fake_B)),
    )

    # Generators: fake logits up (equation 1), what came back near where it began (equation 2).
    adversarial = {"mode": recipe.gan_mode, "side": "G", "weight": recipe.lambda_gan}
    terms = {"loss/G_A": gan_term(logits_A, **adversarial), "loss/G_B": gan_term(logits_B, **adversarial)}
    if recipe.lambda_a:
        terms["loss/cycle_A"] = l1_term(cycled_A, A, weight=recipe.lambda_a)
    if recipe.lambda_b:
        terms["loss/cycle_B"] = l1_term(cycled_B, B, weight=recipe.lambda_b)
    if keep["A"]:
        terms["loss/identity_A"] = l1_term(same_A, A, weight=keep["A"])
    if keep["B"]:
        terms["loss/identity_B"] = l1_term(same_B, B, weight=keep["B"])
    loss_G, (fooled_A, fooled_B, *distances) = loss_sum(*terms.values())
    update(state, "G", loss_G)

    # Discriminators: real logits up, fake logits down. Half of the fakes are older, so that D does not forget them.
    seen = side_by_side(
        lambda: _judge(D.A, A, fake_A.detach(), "A", state, recipe),
        lambda: _judge(D.B, B, fake_B.detach(), "B", state, recipe),
    )
    judging = {"mode": recipe.gan_mode, "side": "D", "n_real": A.shape[0], "weight": _d_weight(recipe)}
    loss_D, judged = loss_sum(*(gan_term(logits, **judging) for logits, _ in seen))
    for _, penalty in seen:
        if penalty is not None:
            loss_D = loss_D + recipe.lambda_gp * penalty
    update(state, "D", loss_D)

    end_step_(state, recipe)
    state.show(input=A, fake=fake_B, real=B, input_A=B, fake_A=fake_A, real_A=A)
    logs = {"loss/G": loss_G, "loss/D": loss_D}
    logs |= dict(zip(terms, (fooled_A.loss, fooled_B.loss, *distances), strict=True))
    for domain, said, (_, penalty) in zip("AB", judged, seen, strict=True):
        logs |= _said(domain, said, penalty, recipe)
    return {name: value.detach() for name, value in logs.items()}


def _step_in_turns(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """The order of the authors' Torch code: G to B, then D of B, then G to A, then D of A, each by its own Adam.

    Each G goes down the terms of the whole objective that it has a part in, seeing the other nets as they are by then;
    so what the second turn paints is painted anew. A D is shown what its G painted before it moved. The same logs;
    each cycle and each identity is that of the turn whose pictures begin there, and loss/G is their sum.
    """
    G, D = state.G, state.D
    pictures, weights = batch._asdict(), {"A": recipe.lambda_a, "B": recipe.lambda_b}
    keep = _identity_weights(recipe)
    there = Mode(rng=state.rng)
    back = Mode(rng=state.rng ^ _SECOND_PASS if recipe.dropout_p else None)
    # The G whose turn it is not keeps its running statistics.
    there_still, back_still = (dataclasses.replace(mode, statistics="batch") for mode in (there, back))
    logs: dict[str, Tensor] = {}
    fakes: dict[str, Tensor] = {}

    for begin, end, one_way, other, judge in (("A", "B", G.AtoB, G.BtoA, D.B), ("B", "A", G.BtoA, G.AtoB, D.A)):
        own, foreign = pictures[begin], pictures[end]

        # A generator: fake logits up, what came back near where it began, its own domain left alone.
        fake, same = _paint(one_way, own, foreign if keep[end] else None, there)
        adversarial = gan_term(judge(fake), mode=recipe.gan_mode, side="G", weight=recipe.lambda_gan)
        terms = {f"loss/G_{end}": adversarial}
        if weights[begin]:
            terms[f"loss/cycle_{begin}"] = l1_term(other(fake, back_still), own, weight=weights[begin])
        if keep[end]:
            terms[f"loss/identity_{end}"] = l1_term(same, foreign, weight=keep[end])
        logged = len(terms)
        if weights[end]:
            with torch.no_grad():
                arrived = other(foreign, there_still)
            terms[f"loss/cycle_{end}"] = l1_term(one_way(arrived, back), foreign, weight=weights[end])
        loss_G, (fooled, *distances) = loss_sum(*terms.values())
        update(state, f"G_{begin}to{end}", loss_G)
        logs |= dict(zip(list(terms)[:logged], (fooled.loss, *distances), strict=False))

        # Its discriminator: real logits up, fake logits down.
        logits, penalty = _judge(judge, foreign, fake.detach(), end, state, recipe)
        judging = {"mode": recipe.gan_mode, "side": "D", "n_real": foreign.shape[0], "weight": _d_weight(recipe)}
        loss_D, (judged,) = loss_sum(gan_term(logits, **judging))
        update(state, f"D_{end}", loss_D if penalty is None else loss_D + recipe.lambda_gp * penalty)
        logs |= _said(end, judged, penalty, recipe)
        fakes[end] = fake

    end_step_(state, recipe)
    A, B = batch
    state.show(input=A, fake=fakes["B"], real=B, input_A=B, fake_A=fakes["A"], real_A=A)
    total_G = sum(value for name, value in logs.items() if name.startswith(("loss/G", "loss/cycle", "loss/identity")))
    logs = {"loss/G": total_G, "loss/D": logs["loss/D_A"] + logs["loss/D_B"], **logs}
    return {name: value.detach() for name, value in logs.items()}


def _d_weight(recipe: Recipe) -> float:
    """Factor of D's loss: lsgan and vanilla have the paper's 1/2 in them."""
    return 2 * recipe.d_loss_scale if recipe.gan_mode in ("lsgan", "vanilla") else 1.0


def _said(domain: str, judged: GanLoss, penalty: Tensor | None, recipe: Recipe) -> dict[str, Tensor]:
    """What is logged of the D of a domain."""
    logs = {f"loss/D_{domain}": judged.loss, f"logit/real_{domain}": judged.logit_real}
    logs |= {f"logit/fake_{domain}": judged.logit_fake}
    if penalty is not None:
        logs[f"loss/D_{domain}"] = judged.loss + recipe.lambda_gp * penalty
        logs[f"loss/gp_{domain}"] = penalty
    return logs


def _paint(G: nn.Module, image: Tensor, own: Tensor | None, mode: Mode) -> tuple[Tensor, Tensor | None]:
    """(G's picture of `image`, G's picture of `own`, which is of the domain that G paints), in one batch.

    The samples have nothing to do with each other: InstanceNorm is each one's own, and BatchNorm has two groups.
    """
    if own is None:
        return G(image, mode), None
    fake, same = G(torch.cat((image, own)), dataclasses.replace(mode, groups=2)).chunk(2)
    return fake, same


def _judge(
    D: nn.Module, real: Tensor, fake: Tensor, domain: str, state: State, recipe: Recipe
) -> tuple[Tensor, Tensor | None]:
    """(D's logits of real pictures and then of fake ones from the pool, in one batch; its gradient penalty or None)."""
    if recipe.pool_size:
        images, count = (state.buffers[f"pool_{domain}_{part}"] for part in ("images", "count"))
        fake = pool.exchange_(images, count, fake, rng=state.rng, stream=_POOL_STREAMS[domain])
    logits = D(torch.cat((real, fake)), Mode(groups=2))
    if recipe.gan_mode != "wgangp":
        return logits, None
    # A critic's slope is held near 1 on the way from fake to real.
    alpha = words(state.rng, _PENALTY_STREAMS[domain], real.shape[0]) / 2**32  # (n,) in [0, 1]
    return logits, gradient_penalty(lambda x: D(x, Mode(statistics="batch")), real, fake, alpha)


@torch.no_grad()
def translate(
    G: model.Generators, recipe: Recipe, A: Tensor, rng: Tensor | None = None, *, direction: str = "AtoB"
) -> Tensor:
    """What G makes of pictures, (n, c, h, w) in [-1, 1]; without dropout.

    A: (n, c, h, w) in [-1, 1] of the domain that `direction` ("AtoB" or "BtoA") begins at, h and w multiples of
    `G.multiple`. rng plays no part. Nothing depends on the batch: batch statistics are each image's own. Errors:
    UserError for another direction, or one that was not imported.
    """
    if direction not in ("AtoB", "BtoA"):
        raise UserError(f"--direction must be AtoB or BtoA, got {direction!r}")
    if direction == "BtoA" and recipe.learned == "AtoB":
        raise UserError("--direction BtoA: only the network from A to B was imported; import it with --back FILE")
    one_way = G.AtoB if direction == "AtoB" else G.BtoA
    groups = A.shape[0] if recipe.test_bn == "batch" else 1
    return one_way(A, Mode(statistics=recipe.test_bn, groups=groups)).clamp(-1.0, 1.0)


def _there_and_back(G: model.Generators, recipe: Recipe, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(A as B, that as A again, B as A, that as B again)."""
    fake_B, fake_A = translate(G, recipe, batch.A), translate(G, recipe, batch.B, direction="BtoA")
    return fake_B, translate(G, recipe, fake_B, direction="BtoA"), fake_A, translate(G, recipe, fake_A)


def sample(G: model.Generators, recipe: Recipe, batch: Batch, rng: Tensor | None = None) -> dict[str, Tensor]:
    """Columns of a picture grid, each (n, c, h, w) in [-1, 1]: both domains, painted as the other one, and back.

    Where there is one direction only: A, and painted as B.
    """
    if recipe.learned == "AtoB":
        return {"A": batch.A, "A to B": translate(G, recipe, batch.A)}
    fake_B, cycled_A, fake_A, cycled_B = _there_and_back(G, recipe, batch)
    return {
        "A": batch.A,
        "A to B": fake_B,
        "back to A": cycled_A,
        "B": batch.B,
        "B to A": fake_A,
        "back to B": cycled_B,
    }


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Batch, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """Means over a held-out batch, 0-d, in grey levels of 255: how near what came back is to what it was.

    cycle_l1 (both domains), cycle_l1_A, cycle_l1_B; change_A, change_B: how far a picture of A (B) is from what it
    became, where both domains have as many channels. A pair of Gs that leaves everything as it is has 0 in all of them.
    """
    A, B = batch
    fake_B, cycled_A, fake_A, cycled_B = _there_and_back(nets["G"], recipe, batch)
    cycle_A, cycle_B = (metrics.l1(x, y).float() * 127.5 for x, y in ((cycled_A, A), (cycled_B, B)))
    values = {"cycle_l1": (cycle_A + cycle_B) / 2, "cycle_l1_A": cycle_A, "cycle_l1_B": cycle_B}
    if A.shape[1] == B.shape[1]:
        values |= {f"change_{x}": metrics.l1(y, z) * 127.5 for x, y, z in (("A", A, fake_B), ("B", B, fake_A))}
    return values


def example(recipe: Recipe, device: torch.device | str = "meta") -> Batch:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    return Batch(*(data.empty_images(recipe.batch, c, recipe.crop_size, device) for c in _channels(recipe)))


def generator(recipe: Recipe) -> model.Generators:
    """Both Gs of a recipe, with PyTorch's weights or none (under a meta device)."""
    c_a, c_b = _channels(recipe)
    common = {
        "ngf": recipe.ngf,
        "norm": recipe.norm,
        "in_affine": recipe.in_affine,
        "dropout_p": recipe.dropout_p,
    }
    kind = _generator(recipe)
    if kind in _LEVELS:
        common["levels"] = _levels(recipe)
        make = nets.unet
    else:
        sum_act = "relu" if recipe.sum_relu else "none"
        common |= {"blocks": nets.RESNETS[kind], "padding": recipe.padding, "sum_act": sum_act}
        make = nets.ResNet
    return model.Generators(make(c_a, c_b, **common), make(c_b, c_a, first_stream=_FIRST_STREAM_BTOA, **common))


def discriminator(recipe: Recipe) -> model.Discriminators:
    """Both Ds of a recipe, with PyTorch's weights or none (under a meta device)."""
    shape = {"ndf": recipe.ndf, "norm": recipe.norm, "in_affine": recipe.in_affine}
    if recipe.discriminator == "image":
        return model.Discriminators(*(nets.ImageD(channels, **shape) for channels in _channels(recipe)))
    shape["n_layers"] = recipe.n_layers_d
    return model.Discriminators(*(nets.PatchD(channels, **shape) for channels in _channels(recipe)))


def _generator(recipe: Recipe) -> str:
    return nets.usual_resnet(recipe.crop_size) if recipe.generator == "auto" else recipe.generator


def _halvings(size: int) -> int:
    """How often `size` can be halved without a remainder."""
    return (size & -size).bit_length() - 1


def _levels(recipe: Recipe) -> int:
    """Of a U-Net."""
    return _LEVELS[recipe.generator] or recipe.levels or min(_halvings(recipe.crop_size), _MOST_LEVELS)


def _check_generator(recipe: Recipe) -> None:
    kind, size = _generator(recipe), recipe.crop_size
    if recipe.levels and kind != "unet":
        raise UserError(f"--levels {recipe.levels} is for --generator unet, not {kind}")
    if kind in _LEVELS:
        if recipe.padding != "reflect" or recipe.sum_relu:
            raise UserError(f"--padding and --sum-relu are for residual generators, not --generator {kind}")
        if recipe.levels == 1:
            raise UserError("--levels must be at least 2, or 0 for as many as --crop-size allows, got 1")
        # Fewer than 4 halvings only when asked for: such a G sees too little of the picture at once.
        multiple = 2 ** (_LEVELS[kind] or recipe.levels or 4)
    else:
        multiple = nets.ResNet.multiple
    if size % multiple:
        below = size // multiple * multiple or multiple
        raise UserError(
            f"--crop-size must be a multiple of {multiple} such as {below} or {(size // multiple + 1) * multiple}"
            f"{f' for --generator {kind}' if kind in _LEVELS else ''}, got {size}"
        )


def _channels(recipe: Recipe) -> tuple[int, int]:
    """Of A and B; those left open become those of photographs."""
    return recipe.input_channels or 3, recipe.output_channels or 3


def _identity_weights(recipe: Recipe) -> dict[str, float]:
    """Of each domain's identity loss: a share of its cycle's weight, as in the authors' code."""
    return {"A": recipe.lambda_identity * recipe.lambda_a, "B": recipe.lambda_identity * recipe.lambda_b}

"""How CycleGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pygan import nets, pool
from pygan.data import Batch
from pygan.errors import UserError
from pygan.gans.cyclegan import model
from pygan.losses import gan_term, gradient_penalty, l1_term, loss_sum
from pygan.nn import INIT_KINDS, Mode, choose_kernels_, init_weights_, place_
from pygan.ops.philox import words
from pygan.optim import adam, end_step_, loss_scale, update
from pygan.recipe import BaseRecipe, flag, option
from pygan.state import State
from pygan.streams import side_by_side

_BLOCKS = {"resnet_6": 6, "resnet_9": 9}
# Numbers in the random stream: the blocks of AtoB from 1 and those of BtoA from 64, then these, for domain A and B.
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

    generator: str = option(
        "auto", "both Gs; auto: 6 residual blocks up to 128 pixels, else 9", choices=("auto", *_BLOCKS)
    )
    input_channels: int = option(0, "channels of A; 0: as in the data", unit="channels")
    output_channels: int = option(0, "channels of B; 0: as in the data", unit="channels")
    ngf: int = option(64, "channels of a G's first convolution", unit="channels")
    dropout_p: float = option(0.0, "part of the values that dropout sets to 0 in G's blocks", unit="of all values")
    ndf: int = option(64, "channels of a D's first convolution", unit="channels")
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

    test_bn: str = option(
        "batch", "statistics of BatchNorm in use: each image's own or the running ones", choices=("batch", "running")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple = nets.ResNet.multiple
        least = {"crop_size": 2 * multiple, "ngf": 1, "ndf": 1, "input_channels": 0, "output_channels": 0}
        least |= {"n_layers_d": 0, "pool_size": 0, "init_gain": 0.0, "d_loss_scale": 0.0, "lambda_gp": 0.0}
        least |= {"lambda_gan": 0.0, "lambda_a": 0.0, "lambda_b": 0.0, "lambda_identity": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        if self.crop_size % multiple:
            below = self.crop_size // multiple * multiple
            raise UserError(
                f"--crop-size must be a multiple of {multiple} such as {below} or {below + multiple}, "
                f"got {self.crop_size}"
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
    "cycle-only": {**_ABLATION, "lambda_gan": 0.0},
    "gan-only": {**_ABLATION, "lambda_a": 0.0, "lambda_b": 0.0},
    "forward": {**_ABLATION, "lambda_b": 0.0},
    "backward": {**_ABLATION, "lambda_a": 0.0},
    "demo": {
        "load_size": 72, "crop_size": 64, "ngf": 16, "ndf": 16, "batch": 4, "epochs": 10, "decay_epochs": 10,
        "checkpoint_every_images": 2800, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 36, "crop_size": 32, "ngf": 8, "ndf": 8, "n_layers_d": 2, "pool_size": 4, "batch": 2, "epochs": 2,
        "decay_epochs": 2, "data_images": 8, "sample_images": 2, "eval_images": 2, "sample_every_images": 8,
        "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, channels: tuple[int, int] = (3, 3), natural_direction: str = "AtoB") -> Recipe:
    """The recipe with every field fixed that was left to the data.

    channels: of the data's A and B; natural_direction plays no part, both are learned. A resolved recipe comes back as
    it is. Errors: UserError if a number of channels was asked for that the data does not have.
    """
    for name, count in zip(("input_channels", "output_channels"), channels, strict=True):
        if getattr(recipe, name) not in (0, count):
            raise UserError(f"{flag(name)} is {getattr(recipe, name)}, but the data has {count}; leave the flag out")
    if channels[0] != channels[1] and _identity_weights(recipe) != {"A": 0.0, "B": 0.0}:
        raise UserError(
            f"--lambda-identity needs as many channels in A as in B, got {channels[0]} and {channels[1]}: set it to 0"
        )
    return dataclasses.replace(
        recipe, generator=_generator(recipe), input_channels=channels[0], output_channels=channels[1]
    )


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers, pools and random numbers of a new run. The weights depend on the recipe alone."""
    device = torch.device(device)
    with torch.device("meta"):  # no time for weights that are about to be replaced
        nets = {"G": generator(recipe), "D": discriminator(recipe)}
    draws = torch.Generator().manual_seed(recipe.seed)
    for net in nets.values():
        net.to_empty(device="cpu")
        init_weights_(net, recipe.init, recipe.init_gain, draws)
        place_(net, device)
        choose_kernels_(net, recipe.kernels)
    ema = {"G": copy.deepcopy(nets["G"]).requires_grad_(False)} if recipe.ema_half_life_images else {}
    buffers = {"rng": torch.tensor([recipe.seed, 0], dtype=torch.int64, device=device), **loss_scale(recipe, device)}
    if recipe.pool_size:
        for domain, channels in zip("AB", _channels(recipe), strict=True):
            shape = (channels, recipe.crop_size, recipe.crop_size)
            for part, tensor in pool.empty(recipe.pool_size, shape, device=device).items():
                buffers[f"pool_{domain}_{part}"] = tensor
    opts = {name: adam(net, recipe, average=ema.get(name)) for name, net in nets.items()}
    return State(nets=nets, opts=opts, ema=ema, buffers=buffers)


def step(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """One iteration (Zhu et al. 2017, 3 and 4): both Gs against the Ds as they are, then both Ds.

    Returns 0-d tensors for the logs. Their last letter is the domain of the pictures that they are about: loss/G_B is
    what D.B makes of fake_B, loss/cycle_A the distance of A from what went to B and came back, with its weight.
    """
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
    halved = recipe.gan_mode in ("lsgan", "vanilla")  # gan_loss has their 1/2 in it
    weight = 2 * recipe.d_loss_scale if halved else 1.0
    judging = {"mode": recipe.gan_mode, "side": "D", "n_real": A.shape[0], "weight": weight}
    loss_D, judged = loss_sum(*(gan_term(logits, **judging) for logits, _ in seen))
    for _, penalty in seen:
        if penalty is not None:
            loss_D = loss_D + recipe.lambda_gp * penalty
    update(state, "D", loss_D)

    end_step_(state, recipe)
    logs = {"loss/G": loss_G, "loss/D": loss_D}
    logs |= dict(zip(terms, (fooled_A.loss, fooled_B.loss, *distances), strict=True))
    for domain, said, (_, penalty) in zip("AB", judged, seen, strict=True):
        logs |= {f"loss/D_{domain}": said.loss, f"logit/real_{domain}": said.logit_real}
        logs |= {f"logit/fake_{domain}": said.logit_fake}
        if penalty is not None:
            logs[f"loss/D_{domain}"] = said.loss + recipe.lambda_gp * penalty
            logs[f"loss/gp_{domain}"] = penalty
    return {name: value.detach() for name, value in logs.items()}


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
def sample(
    G: model.Generators, recipe: Recipe, A: Tensor, rng: Tensor | None = None, *, direction: str = "AtoB"
) -> Tensor:
    """What G makes of pictures, (n, c, h, w) in [-1, 1]; without dropout.

    A: (n, c, h, w) in [-1, 1] of the domain that `direction` ("AtoB" or "BtoA") begins at, h and w multiples of
    `G.multiple`. rng plays no part. Nothing depends on the batch: batch statistics are each image's own.
    """
    if direction not in ("AtoB", "BtoA"):
        raise ValueError(f'direction must be "AtoB" or "BtoA", got {direction!r}')
    one_way = G.AtoB if direction == "AtoB" else G.BtoA
    groups = A.shape[0] if recipe.test_bn == "batch" else 1
    return one_way(A, Mode(statistics=recipe.test_bn, groups=groups)).clamp(-1.0, 1.0)


def generator(recipe: Recipe) -> model.Generators:
    """Both Gs of a recipe, with PyTorch's weights or none (under a meta device)."""
    c_a, c_b = _channels(recipe)
    common = {
        "ngf": recipe.ngf,
        "blocks": _BLOCKS[_generator(recipe)],
        "norm": recipe.norm,
        "in_affine": recipe.in_affine,
        "dropout_p": recipe.dropout_p,
    }
    BtoA = nets.ResNet(c_b, c_a, first_stream=_FIRST_STREAM_BTOA, **common)
    return model.Generators(nets.ResNet(c_a, c_b, **common), BtoA)


def discriminator(recipe: Recipe) -> model.Discriminators:
    """Both Ds of a recipe, with PyTorch's weights or none (under a meta device)."""
    shape = {"ndf": recipe.ndf, "n_layers": recipe.n_layers_d, "norm": recipe.norm, "in_affine": recipe.in_affine}
    return model.Discriminators(*(nets.PatchD(channels, **shape) for channels in _channels(recipe)))


def _generator(recipe: Recipe) -> str:
    if recipe.generator != "auto":
        return recipe.generator
    return "resnet_6" if recipe.crop_size <= 128 else "resnet_9"


def _channels(recipe: Recipe) -> tuple[int, int]:
    """Of A and B; those left open become those of photographs."""
    return recipe.input_channels or 3, recipe.output_channels or 3


def _identity_weights(recipe: Recipe) -> dict[str, float]:
    """Of each domain's identity loss: a share of its cycle's weight, as in the authors' code."""
    return {"A": recipe.lambda_identity * recipe.lambda_a, "B": recipe.lambda_identity * recipe.lambda_b}

"""How SimGAN is trained: every number of it, its networks, its step, and how a trained one is used."""

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
from pygan.gans.simgan import history, model
from pygan.losses import gan_term, l1_term, loss_sum
from pygan.nn import INIT_KINDS, init_weights_
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State

_NO_FACTS = Facts()
_POOL_STREAM = 1 << 17  # number in the random stream of the pool, or of the history


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """SimGAN. The defaults are those of the comparison in CycleGAN's paper (Zhu et al. 2017, 5.1)."""

    form: str = option(
        "comparison",
        "comparison: the networks, loss and pool of CycleGAN; paper: SimGAN's own refiner, local D and history",
        choices=("comparison", "paper"),
    )
    direction: str = option("auto", "AtoB: A is synthetic and B real; auto: AtoB", choices=("auto", "AtoB", "BtoA"))
    load_size: int = option(286, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(256, "height and width of the random crop that is trained on", unit="pixels")
    flip: bool = option(True, "mirror half of the images")
    resample: str = option(
        "auto",
        "filter for resizing; auto: bicubic, nearest for label maps",
        choices=("auto", "bicubic", "bilinear", "area", "nearest"),
    )

    generator: str = option(
        "auto", "G of the comparison; auto: 6 residual blocks up to 128 pixels, else 9", choices=("auto", *nets.RESNETS)
    )
    input_channels: int = option(0, "channels of A; 0: as in the data", unit="channels")
    output_channels: int = option(0, "channels of B; 0: as in the data", unit="channels")
    ngf: int = option(64, "channels of G's first convolution, of all of the refiner's", unit="channels")
    refiner_blocks: int = option(4, "residual blocks of the paper's refiner", unit="blocks")
    ndf: int = option(64, "channels of the comparison's D's first convolution", unit="channels")
    n_layers_d: int = option(
        3, "strided convolutions of the comparison's D, 0 to 6; 3 sees 70x70 pixels", unit="layers"
    )
    in_affine: bool = option(False, "InstanceNorm of the comparison's nets with scale and shift")
    init: str = option("normal", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")

    gan_mode: str = option(
        "auto",
        "adversarial loss; auto: lsgan in the comparison, softplus (cross-entropy) in the paper's form",
        choices=("auto", "lsgan", "vanilla", "softplus"),
    )
    d_loss_scale: float = option(0.5, "lsgan, vanilla: factor of the sum of D's real and fake halves; 1: not halved")
    lambda_gan: float = option(1.0, "weight of the adversarial loss in G")
    lambda_self: float = option(
        10.0, "weight of staying near the synthetic picture: mean over its values, in the paper's form their sum"
    )
    pool_size: int = option(
        50, "comparison: generated images that D is shown again later; 0: only new ones", unit="images"
    )
    history_size: int = option(25_600, "paper: refined images that half of D's batch is drawn from", unit="images")
    refiner_steps: int = option(
        2, "paper: updates of the refiner for one of D, each on its own equal part of the batch", unit="updates"
    )
    pretrain_refiner_steps: int = option(1000, "paper: steps at first with the L1 alone", unit="steps")
    pretrain_d_steps: int = option(200, "paper: steps of D alone after them", unit="steps")
    phase: str = option(
        "all",
        "paper: which part of the training this is; all: one after the other",
        choices=("all", "refiner", "discriminator", "adversarial"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"crop_size": 8, "ngf": 1, "ndf": 1, "input_channels": 0, "output_channels": 0, "n_layers_d": 0}
        least |= {"refiner_blocks": 1, "refiner_steps": 1, "pool_size": 0, "history_size": 1, "init_gain": 0.0}
        least |= {"pretrain_refiner_steps": 0, "pretrain_d_steps": 0}
        least |= {"d_loss_scale": 0.0, "lambda_gan": 0.0, "lambda_self": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")
        if not (self.lambda_gan or self.lambda_self):
            raise UserError("--lambda-gan and --lambda-self are both 0: there is nothing to train G with")
        if self.form == "paper":
            _check_paper(self)
        else:
            _check_comparison(self)


PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "form": "paper", "load_size": 64, "crop_size": 64, "flip": False, "batch": 1536, "steps": 10_000,
        "schedule": "const", "lr": 1e-3, "beta1": 0.9, "init": "glorot", "lambda_self": 0.5,
        "sample_every_images": 153_600, "checkpoint_every_images": 768_000,
    },
    "comparison": {"load_size": 143, "crop_size": 128},
    "fast": {"load_size": 143, "crop_size": 128, "batch": 16, "epochs": 50, "decay_epochs": 50, "amp": True},
    "demo": {
        "load_size": 72, "crop_size": 64, "ngf": 16, "ndf": 16, "batch": 4, "epochs": 5, "decay_epochs": 5,
        "lambda_self": 2.0, "sample_every_images": 400, "checkpoint_every_images": 400, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 36, "crop_size": 32, "ngf": 8, "ndf": 8, "n_layers_d": 2, "pool_size": 4, "batch": 2, "epochs": 2,
        "decay_epochs": 2, "data_images": 8, "sample_images": 2, "eval_images": 2, "sample_every_images": 8,
        "checkpoint_every_images": 8,
    },
    "tiny-paper": {
        "form": "paper", "load_size": 18, "crop_size": 16, "ngf": 4, "refiner_blocks": 1, "batch": 6, "steps": 3,
        "schedule": "const", "lr": 1e-3, "beta1": 0.9, "init": "glorot", "lambda_self": 0.5, "history_size": 2,
        "pretrain_refiner_steps": 2, "pretrain_d_steps": 2, "data_images": 8, "sample_images": 2, "eval_images": 2,
        "sample_every_images": 12, "checkpoint_every_images": 12,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError if a number of channels was asked for that the data does not have, or if A and B differ in it.
    """
    c_a, c_b = facts.channels
    recipe = fitted(recipe, input_channels=c_a, output_channels=c_b)
    if c_a != c_b:
        raise UserError(f"simgan needs as many channels in A as in B, got {c_a} and {c_b}: set --input-channels {c_b}")
    return dataclasses.replace(
        recipe,
        direction=facts.natural_direction if recipe.direction == "auto" else recipe.direction,
        generator=recipe.generator if recipe.form == "paper" else _generator(recipe),
        gan_mode=_gan_mode(recipe),
    )


def phases(recipe: Recipe) -> tuple[Recipe, ...]:
    """The parts of the paper's training, one after the other (3.1): the refiner alone, D alone, then both.

    Before both learn, a batch is as large as one update of a net needs. Another recipe is its only part.
    """
    if recipe.form != "paper" or recipe.phase != "all":
        return (recipe,)
    alone = {"batch": recipe.batch // (recipe.refiner_steps + 1)}
    parts = [
        dataclasses.replace(recipe, phase=phase, steps=steps, **alone)
        for phase, steps in (("refiner", recipe.pretrain_refiner_steps), ("discriminator", recipe.pretrain_d_steps))
        if steps
    ]
    return (*parts, dataclasses.replace(recipe, phase="adversarial"))


def inherit_(state: State, before: Mapping[str, nn.Module]) -> None:
    """Begin with the nets of the phase before, G's average with its G. before: {"G": net, "D": net}.

    The optimizers and the history begin anew.
    """
    for name, net in before.items():
        for follower in (state.nets[name], state.ema.get(name)):
            if follower is not None:
                follower.load_state_dict(net.state_dict())
    state.refresh_()


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers, pool or history and random numbers of a new run. The weights depend on the recipe alone."""
    kept = recipe.pool_size if recipe.form == "comparison" else recipe.history_size * (recipe.phase != "refiner")
    shape = (_channels(recipe), recipe.crop_size, recipe.crop_size)
    buffers = pool.empty(kept, shape, device=device, prefix="pool_") if kept else {}
    begin_ = partial(init_weights_, kind=recipe.init, gain=recipe.init_gain)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_, buffers=buffers)


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """Synthetic and real pictures for training ("train") or others ("held-out"), as A and B of the data."""
    return data.unpaired_feed(recipe, split=split, device=device, rank=rank, world=world)


def step(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """One iteration. Returns 0-d tensors for the logs.

    comparison (Zhu et al. 2017, 5.1): D, then G against the new D. paper (Shrivastava et al. 2017, algorithm 1): the
    batch in equal parts, one for each update of the refiner and the last for that of D.
    """
    synthetic, real = _facing(recipe, batch)  # (n, c, h, w) in [-1, 1], with nothing to do with each other
    if recipe.form == "paper":
        logs = _step_of_the_paper(state, recipe, synthetic, real)
    else:
        logs = _step_of_the_comparison(state, recipe, synthetic, real)
    end_step_(state, recipe)
    return {name: value.detach() for name, value in logs.items()}


def _step_of_the_comparison(state: State, recipe: Recipe, synthetic: Tensor, real: Tensor) -> dict[str, Tensor]:
    G, D = state.G, state.D
    refined = G(synthetic)  # (n, c, h, w)

    # Discriminator: real logits up, refined logits down. Half of the refined ones are older.
    shown = refined.detach()
    if recipe.pool_size:
        shown = pool.exchange_(state.pool_images, state.pool_count, shown, rng=state.rng, stream=_POOL_STREAM)
    logs = _update_D(state, recipe, D(torch.cat((real, shown))), real.shape[0])
    state.show(input=synthetic, fake=refined, real=real)

    # Generator: refined logits up, and the picture left as it is (equation 4).
    return _update_G(state, recipe, synthetic, refined, D(refined)) | logs


def _step_of_the_paper(state: State, recipe: Recipe, synthetic: Tensor, real: Tensor) -> dict[str, Tensor]:
    G, D = state.G, state.D
    if recipe.phase == "refiner":
        refined = G(synthetic)
        state.show(input=synthetic, fake=refined, real=real)
        logs = _update_G(state, recipe, synthetic, refined, None)
        return logs | {"loss/D": torch.zeros_like(logs["loss/G"])}
    logs = {}
    if recipe.phase != "discriminator":
        size = synthetic.shape[0] // (recipe.refiner_steps + 1)
        *parts, synthetic = synthetic.split(size)
        real = real[-size:]
        # Refiner: refined logits up, the picture left as it is; on other pictures each time.
        for part in parts:
            refined = G(part)
            logs = _update_G(state, recipe, part, refined, D(refined))

    # Discriminator: real logits up, refined logits down. Half of the refined ones are of the history.
    with torch.no_grad():
        given = synthetic[: synthetic.shape[0] // 2]
        fresh = G(given)
    state.show(input=given, fake=fresh, real=real)
    older = history.exchange_(state.pool_images, state.pool_count, fresh, rng=state.rng, stream=_POOL_STREAM)
    logs |= _update_D(state, recipe, D(torch.cat((real, fresh, older))), real.shape[0])
    if recipe.phase == "discriminator":
        logs["loss/G"] = torch.zeros_like(logs["loss/D"])
    return logs


def _update_G(
    state: State, recipe: Recipe, synthetic: Tensor, refined: Tensor, logits: Tensor | None
) -> dict[str, Tensor]:
    """One update of G by D's logits (None: not by them) and the distance to where it began."""
    values = synthetic[0].numel() if recipe.form == "paper" else 1  # a sum over the picture, else a mean
    terms = {"loss/G_self": l1_term(refined, synthetic, weight=recipe.lambda_self * values)}
    if logits is not None:
        weight = recipe.lambda_gan * _places(recipe, logits)
        terms["loss/G_gan"] = gan_term(logits, mode=_gan_mode(recipe), side="G", weight=weight)
    loss, (distance, *fooled) = loss_sum(*terms.values())
    update(state, "G", loss)
    logs = {"loss/G": loss, "loss/G_self": distance}
    if fooled:
        logs["loss/G_gan"] = fooled[0].loss
    return logs


def _update_D(state: State, recipe: Recipe, logits: Tensor, n_real: int) -> dict[str, Tensor]:
    """One update of D by its logits of real pictures and then of refined ones."""
    mode = _gan_mode(recipe)
    weight = 2 * recipe.d_loss_scale if mode in ("lsgan", "vanilla") else 1.0  # gan_loss has their 1/2 in it
    weight *= _places(recipe, logits)
    loss, (judged,) = loss_sum(gan_term(logits, mode=mode, side="D", n_real=n_real, weight=weight))
    update(state, "D", loss)
    return {"loss/D": loss, "logit/real": judged.logit_real, "logit/fake": judged.logit_fake}


def _places(recipe: Recipe, logits: Tensor) -> int:
    """The paper's losses are sums over the map of logits, the comparison's are means."""
    return logits[0].numel() if recipe.form == "paper" else 1


@torch.no_grad()
def translate(G: nn.Module, recipe: Recipe, A: Tensor, rng: Tensor | None = None) -> Tensor:
    """Synthetic pictures refined, (n, c, h, w) in [-1, 1]. rng plays no part, nothing depends on the batch.

    A: (n, c, h, w) in [-1, 1] of the synthetic domain, h and w multiples of `G.multiple`.
    """
    return G(A).clamp(-1.0, 1.0)


def sample(G: nn.Module, recipe: Recipe, batch: Batch, rng: Tensor | None = None) -> dict[str, Tensor]:
    """Columns of a picture grid, each (n, c, h, w) in [-1, 1]: synthetic, refined, and real ones beside them."""
    synthetic, real = _facing(recipe, batch)
    return {"input": synthetic, "output": translate(G, recipe, synthetic), "real": real}


@torch.no_grad()
def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Batch, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """Of a held-out batch, 0-d, in grey levels of 255.

    colours: how far the values of the refined pictures' pixels are from those of real ones (Wasserstein-1, a mean over
    the channels); colours_before: the same of the synthetic ones; change: how far refined is from synthetic.
    """
    synthetic, real = _facing(recipe, batch)
    refined = translate(nets["G"], recipe, synthetic)
    return {
        "colours": _colours(refined, real) * 127.5,
        "colours_before": _colours(synthetic, real) * 127.5,
        "change": metrics.l1(refined, synthetic) * 127.5,
    }


def _colours(a: Tensor, b: Tensor) -> Tensor:
    """Wasserstein-1 distance of the values of all pixels of a and of b, mean over the channels; both (n, c, h, w)."""
    a, b = (x.float().transpose(0, 1).flatten(1).sort(dim=1).values for x in (a, b))  # (c, n h w)
    return (a - b).abs().mean()


def example(recipe: Recipe, device: torch.device | str = "meta") -> Batch:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    return Batch(*(data.empty_images(recipe.batch, _channels(recipe), recipe.crop_size, device) for _ in "AB"))


def generator(recipe: Recipe) -> nets.ResNet | model.Refiner:
    """G of a recipe, with PyTorch's weights or none (under a meta device)."""
    channels = _channels(recipe)
    if recipe.form == "paper":
        return model.Refiner(channels, width=recipe.ngf, blocks=recipe.refiner_blocks)
    blocks = nets.RESNETS[_generator(recipe)]
    return nets.ResNet(channels, channels, ngf=recipe.ngf, blocks=blocks, in_affine=recipe.in_affine)


def discriminator(recipe: Recipe) -> nets.PatchD | model.LocalD:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    if recipe.form == "paper":
        return model.LocalD(_channels(recipe))
    shape = {"ndf": recipe.ndf, "n_layers": recipe.n_layers_d, "in_affine": recipe.in_affine}
    return nets.PatchD(_channels(recipe), **shape)


def _facing(recipe: Recipe, batch: Batch) -> tuple[Tensor, Tensor]:
    """(synthetic, real) pictures of a batch."""
    return (batch.B, batch.A) if recipe.direction == "BtoA" else (batch.A, batch.B)


def _channels(recipe: Recipe) -> int:
    """Of every picture; left open, they become those of photographs."""
    return recipe.input_channels or 3


def _generator(recipe: Recipe) -> str:
    return nets.usual_resnet(recipe.crop_size) if recipe.generator == "auto" else recipe.generator


def _gan_mode(recipe: Recipe) -> str:
    if recipe.gan_mode != "auto":
        return recipe.gan_mode
    return "softplus" if recipe.form == "paper" else "lsgan"


def _check_comparison(recipe: Recipe) -> None:
    size, multiple = recipe.crop_size, nets.ResNet.multiple
    if size % multiple:
        below = size // multiple * multiple
        raise UserError(
            f"--crop-size must be a multiple of {multiple} such as {below} or {below + multiple}, got {size}"
        )
    if recipe.n_layers_d > 6:
        raise UserError(f"--n-layers-d must be at most 6, got {recipe.n_layers_d}")
    if recipe.n_layers_d and size // 2**recipe.n_layers_d < 3:
        raise UserError(
            f"--n-layers-d {recipe.n_layers_d} leaves no logit of {size} pixels: "
            f"take a crop size of at least {3 * 2**recipe.n_layers_d}, or fewer layers"
        )
    if recipe.phase != "all":
        raise UserError(f"--phase {recipe.phase} is for --form paper; leave the flag out")


def _check_paper(recipe: Recipe) -> None:
    parts = 1 if recipe.phase in ("refiner", "discriminator") else recipe.refiner_steps + 1
    if recipe.batch % (2 * parts):
        near = max(1, round(recipe.batch / (2 * parts))) * 2 * parts
        raise UserError(
            f"--batch must be a multiple of {2 * parts} such as {near} ({parts} equal parts, of which D sees half and "
            f"half of the history), got {recipe.batch}"
        )
    half = recipe.batch // (2 * parts)
    if recipe.history_size % half:
        near = max(1, round(recipe.history_size / half)) * half
        raise UserError(
            f"--history-size must be a multiple of {half}, half of D's batch, such as {near}, got {recipe.history_size}"
        )

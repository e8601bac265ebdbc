"""How BiGAN and ALI are trained: every number of them, the networks, the step, and how a trained one is used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pygan import data, metrics, nets, pool
from pygan.begin import new_state
from pygan.data import Batch, Facts, Feed, Pictures
from pygan.errors import UserError
from pygan.gans.bigan import model
from pygan.losses import gan_term, loss_sum
from pygan.nn import INIT_KINDS, Mode, init_weights_
from pygan.ops.philox import new_rng, normal
from pygan.optim import end_step_, update
from pygan.recipe import BaseRecipe, fitted, flag, option
from pygan.state import State
from pygan.streams import side_by_side

# Numbers in the random stream, beyond those of the layers.
_Z, _EPSILON, _Z_IN_USE = 1 << 16, (1 << 16) + 1, (1 << 16) + 2
_POOL_STREAMS = {"G": 1 << 17, "E": (1 << 17) + 1}
_NO_FACTS = Facts()


@dataclass(frozen=True)
class Recipe(BaseRecipe):
    """BiGAN/ALI. The defaults are those of CycleGAN's comparison, between two domains; preset `ali` is ALI's own."""

    form: str = option(
        "cyclegan",
        "between two domains of pictures, as in CycleGAN's comparison, or ALI's own between pictures and noise",
        choices=("cyclegan", "ali"),
    )
    load_size: int = option(143, "height and width that images are resized to", unit="pixels")
    crop_size: int = option(128, "height and width of the random crop that is trained on", unit="pixels")
    flip: bool = option(True, "mirror half of the images")
    resample: str = option(
        "auto",
        "filter for resizing; auto: bicubic, nearest for label maps",
        choices=("auto", "bicubic", "bilinear", "area", "nearest"),
    )

    generator: str = option(
        "auto", "cyclegan: G and E; auto: 6 residual blocks up to 128 pixels, else 9", choices=("auto", *nets.RESNETS)
    )
    input_channels: int = option(0, "cyclegan: channels of A; 0: as in the data", unit="channels")
    output_channels: int = option(0, "cyclegan: channels of B; 0: as in the data", unit="channels")
    ngf: int = option(64, "cyclegan: channels of the first convolution of G and E", unit="channels")
    ndf: int = option(64, "cyclegan: channels of D's first convolution", unit="channels")
    n_layers_d: int = option(3, "cyclegan: strided convolutions of D, 0 to 6; 3 sees 70x70 pixels", unit="layers")
    norm: str = option("instance", "cyclegan: normalisation in all nets", choices=("instance", "batch"))
    in_affine: bool = option(False, "cyclegan: InstanceNorm with scale and shift")
    pool_size: int = option(50, "cyclegan: pairs that D is shown again later; 0: only new ones", unit="images")

    channels: int = option(0, "ali: channels of the pictures; 0: as in the data", unit="channels")
    z_dim: int = option(64, "ali: length of the noise", unit="values")
    dropout_in: float = option(0.2, "ali: part of x and z that dropout sets to 0 for D", unit="of all values")
    dropout_p: float = option(
        0.5, "ali: part of what D's other layers read that dropout sets to 0", unit="of all values"
    )

    init: str = option("normal", "how weights begin", choices=tuple(INIT_KINDS))
    init_gain: float = option(0.02, "standard deviation (normal) or gain of the weights at the beginning")
    gan_mode: str = option("lsgan", "adversarial loss", choices=("lsgan", "vanilla", "softplus"))
    d_loss_scale: float = option(0.5, "lsgan, vanilla: factor of the sum of D's two halves; 1: not halved")

    test_bn: str = option(
        "batch",
        "cyclegan: statistics of BatchNorm in use: each image's own or the running ones",
        choices=("batch", "running"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"input_channels": 0, "output_channels": 0, "channels": 0, "ngf": 1, "ndf": 1, "n_layers_d": 0}
        least |= {"pool_size": 0, "z_dim": 1, "init_gain": 0.0, "d_loss_scale": 0.0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{flag(name)} must be at least {bound}, got {getattr(self, name)}")
        for name in ("dropout_in", "dropout_p"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"{flag(name)} must be in [0, 1), got {getattr(self, name)}")
        _check_size(self)
        if self.load_size < self.crop_size:
            raise UserError(f"--load-size must be at least --crop-size {self.crop_size}, got {self.load_size}")


def _check_size(recipe: Recipe) -> None:
    size, multiple = recipe.crop_size, nets.ResNet.multiple
    if recipe.form == "ali":
        if size != model.ALI_SIZE:
            raise UserError(f"--crop-size must be {model.ALI_SIZE} with --form ali, got {size}; see --preset ali")
        return
    if size < 2 * multiple or size % multiple:
        below = max(2 * multiple, size // multiple * multiple)
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


_ALI = {
    "form": "ali", "load_size": 32, "crop_size": 32, "flip": False, "batch": 100, "decay_epochs": 0,
    "schedule": "const", "lr": 1e-4, "init_gain": 0.01, "gan_mode": "softplus",
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "ali": {**_ALI, "epochs": 6475},
    "fast": {"batch": 4, "amp": True},
    "demo": {
        "load_size": 36, "crop_size": 32, "ngf": 16, "ndf": 32, "n_layers_d": 2, "batch": 4, "epochs": 10,
        "decay_epochs": 10, "checkpoint_every_images": 2000, "max_minutes": 5.0,
    },
    "tiny": {
        "load_size": 36, "crop_size": 32, "ngf": 8, "ndf": 8, "n_layers_d": 2, "pool_size": 4, "batch": 2, "epochs": 2,
        "decay_epochs": 2, "data_images": 8, "sample_images": 2, "eval_images": 2, "sample_every_images": 8,
        "checkpoint_every_images": 8,
    },
}  # fmt: skip


def resolve(recipe: Recipe, facts: Facts = _NO_FACTS) -> Recipe:
    """The recipe with every field fixed that was left to the data. A resolved recipe comes back as it is.

    Errors: UserError if a number of channels was asked for that the data does not have.
    """
    names = ("channels",) if recipe.form == "ali" else ("input_channels", "output_channels")
    recipe = fitted(recipe, **dict(zip(names, facts.channels, strict=False)))
    return dataclasses.replace(recipe, generator=_generator(recipe))


def build(recipe: Recipe, device: torch.device | str) -> State:
    """Nets, optimizers, pools and random numbers of a new run. The weights depend on the recipe alone.

    G holds both ways, so one Adam does for both: what G wants moves no weight of E, nor the other way round.
    """
    buffers = {}
    if recipe.pool_size and recipe.form == "cyclegan":
        shape = (sum(_channels(recipe)), recipe.crop_size, recipe.crop_size)
        for whose in "GE":
            buffers |= pool.empty(recipe.pool_size, shape, device=device, prefix=f"pool_{whose}_")
    begin_ = partial(_begin_, recipe=recipe)
    return new_state(recipe, device, {"G": generator, "D": discriminator}, begin_, buffers=buffers)


def _begin_(net: nn.Module, recipe: Recipe, generator: torch.Generator) -> None:
    """As --init says; ALI's norms begin at 1, and so that pictures begin grey, its bias of every pixel at 0."""
    init_weights_(net, recipe.init, recipe.init_gain, generator, norm_std=0.0 if recipe.form == "ali" else None)
    if isinstance(net, model.AliGenerators):
        net.decoder.pixel_bias.zero_()


def batches(recipe: Recipe, split: str, device: torch.device | str, rank: int = 0, world: int = 1) -> Feed:
    """For training ("train") or the others ("held-out"): pictures of two domains drawn independently; ali: of one."""
    feed = data.pictures_feed if recipe.form == "ali" else data.unpaired_feed
    return feed(recipe, split, device, rank, world)


def example(recipe: Recipe, device: torch.device | str = "meta") -> Batch | Pictures:
    """A batch of the right shapes with anything in it, to walk a step without data."""
    images = [data.empty_images(recipe.batch, c, recipe.crop_size, device) for c in _channels(recipe)]
    return Pictures(*images) if recipe.form == "ali" else Batch(*images)


def step(state: State, recipe: Recipe, batch: Batch | Pictures) -> dict[str, Tensor]:
    """One iteration of the recipe's form. Returns 0-d tensors for the logs.

    loss/G is the sum of what G and E are to lower: cyclegan loss/G_B, whose pictures are of B, and loss/G_A; ali
    loss/G_x and loss/G_z. logit/real and logit/fake: of the pairs that D is to give high and low logits.
    """
    logs = _ali_step(state, recipe, batch) if recipe.form == "ali" else _cyclegan_step(state, recipe, batch)
    end_step_(state, recipe)
    return {name: value.detach() for name, value in logs.items()}


def _cyclegan_step(state: State, recipe: Recipe, batch: Batch) -> dict[str, Tensor]:
    """The order of CycleGAN's authors: D, then G and E, which do not see each other."""
    G, D = state.G, state.D
    A, B = batch  # (n, c_a, h, w), (n, c_b, h, w) in [-1, 1], with nothing to do with each other
    n = A.shape[0]

    # G paints B, E paints A.
    fake_B, fake_A = side_by_side(lambda: G.AtoB(A), lambda: G.BtoA(B))

    # Discriminator: logits of (A, G(A)) up, of (E(B), B) down. Some pairs are older, so that D does not forget them.
    pairs_G = _from_pool(torch.cat((A, fake_B.detach()), dim=1), "G", state, recipe)
    pairs_E = _from_pool(torch.cat((fake_A.detach(), B), dim=1), "E", state, recipe)
    loss_D, (judged,) = loss_sum(_judging(D(torch.cat((pairs_G, pairs_E)), Mode(groups=2)), recipe, n))
    update(state, "D", loss_D)

    # G: the logits of its pairs down. E: those of its own up. In one batch, each half with its own statistics.
    logits = D(torch.cat((torch.cat((A, fake_B), dim=1), torch.cat((fake_A, B), dim=1))), Mode(groups=2))
    loss_G, (fooled_B, fooled_A) = loss_sum(*_fooling(logits, recipe, n))
    update(state, "G", loss_G)

    state.show(input=A, fake=fake_B, real=B, input_A=B, fake_A=fake_A, real_A=A)
    logs = {"loss/G": loss_G, "loss/D": loss_D, "loss/G_B": fooled_B.loss, "loss/G_A": fooled_A.loss}
    return logs | {"logit/real": judged.logit_real, "logit/fake": judged.logit_fake}


def _ali_step(state: State, recipe: Recipe, batch: Pictures) -> dict[str, Tensor]:
    """Dumoulin et al. 2017, algorithm 1; as in their code, all nets take their step from where they are together."""
    G, D = state.G, state.D
    (x,) = batch  # (n, c, 32, 32) in [-1, 1]
    n = x.shape[0]

    # The encoder draws a z for each picture, the decoder paints a picture for each z.
    z = normal(state.rng, _Z, (n, recipe.z_dim), dtype=x.dtype)
    epsilon = normal(state.rng, _EPSILON, (n, recipe.z_dim), dtype=x.dtype)
    (mean, log_sigma), painted = side_by_side(lambda: G.encoder(x), lambda: G.decoder(z))
    inferred = mean + log_sigma.exp() * epsilon  # (n, z_dim), of q(z|x)
    pictures, codes = torch.cat((x, painted)), torch.cat((inferred, z))
    mode = Mode(rng=state.rng)  # the same dropout for both

    # Encoder: logits of (x, inferred z) down. Decoder: logits of (painted x, z) up.
    loss_G, (fooled_z, fooled_x) = loss_sum(*_fooling(D(pictures, codes, mode), recipe, n))
    update(state, "G", loss_G)

    # Discriminator, of the same pairs: logits of (x, inferred z) up, of (painted x, z) down.
    loss_D, (judged,) = loss_sum(_judging(D(pictures.detach(), codes.detach(), mode), recipe, n))
    update(state, "D", loss_D)

    state.show(fake=painted, real=x)
    logs = {"loss/G": loss_G, "loss/D": loss_D, "loss/G_x": fooled_x.loss, "loss/G_z": fooled_z.loss}
    return logs | {"logit/real": judged.logit_real, "logit/fake": judged.logit_fake}


def _is_halved(recipe: Recipe) -> bool:
    """Has `gan_loss` a factor 1/2 in D's loss?"""
    return recipe.gan_mode in ("lsgan", "vanilla")


def _judging(logits: Tensor, recipe: Recipe, n: int) -> Any:
    """D's loss: the first n logits up, the others down."""
    weight = 2 * recipe.d_loss_scale if _is_halved(recipe) else 1.0
    return gan_term(logits, mode=recipe.gan_mode, side="D", n_real=n, weight=weight)


def _fooling(logits: Tensor, recipe: Recipe, n: int) -> tuple[Any, Any]:
    """What G and E want, which is the contrary: the first n logits down, the others up."""
    down = gan_term(logits[:n], mode=recipe.gan_mode, side="D", n_real=0, weight=2.0 if _is_halved(recipe) else 1.0)
    return down, gan_term(logits[n:], mode=recipe.gan_mode, side="G")


def _from_pool(pairs: Tensor, whose: str, state: State, recipe: Recipe) -> Tensor:
    """Pairs (n, c_a + c_b, h, w) of G or E, some of them exchanged for older ones."""
    if not recipe.pool_size:
        return pairs
    images, count = (state.buffers[f"pool_{whose}_{part}"] for part in ("images", "count"))
    return pool.exchange_(images, count, pairs, rng=state.rng, stream=_POOL_STREAMS[whose])


@torch.no_grad()
def translate(G: nn.Module, recipe: Recipe, A: Tensor, rng: Tensor | None = None, *, direction: str = "AtoB") -> Tensor:
    """The other domain's pictures of A, (n, c, h, w) in [-1, 1]; with --form ali the reconstructions of A.

    A: (n, c, h, w) in [-1, 1] of the domain that `direction` ("AtoB" or "BtoA") begins at, h and w multiples of
    `G.multiple`; ALI takes pictures of more than 32 pixels tile by tile. rng plays no part, nor do other pictures of
    the batch: batch statistics are each image's own. Errors: UserError for a direction that --form ali does not have.
    """
    if direction not in ("AtoB", "BtoA"):
        raise ValueError(f'direction must be "AtoB" or "BtoA", got {direction!r}')
    if recipe.form == "ali":
        if direction != "AtoB":
            raise UserError("--direction BtoA: with --form ali there is only one domain; leave the flag out")
        return _tile_by_tile(A, lambda tiles: reconstruct(G, recipe, tiles))
    one_way = G.AtoB if direction == "AtoB" else G.BtoA
    groups = A.shape[0] if recipe.test_bn == "batch" else 1
    return one_way(A, Mode(statistics=recipe.test_bn, groups=groups)).clamp(-1.0, 1.0)


def takes(recipe: Recipe) -> int:
    """Channels of the pictures that `translate` takes, going from A to B."""
    return _channels(recipe)[0]


def _tile_by_tile(image: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
    """`act` on each 32x32 tile of image (n, c, h, w), h and w multiples of 32; tiles (m, c, 32, 32) -> the same."""
    n, c, height, width = image.shape
    size = model.ALI_SIZE
    rows, columns = height // size, width // size
    tiles = image.reshape(n, c, rows, size, columns, size).permute(0, 2, 4, 1, 3, 5).reshape(-1, c, size, size)
    tiles = act(tiles).reshape(n, rows, columns, c, size, size)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(n, c, height, width)


@torch.no_grad()
def reconstruct(G: nn.Module, recipe: Recipe, image: Tensor) -> Tensor:
    """ali: what the decoder paints of the mean code of `image` (n, c, 32, 32) in [-1, 1]; the same shape.

    Errors: UserError for another form or size.
    """
    _need_ali(recipe)
    size = model.ALI_SIZE
    if image.shape[2:] != (size, size):
        height, width = image.shape[2:]
        raise UserError(f"ALI takes pictures of {size}x{size} pixels alone, got {height}x{width}: resize them")
    mode = Mode(statistics="running")
    mean, _ = G.encoder(image, mode)
    return G.decoder(mean, mode)


def latent(recipe: Recipe, rng: Tensor, n: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """ali: the noise z of n pictures as `generate` draws it: (n, z_dim) from N(0, 1); rng: int64[2] {seed, offset}.

    Errors: UserError for another form.
    """
    _need_ali(recipe)
    return normal(rng, _Z_IN_USE, (n, recipe.z_dim), dtype=dtype)


def prior(recipe: Recipe) -> str:
    """The distribution of z."""
    return "normal"


@torch.no_grad()
def generate(G: nn.Module, recipe: Recipe, n: int, rng: Tensor | None = None, *, z: Tensor | None = None) -> Tensor:
    """ali: n pictures (n, c, 32, 32) in [-1, 1] from noise. Errors: UserError for another form.

    rng: int64[2] on the device {seed, offset}; without one the recipe's seed decides, the same each time. z: the noise
    (n, z_dim) itself, there too, in place of what rng would draw (`latent`).
    """
    _need_ali(recipe)
    if z is None:
        like = G.decoder.pixel_bias
        rng = new_rng(recipe.seed, like.device) if rng is None else rng
        z = latent(recipe, rng, n, dtype=like.dtype)
    return G.decoder(z, Mode(statistics="running"))


def _need_ali(recipe: Recipe) -> None:
    if recipe.form != "ali":
        raise UserError(f"a bigan of --form {recipe.form} has no noise: translate pictures, or train --preset ali")


def sample(G: nn.Module, recipe: Recipe, batch: Batch | Pictures, rng: Tensor | None = None) -> dict[str, Tensor]:
    """Columns of a picture grid, each (n, c, h, w) in [-1, 1]: pictures of each domain and what G, E make of them.

    ali: pictures, what comes back of them, and new ones from noise, which rng decides as in `generate`.
    """
    if recipe.form == "ali":
        (image,) = batch
        new = generate(G, recipe, image.shape[0], rng)
        return {"input": image, "reconstruction": reconstruct(G, recipe, image), "sample": new}
    there, back = translate(G, recipe, batch.A), translate(G, recipe, batch.B, direction="BtoA")
    return {"A": batch.A, "A to B": there, "B": batch.B, "B to A": back}


def measure(
    nets: Mapping[str, nn.Module], recipe: Recipe, batch: Batch | Pictures, rng: Tensor | None = None
) -> dict[str, Tensor]:
    """How far G and E are from being each other's inverse, on a held-out batch, 0-d, in grey levels of 255.

    cyclegan: cycle_l1, the mean of cycle_A (A to B to A) and cycle_B; ali: reconstruction_l1. rng plays no part.
    """
    G = nets["G"]
    if recipe.form == "ali":
        (image,) = batch
        return {"reconstruction_l1": metrics.l1(reconstruct(G, recipe, image), image) * 127.5}
    cycled_A = translate(G, recipe, translate(G, recipe, batch.A), direction="BtoA")
    cycled_B = translate(G, recipe, translate(G, recipe, batch.B, direction="BtoA"))
    distance_A, distance_B = metrics.l1(cycled_A, batch.A) * 127.5, metrics.l1(cycled_B, batch.B) * 127.5
    return {"cycle_l1": (distance_A + distance_B) / 2, "cycle_A": distance_A, "cycle_B": distance_B}


def generator(recipe: Recipe) -> model.Generators | model.AliGenerators:
    """G and E of a recipe, with PyTorch's weights or none (under a meta device)."""
    if recipe.form == "ali":
        return model.AliGenerators(*_channels(recipe), recipe.z_dim)
    c_a, c_b = _channels(recipe)
    shape = {
        "ngf": recipe.ngf,
        "blocks": nets.RESNETS[_generator(recipe)],
        "norm": recipe.norm,
        "in_affine": recipe.in_affine,
    }
    return model.Generators(nets.ResNet(c_a, c_b, **shape), nets.ResNet(c_b, c_a, **shape))


def discriminator(recipe: Recipe) -> nn.Module:
    """D of a recipe, with PyTorch's weights or none (under a meta device)."""
    if recipe.form == "ali":
        drops = {"dropout_in": recipe.dropout_in, "dropout_p": recipe.dropout_p}
        return model.AliD(*_channels(recipe), recipe.z_dim, **drops)
    shape = {"ndf": recipe.ndf, "n_layers": recipe.n_layers_d, "norm": recipe.norm, "in_affine": recipe.in_affine}
    return nets.PatchD(sum(_channels(recipe)), **shape)


def _generator(recipe: Recipe) -> str:
    if recipe.generator != "auto" or recipe.form == "ali":
        return recipe.generator
    return nets.usual_resnet(recipe.crop_size)


def _channels(recipe: Recipe) -> tuple[int, ...]:
    """Of A and B, or with ali of x; those left open become those of photographs."""
    if recipe.form == "ali":
        return (recipe.channels or 3,)
    return recipe.input_channels or 3, recipe.output_channels or 3

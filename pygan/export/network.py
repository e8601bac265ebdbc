"""A trained generator as a plain function of tensors, ready to be recorded, and what the file says of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor, nn

from pygan import outputs
from pygan.errors import UserError, say
from pygan.export import plain
from pygan.exported.network import label_code
from pygan.recipe import BaseRecipe
from pygan.use import Card, Trained

BATCH, HEIGHT, WIDTH = "batch", "height", "width"


@dataclass(frozen=True)
class Asked:
    """How a network is to be exported."""

    what: str = ""  # "translate" or "generate"; "": what the network is usually for
    direction: str = ""  # of a GAN that goes both ways
    frozen: bool = False  # dropout off and running statistics, whatever the recipe says
    half: bool = False  # weights in float16
    dynamic: bool = False  # any height and width that the network takes
    size: tuple[int, int] | None = None  # height and width of a file that takes one; None: as trained
    batch: int = 0  # pictures at once; 0: any number


@dataclass(frozen=True)
class Input:
    """One tensor that the recorded function takes. shape: sizes, or the name of one that is free."""

    name: str
    shape: tuple[int | str, ...]
    dtype: torch.dtype = torch.float32

    def example(self, sizes: Mapping[str, int]) -> Tensor:
        """A tensor of that shape with something in it."""
        shape = [sizes[size] if isinstance(size, str) else size for size in self.shape]
        if self.dtype == torch.int64:
            return torch.arange(5, 5 + shape[0])
        values = torch.Generator().manual_seed(0)
        return torch.rand(shape, generator=values) * 2 - 1


class Recorded(nn.Module):
    """The tensors of `inputs`, in their order -> images (n, c, h, w) float32 in [-1, 1], by the GAN's own function."""

    def __init__(self, trained: Trained, act: str, inputs: tuple[Input, ...], options: Mapping[str, str]) -> None:
        super().__init__()
        self.gan, self.recipe, self.act = trained.gan, trained.recipe, act
        self.names = tuple(one.name for one in inputs)
        self.options = dict(options)
        self.net = plain.plain(trained.net, apart=act == "translate")

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        if self.act == "translate":
            image, rng = given.pop("image"), given.pop("seed", None)
            return self.gan.translate(self.net, self.recipe, image, rng, **given, **self.options).float()
        return self.gan.generate(self.net, self.recipe, given["z"].shape[0], None, **given).float()


@dataclass(frozen=True)
class Form:
    """Everything that a writer needs."""

    module: Recorded
    inputs: tuple[Input, ...]
    output: tuple[int | str, ...]  # shape of the images
    card: Card  # of the file
    sizes: Mapping[str, int]  # with which it is recorded
    trained: Trained  # what it must equal: the run's network, frozen if the file is
    asked: Asked
    multiple: int  # height and width are multiples of it, where they are free

    def examples(self) -> tuple[Tensor, ...]:
        """Inputs to record with."""
        return tuple(one.example(self.sizes) for one in self.inputs)

    @property
    def free(self) -> set[str]:
        """The sizes that are not fixed."""
        return {size for one in self.inputs for size in one.shape if isinstance(size, str)}


def frozen(trained: Trained) -> Trained:
    """The same network with dropout off and running statistics in use."""
    known = {field.name for field in dataclasses.fields(trained.recipe)}
    steady = {"test_dropout": False, "test_bn": "running"}
    recipe = dataclasses.replace(trained.recipe, **{name: v for name, v in steady.items() if name in known})
    return dataclasses.replace(trained, recipe=recipe)


def form(trained: Trained, asked: Asked) -> Form:
    """What is recorded for a file that runs without pygan. Errors: UserError for what the network cannot do."""
    trained = frozen(trained) if asked.frozen else trained
    card, recipe = trained.card, trained.recipe
    act, options = _act(trained, card, asked), {}
    if asked.direction and (act == "generate" or "direction" not in card.options):
        raise UserError(f"--direction: this network of {card.gan} goes one way; leave the flag out")
    if act == "translate" and "direction" in card.options:
        ways = card.options["direction"]
        way = asked.direction or ways[0]
        if way not in ways:
            raise UserError(f"--direction must be {' or '.join(ways)} with this network, got {way!r}")
        if len(ways) > 1 and not asked.direction:
            say(f"one file goes one way: this one {way}; --direction {ways[1]} exports the other")
        options["direction"] = way
    if act == "translate":
        size = _size(card, recipe, asked)
        card = _narrowed(card, options, size, asked)
        inputs = _of_pictures(trained, card, size, asked)
    elif asked.dynamic or asked.size:
        flag = "--dynamic" if asked.dynamic else "--size"
        raise UserError(f"{flag}: what {card.gan} makes from noise has the size that it was trained with; leave it out")
    else:
        size = None
        card = dataclasses.replace(card, acts=("generate",), options={}, channels={}, batch=asked.batch)
        inputs = _of_noise(card, asked)
    module = Recorded(trained, act, inputs, options)
    if asked.dynamic and act == "translate":
        sizes = _recorded_sizes(card)
    else:
        sizes = {BATCH: asked.batch or 2}
    made = Form(module, inputs, (), card, sizes, trained, asked, card.multiple)
    image = plain.settle_(module.net, lambda: module(*made.examples()))
    if asked.half:
        plain.half_(module.net)
    shape: list[int | str] = list(image.shape)
    shape[0] = asked.batch or BATCH
    if asked.dynamic and act == "translate":
        shape[2:] = [HEIGHT, WIDTH]
    return dataclasses.replace(made, output=tuple(shape))


def every(trained: Trained, asked: Asked) -> list[Form]:
    """One form for each thing that a network does, of those that a single pass does."""
    card, forms = (frozen(trained) if asked.frozen else trained).card, []
    for act in _can(trained, card):
        ways = card.options.get("direction", ("",)) if act == "translate" else ("",)
        forms += [form(trained, dataclasses.replace(asked, what=act, direction=way)) for way in ways]
    return forms


def _can(trained: Trained, card: Card) -> list[str]:
    return [act for act in card.acts if act == "generate" or _in_one_pass(trained.gan, trained.recipe)]


def _act(trained: Trained, card: Card, asked: Asked) -> str:
    """What the file will do."""
    gan, recipe = trained.gan, trained.recipe
    can = _can(trained, card)
    if asked.what and asked.what not in can:
        why = "" if asked.what not in card.acts else ", whose translation is a search that no file can hold"
        raise UserError(f"--what {asked.what} is not something that this network of {card.gan} does{why}; leave it out")
    if asked.what:
        return asked.what
    usual = "translate" if outputs.paints_from_pictures(gan, recipe) else "generate"
    if len(can) > 1:
        other = next(act for act in can if act != usual)
        say(f"this file will {usual}; --what {other} exports what the network does besides")
    return usual


def searches(trained: Trained) -> bool:
    """Does the network translate, but not by a forward pass?"""
    return "translate" in trained.card.acts and not _in_one_pass(trained.gan, trained.recipe)


def _in_one_pass(gan: ModuleType, recipe: BaseRecipe) -> bool:
    """Does a forward pass translate a picture? Where noise is G's input it needs a way back (`reconstruct`)."""
    return outputs.paints_from_pictures(gan, recipe) or hasattr(gan, "reconstruct")


def _size(card: Card, recipe: BaseRecipe, asked: Asked) -> tuple[int, int] | None:
    """Height and width of the pictures that the file takes; None: any that the network takes."""
    if asked.dynamic and asked.size:
        raise UserError("--dynamic takes every size and --size one; leave one of them out")
    if asked.dynamic:
        return None
    size = asked.size or (max(card.least, -(-recipe.crop_size // card.multiple) * card.multiple),) * 2
    if any(side < max(1, card.least) or side % card.multiple for side in size):
        least = f" and at least {card.least}" if card.least else ""
        raise UserError(f"--size must be multiples of {card.multiple}{least}, got {size[0]}x{size[1]}")
    return size


def _narrowed(card: Card, options: Mapping[str, str], size: tuple[int, int] | None, asked: Asked) -> Card:
    """The card of a file that translates, one way."""
    channels = card.channels
    named = dict(card.options)
    if options:
        way = options["direction"]
        channels, named["direction"] = {way: channels[way]}, (way,)
    return dataclasses.replace(
        card, acts=("translate",), channels=channels, options=named, asks=(), size=size, batch=asked.batch
    )


def _of_pictures(trained: Trained, card: Card, size: tuple[int, int] | None, asked: Asked) -> tuple[Input, ...]:
    n = asked.batch or BATCH
    channels = next(iter(card.channels.values()))[0]
    inputs = [Input("image", (n, channels, *(size or (HEIGHT, WIDTH))))]
    if "to" in card.options:
        k = label_code(trained.gan, trained.recipe, card.options["to"][0]).shape[1]
        inputs.append(Input("code", (n, k)))
    if card.chance:
        inputs.append(Input("seed", (2,), torch.int64))
    return tuple(inputs)


def _of_noise(card: Card, asked: Asked) -> tuple[Input, ...]:
    n = asked.batch or BATCH
    shapes = {"text": (n, card.text), "where": (n, *card.where)}
    return Input("z", (n, card.z)), *(Input(name, shapes[name]) for name in card.asks)


def _recorded_sizes(card: Card) -> dict[str, int]:
    """Sizes to record any size with: three numbers that differ, so that none is taken for another."""
    step = card.multiple
    blocks = max(2, -(-max(card.least, 16) // step))  # a size of one is taken for one that is never another
    return {BATCH: 2, HEIGHT: blocks * step, WIDTH: (blocks + 1) * step}

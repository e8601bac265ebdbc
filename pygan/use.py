"""A trained network from its run directory alone: no flag of training is repeated."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pygan import checkpoint, device, gans, outputs
from pygan import recipe as recipes
from pygan.data import sources
from pygan.errors import UserError, say
from pygan.nn import pack_, place_
from pygan.ops.philox import new_rng
from pygan.recipe import BaseRecipe
from pygan.rundir import RECIPE, read_facts


@dataclass(frozen=True)
class Card:
    """What a network asks for and what it makes of that: plain values, which an exported file has as its metadata."""

    gan: str
    images_seen: int
    recipe: Mapping[str, Any]
    acts: tuple[str, ...]  # "translate", pictures to pictures, and "generate", from noise: what it can do
    channels: Mapping[str, tuple[int, int]]  # by direction, "" where there is one: of a picture given, of its result
    prepare: str = "none"  # how pixels become the input: "none", "labels" (12 planes), canny, grey, lab, mask
    shows: str = "pixels"  # what comes out: "pixels", "ab" (of Lab, beside the input's L), "labels" (planes)
    multiple: int = 1  # height and width of an input are multiples of this,
    least: int = 0  # and at least this, in pixels
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # "direction" or "to": what may be named
    chance: bool = False  # dropout is on in use, so that a seed decides
    statistics: str = "none"  # of BatchNorm in use: "own" (each picture's), "running"; "none" without one
    asks: tuple[str, ...] = ()  # what `generate` needs beside noise: "text", "where"
    z: int = 0  # length of the noise
    text: int = 0  # length of a text's embedding
    where: tuple[int, ...] = ()  # shape of one picture's `where`
    size: tuple[int, int] | None = None  # height and width that an exported file takes, after padding; None: any
    batch: int = 0  # pictures that an exported file takes at once; 0: any number

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `from_dict` takes them back."""
        plain = {}
        for one in fields(self):
            value = getattr(self, one.name)
            plain[one.name] = dict(value) if isinstance(value, Mapping) else value
        return json.loads(json.dumps(plain))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Card:
        """The card that `to_dict` wrote, read from `where`. Errors: UserError if it is none."""
        try:
            found = {one.name: values[one.name] for one in fields(cls) if one.name in values}
            for name in ("acts", "asks", "where"):
                found[name] = tuple(found.get(name, ()))
            if found.get("size") is not None:
                found["size"] = tuple(found["size"])
            for name in ("channels", "options"):
                found[name] = {key: tuple(value) for key, value in found[name].items()}
            return cls(**found)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{where} does not say what its network takes; export it again with this pygan") from error

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied as the plain values that it is."""
        return Card.from_dict, (self.to_dict(), "a pickled card")

    def direction(self, options: Mapping[str, str]) -> str:
        """The key of `channels` that those options mean."""
        return options.get("direction", next(iter(self.channels))) if "direction" in self.options else ""


class Network(Protocol):
    """A network ready for use, whatever holds it: a run (`Trained`) or a file that it was exported to."""

    @property
    def card(self) -> Card: ...

    @property
    def device(self) -> torch.device: ...

    def translate(self, A: Tensor, rng: Tensor | None = None, **options: Any) -> Tensor:
        """(n, c, h, w) in [-1, 1] on any device -> the network's images in [-1, 1], float32 on the CPU.

        h and w as `card.multiple` and `card.least` say. options: direction, to. Errors: UserError for options that it
        does not have.
        """

    def generate(self, n: int, rng: Tensor | None = None, **more: Tensor) -> Tensor:
        """n images (n, c, h, w) in [-1, 1] from noise, float32 on the CPU. more: z (n, k), text (n, d), where."""

    def rng(self, seed: int) -> Tensor:
        """Everything that is drawn in use (noise, dropout where the recipe keeps it on), from `seed`."""


@dataclass(frozen=True)
class Trained:
    """A generator ready for use."""

    gan: ModuleType
    recipe: BaseRecipe
    net: nn.Module
    images_seen: int
    device: torch.device

    @functools.cached_property  # it is looked at several times for each picture
    def card(self) -> Card:
        return card_of(self.gan, self.recipe, self.net, self.images_seen)

    def translate(self, A: Tensor, rng: Tensor | None = None, **options: Any) -> Tensor:
        """(n, c, h, w) in [-1, 1] on any device -> the network's images in [-1, 1], on the CPU."""
        A = A.to(self.device).contiguous(memory_format=torch.channels_last)
        return self.gan.translate(self.net, self.recipe, A, rng, **options).float().cpu()

    def generate(self, n: int, rng: Tensor | None = None, **more: Any) -> Tensor:
        """n images (n, c, h, w) in [-1, 1] from noise, on the CPU. more: z, text, where of the GAN's `generate`."""
        given = {name: value.to(self.device) if torch.is_tensor(value) else value for name, value in more.items()}
        return self.gan.generate(self.net, self.recipe, n, rng, **given).float().cpu()

    def rng(self, seed: int) -> Tensor:
        """Everything that is drawn in use (noise, dropout where the recipe keeps it on), from `seed`."""
        return new_rng(seed, self.device)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied as a file has it: the GAN's name, the recipe, the weights, and the device to go to."""
        weights = {name: tensor.cpu() for name, tensor in self.net.state_dict().items()}
        recipe = recipes.to_dict(self.recipe)
        return _unpickled, (gans.name_of(self.gan), recipe, weights, self.images_seen, str(self.device))


def built(
    gan: ModuleType, recipe: BaseRecipe, weights: dict[str, Tensor], images_seen: int, place: torch.device, said: Path
) -> Trained:
    """A network with these weights, on its device. said: where they are from. Errors: UserError if they do not fit."""
    net = gan.generator(recipe)
    checkpoint.copy_into(net.state_dict(), weights, said)
    return Trained(gan, recipe, place_(net, place).requires_grad_(False), images_seen, place)


def _unpickled(name: str, values: Mapping[str, Any], weights: dict[str, Tensor], images_seen: int, on: str) -> Trained:
    """The network of a pickle. Errors: UserError, for a device that is not here too."""
    gan, said = gans.load(name), Path("a pickled network")
    recipe = recipes.from_dict(gan.Recipe, values, str(said))
    return _packed(built(gan, recipe, weights, images_seen, device.choose(on), said))


def card_of(gan: ModuleType, recipe: BaseRecipe, net: nn.Module, images_seen: int) -> Card:
    """What a trained network is to be given, and what it gives."""
    acts, options, channels, z, text, where = [], {}, {}, 0, 0, ()
    from_noise = hasattr(gan, "generate") and (not hasattr(recipe, "form") or recipe.form != "cyclegan")
    if hasattr(gan, "translate"):
        acts.append("translate")
        asked = inspect.signature(gan.translate).parameters
        both = outputs.paired_channels(gan, recipe)
        channels = {"": both}
        if "direction" in asked and getattr(recipe, "form", "") != "ali":
            ways = ("AtoB",) if getattr(recipe, "learned", "") == "AtoB" else ("AtoB", "BtoA")
            options["direction"] = ways
            channels = {way: both if way == "AtoB" else both[::-1] for way in ways}
        if "to" in asked:
            options["to"] = outputs.ways(gan, recipe)
    asks = ()
    if from_noise:
        acts.append("generate")
        asks = tuple(name for name in ("text", "where") if name in inspect.signature(gan.generate).parameters)
        device = next(net.parameters()).device
        z = gan.latent(recipe, new_rng(0, device), 1).shape[1]
        if asks:
            example = gan.example(recipe, "meta")
            text = example.text.shape[1]
            where = tuple(example.where.shape[1:]) if "where" in asks else ()
    prepare = getattr(recipe, "input_transform", "none")
    if prepare == "none" and any(given == sources.N_CLASSES for given, _ in channels.values()):
        prepare = "labels"
    shows = "labels" if any(made == sources.N_CLASSES for _, made in channels.values()) else "pixels"
    if prepare == "lab" and getattr(recipe, "direction", "AtoB") == "AtoB":
        shows = "ab"
    norms = [module for module in net.modules() if getattr(module, "norm", "") == "batch"]
    chance = bool(getattr(recipe, "test_dropout", False)) and any(getattr(m, "dropout_p", 0.0) for m in net.modules())
    own = getattr(recipe, "test_bn", "running") == "batch"
    return Card(
        gan=gans.name_of(gan),
        images_seen=images_seen,
        recipe=MappingProxyType(recipes.to_dict(recipe)),
        acts=tuple(acts),
        channels=MappingProxyType(channels),
        prepare=prepare,
        shows=shows,
        multiple=getattr(net, "multiple", 1),
        least=getattr(net, "least", 0),
        options=MappingProxyType(options),
        chance=chance,
        statistics="none" if not norms else "own" if own else "running",
        asks=asks,
        z=z,
        text=text,
        where=where,
    )


def network(path: Path, checkpoint: str = "last", device: str = "auto") -> Network:
    """The network of a run directory, or of a file or folder that `pygan export` wrote, ready to be asked much.

    On a CPU its weights are packed (`nn.pack_`). Errors: UserError.
    """
    made = as_saved(path, checkpoint, device)
    return _packed(made) if isinstance(made, Trained) else made  # another file's runtime packs by itself


def as_saved(path: Path, checkpoint: str = "last", device: str = "auto") -> Network:
    """The same with the very weights that were saved: what it computes is not rounded in another order."""
    if (path / RECIPE).is_file() or not path.exists():
        return load(path, checkpoint, device)
    from pygan import exported

    return exported.load(path, device)


def _packed(trained: Trained) -> Trained:
    pack_(trained.net)
    return trained


def load(run: Path, name: str, device_name: str) -> Trained:
    """The generator of a run: its average if it keeps one. name: "last", "best" or another folder of checkpoints/.

    A damaged "last" is named, and the checkpoint before it taken. Errors: UserError.
    """
    facts = read_facts(run)
    if facts["gan"] not in gans.names():
        raise UserError(
            f"{run} is a run of {facts['gan']!r}, which this version of pygan does not know; use a later one"
        )
    gan = gans.load(facts["gan"])
    recipe = recipes.from_dict(gan.Recipe, facts["recipe"], str(run / RECIPE))
    found = _choose(run, name, facts["gan"])
    recipe = gans.phases(gan, recipe)[found.facts.get("phase", 0)]
    where = device.choose(device_name)
    averaged = "G_ema.safetensors" in found.facts["files"]
    file = found.folder / ("G_ema.safetensors" if averaged else "G.safetensors")
    return built(gan, recipe, checkpoint.read(file), found.images_seen, where, file)


def _choose(run: Path, name: str, gan: str) -> checkpoint.Found:
    there = checkpoint.find(run / "checkpoints")
    if not there:
        raise UserError(f"{run} has no readable checkpoint; train it (pygan train {gan} --run {run}), or restore one")
    if name != "last" and not any(found.folder.name == name for found in there):
        names = ", ".join(sorted(found.folder.name for found in there))
        raise UserError(f"{run} has no checkpoint {name!r}; there are {names}")
    for found in there:
        if name not in ("last", found.folder.name):
            continue
        try:
            checkpoint.check(found)
        except checkpoint.Damaged as reason:
            if name != "last":
                raise UserError(f"{found.folder} is damaged ({reason}); choose another --checkpoint") from reason
            say(f"{found.folder} is damaged ({reason}); looking for the one before it")
            continue
        if name == "last" and found.folder.name not in ("last", "next"):
            say(f"{run / 'checkpoints' / 'last'} is missing or damaged; using {found.folder}")
        return found
    raise UserError(f"every checkpoint of {run} is damaged; restore them from a backup")

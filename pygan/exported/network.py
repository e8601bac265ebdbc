"""The face of `use.Network` on a recorded function, whatever runs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from pygan import device as devices
from pygan import exported, gans
from pygan import recipe as recipes
from pygan.errors import UserError
from pygan.ops.philox import new_rng
from pygan.recipe import BaseRecipe
from pygan.use import Card


@dataclass(frozen=True)
class Exported:
    """A network in a file. run: inputs by name, on the CPU -> images (n, c, h, w) float32 on the CPU."""

    card: Card
    device: torch.device
    where: str  # the file, for errors
    run: Callable[[Mapping[str, Tensor]], Tensor]
    file: Path = field(init=False)  # the same, wherever the process goes
    size: int = field(init=False)  # of the file, in bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "file", Path(self.where).absolute())
        object.__setattr__(self, "size", self.file.stat().st_size)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as the place of the file, which is opened anew."""
        return opened_again, (self.file, str(self.device), self.card.to_dict(), self.size)

    def __deepcopy__(self, memo: dict[int, Any]) -> Exported:
        """Itself: there is nothing in it that could be changed."""
        return self

    def translate(self, A: Tensor, rng: Tensor | None = None, **options: Any) -> Tensor:
        """(n, c, h, w) in [-1, 1] -> images in [-1, 1], float32 on the CPU; see `use.Network`.

        options: direction, to; or code (n, k) or (1, k), what a GAN of many domains is told, in place of `to`.
        Errors: UserError for options or sizes that the file does not take.
        """
        if "translate" not in self.card.acts:
            raise UserError(f"{self.where} makes pictures from noise and translates none; export a network that does")
        code = self._code(options)
        self._check_options(options)
        self._check_size(A)
        given = {"image": A.to("cpu", torch.float32).contiguous()}
        if code is not None:
            given["code"] = code.to("cpu", torch.float32).expand(A.shape[0], -1).contiguous()
        if self.card.chance:
            rng = self.rng(self._recipe.seed) if rng is None else rng
            given["seed"] = rng.to("cpu")
        return self._in_batches(given, A.shape[0])

    def generate(self, n: int, rng: Tensor | None = None, **more: Tensor) -> Tensor:
        """n images (n, c, h, w) in [-1, 1] from noise, float32 on the CPU. more: z (n, k), text (n, d), where.

        Errors: UserError if the file translates, a text is missing, or a fixed number of images depend on each other.
        """
        if "generate" not in self.card.acts:
            raise UserError(f"{self.where} translates pictures and makes none from noise; export a network that does")
        z = more.get("z")
        if z is None:
            rng = self.rng(self._recipe.seed) if rng is None else rng.to("cpu")
            z = self._gan.latent(self._recipe, rng, n)
        given = {"z": z.to("cpu", torch.float32).contiguous()}
        for name in self.card.asks:
            value = more.get(name)
            if value is None and name == "where":
                value = usual_where(self._gan, self._recipe, self.card)
            if value is None:
                raise UserError(f"{self.where} paints what a {name} says, and was given none")
            shape = value.shape[1:]
            given[name] = value.to("cpu", torch.float32).expand(n, *shape).contiguous()
        return self._in_batches(given, n)

    def rng(self, seed: int) -> Tensor:
        """int64[2] {seed, offset}."""
        return new_rng(seed, "cpu")

    @cached_property
    def _gan(self) -> ModuleType:
        return gans.load(self.card.gan)

    @cached_property
    def _recipe(self) -> BaseRecipe:
        return recipes.from_dict(self._gan.Recipe, self.card.recipe, self.where)

    def _code(self, options: dict[str, Any]) -> Tensor | None:
        """What the network is told, taken out of the options; None where it is told nothing."""
        if "to" not in self.card.options:
            return None
        code, to = options.pop("code", None), options.pop("to", "")
        return label_code(self._gan, self._recipe, to) if code is None else code

    def _check_options(self, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            known = self.card.options.get(name, ())
            if value not in known:
                there = f"it knows {' or '.join(known)}" if known else "leave it out"
                raise UserError(f"--{name} {value}: {self.where} does not do that; {there}")

    def _check_size(self, A: Tensor) -> None:
        given = self.card.channels[self.card.direction({})][0]
        if A.shape[1] != given:
            raise UserError(f"{self.where} takes pictures of {given} channels, got {A.shape[1]}")
        if why := wrong_size(self.card, A.shape[2], A.shape[3]):
            raise UserError(f"{self.where} {why}")

    def _in_batches(self, given: Mapping[str, Tensor], n: int) -> Tensor:
        """Where the file takes a fixed number: as often as needed, the last time with copies of the last one."""
        size = self.card.batch
        if size in (0, n):
            return self._computed(given)
        if "z" in given and self.card.statistics == "own":
            raise UserError(
                f"{self.where} takes {size} at once and its norms see all of them, got {n}: give it {size}, or export "
                "the network without --batch"
            )
        if n > size and "seed" in given:
            raise UserError(
                f"{self.where} takes {size} at once and drops values by their place among them: give it {size} or less"
            )
        made = []
        for first in range(0, n, size):
            part = {name: x if name == "seed" else x[first : first + size] for name, x in given.items()}
            count = min(size, n - first)
            filled = {
                name: x if name == "seed" else torch.cat((x, x[-1:].expand(size - count, *x.shape[1:])))
                for name, x in part.items()
            }
            made.append(self._computed(filled)[:count])
        return torch.cat(made)

    def _computed(self, given: Mapping[str, Tensor]) -> Tensor:
        """What the file makes of inputs that it should take. Errors: UserError if it breaks; where memory is short."""
        try:
            return self.run(given)
        except UserError:
            raise
        except Exception as error:  # what a damaged graph raises is anything
            if devices.out_of_memory(error):
                raise
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(f"{self.where} cannot be computed with ({why.strip()[:160]}); export it again") from error


def opened_again(path: Path, device: str, card: Mapping[str, Any], size: int) -> Exported:
    """The network of a file that was open before, in another process. Errors: UserError if it is another file now."""
    made = exported.load(path, device)
    if not isinstance(made, Exported) or made.card.to_dict() != card or made.size != size:
        raise UserError(f"{path} is another file now than when it was opened; load it again")
    return made


def wrong_size(card: Card, height: int, width: int) -> str:
    """Why a padded picture of that size is not for the network, as the rest of a sentence; "" if it is."""
    if card.size is not None and (height, width) != tuple(card.size):
        return (
            f"takes pictures of {card.size[0]}x{card.size[1]} pixels alone, got {height}x{width} after padding; "
            "resize them, or export it with --dynamic"
        )
    if height % card.multiple or width % card.multiple or min(height, width) < card.least:
        return f"takes multiples of {card.multiple} pixels, at least {card.least}, got {height}x{width}"
    return ""


def label_code(gan: ModuleType, recipe: BaseRecipe, to: str) -> Tensor:
    """What a GAN of many domains is told for a list of names: (1, k). Errors: UserError for names it does not know."""
    return gan.codes(recipe, (to, to))[0][1]  # a walk has two stops


def usual_where(gan: ModuleType, recipe: BaseRecipe, card: Card) -> Tensor | None:
    """The place of a picture, (1, ...), that a GAN takes where none is given; None where it asks for no place.

    The GAN says it to a net that only listens.
    """
    if "where" not in inspect.signature(gan.generate).parameters:
        return None
    told: list[Tensor] = []

    class Listener(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, *given: Any) -> Tensor:
            told.extend(x for x in given if torch.is_tensor(x) and tuple(x.shape[1:]) == card.where)
            return torch.zeros((1, 1, 1, 1))

    gan.generate(Listener(), recipe, 1, new_rng(0, "cpu"), text=torch.zeros((1, card.text)))
    return told[-1] if told else None

"""pygan as a library: `g = pygan.load(run_or_file); out = g(picture)`."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pygan import apply, kinds, noise, use
from pygan import device as devices
from pygan.data import images, sources
from pygan.errors import UserError, say_once
from pygan.rundir import as_path
from pygan.tiles import MOST_PIXELS, Tiling

__all__ = ["Encoded", "Generator", "load"]

Encoded: TypeAlias = Image.Image | str | Path | bytes
"""A picture as Pillow has it, the path of a file, or the bytes of one."""


class Asked(TypedDict, total=False):
    """What may be asked beside the picture, see `Generator.__call__`."""

    direction: str | None
    to: str | None
    seed: int
    tile: int | Tiling | None
    batch: int


_E = TypeVar("_E", bound=Encoded)
_D = TypeVar("_D", bound=np.generic)

# Two callers at once are no faster on one device.
_turn = threading.Lock()
_forked = False


def _in_a_fork() -> None:
    """A fork has one thread: who held the turn is not there to give it back, nor are those that torch works with."""
    global _turn, _forked
    _turn, _forked = threading.Lock(), True


os.register_at_fork(after_in_child=_in_a_fork)


def load(run_or_file: str | os.PathLike[str], *, checkpoint: str = "last", device: str = "auto") -> Generator:
    """The network of a run directory, or of a file or folder that `pygan export` wrote, ready for use.

    checkpoint: of a run: "last", "best" or a kept one; device: "auto", "cpu", "cuda", or one GPU of several
    as "cuda:1". Errors: UserError.
    """
    path = as_path(run_or_file, "what is loaded")
    try:
        return Generator(use.network(path, checkpoint, str(device)))
    except OSError as error:
        raise UserError(f"{error.filename or path} cannot be read ({error.strerror or error})") from error


@dataclass(frozen=True, repr=False)
class Generator:
    """A trained network that is called with pictures, or asked for new ones. May be called from several threads."""

    network: use.Network

    @property
    def card(self) -> use.Card:
        """What the network takes and makes."""
        return self.network.card

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.network.device

    def __repr__(self) -> str:
        card, does = self.card, []
        if "translate" in card.acts:
            ways = (f"{way}{' ' if way else ''}{a} -> {b} channels" for way, (a, b) in card.channels.items())
            labels = f", to {' '.join(card.options['to'])}" if "to" in card.options else ""
            does.append(f"pictures to pictures ({', '.join(ways)}{labels})")
        if "generate" in card.acts:
            does.append(f"pictures from {' and '.join(('noise', *card.asks))}")
        return f"<pygan.Generator {card.gan}: {'; '.join(does)}; {card.images_seen:,} images seen; on {self.device}>"

    @overload
    def __call__(self, x: Encoded, **asked: Unpack[Asked]) -> Image.Image: ...

    @overload
    def __call__(self, x: np.ndarray[Any, np.dtype[_D]], **asked: Unpack[Asked]) -> np.ndarray[Any, np.dtype[_D]]: ...

    @overload
    def __call__(self, x: Tensor, **asked: Unpack[Asked]) -> Tensor: ...

    @overload
    def __call__(self, x: list[_E] | tuple[_E, ...], **asked: Unpack[Asked]) -> list[Image.Image]: ...

    @overload
    def __call__(
        self, x: list[np.ndarray[Any, np.dtype[_D]]] | tuple[np.ndarray[Any, np.dtype[_D]], ...], **asked: Unpack[Asked]
    ) -> list[np.ndarray[Any, np.dtype[_D]]]: ...

    @overload
    def __call__(self, x: list[Tensor] | tuple[Tensor, ...], **asked: Unpack[Asked]) -> list[Tensor]: ...

    def __call__(
        self,
        x: Any,
        *,
        direction: str | None = None,
        to: str | None = None,
        seed: int = 0,
        tile: int | Tiling | None = None,
        batch: int = 8,
    ) -> Any:
        """What the network makes of a picture or of several, of any size: what `pygan translate` makes of the file.

        Args:
            x: one of these, or a list of one kind; the answer is of the same kind:
                PIL image, or path or bytes of a picture file: a PIL image, its transparency kept;
                numpy (h, w), (h, w, c) or a batch (n, h, w, c): uint8, uint16, or floats from 0 to 1;
                torch (c, h, w) or a batch (n, c, h, w), on any device: uint8, uint16, or floats from -1 to 1.
            direction: "AtoB" or "BtoA", of a GAN that learned both.
            to: labels of the result, of a GAN of many domains: "Blond_Hair,Male".
            seed: of dropout, where the recipe keeps it on.
            tile: put it through in parts of that many pixels a side, with the result of the whole, where it is larger
                than the memory; 0: as large as the free memory allows; None: not in parts. Only a run can.
            batch: pictures of one size that go through at once.

        Raises:
            UserError: in one line, what x cannot be, or what the network cannot be asked.
        """
        options = {name: value for name, value in (("direction", direction), ("to", to)) if value is not None}
        apply.asked(self.card, options, "this network")
        seed, batch, tiling = noise.checked(seed), noise.whole("batch", batch, least=1), _tiling(tile)
        most = images.MAX_PIXELS if tiling is None else MOST_PIXELS
        given = kinds.read(x, _takes(self.card, options), most_pixels=most)
        made = []
        for first in range(0, len(given.pictures), batch):
            some, names = given.pictures[first : first + batch], given.names[first : first + batch]
            with _on_the_device(self.device, "give fewer at once (batch=1), or parts of it (tile=0)"):
                made += apply.translated(self.network, some, seed=seed, options=options, names=names, tile=tiling)
        return given.back(made)

    @overload
    def generate(
        self, n: int | None = ..., *, as_: Literal["pil"] = ..., **asked: Unpack[noise.Given]
    ) -> list[Image.Image]: ...

    @overload
    def generate(
        self, n: int | None = ..., *, as_: Literal["numpy"], **asked: Unpack[noise.Given]
    ) -> np.ndarray[Any, np.dtype[np.uint8]]: ...

    @overload
    def generate(self, n: int | None = ..., *, as_: Literal["torch"], **asked: Unpack[noise.Given]) -> Tensor: ...

    def generate(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        text: noise.Text | None = None,
        z: noise.Numbers | None = None,
        where: noise.Numbers | None = None,
        as_: Literal["pil", "numpy", "torch"] = "pil",
    ) -> Any:
        """New pictures from noise, or from noise and sentences: those that `pygan sample --seed` shows.

        Args:
            n: how many; None: as many as there are of `text`, `z` or `where`, else one.
            seed: of the noise.
            text: of a GAN that reads: a sentence for all of them, a list with one for each, or embeddings (n, d).
            z: the noise itself, (n, card.z), in place of what the seed draws.
            where: of GAWWN: boxes (n, 4) or key points (n, k, 3); None: in the middle.
            as_: "pil": a list of PIL images; "numpy": uint8 (n, h, w, c); "torch": (n, c, h, w) from -1 to 1 on the
                network's device.

        Raises:
            UserError: in one line, what the network cannot be asked.
        """
        if not isinstance(as_, str) or as_ not in noise.BACK:
            raise UserError(f"as_ must be one of {', '.join(noise.BACK)}, got {as_!r}")
        with _on_the_device(self.device, "ask for fewer at once (n)"), torch.inference_mode():
            asked = noise.read(self.card, n, text, z, where)
            made = self.network.generate(asked.n, self.network.rng(noise.checked(seed)), **asked.more)
        return noise.BACK[as_](made.clone(), self.device)  # a clone outside: inference tensors cannot be learned from


def _takes(card: use.Card, options: dict[str, str]) -> tuple[int, ...]:
    """Channels that a picture may have which is given to the network, its own first."""
    channels = card.channels[card.direction(options)][0]
    labels = card.prepare == "labels" and channels == sources.N_CLASSES
    colours = labels or channels in (1, 3) or card.prepare == "lab"
    return tuple(dict.fromkeys((channels, 1, 3))) if colours else (channels,)


@contextlib.contextmanager
def _on_the_device(device: torch.device, remedy: str) -> Iterator[None]:
    """One caller's turn, in the network's own precision. Errors: UserError with what to do if memory is too small."""
    if _forked and torch.get_num_threads() > 1:  # else torch may wait for threads of the parent for ever
        say_once("a forked process computes with one thread; `spawn` or `forkserver` have all of them")
        torch.set_num_threads(1)
    try:
        with _turn, torch.autocast(device.type, enabled=False):
            yield
    except (MemoryError, RuntimeError) as error:
        if not (where := devices.out_of_memory(error)):
            raise
        raise UserError(f"{where} has too little memory for this; {remedy}") from error


def _tiling(tile: int | Tiling | None) -> Tiling | None:
    """How pictures are cut. Errors: UserError."""
    if tile is None or isinstance(tile, Tiling):
        return tile
    return Tiling(pixels=noise.whole("tile", tile, least=0))

"""What is done with pictures: which network, how results are made of pictures, and files of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pygan import apply, device, pixels
from pygan.data import images
from pygan.errors import UserError
from pygan.pixels import Picture
from pygan.use import Card, Network

if TYPE_CHECKING:
    from pygan.tiles import Tiling

_DEPTHS = {"8": np.uint8, "16": np.uint16, "float": np.float32}
_FLOATS = ("", ".tif", ".tiff", ".pfm", ".npy")  # endings of files that may hold floats; "": of a pipe


@dataclass(frozen=True)
class Work:
    """A network, and everything that the flags say about results."""

    network: Network
    batch: int = 8  # pictures
    seed: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    format: str = "auto"
    depth: str = "auto"
    quality: int | None = None
    float_range: tuple[float, float] | None = None
    tile: Tiling | None = None
    most_pixels: int = images.MAX_PIXELS
    jpegs: pixels.DecodesJpeg | None = None  # instead of Pillow

    @property
    def card(self) -> Card:
        """Of the network."""
        return self.network.card

    def check(self) -> None:
        """Errors: UserError for flags that fit no picture, before any is opened."""
        if self.quality is not None and self.format not in ("jpg", "webp"):
            raise UserError("--quality is of jpg and webp: add --format jpg or --format webp, or leave it out")
        if self.format != "auto":
            dtype = _DEPTHS.get(self.depth, np.uint8)
            if reason := pixels.why_not(self.format, dtype, self.channels, alpha=False):
                raise UserError(f"--format {self.format}: {reason}")

    @property
    def channels(self) -> int:
        """Of a result, without its alpha."""
        card = self.card
        made = card.channels[card.direction(self.options)][1]
        if card.shows == "ab":
            return 3
        return 1 if made > 3 and card.shows == "labels" else made

    def read(self, source: Path | bytes, name: str) -> Picture:
        """A picture to be translated. Errors: UserError, also where the format cannot hold its result."""
        limits = {"most_pixels": self.most_pixels, "float_range": self.float_range}
        picture = pixels.read(source, name=name, jpegs=self.jpegs, **limits)
        if reason := self._why_not(picture):
            raise UserError(f"cannot use {name}: {reason}{self._remedy(picture)}")
        return picture

    def kind(self, picture: Picture, native: str = "") -> str:
        """The kind of file of its result. native: "npy" for a picture that comes from one."""
        if self.format != "auto":
            return self.format
        return native or pixels.kind_for(self._dtype(picture), self.channels, alpha=picture.alpha is not None)

    def kinds(self, native: str, ending: str) -> tuple[str, ...]:
        """Kinds that a result is expected to be, of a picture that is not read yet: its content decides in the end."""
        if self.format != "auto" or native:
            return (native if self.format == "auto" else self.format,)
        unknown = (np.uint8, np.float32) if ending in _FLOATS else (np.uint8,)
        dtypes = (_DEPTHS[self.depth],) if self.depth in _DEPTHS else unknown
        return tuple(dict.fromkeys(pixels.kind_for(dtype, self.channels, alpha=False) for dtype in dtypes))

    def results(self, given: Sequence[Picture], names: Sequence[str]) -> list[Picture | UserError]:
        """What the network makes of pictures, or why it cannot, for each. One that does not fit costs no other."""
        fit = [self._why_unfit(picture, name) for picture, name in zip(given, names, strict=True)]
        good = [k for k, reason in enumerate(fit) if reason is None]
        made = iter(self._made([given[k] for k in good], [names[k] for k in good]))
        return [next(made) if reason is None else reason for reason in fit]

    def encode(self, made: Picture, kind: str) -> bytes:
        """A result as a file of that kind. Errors: UserError."""
        if made.pixels.dtype == np.float32 and self.float_range is not None:
            low, high = self.float_range
            parts = (None if x is None else x.astype(np.float64) for x in (made.pixels, made.alpha))
            made = Picture(*(None if x is None else (x * (high - low) + low).astype(np.float32) for x in parts))
        return pixels.encode(made, kind, quality=self.quality)

    def _dtype(self, picture: Picture) -> np.dtype:
        return np.dtype(_DEPTHS.get(self.depth, picture.pixels.dtype))

    def _why_not(self, picture: Picture) -> str:
        if self.format == "auto":
            return ""
        return pixels.why_not(self.format, self._dtype(picture), self.channels, alpha=picture.alpha is not None)

    def _remedy(self, picture: Picture) -> str:
        return " (--depth 8)" if self.depth == "auto" and self._dtype(picture) != np.uint8 else ""

    def _why_unfit(self, picture: Picture, name: str) -> UserError | None:
        """Only what the channels decide is asked here; preparing the picture comes later, and once."""
        card = self.card
        if card.prepare == "none":
            takes, has = card.channels[card.direction(self.options)][0], picture.pixels.shape[2]
            if takes != has and {takes, has} != {1, 3}:
                return UserError(f"cannot use {name}: it has {has} channels, the network takes {takes}")
        elif card.prepare == "labels":
            try:
                apply.network_input(self.network, picture, self.options, name)
            except UserError as error:
                return error
        elif picture.pixels.shape[2] not in (1, 3):
            return UserError(f"cannot use {name}: it has {picture.pixels.shape[2]} channels, the network takes 3")
        return None

    def _made(self, given: list[Picture], names: list[str]) -> list[Picture | UserError]:
        if not given:
            return []
        try:
            how = {"seed": self.seed, "options": self.options, "tile": self.tile, "depth": _DEPTHS.get(self.depth)}
            return list(apply.translated(self.network, given, names=names, **how))
        except UserError as error:
            if len(given) == 1:
                return [error]
        except (RuntimeError, MemoryError) as error:
            if not device.out_of_memory(error):
                raise
            if len(given) == 1:
                height, width = given[0].size
                fit = f"{width}x{height} pixels do not fit into the memory"
                return [UserError(f"cannot use {names[0]}: {fit}; use --tile")]
        # One by one: only one of them may be at fault.
        return [self._made([one], [name])[0] for one, name in zip(given, names, strict=True)]

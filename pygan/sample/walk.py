"""A walk through what a generator can make: in its noise, between sentences, between labels."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pygan import pictures, use
from pygan.errors import UserError
from pygan.sample import given

KINDS = ("z", "text", "labels")
_AT_ONCE = 32  # pictures that go through the network together
_NEARLY = 1e-6  # radians from 0 or pi, where two directions have no plane of their own


@dataclass(frozen=True)
class Walk:
    """What is asked for; 0, None, "auto" and () mean: as is usual.

    kind: "auto" or one of `KINDS`; stops: points that are drawn and gone through; steps: frames between two of them;
    closed: back to the first at the end; to: lists of labels, the stops between labels; inputs: the pictures to give
    them to.
    """

    kind: str = "auto"
    stops: int = 0
    steps: int | None = None
    closed: bool = False
    to: tuple[str, ...] = ()
    inputs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Route:
    """Several walks side by side, ready to be painted.

    keys: (walks, stops, d), where each goes through; names: of the stops, "" where they have none; between: what lies
    between two keys (walks, d) at t in [0, 1]; paint: pictures (m, c, h, w) in [-1, 1] of points (m, d), given the
    numbers (m,) of the walks that they are on; steps, closed: as in `Walk`.
    """

    keys: Tensor
    names: tuple[str, ...]
    between: Callable[[Tensor, Tensor, float], Tensor]
    paint: Callable[[Tensor, Tensor], Tensor]
    steps: int
    closed: bool

    def __len__(self) -> int:
        stops = self.keys.shape[1]
        return stops * (self.steps + 1) if self.closed else (stops - 1) * (self.steps + 1) + 1

    def point(self, frame: int) -> Tensor:
        """Where the walks are, (walks, d)."""
        leg, step = divmod(frame, self.steps + 1)
        here = self.keys[:, leg]
        if not step:
            return here
        return self.between(here, self.keys[:, (leg + 1) % self.keys.shape[1]], step / (self.steps + 1))

    def name(self, frame: int) -> str:
        """Of the stop that a frame is nearest to."""
        return self.names[round(frame / (self.steps + 1)) % len(self.names)]

    def is_stop(self, frame: int) -> bool:
        """Is a frame at a stop?"""
        return frame % (self.steps + 1) == 0

    @torch.inference_mode()
    def frames(self, which: Sequence[int]) -> Iterator[Tensor]:
        """The frames of these numbers, each (walks, c, h, w) as people can see them, on the CPU."""
        walks = len(self.keys)
        together = max(1, _AT_ONCE // walks)
        for first in range(0, len(which), together):
            chunk = which[first : first + together]
            points = torch.cat([self.point(frame) for frame in chunk])  # (frames walks, d)
            numbers = torch.arange(walks, device=points.device).repeat(len(chunk))
            parts = zip(points.split(_AT_ONCE), numbers.split(_AT_ONCE), strict=True)
            images = torch.cat([pictures.as_rgb(self.paint(*part).float().cpu()) for part in parts])
            yield from images.unflatten(0, (len(chunk), walks))


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at t in [0, 1] on the great circle from a to b, (n, d) each (Shoemake 1985, 3.3; White 2016, 2.1).

    Noise from N(0, 1) lies near a sphere, whose inside, where straight lines go, a network never saw. The direction
    turns evenly, the length goes evenly from that of a to that of b. Between opposite directions, where every circle is
    as short, it is the one nearest to the axis in which a is shortest. t = 0 is a and t = 1 is b, bit for bit.
    """
    if t in (0, 1):
        return b if t else a
    long_a, long_b = (x.double().norm(dim=1, keepdim=True) for x in (a, b))
    unit_a, unit_b = (x.double() / long.clamp_min(1e-300) for x, long in ((a, long_a), (b, long_b)))
    # The part of b across a, and the angle by both parts: the arc cosine alone is inexact for small angles.
    along = (unit_a * unit_b).sum(dim=1, keepdim=True)
    across = unit_b - along * unit_a
    angle = torch.atan2(across.norm(dim=1, keepdim=True), along)
    axis = torch.zeros_like(unit_a).scatter_(1, unit_a.abs().argmin(dim=1, keepdim=True), 1.0)
    other = axis - (axis * unit_a).sum(dim=1, keepdim=True) * unit_a
    across = torch.where((angle < _NEARLY) | (math.pi - angle < _NEARLY), other, across)
    across = across / across.norm(dim=1, keepdim=True).clamp_min(1e-300)
    turned = (t * angle).cos() * unit_a + (t * angle).sin() * across
    return (turned * torch.lerp(long_a, long_b, t)).to(a.dtype)


def lerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at t in [0, 1] on the straight line from a to b."""
    return torch.lerp(a, b, t)


def route(
    trained: use.Trained, run: Path, walk: Walk, *, walks: int, stops: int, steps: int, seed: int, text: Sequence[str]
) -> Route:
    """The way that is asked for. walks, stops, steps: as many as are usual, where `walk` does not say.

    In z, the stops are the pictures of a plain sample of the same seed, walks times stops of them, in its order; so are
    those between sentences, whose walks have the noise of the plain sample's columns. Errors: UserError.
    """
    kind = _kind(trained, run, walk.kind, text)
    for flag, there, wanted in (
        ("--text", text, ("z", "text")),
        ("--to", walk.to, ("labels",)),
        ("--input", walk.inputs, ("labels",)),
        ("--stops", walk.stops, ("z",) if text else ("z", "text")),
    ):
        if there and kind not in wanted:
            raise UserError(f"{flag} does not belong to a walk in {kind}; leave it out")
    stops = walk.stops or stops
    steps = steps if walk.steps is None else walk.steps
    if kind == "labels":
        return _between_labels(trained, run, walk, walks, steps)
    if kind == "text":
        return _between_texts(trained, run, walk, walks, stops, steps, seed, text)
    return _in_noise(trained, run, walk, walks, stops, steps, seed, text)


def _kind(trained: use.Trained, run: Path, asked: str, text: Sequence[str]) -> str:
    able = dict(
        zip(KINDS, (hasattr(trained.gan, "latent"), reads(trained), hasattr(trained.gan, "codes")), strict=True)
    )
    can = [kind for kind in KINDS if able[kind]]
    if not can:
        gan = trained.gan.__name__.rpartition(".")[2]
        raise UserError(f"--walk: {run} is a run of {gan}, which has neither noise nor sentences nor labels to walk in")
    if asked != "auto" and asked not in can:
        raise UserError(f"--walk {asked}: there is no such way in {run}; it has --walk {' and --walk '.join(can)}")
    usual = "text" if "text" in can and len(text) != 1 else can[0]
    return usual if asked == "auto" else asked


def reads(trained: use.Trained) -> bool:
    """Does its generator read sentences?"""
    generate = getattr(trained.gan, "generate", None)
    return generate is not None and "text" in inspect.signature(generate).parameters


def _noise(trained: use.Trained, number: int, seed: int) -> Tensor:
    dtype = next(trained.net.parameters()).dtype
    return trained.gan.latent(trained.recipe, trained.rng(seed), number, dtype=dtype)


def _captions(trained: use.Trained, run: Path, number: int) -> Tensor:
    """Embeddings of the captions of `number` held-out items, (number, d)."""
    found = torch.cat([batch.text for batch in given.held_out(trained, run, number)])
    if len(found) < number:
        raise UserError(
            f"{run} has {len(found)} held-out captions, and {number} are asked for: give --text, or less -n"
        )
    return found


def _in_noise(
    trained: use.Trained, run: Path, walk: Walk, walks: int, stops: int, steps: int, seed: int, text: Sequence[str]
) -> Route:
    gan, net, recipe = trained.gan, trained.net, trained.recipe
    keys = _noise(trained, walks * stops, seed).unflatten(0, (walks, stops))
    between = lerp if gan.prior(recipe) == "uniform" else slerp
    if not reads(trained):

        def paint(z: Tensor, numbers: Tensor) -> Tensor:
            return gan.generate(net, recipe, len(z), z=z)

    else:
        # Every sentence has the same walks.
        codes = given.sentences(trained, text) if text else _captions(trained, run, walks)
        if text:
            keys = keys.repeat(len(codes), 1, 1)
            codes = codes.repeat_interleave(walks, dim=0)

        def paint(z: Tensor, numbers: Tensor) -> Tensor:
            return gan.generate(net, recipe, len(z), text=codes[numbers], z=z)

    return Route(keys, ("",) * stops, between, paint, steps, walk.closed)


def _between_texts(
    trained: use.Trained, run: Path, walk: Walk, walks: int, stops: int, steps: int, seed: int, text: Sequence[str]
) -> Route:
    if text:
        if len(text) < 2:
            raise UserError("--walk text goes from one --text to the next: give it two or more, got 1")
        keys = given.sentences(trained, text).expand(walks, -1, -1)
    else:
        keys = _captions(trained, run, walks * stops).unflatten(0, (walks, stops))
    names = tuple(text) or ("",) * stops
    return _reading(trained, keys, _noise(trained, walks, seed), names, steps, closed=walk.closed)


def from_each_to_the_next(trained: use.Trained, text: Sequence[str], steps: int, seed: int) -> Route:
    """A walk for each two sentences that follow each other, all with the noise of one picture. Errors: UserError."""
    codes = given.sentences(trained, text)
    keys, still = torch.stack((codes[:-1], codes[1:]), dim=1), _noise(trained, 1, seed).expand(len(codes) - 1, -1)
    return _reading(trained, keys, still, ("", ""), steps, closed=False)


def _reading(
    trained: use.Trained, keys: Tensor, still: Tensor, names: tuple[str, ...], steps: int, *, closed: bool
) -> Route:
    """Between embeddings (walks, stops, d), each walk with its own noise (walks, d')."""
    gan, net, recipe = trained.gan, trained.net, trained.recipe

    def paint(codes: Tensor, numbers: Tensor) -> Tensor:
        return gan.generate(net, recipe, len(codes), text=codes, z=still[numbers])

    return Route(keys, names, lerp, paint, steps, closed)


def _between_labels(trained: use.Trained, run: Path, walk: Walk, walks: int, steps: int) -> Route:
    gan, net, recipe = trained.gan, trained.net, trained.recipe
    if walk.inputs:
        images = given.pictures(trained, walk.inputs)
        found = gan.codes(recipe, walk.to)
    else:
        batches = list(given.held_out(trained, run, walks))
        batch = type(batches[0])(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
        images = batch[0]
        found = gan.codes(recipe, walk.to, batch)
    codes = [code.to(trained.device).expand(len(images), -1) for _, code in found]
    keys = torch.stack(codes, dim=1)  # (walks, stops, k)

    def paint(codes: Tensor, numbers: Tensor) -> Tensor:
        return gan.translate(net, recipe, images[numbers], code=codes)

    return Route(keys, tuple(name for name, _ in found), lerp, paint, steps, walk.closed)

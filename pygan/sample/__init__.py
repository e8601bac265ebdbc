"""What a trained network makes, to look at: a grid, a walk, an animation, a sheet with neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from pygan import log, outputs, pictures, use
from pygan.errors import UserError
from pygan.progress import Counter
from pygan.rundir import write_atomic
from pygan.sample import given
from pygan.sample.walk import KINDS, Route, Walk, from_each_to_the_next, reads, route

__all__ = ["KINDS", "Animation", "Walk", "sample"]

_ROW = 8  # pictures of a row, walks in a grid, items of the data
_GRID, _ANIMATED = (8, 2, 8), (4, 4, 16)  # walks, stops, steps between two of them, where nothing is said
_MOST_FRAMES, _MOST_PIXELS, _MOST_BYTES = 5000, 100_000_000, 1 << 30  # of an animation; of a grid; of all frames
_PALETTE = 16  # frames that say which colours a GIF has


@dataclass(frozen=True)
class Animation:
    """How frames are written. fps: frames per second; quality: of WebP, 1 to 100, None: lossless; dither: of GIF."""

    fps: float = 12.0
    quality: int | None = None
    dither: bool = False


def sample(
    run: Path,
    output: Path,
    *,
    number: int = 0,
    checkpoint: str = "last",
    device: str = "auto",
    seed: int = 0,
    text: Sequence[str] = (),
    interpolate: bool = False,
    walk: Walk | None = None,
    animation: Animation = Animation(),
    neighbours: int = 0,
    features: str = "",
) -> int:
    """Write a picture of what a run's generator makes. Returns the exit code.

    A PNG is a grid. A GAN that makes pictures from noise makes `number` of them (default 64) and needs no data; one
    that reads sentences makes a row of `number` (default 8) for each of `text`, or with `interpolate` goes from each to
    the next in 8 steps, the noise staying; every other one, and one that reads sentences where there is no text, shows
    the first `number` (default 8) held-out items of the run's own data.
    walk: go through what it can make: `number` rows (default 8) of a grid, or with a GIF or WebP an animation of
    `number` walks (default 4) side by side, of which `animation` says how. neighbours: beside each picture that many
    training pictures that are nearest to it, by pixels and by `features` (see `features.load`); a walk is then one
    (default), a frame to a row. The same call writes the same bytes.
    Errors: UserError (no run, its data gone, something that it cannot be asked, nowhere to write).
    """
    _check(output, number, seed, walk, animation, neighbours)
    trained = use.load(run, checkpoint, device)
    if text and not reads(trained):
        raise UserError(f"--text: {run} does not make pictures from sentences; leave it out")
    if not all(sentence.strip() for sentence in text):
        raise UserError("--text says nothing; give it a sentence")
    if interpolate and neighbours:
        raise UserError("--interpolate shows no --neighbours; give --walk text in its place")
    if interpolate and len(text) < 2:
        raise UserError(f"--interpolate goes from one --text to the next: give it two or more, got {len(text)}")
    lines: list[str] = []
    with torch.inference_mode():
        if interpolate:
            data = pictures.to_png(_grid(from_each_to_the_next(trained, text, _ROW - 2, seed), ("samples", "")))
        elif walk is not None:
            animated = output.suffix.lower() != ".png"
            walks, stops, steps = _ANIMATED if animated else _GRID
            walks = number or (1 if neighbours else walks)
            way = route(trained, run, walk, walks=walks, stops=stops, steps=steps, seed=seed, text=text)
            if animated:
                data = _animated(way, output, animation)
            elif neighbours:
                data, lines = _beside(trained, run, _frames_as_groups(trained, way), neighbours, features)
            else:
                data = pictures.to_png(_grid(way))
        elif neighbours:
            groups = _groups(trained, run, number or _ROW, seed, text)
            data, lines = _beside(trained, run, groups, neighbours, features)
        else:
            data = pictures.to_png(pictures.grid(pictures.columns(_plain(trained, run, number, seed, text))))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(output, data)
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another -o") from error
    out = log.console()
    for line in lines:
        out.print(line, markup=False)
    out.print(f"wrote {output}: {run} at {trained.images_seen:,} images", markup=False)
    return 0


def _check(output: Path, number: int, seed: int, walk: Walk | None, animation: Animation, neighbours: int) -> None:
    """What needs no run to be wrong."""
    for flag, value in (("--number", number), ("--neighbours", neighbours)):
        if value < 0:
            raise UserError(f"{flag} must be at least 1, got {value}")
    kind = output.suffix.lower()
    if kind != ".png":
        if walk is None:
            raise UserError(f"{output}: a grid is written as PNG; name it {output.stem}.png")
        if neighbours:
            raise UserError(f"{output}: --neighbours are written as PNG; name it {output.stem}.png")
        if kind not in (".gif", ".webp"):
            raise UserError(
                f"{output}: a walk is written as PNG (a grid), GIF or WebP (an animation); name it {output.stem}.gif"
            )
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2**63-1, got {seed}")
    if not 0.1 <= animation.fps <= 50:
        raise UserError(f"--fps must be in 0.1..50, got {animation.fps:g}")
    if animation.quality is not None and not 1 <= animation.quality <= 100:
        raise UserError(f"--quality must be in 1..100, got {animation.quality}")
    if animation.quality is not None and kind != ".webp":
        raise UserError(f"--quality is of a WebP; leave it out, or name the output {output.stem}.webp")
    if animation.dither and kind != ".gif":
        raise UserError(f"--dither is of a GIF; leave it out, or name the output {output.stem}.gif")
    if walk is None:
        return
    if walk.stops and walk.stops < 2:
        raise UserError(f"--stops must be at least 2, got {walk.stops}")
    if walk.steps is not None and walk.steps < 1:
        raise UserError(f"--steps must be at least 1, got {walk.steps}")


def _plain(trained: use.Trained, run: Path, number: int, seed: int, text: Sequence[str]) -> dict[str, Tensor]:
    """Columns of a grid."""
    if text:
        rows = [_of_text(trained, code, number or _ROW, seed) for code in given.sentences(trained, text)]
        return {" " * k if k else "samples": torch.stack(column) for k, column in enumerate(zip(*rows, strict=True))}
    if _from_noise(trained) and not hasattr(trained.gan, "reconstruct"):  # which is looked at on pictures
        return {"samples": trained.gan.generate(trained.net, trained.recipe, number or 64, trained.rng(seed))}
    batches = given.held_out(trained, run, number or _ROW)
    return pictures.joined([trained.gan.sample(trained.net, trained.recipe, x, trained.rng(seed)) for x in batches])


def _from_noise(trained: use.Trained) -> bool:
    return not reads(trained) and not outputs.paints_from_pictures(trained.gan, trained.recipe)


def _of_text(trained: use.Trained, code: Tensor, number: int, seed: int) -> Tensor:
    """`number` pictures of one sentence's embedding (d,)."""
    codes = code.expand(number, -1)
    return trained.gan.generate(trained.net, trained.recipe, number, trained.rng(seed), text=codes)


def _groups(trained: use.Trained, run: Path, number: int, seed: int, text: Sequence[str]) -> list:
    """What a plain sample shows, as groups of pictures that have neighbours."""
    from pygan.sample import beside

    beside.check(number * max(1, len(text)))
    if not text and not _from_noise(trained):
        return beside.painted(trained, run, number, seed)
    if not text:
        images = trained.gan.generate(trained.net, trained.recipe, number, trained.rng(seed))
        return beside.made(trained, images, [str(k + 1) for k in range(number)])
    images = torch.cat([_of_text(trained, code, number, seed) for code in given.sentences(trained, text)])
    return beside.made(trained, images, [sentence for sentence in text for _ in range(number)])


def _frames_as_groups(trained: use.Trained, way: Route) -> list:
    """All frames of all walks, one walk after the other."""
    from pygan.sample import beside

    beside.check(len(way.keys) * len(way))
    frames = torch.stack(list(_told(way, range(len(way)))), dim=1)  # (walks, frames, c, h, w)
    names = [way.name(f) or f"stop {f // (way.steps + 1) + 1}" if way.is_stop(f) else "" for f in range(len(way))]
    return beside.made(trained, frames.flatten(0, 1), names * len(frames))


def _beside(trained: use.Trained, run: Path, groups: list, k: int, features: str) -> tuple[bytes, list[str]]:
    from pygan.sample import beside

    sheet, lines = beside.sheet(trained, run, groups, k, features)
    return pictures.to_png(sheet), lines


def _told(way: Route, which: Sequence[int]) -> Iterator[Tensor]:
    """The frames, counted for the user."""
    walks = len(way.keys)
    with Counter("painting", walks * len(which)) as counter:
        for frame in way.frames(which):
            counter.add(walks)
            yield frame


def _grid(way: Route, names: Sequence[str] | None = None) -> Image.Image:
    """A row for each walk, a column for each frame; stops have their names (names: these) above them."""
    (first,) = way.frames([0])
    walks, _, height, width = first.shape
    zoom = max(1, 96 // height)
    if walks * len(way) * (height * zoom) * (width * zoom) > _MOST_PIXELS:
        raise UserError(f"a grid of {walks}x{len(way)} pictures is too large; ask for fewer --steps, --stops or -n")
    captions = way.names if names is None else names
    columns = {}
    for number, images in enumerate(_told(way, range(len(way)))):
        caption = captions[number // (way.steps + 1) % len(captions)] if way.is_stop(number) else ""
        while caption in columns:  # the same stop again, or none
            caption += " "
        columns[caption] = images
    return pictures.grid(columns)


def _animated(way: Route, output: Path, animation: Animation) -> bytes:
    """The walks side by side, frame by frame; above them the name of the stop that is near."""

    def drawn(which: Sequence[int], frames: Iterator[Tensor]) -> Iterator[Image.Image]:
        for number, images in zip(which, frames, strict=True):
            yield pictures.grid({way.name(number): images})

    numbers = range(len(way))
    (first,) = drawn([0], way.frames([0]))
    if len(way) > _MOST_FRAMES or len(way) * first.width * first.height > _MOST_BYTES:
        raise UserError(f"{len(way)} frames of {first.width}x{first.height} pixels are too many; ask for fewer --steps")
    if output.suffix.lower() == ".webp":
        return pictures.to_webp(drawn(numbers, _told(way, numbers)), fps=animation.fps, quality=animation.quality)
    some = numbers[:: -(-len(way) // _PALETTE)]
    few = list(drawn(some, way.frames(some)))
    return pictures.to_gif(drawn(numbers, _told(way, numbers)), few, fps=animation.fps, dither=animation.dither)

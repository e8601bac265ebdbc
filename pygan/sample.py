"""A grid of what a trained network makes: of held-out items, of noise, of sentences."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from pygan import heldout, log, pictures, use
from pygan.data import text as texts
from pygan.errors import UserError
from pygan.rundir import write_atomic

_ACROSS = 8  # pictures of an interpolation, its ends included


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
) -> int:
    """Write a PNG grid of what a run's generator makes. Returns the exit code.

    A GAN that makes pictures from noise makes `number` of them (default 64) and needs no data; one that reads sentences
    makes a row of `number` (default 8) for each of `text`, or with `interpolate` goes from each to the next in 8 steps,
    the noise staying; every other one, and one that reads sentences where there is no text, shows the first `number`
    (default 8) held-out items of the run's own data.
    Errors: UserError (no run, its data gone, no sentence wanted, nowhere to write).
    """
    if number < 0:
        raise UserError(f"--number must be at least 1, got {number}")
    if output.suffix.lower() != ".png":
        raise UserError(f"{output}: a grid is written as PNG; name it {output.stem}.png")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2**63-1, got {seed}")
    trained = use.load(run, checkpoint, device)
    generate = getattr(trained.gan, "generate", None)
    reads = generate is not None and "text" in inspect.signature(generate).parameters
    if text and not reads:
        raise UserError(f"--text: {run} does not make pictures from sentences; leave it out")
    if not all(sentence.strip() for sentence in text):
        raise UserError("--text says nothing; give it a sentence")
    if interpolate and len(text) < 2:
        raise UserError(f"--interpolate goes from one --text to the next: give it two or more, got {len(text)}")
    with torch.inference_mode():
        if text:
            images = _of_text(trained, text, number or _ACROSS, seed, interpolate)
        elif generate is not None and not reads:
            images = {"samples": generate(trained.net, trained.recipe, number or 64, trained.rng(seed))}
        else:
            images = _of_held_out(trained, run, number or 8, seed)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(output, pictures.to_png(pictures.grid(pictures.columns(images))))
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another -o") from error
    log.console().print(f"wrote {output}: {run} at {trained.images_seen:,} images", markup=False)
    return 0


def _of_held_out(trained: use.Trained, run: Path, number: int, seed: int) -> dict[str, Tensor]:
    recipe = replace(trained.recipe, feed="auto")
    parts = []
    try:
        feed = trained.gan.batches(recipe, "held-out", trained.device)
    except UserError as reason:
        gan = trained.gan.__name__.rpartition(".")[2]
        where = f"`pygan train {gan} --run {run} --data DIR` tells the run where its pictures are now"
        raise UserError(f"the held-out items of {run} cannot be read: {reason}; {where}") from reason
    with feed:
        for batch in heldout.batches(feed, number):
            parts.append(trained.gan.sample(trained.net, trained.recipe, batch, trained.rng(seed)))
    return pictures.joined(parts)


def _of_text(
    trained: use.Trained, sentences: Sequence[str], number: int, seed: int, interpolate: bool
) -> dict[str, Tensor]:
    """Columns of pictures: a row for each sentence, or for each way from one to the next."""
    encoder = texts.encoder(trained.recipe.text_encoder)
    wanted = trained.recipe.text_dim
    if encoder.dim != wanted:
        raise UserError(
            f"--text: the run was trained on embeddings of {wanted} numbers, and its text encoder "
            f"{trained.recipe.text_encoder!r} gives {encoder.dim}: its captions were embedded by another program"
        )
    codes = torch.from_numpy(encoder.encode(list(sentences))).to(trained.device)  # (sentences, d)
    rows = []
    if interpolate:
        along = torch.linspace(0, 1, _ACROSS, device=trained.device)[:, None]
        rows = [torch.lerp(a[None], b[None], along) for a, b in itertools.pairwise(codes)]
    else:
        rows = [code.expand(number, -1) for code in codes]
    images = [_row(trained, row, seed, still=interpolate) for row in rows]
    return {" " * k if k else "samples": torch.stack([row[k] for row in images]) for k in range(len(images[0]))}


def _row(trained: use.Trained, codes: Tensor, seed: int, *, still: bool) -> Tensor:
    """A picture for each code. still: all from the same noise, so one by one."""
    generate, net, recipe = trained.gan.generate, trained.net, trained.recipe
    if still:
        return torch.cat([generate(net, recipe, 1, trained.rng(seed), text=code[None]) for code in codes])
    return generate(net, recipe, len(codes), trained.rng(seed), text=codes)

"""A grid of held-out items through a trained network: input, output, target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pygan import heldout, log, pictures, use
from pygan.errors import UserError
from pygan.rundir import write_atomic


def sample(
    run: Path, output: Path, *, number: int = 8, checkpoint: str = "last", device: str = "auto", seed: int = 0
) -> int:
    """Write a PNG grid of the first `number` held-out items of the run's own data. Returns the exit code.

    Errors: UserError (no run, its data gone, nowhere to write).
    """
    if number < 1:
        raise UserError(f"--number must be at least 1, got {number}")
    if output.suffix.lower() != ".png":
        raise UserError(f"{output}: a grid is written as PNG; name it {output.stem}.png")
    if not 0 <= seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2**63-1, got {seed}")
    trained = use.load(run, checkpoint, device)
    parts: list[dict[str, torch.Tensor]] = []
    recipe = replace(trained.recipe, feed="auto")
    with trained.gan.batches(recipe, "held-out", torch.device("cpu")) as feed, torch.inference_mode():
        for batch in heldout.batches(feed, number):
            parts.append(pictures.columns(batch, trained(batch.A, trained.rng(seed))))
    sheet = pictures.grid({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(output, pictures.to_png(sheet))
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another -o") from error
    log.console().print(f"wrote {output}: {run} at {trained.images_seen:,} images", markup=False)
    return 0

"""samples/ of a bundle: pictures of what the network makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from pygan import outputs, pictures
from pygan.use import Trained

_FROM_NOISE = 16  # pictures of the one grid


class Shown(NamedTuple):
    """What samples/ holds."""

    names: tuple[str, ...]  # of the files
    columns: tuple[str, ...]  # of each picture, from left to right; () for a grid of samples
    held_out: bool  # are pictures of the run's data among them?


def write(trained: Trained, batch: Any, number: int, folder: Path) -> Shown:
    """Write PNG files into `folder`, which is made; none of them where number is 0. Errors: OSError.

    A GAN from noise alone makes one grid; every other one a file for each of the first `number` held-out items, in
    `batch` (None: there are none to be had).
    """
    if not number:
        return Shown((), (), False)
    from_noise = "generate" in trained.card.acts and not trained.card.asks
    if not from_noise and batch is None:
        return Shown((), (), False)
    folder.mkdir()
    with torch.inference_mode():
        if from_noise and not outputs.paints_from_pictures(trained.gan, trained.recipe):
            images = trained.gan.generate(trained.net, trained.recipe, _FROM_NOISE, trained.rng(0))
            sheets, columns = [pictures.grid(pictures.columns({" ": images}))], ()
        else:
            items = type(batch)(*(tensor[:number] for tensor in batch))
            shown = pictures.columns(trained.gan.sample(trained.net, trained.recipe, items, trained.rng(0)))
            n = min(len(images) for images in shown.values())
            sheets = [pictures.grid({name: images[k : k + 1] for name, images in shown.items()}) for k in range(n)]
            columns = tuple(shown)
    names = []
    for k, sheet in enumerate(sheets):
        names.append(f"{k}.png")
        (folder / names[-1]).write_bytes(pictures.to_png(sheet))
    return Shown(tuple(names), columns, bool(columns))

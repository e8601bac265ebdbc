"""What a sample is made from or compared with: items of the run's own data, sentences, pictures of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from pygan import heldout, use
from pygan.data import images
from pygan.data import text as texts
from pygan.data.feeds import normalise
from pygan.errors import UserError


def held_out(trained: use.Trained, run: Path, number: int) -> Iterator[Any]:
    """The first `number` held-out items of the run's data, in batches on its device. Errors: UserError."""
    recipe = replace(trained.recipe, feed="auto")
    with _open(lambda: trained.gan.batches(recipe, "held-out", trained.device), trained, run, "held-out items") as feed:
        yield from heldout.batches(feed, number)


def training(trained: use.Trained, run: Path) -> Any:
    """The feed of its training items, whole and not mirrored, on the CPU; the caller closes it. Errors: UserError."""
    return _open(lambda: heldout.training_items(trained.gan, trained.recipe, "cpu"), trained, run, "training items")


def _open(opening: Callable[[], Any], trained: use.Trained, run: Path, what: str) -> Any:
    try:
        return opening()
    except UserError as reason:
        gan = trained.gan.__name__.rpartition(".")[2]
        where = f"`pygan train {gan} --run {run} --data DIR` tells the run where its pictures are now"
        raise UserError(f"the {what} of {run} cannot be read: {reason}; {where}") from reason


def sentences(trained: use.Trained, said: Sequence[str]) -> Tensor:
    """Embeddings (n, d) of sentences by the run's text encoder, on its device. Errors: UserError."""
    recipe = trained.recipe
    return torch.from_numpy(texts.sentences(said, recipe.text_encoder, recipe.text_dim)).to(trained.device)


def pictures(trained: use.Trained, paths: Sequence[Path]) -> Tensor:
    """The middle squares of files as the network sees them, (n, c, s, s) in [-1, 1], on its device."""
    size, channels = trained.recipe.crop_size, trained.recipe.input_channels
    squares = [
        np.asarray(ImageOps.fit(images.load(path, channels), (size, size), images.FILTERS["bicubic"])) for path in paths
    ]
    return normalise(torch.from_numpy(np.stack(squares)).view(len(squares), size, size, channels)).to(trained.device)

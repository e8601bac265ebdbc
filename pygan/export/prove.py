"""The proof that a file is the network: both are given the same inputs, and the largest difference is measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan import outputs
from pygan.errors import UserError, say
from pygan.export.network import Form
from pygan.exported.network import label_code
from pygan.sample import given
from pygan.use import Card, Network, Trained

# Largest difference that is let pass, in units of [-1, 1]. Weights and maps in 16 bits have 11 bits of mantissa, and
# what that does grows from layer to layer: two and a half grey levels of 255.
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2
_ITEMS = 4
_SEED = (1 << 40) + 7  # of dropout: both 32-bit halves say something


class Differs(Exception):
    """The file is not the network. The message is one line."""


@dataclass(frozen=True)
class Proof:
    """What was compared."""

    largest: float  # difference of any value of any image, in units of [-1, 1]
    tolerance: float
    images: int
    shapes: tuple[tuple[int, ...], ...]  # (n, h, w) of the inputs, or (n,) of noise
    held_out: bool  # by items that training never saw, and not by made-up ones

    @property
    def grey_levels(self) -> float:
        """The same of 8-bit pictures."""
        return self.largest * 127.5


@dataclass(frozen=True)
class _Items:
    """What the network is tried on: pictures (n, c, h, w), or texts (n, d) and places."""

    image: Tensor | None
    text: Tensor | None
    where: Tensor | None
    held_out: bool


def prove(forms: Sequence[Form], made: Network, run: Path, tolerance: float) -> Proof:
    """Compare a file's network with the run's on held-out inputs, at several batch sizes and, where free, sizes.

    forms: what it can do, one way after the other. Where the run's data is gone, which is said, made-up inputs take its
    place. Errors: Differs.
    """
    largest, images, shapes, held_out = 0.0, 0, [], True
    for form in forms:
        items = _items(form, run)
        held_out = held_out and items.held_out
        for case in _cases(form, items):
            with torch.inference_mode():
                expected, got = _both(form, made, case)
            if got.shape != expected.shape:
                raise Differs(f"the file makes images of shape {list(got.shape)}, the run {list(expected.shape)}")
            difference = float((got - expected).abs().max())
            if not difference <= tolerance:  # NaN too
                raise Differs(
                    f"the file differs from the run by {difference:.2g} ({difference * 127.5:.2g} grey levels), more "
                    f"than the tolerance of {tolerance:.2g}"
                )
            largest, images = max(largest, difference), images + got.shape[0]
            shapes.append(tuple(case["image"].shape[i] for i in (0, 2, 3)) if "image" in case else (got.shape[0],))
    return Proof(largest, tolerance, images, tuple(shapes), held_out)


def _both(form: Form, made: Network, case: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """(what the run makes of a case, what the file does)."""
    trained, options = form.trained, dict(form.module.options)
    if "image" not in case:
        n = case["z"].shape[0]
        return trained.generate(n, None, **case), made.generate(n, None, **case)
    if "code" in case:
        options["code"] = case["code"]
    image, seed = case["image"], case.get("seed")
    return trained.translate(image, seed, **options), made.translate(image, seed, **options)


def _cases(form: Form, items: _Items) -> Iterator[dict[str, Any]]:
    """Inputs by name, of one batch size after the other."""
    card, trained = form.card, form.trained
    counts = [card.batch] if card.batch else [1, 2, 3]
    for i, n in enumerate(counts):
        if "generate" in card.acts:
            rng = trained.rng(_SEED + i)
            case = {"z": trained.gan.latent(trained.recipe, rng, n)}
            for name in card.asks:
                case[name] = _some(getattr(items, name), n, i)
            yield case
            continue
        case = {"image": _resized(_some(items.image, n, i), _side(card, form, i))}
        if "to" in card.options:
            names = card.options["to"]
            codes = [label_code(trained.gan, trained.recipe, names[(i + k) % len(names)]) for k in range(n)]
            case["code"] = torch.cat(codes)
        if card.chance:
            case["seed"] = torch.tensor([_SEED + i, 0])
        yield case


def _side(card: Card, form: Form, i: int) -> tuple[int, int]:
    """Height and width of the i-th batch."""
    if card.size is not None:
        return card.size
    step = card.multiple
    usual = -(-max(card.least, step, form.trained.recipe.crop_size) // step)
    height, width = ((usual, usual), (usual + 1, usual), (usual, usual + 2))[i % 3]
    return height * step, width * step


def _some(items: Tensor, n: int, first: int) -> Tensor:
    """n items, from the `first` one on, again from the beginning where there are too few."""
    return items[torch.arange(first, first + n) % items.shape[0]]


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[2:]) == size:
        return image.contiguous()
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


def _items(form: Form, run: Path) -> _Items:
    """Held-out items of the run; made-up ones where its data cannot be read."""
    trained = form.trained
    batch, held_out = batch_of(trained, run, _ITEMS)
    image = None
    if "translate" in form.card.acts:
        with torch.inference_mode():
            image = _pictures(trained, batch, form.module.options.get("direction", "")).clone().cpu()
    return _Items(image, getattr(batch, "text", None), getattr(batch, "where", None), held_out)


def batch_of(trained: Trained, run: Path, number: int) -> tuple[Any, bool]:
    """The first `number` held-out items of the run, and True; made-up ones, and False, where its data cannot be read.

    On the device of the network. That they are made up is said.
    """
    try:
        batches = list(given.held_out(trained, run, number))
        batch = type(batches[0])(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
        if _kinds(batch) != _kinds(trained.gan.example(trained.recipe, "meta")):
            raise UserError(f"the data of {run} is other than what the network was trained with")
        return batch, True
    except (UserError, OSError) as reason:
        say(f"{reason}. The file is compared on made-up inputs")
        return _made_up(trained), False


def _kinds(batch: Any) -> list[tuple[int, ...]]:
    """Of each tensor its shape without the number of items; of pictures their channels."""
    return [tuple(tensor.shape[1:2] if tensor.dim() == 4 else tensor.shape[1:]) for tensor in batch]


def _pictures(trained: Trained, batch: Any, way: str) -> Tensor:
    """What a network translates, of a batch of its feed."""
    gan, recipe = trained.gan, trained.recipe
    if not outputs.paints_from_pictures(gan, recipe):
        return batch[0]
    return outputs.of(gan, recipe, trained.net, batch, trained.rng(0), way=way).input


def _made_up(trained: Trained) -> Any:
    """A batch of the GAN's feed with values from a fixed seed in it: soft blobs and noise, in [-1, 1]."""
    example = trained.gan.example(trained.recipe, "meta")
    rng = torch.Generator().manual_seed(0)
    values = []
    for tensor in example:
        value = torch.rand((2, *tensor.shape[1:]), generator=rng) * 2 - 1
        if value.dim() == 4:
            small = torch.randn((*value.shape[:2], 4, 4), generator=rng)
            value = F.interpolate(small, size=value.shape[2:], mode="bicubic") + 0.2 * value
        values.append(value.clamp(-1, 1))
    return type(example)(*(value.to(trained.device) for value in values))

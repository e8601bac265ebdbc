"""Pictures beside the training pictures that are nearest to them, by pixels and by features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pygan import features, neighbours, outputs, pictures, use
from pygan.errors import UserError, say
from pygan.progress import Counter
from pygan.sample import given

USUAL = 200  # training pictures, whose distances to each other say what is near
MOST = 256  # rows of a sheet
_MOST_PIXELS = 200_000_000  # of a sheet


class Group(NamedTuple):
    """Pictures of one kind, and which pictures of a batch are of that kind."""

    images: Tensor  # (n, c, h, w) in [-1, 1], c of 1 or 3, on the CPU
    names: Sequence[str]  # of each
    field: str  # of the GAN's batches


def check(count: int) -> None:
    """Errors: UserError, one line, for more pictures than a sheet holds."""
    if count > MOST:
        raise UserError(f"--neighbours shows at most {MOST} pictures, and {count} are asked for: give a smaller -n")


def made(trained: use.Trained, images: Tensor, names: Sequence[str]) -> list[Group]:
    """What came from noise or sentences (n, c, h, w) as groups: of two domains side by side, each for itself."""
    fields = type(trained.gan.example(trained.recipe))._fields
    images = pictures.as_rgb(images.float().cpu())
    if "image" in fields:
        return [Group(images, names, "image")]
    return [
        Group(half, [f"{name} {field}" for name in names], field)
        for field, half in zip(fields, images.chunk(2, dim=3), strict=True)
    ]


def painted(trained: use.Trained, run: Path, number: int, seed: int) -> list[Group]:
    """What is painted of held-out items, `number` in all, a group for each way that the network goes."""
    ways = outputs.ways(trained.gan, trained.recipe)
    each = max(1, number // len(ways))
    groups = []
    for way in ways:
        parts, field = [], ""
        for batch in given.held_out(trained, run, each):
            found = outputs.of(trained.gan, trained.recipe, trained.net, batch, trained.rng(seed), way=way)
            field = field or _field(trained, batch, found.real, way)
            parts.append(pictures.as_rgb(found.fake.float().cpu(), None if found.input is None else found.input.cpu()))
        images = torch.cat(parts)
        groups.append(Group(images, [f"{way} {k + 1}".strip() for k in range(len(images))], field))
    return groups


def _field(trained: use.Trained, batch: Any, real: Tensor, way: str) -> str:
    """Which pictures of a batch are those that `real` are of."""
    for name, tensor in batch._asdict().items():
        alike = len(real) and tensor.dim() == 4 and tensor.shape[1:] == real.shape[1:]
        if alike and (tensor == real[0]).flatten(1).all(dim=1).any():
            return name
    # None of them has the label of this way.
    second = hasattr(batch, "image_2") and way not in [name.strip() for name in trained.recipe.labels.split(",")]
    return "image_2" if second else "image"


def sheet(trained: use.Trained, run: Path, groups: Sequence[Group], k: int, spec: str) -> tuple[Image.Image, list[str]]:
    """The pictures, each with its k nearest by pixels and by the features of `spec`, and lines that sum them up.

    spec: as `features.load` takes it; "": Inception if its weights are there, else edges and colours.
    Errors: UserError.
    """
    seen = _features(spec, trained)
    blocks, lines = [], []
    with given.training(trained, run) as feed:
        k = min(k, *(_part(feed, group.field).n_items for group in groups))
        _check_size(groups, k)
        for group in _merged(groups):
            found = _search(feed, group, k, seen)
            part = _part(feed, group.field)
            names, order = part.source.names(), part.stream.order(0)
            block = [("sample", group.images, group.names)]
            for space, one in zip(("pixels", seen.name), found, strict=True):
                kind = f" ({group.field})" if len({group.field for group in groups}) > 1 else ""
                lines.append(neighbours.hint(one, f"{space}{kind}", " grey levels" if space == "pixels" else ""))
                index, distance, images = one.neighbours
                for rank in range(k):
                    pairs = zip(distance[:, rank].tolist(), index[:, rank].tolist(), strict=True)
                    under = [(f"{far:.3g}  ", names[order[item]]) for far, item in pairs]
                    # Only the first column of a space bears its name, which may be wider than a picture.
                    caption = space if rank == 0 else " " * (len(block) + 1)
                    block.append((caption, images[:, rank].float().mul(1 / 127.5).sub(1.0), under))
            blocks.append(block)
    columns, under = {}, {}
    for parts in zip(*blocks, strict=True):
        caption = parts[0][0]
        columns[caption] = torch.cat([_alike(images, blocks[0][0][1]) for _, images, _ in parts])
        under[caption] = [text for _, _, texts in parts for text in texts]
    return pictures.grid(columns, under=under), lines


def _check_size(groups: Sequence[Group], k: int) -> None:
    """Errors: UserError, before the search, for a sheet that is too large."""
    rows, (height, width) = sum(len(group.images) for group in groups), groups[0].images.shape[2:]
    zoom = max(1, 96 // height)
    if rows * (2 * k + 1) * (height * zoom) * (width * zoom) > _MOST_PIXELS:
        raise UserError(f"a sheet of {rows} pictures with {k} neighbours each is too large; ask for fewer, or less -n")


def _features(spec: str, trained: use.Trained) -> features.Features:
    if spec:
        return features.load(spec, trained.device)
    try:
        return features.load("inception", trained.device)
    except UserError:
        say("the weights of Inception are not here: neighbours are looked for by edges and colours (or by --features)")
        return features.load("hog", trained.device)


def _merged(groups: Sequence[Group]) -> list[Group]:
    """Groups that are compared with the same pictures as one, so that these are gone through once."""
    merged = []
    for field in dict.fromkeys(group.field for group in groups):
        of_field = [group for group in groups if group.field == field]
        images = torch.cat([group.images for group in of_field])
        merged.append(Group(images, [name for group in of_field for name in group.names], field))
    return merged


def _search(feed: Any, group: Group, k: int, seen: features.Features) -> list[neighbours.Found]:
    """In pixels and in features, among the pictures of the group's kind."""
    items = _part(feed, group.field).n_items

    def pick(batch: Any) -> Tensor:
        return pictures.as_rgb(getattr(batch, group.field), batch[0])

    with Counter("looking through training pictures", items) as counter:
        return neighbours.search(
            group.images,
            feed,
            k,
            (None, seen),
            pick=pick,
            items=items,
            usual=USUAL,
            progress=lambda done, _: counter.to(done),
        )


def _part(feed: Any, field: str) -> Any:
    """The part of a feed that pictures come from: its items, of which an epoch of the whole may show some twice."""
    if not hasattr(feed, "parts"):
        return feed
    batch = feed.get(0)
    kinds = [name for name, tensor in batch._asdict().items() if tensor.dim() == 4]
    return feed.parts[kinds.index(field)]


def _alike(images: Tensor, example: Tensor) -> Tensor:
    """(n, c, h', w') as (n, 3, h, w), the size of an example."""
    if images.shape[2:] != example.shape[2:]:
        images = F.interpolate(images, size=example.shape[2:], mode="area")
    return images.expand(-1, 3, -1, -1)

"""Batches addressed by images seen: the one face of all feeds, and those that need nothing but Pillow."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from pygan.data.sources import Source
from pygan.data.stream import Draw, Stream
from pygan.data.transforms import cut_hole_
from pygan.errors import UserError, say
from pygan.ops.crop_flip import crop_flip

_SAY_EVERY_S = 5.0


class Batch(NamedTuple):
    """One batch on the device: float32, (n, c, h, w) in channels_last memory, in [-1, 1]."""

    A: torch.Tensor  # the network's input: the direction has been applied
    B: torch.Tensor  # its target


class Pictures(NamedTuple):
    """Pictures of one kind: float32, (n, c, h, w) in channels_last memory, in [-1, 1]."""

    image: torch.Tensor


class Labelled(NamedTuple):
    """Pictures as in `Pictures`, and what is in them."""

    image: torch.Tensor
    label: torch.Tensor  # float32 (n, k) of 0 and 1, k as `Facts.labels`


class JointLabelled(NamedTuple):
    """Pictures of two sets whose labels have nothing in common."""

    image: torch.Tensor
    label: torch.Tensor  # float32 (n, k), k as `Facts.labels`
    image_2: torch.Tensor
    label_2: torch.Tensor  # float32 (n, k_2), k_2 as `Facts.labels_2`


class Captioned(NamedTuple):
    """Pictures as in `Pictures`, each with a caption."""

    image: torch.Tensor
    text: torch.Tensor  # float32 (n, d), the caption's embedding, d as `Facts.text_dim`


class CaptionedWrong(NamedTuple):
    """Like `Captioned`, beside pictures that the captions do not belong to."""

    image: torch.Tensor
    wrong: torch.Tensor  # like image, of another class where the set has classes, else another picture
    text: torch.Tensor


class LocatedCaptioned(NamedTuple):
    """Like `CaptionedWrong`, and where in `image` things are."""

    image: torch.Tensor
    wrong: torch.Tensor
    text: torch.Tensor
    where: torch.Tensor  # float32 (n, 4): box x, y, w, h; or (n, k, 3): key points x, y, visible; in parts of the image


def empty_images(n: int, channels: int, size: int, device: torch.device | str) -> torch.Tensor:
    """A place for n pictures as a batch has them: float32 (n, channels, size, size), channels_last, any values."""
    return torch.empty((n, channels, size, size), device=device, memory_format=torch.channels_last)


@dataclass(frozen=True)
class Facts:
    """What a set of pictures decides about a recipe (`resolve`).

    channels: of the pictures of an item, in the set's own order; natural_direction: "AtoB" or "BtoA" of a paired set;
    labels, labels_2: names of what `Labelled.label` and `JointLabelled.label_2` say, single: exactly one of the labels
    is 1 in every picture; text_dim: length of a caption's embedding; where: shape of `LocatedCaptioned.where` without
    its first dimension.
    """

    channels: tuple[int, ...] = (3, 3)
    natural_direction: str = "AtoB"
    labels: tuple[str, ...] = ()
    labels_2: tuple[str, ...] = ()
    single: bool = False
    single_2: bool = False
    text_dim: int = 0
    where: tuple[int, ...] = ()


class Feed(ABC):
    """Endless batches addressed by images seen.

    facts: what the set decides about a recipe; sources: where its pictures come from; n_items: length of one epoch in
    images; batch_size: images of this process per batch; device: where batches lie.
    """

    facts: Facts
    sources: tuple[Source, ...]
    n_items: int
    batch_size: int
    device: torch.device

    @abstractmethod
    def get(self, images_seen: int) -> Any:
        """The batch of this process when all processes together have seen `images_seen` images. Any order."""

    def address(self, images_seen: int) -> Any:
        """What `batch` makes that batch of: a tuple type of tensors of the same shapes for every batch.

        A CUDA graph of a step takes the address and gathers the pictures itself where the feed can (resident).
        """
        return self.get(images_seen)

    def batch(self, address: Any) -> Any:
        """The batch of an address."""
        return address

    @abstractmethod
    def describe(self) -> str:
        """One line for the user: which feed, of what, and where its pixels live."""

    @abstractmethod
    def close(self) -> None:
        """Give threads and memory back; may be called twice."""

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class SourceFeed(Feed):
    """Batches of one `Source` in the order of a `Stream`: `Batch` of a set of pairs, `Pictures` of a set of pictures.

    kind: "resident", "pillow" or "dali". Constructor of every feed: `(source, stream, device, swap)`, where swap
    means that source.B is the network's input (direction "BtoA").
    """

    kind: str
    chosen_because: str = ""  # for `describe`, where the choice was left to `choose`

    def __init__(self, source: Source, stream: Stream, device: torch.device | str, swap: bool = False) -> None:
        self.source = source
        self.sources = (source,)
        self.stream = stream
        self.device = torch.device(device)
        self.swap = swap
        self.facts = Facts(tuple(source.channels), source.natural_direction)
        self.batch_size = stream.batch

    @property
    def n_items(self) -> int:
        """Items in the set: the length of one epoch in images."""
        return self.stream.n_items

    def describe(self) -> str:
        return f"{self.source.describe()}; {self.describe_how()}"

    @abstractmethod
    def describe_how(self) -> str:
        """`describe` without the source."""

    def _finish(self, *pictures: torch.Tensor) -> Batch | Pictures:
        """From cropped and mirrored uint8 (n, h, w, c) of the source's pictures to the batch the network sees."""
        return self._arrange(*map(normalise, pictures))

    def _arrange(self, *pictures: torch.Tensor) -> Batch | Pictures:
        """The batch that the network sees, from the source's pictures in [-1, 1]."""
        if self.source.mask_centre:
            cut_hole_(pictures[0])
        kind = {1: Pictures, 2: Batch}[len(pictures)]
        return kind(*(reversed(pictures) if self.swap else pictures))


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 (n, h, w, c) -> float32 (n, c, h, w) in channels_last memory: x / 127.5 - 1, without a copy to reorder.

    Multiplied, not divided: PyTorch divides by a number in two ways on CPU and GPU, which differ in the last bit.
    """
    return pixels.to(torch.float32).mul_(1 / 127.5).sub_(1.0).permute(0, 3, 1, 2)


class Draws(NamedTuple):
    """The address of a resident batch."""

    where: torch.Tensor  # int32 (n, 4): item, top, left, mirrored; in main memory, pinned for a GPU


class ResidentFeed(SourceFeed):
    """The whole set decoded once, as uint8 on the device; a batch is a gather (`ops.crop_flip`).

    Holds `resident_bytes(source)` of device memory. On a GPU `get` enqueues one small copy and one kernel and does not
    wait. Raises UserError for the first picture that cannot be decoded. beside: a resident feed of the same source,
    whose memory this one reads.
    """

    kind = "resident"

    def __init__(
        self,
        source: Source,
        stream: Stream,
        device: torch.device | str,
        swap: bool = False,
        *,
        beside: ResidentFeed | None = None,
    ) -> None:
        super().__init__(source, stream, device, swap)
        if beside is None:
            self._pixels = tuple(pixels.to(self.device) for pixels in _decode_all(source))  # (items, load, load, c)
        else:
            self._pixels = beside._pixels

    def get(self, images_seen: int) -> Batch | Pictures:
        return self.batch(self.address(images_seen))

    def address(self, images_seen: int) -> Draws:
        draw = self.stream.draw(images_seen)
        where = np.stack([draw.items, draw.top, draw.left, draw.flip], axis=1).astype(np.int32)
        return Draws(_pinned(where, self.device))  # (n, 4)

    def batch(self, address: Draws) -> Batch | Pictures:
        where = address.where.to(self.device, non_blocking=True)
        return self._arrange(*crop_flip(self._pixels, (where,) * len(self._pixels), self.stream.crop_size))

    def describe_how(self) -> str:
        mib = sum(pixels.numel() for pixels in self._pixels) / 2**20
        return f"resident feed{self.chosen_because}: decoded once, {mib:.0f} MiB on {self.device.type}"

    def close(self) -> None:
        self._pixels = tuple(torch.empty(0) for _ in self._pixels)


class PillowFeed(SourceFeed):
    """Threads decode the next batches of the stream while the network works on this one.

    threads: at least 2, by default one per core, at most 8. Pillow and NumPy release the interpreter while they
    work, so threads of one process keep up with worker processes. An address out of sequence is answered too; it only
    loses what was prepared. A process forked from this one starts its own threads.
    """

    kind = "pillow"

    def __init__(
        self, source: Source, stream: Stream, device: torch.device | str, swap: bool = False, *, threads: int = 0
    ) -> None:
        super().__init__(source, stream, device, swap)
        self.threads = max(2, threads or min(8, cores()))
        self._ahead = max(2, -(-2 * self.threads // stream.batch))  # batches: every thread has its next picture
        self._step = stream.batch * stream.world  # images seen from one batch of this process to its next
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="pygan-pillow")
        self._prepared: dict[int, list[Future]] = {}

    def get(self, images_seen: int) -> Batch | Pictures:
        if self._closed:
            raise ValueError("this feed is closed: open another")
        if self._process != os.getpid():
            self._start()
        if images_seen not in self._prepared:
            self._forget()
            self._prepare(images_seen)
        coming = self._prepared.pop(images_seen)
        for k in range(1, self._ahead + 1):
            self._prepare(images_seen + k * self._step)
        sides = [np.stack(side) for side in zip(*(sample.result() for sample in coming), strict=True)]
        return self._finish(*(_pinned(side, self.device).to(self.device, non_blocking=True) for side in sides))

    def _prepare(self, images_seen: int) -> None:
        if images_seen not in self._prepared:
            samples = zip(*draw_lists(self.stream.draw(images_seen)), strict=True)
            self._prepared[images_seen] = [self._pool.submit(self._sample, *sample) for sample in samples]

    def _sample(self, item: int, top: int, left: int, flip: bool) -> tuple[np.ndarray, ...]:
        crop = self.stream.crop_size
        sides = (side[top : top + crop, left : left + crop] for side in self.source.pictures(item))
        return tuple(side[:, ::-1] if flip else side for side in sides)

    def _forget(self) -> None:
        for samples in self._prepared.values():
            for sample in samples:
                sample.cancel()
        self._prepared.clear()

    def describe_how(self) -> str:
        return f"pillow feed{self.chosen_because}: {self.threads} threads decode {self._ahead} batches ahead"

    def close(self) -> None:
        self._closed = True
        if self._process == os.getpid():
            self._forget()
            self._pool.shutdown(wait=True, cancel_futures=True)


class Address(tuple):
    """The address of a batch of a `SetFeed`: tensors, made and taken apart like a named tuple's."""

    def __new__(cls, *tensors: torch.Tensor) -> Address:
        return super().__new__(cls, tensors)


class SetFeed(Feed):
    """Feeds side by side, and what is known about their pictures: `make(*pictures, *columns)` is a batch.

    parts: feeds on one device, each in an order of its own; columns: functions of the images seen that return an array
    for a batch, float32 (n, ...), which travels with the address; make: the type of the batch. An epoch is as long as
    the longest part's.
    """

    def __init__(
        self,
        parts: Sequence[SourceFeed],
        columns: Sequence[Callable[[int], np.ndarray]],
        make: Callable[..., Any],
        facts: Facts,
    ) -> None:
        self.parts, self.columns, self.make, self.facts = tuple(parts), tuple(columns), make, facts
        self.sources = tuple(dict.fromkeys(part.source for part in self.parts))
        self.device, self.batch_size = parts[0].device, parts[0].batch_size
        self.n_items = max(part.n_items for part in self.parts)

    def get(self, images_seen: int) -> Any:
        return self.batch(self.address(images_seen))

    def address(self, images_seen: int) -> Address:
        parts = [part.address(images_seen) for part in self.parts]
        self._kinds = [(type(part), len(part)) for part in parts]
        columns = (_pinned(column(images_seen), self.device) for column in self.columns)
        return Address(*(tensor for part in parts for tensor in part), *columns)

    def batch(self, address: Address) -> Any:
        pictures, first = [], 0
        for part, (kind, length) in zip(self.parts, self._kinds, strict=True):
            pictures += part.batch(kind(*address[first : first + length]))
            first += length
        return self.make(*pictures, *(column.to(self.device, non_blocking=True) for column in address[first:]))

    def describe(self) -> str:
        sources = "; ".join(source.describe() for source in self.sources)
        return f"{sources}; {'; '.join(dict.fromkeys(part.describe_how() for part in self.parts))}"

    def close(self) -> None:
        for part in self.parts:
            part.close()


def _pinned(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """The array as a tensor in main memory, from where a GPU can fetch it without waiting."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    return tensor.pin_memory() if device.type == "cuda" else tensor


def draw_lists(draw: Draw) -> tuple[list[int], list[int], list[int], list[bool]]:
    """The draw as Python numbers: (items, top, left, flip)."""
    return draw.items.tolist(), draw.top.tolist(), draw.left.tolist(), draw.flip.tolist()


def resident_bytes(source: Source) -> int:
    """Device memory that a `ResidentFeed` of this source takes."""
    return len(source) * source.load_size**2 * sum(source.channels)


def memory_budget(device: torch.device | str) -> int:
    """Bytes that a resident set may take: a quarter of what is free on the GPU, or of this machine's memory."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return _free_memory() // 4


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # not Linux: all there is, of which the caller takes a part
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _decode_all(source: Source) -> list[torch.Tensor]:
    """All pictures, by their place in an item: uint8 (items, load, load, channels), in main memory."""
    size = source.load_size
    try:
        pixels = [torch.empty((len(source), size, size, c), dtype=torch.uint8) for c in source.channels]
    except (MemoryError, RuntimeError) as error:  # what PyTorch raises depends on its allocator
        needed = resident_bytes(source) / 2**30
        raise UserError(f"no memory for the decoded set ({needed:.1f} GiB): use --feed pillow") from error
    views = [part.numpy() for part in pixels]

    def fill(i: int) -> None:
        for view, picture in zip(views, source.pictures(i), strict=True):
            view[i] = picture

    started = last = time.monotonic()
    pool = ThreadPoolExecutor(max(2, min(16, cores())), thread_name_prefix="pygan-resident")
    try:
        for done, _ in enumerate(pool.map(fill, range(len(source))), start=1):
            if time.monotonic() - last > _SAY_EVERY_S:
                last = time.monotonic()
                left = (last - started) / done * (len(source) - done)
                say(f"preparing pictures: {done} of {len(source)}, {left:.0f} s left")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return pixels

"""One picture's way through a server: decoded, lined up for the device, made, encoded; all of it off the event loop."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from pygan import pixels
from pygan.errors import UserError, say
from pygan.pixels import Picture
from pygan.serve import intake, models
from pygan.serve.answers import MEDIA_TYPES, Refused
from pygan.serve.batcher import Batcher, Closed, Full
from pygan.serve.limits import Settings
from pygan.serve.metrics import Metrics

T = TypeVar("T")
_IN_HOUSE = 8  # largest pictures, of which all that are in the house have the pixels, and largest bodies and answers


@dataclass(frozen=True)
class Asked:
    """What a request wants of its pictures."""

    model: models.Model
    options: Mapping[str, str]
    seed: int
    kind: str  # of file: a key of answers.MEDIA_TYPES


class House:
    """What all requests share: the device's queue, the threads that decode, the memory for bodies, the counters."""

    def __init__(self, held: Mapping[str, models.Model], settings: Settings) -> None:
        self.models, self.settings, self.metrics = held, settings, Metrics()
        self.batcher = Batcher(
            models.worker(held),
            most=settings.batch,
            wait_s=settings.wait_s,
            room=max(settings.queue, 1),
            done=lambda lane, n, seconds: self.metrics.batch(str(lane), n, seconds),
        )
        self.pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="pygan-pictures")
        self.bodies = intake.Bodies(_IN_HOUSE * settings.most_bytes)
        self.unsent: Callable[[], int] = lambda: 0  # bytes of answers that are not taken yet; whoever sends them knows
        self._pixels = 0
        self.metrics.gauge("pygan_queue_depth", "Pictures that wait for the device", lambda: self.batcher.waiting)
        self.metrics.gauge(
            "pygan_in_house", "Pictures decoded, waiting, running or encoded", lambda: self.batcher.taken
        )
        self.metrics.gauge("pygan_pixels_in_house", "Pixels of these, padded", lambda: self._pixels)

    def close(self) -> None:
        """Finish what is lined up, then let the threads go."""
        self.batcher.close(self.settings.drain_s)
        self.pool.shutdown(wait=False, cancel_futures=True)

    async def parts(self, content_type: str, body: bytearray, most: int) -> list[intake.Part]:
        """The files of a form, `most` at most. Errors: Refused."""
        return await self._threaded(lambda: intake.pictures(content_type, bytes(body), most))

    async def translated(self, asked: Asked, part: intake.Part) -> bytes:
        """The file that a file becomes. Errors: Refused."""
        with self._admit(asked.model.name, 1) as ticket:
            return await self._one(ticket, asked, part)

    async def all_translated(self, asked: Asked, parts: Sequence[intake.Part]) -> list[dict[str, Any]]:
        """What becomes of each file, in order: {"name", "image" (base64), "media_type"}, or {"name", "error"}."""
        with self._admit(asked.model.name, len(parts)) as ticket:
            results = await asyncio.gather(*(self._named(ticket, asked, part, last=False) for part in parts))
            return [
                one or await self._named(ticket, asked, part, last=True)
                for one, part in zip(results, parts, strict=True)
            ]

    async def generated(self, asked: Asked, n: int, sentence: str | None) -> list[bytes]:
        """n files from noise. Errors: Refused."""
        model = asked.model
        with self._admit(model.name, n) as ticket:
            job = await self._threaded(model.noise, n, asked.seed, sentence)
            images = await self._made(ticket, job, job, most=1)

            def encode(image: Tensor) -> bytes:
                return pixels.encode(models.picture_of(image, model.card.shows), asked.kind)

            return list(await asyncio.gather(*(self._threaded(encode, image) for image in images)))

    async def timed(self, work: Awaitable[T], receive: Callable[[], Awaitable[Any]]) -> T:
        """`work`, given up when the client leaves or the time is over. Errors: Refused 504, intake.Left."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({task, gone}, timeout=self.settings.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if gone.done():
                raise intake.Left
            raise Refused(504, f"it took longer than {self.settings.timeout_s:g} s; try again later", "timeout")
        finally:
            for one in (task, gone):
                one.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    def room(self) -> None:
        """Refuse at the head of a request, before its body is read, what would be refused after. Errors: Refused."""
        self._as_refused(self.batcher.check)
        if self.unsent() > _IN_HOUSE * self.settings.most_bytes:
            raise Refused(429, "the server holds as many answers as it may; try again", "memory", retry_s=1)

    def _admit(self, lane: str, n: int):
        return self._as_refused(lambda: self.batcher.admit(lane, n))

    def _as_refused(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except Full as full:
            raise Refused(429, "the queue is full; try again", "full", retry_s=full.retry_s) from None
        except Closed:
            raise Refused(503, "the server is shutting down", "draining", close=True) from None

    async def _named(self, ticket: Any, asked: Asked, part: intake.Part, *, last: bool) -> dict[str, Any]:
        """What becomes of a file; {} where there is no memory for it beside the others, if this is not the last try."""
        name = part.name or ""
        try:
            data = await self._one(ticket, asked, part)
        except Refused as refused:
            if refused.status >= 500:
                raise
            if refused.status == 429 and not last:
                return {}
            return {"name": name, "error": str(refused)}
        return {"name": name, "image": base64.b64encode(data).decode(), "media_type": MEDIA_TYPES[asked.kind]}

    async def _one(self, ticket: Any, asked: Asked, part: intake.Part) -> bytes:
        model = asked.model
        picture = await self._threaded(self._read, asked, part)
        height, width = model.padded_size(*picture.size)
        with self._held(height * width):
            part.data = bytearray()  # it is not asked for again
            self.metrics.pixels.labels(model.name).inc(math.prod(picture.size))
            A, job = await self._threaded(model.prepared, picture, asked.options, asked.seed, "the picture")
            most = model.most(height, width, self.settings.most_pixels)
            image = await self._made(ticket, job.group, job.A, most=most)
            return await self._threaded(lambda: pixels.encode(model.result(image, A, picture), asked.kind))

    def _read(self, asked: Asked, part: intake.Part) -> Picture:
        """Runs in a thread. Errors: UserError."""
        most = self.settings.most_pixels
        picture = pixels.read(bytes(part.data), name="the picture", most_pixels=most)
        height, width = picture.size
        if height * width > most:
            raise UserError(f"the picture has {width}x{height} pixels; at most {most:,} are taken")
        down, right = asked.model.padded_size(height, width)
        small = max(asked.model.card.least, 2 * asked.model.card.multiple)
        if down * right > 2 * most and max(down, right) > small:  # a strip: padding makes a wall of it
            raise UserError(f"the picture of {width}x{height} pixels becomes {right}x{down} for the network: too many")
        return picture

    @contextlib.contextmanager
    def _held(self, n: int) -> Iterator[None]:
        """Pixels in memory. One picture may always be. Errors: Refused."""
        retry = self.batcher.retry_s()
        if self._pixels and self._pixels + n > _IN_HOUSE * self.settings.most_pixels:
            raise Refused(429, "the server holds as many pixels as it may; try again", "memory", retry_s=retry)
        self._pixels += n
        try:
            yield
        finally:
            self._pixels -= n

    async def _made(self, ticket: Any, group: Any, item: Any, *, most: int) -> Tensor:
        try:
            return await asyncio.wrap_future(ticket.submit(group, item, most=most))
        except Closed:
            raise Refused(503, "the server is shutting down", "draining", close=True) from None
        except UserError as error:
            raise Refused(422, intake.reason(error), "input") from error
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            say(f"the device failed on a picture ({type(error).__name__}: {intake.reason(error)}); serving goes on")
            raise Refused(500, "the network failed on this picture", "device") from error

    async def _threaded(self, act: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self.pool, act, *args)
        except UserError as error:
            raise Refused(422, intake.reason(error), "input") from error
        except MemoryError as error:
            raise Refused(422, "the picture needs more memory than there is", "memory") from error


async def _gone(receive: Callable[[], Awaitable[Any]]) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass

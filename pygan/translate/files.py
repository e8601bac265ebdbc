"""Files to files: decoded ahead of the network and encoded behind it by threads, in an order that no timing changes."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pygan.data.feeds import cores
from pygan.errors import UserError, say
from pygan.pixels import Picture
from pygan.rundir import write_atomic
from pygan.translate import one
from pygan.translate.jobs import Job, jobs, real, safe, shown
from pygan.translate.jpegs import READERS
from pygan.translate.progress import Bar
from pygan.translate.work import Work

_MOST_WAITING = 1 << 28  # bytes of pictures that wait before the network, and behind it
_OF_THE_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)


def through(work: Work, run: Path, inputs: Sequence[str], output: Path, *, overwrite: bool) -> int:
    """Translate pictures into the folder `output`. Returns the exit code; see `pygan.translate.translate`."""
    asked = jobs(inputs, output, work.kinds, one.piped(work) if "-" in inputs else None)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write into {shown(output)} ({error.strerror}); choose another -o") from error
    with Bar(len(asked), plain=work.tile is not None) as bar:  # a picture in tiles has a bar of its own
        try:
            _all(work, asked, output, bar, overwrite=overwrite)
        except KeyboardInterrupt:
            say(
                f"interrupted; {bar.done} of {len(asked)} pictures were translated and are whole in {shown(output)}: "
                "the same command goes on with the rest"
            )
            return 130
        except UserError as error:
            raise UserError(f"{error}; {bar.done} results so far are kept") from error
    if bar.kept:
        say(f"{bar.kept} results were already in {shown(output)} and were left alone (--overwrite replaces them)")
    bad = f"; {bar.bad} could not be read or written" if bar.bad else ""
    bar.say(
        f"translated {bar.done} pictures into {shown(output)} ({bar.rate}), by {shown(run)} at "
        f"{work.card.images_seen:,} images{bad}"
    )
    return 2 if bar.bad else 0


def _all(work: Work, asked: Sequence[Job], output: Path, bar: Bar, *, overwrite: bool) -> None:
    sources = frozenset(real(job.source) for job in asked if isinstance(job.source, Path))
    write = functools.partial(_write, work, output, sources, overwrite)
    # Threads that wait for a GPU cost nothing, and fill its batches.
    with (
        _pool("read", min(8, cores()) if work.jpegs is None else READERS) as readers,
        _pool("write", min(8, cores())) as writers,
    ):
        written: deque[tuple[Future, int]] = deque()  # and bytes that each holds
        try:
            for batch in _batches(_read(work, asked, readers, bar, overwrite=overwrite), work.batch):
                made = work.results([picture for _, picture in batch], [job.name for job, _ in batch])
                for (job, picture), result in zip(batch, made, strict=True):
                    if isinstance(result, UserError):
                        _bad(bar, result)
                    else:
                        size = picture.pixels.nbytes + result.pixels.nbytes
                        written.append((writers.submit(write, job, picture, result), size))
                while written and (written[0][0].done() or _too_many(work, [size for _, size in written])):
                    _count(bar, written.popleft()[0])
                bar.show()
        finally:
            while written:  # what the network made is brought to its end, also after an interruption
                _count(bar, written.popleft()[0])


def _too_many(work: Work, sizes: Sequence[int]) -> bool:
    """Whether results wait for longer than an interruption, or for more memory, should."""
    return len(sizes) > 2 * work.batch + 16 or sum(sizes) > _MOST_WAITING


@contextlib.contextmanager
def _pool(what: str, threads: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that are left at once when something goes wrong: what they have not begun is dropped."""
    pool = ThreadPoolExecutor(max(1, threads), thread_name_prefix=f"pygan-{what}")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(
    work: Work, asked: Sequence[Job], readers: ThreadPoolExecutor, bar: Bar, *, overwrite: bool
) -> Iterator[tuple[Job, Picture]]:
    """Pictures in the order of `asked`, decoded ahead; those that are there already or cannot be used are counted."""
    ahead: deque[tuple[Job, Future]] = deque()
    rest = iter(asked)
    most = max(16 if work.jpegs is None else 2 * READERS, 2 * work.batch)
    while True:
        while len(ahead) < most and _waiting(ahead) < _MOST_WAITING:
            job = next(rest, None)
            if job is None:
                break
            if not overwrite and any(os.path.lexists(file) for file in job.files(work.kinds)):
                bar.kept += 1
                continue
            ahead.append((job, readers.submit(work.read, job.source, job.name)))
        if not ahead:
            return
        job, future = ahead.popleft()
        try:
            picture = future.result()
        except UserError as error:
            _bad(bar, error)
            continue
        yield job, picture


def _waiting(ahead: Sequence[tuple[Job, Future]]) -> int:
    """Bytes of the pictures that are decoded and wait."""
    done = (future for _, future in ahead if future.done() and future.exception() is None)
    return sum(future.result().pixels.nbytes for future in done)


def _batches(read: Iterator[tuple[Job, Picture]], most: int) -> Iterator[list[tuple[Job, Picture]]]:
    """Pictures of one size together, as they come; one of another size does not break a batch up.

    At most four batches wait for more of their size; the oldest goes then. Only the pictures decide, never the time.
    """
    waiting: dict[tuple[int, int], list[tuple[Job, Picture]]] = {}
    for job, picture in read:
        batch = waiting.setdefault(picture.size, [])
        batch.append((job, picture))
        full = len(batch) == most or sum(p.pixels.nbytes for _, p in batch) > _MOST_WAITING
        if full:
            yield waiting.pop(picture.size)
        elif len(waiting) > 4 or sum(p.pixels.nbytes for b in waiting.values() for _, p in b) > _MOST_WAITING:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def _write(
    work: Work, output: Path, sources: frozenset[str], overwrite: bool, job: Job, given: Picture, made: Picture
) -> UserError | bool:
    """Encode and write one result. Returns whether it is there now; False: another was and is left alone.

    A `UserError` where it alone could not be. sources: files that are read, real paths.
    Errors: UserError where nothing can be written.
    """
    try:
        kind = work.kind(given, job.native)
        data = work.encode(made, kind)
    except UserError as error:
        return UserError(f"cannot use {job.name}: {error}")
    except MemoryError:
        return UserError(f"cannot use {job.name}: there is not enough memory to write its result")
    file = job.file(kind)
    try:
        if not safe(file, output):
            return UserError(f"cannot write {shown(file)}: a link in {shown(output)} leads out of it")
        if os.path.lexists(file):  # of a kind that only the picture could tell, or else it was left out before
            if real(file) in sources:
                return UserError(f"{shown(file)} is one of the inputs and would be replaced; choose another -o")
            if not overwrite:
                return False
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, data)
    except OSError as error:
        line = f"cannot write {shown(file)} ({error.strerror})"
        if error.errno in _OF_THE_NAME:
            return UserError(line)
        raise UserError(line) from error
    return True


def _count(bar: Bar, written: Future) -> None:
    there = written.result()
    if isinstance(there, UserError):
        _bad(bar, there)
    elif there:
        bar.done += 1
    else:
        bar.kept += 1


def _bad(bar: Bar, error: UserError) -> None:
    say(str(error))
    bar.bad += 1

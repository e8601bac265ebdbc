"""JPEG files decoded on a GPU by NVIDIA DALI, many threads' pictures together; imported only where it is used."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch

from pygan.data.dali import INSTALL
from pygan.errors import say_once
from pygan.pixels import DecodesJpeg

READERS = 32
"""Threads that may wait for one batch of pictures."""


@contextlib.contextmanager
def on(device: torch.device) -> Iterator[DecodesJpeg | None]:
    """A decoder for `pixels.read` on a GPU, until the end of `with`; None on a CPU, or where DALI is missing."""
    if device.type != "cuda":
        yield None
        return
    try:
        decoder = Jpegs(torch.cuda.current_device() if device.index is None else device.index)
    except ImportError as error:
        say_once(
            f"JPEG files are decoded on the CPU, since NVIDIA DALI does not load ({_first_line(error)}): {INSTALL}"
        )
        yield None
        return
    try:
        yield decoder
    finally:
        decoder.close()


class Jpegs:
    """A function from the bytes of a JPEG to its pixels, uint8 (h, w, 3); None for one that DALI does not decode.

    May be called from many threads, which wait: whatever came while a batch was being decoded is the next batch. A
    picture does not depend on its batch. Up to 3 levels of 255 from libjpeg (mean 0.004) on a GPU, none on a CPU.
    DALI's pipeline does not survive an error, so after one the pictures of the batch are left to Pillow, which tells
    the bad one from the others, and another pipeline is built. Where none can be built, which is said, all are left.

    gpu: its number; None: on the CPU. Errors: ImportError where DALI is missing.
    """

    def __init__(self, gpu: int | None) -> None:
        import nvidia.dali
        import nvidia.dali.fn

        self._dali, self._gpu = nvidia.dali, gpu
        self._asked: queue.Queue[tuple[bytes, Future] | None] = queue.Queue()
        self._pipeline: Any = None
        self._closed = self._useless = False
        self._lock = threading.Lock()  # between asking and closing: nobody waits for an answer that never comes
        self._thread = threading.Thread(target=self._work, name="pygan-dali", daemon=True)
        self._thread.start()

    def __call__(self, data: bytes) -> np.ndarray | None:
        answer: Future = Future()
        with self._lock:
            if self._closed or self._useless:
                return None
            self._asked.put((data, answer))
        return answer.result()

    def close(self) -> None:
        """End its thread and give its memory back: an open pipeline at the interpreter's end would abort."""
        with self._lock:
            self._closed = True
            self._asked.put(None)
        self._thread.join()

    def _work(self) -> None:
        over = False
        while not over:
            batch = [self._asked.get()]
            while len(batch) < READERS and not self._asked.empty():  # no other thread takes from it
                batch.append(self._asked.get())
            over = batch[-1] is None  # behind which nothing comes
            asked = [item for item in batch if item is not None]
            for (_, answer), pixels in zip(asked, self._decoded([data for data, _ in asked]), strict=True):
                answer.set_result(pixels)
        self._pipeline = None

    def _decoded(self, files: list[bytes]) -> list[np.ndarray | None]:
        if not files or self._useless:
            return [None] * len(files)
        try:
            self._pipeline = self._pipeline or self._built()
        except Exception as error:  # no driver, no memory; callers wait, so nothing may end this thread
            self._useless = True
            say_once(f"JPEG files are decoded on the CPU, since NVIDIA DALI does not start ({_first_line(error)})")
            return [None] * len(files)
        try:
            self._pipeline.feed_input("files", [np.frombuffer(file, np.uint8) for file in files])
            (made,) = self._pipeline.run()
            made = made.as_cpu()
            # Copied: the pipeline writes the next batch to the same memory.
            return [np.array(made.at(k)) for k in range(len(files))]
        except Exception:  # a bad file, or too little memory for all of them
            self._pipeline = None
            say_once("JPEG files that come with one that NVIDIA DALI cannot decode are decoded on the CPU (slower)")
            return [None] * len(files)

    def _built(self) -> Any:
        """Files -> RGB; the orientation is left as it is."""
        dali, on_gpu = self._dali, self._gpu is not None
        pipeline = dali.Pipeline(
            batch_size=READERS, num_threads=4, device_id=self._gpu if on_gpu else None, prefetch_queue_depth=1
        )
        with pipeline:
            files = dali.fn.external_source(name="files", dtype=dali.types.UINT8, ndim=1)
            pipeline.set_outputs(
                dali.fn.decoders.image(
                    files,
                    device="mixed" if on_gpu else "cpu",
                    output_type=dali.types.RGB,
                    jpeg_fancy_upsampling=True,  # libjpeg's chroma: without it up to 90 levels off on 4:2:0
                    adjust_orientation=False,
                    affine=False,  # or several processes would tie their threads to the same cores
                )
            )
        pipeline.build()
        return pipeline


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

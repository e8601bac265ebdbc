"""The feed for large sets on a GPU: NVIDIA DALI reads, decodes, resizes and crops what a `Stream` tells it to.

DALI has no say in what comes next. It is told the files, the crop and the flip of every sample, so it holds no
shuffled reader, no random state and nothing that a checkpoint would have to save. DALI is imported when the first
feed is made, never with pygan.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import weakref
from collections import deque
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image

from pygan.data.feeds import Batch, Pictures, SourceFeed, cores
from pygan.data.images import open_upright
from pygan.data.sources import Source
from pygan.data.stream import Stream
from pygan.errors import UserError, say_once

INSTALL = "pip install nvidia-dali-cuda130"

# What DALI 2.4 decodes to the very pixels that `images.load` gives: Pillow format -> Pillow modes.
# Compared file by file and left out: 16-bit and float grey (another scale), palette, bilevel, CMYK and Lab TIFF.
# An alpha channel must be opaque (else the mode ends in " transparent"): DALI drops it, `images.load` applies it.
_SAME_AS_PILLOW = {
    "BMP": {"1", "L", "P", "RGB"},
    "JPEG": {"L", "RGB", "CMYK"},
    "JPEG2000": {"RGB"},
    "MPO": {"RGB"},
    "PNG": {"1", "L", "LA", "P", "RGB", "RGBA"},
    "PPM": {"L", "RGB"},
    "TIFF": {"L", "RGB", "RGBA"},
    "WEBP": {"RGB"},
}
_DECODED_ON_GPU = {"JPEG", "MPO", "JPEG2000"}
_FILTERS = {"bicubic": "INTERP_CUBIC", "bilinear": "INTERP_LINEAR", "nearest": "INTERP_NN"}

_open_feeds: weakref.WeakSet[DaliFeed] = weakref.WeakSet()


class DaliFeed(SourceFeed):
    """Batches of a `Source` whose files DALI reads by itself, prepared ahead of need by DALI's threads.

    Same samples, crops and flips as every other feed. Same pixels up to decoder and resampling, in levels of 0..255:
    - decoding on the CPU: none for 8-bit files (JPEG of any chroma subsampling, PNG, BMP, PPM, TIFF, WebP), 1 for
      16-bit colour; on the GPU up to 3 for JPEG (mean 0.004);
    - "bicubic" and "bilinear": mean below 0.02 (0.1 shrunk to a fifth), up to 4 in photographs, up to 30 in single
      pixels of hard edges. Mean 0.25 where Pillow resizes columns before rows, as Pillow 13 does for some pictures
      that are not square;
    - "nearest": the other neighbour in the few rows and columns whose centre falls on the border of two pixels;
    - pictures of load_size already are not resized and so differ by their decoding alone.

    Batches at consecutive addresses are prepared `ahead` steps early. Any other address is right too; it drops what
    was prepared. One thread at a time may call `get`.

    source: has `paths(i)`. stream: says which items, crops and flips. device: "cpu" decodes on the CPU, "cuda"
    decodes JPEG on the GPU (nvJPEG) and other formats on the CPU. swap: source.B is the network's input.
    threads: of DALI, 0 = this process's share of the cores, at most 8. ahead: batches prepared before being asked for.

    Raises UserError where DALI is missing or the source cannot be fed (see `why_not`).
    """

    kind = "dali"

    def __init__(
        self,
        source: Source,
        stream: Stream,
        device: torch.device | str,
        swap: bool = False,
        *,
        threads: int = 0,
        ahead: int = 3,
    ) -> None:
        super().__init__(source, stream, torch.device(device), swap)
        if reason := why_not(source):
            raise UserError(reason)
        if ahead < 1:
            raise ValueError(f"ahead must be at least 1, got {ahead}")
        if self.device.type not in ("cpu", "cuda"):
            raise UserError(f"--feed dali needs device cpu or cuda, got {self.device}: use --feed pillow")
        self._threads = threads or max(1, min(8, cores() // stream.world))
        self._ahead = ahead
        self._orders = _Orders(source, stream)
        self._in_use: deque[tuple[list[Any], torch.cuda.Event]] = deque()
        self._pipeline: Any = None
        if self.device.type == "cuda":
            self._warn_of_cpu_decoding()
        self._pipeline = self._build()
        _open_feeds.add(self)

    def get(self, images_seen: int) -> Batch | Pictures:
        """The batch of this process when all processes together have seen `images_seen` images. Any order.

        Raises UserError where DALI cannot read a file; the feed is closed then.
        """
        if self._pipeline is None:
            raise ValueError("this feed is closed: open another")
        under_way = self._orders.under_way
        if not under_way or under_way[0] != images_seen:
            while under_way:  # prepared for other addresses
                self._collect()
            self._orders.next_address = images_seen
        self._fill()
        outputs = self._collect()
        self._fill()  # DALI's threads work on while the caller computes
        # uint8 (n, crop, crop, c), not copied
        batch = self._finish(*(torch.from_dlpack(output.as_tensor()) for output in outputs))
        if self.device.type == "cuda":
            self._keep_until_read(outputs)
        return batch

    def describe_how(self) -> str:
        """One line for the user: how pictures are decoded."""
        where = f"JPEG on {self.device}" if self.device.type == "cuda" else "on the CPU"
        return f"dali feed: {self._threads} threads decode {self._ahead} batches ahead {where}"

    def close(self) -> None:
        """Stop DALI's threads and give its memory back; may be called twice."""
        _open_feeds.discard(self)
        while self._in_use:
            self._in_use.popleft()[1].synchronize()
        self._pipeline = None  # nothing else refers to it: its threads end here

    def _build(self) -> Any:
        """The DALI graph: files -> RGB -> (halves) -> load size -> crop -> flip, uint8 (crop, crop, 3) each."""
        dali = _import_dali()
        fn = dali.fn
        on_gpu = self.device.type == "cuda"
        n_files = len(self.source.paths(0))
        pipeline = dali.Pipeline(
            batch_size=self.stream.batch,
            num_threads=self._threads,
            device_id=_cuda_index(self.device) if on_gpu else None,
            prefetch_queue_depth=self._ahead,
        )
        with pipeline:
            *files, corner, mirror = fn.external_source(source=self._orders, num_outputs=n_files + 2, batch=True)
            pictures = [
                fn.decoders.image(
                    fn.io.file.read(name, dont_use_mmap=True),
                    device="mixed" if on_gpu else "cpu",
                    output_type=dali.types.RGB,
                    jpeg_fancy_upsampling=True,  # libjpeg's chroma: without it up to 90 levels off on 4:2:0
                    affine=False,  # several processes would tie their threads to the same cores
                )
                for name in files
            ]
            if n_files < len(
                self.source.channels
            ):  # cut before resizing: a resized region would bleed the other half in at the seam
                pictures = [fn.slice(pictures[0], rel_start=[start], rel_shape=[0.5], axes=[1]) for start in (0.0, 0.5)]
            outputs = []
            for picture, name in zip(pictures, self.source.filters, strict=True):
                # Rows, then columns, with uint8 between, as Pillow does; one call for both would clip overshoot once
                # instead of twice, which hard edges show (up to 30 levels).
                how = {"interp_type": getattr(dali.types, _FILTERS[name]), "antialias": True, "mode": "stretch"}
                picture = fn.resize(picture, resize_x=self.source.load_size, **how)
                picture = fn.resize(picture, resize_y=self.source.load_size, **how)
                picture = fn.slice(picture, start=corner, shape=[self.stream.crop_size] * 2, axes=[0, 1])
                outputs.append(fn.flip(picture, horizontal=mirror))
            pipeline.set_outputs(*outputs)
        pipeline.build()
        return pipeline

    def _fill(self) -> None:
        """Order batches until `ahead` of them are under way; does not wait for them."""
        while len(self._orders.under_way) < self._ahead:
            self._pipeline.schedule_run()

    def _collect(self) -> list[Any]:
        """The oldest batch under way: DALI's tensor lists of its pictures, on torch's current stream where on a GPU."""
        address = self._orders.under_way.popleft()
        try:
            if self.device.type == "cpu":
                return list(self._pipeline.outputs())
            return list(self._pipeline.outputs(cuda_stream=torch.cuda.current_stream(self.device)))
        except RuntimeError as error:
            self.close()  # DALI's pipeline does not survive an error
            files = [path for item in self.stream.draw(address).items for path in self.source.paths(int(item))]
            raise UserError(_why_unreadable(files, error)) from error

    def _keep_until_read(self, outputs: list[Any]) -> None:
        """Hold DALI's GPU memory until the kernels just queued have read it, without waiting for them."""
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self.device))
        self._in_use.append((outputs, event))
        while len(self._in_use) > 1 and self._in_use[0][1].query():
            self._in_use.popleft()

    def _warn_of_cpu_decoding(self) -> None:
        slow = sorted({kind for kind, _ in self.source.file_modes()} - _DECODED_ON_GPU)
        if slow:
            say_once(
                f"DALI decodes {' and '.join(slow)} files on the CPU, only JPEG on the GPU: "
                "--feed resident is faster where the set fits in memory"
            )
        if not _load_nvjpeg():
            say_once(f"libnvjpeg was not found, so DALI decodes JPEG on the CPU: reinstall with {INSTALL}")


class _Orders:
    """What DALI asks for its next batch: files, crops and flips of the next address of the stream.

    Apart from the feed because the pipeline refers to it: so a feed that is dropped without `close` ends at once.
    """

    def __init__(self, source: Source, stream: Stream) -> None:
        self._source = source
        self._stream = stream
        self.next_address = 0  # images seen by all processes together
        self.under_way: deque[int] = deque()  # addresses ordered and not yet collected, oldest first

    def __call__(self) -> list[list[np.ndarray]]:
        """Per file of an item a list of file names (uint8, in bytes), then (top, left) int32 (2,), then flip int32."""
        draw = self._stream.draw(self.next_address)
        names = zip(*(self._source.paths(int(item)) for item in draw.items), strict=True)
        self.under_way.append(self.next_address)
        self.next_address += self._stream.batch * self._stream.world
        return [
            *([np.frombuffer(os.fsencode(path), dtype=np.uint8) for path in paths] for paths in names),
            list(np.stack([draw.top, draw.left], axis=1).astype(np.int32)),
            list(draw.flip.astype(np.int32)),
        ]


def why_not(source: Source) -> str:
    """Why `--feed dali` cannot feed this set: one line that says what to do instead. "" where it can."""
    if reason := _why_missing():
        return reason
    if source.paths(0) is None or set(source.channels) != {3}:
        return (
            f"--feed dali reads RGB picture files as they are, and this set is made in memory or transformed "
            f"({source.describe()}): use --feed resident or --feed pillow"
        )
    for name in source.filters:
        if name not in _FILTERS:
            return f"--feed dali cannot resize by {name!r} ({', '.join(_FILTERS)}): use --feed pillow"
    strange = {(kind, mode) for kind, mode in source.file_modes() if mode not in _SAME_AS_PILLOW.get(kind, ())}
    if strange or any(kind == "WEBP" for kind, _ in source.file_modes()):
        for path in (path for i in range(len(source)) for path in source.paths(i)):
            if odd := _oddity(path, strange):
                return f"DALI does not decode {path} ({odd}) as Pillow does: use --feed pillow"
    return ""


def _oddity(path: Path, strange: set[tuple[str, str]]) -> str:
    """What makes DALI give other pixels of a file than `images.load`; "" for most. strange: kinds not in the table."""
    with Image.open(path) as picture:  # reads the header only
        kind, mode = str(picture.format), picture.mode
        see_through = (kind, f"{mode} transparent") in strange and picture.has_transparency_data
        if (kind, mode) in strange or (see_through and picture.convert("RGBA").getextrema()[3][0] < 255):
            return f"{kind} of mode {mode}{' with transparency' if see_through else ''}"
        if kind == "WEBP" and ("exif" in picture.info or getattr(picture, "is_animated", False)):
            return "WebP with EXIF or animation"  # nvImageCodec 0.9 cannot parse some of them
    return ""


def decoder_report() -> str:
    """For `pygan doctor`: the DALI version and where JPEG files are decoded, or what is missing and how to get it."""
    if reason := _why_missing():
        return reason
    version = f"DALI {_import_dali().__version__}"
    if not torch.cuda.is_available():
        nvjpeg = "libnvjpeg loads" if _load_nvjpeg() else f"libnvjpeg does not load, reinstall with {INSTALL}"
        return f"{version}, JPEG decoded on the CPU (no GPU in use by torch; {nvjpeg})"
    library = _load_nvjpeg()
    if library is None:
        return f"{version}, JPEG decoded on the CPU: libnvjpeg does not load, reinstall with {INSTALL}"
    handle = ctypes.c_void_p()
    status = library.nvjpegCreateSimple(ctypes.byref(handle))
    if status != 0:
        return f"{version}, JPEG decoded on the CPU: nvJPEG does not start (status {status}), check the GPU driver"
    library.nvjpegDestroy(handle)
    return f"{version}, JPEG decoded on the GPU (nvJPEG)"


def _why_missing() -> str:
    """Why DALI cannot be imported, in one line with the command that mends it; "" where it can."""
    try:
        _import_dali()
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name in ("nvidia", "nvidia.dali"):
            return f"--feed dali needs NVIDIA DALI, which is not installed: {INSTALL} (or use --feed pillow)"
        return f"NVIDIA DALI is installed but does not load ({_one_line(error)}): {INSTALL} (or use --feed pillow)"
    return ""


@functools.cache
def _import_dali() -> ModuleType:
    """The module nvidia.dali. From here on feeds are closed before DALI is: an open pipeline at exit would abort."""
    import nvidia.dali
    import nvidia.dali.fn

    atexit.register(_close_all)  # runs before what DALI registered for itself: last registered, first called
    return nvidia.dali


def _close_all() -> None:
    for feed in list(_open_feeds):
        feed.close()


def _cuda_index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def _why_unreadable(files: list[Path], error: RuntimeError) -> str:
    """One line that names the damaged file, or all files of the batch where Pillow reads every one of them."""
    for path in files:
        try:
            open_upright(path)
        except UserError as damage:
            return str(damage)
    said = _one_line(str(error).rpartition("encountered:")[2])
    return f"DALI cannot read one of {', '.join(map(str, files))} ({said}): use --feed pillow"


def _one_line(words: object) -> str:
    return " ".join(str(words).split())[:300]


@functools.cache
def _load_nvjpeg() -> Any:
    """The nvJPEG library that DALI's decoder would find, in the nvidia packages or on the system; None without one."""
    import nvidia

    beside = (Path(folder) / "cu13" / "lib" / "libnvjpeg.so.13" for folder in nvidia.__path__)
    for name in (*map(str, beside), "libnvjpeg.so.13", "/usr/local/cuda/lib64/libnvjpeg.so.13"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None

"""Every file of a set is opened and decoded once, and what was found is remembered until the file changes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import PIL
from PIL import Image

from pygan.data.images import DECODE_ERRORS, EXTENSIONS, check_size, no_range, why
from pygan.errors import UserError, say, say_once

_FORMAT = f"1, Pillow {PIL.__version__}"  # another decoder may judge a file differently
_ORIENTATION = 0x0112  # EXIF tag
_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange width and height
_SAY_EVERY_S = 5.0
_EXPECTED = {
    "JPEG": {".jpg", ".jpeg", ".jpe"}, "MPO": {".jpg", ".jpeg", ".jpe"}, "PNG": {".png"}, "BMP": {".bmp"},
    "TIFF": {".tif", ".tiff"}, "WEBP": {".webp"}, "PPM": {".ppm", ".pgm", ".pbm", ".pnm"}, "GIF": {".gif"},
    "TGA": {".tga"}, "JPEG2000": {".jp2"}, "AVIF": {".avif"},
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One file as it was when it was checked."""

    path: Path
    size: int = 0  # bytes
    mtime_ns: int = 0
    format: str = ""  # Pillow's name, from the content: a PNG named .jpg is a PNG
    mode: str = ""  # Pillow's mode as stored, e.g. RGB, L, P, RGBA, CMYK, I;16
    width: int = 0  # pixels, after EXIF orientation
    height: int = 0
    bits: int = 0  # per channel, as decoded
    orientation: int = 1  # EXIF, 1..8
    low: int = 0  # smallest and largest stored value of a picture of one channel
    high: int = 0
    transparent: bool = False  # some pixel is not opaque: laid on white when loaded
    why: str = ""  # what is wrong with it; "" for a good file

    @property
    def misnamed(self) -> bool:
        """The content is of another format than the ending says. Harmless: it is read by content."""
        return not self.why and self.path.suffix.lower() not in _EXPECTED.get(self.format, {self.path.suffix.lower()})


def list_images(
    folder: Path, endings: Container[str] = EXTENSIONS, *, unread: Callable[[OSError], None] | None = None
) -> list[Path]:
    """All files with a picture's ending below `folder`, sorted; hidden ones and links in circles left out.

    unread: told of every folder that cannot be looked into.
    """
    found, been = [], set()
    for base, folders, files in os.walk(folder, followlinks=True, onerror=unread):
        real = os.path.realpath(base)
        if real in been:
            folders.clear()
            continue
        been.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith((".", "__MACOSX")))
        found += [Path(base, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in endings]
    return sorted(found)


def examine(path: Path) -> Entry:
    """Open and decode one file. Never raises for a bad file: the reason is in the entry."""
    try:
        stat = path.stat()
    except OSError as error:
        return Entry(path, why=why(error))
    entry = Entry(path, stat.st_size, stat.st_mtime_ns)
    if stat.st_size == 0:
        return _bad(entry, "empty file (0 bytes)")
    try:
        with Image.open(path) as image:
            check_size(*image.size)
            image.load()
            orientation = image.getexif().get(_ORIENTATION, 1)
            orientation = orientation if orientation in range(1, 9) else 1
            width, height = image.size[::-1] if orientation in _SIDEWAYS else image.size
            low, high = image.getextrema() if len(image.getbands()) == 1 else (0, 0)
            transparent = image.has_transparency_data and image.convert("RGBA").getextrema()[3][0] < 255
            bits = {"1": 1, "F": 32, "I": 32}.get(image.mode, 16 if image.mode.startswith("I;16") else 8)
            entry = Entry(
                path, stat.st_size, stat.st_mtime_ns, image.format or "", image.mode, width, height, bits,
                orientation, int(low), int(high), transparent,
            )  # fmt: skip
    except UserError as error:
        return _bad(entry, str(error))
    except DECODE_ERRORS as error:
        return _bad(entry, why(error))
    problem = no_range(entry.mode, entry.low, entry.high)
    return _bad(entry, problem) if problem else entry


def _bad(entry: Entry, reason: str) -> Entry:
    return Entry(entry.path, entry.size, entry.mtime_ns, why=reason)


def index_files(root: Path, paths: Iterable[Path]) -> dict[Path, Entry]:
    """An entry for every path, decoding only files that are new or changed since the last time.

    root: the folder all paths lie in; the cache has one file per root, under $XDG_CACHE_HOME (or ~/.cache)/pygan,
    keyed by path, size and mtime. Bad files are looked at again every time. A cache that cannot be read or written
    costs one line and the time to check again.
    """
    paths = list(paths)
    cache = cache_file(root)
    known = _read(cache)
    entries: dict[Path, Entry] = {}
    fresh = []
    for path in paths:
        entry = known.get(os.path.relpath(path, root))
        if entry and _unchanged(path, entry):
            entries[path] = Entry(path, **entry)
        else:
            fresh.append(path)
    if fresh:
        entries.update(zip(fresh, _examine_all(fresh), strict=True))
        good = {os.path.relpath(p, root): _record(e) for p, e in entries.items() if not e.why}
        _write(cache, {**known, **good})
    return {path: entries[path] for path in paths}


def cache_file(root: Path) -> Path:
    """Where the index of the folder `root` is remembered."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "pygan" / f"index-{hashlib.blake2b(str(root.resolve()).encode(), digest_size=10).hexdigest()}.json"


def good_files(root: Path, entries: dict[Path, Entry], *, skip_bad: bool) -> set[Path]:
    """The paths of the good files. UserError naming the first bad ones unless skip_bad, which says how many go."""
    bad = [entry for entry in entries.values() if entry.why]
    if bad and not skip_bad:
        listed = some([f"{os.path.relpath(e.path, root)} ({e.why})" for e in bad])
        raise UserError(
            f"{len(bad)} of {len(entries)} pictures in {root} cannot be used: {listed}; "
            f"see them all with `pygan data check {root}`, or leave them out with --skip-bad"
        )
    if bad:
        say_once(f"{len(bad)} of {len(entries)} pictures in {root} are bad and left out (--skip-bad)")
    return {path for path, entry in entries.items() if not entry.why}


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first few names and how many more there are: for one line of an error."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def _examine_all(paths: list[Path]) -> list[Entry]:
    entries: list[Entry] = []
    last = time.monotonic()
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1)), thread_name_prefix="pygan-index") as pool:
        for entry in pool.map(examine, paths):
            entries.append(entry)
            if time.monotonic() - last > _SAY_EVERY_S:
                last = time.monotonic()
                say(f"checking pictures: {len(entries)} of {len(paths)}")
    return entries


def _unchanged(path: Path, entry: dict) -> bool:
    try:
        stat = path.stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (entry["size"], entry["mtime_ns"])


def _record(entry: Entry) -> dict:
    record = asdict(entry)
    del record["path"], record["why"]
    return record


def _read(cache: Path) -> dict[str, dict]:
    try:
        stored = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(stored, dict) or stored.get("format") != _FORMAT:
        return {}
    fields = set(_record(Entry(cache)))
    return {name: entry for name, entry in stored["files"].items() if set(entry) == fields}


def _write(cache: Path, files: dict[str, dict]) -> None:
    temporary = cache.with_suffix(f".{os.getpid()}.tmp")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"format": _FORMAT, "files": files}), encoding="utf-8")
        temporary.replace(cache)
    except OSError as error:
        say_once(f"cannot keep the picture index in {cache.parent} ({why(error)}): every run will check all files")

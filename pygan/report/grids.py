"""Sample grids of a run as small pictures, within a number of bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pygan.page.parts import webp, webp_uri
from pygan.progress import Counter

# From the best to the smallest: grids, pixels of the longer side, quality.
_LADDER = (
    (100, 2400, 82), (100, 1800, 75), (60, 1800, 75), (60, 1500, 70), (40, 1500, 65), (40, 1200, 60), (30, 1000, 50),
)  # fmt: skip


def frames(samples: Sequence[tuple[int, Path]], budget: int) -> tuple[list[tuple[int, str]], str]:
    """Grids as data: URIs, and a sentence that says what was left out or made smaller ("" if nothing).

    samples: (images seen, PNG file), oldest first; budget: bytes of all URIs together. With too many, or too large
    ones, an even choice that has the first and the last. A file that cannot be read is left out.
    """
    if not samples:
        return [], ""
    trying = Counter("trying how small sample grids must be", 3 * len(_LADDER), "grids")
    for most, side, quality in _LADDER:
        chosen, probes = evenly(samples, most), []
        with trying:
            for _, path in evenly(chosen, 3):
                probes.append(_small(path, side, quality))
                trying.add(1)
        sizes = [len(data) for data in probes if data]
        if not sizes:
            break
        if max(sizes) * len(chosen) * 4 / 3 * 0.92 <= budget:
            found = _all(chosen, side, quality)
            if sum(len(uri) for _, uri in found) <= budget:
                return found, _words(samples, chosen, found, side)
    _, side, quality = _LADDER[-1]
    found = _all(evenly(samples, 30), side, quality)
    while found and sum(len(uri) for _, uri in found) > budget:
        found = evenly(found, len(found) - 1) if len(found) > 1 else []
    return found, _words(samples, evenly(samples, 30), found, side)


def evenly(items: Sequence, most: int) -> list:
    """At most `most` of the items, evenly, the first and the last among them (of one: the last)."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]


def _all(chosen: Sequence[tuple[int, Path]], side: int, quality: int) -> list[tuple[int, str]]:
    made, counter = [], Counter("making sample grids small", len(chosen), "grids")
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool, counter:
        for data in pool.map(lambda one: _small(one[1], side, quality), chosen):
            made.append(data)
            counter.add(1)
    return [(at, webp_uri(data)) for (at, _), data in zip(chosen, made, strict=True) if data]


def _small(path: Path, side: int, quality: int) -> bytes:
    """The grid as WebP, at most `side` pixels high and wide; nothing if it cannot be read."""
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError):
        return b""
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return webp(picture, quality)


def _words(
    samples: Sequence[tuple[int, Path]],
    chosen: Sequence[tuple[int, Path]],
    found: Sequence[tuple[int, str]],
    side: int,
) -> str:
    words = []
    if len(found) < len(samples):
        bad = len(chosen) - len(found)
        words.append(f"{len(found)} of {len(samples):,} grids, evenly chosen, to keep the page small.")
        if bad > 0:
            words.append(f"{bad} could not be read or found no room.")
    with contextlib.suppress(OSError, Image.DecompressionBombError), Image.open(samples[-1][1]) as image:
        if max(image.size) > side:
            words.append(f"Shown at {side / max(image.size):.0%} of their size; the originals are in samples/.")
    return " ".join(words)

"""Means with their intervals over the variants of a study: laid out once, drawn as SVG for a page and by Pillow."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from pygan.bootstrap import Interval
from pygan.page import Html, text

WIDTH, HEIGHT = 560, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 12, 58, 50  # round the plot, in pixels
_LIGHT = {"axis": "#5d646d", "grid": "#e2e0da", "words": "#1d2126", "soft": "#5d646d"}
_LIGHT |= {"0": "#1f66b0", "1": "#c4501b", "2": "#1a7f5a", "3": "#8746a6"}
_PAGE = {"axis": "var(--soft)", "grid": "var(--line)", "words": "var(--ink)", "soft": "var(--soft)"}
_PAGE |= {str(k): f"var(--c{k})" for k in range(4)}
_SPREAD = 9.0  # pixels between the series at one place


class Series(NamedTuple):
    """A line of a chart: one interval per place, None where there is nothing."""

    name: str
    values: Sequence[Interval | None]


class Mark(NamedTuple):
    """Something to draw. kind: line (x, y, x2, y2), dot (x, y), words (x, y; at: start, middle or end)."""

    kind: str
    colour: str
    x: float
    y: float
    x2: float = 0.0
    y2: float = 0.0
    words: str = ""
    at: str = "start"
    size: int = 12


def layout(title: str, unit: str, places: Sequence[str], series: Sequence[Series]) -> list[Mark]:
    """The marks of a chart of WIDTH x HEIGHT pixels. places: below the axis, from left to right."""
    known = [value for one in series for value in one.values if value is not None]
    low = min([0.0 if _near_zero(known) else math.inf, *(value.low for value in known)], default=0.0)
    high = max([0.0 if _near_zero(known) else -math.inf, *(value.high for value in known)], default=1.0)
    ticks = _ticks(low, high)
    low, high = ticks[0], ticks[-1]
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT

    def across(at: int) -> float:
        return _LEFT + (right - _LEFT) * (at + 0.5) / max(1, len(places))

    def up(value: float) -> float:
        return bottom - (bottom - _TOP) * (value - low) / (high - low)

    marks = [Mark("words", "words", 8, 17, words=title, size=14)]
    marks.append(Mark("words", "soft", WIDTH - _RIGHT, 17, words=unit, at="end"))
    for tick in ticks:
        marks.append(Mark("line", "axis" if tick == 0 else "grid", _LEFT, up(tick), right, up(tick)))
        marks.append(Mark("words", "soft", _LEFT - 6, up(tick) + 4, words=f"{tick:g}", at="end"))
    for at, place in enumerate(places):
        marks.append(
            Mark(
                "words", "words", across(at), bottom + 18 + 15 * (at % 2 and _crowded(places)), words=place, at="middle"
            )
        )
    start = float(_LEFT)
    for number, one in enumerate(series):
        colour, beside = str(number % 4), (number - (len(series) - 1) / 2) * _SPREAD
        marks.append(Mark("line", colour, start, 38, start + 18, 38))
        marks.append(Mark("words", "words", start + 23, 42, words=one.name))
        start += 44 + 7 * len(one.name)
        points = [(across(at) + beside, value) for at, value in enumerate(one.values) if value is not None]
        for (x, value), (x2, after) in itertools.pairwise(points):
            marks.append(Mark("line", colour, x, up(value.mean), x2, up(after.mean)))
        for x, value in points:
            marks.append(Mark("line", colour, x, up(value.low), x, up(value.high)))
            told = f"{one.name}: {value.mean:.3g} [{value.low:.3g}, {value.high:.3g}]"
            marks.append(Mark("dot", colour, x, up(value.mean), words=told))
    return marks


def _near_zero(known: Sequence[Interval]) -> bool:
    """Does 0 belong into the chart: is it as near to the values as they are to each other?"""
    if not known:
        return True
    low, high = min(value.low for value in known), max(value.high for value in known)
    return low <= 0 <= high or min(abs(low), abs(high)) < 1.5 * (high - low)


def _crowded(places: Sequence[str]) -> bool:
    """Do the words below the axis need two rows?"""
    return max((len(place) for place in places), default=0) * 7 * len(places) > WIDTH - _LEFT - _RIGHT


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, about five steps."""
    if not high > low:
        low, high = low - 0.5, low + 0.5
    raw = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(k * size for k in (1, 2, 5, 10) if k * size >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, max(last, first + 1) + 1)]


def svg(marks: Sequence[Mark], said: str) -> Html:
    """The chart for a page, in its colours, light and dark. said: for those who cannot see it."""
    parts = []
    for mark in marks:
        colour, name = _PAGE[mark.colour], text(mark.words)
        if mark.kind == "line":
            wide = 1 if mark.colour in ("grid", "axis") else 2
            parts.append(
                f'<line x1="{mark.x:.1f}" y1="{mark.y:.1f}" x2="{mark.x2:.1f}" y2="{mark.y2:.1f}" '
                f'style="stroke:{colour};stroke-width:{wide}"/>'
            )
        elif mark.kind == "dot":
            parts.append(
                f'<circle cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="4.5" style="fill:{colour}"><title>{name}</title>'
                "</circle>"
            )
        else:
            parts.append(
                f'<text x="{mark.x:.1f}" y="{mark.y:.1f}" text-anchor="{mark.at}" '
                f'style="fill:{colour};font-size:{mark.size}px">{name}</text>'
            )
    return Html(
        f'<figure class="card study-chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(said)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def image(marks: Sequence[Mark], scale: float = 2.0) -> Image.Image:
    """The chart on white, `scale` times WIDTH x HEIGHT pixels."""
    sheet = Image.new("RGB", (round(WIDTH * scale), round(HEIGHT * scale)), "white")
    draw = ImageDraw.Draw(sheet)
    for mark in marks:
        colour, x, y = _LIGHT[mark.colour], mark.x * scale, mark.y * scale
        if mark.kind == "line":
            wide = max(1, round(scale if mark.colour in ("grid", "axis") else 2 * scale))
            draw.line((x, y, mark.x2 * scale, mark.y2 * scale), fill=colour, width=wide)
        elif mark.kind == "dot":
            radius = 4.5 * scale
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        else:
            font = ImageFont.load_default(size=mark.size * scale)
            anchor = {"start": "ls", "middle": "ms", "end": "rs"}[mark.at]
            draw.text((x, y), mark.words, fill=colour, font=font, anchor=anchor)
    return sheet

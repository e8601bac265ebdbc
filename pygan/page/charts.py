"""Line charts: their numbers, and what stands round them. What is drawn is drawn by chart.js."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pygan.page.parts import Html, details, embedded, number, table, text

MOST = 20_000  # points of a line
_AXIS = "images"  # the name of an axis that has none


class Line(NamedTuple):
    """A line of a chart: y over x, both of n numbers; y may have gaps (NaN) and infinities."""

    name: str
    x: Mapping[str, Sequence[float]] | Sequence[float]  # {axis: positions}, {"images": ..., "steps": ...}; finite
    y: Sequence[float]
    colour: int | None = None  # of the palette, from 0; None: by its place in the chart
    dashed: bool = False


def curves(
    title: str,
    lines: Sequence[Line],
    *,
    note: Any = "",
    log: bool = False,
    unit: str = "",
    most: int = MOST,
    marks: Sequence[tuple[Mapping[str, float] | float, str]] = (),
) -> Html:
    """An interactive line chart: values under the pointer, a legend that hides lines, a logarithmic scale.

    Drag to zoom, double-click for the whole again; arrow keys move the crosshair. log: begin with that scale. note: a
    sentence below. most: points of a line; of a longer one, the least and the greatest of each stretch are kept. marks:
    (position, words) of what happened, drawn as an upright line.
    Errors: ValueError for a line whose x and y differ in length, or lines without an axis that all have.
    """
    axes = [name for name in _axes(lines[0]) if all(name in _axes(line) for line in lines)] if lines else []
    if not axes:
        raise ValueError("a chart needs lines, and an axis that all of them have")
    columns: dict[str, str] = {}
    data, rows = [], []
    for place, line in enumerate(lines):
        x, y = _thinned(*_arrays(line, axes), most)
        colour = place if line.colour is None else line.colour
        data.append(
            {
                "name": line.name,
                "x": {axis: _column(values, columns) for axis, values in x.items()},
                "y": _column(y, columns),
                "colour": colour % 10,
                "dashed": line.dashed,
            }
        )
        rows.append(_row(line.name, np.asarray(line.y, dtype=np.float64)))
    legend = "".join(
        f'<button type="button" aria-pressed="true" style="--c: var(--c{line["colour"]})"'
        f"{' class=dashed' if line['dashed'] else ''}>{text(line['name'])}</button>"
        for line in data
    )
    below = f"<figcaption>{text(note)}</figcaption>" if note else ""
    of = f" <small>{text(unit)}</small>" if unit else ""
    happened = [{"x": where if isinstance(where, Mapping) else {_AXIS: where}, "text": words} for where, words in marks]
    said = f"Line chart, {title}: {', '.join(line.name for line in lines)}. Arrow keys read its values."
    inner = embedded({"title": title, "axes": axes, "log": log, "lines": data, "marks": happened})
    return Html(
        f'<figure class="chart"><div class="head"><h4>{text(title)}{of}</h4><button type="button" class="log" '
        f'aria-pressed="{"true" if log else "false"}" title="Logarithmic scale">log</button></div>'
        f'<div class="plot"><canvas></canvas><canvas class="over" tabindex="0" role="img" aria-label="{text(said)}">'
        f'</canvas><div class="tip" role="status" hidden></div></div><div class="legend">{legend}</div>{below}'
        f"{details('Values', table(rows, ('line', 'rows', 'first', 'last', 'least', 'greatest')))}"
        f"{''.join(columns.values())}{inner}</figure>"
    )


def charts(parts: Sequence[Html]) -> Html:
    """Charts, and headings between them, that share their x axis, zoom, crosshair and smoothing."""
    return Html(
        '<div class="charts"><div class="controls toolbar"><label class="axis">over <select aria-label="x axis">'
        '</select></label><label>smoothing <input type="range" class="smooth" min="0" max="0.99" step="0.01" value="0" '
        'aria-label="Smoothing"><output>0</output></label><button type="button" class="whole" disabled>Whole range'
        f'</button><span class="quiet hint">drag to zoom, double-click to return</span></div>{"".join(parts)}</div>'
    )


def heading(title: str, words: Any = "") -> Html:
    """A heading among charts, with a sentence below it."""
    return Html(f'<div class="wide"><h3>{text(title)}</h3>{f"<p>{text(words)}</p>" if words else ""}</div>')


def _axes(line: Line) -> Mapping[str, Sequence[float]]:
    return line.x if isinstance(line.x, Mapping) else {_AXIS: line.x}


def _arrays(line: Line, axes: Sequence[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """x and y as float64 (n,), in the order of the first axis."""
    x = {axis: np.asarray(_axes(line)[axis], dtype=np.float64) for axis in axes}
    y = np.asarray(line.y, dtype=np.float64)
    if any(values.shape != y.shape for values in x.values()):
        raise ValueError(f"line {line.name!r}: x and y differ in length")
    first = x[axes[0]]
    if (np.diff(first) < 0).any():
        order = np.argsort(first, kind="stable")
        return {axis: values[order] for axis, values in x.items()}, y[order]
    return x, y


def _thinned(x: dict[str, np.ndarray], y: np.ndarray, most: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """At most about `most` of the points: of each stretch its least, its greatest and its first that is no number."""
    if len(y) <= most:
        return x, y
    stretch = -(-3 * len(y) // most)
    keep = {0, len(y) - 1}
    for first in range(0, len(y), stretch):
        part = y[first : first + stretch]
        finite = np.isfinite(part)
        if finite.any():
            keep.add(first + int(np.where(finite, part, np.inf).argmin()))
            keep.add(first + int(np.where(finite, part, -np.inf).argmax()))
        if not finite.all():
            keep.add(first + int(finite.argmin()))
    kept = np.array(sorted(keep))
    return {axis: values[kept] for axis, values in x.items()}, y[kept]


def _column(values: np.ndarray, columns: dict[str, str]) -> str:
    """Keep an array of numbers for the page, little-endian in base64. Returns the id that chart.js finds it by."""
    finite = values[np.isfinite(values)]
    whole = len(finite) == len(values) and len(values) and (values == np.floor(values)).all()
    if whole and values.min() >= 0 and values.max() < 1 << 32:
        kind = "u4"
    elif len(finite) and (np.abs(finite).max() > 3e38 or whole):
        kind = "f8"
    else:
        kind = "f4"  # as precise as what a network computes
    data = values.astype(f"<{kind}").tobytes()
    name = kind + hashlib.blake2b(data, digest_size=8).hexdigest()
    plain = base64.b64encode(data).decode()
    columns[name] = f'<script type="text/plain" class="column" data-id="{name}">{plain}</script>'
    return name


def _row(name: str, y: np.ndarray) -> dict[str, Any]:
    finite = y[np.isfinite(y)]
    bad = len(y) - len(finite)
    ends = {"first": float(y[0]), "last": float(y[-1])} if len(y) else {}
    span = {"least": float(finite.min()), "greatest": float(finite.max())} if len(finite) else {}
    return {"line": name, "rows": f"{number(len(y))}{f' ({bad} no number)' if bad else ''}"} | ends | span

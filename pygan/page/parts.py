"""Parts of a page: texts, tables, pictures. What is given and is not Html is escaped."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: Any) -> Html:
    """A value as HTML: escaped, unless it is Html already."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def embedded(data: Any, name: str = "") -> Html:
    """Plain values as JSON in a script element, with this id. No text in them can end the element."""
    plain = json.dumps(_finite(data), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for character in ("<", ">", "&", "\u2028", "\u2029"):
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    own = f' id="{text(name)}"' if name else ""
    return Html(f'<script type="application/json"{own}>{plain}</script>')


def joined(parts: Iterable[Any], between: str = "") -> Html:
    """Parts one after the other."""
    return Html(text(between).join(text(part) for part in parts))


def number(value: Any, digits: int = 5) -> str:
    """A value as people read it: 12,345; 0.48123; 2.5e-05; on and off; – for nothing. digits: significant ones."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
        return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
    return str(value)


def paragraph(words: Any, kind: str = "") -> Html:
    """A paragraph. kind: "", or "quiet" for what is said beside."""
    return Html(f'<p class="{text(kind)}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>")


def note(words: Any, kind: str = "info", title: str = "") -> Html:
    """A box that stands out. kind: info, good, warn or bad."""
    head = f"<strong>{text(title)}</strong> " if title else ""
    return Html(f'<div class="note {text(kind)}" role="note">{head}{text(words)}</div>')


def badge(words: Any, kind: str = "info") -> Html:
    """A word in a frame. kind: info, good, warn or bad."""
    return Html(f'<span class="badge {text(kind)}">{text(words)}</span>')


def tiles(values: Mapping[str, Any]) -> Html:
    """The few numbers that say most: {"images seen": "80,000"}; a value that is a pair has a smaller line below."""
    cells = []
    for name, value in values.items():
        value, more = value if isinstance(value, tuple) else (value, "")
        below = f"<small>{text(more)}</small>" if more else ""
        shown = value if isinstance(value, str) else number(value)
        cells.append(f"<div><dt>{text(name)}</dt><dd>{text(shown)}{below}</dd></div>")
    return Html(f'<dl class="tiles">{"".join(cells)}</dl>')


def code(words: str, *, copy: bool = True) -> Html:
    """Something to type, with a button that copies it."""
    button = '<button type="button" class="copy">Copy</button>' if copy else ""
    return Html(f'<div class="code"><pre><code>{text(words)}</code></pre>{button}</div>')


def details(summary: str, body: str, *, open: bool = False) -> Html:  # noqa: A002
    """What is there for those who ask."""
    return Html(f"<details{' open' if open else ''}><summary>{text(summary)}</summary>{text(body)}</details>")


def table(
    rows: Sequence[Mapping[str, Any] | Sequence[Any]],
    columns: Sequence[str] | Mapping[str, str],
    *,
    caption: str = "",
    best: Mapping[str, str] | None = None,
    marks: Sequence[str] = (),
    name: str = "",
    form: Callable[[Any], str] = number,
) -> Html:
    """A table; what is wide scrolls inside its frame.

    rows: mappings by column, or values in the order of the columns; a mapping may lack some. columns: their headings,
    or {key: heading}. best: {column: "low" or "high"}, marks the best number of a column (rows that are equally good
    all get the mark). marks: a CSS class for each row. name: its id. form: how numbers are written.
    Errors: ValueError for a row that has not as many values as there are columns.
    """
    heads = dict(columns) if isinstance(columns, Mapping) else {key: key for key in columns}
    cells = [_cells(row, list(heads)) for row in rows]
    numeric = {key for key in heads if _is_numeric([row[key] for row in cells])}
    winners = {key: _best([row[key] for row in cells], way) for key, way in (best or {}).items() if key in heads}
    head = "".join(
        f'<th scope="col"{" class=n" if key in numeric else ""}>{text(name)}</th>' for key, name in heads.items()
    )
    lines = []
    for at, row in enumerate(cells):
        own = f' class="{text(marks[at])}"' if at < len(marks) and marks[at] else ""
        line = []
        for key, value in row.items():
            classes = ["n"] * (key in numeric) + ["best"] * (at in winners.get(key, ()))
            shown = value if isinstance(value, str) else form(value)
            line.append(f"<td{_class(classes)}>{text(shown)}</td>")
        lines.append(f"<tr{own}>{''.join(line)}</tr>")
    top = f"<caption>{text(caption)}</caption>" if caption else ""
    own = f' id="{text(name)}"' if name else ""
    return Html(
        f'<div class="scroll" tabindex="0" role="group" aria-label="{text(caption or "Table")}"><table{own}>{top}'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def filtered(inner: Html, table_name: str, *, toggles: Mapping[str, str] | None = None) -> Html:
    """A table with a box that hides the rows without the words typed.

    toggles: {CSS class of rows: words} makes a check box each that shows only rows of that class.
    """
    boxes = "".join(
        f'<label><input type="checkbox" data-only="{text(mark)}"> {text(words)}</label>'
        for mark, words in (toggles or {}).items()
    )
    return Html(
        f'<div class="filtered" data-table="{text(table_name)}"><div class="controls"><input type="search" '
        f'placeholder="Filter" aria-label="Filter">{boxes}<output></output></div>{inner}</div>'
    )


def picture(image: Image.Image, *, quality: int = 82) -> str:
    """The image as a data: URI, WebP (of 8 bits per channel, at most 16383 pixels a side)."""
    return webp_uri(webp(image, quality))


def webp(image: Image.Image, quality: int) -> bytes:
    """The image as a WebP file. quality: 0 to 100, 100: without loss."""
    buffer = io.BytesIO()
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    if quality >= 100:
        image.save(buffer, "WEBP", lossless=True, method=2)
    else:
        image.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()


def webp_uri(data: bytes) -> str:
    """A WebP file as a data: URI."""
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def pictures_row(images: Mapping[str, str], *, caption: Any = "") -> Html:
    """Pictures beside each other, each with its name, all of which a click enlarges.

    images: {name: data URI, as `picture` makes}. caption: what stands below them all.
    """
    cells = "".join(
        f'<figure><button type="button" class="zoom"><img src="{text(uri)}" alt="{text(name)}"></button>'
        f"<figcaption>{text(name)}</figcaption></figure>"
        for name, uri in images.items()
    )
    below = f'<p class="quiet">{text(caption)}</p>' if caption else ""
    few = f' style="--n: {len(images)}"' if len(images) <= 8 else ""
    return Html(f'<div class="pictures"><div class="row"{few}>{cells}</div>{below}</div>')


def gallery(parts: Iterable[Html]) -> Html:
    """Rows of pictures, beside each other where there is room."""
    return Html(f'<div class="gallery">{joined(parts)}</div>')


def timeline(lanes: Mapping[str, Sequence[tuple[int, str]]], *, unit: str = "images") -> Html:
    """Pictures over time with a slider, a play button and the arrow keys. Several lanes move together.

    lanes: {name: [(images seen, data URI), ...] in order}. Where a lane has nothing at a time, its last picture before
    it stays, and its count says so.
    """
    times = sorted({at for frames in lanes.values() for at, _ in frames})
    if not times:
        return note("There are no pictures yet.")
    figures = "".join(
        f'<figure><figcaption><b>{text(name)}</b> <span></span></figcaption><button type="button" class="zoom">'
        f'<img alt="{text(f"samples of {name}" if name else "samples")}"></button></figure>'
        for name in lanes
    )
    data = {
        "times": times,
        "unit": unit,
        "lanes": [
            {"times": [at for at, _ in frames], "frames": [uri for _, uri in frames]} for frames in lanes.values()
        ],
    }
    many = " disabled" if len(times) < 2 else ""
    return Html(
        f'<div class="timeline"><div class="controls"><button type="button" class="play"{many}>Play</button>'
        f'<input type="range" min="0" max="{len(times) - 1}" value="{len(times) - 1}" step="1" '
        f'aria-label="Time, in {text(unit)}"{many}><output></output></div>'
        f'<div class="lanes">{figures}</div>{embedded(data)}</div>'
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def _cells(row: Mapping[str, Any] | Sequence[Any], keys: list[str]) -> dict[str, Any]:
    if isinstance(row, Mapping):
        return {key: row.get(key) for key in keys}
    return dict(zip(keys, row, strict=True))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_numeric(values: Sequence[Any]) -> bool:
    return any(_is_number(value) for value in values) and all(value is None or _is_number(value) for value in values)


def _best(values: Sequence[Any], way: str) -> set[int]:
    """Rows of the best finite number; none if there is nothing to compare."""
    finite = {at: value for at, value in enumerate(values) if _is_number(value) and math.isfinite(value)}
    if len(finite) < 2:
        return set()
    top = (max if way == "high" else min)(finite.values())
    return {at for at, value in finite.items() if value == top}


def _class(classes: Sequence[str]) -> str:
    return f' class="{" ".join(classes)}"' if classes else ""

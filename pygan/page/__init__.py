"""Pages that explain themselves: one HTML file, no server, no network, for people to read and to print.

Every part is a function from plain data to `Html`; what is not Html is escaped. `html` puts parts into a page:

    page.html("A run", page.section("Curves", page.charts([page.curves("Loss", [page.Line("G", images, losses)])])))
"""

from __future__ import annotations

from pygan.page.charts import MOST, Line, charts, curves, heading
from pygan.page.document import html, section
from pygan.page.parts import (
    Html,
    badge,
    code,
    details,
    embedded,
    filtered,
    gallery,
    joined,
    note,
    number,
    paragraph,
    picture,
    pictures_row,
    table,
    text,
    tiles,
    timeline,
)

__all__ = [
    "MOST",
    "Html",
    "Line",
    "badge",
    "charts",
    "code",
    "curves",
    "details",
    "embedded",
    "filtered",
    "gallery",
    "heading",
    "html",
    "joined",
    "note",
    "number",
    "paragraph",
    "picture",
    "pictures_row",
    "section",
    "table",
    "text",
    "tiles",
    "timeline",
]

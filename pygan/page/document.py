"""A whole page: head, navigation, sections, and everything that it needs inside it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pygan.page.parts import Html, embedded, text

_HERE = Path(__file__).parent
# Nothing may be fetched: neither by a mistake of ours nor by a name out of somebody's file. 'self': a page that a
# server of pygan hands out may answer it.
_POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'"
)
_SECTION = re.compile(r'<section id="([^"]*)" data-title="([^"]*)"')
_COLUMN = re.compile(r'<script type="text/plain" class="column" data-id="([^"]*)">[^<]*</script>')


def html(
    title: str,
    body: str,
    *,
    scripts: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    lead: str = "",
    styles: Sequence[str] = (),
) -> str:
    """A whole self-contained page with the house's style sheet.

    title: its heading, escaped; body: parts, the sections of which get a navigation; lead: what stands below the
    heading, escaped unless Html. data: plain values that a script reads with `JSON.parse(document.getElementById(
    "data").textContent)`; what is no finite number becomes null. scripts, styles: JavaScript and CSS of this page.
    Errors: ValueError if a script would end its own element.
    """
    for script in scripts:
        if "</script" in script.lower():
            raise ValueError("a script must not contain </script")
    links = "".join(
        f'<a href="#{anchor}">{name}</a>' for anchor, name in _SECTION.findall(body)
    )  # escaped by `section`
    own = "".join(f"<script>{script}</script>\n" for script in scripts)
    facts = embedded(data, "data") if data is not None else ""
    css = "\n".join([(_HERE / "style.css").read_text(), *styles])
    name = text(title)
    nav = f'<nav class="bar" aria-label="Sections"><b>{name}</b><div>{links}</div></nav>' if links else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{name}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
{nav}
<main>
<header class="top"><h1>{name}</h1>{_lead(lead)}</header>
{_each_column_once(body)}
</main>
<dialog id="large" aria-label="Enlarged picture"><button type="button" aria-label="Close">&times;</button><img alt="">
<p></p></dialog>
{facts}
<script>{(_HERE / "chart.js").read_text()}</script>
<script>{(_HERE / "page.js").read_text()}</script>
{own}</body>
</html>
"""


def section(title: str, body: str, *, lead: str = "", anchor: str = "") -> Html:
    """A part of the page with a heading and a place in the navigation. anchor: its #name (default: from the title)."""
    anchor, name = text(anchor or _anchor(title)), text(title)
    head = f'<section id="{anchor}" data-title="{name}"><h2>{name}</h2>{_lead(lead)}'
    return Html(f"{head}\n{body}</section>\n")


def _lead(lead: str) -> str:
    return f'<div class="lead">{text(lead)}</div>' if lead else ""


def _anchor(title: str) -> str:
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "section"


def _each_column_once(body: str) -> str:
    """The columns of numbers that several charts share stay where they are first."""
    seen: set[str] = set()

    def keep(match: re.Match[str]) -> str:
        if match[1] in seen:
            return ""
        seen.add(match[1])
        return match[0]

    return _COLUMN.sub(keep, body)

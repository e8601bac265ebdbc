"""Pictures of a study's page: the same inputs by every variant, and what was nearest to its outputs in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pygan import page
from pygan.study import figure, numbers
from pygan.study.answer import shown
from pygan.study.numbers import SETS, Cell

STYLE = """
.study-shots { overflow-x: auto; } .study-shots table { border-collapse: collapse; width: auto; }
.study-shots td, .study-shots th { padding: 2px; border: 0; white-space: nowrap; font-size: .8rem; }
.study-shots th { position: sticky; left: 0; background: var(--page); max-width: 8rem; white-space: normal; }
.study-shots img { display: block; width: 88px; height: 88px; image-rendering: pixelated; border-radius: 3px; }
"""

_SIDE, _GAP, _CAPTION, _LEAST = 128, 6, 28, 1100  # pixels of the sheet: a picture, between two, names, its width

Row = tuple[str, list[Image.Image]]


def examples(cell: Cell, where: str, folder: Path) -> list[list[Image.Image]]:
    """Rows of pictures of a variant's first network: inputs, outputs, targets. Empty if they are gone."""
    return _strip(folder / "examples" / f"{cell.rows[0]['unit']}-{where}.png", 3)


def _strip(path: Path, rows: int) -> list[list[Image.Image]]:
    """The pictures of a file of `study.measure.keep`: rows of square pictures. Empty if it is gone or damaged."""
    try:
        with Image.open(path) as file:
            sheet = file.convert("RGB")
    except OSError:
        return []
    side = max(1, sheet.height // rows)
    return [
        [sheet.crop((x, y * side, x + side, (y + 1) * side)) for x in range(0, sheet.width, side)] for y in range(rows)
    ]


def rows(cells: Sequence[Cell], where: str, folder: Path) -> list[Row]:
    """Rows of pictures with their names: input, the output of each variant, target; for each kind of input."""
    found: list[Row] = []
    for kind in dict.fromkeys(cell.variant.axes.get("input", "") for cell in cells):
        strips = [(cell, examples(cell, where, folder)) for cell in cells if cell.variant.axes.get("input", "") == kind]
        strips = [(cell, strip) for cell, strip in strips if strip]
        if strips:
            first = strips[0][1]
            found += [("input", first[0]), *((cell.variant.title, strip[1]) for cell, strip in strips)]
            found.append(("target", first[2]))
    return found


def same_inputs(cells: Sequence[Cell], folder: Path) -> str:
    """What every variant makes of the same pictures, of every set that was measured."""
    parts: list[str] = []
    for where, title in SETS.items():
        if found := rows(cells, where, folder):
            parts += [page.Html(f"<h3>{title.capitalize()}</h3>"), _grid(found)]
    return page.joined(parts) if parts else page.note("The pictures are gone.")


def nearest(cells: Sequence[Cell], folder: Path) -> str:
    """How near outputs are to training pictures, and for the first and the last variant the pictures themselves."""
    columns = {
        "variant": "variant",
        "output": "output to nearest training picture",
        "target": "held-out target to nearest one",
        "own": "output to its own target",
        "copies": "nearer to a training picture",
        "nearer": "nearer to training pictures than to as many others, by",
        "chance": "chance of that",
    }
    lines = []
    for cell in cells:
        nearer, chance = cell.memory()
        line = {"variant": cell.variant.title, "copies": f"{100 * cell.copies():.0f} %"}
        line |= {what: shown(numbers.interval(cell.near(what)), 1) for what in ("output", "target", "own")}
        lines.append(line | {"nearer": f"{nearer:+.2f}", "chance": f"{100 * chance:.2g} %"})
    words = (
        "RMS distances in grey levels, of held-out pictures. A blurred output is near to everything; one that was "
        "painted from memory is nearer to training pictures than to as many pictures that were not trained on."
    )
    parts = [page.table(lines, columns), page.paragraph(words, "quiet")]
    for cell in {cell.variant.name: cell for cell in (cells[0], cells[-1])}.values():
        outputs = examples(cell, "held_out", folder)
        found = _strip(folder / "examples" / f"{cell.rows[0]['unit']}-nearest.png", 1)
        if outputs and found:
            shots = [("output", outputs[1]), ("nearest training picture", found[0]), ("target", outputs[2])]
            parts += [page.Html(f"<h3>{page.text(cell.variant.title)}</h3>"), _grid(shots)]
    return page.joined(parts)


def sheet(charts: Sequence[Sequence[figure.Mark]], cells: Sequence[Cell], folder: Path) -> Image.Image:
    """One picture of a study: charts beside each other, and below them held-out items, a column for each variant."""
    columns, zoom = rows(cells, "held_out", folder), 1
    if columns:
        side = columns[0][1][0].width
        zoom = max(1, _SIDE // side)
        cell = side * zoom + _GAP
    wide = max(_LEAST, cell * len(columns) if columns else 0)
    drawn = [figure.image(marks, wide / len(charts) / figure.WIDTH) for marks in charts]
    top = max(one.height for one in drawn)
    high = min((len(row) for _, row in columns), default=0)
    whole = Image.new("RGB", (wide, top + (_CAPTION + cell * high if columns else 0)), "white")
    for place, one in enumerate(drawn):
        whole.paste(one, (place * wide // len(drawn), 0))
    draw, left = ImageDraw.Draw(whole), (wide - cell * len(columns)) // 2 if columns else 0
    for at, (name, row) in enumerate(columns):
        x = left + at * cell
        draw.text((x + cell / 2, top + 14), name, fill="black", font=ImageFont.load_default(size=15), anchor="mm")
        for k, one in enumerate(row[:high]):
            shown = one.resize((side * zoom, side * zoom), Image.Resampling.NEAREST)
            whole.paste(shown, (x + _GAP // 2, top + _CAPTION + k * cell))
    return whole


def _grid(found: Sequence[Row]) -> page.Html:
    body = "".join(
        f'<tr><th scope="row">{page.text(name)}</th>'
        + "".join(f'<td><img src="{page.picture(one, quality=90)}" alt="{page.text(name)}"></td>' for one in row)
        + "</tr>"
        for name, row in found
    )
    frame = '<div class="study-shots" tabindex="0" role="group" aria-label="Pictures">'
    return page.Html(f"{frame}<table><tbody>{body}</tbody></table></div>")

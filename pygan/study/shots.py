"""Pictures of a study's page: the same inputs by every variant, and what was nearest to its outputs in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pygan import page
from pygan.study import numbers
from pygan.study.answer import shown
from pygan.study.numbers import SETS, Cell

STYLE = """
.study-shots { overflow-x: auto; } .study-shots table { border-collapse: collapse; width: auto; }
.study-shots td, .study-shots th { padding: 2px; border: 0; white-space: nowrap; font-size: .8rem; }
.study-shots th { position: sticky; left: 0; background: var(--page); max-width: 8rem; white-space: normal; }
.study-shots img { display: block; width: 88px; height: 88px; image-rendering: pixelated; border-radius: 3px; }
"""

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
        "seen": "output to nearest of some training pictures",
        "unseen": "to nearest of as many unseen ones",
    }
    lines = [
        {"variant": cell.variant.title, "copies": f"{100 * cell.copies():.0f} %"}
        | {what: shown(numbers.interval(cell.near(what)), 1) for what in ("output", "target", "own", "seen", "unseen")}
        for cell in cells
    ]
    words = (
        "RMS distances in grey levels, of held-out pictures. A blurred output is near to everything; one that was painted "
        "from memory is nearer to training pictures than to as many unseen ones."
    )
    parts = [page.table(lines, columns), page.paragraph(words, "quiet")]
    for cell in {cell.variant.name: cell for cell in (cells[0], cells[-1])}.values():
        outputs = examples(cell, "held_out", folder)
        found = _strip(folder / "examples" / f"{cell.rows[0]['unit']}-nearest.png", 1)
        if outputs and found:
            shots = [("output", outputs[1]), ("nearest training picture", found[0]), ("target", outputs[2])]
            parts += [page.Html(f"<h3>{page.text(cell.variant.title)}</h3>"), _grid(shots)]
    return page.joined(parts)


def _grid(found: Sequence[Row]) -> page.Html:
    body = "".join(
        f'<tr><th scope="row">{page.text(name)}</th>'
        + "".join(f'<td><img src="{page.picture(one, quality=90)}" alt="{page.text(name)}"></td>' for one in row)
        + "</tr>"
        for name, row in found
    )
    frame = '<div class="study-shots" tabindex="0" role="group" aria-label="Pictures">'
    return page.Html(f"{frame}<table><tbody>{body}</tbody></table></div>")

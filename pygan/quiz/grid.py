"""Which are real? A grid of real and generated pictures at random places, and the key to it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from random import Random
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from pygan import pictures
from pygan.errors import UserError
from pygan.quiz.pool import Pool
from pygan.rundir import write_atomic

_GAP, _NUMBER = 8, 16  # pixels between pictures, height of the line with the numbers
_AT_LEAST = 96  # pixels of a picture; smaller ones are enlarged by a whole factor
_GREY, _FAINT = (128, 128, 128), (176, 176, 176)
_REAL, _FAKE = (20, 90, 200), (235, 140, 0)  # blue and orange: told apart by the colour-blind, too


class Cell(NamedTuple):
    """A picture of the grid."""

    number: int  # as written on the grid, from 1
    row: int  # from 0, at the top
    column: int  # from 0, at the left
    real: bool
    item: int  # number in the pool


def mixed(pool: Pool, number: int, seed: int) -> list[Cell]:
    """`number` cells, half of them real, each of another item of the pool: a real picture is not beside its fake.

    Where the pool has too few items for that, as many as it has; an odd one out is real or fake by chance.
    """
    random = Random(f"grid {seed}")
    number = min(number, pool.pairs)
    real = [k < number // 2 for k in range(number)]
    if number % 2:
        real[-1] = random.random() < 0.5
    random.shuffle(real)
    items = random.sample(range(pool.pairs), number)
    across = math.ceil(math.sqrt(number))
    return [Cell(k + 1, k // across, k % across, *two) for k, two in enumerate(zip(real, items, strict=True))]


def draw(pool: Pool, cells: list[Cell], *, framed: bool) -> Image.Image:
    """The grid; framed: with the answers, in colour and in words."""
    height, width = pool.real[0].shape[:2]
    zoom = max(1, math.ceil(_AT_LEAST / height))
    cell_w, cell_h = width * zoom + _GAP, height * zoom + _GAP + _NUMBER
    across, down = max(cell.column for cell in cells) + 1, max(cell.row for cell in cells) + 1
    sheet = Image.new("RGB", (cell_w * across + _GAP, cell_h * down + _GAP), _GREY)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for cell in cells:
        left, top = _GAP + cell.column * cell_w, _GAP + cell.row * cell_h
        image = Image.fromarray((pool.real if cell.real else pool.fake)[cell.item])
        colour = _REAL if cell.real else _FAKE
        if framed:
            pen.rectangle((left - 3, top - 3, left + width * zoom + 2, top + height * zoom + 2), fill=colour)
        sheet.paste(image.resize((width * zoom, height * zoom), Image.Resampling.NEAREST), (left, top))
        words = f"{cell.number} {'real' if cell.real else 'fake'}" if framed else str(cell.number)
        pen.text((left + 1, top + height * zoom + 2), words, fill="white" if framed else _FAINT, font=font)
    return sheet


def write(pool: Pool, output: Path, *, number: int, seed: int) -> tuple[list[Cell], list[Path]]:
    """Write the grid (FILE.png), its key as a grid (FILE.key.png) and as JSON (FILE.key.json).

    Returns the cells and the files. Errors: UserError if it cannot be written.
    """
    cells = mixed(pool, number, seed)
    key = {**pool.system._asdict(), "checkpoint": pool.checkpoint, "seed": seed}
    key["cells"] = [cell._asdict() for cell in cells]
    files = {
        output: pictures.to_png(draw(pool, cells, framed=False)),
        output.with_suffix(".key.png"): pictures.to_png(draw(pool, cells, framed=True)),
        output.with_suffix(".key.json"): (json.dumps(key, indent=2) + "\n").encode(),
    }
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        for path, data in files.items():
            write_atomic(path, data)
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another --grid") from error
    return cells, list(files)

"""Put the parts of a comparison together, and write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pygan import device as devices
from pygan import log, page
from pygan.compare import sections
from pygan.errors import UserError
from pygan.report import grids, record
from pygan.report.record import Record
from pygan.report.sections import size
from pygan.report.write import LIMIT, check_output, save

_PICTURES = 3_000_000  # bytes of the same inputs through each model, of the LIMIT
_GRIDS = 6_000_000


def write(paths: Sequence[Path], output: Path, *, inputs: int, checkpoint: str, device: str) -> int:
    """Write the comparison of runs. Returns the exit code.

    Errors: UserError (fewer than two runs, one of them twice or none, wrong flag, nowhere to write).
    """
    if len(paths) < 2:
        raise UserError(f"compare: two runs or more are expected, got {len(paths)}; `pygan report` shows a single one")
    twice = {path.resolve() for path in paths if [other.resolve() for other in paths].count(path.resolve()) > 1}
    if twice:
        raise UserError(f"compare: {min(twice)} is named twice; name each run once")
    if inputs < 0:
        raise UserError(f"--inputs must be at least 0, got {inputs}")
    devices.choose(device)
    runs = dict(zip(sections.names(paths), map(record.read, paths), strict=True))
    check_output(output)
    text = comparison(runs, inputs=inputs, checkpoint=checkpoint, device=device)
    save(output, text)
    log.console().print(f"wrote {output} ({size(len(text.encode()))}): {', '.join(runs)}", markup=False)
    return 0


def comparison(runs: Mapping[str, Record], *, inputs: int, checkpoint: str, device: str) -> str:
    """The page."""
    same = same_inputs(runs, inputs, checkpoint, device)
    before = [sections.summary(runs), sections.differences(runs), sections.charts(runs), same]
    after = [sections.metrics(runs), sections.findings(runs)]
    left = LIMIT - len(page.html("", page.joined([*before, *after])).encode())
    body = page.joined([*before, timeline(runs, min(left, _GRIDS)), *after])
    return page.html("Comparison", body, lead=" · ".join(runs))


def same_inputs(runs: Mapping[str, Record], n: int, checkpoint: str, device: str) -> page.Html:
    """The same held-out items through every network that takes them."""
    if n == 0:
        return page.Html("")
    from pygan.compare import inputs

    found = inputs.of({name: run.path for name, run in runs.items()}, checkpoint, device, n)
    room, rows = _PICTURES, []
    for images, far in found.rows:
        small = {name: page.picture(image) for name, image in images.items()}
        room -= sum(len(uri) for uri in small.values())
        if room < 0:
            break
        caption = "L1 (grey levels): " + ", ".join(f"{name} {page.number(value, 4)}" for name, value in far.items())
        rows.append(page.pictures_row(small, caption=caption if far else ""))
    notes = [page.note(f"{name} is not shown: {why}", "warn") for name, why in found.left_out.items()]
    parts = page.joined([*notes, *rows]) if notes or rows else page.note("There is nothing to show.")
    return page.section("The same inputs", parts, lead=found.words)


def timeline(runs: Mapping[str, Record], budget: int) -> page.Html:
    """Sample grids beside each other at equal images seen."""
    lanes, notes = {}, []
    for name, run in runs.items():
        frames, words = grids.frames(run.samples, max(0, budget) // len(runs))
        if frames:
            lanes[name] = frames
        if words:
            notes.append(f"{name}: {words}")
    if not lanes:
        return page.section("Samples", page.note("There are no sample grids yet."))
    lead = "At equal images seen; where a run has no grid at that point, its last one before it stays. " + " ".join(
        notes
    )
    return page.section("Samples", page.timeline(lanes), lead=lead.strip())

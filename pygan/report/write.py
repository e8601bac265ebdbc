"""Put the parts of a report together, in less than `LIMIT` bytes, and write it."""

from __future__ import annotations

from pathlib import Path

from pygan import device as devices
from pygan import log, page
from pygan.errors import UserError
from pygan.report import curves, grids, measures, record, sections
from pygan.report.record import Record
from pygan.rundir import write_atomic

LIMIT = 14_500_000  # bytes of a report, whatever the run
_TRIPLETS = 2_500_000  # bytes of them, of the LIMIT
_FOR_GRIDS = 6_500_000


def write(run: Path, output: Path | None, *, triplets: int, checkpoint: str, device: str) -> int:
    """Write the report of a run. Returns the exit code. Errors: UserError (no run, wrong flag, nowhere to write)."""
    if triplets < 0:
        raise UserError(f"--triplets must be at least 0, got {triplets}")
    devices.choose(device)
    known = record.read(run)
    target = check_output(output or run / "report.html")
    text = report(known, triplets=triplets, checkpoint=checkpoint, device=device)
    save(target, text)
    log.console().print(
        f"wrote {target} ({sections.size(len(text.encode()))}): {run} at {known.images_seen:,} images, {known.status}",
        markup=False,
    )
    return 0


def check_output(output: Path) -> Path:
    """Errors: UserError for a name that no browser opens as a page."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{output}: a page is written as HTML; name it {output.stem or 'report'}.html")
    if output.is_dir():
        raise UserError(f"{output} is a folder; choose another -o")
    return output


def save(output: Path, text: str) -> None:
    """Write a page whole. Errors: UserError."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(output, text.encode())
    except OSError as error:
        raise UserError(f"cannot write {output} ({error.strerror}); choose another -o") from error


def report(known: Record, *, triplets: int, checkpoint: str, device: str) -> str:
    """The page. Errors: UserError for a checkpoint that was asked for by name and is not there."""
    shown = held_out(known, triplets, checkpoint, device)
    before = [sections.summary(known), sections.findings(known), curves.section(known)]
    after = [shown, sections.scores(known), sections.recipe(known), sections.environment(known)]
    after += [sections.again(known), sections.files(known)]
    left = LIMIT - len(page.html("", page.joined([*before, *after])).encode())
    body = page.joined([*before, timeline(known, min(left, _FOR_GRIDS)), *after])
    what = f"{sections.title(known)} · {known.path.resolve()}"
    return page.html(f"{known.gan} / {known.name}", body, lead=what)


def timeline(known: Record, budget: int) -> page.Html:
    """The sample grids over time."""
    frames, words = grids.frames(known.samples, budget)
    if not frames:
        return page.section("Samples", page.note("There are no sample grids yet."))
    lead = "The same held-out items, or the same noise, as training went on. " + words
    return page.section("Samples", page.timeline({"": frames}), lead=lead.strip())


def held_out(known: Record, n: int, checkpoint: str, device: str) -> page.Html:
    """Single items through the network of a checkpoint; a sentence instead where that cannot be."""
    if n == 0:
        return page.Html("")
    if not known.checkpoints and checkpoint == "last":
        words = "The run has no checkpoint yet, so there is no network to show."
        return page.section("Held-out items", page.note(words))
    from pygan.report import triplets

    try:
        found = triplets.of(known.path, checkpoint, device, n)
    except UserError as reason:
        if checkpoint != "last" and not any(one.folder.name == checkpoint for one in known.checkpoints):
            raise
        return page.section("Held-out items", page.note(f"They cannot be shown: {reason}", "warn"))
    except OSError as reason:  # a run in training: its checkpoint was replaced meanwhile
        words = f"They cannot be shown: {reason.filename} cannot be read ({reason.strerror}); write the report again."
        return page.section("Held-out items", page.note(words, "warn"))
    room, rows = _TRIPLETS, []
    for images, values in found.items:
        small = {name: page.picture(image) for name, image in images.items()}
        room -= sum(len(uri) for uri in small.values())
        if room < 0:
            break
        caption = "  ".join(f"{measures.title(name)} {page.number(value, 4)}" for name, value in values.items())
        rows.append(page.pictures_row(small, caption=caption))
    lead = f"Through the network of checkpoints/{checkpoint}, at {found.images_seen:,} images; never trained on."
    if found.of_noise:
        lead = f"Made from noise by checkpoints/{checkpoint}, at {found.images_seen:,} images, and real ones beside."
    if len(rows) < len(found.items):
        lead += f" {len(rows)} of {len(found.items)} are here, to keep the page small."
    return page.section("Held-out items", page.gallery(rows), lead=lead + " A click enlarges.")

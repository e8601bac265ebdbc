"""The parts of a report but for its curves and pictures: plain facts of a record as HTML."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pygan import gans, page
from pygan.metrics import HIGHER_IS_BETTER
from pygan.recipe import flag
from pygan.report import measures, record
from pygan.report.record import Record

_KIND = {"finished": "good", "training": "info", "interrupted": "warn", "diverged": "bad"}
_MOST_FINDINGS = 200


def status(run: Record) -> page.Html:
    """How the run stands, in one word."""
    return page.badge(run.status, _KIND.get(run.status, "info"))


def summary(run: Record) -> page.Html:
    """The numbers that say most, and what could not be read."""
    began, last = record.when(run)
    rate = next((row["images_per_s"] for row in reversed(run.rows) if record.is_number(row.get("images_per_s"))), None)
    epoch = next((row["epoch"] for row in reversed(run.rows) if isinstance(row.get("epoch"), int)), None)
    count = len(run.findings)
    tiles: dict[str, Any] = {
        "status": status(run),
        "images seen": (run.images_seen, f"step {run.steps:,}" + (f", epoch {epoch}" if epoch else "")),
        "findings": (str(count) if count else "none", "see below" if count else ""),
    }
    if rate is not None:
        tiles["throughput"] = f"{rate:,.1f}", "images/s, this session's mean"
    if began:
        tiles["began"] = tuple(reversed(began.split(" ")))
    if last:
        tiles["last row"] = tuple(reversed(last.split(" ")))
    yardstick = _yardstick(run)
    if yardstick:
        tiles |= yardstick
    parts = [page.tiles(tiles), *(page.note(problem, "warn") for problem in run.problems)]
    if run.status == "diverged":
        parts.append(page.note("A loss became NaN or infinite; the findings say when.", "bad"))
    if run.status == "training":
        parts.append(page.note("A process is training this run now; write the report again for news.", "info"))
    return page.section("Summary", page.joined(parts))


def findings(run: Record) -> page.Html:
    """What is wrong, since when, how one sees it, what people do."""
    if not run.findings:
        words = f"Nothing was found wrong. {_unseen(run)}".strip() if run.rows else "There is no row to look at yet."
        return page.section("Findings", page.note(words, "good" if run.rows else "info"))
    parts = [finding(one) for one in run.findings[-_MOST_FINDINGS:]]
    lead = f"The last {_MOST_FINDINGS} of {len(run.findings):,}. " if len(run.findings) > _MOST_FINDINGS else ""
    return page.section("Findings", page.joined(parts), lead=(lead + _unseen(run)).strip())


def _unseen(run: Record) -> str:
    """What could not be looked at, in a sentence."""
    return f"Not looked at: {run.unseen}." if run.unseen else ""


def finding(one: Mapping[str, Any]) -> page.Html:
    """One finding, whatever of it is there."""
    at, since = (_count(one.get(key)) for key in ("images", "since_images"))
    times = [f"at {at} images" if at else "", f"since {since}" if since and since != at else ""]
    parts = [page.text(str(one.get("line") or one.get("name") or "a finding"))]
    if any(times):
        parts.append(page.paragraph(", ".join(word for word in times if word), "quiet"))
    if advice := one.get("advice"):
        parts.append(page.paragraph(f"What people do: {_plain(advice)}"))
    return page.note(page.joined(parts), "warn", str(one.get("name", "")).replace("_", " "))


def scores(run: Record) -> page.Html:
    """scores.json and evaluation.json."""
    parts = []
    table = score_rows(run)
    if table:
        keys = list(dict.fromkeys(key for row in table.values() for key in row))
        best = {key: way for key in keys if (way := measures.way(key))}
        rows = [{"system": name, **row} for name, row in table.items()]
        columns = {"system": ""} | {key: measures.head(key) for key in keys}
        images, most = _count(run.scores.get("images")), _count(run.scores.get("held_out"))
        caption = f"{most} held-out items at {images} images" if most and images else "Held-out items"
        parts.append(page.table(rows, columns, best=best, caption=caption))
    if isinstance(run.evaluation, Mapping) and run.evaluation:
        parts.append(_evaluation(run.evaluation))
    if not parts:
        words = "There are no scores: they are written when a session ends. "
        parts.append(page.note(words + f"`pygan evaluate {run.path}` measures a checkpoint."))
    return page.section("Metrics", page.joined(parts))


def score_rows(run: Record) -> dict[str, dict[str, float]]:
    """The table of scores.json: {system: {metric: value}}, without what is no number."""
    table = run.scores.get("scores", {})
    rows = {
        name: {key: value for key, value in row.items() if record.is_number(value)}
        for name, row in table.items()
        if isinstance(row, Mapping)
    }
    return {name: row for name, row in rows.items() if row}


def _evaluation(facts: Mapping[str, Any]) -> page.Html:
    """What `pygan evaluate` found: a column for each way, and in words how it was measured."""
    ways = evaluated(facts)
    names = list(dict.fromkeys(name for scores in ways.values() for name in scores))
    rows = [{"": measures.head(name), **{way: ways[way].get(name, "–") for way in ways}} for name in names]
    heads = {"": ""} | {way: "" if len(ways) == 1 else way for way in ways}
    images, checkpoint = _count(facts.get("images_seen")), facts.get("checkpoint", "")
    caption = f"pygan evaluate, of checkpoint {checkpoint}" + (f" at {images} images" if images else "")
    parts = [page.table(rows, heads, caption=caption)] if rows else []
    for key, words in (("definitions", "What they are"), ("left_out", "What could not be measured")):
        if isinstance(facts.get(key), Mapping) and facts[key]:
            said = [(measures.title(str(name)), _plain(text)) for name, text in facts[key].items()]
            parts.append(page.details(words, page.table(said, ("measure", "words"))))
    how = {name: facts[name] for name in ("data", "networks", "notes", "seed", "device") if facts.get(name)}
    if how:
        said = [(name, _plain(value)) for name, value in how.items()]
        parts.append(page.details("How it was measured", page.table(said, ("fact", "value"))))
    return page.joined(parts)


def evaluated(facts: Any) -> dict[str, dict[str, str]]:
    """The scores of evaluation.json as text by way and name; {} where the file holds something else."""
    ways = facts.get("ways") if isinstance(facts, Mapping) else None
    found: dict[str, dict[str, str]] = {}
    for way, one in ways.items() if isinstance(ways, Mapping) else ():
        scores = one.get("scores") if isinstance(one, Mapping) else None
        if isinstance(scores, Mapping):
            found[str(way)] = {str(name): _score(score) for name, score in scores.items()}
    return found


def _score(score: Any) -> str:
    """31.86 [28.78, 35.38], the interval that its mean lies in; or ± a standard deviation."""
    if not isinstance(score, Mapping) or not record.is_number(score.get("value")):
        return _plain(score)
    value = page.number(score["value"], 4)
    if record.is_number(score.get("low")) and record.is_number(score.get("high")):
        return f"{value} [{page.number(score['low'], 4)}, {page.number(score['high'], 4)}]"
    return f"{value} ± {page.number(score['std'], 2)}" if record.is_number(score.get("std")) else value


def recipe(run: Record) -> page.Html:
    """Every field, what it means, and by what it differs."""
    rows, marks = recipe_rows(run)
    columns = {"flag": "flag", "value": "value", "default": "default", "help": "what it decides"}
    table = page.table(rows, columns, marks=marks, name="recipe-fields")
    preset = f"Preset {run.preset!r}" if run.preset else "No preset"
    lead = f"{preset}. Blue edge: not the default. Yellow edge: asked for beyond the preset."
    toggles = {"changed": "only what is not the default", "own": "only what was asked beyond the preset"}
    return page.section("Recipe", page.filtered(table, "recipe-fields", toggles=toggles), lead=lead)


def recipe_rows(run: Record) -> tuple[list[dict[str, Any]], list[str]]:
    """(rows of the table, their marks: "changed" not the default, "own" not the preset's)."""
    gan = run.module()
    known = {f.name: f for f in dataclasses.fields(gan.Recipe)} if gan else {}
    preset = gan.PRESETS.get(run.preset, {}) if gan else {}
    rows, marks = [], []
    for name, value in run.recipe.items():
        field = known.get(name)
        asked = run.asked.get(name, value)
        changed = field is not None and value != field.default
        own = field is not None and asked != preset.get(name, field.default)
        text = shown(value) + (f" (asked: {shown(asked)})" if asked != value else "")
        default = "" if field is None else _with_unit(field.default, field.metadata.get("unit", ""))
        rows.append(
            {
                "flag": page.Html(f"<code>{page.text(flag(str(name)))}</code>"),
                "value": page.Html(f"<b>{page.text(text)}</b>") if changed else text,
                "default": default,
                "help": field.metadata.get("help", "") if field else "unknown to this version of pygan",
            }
        )
        marks.append(" ".join(["changed"] * changed + ["own"] * own))
    return rows, marks


def shown(value: Any) -> str:
    """A value of a recipe: as a flag takes it."""
    if value == "":
        return "none"
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:g}"
    return "on" if value is True else "off" if value is False else str(value)


def environment(run: Record) -> page.Html:
    """Where it ran, and the checkpoints that it left."""
    parts = []
    sessions = run.environment if isinstance(run.environment, list) else [run.environment]
    sessions = [one for one in sessions if isinstance(one, Mapping)]
    if isinstance(run.environment, Mapping) and isinstance(run.environment.get("sessions"), list):
        sessions = [one for one in run.environment["sessions"] if isinstance(one, Mapping)]
    if sessions:
        keys = list(dict.fromkeys(key for one in sessions for key in one))
        rows = []
        for key in keys:
            values = {str(k): _plain(one.get(key, "–")) for k, one in enumerate(sessions)}
            rows.append({"": str(key).replace("_", " "), **values})
        heads = {"": ""} | {str(k): f"session {k + 1}" if len(sessions) > 1 else "" for k in range(len(sessions))}
        parts.append(page.table(rows, heads))
    else:
        parts.append(page.note("There is no environment.json: the run is of a version that did not write one."))
    if run.checkpoints:
        rows = [
            {
                "checkpoint": found.folder.name,
                "images": found.images_seen,
                "step": found.facts["steps"],
                "finished": "yes" if found.facts.get("finished") is True else "",
                "files": ", ".join(sorted(found.facts["files"])),
                "size": size(sum(_bytes(found.folder / name) for name in found.facts["files"])),
            }
            for found in run.checkpoints
        ]
        parts.append(page.table(rows, tuple(rows[0]), caption="Checkpoints"))
    else:
        parts.append(page.note("There is no checkpoint yet."))
    return page.section("Environment", page.joined(parts))


def again(run: Record) -> page.Html:
    """The commands that make this run anew, go on with it, and use it."""
    parts = []
    if command := record.command(run):
        words = (
            "Trains it anew. Curves and weights are the same to the last bit with the same versions, device and "
            "threads (on a GPU with --deterministic)."
        )
        parts += [page.paragraph(words), page.code(command)]
    elif run.facts.get("imported"):
        parts.append(page.paragraph("The network was trained by another program, and imported."))
    if run.status in ("interrupted", "diverged") and not run.facts.get("imported"):
        parts += [page.paragraph("Goes on with it:"), page.code(f"pygan train {run.gan} --run {run.path}")]
    if run.checkpoints:
        gan = run.module()
        use = "translate {} PICTURE... -o DIR" if hasattr(gan, "translate") else "sample {} -o PICTURE.png"
        parts += [page.paragraph("Uses it:"), page.code(f"pygan {use.format(run.path)}")]
    return page.section("Commands", page.joined(parts), anchor="commands")


def files(run: Record) -> page.Html:
    """What lies in the run directory."""
    rows = []
    for path in sorted(run.path.iterdir()):
        if path.name.startswith(".") or path.name == "report.html":
            continue
        if path.is_dir():
            inside = _inside(path)
            rows.append((f"{path.name}/", f"{len(inside):,} files", size(sum(_bytes(file) for file in inside))))
        else:
            rows.append((path.name, "", size(_bytes(path))))
    return page.section("Files", page.table(rows, ("file", "", "size"), caption=str(run.path.resolve())))


def title(run: Record) -> str:
    """What the GAN is called in its own words, and the paper."""
    return gans.title(run.gan) if run.gan in gans.names() else run.gan


def size(count: int) -> str:
    """12,345,678 -> "12.3 MB"."""
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} bytes"


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _inside(folder: Path) -> list[Path]:
    """All files below a folder, which training may be changing meanwhile."""
    return [Path(where) / name for where, _, names in os.walk(folder) for name in names]


def _yardstick(run: Record) -> dict[str, Any]:
    """What checkpoints/best was chosen by: the metric asked for, else the GAN's first."""
    best = next((found.facts["best"] for found in run.checkpoints if found.facts.get("best")), None)
    match best:
        case [float() as value, int() as images]:
            rows = score_rows(run)
            name = str(run.recipe.get("best_by") or (next(iter(next(iter(rows.values())))) if rows else ""))
            value = -value if name in HIGHER_IS_BETTER else value  # kept with its sign turned, so that less is better
            head = f"best {measures.title(name)}" if name else "best"
            return {head: (page.number(value), f"held out, at {images:,} images")}
    return {}


def _with_unit(value: Any, unit: str) -> str:
    return f"{shown(value)} {unit}".strip()


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else ""


def _plain(value: Any) -> str:
    """A value of somebody's JSON in one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, Sequence) and all(isinstance(entry, str) for entry in value):
        return " ".join(value)
    return page.number(value) if not isinstance(value, Sequence) else json.dumps(value)

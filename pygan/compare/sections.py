"""The parts of a comparison: plain facts of several records as HTML. `runs` is {name: record} everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pygan import page
from pygan.recipe import flag
from pygan.report import curves, measures, sections
from pygan.report.record import Record, is_number

_MOST_CURVES = 60


def names(paths: Sequence[Path]) -> list[str]:
    """A name for each run: its last parts, as many as tell them all apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        short = ["/".join(one[-count:]) for one in parts]
        if len(set(short)) == len(short):
            return short
    return [str(path) for path in paths]


def summary(runs: Mapping[str, Record]) -> page.Html:
    """Each run in a line."""
    rows = [
        {
            "run": page.Html(f"<b>{page.text(name)}</b>"),
            "GAN": run.gan,
            "preset": run.preset or "–",
            "status": sections.status(run),
            "images": run.images_seen,
            "findings": len(run.findings),
            "images/s": next((r["images_per_s"] for r in reversed(run.rows) if is_number(r.get("images_per_s"))), None),
        }
        for name, run in runs.items()
    ]
    problems = [page.note(f"{name}: {words}", "warn") for name, run in runs.items() for words in run.problems]
    return page.section("Runs", page.joined([page.table(rows, tuple(rows[0])), *problems]))


def differences(runs: Mapping[str, Record]) -> page.Html:
    """The fields of the recipes that differ, and only those."""
    rows, only = difference_rows(runs)
    columns = {"flag": "flag"} | {f"run {k}": name for k, name in enumerate(runs)} | {"help": "what it decides"}
    gans = {run.gan for run in runs.values()}
    parts = []
    if rows:
        parts.append(page.table(rows, columns))
    else:
        same = "The recipes are equal." if len(gans) == 1 else "What their recipes have in common is equal."
        parts.append(page.note(same))
    if only:
        parts.append(page.details(f"{len(only)} fields that not all of them have", page.table(only, columns)))
    lead = "" if len(gans) == 1 else "They are of different GANs."
    return page.section("What differs", page.joined(parts), lead=lead)


def difference_rows(runs: Mapping[str, Record]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(fields that all have and that differ, fields that only some have), as rows of a table.

    What does not change the numbers of a run, such as how often it is saved, comes last.
    """
    fields = dict.fromkeys(name for run in runs.values() for name in run.recipe)
    known: dict[str, Mapping[str, Any]] = {}
    for run in runs.values():
        if gan := run.module():
            known |= {f.name: f.metadata for f in dataclasses.fields(gan.Recipe) if f.name not in known}
    of_session = {name for name, metadata in known.items() if metadata.get("session")}
    common, only = [], []
    for name in sorted(fields, key=of_session.__contains__):
        values = [run.recipe.get(name) for run in runs.values()]
        everywhere = all(name in run.recipe for run in runs.values())
        if everywhere and all(value == values[0] for value in values):
            continue
        row = {"flag": page.Html(f"<code>{page.text(flag(name))}</code>"), "help": known.get(name, {}).get("help", "")}
        for k, (run, value) in enumerate(zip(runs.values(), values, strict=True)):
            row[f"run {k}"] = sections.shown(value) if name in run.recipe else "–"
        (common if everywhere else only).append(row)
    return common, only


def charts(runs: Mapping[str, Record]) -> page.Html:
    """A chart for each column of the rows that at least two runs have, a colour for each run."""
    keys = {name: curves.columns(run.rows) for name, run in runs.items()}
    counts: dict[str, int] = {}
    for found in keys.values():
        for key in found:
            counts[key] = counts.get(key, 0) + 1
    shared = [key for key, count in counts.items() if count > 1]
    if not shared:
        return page.section("Curves", page.note("They have no column of metrics in common."))
    most = curves.points(max(len(run.rows) for run in runs.values()), len(shared) * len(runs))
    drawn = {name: curves.Lines(run, most) for name, run in runs.items()}
    groups: dict[str, list[page.Html]] = {}
    shown = shared[:_MOST_CURVES]
    for key in shown:
        group, title, with_training = _place(key)
        if key.startswith("train/") and "held_out/" + key.removeprefix("train/") in shared:
            continue
        lines = [
            line
            for k, name in enumerate(runs)
            for line in _of_run(drawn[name], keys[name], key, name, k, with_training=with_training)
        ]
        way = measures.way(key.partition("/")[2]) if with_training else ""
        unit = {"low": "lower is better; dashed: training items", "high": "higher is better; dashed: training items"}
        groups.setdefault(group, []).append(page.curves(title, lines, most=most, unit=unit.get(way, "")))
    order = sorted(groups, key=list(_GROUPS).index)
    parts = [part for group in order for part in (page.heading(group), *groups[group])]
    left = [key for key, count in counts.items() if count == 1] + shared[_MOST_CURVES:]
    below = page.paragraph(f"Not shown, since only one run has them: {', '.join(left)}.", "quiet") if left else ""
    lead = "Over images seen; every run keeps its colour. One run's line is hidden by a click on its name."
    return page.section("Curves", page.joined([page.charts(parts), below]), lead=lead)


_GROUPS = {"Measures": "", "Losses": "", "D on real and on fake pictures": "", "Training": "", "Vital signs": ""}


def _place(key: str) -> tuple[str, str, bool]:
    """(group, title, are training items drawn beside held-out ones?) of a column."""
    kind, _, name = key.partition("/")
    if kind == "held_out":
        return "Measures", f"{measures.title(name)}, held out", True
    if kind == "train":
        return "Measures", f"{measures.title(name)}, training items", False
    group = {"loss": "Losses", "logit": "D on real and on fake pictures", "prob": "D on real and on fake pictures"}
    group |= {"energy": "D on real and on fake pictures", "vital": "Vital signs"}
    title = {"lr": "Learning rate", "images_per_s": "Throughput, images/s"}.get(key, key)
    return (
        group.get(kind, "Training"),
        title.removeprefix("vital/").replace("_", " ") if kind == "vital" else title,
        False,
    )


def _of_run(
    lines: curves.Lines, keys: Sequence[str], key: str, name: str, colour: int, *, with_training: bool
) -> list[page.Line]:
    found = [lines.line(key, name, colour=colour)] if key in keys else []
    beside = "train/" + key.removeprefix("held_out/")
    if with_training and beside in keys:
        found.append(lines.line(beside, f"{name}, training", colour=colour, dashed=True))
    return found


def metrics(runs: Mapping[str, Record]) -> page.Html:
    """scores.json and evaluation.json of all runs, the best value of each measure marked."""
    parts = []
    scores = {name: next(iter(sections.score_rows(run).values()), {}) for name, run in runs.items()}
    keys = list(dict.fromkeys(key for row in scores.values() for key in row))
    if keys:
        rows = [
            {"run": name, **row, "n": runs[name].scores.get("held_out"), "at": runs[name].scores.get("images")}
            for name, row in scores.items()
        ]
        columns = {"run": ""} | {key: measures.head(key) for key in keys} | {"n": "items", "at": "at images"}
        best = {key: way for key in keys if (way := measures.way(key))}
        counts = {row["n"] for row in rows if row["n"] is not None}
        caption = "Held-out items at the end of training" + ("" if len(counts) < 2 else ", of different sets")
        parts.append(page.table(rows, columns, best=best, caption=caption))
    evaluated = {name: values for name, run in runs.items() if (values := _values(run.evaluation))}
    if evaluated:
        keys = list(dict.fromkeys(key for row in evaluated.values() for key in row))
        best = {key: way for key in keys if (way := measures.way(key.rpartition(": ")[2]))}
        columns = {"run": ""} | {key: _evaluated_head(key) for key in keys}
        rows = [{"run": name, **row} for name, row in evaluated.items()]
        parts.append(page.table(rows, columns, best=best, caption="By pygan evaluate"))
    missing = [name for name in runs if not scores[name] and name not in evaluated]
    if missing:
        parts.append(page.note(f"Without scores yet: {', '.join(missing)}."))
    return page.section("Metrics", page.joined(parts))


def _values(facts: Any) -> dict[str, float]:
    """{"fid": 31.2} of evaluation.json; with several ways {"AtoB: fid": 31.2}."""
    ways = facts.get("ways") if isinstance(facts, Mapping) else None
    if not isinstance(ways, Mapping):
        return {}
    found = {}
    for way, one in ways.items():
        scores = one.get("scores") if isinstance(one, Mapping) else None
        for name, score in scores.items() if isinstance(scores, Mapping) else ():
            if isinstance(score, Mapping) and is_number(score.get("value")):
                found[name if len(ways) == 1 else f"{way}: {name}"] = float(score["value"])
    return found


def _evaluated_head(key: str) -> str:
    way, colon, name = key.rpartition(": ")
    return f"{way}{colon}{measures.head(name)}"


def findings(runs: Mapping[str, Record]) -> page.Html:
    """What is wrong with each run."""
    parts = []
    for name, run in runs.items():
        parts.append(page.Html(f"<h3>{page.text(name)}</h3>"))
        parts += [sections.finding(one) for one in run.findings[-20:]]
        if not run.findings:
            parts.append(page.paragraph("Nothing was found wrong." if run.rows else "No rows to look at.", "quiet"))
    return page.section("Findings", page.joined(parts))

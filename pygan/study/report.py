"""What a study leaves for people: a page, a table for other programs, and a few lines at the end of the command."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pygan import page, pictures
from pygan.bootstrap import Interval
from pygan.rundir import read_metrics, write_atomic
from pygan.study import figure, numbers, shots
from pygan.study.answer import AXES, answer, shown
from pygan.study.numbers import METRICS, SETS, Cell
from pygan.study.plan import Plan

PAGE, TABLE, PICTURE = "study.html", "study.csv", "study.png"
QUESTIONS = {
    "skips": "Does a U-Net overfit where an encoder-decoder does not?",
    "lambda": "What does the weight of L1 change?",
    "patch": "How much of the picture should the discriminator see at once?",
}
_STYLE = """
.study-chart { padding: .8rem; margin: .6rem 0; } .study-chart svg { width: 100%; height: auto; display: block; }
.study-charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 1rem; }
.answer li { margin: .35rem 0; } .answer li:first-child { font-size: 1.1rem; font-weight: 600; }
td.heat { background: color-mix(in srgb, var(--c1) var(--heat), transparent); text-align: right; }
"""


def write(plan: Plan, results: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Write the page, the table and the picture of what is done so far. Errors: OSError."""
    write_atomic(folder / TABLE, table(plan, results).encode())
    write_atomic(folder / PAGE, html(plan, results, folder).encode())
    if cells := numbers.cells(plan, results):
        drawn = [marks for _, marks in charts(plan, cells)][1:3]  # against the first variant, and L1
        write_atomic(folder / PICTURE, pictures.to_png(shots.sheet(drawn, cells, folder)))


def summary(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Lines for the end of the command: a number or two of every variant, and the answer."""
    cells, test = numbers.cells(plan, results), plan.test
    wide = max((len(cell.variant.title) for cell in cells), default=0)
    lines = ["", f"{'':{wide}}  L1 training  {SETS[test]:>12}  gap (grey levels)"]
    for cell in cells:
        seen, unseen = (cell.mean(where, "l1").mean for where in ("train", test))
        lines.append(f"{cell.variant.title:{wide}}  {seen:11.2f}  {unseen:12.2f}  {shown(cell.gap('l1', test))}")
    return [*lines, "", *answer(plan, cells), ""]


def table(plan: Plan, results: Mapping[str, Mapping[str, Any]]) -> str:
    """A CSV: a row per variant; means, and the ends of their intervals as _low and _high."""
    rows = [_numbers(plan, cell) for cell in numbers.cells(plan, results)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _numbers(plan: Plan, cell: Cell) -> dict[str, Any]:
    row: dict[str, Any] = {"variant": cell.variant.name, **cell.variant.axes, "networks": len(cell.rows)}
    row |= {"images": cell.rows[0]["images"], "parameters": cell.rows[0]["parameters"]}
    found: dict[str, Interval] = {}
    for metric in METRICS:
        for where in SETS:
            if cell.has(where, metric):
                found[f"{where}_{metric}"] = cell.mean(where, metric)
        for where in ("held_out", "other"):
            if cell.has(where, metric) and cell.has("train", metric):
                found[f"gap_{where}_{metric}"] = cell.gap(metric, where)
    for skip in cell.kept:
        for what in ("output", "error"):
            found[f"without_skip_{skip}_{what}"] = numbers.interval(cell.carried(skip, what))
    for what in ("output", "own", "target"):
        found[f"nearest_{what}"] = numbers.interval(cell.near(what))
    nearer, chance = cell.memory()
    for name, value in found.items():
        row |= {name: f"{value.mean:.5g}", f"{name}_low": f"{value.low:.5g}", f"{name}_high": f"{value.high:.5g}"}
    row |= {"nearer_to_a_training_picture": f"{cell.copies():.4g}", "nearer_than_to_others": f"{nearer:.5g}"}
    return row | {"chance_of_that": f"{chance:.4g}"}


def charts(plan: Plan, cells: Sequence[Cell]) -> list[tuple[str, list[figure.Mark]]]:
    """The charts of a study, each with a sentence that says what it shows."""
    axis, test, found = AXES[plan.kind], plan.test, []
    for shared, group in numbers.groups(cells, axis):
        places = [cell.variant.axes[axis] for cell in group]
        where = "".join(f", {name} {place}" for name, place in shared.items())
        gaps = [figure.Series("gap", [cell.gap("l1", test) for cell in group])]
        marks = figure.layout(f"Generalisation gap{where}", f"grey levels, by {axis}", places, gaps)
        found.append((f"{SETS[test]} minus training L1 of each variant{where}", marks))
        first, wide = group[0].variant.title, [numbers.difference_of_gaps(cell, group[0], "l1", test) for cell in group]
        marks = figure.layout(
            f"Gap against {first}", f"grey levels, by {axis}", places, [figure.Series("wider by", wide)]
        )
        found.append((f"by how much the gap is wider than with {first}, on the same pictures{where}", marks))
        for metric in ("l1", "ssim", "lpips"):
            sets = [name for name in SETS if all(cell.has(name, metric) for cell in group)]
            if not sets:
                continue
            series = [figure.Series(SETS[name], [cell.mean(name, metric) for cell in group]) for name in sets]
            unit = "grey levels, " if metric == "l1" else ""
            marks = figure.layout(f"{METRICS[metric][0]}{where}", f"{unit}by {axis}", places, series)
            found.append((f"{METRICS[metric][0]} of each variant{where}", marks))
    return found


def html(plan: Plan, results: Mapping[str, Mapping[str, Any]], folder: Path) -> str:
    """The page of the study that lies in `folder`."""
    cells = numbers.cells(plan, results)
    units, lost = plan.units, [row for row in results.values() if "diverged" in row]
    state = f"{len(results)} of {len(units)} trainings are done." if len(results) < len(units) else ""
    body = [page.section("Answer", _answer(plan, cells, state, lost))]
    if cells:
        drawn = [figure.svg(marks, said) for said, marks in charts(plan, cells)]
        body.append(page.section("Figure", page.Html(f'<div class="study-charts">{"".join(drawn)}</div>')))
        body.append(page.section("Variants", _variants(plan, cells)))
        if any(len(cell.kept) for cell in cells):
            body.append(page.section("What each skip carries", _skips(cells)))
        body.append(page.section("The same pictures by each", shots.same_inputs(cells, folder)))
        body.append(page.section("Nearest training pictures", shots.nearest(cells, folder)))
        if curves := _curves(cells, folder):
            body.append(page.section("While training", curves))
        body.append(page.section("Findings", _findings(cells)))
    body.append(page.section("How it was done", _how(plan, folder)))
    return page.html(f"Study: {plan.kind}", "".join(body), lead=QUESTIONS[plan.kind], styles=[_STYLE, shots.STYLE])


def _answer(plan: Plan, cells: Sequence[Cell], state: str, lost: Sequence[Mapping[str, Any]]) -> str:
    lines = answer(plan, cells)
    parts = [page.note(state, "warn")] if state else []
    parts += [page.note(f"{row['variant']} (seed {row['seed']}) diverged: {row['diverged']}", "bad") for row in lost]
    if not lines:
        return page.joined([*parts, page.paragraph("At least two variants must be done.")])
    items = "".join(f"<li>{page.text(line)}</li>" for line in lines)
    return page.joined([*parts, page.Html(f'<ul class="answer">{items}</ul>')])


def _variants(plan: Plan, cells: Sequence[Cell]) -> str:
    sets = [name for name in SETS if any(cell.has(name, "l1") for cell in cells)]
    columns = {"variant": "variant", "parameters": "G, weights"}
    lacking = []  # LPIPS, where its network is not there
    for metric, (heading, _, _) in METRICS.items():
        if not any(cell.has(where, metric) for cell in cells for where in sets):
            lacking.append(heading)
            continue
        columns |= {f"{where} {metric}": f"{heading}, {SETS[where]}" for where in sets}
        columns |= {f"gap {metric}": f"{heading}, gap"} if metric in ("l1", "ssim", "lpips") else {}
    columns |= {"against": f"L1 gap against {cells[0].variant.title}"}
    rows = []
    for cell in cells:
        row: dict[str, Any] = {"variant": cell.variant.title, "parameters": cell.rows[0]["parameters"]}
        for metric, (_, digits, _) in METRICS.items():
            for where in sets:
                if cell.has(where, metric):
                    row[f"{where} {metric}"] = round(cell.mean(where, metric).mean, digits)
            if cell.has(plan.test, metric) and cell.has("train", metric):
                row[f"gap {metric}"] = _whole(shown(cell.gap(metric, plan.test), digits))
        row["against"] = _whole(shown(numbers.difference_of_gaps(cell, cells[0], "l1", plan.test)))
        rows.append(row)
    best = {
        f"{where} {metric}": "low" if less else "high"
        for metric, (_, _, less) in METRICS.items()
        for where in sets
        if metric != "input_edges"
    }
    words = (
        "L1 in grey levels of 255. A gap is what a network is worse on pictures that it was not trained on, with its "
        "95 % interval. Edges: correlation of gradients with the target's; of the input: with the input's."
    )
    words += f" Not measured: {', '.join(lacking)}." if lacking else ""
    return page.joined([page.table(rows, columns, best=best), page.paragraph(words, "quiet")])


def _whole(words: str) -> str:
    """The words on one line."""
    return words.replace(" ", "\N{NO-BREAK SPACE}")


def _skips(cells: Sequence[Cell]) -> str:
    """How much the output changes, and the error grows, when one skip is zeroed at test: a heat map of each."""
    every = sorted({skip for cell in cells for skip in cell.kept})
    parts = []
    for what, title in (("output", "Change of the output"), ("error", "Growth of the error")):
        means = {(cell.variant.name, skip): cell.carried(skip, what).mean() for cell in cells for skip in cell.kept}
        most = max(abs(value) for value in means.values()) or 1.0
        lines = []
        for cell in cells:
            if not cell.kept:
                continue
            line = [f"<td>{page.text(cell.variant.title)}</td>"]
            for skip in every:
                value = means.get((cell.variant.name, skip))
                line.append(
                    "<td></td>" if value is None
                    else f'<td class="heat" style="--heat:{70 * abs(value) / most:.0f}%">{value:.2f}</td>'
                )  # fmt: skip
            lines.append(f"<tr>{''.join(line)}</tr>")
        head = "".join(f'<th scope="col" class="n">skip {skip}</th>' for skip in every)
        caption = f"{title}, grey levels, when a skip is zeroed in use; held-out pictures"
        parts.append(
            f'<div class="scroll" tabindex="0" role="group" aria-label="{title}"><table><caption>{caption}</caption>'
            f'<thead><tr><th scope="col">variant</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
        )
    parts.append(page.paragraph("Skip 1 is the innermost, of the smallest map.", "quiet"))
    return page.Html("".join(parts))


def _curves(cells: Sequence[Cell], folder: Path) -> str:
    """The gap as it grew: L1 of held-out and of training pictures at each evaluation, where the runs have them."""
    lines, gaps = [], []
    for number, cell in enumerate(cells):
        rows = read_metrics(folder / "variants" / cell.rows[0]["unit"])
        rows = [row for row in rows if "held_out/l1" in row and "train/l1" in row]
        if not rows:
            continue
        images = [row["images"] for row in rows]
        seen, unseen = ([row[f"{where}/l1"] for row in rows] for where in ("train", "held_out"))
        lines.append(page.Line(f"{cell.variant.title}, held out", images, unseen, number))
        lines.append(page.Line(f"{cell.variant.title}, training", images, seen, number, True))
        gaps.append(page.Line(cell.variant.title, images, [b - a for a, b in zip(seen, unseen, strict=True)], number))
    if not lines:
        return ""
    return page.charts([page.curves("Gap", gaps, unit="L1, grey levels"), page.curves("L1", lines, unit="grey levels")])


def _findings(cells: Sequence[Cell]) -> str:
    rows = [
        {"variant": cell.variant.title, "seed": row["seed"], "finding": line or name}
        for cell in cells
        for row in cell.rows
        for name, line in row.get("findings", [])
    ]
    losses = [
        {"variant": cell.variant.title, "seed": row["seed"], **row.get("losses", {})}
        for cell in cells
        for row in cell.rows
    ]
    names = list(dict.fromkeys(name for row in losses for name in row))
    found = (
        page.table(rows, ("variant", "seed", "finding")) if rows else page.paragraph("Nothing went wrong in training.")
    )
    return page.joined([found, page.table(losses, names, caption="The last row of each training")])


def _how(plan: Plan, folder: Path) -> str:
    asked = {name: value for name, value in plan.asked.items() if value not in ("", 0, 0.0, [])}
    rows = [{"option": name, "value": str(value)} for name, value in asked.items()]
    fields = [{"option": name, "value": page.number(value)} for name, value in plan.fields.items()]
    words = (
        "Every variant is trained on the same pictures in the same order, from the same seed, for as many images; "
        "nothing but what its name says differs. Pictures are measured whole, at the end of training."
    )
    command = page.code(f"pygan study {plan.kind} --out {folder}")
    recipe = page.details("The recipe that all variants share", page.table(fields, ("option", "value")))
    return page.joined([page.paragraph(words), page.table(rows, ("option", "value")), recipe, command])

"""Measures whole steps beside plain PyTorch, and writes README's tables: `python -m benchmarks.table`.

    python -m benchmarks.table                      every case for this device, then README
    python -m benchmarks.table --cases p1,c1        only these; --ways eager,pygan only these ways; --quick fewer rounds
    python -m benchmarks.table --write-only         README from the rows that are there
    python -m benchmarks.table --check              only says whether README is up to date (exit code 1 if not)

`side_by_side.py` says how it is measured, and that losses are compared first. Rows are added to results/table.jsonl as
soon as a case is done. A table of README stands between `<!-- table: NAME -->` and `<!-- end -->`; figures are never
typed by hand. Of every case and device the newest run counts, all its ways together.
"""

import argparse
import itertools
import json
import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
OURS, OURS_FLOAT32 = "pygan", "pygan float32"


def rows(name):
    """All rows of results/<name>.jsonl, oldest first."""
    path = HERE / "results" / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def usable(row):
    """Has this row a figure that may be shown?"""
    return "ms" in row and not row["reason"]


def step_table(found=None):
    """One training step, all ways side by side: a table per device."""
    newest = {}
    for row in rows("table") if found is None else found:
        runs = newest.setdefault(row["device"], {})
        if row["case"] not in runs or runs[row["case"]][0]["run"] != row["run"]:
            runs[row["case"]] = []
        runs[row["case"]].append(row)
    if not newest:
        return ["not yet run"]
    lines = []
    for device, runs in newest.items():
        lines += ["", *_device_table(device, runs)] if lines else _device_table(device, runs)
    return lines


def _device_table(device, runs):
    by_case = {case: {row["way"]: row for row in found} for case, found in runs.items()}
    every = [row for found in runs.values() for row in found]
    ways = list(dict.fromkeys(row["way"] for row in every if usable(row)))
    head = ["case", "GAN, pixels, width, batch", *ways, "images/s", "against eager", "against the best"]
    head += ["of the floor", "GiB, of the best", "losses off", "date, commit"]
    body = [[case, *_case_cells(found, ways)] for case, found in by_case.items()]
    shown = [any(cells[column] for cells in body) for column in range(len(head))]
    lines = [f"{device}, torch {every[-1]['torch']}; ms per step:", ""]
    lines += [_line(itertools.compress(cells, shown)) for cells in (head, *body)]
    lines.insert(3, "|" + "---|" * sum(shown))
    titles = {row["way"]: row["title"] for row in every}
    lines += ["", "; ".join(f"{way}: {titles[way]}" for way in ways) + "."]
    reasons = {}
    for row in every:
        if row["reason"]:
            reasons.setdefault(row["reason"], {}).setdefault(row["way"], []).append(row["case"])
    for reason, where in reasons.items():
        named = "; ".join(f"{way} ({', '.join(found)})" for way, found in where.items())
        lines += ["", f"No figure for {named}: {reason}."]
    return lines


def _case_cells(found, ways):
    """What follows the name of the case; the columns behind the times are those of pygan."""
    any_row = next(iter(found.values()))
    shape = f"{any_row['gan']}, {any_row['size']}, {any_row['width']}, {any_row['batch']}"
    times = [_number(found[way]["ms"]) if way in found and usable(found[way]) else "–" for way in ways]
    when = f"{any_row['date']}, {any_row['commit']}"
    ours = next((found[way] for way in (OURS, OURS_FLOAT32) if way in found and usable(found[way])), None)
    if ours is None:
        return [shape, *times, "", "", "", "", "", "", when]
    others = [row for way, row in found.items() if usable(row) and not way.startswith("pygan")]
    best = min(others, key=lambda row: row["ms"], default=None)
    against = {row["way"]: f"{ours['faster_than'][row['way']]:.2f}x" for row in others}
    gib = [f"{row['peak_gib']:.1f}" for row in (ours, best) if row and row["peak_gib"] is not None]
    return [
        shape,
        *times,
        _number(ours["images_per_s"]),
        against.get("eager", ""),
        f"{against[best['way']]} ({best['way']})" if best else "",
        "" if ours["share_of_floor"] is None else f"{100 * ours['share_of_floor']:.0f} %",
        ", ".join(gib),
        f"{100 * ours['losses_off']:.0f} % of what is allowed",
        when,
    ]


def _number(value):
    """Three digits, and never an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells):
    return "| " + " | ".join(cells) + " |"


def demo_table():
    """What the bare command reached."""
    newest = {row["device"]: row for row in rows("demo")}
    lines = [
        "| device | minutes | system | L1 (grey levels) | PSNR (dB) | SSIM | edges (correlation) | date, commit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for device, row in newest.items():
        for system, scores in row["scores"].items():
            values = " | ".join(f"{scores[key]:.3f}" for key in ("l1", "psnr", "ssim", "gradient_correlation"))
            lines.append(f"| {device} | {row['minutes']:.1f} | {system} | {values} | {row['date']}, {row['commit']} |")
    return lines


def headline_table(found=None):
    """The whole run of the paper: how long, and as good as the plain one?"""
    newest = {}
    for row in rows("headline") if found is None else found:
        newest[row["kind"], row["device"]] = row
    timed = [row for (kind, _), row in newest.items() if kind == "timed"]
    quality = [row for (kind, _), row in newest.items() if kind == "quality"]
    lines = ["not yet run"]
    if timed:
        head = ["device", "steps", "pairs, pixels", "seconds", "images/s", "held-out L1", "SSIM", "date, commit"]
        lines = [_line(head), "|" + "---|" * len(head)]
    for row in timed:
        cells = [row["device"], f"{row['steps']:,}", f"{row['pairs']}, {row['size']}", f"{row['seconds']:.1f}"]
        cells += [_number(row["images_per_s"]), f"{row['l1']:.3f}", f"{row['ssim']:.3f}"]
        lines.append(_line([*cells, f"{row['date']}, {row['commit']}"]))
    if not quality:
        return [*lines, "", "As good as plain PyTorch? Not yet run."] if timed else lines
    head = ["device", "steps, seeds each", "held-out", "pygan --amp", "plain PyTorch, float32", "difference"]
    head += ["verdict", "date, commit"]
    lines += ["", _line(head), "|" + "---|" * len(head)]
    for row in quality:
        for measure, title in (("l1", "L1 (grey levels)"), ("ssim", "SSIM")):
            q = row[measure]
            sides = [f"{q[who]['mean']:.3f} ± {q[who]['deviation']:.3f}" for who in ("pygan", "plain")]
            error = "" if q["standard_error"] is None else f" ± {q['standard_error']:.3f}"
            cells = [row["device"], f"{row['steps']:,}, {row['seeds']}", title, *sides]
            cells += [f"{q['difference']:+.3f}{error}", q["verdict"], f"{row['date']}, {row['commit']}"]
            lines.append(_line(cells))
    return lines


def learning_table(found=None):
    """Each GAN's own yardstick, of its first checkpoint and of its last."""
    newest = {}
    for row in rows("learning") if found is None else found:
        newest[row["gan"], row["yardstick"]] = row
    if not newest:
        return ["not yet run"]
    head = ["GAN", "yardstick", "after ten steps", "at the end", "must be", "held", "minutes", "classifier", "device"]
    head += ["date, commit"]
    lines = [_line(head), "|" + "---|" * len(head)]
    for row in newest.values():
        accuracy = row["classifier_accuracy"]
        ends = (f"{row[end]:.3g} ({row[f'{end}_images']:,} images)" for end in ("first", "last"))
        cells = [row["gan"], row["yardstick"], *ends, row["margin"], "yes" if row["held"] else "no"]
        cells += [f"{row['minutes']:.1f}", "" if accuracy is None else f"{100 * accuracy:.1f} % right", row["device"]]
        lines.append(_line([*cells, f"{row['date']}, {row['commit']}"]))
    return lines


def study_table(found=None):
    """The overfitting lab: every variant of the newest study, and its answer in words."""
    every = rows("study") if found is None else found
    if not every:
        return ["not yet run"]
    newest = [row for row in every if row["run"] == every[-1]["run"]]
    variants, said = newest[:-1], newest[-1]
    head = ["variant", "G, weights", "training L1", "held-out L1", "gap", f"gap against {variants[0]['variant']}"]
    head += ["training SSIM", "held-out SSIM", "edges of the input", "nearer to a training picture", "carries most"]
    lines = [_line(head), "|" + "---|" * len(head)]
    for row in variants:
        cells = [row["variant"], f"{row['parameters']:,}", f"{row['train_l1']:.2f}", f"{row['held_out_l1']:.2f}"]
        cells += [_interval(row["gap"]), _interval(row["against"])]
        cells += [f"{row[name]:.3f}" for name in ("train_ssim", "held_out_ssim", "input_edges")]
        skip, change = row["most"] or ("", 0.0)
        lines.append(_line([*cells, f"{100 * row['copies']:.0f} %", f"skip {skip}: {change:.1f}" if skip else ""]))
    what = "of the last session" if said["resumed"] else "for all"
    where = f"{said['device']}, {said['minutes']:.1f} minutes {what}, {said['date']}, {said['commit']}"
    return [*lines, "", *(f"- {line}" for line in said["answer"]), "", f"({where}; L1 in grey levels.)"]


def diagnosis_table(found=None):
    """What the diagnosis of a training costs: a row of metrics with it and without, the newest of each case."""
    every = rows("bench_diagnosis") if found is None else found
    newest = {(row["device"], row["case"]): row for row in every if "share_of_2_s" in row}
    if not newest:
        return ["not yet run"]
    head = ["device", "case", "a row without, ms", "with, ms", "of the 2 s between rows", "losses", "date, commit"]
    lines = [_line(head), "|" + "---|" * len(head)]
    for (device, case), row in newest.items():
        cells = [device, f"{case} ({row['gan']}, {row['size']} pixels, width {row['width']}, batch {row['batch']})"]
        cells += [f"{row['ms_without']:.2f}", f"{row['ms_with']:.2f}", f"{100 * row['share_of_2_s']:.2f} %"]
        lines.append(_line([*cells, row["losses"], f"{row['date']}, {row['commit']}"]))
    return lines


def serving_table(found=None):
    """`pygan serve` beside the plain way, over HTTP."""
    from benchmarks import serving

    return serving.table(rows("serving") if found is None else found)


def tiles_table(found=None):
    """A picture in tiles beside the whole one: the newest row of each network."""
    every = rows("bench_tiles") if found is None else found
    newest = {(row["device"], row["case"]): row for row in every if "difference_grey_levels" in row}
    if not newest:
        return ["not yet run"]
    head = ["device", "network", "difference, grey levels", "plan", "megapixels/s (whole)", "MiB more (whole)"]
    lines = [_line([*head, "date, commit"]), "|" + "---|" * (len(head) + 1)]
    for (device, case), row in newest.items():
        cells = [device, f"{case}, {row['size']} pixels", f"{row['difference_grey_levels']:.4f}", row["plan"]]
        cells += [f"{row['megapixels_per_s']:.3f} ({row['whole_megapixels_per_s']:.3f})"]
        cells += [f"{row['peak_mib']} ({row['whole_peak_mib']})", f"{row['date']}, {row['commit']}"]
        lines.append(_line(cells))
    return lines


def plan_table(found=None):
    """What `pygan plan` said beside what training needed: the newest row of each case."""
    every = rows("plan") if found is None else found
    newest = {(row["device"], row["case"]): row for row in every}
    if not newest:
        return ["not yet run"]
    head = ["device", "training", "memory, MiB: said, was", "off", "a step, ms: said, was", "off", "date, commit"]
    lines = [_line(head), "|" + "---|" * len(head)]
    for (device, case), row in newest.items():
        cells = [
            device,
            case,
            f"{row['predicted_mib']:.0f}, {row['peak_mib']:.0f}",
            f"{100 * row['memory_off']:+.1f} %",
        ]
        cells += [f"{1000 * row['predicted_step_s']:.1f}, {1000 * row['step_s']:.1f}"]
        busy = f" (busy; computing {100 * row['cpu_off']:+.1f} %)" if row["busy"] else ""
        cells += [f"{100 * row['step_off']:+.1f} %{busy}", f"{row['date']}, {row['commit']}"]
        lines.append(_line(cells))
    return lines


def hostile_table(found=None):
    """What hostile files and requests did."""
    from benchmarks import hostile

    return hostile.table(rows("hostile") if found is None else found)


def export_table(found=None):
    """ONNX files beside the networks that they were made from."""
    from benchmarks import export

    return export.table(rows("export") if found is None else found)


def _interval(value):
    mean, low, high = value
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


TABLES = {
    "step": step_table,
    "demo": demo_table,
    "headline": headline_table,
    "learning": learning_table,
    "study": study_table,
    "diagnosis": diagnosis_table,
    "serving": serving_table,
    "hostile": hostile_table,
    "export": export_table,
    "tiles": tiles_table,
    "plan": plan_table,
}


def filled(text):
    """The README with every table written anew."""

    def fill(match):
        return f"{match[1]}\n" + "\n".join(TABLES[match[2]]()) + f"\n{match[3]}"

    return re.sub(r"(<!-- table: (\w+) -->)\n.*?(<!-- end -->)", fill, text, flags=re.DOTALL)


def measure(names, ways, quick):
    """Run cases, and record their rows as soon as each is done."""
    from benchmarks import cases, floor, record, side_by_side, timing

    names = names or cases.DEFAULT_CASES[timing.DEVICE]
    ways = ways or cases.DEFAULT_WAYS[timing.DEVICE]
    if unknown := [name for name in names if name not in cases.CASES]:
        raise SystemExit(f"unknown case {unknown[0]}: choose from {', '.join(cases.CASES)}")
    if unknown := [way for way in ways if way not in cases.WAYS]:
        raise SystemExit(f"unknown way {unknown[0]!r}: choose from {', '.join(cases.WAYS)}")
    began = time.monotonic()

    def say(text):
        print(f"[{time.monotonic() - began:4.0f} s] {text}", flush=True)

    if timing.DEVICE == "cuda":
        say("torch.compile, ahead of measuring")
        side_by_side.compile_ahead(names, ways)
    rates = floor.measured_rates() if timing.DEVICE == "cuda" else None
    rounds = side_by_side.QUICK_ROUNDS if quick else side_by_side.ROUNDS
    for name in names:
        found = side_by_side.measure(name, ways, timing.DEVICE, rounds=rounds, rates=rates)
        record.append("table", found)
        for row in found:
            figures = f"{row['ms']:9.3f} ms {row['images_per_s']:9.1f} images/s" if "ms" in row else ""
            peak = f" {row['peak_gib']:7.2f} GiB" if row.get("peak_gib") is not None else ""
            losses = f"  losses {row['losses_off']:.2f} of what is allowed" if "losses_off" in row else ""
            say(f"{name:8} {row['way']:14} {figures}{peak}{losses} {row['reason']}".rstrip())
        if "floor_ms" in found[0]:
            say(f"{name:8} floor          {found[0]['floor_ms']:9.3f} ms")


def main(argv=None):
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether README is up to date")
    parser.add_argument("--write-only", action="store_true", help="write README from the rows that are there")
    parser.add_argument("--cases", type=_list, default=[], metavar="A,B", help="these cases (default: the device's)")
    parser.add_argument("--ways", type=_list, default=[], metavar="A,B", help="these ways (default: the device's)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    args = parser.parse_args(argv)
    if not (args.check or args.write_only):
        measure(args.cases, args.ways, args.quick)
    text = README.read_text()
    new = filled(text)
    if args.check:
        update = "python -m benchmarks.table --write-only"
        print("README is up to date" if new == text else f"README is not up to date: run {update}")
        return int(new != text)
    README.write_text(new)
    return 0


def _list(text):
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    sys.exit(main())

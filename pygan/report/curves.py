"""The rows of a run as charts: which lines belong together, and what they say about overfitting."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pygan import page
from pygan.report import measures
from pygan.report.record import Record, is_number

_BUDGET = 4_500_000  # bytes of all numbers of a page
_BYTES = 5.4  # of a number in base64
_MOST_MARKS = 40  # findings that charts point at
_COLOURS = {"real": 2, "fake": 1, "wrong": 4}  # D's view keeps its colours, whatever a GAN logs
_KINDS = {
    "logit": ("D's logits", "Before the sigmoid: above 0 D says real. Far apart: D wins; both near 0: D cannot tell."),
    "prob": ("D's probabilities", "Near 1 D says real. At 0.5 for both it cannot tell."),
    "energy": ("D's energies", "An autoencoder's error: what looks real to D has a low one."),
}
_WHOSE = {"G": 0, "D": 1, "real": 2, "fake": 1, "input": 7, "chance": 7}
_OF_FAKES = ("saturation", "contrast", "checkerboard_2", "checkerboard_4")  # have a _real beside them
_SIGNS = {
    "grad": ("Gradients", "RMS over a net"),
    "grad_first_to_last": ("Gradients, first layer to last", "ratio"),
    "saturation": ("Saturation", "share of values near black or white"),
    "contrast": ("Contrast", "grey levels"),
    "checkerboard_2": ("Checkerboard of 2 pixels", "grey levels"),
    "checkerboard_4": ("Checkerboard of 4 pixels", "grey levels"),
    "colour": ("Colours like the target's", "correlation"),
    "colour_input": ("Brightness like the input's", "correlation"),
    "diversity": ("Diversity", "distance between pictures, grey levels"),
}
_RESERVED = ("images", "steps", "epoch", "lr", "images_per_s")

Axes = dict[str, list[float]]


def section(record: Record) -> page.Html:
    """All charts of a run."""
    rows = record.rows
    if not rows:
        return page.section("Curves", page.note("The run has no metrics row yet."))
    keys = columns(rows)
    most = points(len(rows), len(keys))
    draw = Lines(record, most)
    parts = [*_losses(draw, keys), *_judged(draw, keys), *_balance(draw, keys), *_overfitting(draw, keys)]
    parts += _vitals(draw, keys)
    parts += _rest(draw, keys)
    lead = f"{len(rows):,} rows, over images seen."
    if len(rows) > most:
        lead += f" Of each curve about {most:,} points are drawn, the least and greatest of every stretch among them."
    return page.section("Curves", page.charts(parts), lead=lead)


def points(rows: int, lines: int) -> int:
    """How many points of a line fit into a page: all, unless a run is very long or logs very much."""
    if rows * (lines + 3) * _BYTES <= _BUDGET and rows <= page.MOST:
        return page.MOST
    return max(100, min(page.MOST, int(_BUDGET / max(1, lines) / (4 * _BYTES))))


def epochs(rows: Sequence[dict[str, Any]]) -> list[float] | None:
    """Where each row is in epochs, with fractions, from the numbers of the epochs; None if they do not tell.

    Between the first rows of two epochs the images count; a phase that begins at epoch 1 again goes on from the last.
    """
    known = [(row["images"], row["epoch"]) for row in rows if isinstance(row.get("epoch"), int)]
    images, at, base, before = [0.0], [0.0], 0, 1
    for seen, epoch in known:
        if epoch < before:
            base += before
        if epoch != before:
            images.append(float(seen))
            at.append(float(base + epoch - 1))
            before = epoch
    if len(at) < 2 or (np.diff(images) <= 0).any():
        return None
    slope = (at[-1] - at[0]) / (images[-1] - images[0])
    end = float(max(row["images"] for row in rows))
    last = at[-1] + slope * (end - images[-1])
    return np.interp([row["images"] for row in rows], [*images, end + 1e-9], [*at, last]).round(4).tolist()


def gap(held: Sequence[tuple[int, float]], train: Sequence[tuple[int, float]], way: str) -> str:
    """Does it overfit? In words, from (images seen, value) of held-out and of training items; "" without both.

    way: "low" or "high", whichever is better; "": not known.
    """
    train_at = dict(train)
    both = [(at, value, train_at[at]) for at, value in held if at in train_at]
    both = [row for row in both if math.isfinite(row[1]) and math.isfinite(row[2])]
    if not both:
        return ""
    at, now, seen = both[-1]
    words = f"At {at:,} images: {page.number(now, 4)} on held-out items, {page.number(seen, 4)} on training items"
    sign = {"low": 1, "high": -1}.get(way)
    if sign is None or not seen:
        return words + "."

    def worse(held_value: float, train_value: float) -> float:
        return sign * (held_value - train_value) / abs(train_value) if train_value else math.nan

    percent = 100 * worse(now, seen)
    words += f": held-out ones are {abs(percent):.0f}% {'worse' if percent >= 0 else 'better'}"
    first = both[0]
    if len(both) > 1 and math.isfinite(before := 100 * worse(first[1], first[2])):
        words += f" ({abs(before):.0f}% {'worse' if before >= 0 else 'better'} at {first[0]:,})"
    best = min(both, key=lambda row: sign * row[1])
    lost = 100 * sign * (now - best[1]) / abs(best[1]) if best[1] else 0.0
    if lost > 3 and sign * (seen - best[2]) < 0:
        return (
            f"{words}. It overfits: held-out items were best ({page.number(best[1], 4)}) at {best[0]:,} images, and "
            f"got {lost:.0f}% worse since, while training items got better."
        )
    if percent > 10:
        return f"{words}. Training items are remembered in part, but held-out ones did not get worse by it so far."
    return f"{words}. No sign of overfitting."


class Lines:
    """Lines of a record over its axes (images, epochs, steps), of at most about `most` points."""

    def __init__(self, record: Record, most: int) -> None:
        self.record, self.most = record, most
        self._epochs = epochs(record.rows)
        steps = all(isinstance(row.get("steps"), int) for row in record.rows)
        self.axes = ["images", *(["epochs"] if self._epochs else []), *(["steps"] if steps else [])]
        self.marks = self._marks()

    def line(self, key: str, name: str = "", **options: Any) -> page.Line:
        """One column of the rows that have it."""
        at = [i for i, row in enumerate(self.record.rows) if is_number(row.get(key))]
        rows = [self.record.rows[i] for i in at]
        x: Axes = {"images": [row["images"] for row in rows]}
        if "epochs" in self.axes:
            x["epochs"] = [self._epochs[i] for i in at]
        if "steps" in self.axes:
            x["steps"] = [row["steps"] for row in rows]
        return page.Line(name or key, x, [row[key] for row in rows], **options)

    def chart(self, title: str, lines: Sequence[page.Line], **options: Any) -> page.Html:
        return page.curves(title, lines, most=self.most, marks=self.marks, **options)

    def _marks(self) -> list[tuple[dict[str, float], str]]:
        """Where findings begin, on every axis."""
        rows, marks = self.record.rows, []
        images = [row["images"] for row in rows]
        for finding in self.record.findings[:_MOST_MARKS]:
            since = finding.get("since_images", finding.get("images"))
            if not is_number(since) or not math.isfinite(since):
                continue
            place = {"images": float(since)}
            if "epochs" in self.axes:
                place["epochs"] = float(np.interp(since, images, self._epochs))
            if "steps" in self.axes:
                place["steps"] = float(np.interp(since, images, [row["steps"] for row in rows]))
            marks.append((place, str(finding.get("name", "finding")).replace("_", " ")))
        return marks


def columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Every column with numbers in it, in the order of its first appearance."""
    found: dict[str, None] = {}
    for row in rows:
        for key, value in row.items():
            if key not in found and is_number(value):
                found[key] = None
    return [key for key in found if key not in ("images", "steps", "epoch")]


def _losses(draw: Lines, keys: Sequence[str]) -> list[page.Html]:
    losses = [key for key in keys if key.startswith("loss/")]
    if not losses:
        return []
    groups: dict[str, list[str]] = {"Losses": [], "Parts of G's loss": [], "Parts of D's loss": [], "Other terms": []}
    for key in losses:
        name = key.removeprefix("loss/")
        whose = name.partition("_")[0]
        title = {"G": "Parts of G's loss", "D": "Parts of D's loss"}.get(whose, "Other terms")
        groups["Losses" if name in ("G", "D") else title].append(key)
    return [
        page.heading(
            "Losses", "A GAN's losses need not fall: each net's depends on the other. They should not run away."
        ),
        *(draw.chart(title, [draw.line(key) for key in named]) for title, named in groups.items() if named),
    ]


def _judged(draw: Lines, keys: Sequence[str]) -> list[page.Html]:
    """What D says of real and of fake pictures."""
    parts = []
    for kind, (title, note) in _KINDS.items():
        found = [key for key in keys if key.startswith(kind + "/")]
        if found:
            lines = []
            for key in found:
                what, _, whose = key.removeprefix(kind + "/").partition("_")
                lines.append(draw.line(key, colour=_COLOURS.get(what, 5 + len(lines)), dashed=whose == "B"))
            parts.append(draw.chart(title, lines, note=note))
    return [page.heading("D on real and on fake pictures"), *parts] if parts else []


def _balance(draw: Lines, keys: Sequence[str]) -> list[page.Html]:
    """BEGAN's two own quantities."""
    notes = {
        "M": ("M, the measure of convergence", "Lower is better; it falls as long as the run gets better."),
        "k": ("k, the balance", "How much D minds G's pictures, from 0 to 1. At 0 for long: G has not got anywhere."),
    }
    parts = [draw.chart(title, [draw.line(key)], note=note) for key, (title, note) in notes.items() if key in keys]
    return [page.heading("Balance of G and D"), *parts] if parts else []


def _overfitting(draw: Lines, keys: Sequence[str]) -> list[page.Html]:
    """Every measure of held-out and of training items in one chart."""
    held = [key.removeprefix("held_out/") for key in keys if key.startswith("held_out/")]
    names = held + [n for key in keys if key.startswith("train/") and (n := key.removeprefix("train/")) not in held]
    if not names:
        return []
    parts = []
    for place, name in enumerate(names):
        lines, values = [], []
        for prefix, label, colour in (("held_out/", "held-out items", 0), ("train/", "training items", 1)):
            key = prefix + name
            values.append([(row["images"], float(row[key])) for row in draw.record.rows if is_number(row.get(key))])
            if values[-1]:
                lines.append(draw.line(key, label, colour=colour, dashed=prefix == "train/"))
        # The first measure of a GAN is the yardstick of checkpoints/best, of which lower is better.
        way = measures.way(name) or ("low" if place == 0 else "")
        words = gap(*values, way)
        arrow = {"low": "lower is better", "high": "higher is better", "": ""}[way]
        parts.append(draw.chart(measures.title(name), lines, note=words, unit=arrow))
    return [
        page.heading("Does it overfit?", "The same measure of items it never saw and of items it learns from."),
        *parts,
    ]


def _vitals(draw: Lines, keys: Sequence[str]) -> list[page.Html]:
    """One chart for each sign: of both nets, of fake and real pictures; of the second way of a GAN dashed."""
    groups: dict[str, list[page.Line]] = {}
    for key in keys:
        if key.startswith("vital/"):
            name = key.removeprefix("vital/")
            kind, whose, back = sign(name)
            colour = _WHOSE.get(whose, 0)
            label = f"{whose or kind.replace('_', ' ')}{' (back)' if back else ''}"
            groups.setdefault(kind, []).append(draw.line(key, label, colour=colour, dashed=back))
    if not groups:
        return []
    parts = []
    for kind, lines in groups.items():
        title, unit = _SIGNS.get(kind, (kind.replace("_", " "), ""))
        parts.append(draw.chart(title, lines, unit=unit))
    return [page.heading("Vital signs", "What the findings are drawn from."), *parts]


def sign(name: str) -> tuple[str, str, bool]:
    """What a key measures, of whom, and whether of the way back: checkerboard_2_real_A -> checkerboard_2, real, True.

    Gradients are of nets, whose names end in letters too: grad_G_first_to_last -> grad_first_to_last, G, False.
    """
    if match := re.fullmatch(r"grad_(.+?)(_first_to_last)?", name):
        return f"grad{match[2] or ''}", match[1], False
    back = name.endswith("_A")
    name = name.removesuffix("_A")
    if name in ("colour_input", "colour_chance"):  # of fakes, and of real pictures that have nothing to do with them
        return "colour_input", "chance" if name.endswith("chance") else "fake", back
    for whose in ("real", "fake", "input"):
        if name.endswith("_" + whose):
            return name.removesuffix("_" + whose), whose, back
    return name, "fake" if name in _OF_FAKES else "", back


def _rest(draw: Lines, keys: Sequence[str]) -> list[page.Html]:
    """Learning rate, throughput, and what no group above knows."""
    parts = []
    if "lr" in keys:
        parts.append(draw.chart("Learning rate", [draw.line("lr")]))
    if "images_per_s" in keys:
        note = "Mean of each session since its beginning."
        parts.append(draw.chart("Throughput", [draw.line("images_per_s", "images/s")], unit="images/s", note=note))
    known = (*_KINDS, "loss", "held_out", "train", "vital")
    others: dict[str, list[str]] = {}
    for key in keys:
        stem = key.partition("/")[0]
        if stem not in known and key not in (*_RESERVED, "k", "M"):
            others.setdefault(stem, []).append(key)
    parts += [draw.chart(stem.replace("_", " "), [draw.line(key) for key in named]) for stem, named in others.items()]
    return [page.heading("The course of training"), *parts] if parts else []

"""What a study compares: every variant as the recipe fields in which it differs from the others."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pygan.errors import UserError

LAMBDAS = (0.0, 1.0, 10.0, 100.0, 1000.0)
RECEPTIVE_FIELDS = (1, 16, 34, 70, 142, 286)
SETS = ("continuum", "outermost-first", "innermost-first", "single", "blog")
INPUTS = {"canny": ("canny",), "labels": ("labels",), "both": ("canny", "labels")}
_TRANSFORMS = {"canny": "canny", "labels": "none"}  # input: the recipe's input_transform
_MOST_LAYERS = 6


@dataclass(frozen=True)
class Variant:
    """One of the networks that are compared.

    name: of its directory; title: for people; axes: where it lies, by what is varied ("skips", "dropout", "input", "L1
    weight", "receptive field"), as people read it; fields: of its recipe.
    """

    name: str
    title: str
    axes: Mapping[str, str]
    fields: Mapping[str, Any] = field(default_factory=dict)


def product(parts: Sequence[Sequence[Variant]]) -> list[Variant]:
    """Every combination of one of each part; only what is varied is in its name and title, the first part first."""
    combined = []
    for chosen in itertools.product(*parts):
        varied = [one for one, part in zip(chosen, parts, strict=True) if len(part) > 1] or [chosen[0]]
        axes = {axis: place for one in chosen for axis, place in one.axes.items()}
        fields = {name: value for one in chosen for name, value in one.fields.items()}
        title = ", ".join(one.title for one in varied)
        combined.append(Variant("_".join(one.name for one in varied), title, axes, fields))
    return combined


def skips(text: str, most: int) -> list[Variant]:
    """The variants that `--variants` names, of a G with the skips 1 (the innermost) to `most`.

    text: a set, or lists of kept skips: "none;1;1,2,3;all". Sets: "continuum" from the encoder-decoder to the U-Net,
    what is left when skips are removed outermost first ("outermost-first" is the same from its other end);
    "innermost-first"; "single", each skip alone; "blog", what two people who asked this question tried. Errors:
    UserError.
    """
    every = tuple(range(1, most + 1))
    named = {
        "continuum": [every[:k] for k in range(most + 1)],
        "outermost-first": [every[:k] for k in range(most, -1, -1)],
        "innermost-first": [every[most - k :] for k in range(most + 1)],
        "single": [(), *((i,) for i in every), every],
        "blog": [(), (1,), tuple(i for i in (1, 2, 3) if i <= most), every],
    }
    chosen = named.get(text.strip()) or [_levels(part, every, "--variants") for part in text.split(";")]
    return [_of_skips(kept, every) for kept in dict.fromkeys(chosen)]


def _of_skips(kept: tuple[int, ...], every: tuple[int, ...]) -> Variant:
    words = "all" if kept == every else ",".join(map(str, kept)) or "none"
    title = {"all": "all skips", "none": "no skips"}.get(words, f"skip{'s' if len(kept) > 1 else ''} {_ranged(kept)}")
    return Variant("skips-" + words.replace(",", "-"), title, {"skips": words}, {"skips": words})


def _ranged(kept: tuple[int, ...]) -> str:
    """1, 2, 3 -> "1-3"."""
    whole = len(kept) > 2 and kept == tuple(range(kept[0], kept[-1] + 1))
    return f"{kept[0]}-{kept[-1]}" if whole else ",".join(map(str, kept))


def dropout(text: str, most: int) -> list[Variant]:
    """The variants that `--dropout` names: lists of decoder levels with dropout, "none;1,2,3;all"."""
    every = tuple(range(1, most + 1))
    found = []
    for levels in dict.fromkeys(_levels(part, every, "--dropout") for part in text.split(";")):
        words = ",".join(map(str, levels)) or "none"
        title = "no dropout" if not levels else f"dropout {_ranged(levels)}"
        found.append(
            Variant("dropout-" + words.replace(",", "-"), title, {"dropout": words}, {"dropout_levels": words})
        )
    return found


def inputs(text: str) -> list[Variant]:
    """The variants that `--input` names: "canny", "labels" or "both"."""
    return [
        Variant(name, f"{name} input", {"input": name}, {"input_transform": _TRANSFORMS[name]}) for name in INPUTS[text]
    ]


def lambdas(values: Sequence[float]) -> list[Variant]:
    """A variant for each weight of L1."""
    found = []
    for value in dict.fromkeys(values):
        words = f"{value:g}"
        found.append(Variant(f"l1-{words}", f"L1 weight {words}", {"L1 weight": words}, {"lambda_l1": float(value)}))
    return found


def patches(fields: Sequence[float]) -> list[Variant]:
    """A variant for each receptive field of D, in pixels. Errors: UserError for one that no patch D has."""
    layers = {receptive_field(n): n for n in range(_MOST_LAYERS + 1)}
    found = []
    for pixels in dict.fromkeys(fields):
        if pixels not in layers:
            raise UserError(f"--fields: no patch D sees {pixels:g} pixels; there are {', '.join(map(str, layers))}")
        words = f"{pixels:g}"
        found.append(
            Variant(f"sees-{words}", f"D sees {words} px", {"receptive field": words}, {"n_layers_d": layers[pixels]})
        )
    return found


def receptive_field(n_layers: int) -> int:
    """Pixels, each way, that a logit of the patch D sees (Isola et al. 2017, 6.1.2): 1, 16, 34, 70, 142, 286, 574.

    From the logit back: two convolutions 4x4 of stride 1, then n of stride 2; no layer at all: 1x1 convolutions.
    """
    seen = 1
    for stride in (1, 1, *(2,) * n_layers) if n_layers else ():
        seen = (seen - 1) * stride + 4
    return seen


def numbers(text: str, name: str, *, least: float = 0.0) -> list[float]:
    """Numbers of a list such as "0,1,10". Errors: UserError that names the flag."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(math.isfinite(value) and value >= least for value in found):
        raise UserError(f"{name} must be a list of numbers of at least {least:g} such as 1,10,100, got {text!r}")
    return found


def _levels(text: str, every: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Levels in order, each once, of "none", "all" or "1,2,3". Errors: UserError."""
    text = text.strip()
    if text in ("none", "all"):
        return every if text == "all" else ()
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) in every for part in parts):
        known = f"{', '.join(SETS)}, or " if name == "--variants" else ""
        raise UserError(
            f"{name} must be {known}lists of levels from 1 to {len(every)} such as 'none;1;1,2;all', got {text!r}"
        )
    return tuple(sorted({int(part) for part in parts}))

"""What is asked of `pygan evaluate`, checked."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from pygan import segmentation
from pygan.errors import UserError
from pygan.evaluate.scoring import METRICS

EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Asked:
    """What the user wants, checked. metrics: empty for all that can be had."""

    run: Path
    output: Path
    data: Path | None
    metrics: tuple[str, ...]
    split: str
    number: int
    ways: tuple[str, ...]
    checkpoint: str
    device: str
    seed: int
    batch: int
    features: str
    logits: str
    lpips: str
    network_size: int
    network_range: str
    drop_first_class: bool
    kid_subsets: int
    kid_subset_size: int
    kid_kept: int
    splits: int
    palette: segmentation.Palette | None
    ignore_absent: bool
    segmenter: Path | None
    segmenter_input: str
    segmenter_size: tuple[int, int] | None


def of_flags(args: argparse.Namespace) -> Asked:
    """The flags as values. Errors: UserError."""
    bounds = {
        "number": (1, 10_000_000),
        "batch": (1, 4096),
        "network_size": (0, 4096),
        "kid_subsets": (1, 100_000),
        "kid_subset_size": (2, 10_000),
        "kid_kept": (2, 10_000_000),
        "splits": (1, 10_000),
    }
    for name, (least, most) in bounds.items():
        value = getattr(args, name)
        if value is not None and not least <= value <= most:
            bound = f"at least {least}" if value < least else f"at most {most:,}"
            raise UserError(f"--{name.replace('_', '-')} must be {bound}, got {value}")
    if not 0 <= args.seed < 1 << 63:
        raise UserError(f"--seed must be in 0..2**63-1, got {args.seed}")
    metrics = _list(args.metrics)
    if unknown := [name for name in metrics if name not in METRICS]:
        raise UserError(f"--metrics: there is no {unknown[0]!r}; there are {', '.join(METRICS)}")
    if args.metrics is not None and not metrics:
        raise UserError(f"--metrics names nothing; there are {', '.join(METRICS)}")
    values = {name: getattr(args, name) for name in Asked.__dataclass_fields__ if hasattr(args, name)}
    values |= {"metrics": metrics, "ways": _list(args.way), "number": args.number or 0}
    values |= {name: getattr(args, name) or "" for name in ("features", "logits", "lpips")}
    values["output"] = args.output or args.run / EVALUATION
    values["palette"] = segmentation.read_palette(args.palette) if args.palette else None
    values["segmenter_size"] = _size(args.segmenter_size)
    return Asked(**values)


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise UserError(f"--segmenter-size is HEIGHTxWIDTH in pixels, as 1024x2048, got {text!r}")
    return int(height), int(width)

"""README.md of a bundle: the model card, with the front matter that the Hub reads."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pygan import gans
from pygan.bundle import layout
from pygan.bundle.samples import Shown
from pygan.recipe import flag
from pygan.rundir import SCORES, from_json
from pygan.use import Trained

_HEADS = {"l1": "L1 (grey levels, lower is better)", "psnr": "PSNR (dB)", "ssim": "SSIM"}
_STATISTICS = {
    "own": "BatchNorm uses the statistics of each picture, as in training.",
    "running": "BatchNorm uses the running statistics of training.",
}


def text(trained: Trained, run: Path, licence: Mapping[str, str], shown: Shown, card: Mapping[str, Any]) -> str:
    """The whole file. card: the network's, as config.json has it."""
    name = card["gan"]
    parts = [
        _front_matter(licence, card),
        f"# {name}: {gans.title(name)}\n",
        _what_it_is(trained, card),
        _use(card),
        _samples(shown),
        _metrics(run),
        _recipe(trained, card),
        _limits(card),
    ]
    return "\n".join(part for part in parts if part)


def task(card: Mapping[str, Any]) -> str:
    """The Hub's word for what the network does."""
    if "text" in card["asks"]:
        return "text-to-image"
    return "unconditional-image-generation" if "generate" in card["acts"] else "image-to-image"


def _front_matter(licence: Mapping[str, str], card: Mapping[str, Any]) -> str:
    lines = [f"{key}: {json.dumps(value)}" for key, value in licence.items()]  # a JSON string is one of YAML
    lines += ["library_name: pygan", f"pipeline_tag: {task(card)}", "tags:"]
    lines += [f"- {tag}" for tag in dict.fromkeys(("pygan", "gan", card["gan"], "pytorch"))]
    return "\n".join(["---", *lines, "---", ""])


def _what_it_is(trained: Trained, card: Mapping[str, Any]) -> str:
    parameters = sum(p.numel() for p in trained.net.parameters())
    lines = [
        f"A generator of {parameters:,} parameters, trained with pygan on {card['images_seen']:,} images; one that was "
        f"seen twice counts twice. `{layout.CONFIG}` says all of it, `{layout.WEIGHTS}` holds the weights."
    ]
    for way, (takes, makes) in card["channels"].items() if "translate" in card["acts"] else ():
        lines.append(
            f"- {way + ': t' if way else 'T'}akes a picture of {takes} channel{'s' * (takes != 1)} and any size, makes "
            f"one of {makes} channel{'s' * (makes != 1)} and the same size."
        )
    if "to" in card["options"]:
        lines.append(f"- Labels: {', '.join(card['options']['to'])}.")
    if card["prepare"] != "none":
        lines.append(f"- The picture is prepared as in training: {card['prepare']}.")
    if "generate" in card["acts"]:
        lines.append(f"- Makes pictures from {card['z']} numbers of noise{_asks(card)}.")
    return "\n".join(lines) + "\n"


def _asks(card: Mapping[str, Any]) -> str:
    words = {"text": f"a sentence (an embedding of {card['text']} numbers)", "where": "a place"}
    return "".join(f" and {words[name]}" for name in card["asks"])


def _use(card: Mapping[str, Any]) -> str:
    """Commands that work as they stand, in the folder above this one."""
    shell = ["pip install .              # in a checkout of pygan; the pygan of PyPI is another project"]
    python = ["import pygan", "", 'g = pygan.load("FOLDER")']
    if "translate" in card["acts"]:
        to = next(iter(card["options"].get("to", ())), "")
        shell.append(f"pygan translate FOLDER PICTURES -o RESULTS{f' --to {to}' if to else ''}")
        asked = f', to="{to}"' if to else ""
        python.append(f'picture = g("photo.png"{asked})  # or a PIL image, a numpy array, a torch tensor, a list')
    if "generate" in card["acts"]:
        sentence = 'text="a small red bird", ' if "text" in card["asks"] else ""
        python.append(f"pictures = g.generate(4, {sentence}seed=1)")
    return "\n".join(["## Use", "", "```sh", *shell, "```", "", "```python", *python, "```", ""])


def _samples(shown: Shown) -> str:
    if not shown.names:
        return ""
    words = "From left to right: " + ", ".join(shown.columns) if shown.columns else "From noise, not selected"
    which = "The first held-out items, not selected. " if shown.columns else ""
    images = [f"![{name}]({layout.SAMPLES}/{name})" for name in shown.names]
    return "\n".join(["## Samples", "", f"{which}{words}.", "", *images, ""])


def _metrics(run: Path) -> str:
    """The table of scores.json, "" where there is none that can be read."""
    try:
        facts = from_json((run / SCORES).read_text())
        rows = {name: _numbers(row) for name, row in facts["scores"].items()}
        images, count = int(facts["images"]), int(facts["held_out"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    if not names:
        return ""
    table = [["", *(_HEADS.get(name, name.replace("_", " ")) for name in names)], ["---", *("---:" for _ in names)]]
    table += [[_cell(who), *(f"{row[n]:.3f}" if n in row else "–" for n in names)] for who, row in rows.items()]
    items = f"{count} held-out item{'s' * (count != 1)}"
    words = f"Means over {items}, at {images:,} images seen; below the network what needs none."
    return "\n".join(["## Metrics", "", words, "", *(f"| {' | '.join(row)} |" for row in table), ""])


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {_cell(key): value for key, value in row.items() if isinstance(value, int | float) and value == value}


def _cell(words: str) -> str:
    """Words of a file as one cell of a table."""
    return " ".join(str(words).split()).replace("|", "/").replace("<", "").replace("`", "")[:60]


def _recipe(trained: Trained, card: Mapping[str, Any]) -> str:
    command = " ".join(shlex.quote(word) for word in ("pygan", "train", card["gan"], *_flags(trained, card)))
    words = "Every number of the training that is not pygan's default, as the command that trains it:"
    return "\n".join(["## Recipe", "", words, "", "```sh", command, "```", ""])


def _flags(trained: Trained, card: Mapping[str, Any]) -> Iterator[str]:
    for field in dataclasses.fields(trained.recipe):
        value = card["recipe"][field.name]
        if field.metadata["session"] or value == field.default:
            continue
        if isinstance(value, bool):
            yield flag(field.name) if value else "--no-" + flag(field.name)[2:]
        else:
            yield f"{flag(field.name)}={value}"


def _limits(card: Mapping[str, Any]) -> str:
    side, data = card["recipe"].get("crop_size"), card["recipe"].get("data")
    name = f"a folder named {data!r}" if data else "the built-in procedural set, pictures that a program draws"
    lines = [f"Data: {name}. What is not in it was not learned; what is one-sided in it is so in the results."]
    if "translate" in card["acts"] and side:
        lines.append(f"Trained on pictures of {side}x{side} pixels. Other sizes work; how well was not measured.")
    lines.append("What it paints can look right and be invented: it is no measurement and no evidence.")
    if card["statistics"] in _STATISTICS:
        lines.append(_STATISTICS[card["statistics"]])
    if card["chance"]:
        lines.append("Dropout is on in use: the seed decides the result.")
    return "\n".join(["## Limits", "", *(f"- {line}" for line in lines), ""])

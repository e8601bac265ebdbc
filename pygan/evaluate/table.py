"""What evaluation.json says, for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pygan.evaluate import definitions

_ROLES = {"fid": "features", "kid": "features", "is": "logits", "feature_distance": "lpips"}


def show(out: Console, facts: dict[str, Any]) -> None:
    """The table of scores, a column for each way; below it notes and the networks that measured."""
    ways = facts["ways"]
    data, run = facts["data"], facts["run"]
    title = f"{run} at {facts['images_seen']:,} images ({facts['checkpoint']}), {data['split']} pictures"
    shown = Table(title=title, title_justify="left", title_style="")
    shown.add_column("")
    for way in ways:
        shown.add_column("" if way == "output" and len(ways) == 1 else way, justify="right")
    shown.add_row("generated, real", *(f"{one['generated']:,}, {one['real']:,}" for one in ways.values()))
    for name in facts["definitions"]:
        what = definitions.of(name)
        network = facts["networks"].get(_ROLES.get(name, ""), {})
        by = (
            ""
            if network.get("kind", "Inception").startswith(("Inception", "LPIPS"))
            else f" by {Path(network['file']).name}"
        )
        head = f"{what.head}{by}, {what.better} is better"
        shown.add_row(head, *(_text(one["scores"].get(name), what.digits) for one in ways.values()))
    out.print(shown)
    for note in facts["notes"]:
        out.print(note, markup=False)
    for role, network in facts["networks"].items():
        more = ", ".join(str(network[key]) for key in ("kind", "note", "file", "sha256") if network.get(key))
        out.print(f"{role:10} {more}", markup=False)


def _text(score: dict[str, Any] | None, digits: int) -> str:
    """12.3 [11.9, 12.8] of pictures, 0.01 ± 0.002 of subsets."""
    if score is None:
        return "-"
    kind = f".{digits}f" if digits else ".3g"
    value = format(score["value"], kind)
    if "low" in score:
        return f"{value} [{format(score['low'], kind)}, {format(score['high'], kind)}]"
    return f"{value} ± {format(score['std'], kind if digits else '.2g')}" if "std" in score else value

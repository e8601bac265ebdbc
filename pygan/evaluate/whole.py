"""From a run directory to evaluation.json and a table."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from pygan import device, heldout, log, outputs, segmentation, use
from pygan.errors import UserError, say
from pygan.evaluate import definitions, pairs, table
from pygan.evaluate.asked import Asked
from pygan.evaluate.networks import Networks
from pygan.evaluate.pairs import Plan
from pygan.evaluate.progress import Bar
from pygan.evaluate.scoring import WayScores
from pygan.evaluate.segmenter import LabelScores
from pygan.nn import full_precision
from pygan.rundir import write_atomic
from pygan.version import __version__

_LOOKED_AT = 128  # items in which the colours of class maps are looked for
_LIBRARIES = ("torch", "torch-fidelity", "torchmetrics", "onnxruntime")


def evaluate(ask: Asked) -> int:
    """Measure a run, write the file, show the table. Returns the exit code. Errors: UserError, with nothing written."""
    began = time.monotonic()
    trained = use.load(ask.run, ask.checkpoint, ask.device)
    ways = _ways(trained, ask)
    _check_output(ask.output)
    try:
        with torch.inference_mode(), full_precision(), _feeds(trained, ask) as feeds:
            facts = _measured(trained, ask, ways, feeds)
    except (MemoryError, RuntimeError) as error:
        if not (where := device.out_of_memory(error)):
            raise
        raise UserError(f"{where} has too little memory for this; lower --batch {ask.batch}") from error
    facts["seconds"] = round(time.monotonic() - began, 1)
    try:
        write_atomic(ask.output, (json.dumps(facts, indent=2) + "\n").encode())
    except OSError as error:
        raise UserError(f"cannot write {ask.output} ({error.strerror}); choose another -o") from error
    table.show(log.console(), facts)
    log.console().print(f"wrote {ask.output}", markup=False)
    return 0


def _ways(trained: use.Trained, ask: Asked) -> tuple[str, ...]:
    """The ways that are to be measured. Errors: UserError for one that there is not."""
    there = outputs.ways(trained.gan, trained.recipe)
    if unknown := [way for way in ask.ways if way not in there]:
        known = ", ".join(there) if there != ("",) else "only one, and no --way is needed"
        raise UserError(f"--way {unknown[0]}: {ask.run} has no such way; there are {known}")
    return ask.ways or there


def _check_output(path: Path) -> None:
    """Errors: UserError, before any work, if the file cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.is_dir():
            raise UserError(f"{path} is a folder; name a file: -o {path / 'evaluation.json'}")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another -o") from error


@contextlib.contextmanager
def _feeds(trained: use.Trained, ask: Asked) -> Iterator[list[Any]]:
    """The feeds of the split, each item whole and once. Errors: UserError where the data is gone, or does not fit."""
    gan, recipe = trained.gan, replace(trained.recipe, feed="auto", batch=ask.batch)
    if ask.data is not None:
        recipe = replace(recipe, data=str(ask.data.resolve()))
    with contextlib.ExitStack() as stack:
        feeds = []
        for split in ("train", "held-out") if ask.split == "all" else (ask.split,):
            try:
                if split == "train":
                    feed = heldout.training_items(gan, recipe, trained.device)
                else:
                    feed = gan.batches(recipe, split, trained.device)
            except UserError as reason:
                if ask.data is not None:
                    raise UserError(f"--data {ask.data}: {reason}") from reason
                name = gan.__name__.rpartition(".")[2]
                where = f"`pygan train {name} --run {ask.run} --data DIR` tells the run where its pictures are now"
                raise UserError(f"the {split} items of {ask.run} cannot be read: {reason}; {where}") from reason
            feeds.append(stack.enter_context(feed))
            try:
                gan.resolve(trained.recipe, feed.facts)
            except UserError as reason:
                raise UserError(f"{ask.data or ask.run}: the data does not fit the network: {reason}") from reason
        yield feeds


def _measured(trained: use.Trained, ask: Asked, ways: Sequence[str], feeds: Sequence[Any]) -> dict[str, Any]:
    """All that evaluation.json says, but how long it took. Errors: UserError."""
    gan, recipe, net = trained.gan, trained.recipe, trained.net
    plans = {way: pairs.plan(gan, recipe, net, feeds, way, number=ask.number) for way in ways}
    if ask.number and (short := [plan for plan in plans.values() if plan.fakes < ask.number]):
        say(f"--number {ask.number}: there are {short[0].fakes} items to paint from, and all are used")
    palettes = {way: _palettes(ask, plan, feeds[0]) for way, plan in plans.items()}
    networks = Networks(ask, trained.device)
    wanted = networks.load_for(
        paired=any(plan.paired for plan in plans.values()),
        maps=any(plan.paired and painted for plan, (painted, _) in zip(plans.values(), palettes.values(), strict=True)),
        given_maps=any(given for _, given in palettes.values()),
    )
    _say_left_out(networks.left_out)
    if not wanted:
        raise UserError(f"{ask.run}: nothing can be measured: {next(iter(networks.left_out.values()))}")
    found, notes = {}, []
    with Bar(sum(plan.length for plan in plans.values())) as bar:
        for way, plan in plans.items():
            painted, given = palettes[way]
            labels = LabelScores(painted, given, networks.segmenter, ignore_absent=ask.ignore_absent)
            scores = WayScores(wanted, networks.tools, plan.fakes, sum(plan.reals), seed=ask.seed, labels=labels)
            for out in pairs.batches(gan, recipe, net, feeds, way, plan, seed=ask.seed):
                scores.add(out)
                bar.add(max(len(out.fake), len(out.real)), way)
            bar.add(0, f"{way} distances")
            result = scores.result()
            found[way or "output"] = {"generated": scores.fakes, "real": scores.reals, "scores": result}
            found[way or "output"] |= {"left_out": scores.left_out} if scores.left_out else {}
            _say_left_out(scores.left_out, way)
            notes += [note for note in scores.notes if note not in notes]
    _check_found(ask, found)
    names = list(dict.fromkeys(name for one in found.values() for name in one["scores"]))
    return {
        "run": str(ask.run),
        "gan": gan.__name__.rpartition(".")[2],
        "checkpoint": ask.checkpoint,
        "images_seen": trained.images_seen,
        "data": _data(ask, feeds),
        "seed": ask.seed,
        "batch": ask.batch,
        "device": trained.device.type,
        "ways": found,
        "networks": networks.facts(wanted),
        "left_out": networks.left_out,
        "notes": notes,
        "definitions": {name: definitions.of(name).words for name in names},
        "versions": {"pygan": __version__, **_versions()},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _say_left_out(left_out: Mapping[str, str], way: str = "") -> None:
    """One line for each reason."""
    for reason in dict.fromkeys(left_out.values()):
        without = [definitions.head(name) for name, why in left_out.items() if why == reason]
        say(f"{way + ': ' if way else ''}without {', '.join(without)}: {reason}")


def _check_found(ask: Asked, found: Mapping[str, Any]) -> None:
    """Errors: UserError if nothing was measured, or what the user named could not be in any way."""
    left_out = [one.get("left_out", {}) for one in found.values()]
    for name in ask.metrics:
        if all(name in one for one in left_out):
            raise UserError(f"--metrics {name}: {left_out[0][name]}")
    if not any(one["scores"] for one in found.values()):
        raise UserError(f"{ask.run}: nothing can be measured: {next(iter(left_out[0].values()))}")


def _palettes(ask: Asked, plan: Plan, feed: Any) -> tuple[Any, Any]:
    """The palettes of what is painted and of what it is painted from, None where these are no class maps."""
    painted = pairs.pictures(feed, plan.real if plan.paired else None, _LOOKED_AT)
    given = pairs.pictures(feed, plan.given if ask.segmenter else None, _LOOKED_AT)
    return segmentation.find(painted, ask.palette), segmentation.find(given, ask.palette)


def _data(ask: Asked, feeds: Sequence[Any]) -> dict[str, Any]:
    sets = list(dict.fromkeys(source.describe() for feed in feeds for source in feed.sources))
    items = sum(feed.n_items for feed in feeds)
    return {"split": ask.split, "folder": str(ask.data) if ask.data else "the run's own", "sets": sets, "items": items}


def _versions() -> Mapping[str, str]:
    found = {}
    for name in _LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

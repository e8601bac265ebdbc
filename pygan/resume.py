"""Which run is meant: a new one, or one to go on with, and is its recipe the one asked for?"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pygan import checkpoint
from pygan import recipe as recipes
from pygan.errors import UserError
from pygan.recipe import BaseRecipe
from pygan.rundir import RECIPE, RunDir, read_facts

ROOT = Path("runs")
_PLACES = ("data", "data_2", "stage1", "vgg_weights")  # fields that say where something is


def is_run(path: Path | None) -> bool:
    return path is not None and (path / RECIPE).exists()


def choose(
    gan: ModuleType,
    name: str,
    preset: str | None,
    run: Path | None,
    resume: str,
    given: Mapping[str, Any],
    whole: BaseRecipe | None = None,
) -> tuple[Path, BaseRecipe | None, BaseRecipe | None]:
    """The run directory, and either the recipe of a new run or that of the run to go on with. Errors: UserError.

    whole: the recipe that is asked for, instead of the preset's with the given fields.
    """
    asked = whole
    if whole is None and preset is not None:
        asked = recipes.make(gan.Recipe, gan.PRESETS, preset, given)
    if run is not None:
        if not is_run(run):
            return run, asked, None
        if resume == "never":
            raise UserError(f"{run} already holds a run and --resume is never; choose another --run")
        wanted = dict(given) if asked is None else recipes.to_dict(asked)
        saved, was = _saved(gan, name, run, given)
        if different := recipes.differences(was, wanted):
            field_name, (old, new) = next(iter(different.items()))
            more = f" (and {len(different) - 1} more fields differ)" if len(different) > 1 else ""
            raise UserError(
                f"{run} was started with {recipes.flag(field_name)} {old}, now it is {new}{more}; "
                "go on without that flag, or choose another --run"
            )
        return run, None, saved
    for count in range(1, 10_000):
        path = ROOT / name / (preset if count == 1 else f"{preset}-{count}")
        if not is_run(path):
            return path, asked, None
        if resume == "auto" and not is_finished(path):
            with contextlib.suppress(UserError):  # a run of another version or GAN: leave it alone
                saved, was = _saved(gan, name, path, given)
                if was.data == asked.data and not recipes.differences(was, recipes.to_dict(asked)):
                    return path, None, saved
    raise UserError(f"{ROOT / name} holds ten thousand runs of {preset}; name one with --run")


def _saved(gan: ModuleType, name: str, path: Path, given: Mapping[str, Any]) -> tuple[BaseRecipe, BaseRecipe]:
    """The recipe that a run is trained by, with the session's flags on top, and the recipe as it was asked for."""
    facts = read_facts(path)
    if facts["gan"] != name:
        raise UserError(f"{path} is a run of {facts['gan']}, not of {name}; choose another --run")
    if facts.get("imported"):
        raise UserError(f"{path} was imported and has no discriminator: it translates, but cannot be trained")
    saved = recipes.from_dict(gan.Recipe, facts["recipe"], str(path / RECIPE))
    was = recipes.from_dict(gan.Recipe, facts["asked"], str(path / RECIPE))
    return replace(saved, **recipes.session_fields(saved, given)), was


def is_finished(path: Path) -> bool:
    """True if the newest checkpoint of a run is its end."""
    found = checkpoint.find(path / "checkpoints")
    return bool(found) and found[0].facts.get("finished") is True


def note_places(run: RunDir, given: Mapping[str, Any]) -> None:
    """Write down where the data of a run is now, so that it need not be said again. Errors: OSError."""
    facts = read_facts(run.path)
    places = {name: given[name] for name in _PLACES if name in given and name in facts["recipe"]}
    if any(facts["recipe"][name] != place for name, place in places.items()):
        run.write_facts(facts | {key: facts[key] | places for key in ("asked", "recipe")})


def write_recipe(run: RunDir, facts: dict[str, Any], asked: BaseRecipe, recipe: BaseRecipe) -> None:
    """Save the recipe of a new run, as asked for and as resolved, before anything else is written."""
    if run.facts() is not None:
        raise UserError(f"another process has just begun a run in {run.path}; choose another --run")
    try:
        run.write_facts(facts | {"asked": recipes.to_dict(asked), "recipe": recipes.to_dict(recipe)})
    except OSError as error:
        raise UserError(f"cannot write into {run.path} ({error.strerror}); choose another place with --run") from error

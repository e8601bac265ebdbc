"""The plan of a study: what is trained, on what budget, what is measured. It is frozen when the study begins."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, get_type_hints

from pygan import gans
from pygan import recipe as recipes
from pygan.data.built_in import built_in
from pygan.errors import UserError, say
from pygan.rundir import write_atomic
from pygan.study import other
from pygan.study import variants as of
from pygan.study.variants import Variant

PLAN = "study.json"
FORMAT = 1
KINDS = ("skips", "lambda", "patch")
_NEEDED = {"skips": str, "lambda_l1": float, "n_layers_d": int, "input_transform": str, "crop_size": int}

# What an option is where neither the command line nor the preset says it.
_DEFAULTS: dict[str, Any] = {
    "preset": "readme", "data": "", "images": 0, "epochs": 0, "budget_images": 0, "minutes": 0.0, "seed": 0, "seeds": 1,
    "domains": "same", "other": "", "lpips": "alex", "set": [], "dropout": "", "lambdas": "", "input": "canny",
    "fields": ",".join(map(str, of.RECEPTIVE_FIELDS)), "variants": "continuum",
}  # fmt: skip
_BY_KIND: dict[str, dict[str, Any]] = {
    "lambda": {"lambdas": ",".join(f"{value:g}" for value in of.LAMBDAS), "input": "labels"},
    "patch": {"input": "labels"},
}

# No study crops or mirrors unless it is told to: what is asked is what a net remembers of the very pictures.
_STILL = {"flip": False, "tensorboard": False, "max_minutes": 0.0, "steps": 0, "keep_every_images": 0}
# Each picture's own statistics, in training as in use, as the paper's batches of one have them: with running ones a net
# without skips is far worse on pictures that it never saw for that reason alone.
_SMALL = {"batch": 4, "upsample": "deconv", "ema_half_life_images": 0.0, "sample_images": 4, "norm": "instance"}
_SMALL |= {"in_affine": True}
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {
        "options": {"size": 32, "images": 24, "items": 16, "epochs": 50},
        "recipe": "demo", "fields": {**_SMALL, "ngf": 8, "ndf": 8, "n_layers_d": 2},
    },
    "readme": {
        "options": {"size": 64, "images": 80, "items": 64, "epochs": 100},
        "recipe": "demo", "fields": {**_SMALL, "ngf": 16, "ndf": 16, "n_layers_d": 2},
    },
    "full": {"options": {"size": 256, "images": 400, "items": 100, "epochs": 200}, "recipe": "paper", "fields": {}},
}  # fmt: skip
_EVALUATIONS = 8  # of each variant while it trains, as many points as its curve has


class Unit(NamedTuple):
    """One training: a variant from one seed."""

    name: str
    variant: Variant
    seed: int


@dataclass(frozen=True)
class Plan:
    """kind: one of KINDS; gan: its name; preset: of the GAN; asked: every option; fields: of every variant's recipe;
    variants: in the order in which they are trained and shown.
    """

    kind: str
    gan: str
    preset: str
    asked: Mapping[str, Any]
    fields: Mapping[str, Any]
    variants: tuple[Variant, ...]

    @property
    def units(self) -> list[Unit]:
        """All trainings: every variant from the first seed, then from the next, so that a half study is one too."""
        first, count = self.asked["seed"], self.asked["seeds"]
        many = count > 1
        return [
            Unit(f"{variant.name}_seed-{seed}" if many else variant.name, variant, seed)
            for seed in range(first, first + count)
            for variant in self.variants
        ]

    def given(self, unit: Unit) -> dict[str, Any]:
        """The recipe fields of one training that are not the preset's."""
        return {**self.fields, **unit.variant.fields, "seed": unit.seed}

    @property
    def test(self) -> str:
        """Which pictures the networks are judged by: "held_out", those of the set, or "other", those of another."""
        return "other" if self.asked["domains"] == "other" else "held_out"

    def others(self) -> bool:
        """Are pictures of another set measured?"""
        return self.asked["domains"] != "same"

    def other_set(self, unit: Unit) -> str:
        """The other set, as `--other` names it."""
        if self.asked["other"]:
            return self.asked["other"]
        return "seasons" if unit.variant.fields.get("input_transform") == "canny" else "facades:1"


def choose_gan() -> tuple[str, ModuleType]:
    """The GAN whose recipe has all that these studies vary."""
    for name in gans.names():
        gan = gans.load(name)
        types = get_type_hints(gan.Recipe)
        if all(types.get(key) is kind for key, kind in _NEEDED.items()):
            return name, gan
    raise UserError("no GAN of this pygan has skips, an L1 weight and a patch D; install it anew")


def make(kind: str, given: Mapping[str, Any], device: str = "auto") -> Plan:
    """The plan of a new study, every recipe of it checked. given: the options that were named on the command line;
    device: where `--minutes` are timed.

    Errors: UserError, one line, for everything that is wrong with it. A receptive field that does not fit the size is
    left out, with a line.
    """
    preset = given.get("preset", _DEFAULTS["preset"])
    options = _DEFAULTS | _BY_KIND.get(kind, {}) | PRESETS[preset]["options"]
    if any(given.get(name) for name in ("budget_images", "minutes")):
        options["epochs"] = 0
    drawn = built_in(given.get("data", ""), "facades", ("facades",)) is not None
    if not drawn:
        if given.get("images"):
            raise UserError("--images is the size of the built-in set; with --data all of its pictures are used")
        options["images"] = 0
    asked = options | dict(given)
    _check(asked, drawn)
    name, gan = choose_gan()
    base = PRESETS[preset]
    fields = {**_STILL, **base["fields"], "data": asked["data"], "crop_size": asked["size"], "load_size": asked["size"]}
    fields |= {"eval_images": asked["items"]}
    if drawn:
        fields |= {
            "data_images": asked["images"],
            "holdout": min(asked["items"], asked["images"] - 1) / asked["images"],
        }
    fields |= _set_fields(gan, asked["set"])
    recipe = _recipe(gan, base["recipe"], fields)
    found = _variants(kind, asked, gan, recipe)
    for variant in found:
        if twice := sorted(set(variant.fields) & {name for name, _ in map(_parted, asked["set"])}):
            raise UserError(f"--set {twice[0]}: the study decides it; leave it out")
    plan = Plan(kind, name, base["recipe"], asked, fields, tuple(_fitting(gan, base["recipe"], fields, found, kind)))
    plan = dataclasses.replace(plan, fields={**fields, **_budget(plan, gan, device)})
    _check_others(plan, gan)
    return plan


def _check(asked: Mapping[str, Any], drawn: bool) -> None:
    """Errors: UserError for a number that no study can have. drawn: of the built-in set."""
    least = {"size": 16, "images": 0, "epochs": 0, "budget_images": 0, "seeds": 1, "seed": 0, "items": 2}
    for name, bound in least.items():
        if asked[name] < bound:
            raise UserError(f"{recipes.flag(name)} must be at least {bound}, got {asked[name]}")
    if drawn and asked["images"] < 2:
        raise UserError(f"--images must be at least 2, got {asked['images']}")
    if not math.isfinite(asked["minutes"]) or asked["minutes"] < 0:
        raise UserError(f"--minutes must be a positive number, got {asked['minutes']:g}")
    budgets = [name for name in ("epochs", "budget_images", "minutes") if asked[name]]
    if len(budgets) != 1:
        named = ", ".join(map(recipes.flag, budgets)) or "none"
        raise UserError(f"one of --epochs, --budget-images and --minutes decides the budget, got {named}")
    if asked["other"] and asked["domains"] == "same":
        raise UserError("--other names another set, but --domains is same; add --domains both")


def _variants(kind: str, asked: Mapping[str, Any], gan: ModuleType, recipe: Any) -> list[Variant]:
    most = number_of_skips(gan, recipe)
    inputs = of.inputs(asked["input"])
    if kind == "skips":
        parts = [of.skips(asked["variants"], most), inputs]
        parts += [of.dropout(asked["dropout"], most)] if asked["dropout"] else []
        parts += [of.lambdas(of.numbers(asked["lambdas"], "--lambdas"))] if asked["lambdas"] else []
    elif kind == "lambda":
        parts = [of.lambdas(of.numbers(asked["lambdas"], "--lambdas")), inputs]
    else:
        parts = [of.patches(of.numbers(asked["fields"], "--fields", least=1)), inputs]
    return of.product(parts)


def _recipe(gan: ModuleType, preset: str, fields: Mapping[str, Any]) -> Any:
    """The recipe of these fields. Errors: UserError that names the flags of this command."""
    try:
        return recipes.make(gan.Recipe, gan.PRESETS, preset, fields)
    except UserError as error:
        raise UserError(str(error).replace("--crop-size", "--size").replace("a crop size", "a --size")) from None


def number_of_skips(gan: ModuleType, recipe: Any) -> int:
    """How many skips G has when all are kept. Errors: UserError if it has none."""
    import torch

    with torch.device("meta"):
        net = gan.generator(dataclasses.replace(recipe, skips="all"))
    if not getattr(net, "skips", ()):
        raise UserError(f"this G of {recipe.crop_size} pixels has no skips; take a larger --size")
    return max(net.skips)


def _fitting(gan: ModuleType, preset: str, fields: Mapping[str, Any], found: list[Variant], kind: str) -> list[Variant]:
    """The variants whose recipes are sound; of receptive fields those that do not fit are left out with a line."""
    fitting = []
    for variant in found:
        try:
            _recipe(gan, preset, {**fields, **variant.fields})
        except UserError as error:
            if kind != "patch":
                raise
            say(f"{variant.title} is left out: {error}")
            continue
        fitting.append(variant)
    if not fitting:
        raise UserError("no variant is left; take a larger --size, or other --fields")
    return fitting


def _set_fields(gan: ModuleType, texts: list[str]) -> dict[str, Any]:
    """`--set field=value`, as the recipe's own types. Errors: UserError."""
    types, found = get_type_hints(gan.Recipe), {}
    for name, value in map(_parted, texts):
        if name not in types or name in ("seed", "data", "steps", "epochs", "decay_epochs", "crop_size", "data_images"):
            more = " (the study has a flag for it)" if name in types else ""
            raise UserError(f"--set {name}: no field of the recipe that can be set here{more}")
        try:
            if types[name] is bool:
                found[name] = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}[
                    value.lower()
                ]
            else:
                found[name] = types[name](value)
        except (ValueError, KeyError):
            raise UserError(f"--set {name}={value}: {types[name].__name__} expected") from None
    return found


def _parted(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set wants FIELD=VALUE such as ngf=32, got {text!r}")
    return name.strip().replace("-", "_").lstrip("_"), value.strip()


def _budget(plan: Plan, gan: ModuleType, device: str) -> dict[str, Any]:
    """The recipe fields that say how long each variant is trained: the same for all."""
    asked, unit = plan.asked, plan.units[-1]
    recipe = _recipe(gan, plan.preset, plan.given(unit))
    with gan.batches(recipe, "train", "cpu") as feed:
        n_items, recipe = feed.n_items, gan.resolve(recipe, feed.facts)
        if asked["epochs"]:
            epochs, steps = asked["epochs"], 0
        else:
            steps = max(1, asked["budget_images"] // recipe.batch)
            if asked["minutes"]:
                steps = max(1, int(60 * asked["minutes"] / _seconds_per_step(gan, recipe, feed, device)))
            epochs = max(1, math.ceil(steps * recipe.batch / n_items))
    images = steps * recipe.batch if steps else epochs * n_items
    falling = epochs // 2  # passes while the learning rate falls
    every = max(recipe.batch, images // _EVALUATIONS)
    often = {"checkpoint_every_images": every, "sample_every_images": images, "log_every_images": max(1, every // 8)}
    return {"epochs": epochs - falling, "decay_epochs": falling, "steps": steps, **often}


def _check_others(plan: Plan, gan: ModuleType) -> None:
    """Errors: UserError if the other set is not there, or not of the kind that an input needs."""
    if not plan.others():
        return
    for unit in {unit.variant.fields.get("input_transform"): unit for unit in plan.units}.values():
        recipe = _recipe(gan, plan.preset, plan.given(unit))
        with gan.batches(recipe, "train", "cpu") as feed:
            recipe = gan.resolve(recipe, feed.facts)
        other.feed(gan, recipe, plan.other_set(unit), "cpu").close()


def _seconds_per_step(gan: ModuleType, recipe: Any, feed: Any, device: str) -> float:
    """Of the last variant, the dearest, on this machine as it is now."""
    import time

    from pygan.device import choose

    state = gan.build(recipe, choose(device))
    times = []
    for step in range(12):
        batch = feed.get(step * recipe.batch)
        batch = type(batch)(*(tensor.to(state.device) for tensor in batch))
        began = time.monotonic()
        float(gan.step(state, recipe, batch)["loss/G"])
        times.append(time.monotonic() - began)
    return sorted(times)[len(times) // 2]


def write(plan: Plan, folder: Path) -> None:
    """Freeze the plan. Errors: OSError."""
    facts = {"format": FORMAT, **dataclasses.asdict(plan)}
    write_atomic(folder / PLAN, (json.dumps(facts, indent=2) + "\n").encode())


def read(folder: Path) -> Plan | None:
    """The plan of the study that lies there, None if there is none. Errors: UserError if it is damaged."""
    path = folder / PLAN
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise UserError(f"{path} cannot be read ({why}); restore it, or choose another --out") from error
    try:
        if facts["format"] != FORMAT:
            raise UserError(f"{path} is of another version of pygan; choose another --out")
        several = tuple(
            Variant(*(_typed(one[key], kind) for key, kind in zip(_VARIANT, _VARIANT.values(), strict=True)))
            for one in _typed(facts["variants"], list)
        )
        plan = Plan(*(_typed(facts[key], kind) for key, kind in _PLAN.items()), variants=several)
        if not several or plan.kind not in KINDS or len({tuple(one.axes) for one in several}) > 1:
            raise KeyError("variants")
        for name, usual in {**_DEFAULTS, "size": 0, "items": 0}.items():
            _typed(plan.asked[name], int | float if isinstance(usual, float) else type(usual))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; restore it, or choose another --out") from error
    return plan


_PLAN = {"kind": str, "gan": str, "preset": str, "asked": dict, "fields": dict}
_VARIANT = {"name": str, "title": str, "axes": dict, "fields": dict}


def _typed(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{kind} expected")
    return value


def check_same(plan: Plan, kind: str, given: Mapping[str, Any], folder: Path) -> None:
    """Errors: UserError if the study that lies there is another than the one that is asked for."""
    if plan.kind != kind:
        raise UserError(f"{folder} is a study of {plan.kind}, not of {kind}; choose another --out")
    different = [name for name, value in given.items() if plan.asked.get(name) != value]
    if different:
        name = different[0]
        more = f" (and {len(different) - 1} more differ)" if len(different) > 1 else ""
        raise UserError(
            f"{folder} was started with {recipes.flag(name)} {_said(plan.asked.get(name))}, now it is "
            f"{_said(given[name])}{more}; go on without that flag, or choose another --out"
        )


def _said(value: Any) -> str:
    return " ".join(value) or "none" if isinstance(value, list) else str(value) if value != "" else "none"

"""A recipe: every number that decides a run, with its unit. It is the command line, and it is saved with the run."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from pygan.errors import UserError, meant


def option(
    default: Any,
    help: str,  # noqa: A002
    *,
    unit: str = "",
    choices: Sequence[str] = (),
    session: bool = False,
) -> Any:
    """A field of a recipe, and by that a flag.

    help: what it decides; unit: of the number, shown beside the default; choices: the words allowed; session: True
    for what does not change the numbers of a run (how often to save, for example), so that a resumed run may alter it.
    """
    metadata = {"help": help, "unit": unit, "choices": tuple(choices), "session": session}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class BaseRecipe:
    """What every GAN's recipe has. A GAN derives its own `Recipe` from this and may override defaults."""

    data: str = option("", "folder with the training images; empty: the built-in procedural set", session=True)
    data_images: int = option(400, "size of the built-in training set", unit="images")
    holdout: float = option(
        0.1, "part of the images held out where the data has no val or test folder", unit="of all images"
    )
    skip_bad: bool = option(False, "leave damaged files out instead of stopping")
    seed: int = option(0, "decides weights, order, crops, flips and dropout")

    batch: int = option(1, "images per step", unit="images")
    epochs: int = option(100, "passes at the full learning rate", unit="epochs")
    decay_epochs: int = option(100, "passes while the learning rate falls", unit="epochs")
    steps: int = option(0, "length of the training in steps; 0: as --epochs and --decay-epochs say", unit="steps")
    lr: float = option(2e-4, "learning rate of Adam")
    beta1: float = option(0.5, "Adam: decay of the first moment")
    beta2: float = option(0.999, "Adam: decay of the second moment")
    weight_decay: float = option(0.0, "Adam: L2 term added to the gradient")
    schedule: str = option(
        "linear", "learning rate over the epochs", choices=("linear", "const", "linear_jy_old", "linear_torch7")
    )
    ema_half_life_images: float = option(0.0, "averages the generator's weights; 0: off", unit="images")

    amp: bool = option(False, "mixed precision where the hardware gains from it")
    amp_dtype: str = option("bf16", "type of mixed precision", choices=("bf16", "fp16"))
    recompute: bool = option(
        False,
        "compute activations of G again in the backward pass: less memory, more time, the same numbers",
        session=True,
    )
    deterministic: bool = option(False, "bit-identical reruns on a GPU too (slower); on a CPU they always are")

    feed: str = option("auto", "where batches come from", choices=("auto", "resident", "dali", "pillow"), session=True)
    graph: str = option("auto", "the whole step as one CUDA graph", choices=("auto", "off"), session=True)
    kernels: str = option(
        "auto",
        "convolutions by pygan's kernels where they fit (auto), or all by the library",
        choices=("auto", "library"),
        session=True,
    )
    tensorboard: bool = option(True, "write TensorBoard events", session=True)
    max_minutes: float = option(0.0, "stop, saved, after this time; 0: no limit", unit="minutes", session=True)
    log_every_images: int = option(0, "a metrics row this often; 0: every 2 seconds", unit="images", session=True)
    sample_every_images: int = option(2000, "a sample grid this often", unit="images", session=True)
    checkpoint_every_images: int = option(5000, "a checkpoint this often", unit="images", session=True)
    keep_every_images: int = option(0, "keep a checkpoint for good this often; 0: never", unit="images", session=True)
    sample_images: int = option(8, "held-out items in a sample grid", unit="images", session=True)
    eval_images: int = option(
        64, "held-out items, and as many training items, measured at an evaluation", unit="images", session=True
    )
    eval_every_images: int = option(
        0, "an evaluation this often; 0: at checkpoints; a new best is kept at once", unit="images", session=True
    )
    best_by: str = option(
        "", "metric that decides about checkpoints/best: fid, kid, is, lpips or the GAN's own; none: its first",
        session=True,
    )  # fmt: skip
    eval_features: str = option(
        "", "network for --best-by fid, kid, is: inception:FILE, or a TorchScript or ONNX file", session=True
    )
    eval_lpips: str = option("", "network for --best-by lpips: alex:FILE, vgg:FILE or a TorchScript file", session=True)
    diagnose: bool = option(True, "say what goes wrong while training: a dead D, collapse, ...", session=True)

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for field in fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            if not _is_a(value, types[field.name]):
                raise UserError(f"{flag(field.name)} must be {_KINDS[types[field.name]]}, got {value!r}")
            if field.metadata["unit"] in _DEPTHS and value > _MOST:
                raise UserError(f"{flag(field.name)} must be at most {_MOST}, got {value}")
            if choices and value not in choices:
                raise UserError(f"{flag(field.name)} must be one of {', '.join(choices)}, got {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{flag(field.name)} must be a finite number, got {value}")
        at_least = {
            "batch": 1,
            "epochs": 0,
            "decay_epochs": 0,
            "steps": 0,
            "data_images": 2,
            "seed": 0,
            "lr": 0.0,
            "max_minutes": 0,
        }
        at_least |= {"log_every_images": 0, "sample_every_images": 1, "checkpoint_every_images": 1, "sample_images": 1}
        at_least |= {
            "keep_every_images": 0,
            "eval_images": 1,
            "eval_every_images": 0,
            "weight_decay": 0.0,
            "ema_half_life_images": 0.0,
        }
        for name, least in at_least.items():
            if getattr(self, name) < least:
                raise UserError(f"{flag(name)} must be at least {least}, got {getattr(self, name)}")
        if self.seed >= 1 << 63:
            raise UserError(f"--seed must be less than 2**63, got {self.seed}")
        for name in ("beta1", "beta2", "holdout"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{flag(name)} must be in [0, 1), got {getattr(self, name)}")
        if self.epochs + self.decay_epochs + self.steps < 1:
            raise UserError("--epochs, --decay-epochs and --steps are all 0: there is nothing to train")


# A recipe may come with a file from elsewhere: no number in it makes building the network endless.
_DEPTHS, _MOST = ("blocks", "layers", "levels"), 256

_LONG = 50  # characters of all choices, above which they stand in the help of a flag

_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a word"}


def _is_a(value: object, kind: type) -> bool:
    """Is a value of the type of a field? A whole number is a number too, a boolean is none."""
    allowed = (int, float) if kind is float else (kind,)
    return isinstance(value, allowed) and isinstance(value, bool) == (kind is bool)


def flag(name: str) -> str:
    """`lambda_l1` -> `--lambda-l1`."""
    return "--" + name.replace("_", "-")


PRESETS_DIFFER = "A preset has its own values for many of these; `pygan train GAN --preset NAME --dry-run` prints them."


def add_flags(parser: argparse.ArgumentParser, recipe_type: type[BaseRecipe], without: Sequence[str] = ()) -> None:
    """One flag per field, but those named in `without`.

    A flag that is not given does not appear in the namespace, so a preset can fill it. `--eval-every-images` and its
    like may be written `--eval-every`.
    """
    types = get_type_hints(recipe_type)
    for field in fields(recipe_type):
        if field.name in without:
            continue
        text = field.metadata["help"] + _default_text(field)
        names = [flag(field.name)]
        if field.name.endswith("_every_images"):
            names.append(names[0].removesuffix("-images"))
        common: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS, "help": text.replace("%", "%%")}
        if types[field.name] is bool:
            parser.add_argument(*names, action=argparse.BooleanOptionalAction, **common)
        elif choices := field.metadata["choices"]:
            if len(",".join(choices)) > _LONG:  # a line of help cannot be broken within them
                common["help"] = f"{field.metadata['help']}: {', '.join(choices)}{_default_text(field)}"
                common["metavar"] = "WORD"
            parser.add_argument(*names, choices=choices, **common)
        else:
            kind = types[field.name]
            metavar = {int: "N", float: "X", str: "TEXT"}[kind]
            parser.add_argument(*names, type=kind, metavar=metavar, **common)


def _default_text(field: dataclasses.Field) -> str:
    default, unit = field.default, field.metadata["unit"]
    if isinstance(default, bool):
        default = "on" if default else "off"
    elif default == "":
        default = "none"
    return f" (default: {default}{' ' + unit if unit else ''})"


def make(recipe_type: type[BaseRecipe], presets: Mapping[str, Mapping[str, Any]], preset: str, given: Mapping) -> Any:
    """The recipe of a preset with the given fields on top. Errors: UserError for an unknown preset."""
    if preset not in presets:
        raise UserError(f"unknown preset {preset!r}: choose one of {', '.join(presets)}{meant(preset, presets)}")
    return recipe_type(**{**presets[preset], **given})


def to_dict(recipe: BaseRecipe) -> dict[str, Any]:
    """Every field, in the order of the class: plain numbers, words and booleans."""
    return dataclasses.asdict(recipe)


def from_dict(recipe_type: type[BaseRecipe], values: Mapping[str, Any], where: str) -> Any:
    """The recipe saved at `where`. Errors: UserError if a field is unknown or of another type."""
    types = get_type_hints(recipe_type)
    if unknown := sorted(set(values) - types.keys()):
        raise UserError(
            f"{where} has the recipe field {unknown[0]!r}, which this version of pygan does not know; "
            "use the version that wrote it, or a later one"
        )
    for name, value in values.items():
        if not _is_a(value, types[name]):
            raise UserError(f"{where} is damaged: {name} is {value!r}, expected {types[name].__name__}; restore it")
    try:
        return recipe_type(**values)
    except UserError as error:  # it names a flag, which nobody gave
        raise UserError(f"{where}: {error}") from error


def fitted(recipe: Any, **found: int) -> Any:
    """The recipe with these numbers as the data has them. Errors: UserError if the recipe asks for another (0: any)."""
    for name, number in found.items():
        if getattr(recipe, name) not in (0, number):
            raise UserError(f"{flag(name)} is {getattr(recipe, name)}, but the data has {number}; leave the flag out")
    return dataclasses.replace(recipe, **found)


def differences(saved: BaseRecipe, given: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Fields whose given value is another than the saved one, as {name: (saved, given)}; session fields left out."""
    session = session_fields(saved, given)
    pairs = {name: (getattr(saved, name), value) for name, value in given.items() if name not in session}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def session_fields(recipe: BaseRecipe, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given fields that a resumed run may alter."""
    session = {field.name for field in fields(recipe) if field.metadata["session"]}
    return {name: value for name, value in given.items() if name in session}

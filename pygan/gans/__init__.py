"""One folder per GAN, one paper per folder. The folder listing is the registry."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from pygan.errors import UserError, meant

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The GANs that can be trained: the folders with a recipe."""
    return sorted(entry.name for entry in _HERE.iterdir() if (entry / "recipe.py").exists())


def title(name: str) -> str:
    """The first line of a GAN's docstring, read without importing it (that would import torch)."""
    docstring = ast.get_docstring(ast.parse((_HERE / name / "__init__.py").read_text())) or ""
    return docstring.partition("\n")[0]


def load(name: str) -> ModuleType:
    """The module of a GAN, whose names CONTRIBUTING.md lists. Errors: UserError if there is none."""
    if name not in names():
        raise UserError(f"unknown GAN {name!r}: choose one of {', '.join(names())}{meant(name, names())}")
    return importlib.import_module(f"pygan.gans.{name}")


def of(recipe: Any) -> ModuleType:
    """The GAN whose recipe that is. Errors: UserError if it is none."""
    parts = type(recipe).__module__.split(".")
    if parts[:2] != ["pygan", "gans"] or len(parts) < 3:
        raise UserError(f"a recipe must be the Recipe of a GAN, got {type(recipe).__name__}")
    return load(parts[2])


def name_of(gan: ModuleType) -> str:
    """The name that a GAN has on the command line."""
    return gan.__name__.rpartition(".")[2]


def phases(gan: ModuleType, recipe: Any) -> tuple[Any, ...]:
    """The recipes by which a run is trained one after the other: for most GANs the one."""
    return gan.phases(recipe) if hasattr(gan, "phases") else (recipe,)


def images_per_step(gan: ModuleType, recipe: Any) -> int:
    """Images that a step of one process sees."""
    return gan.images_per_step(recipe) if hasattr(gan, "images_per_step") else recipe.batch

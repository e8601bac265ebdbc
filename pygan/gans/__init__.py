"""One folder per GAN, one paper per folder. The folder listing is the registry."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

from pygan.errors import UserError

_HERE = Path(__file__).parent


def names(*, without_data: bool = False) -> list[str]:
    """The GANs that can be trained: folders whose __init__ exports `batches`. without_data: also those that lack it."""
    folders = (entry.name for entry in _HERE.iterdir() if (entry / "recipe.py").exists())
    return sorted(name for name in folders if without_data or _feeds(name))


def _feeds(name: str) -> bool:
    """Does the folder export `batches`? Read without importing it (that would import torch)."""
    body = ast.parse((_HERE / name / "__init__.py").read_text()).body
    return any(
        isinstance(node, ast.ImportFrom) and any(alias.name == "batches" for alias in node.names) for node in body
    )


def title(name: str) -> str:
    """The first line of a GAN's docstring, read without importing it (that would import torch)."""
    docstring = ast.get_docstring(ast.parse((_HERE / name / "__init__.py").read_text())) or ""
    return docstring.partition("\n")[0]


def load(name: str, *, without_data: bool = False) -> ModuleType:
    """The module of a GAN: Recipe, PRESETS, build, batches, step, sample. Errors: UserError if there is none.

    without_data: also one whose `batches` is not there yet.
    """
    known = names(without_data=without_data)
    if name not in known:
        raise UserError(f"unknown GAN {name!r}: choose one of {', '.join(known)}")
    return importlib.import_module(f"pygan.gans.{name}")

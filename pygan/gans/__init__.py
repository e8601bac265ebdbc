"""One folder per GAN, one paper per folder. The folder listing is the registry."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

from pygan.errors import UserError

_HERE = Path(__file__).parent


def names() -> list[str]:
    """The GANs that can be trained: folders whose __init__ exports `batches`, beside which the rest of a GAN stands."""
    return sorted(entry.name for entry in _HERE.iterdir() if (entry / "recipe.py").exists() and _feeds(entry.name))


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


def load(name: str) -> ModuleType:
    """The module of a GAN: Recipe, PRESETS, build, batches, step, sample. Errors: UserError if there is none."""
    if name not in names():
        raise UserError(f"unknown GAN {name!r}: choose one of {', '.join(names())}")
    return importlib.import_module(f"pygan.gans.{name}")

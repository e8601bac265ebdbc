"""The build backend: scikit-build-core, told where the user's own torch is.

The operators are compiled against torch's headers. Listing torch as a build requirement would make pip fetch another
one, gigabytes large, into the isolated build environment; so this backend finds the torch of the environment that
pygan is being installed into, and asks for a pinned torch only where there is none at all.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import scikit_build_core.build as scikit
from scikit_build_core.build import (  # noqa: F401  (PEP 517 and 660 hooks that need no torch)
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

MINIMUM = (2, 11)
TESTED = "2.13.0"


def _of_the_user() -> Iterator[Path]:
    """Folders that may be the torch of the environment that pygan is being installed into, most telling first."""
    if explicit := os.environ.get("PYGAN_TORCH_DIR"):
        yield Path(explicit)
    for scheme in ("purelib", "platlib"):  # pip keeps sys.prefix when it isolates a build: this is the user's torch
        yield Path(sysconfig.get_path(scheme)) / "torch"
    yield Path(site.getusersitepackages()) / "torch"
    environments = [os.environ[v] for v in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT") if v in os.environ]
    environments += [os.path.dirname(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    for environment in environments:  # `uv pip`, `python -m build` in an activated environment
        for packages in glob.glob(os.path.join(environment, "lib", "python3*", "site-packages")):
            if packages not in sys.path:  # else it is the build environment, which pip puts on the PATH too
                yield Path(packages) / "torch"


def _of_the_build() -> Iterator[Path]:
    """Folders that may be a torch of the build environment: the pinned one that `_needs_torch` asked for."""
    return (Path(folder) / "torch" for folder in sys.path)


def _version(torch: Path) -> tuple[int, ...] | None:
    """(2, 13, 0) of the torch package in that folder, or None if there is none."""
    try:
        text = (torch / "version.py").read_text()
    except OSError:
        return None
    found = re.search(r"__version__ = '(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, found.groups())) if found else None


def find_torch(candidates: Iterator[Path]) -> Path | None:
    """The first torch package among the folders, or None. Exits with one line if it is too old."""
    for torch in candidates:
        version = _version(torch)
        if version is None:
            continue
        if version[:2] < MINIMUM:
            raise SystemExit(
                f"pygan: found torch {'.'.join(map(str, version))} at {torch}, but pygan needs torch >= 2.11. "
                "pygan never replaces your torch: upgrade it yourself (pip install -U torch), then install pygan again."
            )
        return torch.resolve()
    return None


def dynamic_metadata(field: str, settings: dict, _project: object = None) -> list[str]:
    """The runtime requirements of pyproject.toml's [tool.pygan], and torch.

    A torch that is there satisfies `torch>=2.11` and stays untouched; where there is none, pip is kept from taking a
    newer one than pygan has been tested with.
    """
    if field != "dependencies":
        raise RuntimeError(f"only dependencies are dynamic here, not {field}")
    return ["torch>=2.11" if find_torch(_of_the_user()) else f"torch>=2.11,<={TESTED}", *settings["requires"]]


def _needs_torch() -> list[str]:
    if find_torch(_of_the_user()) is not None:
        return []
    print(f"pygan: no torch found in this environment: building against and installing {TESTED}", file=sys.stderr)
    return [f"torch=={TESTED}"]


def get_requires_for_build_wheel(config_settings=None):
    return scikit.get_requires_for_build_wheel(config_settings) + _needs_torch()


def get_requires_for_build_editable(config_settings=None):
    return scikit.get_requires_for_build_editable(config_settings) + _needs_torch()


def _with_torch(config_settings) -> dict:
    settings = dict(config_settings or {})
    if "cmake.define.PYGAN_TORCH_DIR" not in settings:
        torch = find_torch(itertools.chain(_of_the_user(), _of_the_build()))
        if torch is None:
            raise SystemExit(
                f"pygan: no torch >= 2.11 found to build against. Install one (pip install torch=={TESTED}), or set "
                "PYGAN_TORCH_DIR=.../site-packages/torch, then install pygan again."
            )
        settings["cmake.define.PYGAN_TORCH_DIR"] = str(torch)
    return settings


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    return scikit.build_wheel(wheel_directory, _with_torch(config_settings), metadata_directory)


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return scikit.build_editable(wheel_directory, _with_torch(config_settings), metadata_directory)

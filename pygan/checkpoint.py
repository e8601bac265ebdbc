"""Checkpoints on disk: written whole or not at all, checked when read, never lost.

A checkpoint is a folder of safetensors files (one per net, the recipe in its header; the rest of the state apart) and
a manifest with the checksum of each file. It is written as `next`, synced, and then renamed: at every moment at least
one complete checkpoint is on disk, whatever kills the process. The one before stays as `previous`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pygan.errors import UserError, say
from pygan.state import State

FORMAT = 1
MANIFEST = "manifest.json"
_REST = "state"  # the file of everything that is not a net


# What `torch.load` raises at damaged files of one kind or another.
_BROKEN = (RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, OverflowError)
_BROKEN += (MemoryError, struct.error, zipfile.BadZipFile)


class Damaged(Exception):
    """A checkpoint that cannot be used; the message says which file and why."""


@dataclass(frozen=True)
class Found:
    """A checkpoint folder with its manifest read (`facts`) but its files not yet checked."""

    folder: Path
    facts: dict[str, Any]

    @property
    def images_seen(self) -> int:
        return self.facts["images_seen"]


def save(folder: Path, state: State, recipe_facts: dict[str, Any], extra: dict[str, Any]) -> Path:
    """Write the state as `folder/last`; what was `last` becomes `previous`. Returns `folder/last`.

    recipe_facts: goes into the header of every net ({"gan": ..., "recipe": {...}}); extra: plain values that the
    training loop wants back. Errors: OSError (disk full, read-only): earlier checkpoints are untouched then.
    """
    new = folder / "next"
    _discard(new)
    try:
        new.mkdir(parents=True)
        header = {"pygan": json.dumps(recipe_facts)}  # one key: safetensors writes several in any order
        sums = {}
        for name, net in state.networks().items():
            sums[f"{name}.safetensors"] = _write(new / f"{name}.safetensors", net.state_dict(), header)
        sums[f"{_REST}.safetensors"] = _write(new / f"{_REST}.safetensors", state.rest(), {"format": "pt"})
        facts = {"format": FORMAT, "images_seen": state.images_seen, "steps": state.steps, "files": sums, **extra}
        _write_bytes(new / MANIFEST, json.dumps(facts, indent=1).encode())
        _sync(new)
    except OSError:
        _discard(new)
        raise
    return _promote(folder)


def _promote(folder: Path) -> Path:
    """`last` becomes `previous`, a complete `next` becomes `last`. Returns `folder/last`."""
    new, last, previous = folder / "next", folder / "last", folder / "previous"
    _discard(previous)
    if last.exists():
        last.rename(previous)
    new.rename(last)
    _sync(folder)
    return last


def keep(folder: Path, name: str) -> Path:
    """Keep the current `last` under another name too (`best`, `images-00012000`): hard links, no second copy."""
    source, new, kept = folder / "last", folder / f".{name}.new", folder / name
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    for file in source.iterdir():
        try:
            os.link(file, new / file.name)
        except OSError:  # a file system without hard links
            shutil.copy2(file, new / file.name)
    _sync(new)
    _discard(kept)
    new.rename(kept)
    _sync(folder)
    return kept


def _discard(checkpoint: Path) -> None:
    """Remove a checkpoint so that nobody ever sees half of it: out of sight first, then file by file."""
    hidden = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    if checkpoint.exists():
        checkpoint.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def find(folder: Path) -> list[Found]:
    """All checkpoints with a readable manifest, most images seen first. Damaged manifests are left out."""
    found = []
    for candidate in _folders(folder):
        try:
            facts = json.loads((candidate / MANIFEST).read_text())
        except (OSError, ValueError):
            continue
        if _is_manifest(facts):
            found.append(Found(candidate, facts))
    order = {"last": 0, "next": 1, "previous": 2}  # of checkpoints with the same images seen, the usual one first
    return sorted(found, key=lambda f: (-f.images_seen, order.get(f.folder.name, 3)))


def _is_manifest(facts: Any) -> bool:
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        return False
    counts = [facts.get("images_seen"), facts.get("steps")]
    sums = facts.get("files")
    return (
        all(type(count) is int and count >= 0 for count in counts)
        and isinstance(sums, dict)
        and f"{_REST}.safetensors" in sums
        and all(isinstance(value, str) for value in sums.values())
    )


def load_newest(folder: Path, state: State) -> Found | None:
    """Restore the newest usable checkpoint of `folder` into `state`; None if there is none at all. See `newest`."""
    found = newest(folder)
    if found is not None:
        restore(found, state)
    return found


def newest(folder: Path) -> Found | None:
    """The newest usable checkpoint of `folder`, all of its files checked; None if there is none at all.

    Only for the process that writes there. A damaged one is named and the one before it taken. Errors: UserError if
    there are some and none is usable.
    """
    damaged = [d.name for d in _folders(folder) if d.name == "last" and not any(f.folder == d for f in find(folder))]
    if damaged:
        say(f"{folder / 'last'} is damaged ({MANIFEST} cannot be read); looking for the one before it")
    for found in find(folder):
        try:
            check(found)
        except Damaged as reason:
            say(f"{found.folder} is damaged ({reason}); looking for the one before it")
            damaged.append(found.folder.name)
            continue
        if found.folder.name == "next":  # killed just before it would have been renamed
            found = Found(_promote(folder), found.facts)
        if damaged or found.folder.name != "last":
            say(f"going on from {found.folder} at {found.images_seen} images")
        return found
    if damaged:
        raise UserError(
            f"every checkpoint in {folder} is damaged; restore them from a backup, or start anew in another --run"
        )
    return None


def _folders(folder: Path) -> list[Path]:
    """The folders of a run's checkpoints; hidden ones are on their way in or out."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def check(found: Found) -> None:
    """Compare every file with its checksum. Errors: Damaged."""
    for name, expected in found.facts["files"].items():
        path = found.folder / name
        try:
            actual = _checksum(path)
        except OSError as error:
            raise Damaged(f"{name}: {error.strerror}") from error
        if actual != expected:
            raise Damaged(f"{name}: checksum differs")


def restore(found: Found, state: State) -> None:
    """Copy a checked checkpoint into the live tensors of `state` (their memory stays where it is).

    Errors: UserError if it holds other tensors than this state (another recipe or another version of pygan).
    """
    for name, net in state.networks().items():
        copy_into(net.state_dict(), read(found.folder / f"{name}.safetensors"), found.folder / f"{name}.safetensors")
    copy_into(state.rest(), read(found.folder / f"{_REST}.safetensors"), found.folder / f"{_REST}.safetensors")
    state.refresh_()
    state.images_seen, state.steps = found.facts["images_seen"], found.facts["steps"]


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU. Errors: UserError if it is not one."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing") from error
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file ({error})") from error


def read_torch(path: Path) -> Any:
    """What another program wrote with `torch.save`: tensors and plain values on the CPU. Runs nothing of the file.

    Errors: Damaged (the first line of why), pickle.UnpicklingError for objects of other kinds, OSError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old ways to write, which are read all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        raise Damaged((str(error).splitlines() or [type(error).__name__])[0]) from error


@torch.no_grad()
def copy_into(live: dict[str, Tensor], saved: dict[str, Tensor], where: Path) -> None:
    """Copy saved values into live tensors of the same names and shapes. Errors: UserError naming the first misfit."""
    if missing := sorted(live.keys() ^ saved.keys()):
        raise UserError(f"{where} does not fit this recipe: tensor {missing[0]!r} is in only one of the two")
    for name, tensor in live.items():
        if tensor.shape != saved[name].shape:
            want, got = list(tensor.shape), list(saved[name].shape)
            raise UserError(f"{where} does not fit this recipe: {name!r} has shape {got}, expected {want}")
        tensor.copy_(saved[name])


def _write(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> str:
    """Write a safetensors file, force it to the disk, return its checksum. Errors: OSError."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(plain, path, metadata=header)
    except SafetensorError as error:  # its text holds the system's reason (a full disk, a limit)
        raise OSError(f"{path} could not be written: {error}") from error
    _sync(path)
    return _checksum(path)


def _write_bytes(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _checksum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

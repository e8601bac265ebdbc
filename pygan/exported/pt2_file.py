"""A network from a PT2 file, as torch.export writes it."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pygan import device as devices
from pygan.errors import UserError
from pygan.exported import archive, facts, pt2_graph
from pygan.exported.network import Exported

# Everything that such a file holds. Other members of the format are pickles.
_MEMBER = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|models/model\.json|extra/pygan\.json|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)"
)
_LISTS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")


def read(path: Path, device: str = "auto") -> Exported:
    """The network of a PT2 file. Errors: UserError; OSError.

    The format can hold pickles, names of any function, and source code: a file with one of them is not opened.
    """
    found = archive.members(path, "PT2")
    table = archive.table(path, found)
    for name, info in found.items():
        if not _MEMBER.fullmatch(name) or (name.endswith(".pt") and info.file_size):
            raise UserError(f"{path} is not opened: {name} in it may be a pickle, which could run anything")
    for name in (*_LISTS, "models/model.json"):
        if name not in found:
            raise UserError(f"{path} is damaged: it has no {name}; export it again")
    for name in _LISTS:
        if any(value for key, value in _pairs(path, found[name]) if key == "use_pickle"):
            raise UserError(f"{path} is not opened: {name} names a pickle, which could run anything")
    try:
        strange = pt2_graph.strange(archive.read(path, found["models/model.json"]))
    except (ValueError, RecursionError, TypeError) as error:
        raise UserError(f"{path} is damaged: its graph is not JSON; export it again") from error
    if strange:
        raise UserError(f"{path} is not opened: its graph says {strange}, which none of pygan does; export it again")
    card = facts.read(table, str(path))
    names = facts.inputs(card)
    where = devices.choose(device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(str(path))
            if where.type != "cpu":
                program = torch.export.passes.move_to_device_pass(program, str(where))
            module = program.module()
    except Exception as error:  # what a damaged graph raises is anything
        why = str(error).strip().partition("\n")[0][:160] or type(error).__name__
        raise UserError(f"{path} cannot be opened by this torch ({why}); export it again") from error

    def run(given: Mapping[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            return module(*(given[name].to(where) for name in names)).float().cpu()

    return Exported(card, where, str(path), run)


def _pairs(path: Path, info: zipfile.ZipInfo) -> Iterator[tuple[str, Any]]:
    """Every key and value of a JSON member, however deep."""
    try:
        todo = [json.loads(archive.read(path, info))]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {info.filename} is not JSON; export it again") from error
    while todo:
        one = todo.pop()
        if isinstance(one, dict):
            yield from one.items()
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)

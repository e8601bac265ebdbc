"""What a file holds: tensors by their names; or what it is instead of a PyTorch checkpoint.

It is read as tensors alone; no object in it is ever made.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from pathlib import Path

from torch import Tensor

from pygan import checkpoint
from pygan.errors import UserError

_MAGIC = {
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"ustar": "a tar archive: unpack it first",
}


def tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a saved state_dict by their names. Errors: UserError, what the file is instead."""
    _check_format(file)
    try:
        found = checkpoint.read_torch(file)
    except pickle.UnpicklingError as error:
        if match := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{file} holds Python objects ({match[1]}), which are never loaded because that runs code: "
                "where it comes from, save the state_dict() of G instead"
            ) from error
        raise UserError(f"{file} is not a PyTorch checkpoint, or is damaged") from error
    except checkpoint.Damaged as reason:
        raise UserError(f"{file} is damaged or not a PyTorch checkpoint ({reason})") from reason
    if not isinstance(found, dict):
        raise UserError(f"{file} holds {_article(type(found).__name__)}, not the state_dict of a network")
    strange = [key for key, value in found.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange or not found:
        inside = ", ".join(map(str, list(found)[:4])) or "nothing"
        raise UserError(f"{file} is not the state_dict of a network alone, it holds {inside}: save that of G by itself")
    wrapped = all(key.startswith("module.") for key in found)  # by DataParallel
    return {key.removeprefix("module.") if wrapped else key: value for key, value in found.items()}


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def _check_format(file: Path) -> None:
    """Errors: UserError naming what a file is that cannot be a PyTorch checkpoint."""
    if file.is_dir():
        raise UserError(f"{file} is a folder: name the file of a generator in it, such as latest_net_G.pth")
    try:
        with open(file, "rb") as stream:
            head = stream.read(512)
    except FileNotFoundError as error:
        raise UserError(f"there is no file {file}") from error
    what = ""
    if not head:
        what = "empty"
    elif len(head) > 8 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < file.stat().st_size:
        what = "a safetensors file; a checkpoint as PyTorch saves it (.pth, .ckpt) is understood"
    elif head[:4] == b"PK\x03\x04":
        what = _what_zip(file)
    elif head[:1] != b"\x80":  # a pickle
        what = next((text for magic, text in _MAGIC.items() if head.startswith(magic) or head[257:262] == magic), "")
        what = what or _what_text(head)
    if what:
        raise UserError(f"{file} is {what}")


def _what_zip(file: Path) -> str:
    """What a zip archive is, "" for a PyTorch checkpoint."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
        return "a damaged archive or checkpoint: copy or download it again"
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript program, which would run code when loaded: save the state_dict() of G instead"
    return (
        "" if any(name.endswith("data.pkl") for name in names) else "a zip archive without a PyTorch checkpoint in it"
    )


def _what_text(head: bytes) -> str:
    if re.match(rb"\s*<(!doctype|html)", head, re.IGNORECASE):
        return "a web page: the download did not give the file itself"
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "text, not a PyTorch checkpoint"
    return "not a PyTorch checkpoint"

"""A network from a file that `pygan export` wrote, with the face of one from a run (`use.Network`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pygan.errors import UserError

if TYPE_CHECKING:
    from pygan.use import Network

# The ending of a file says what it is; what is in it must agree.
KINDS = {
    ".onnx": "onnx",
    ".pt": "torchscript",
    ".ts": "torchscript",
    ".pt2": "pt2",
    ".safetensors": "safetensors",
}


def load(path: Path, device: str = "auto") -> Network:
    """The network of an exported file, or of a folder in the layout of the Hugging Face Hub.

    device: "auto", "cpu" or "cuda". Nothing in a file is run or unpickled on the way: a TorchScript or PT2 file is
    looked through before PyTorch opens it, and refused if there is more in it than a network of tensor operators.
    Errors: UserError, one line, for a file that is missing, foreign, damaged or suspicious, a device that is not there,
    or a package that is needed to read it.
    """
    if path.is_dir():
        from pygan import bundle

        return bundle.read(path, device)
    if not path.is_file():
        raise UserError(f"{path} is neither a run directory nor a file; name what `pygan train` or `pygan export` made")
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(KINDS)
        raise UserError(f"{path} is no exported network: those end in {known}; `pygan export RUN --to ...` makes one")
    try:
        if kind == "onnx":
            from pygan.exported import onnx_file as reader
        elif kind == "torchscript":
            from pygan.exported import torchscript_file as reader
        elif kind == "pt2":
            from pygan.exported import pt2_file as reader
        else:
            from pygan.exported import weights_file as reader
        return reader.read(path, device)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}); choose another file") from error

"""NumPy's .npy files: (h, w) or (h, w, c) of uint8, uint16, float16, float32, float64 or bool."""

from __future__ import annotations

import io
import tokenize

import numpy as np
from numpy.lib import format as npy_format

from pygan.errors import UserError

_DTYPES = ("uint8", "uint16", "float16", "float32", "float64", "bool")


def header(data: bytes) -> tuple[tuple[int, int, int], np.dtype, bool, int]:
    """((h, w, c), type, whether columns come first, where the values begin). Errors: ValueError."""
    file = io.BytesIO(data)
    try:
        version = npy_format.read_magic(file)
        read = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ValueError("its header is none of NumPy's") from error
    if dtype.name not in _DTYPES or dtype.hasobject:
        known = ", ".join(_DTYPES)
        raise UserError(f"an array of {dtype} has no fixed range; save it as one of {known}")
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise UserError(f"an array of shape {shape} is no picture; (h, w) or (h, w, c) is")
    h, w, c = (*shape, 1)[:3]
    if len(data) - file.tell() != h * w * c * dtype.itemsize:
        raise ValueError(f"{h * w * c * dtype.itemsize} bytes of values belong to it, "
                         f"{len(data) - file.tell()} are there")  # fmt: skip
    return (h, w, c), dtype, fortran, file.tell()


def values(data: bytes) -> np.ndarray:
    """(h, w, c); bool as 0 and 255. Errors: ValueError."""
    shape, dtype, fortran, start = header(data)
    flat = np.frombuffer(data, dtype, offset=start)
    # A plane of (h, w) in Fortran order is the same as (h, w, 1) in it.
    array = flat.reshape(shape, order="F" if fortran else "C")
    if dtype.kind == "b":
        return (array.view(np.uint8) != 0).astype(np.uint8) * np.uint8(255)
    return np.ascontiguousarray(array.astype(dtype.newbyteorder("=")))

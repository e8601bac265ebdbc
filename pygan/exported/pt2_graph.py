"""What the graph in a PT2 file may say, looked through before PyTorch opens it: some of its words are run as Python.

Sizes that are free are sums and products in the words of SymPy, which are evaluated; guards of sizes and names of
inputs become source code. So every word must be one that `pygan export` writes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_WORD = re.compile(r"[\w.,;:+-]*")  # a name, or several
_TARGET = re.compile(r"torch\.ops\.aten\.\w+(\.\w+)?|_operator\.\w+|math\.\w+|torch\.sym_\w+")
_WITH_FILES = re.compile(r"\.(save|load|from_file)\b")
_SIZE = re.compile(
    r"(?:Symbol\('[a-z]\d+'(?:, (?:positive|integer)=True)*\)|[a-z]\d+\b|\d{1,18}\b"
    r"|(?:Integer|Add|Mul|FloorDiv|Mod|PythonMod|CleanDiv|CeilToInt|Max|Min)\b|\*(?!\*)|[-+/%(), ])*"
)
_GUARD = re.compile(
    r"(?:L\['inputs'\]\[\d{1,3}\]\.size\(\)\[\d\]|(?:max|min|and|or|not)\b|\d{1,18}\b|\*(?!\*)|[-+/%()<>=!, ])*"
)
_BY_KEY = {"expr_str": _SIZE, "guards_code": _GUARD, "target": _TARGET, "range_constraints": _SIZE}
_NEVER = {"as_operator", "as_custom_obj", "as_graph", "custom", "from_node", "source_fn_stack"}
_TYPES, _CONTEXTS = {None, "builtins.tuple", "builtins.dict"}, {None, "null", "[]"}


def strange(text: bytes) -> str:
    """What of a graph, as JSON, no network of pygan says, in 80 letters; "" if it says nothing else.

    Errors: ValueError, RecursionError if it is no JSON.
    """
    for key, word in _words(json.loads(text), ""):
        if key in ("in_spec", "out_spec"):
            if not _is_plain(json.loads(word)):
                return f"{key} {word[:80]}"
        elif key in _NEVER or not _BY_KEY.get(key, _WORD).fullmatch(word) or _WITH_FILES.search(word):
            return f"{key} {word[:80]!r}"
    return ""


def _words(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """(the nearest key above it, the word) of every word, those that are keys too, however deep."""
    todo = [(key, value)]
    while todo:
        key, one = todo.pop()
        if isinstance(one, str):
            yield key, one
        elif isinstance(one, list):
            todo.extend((key, item) for item in one)
        elif isinstance(one, dict):
            for name, item in one.items():
                yield key, name
                todo.append((name, item))


def _is_plain(spec: Any) -> bool:
    """Is it how tuples and dictionaries of inputs are nested, and nothing of other types?"""
    todo = spec[1:] if isinstance(spec, list) else [None]
    while todo:
        one = todo.pop()
        if not isinstance(one, dict) or set(one) - {"type", "context", "children_spec"}:
            return False
        if one.get("type") not in _TYPES or one.get("context") not in _CONTEXTS:
            return False
        todo.extend(one.get("children_spec", ()))
    return True

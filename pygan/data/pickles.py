"""Reads the pickle files that data sets come in without running anything: numbers, text, lists and NumPy arrays only.

A pickle is a program for a small stack machine, and Python's own machine may call any function the program names. The
machine here is written from the list of its instructions (the documentation of `pickletools`): it knows the ones that
build plain data, and the few names that NumPy's arrays are written with, which it takes as words, never as functions.
No attribute of any object is looked up or set, and nothing grows beyond a small multiple of the file.
"""

from __future__ import annotations

import codecs
import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pygan.data.images import why
from pygan.errors import UserError

_MARK = object()
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NAMES = {
    **{(module, name): name for module in _NUMPY for name in ("_reconstruct", "scalar")},
    **{(f"{module}.numeric", "_frombuffer"): "_frombuffer" for module in ("numpy.core", "numpy._core")},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    **{(module, name): name for module in ("builtins", "__builtin__") for name in ("bytes", "list", "dict")},
}
"""What a pickle may name, and what the machine calls it."""

_TYPES = {*"?", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "b1", "f2", "f4", "f8"}
_MOST_DIGITS = 4000  # of a number written in decimal: reading more takes quadratic time
_MOST_DIMENSIONS = 32


@dataclass(frozen=True)
class _Name:
    """A function or class that the pickle names: a word to compare with, which cannot be called."""

    word: str


@dataclass
class _Type:
    """A NumPy dtype in the making."""

    code: str  # as in f4, or O for Python objects, S10 or U10 for text
    order: str = "<"

    def made(self) -> np.dtype:
        return np.dtype(self.order + self.code)


@dataclass
class _Array:
    """A NumPy array in the making; `value` is the array once its state has come."""

    value: Any = None


class _Damaged(Exception):
    """What is wrong with a pickle, in a few words."""


def load_pickle(path: Path) -> Any:
    """What the file holds: None, bool, int, float, str, bytes, list, tuple, dict, NumPy arrays and scalars of numbers.

    Text and bytes of Python 2 become str, each byte a character (Latin-1); arrays of Python objects become lists.
    UserError, one line, for a file that is damaged, or that names a function or class which is none of NumPy's arrays:
    nothing in it is called, whatever it says.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            if not size:
                raise UserError(f"{path} is empty (0 bytes): fetch it again")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Machine(content, size).run()
    except (OSError, ValueError) as error:  # mmap calls a folder or a device a wrong value
        raise UserError(f"cannot read {path}: {why(error)}") from error
    except MemoryError:
        raise UserError(f"{path} ({size / 2**30:.1f} GiB) does not fit into memory") from None
    except _Forbidden as error:
        raise UserError(
            f"{path} is refused: it names {error}, and only NumPy arrays, lists, dicts, text and numbers are read from "
            f"pickles (loading one can run any program); fetch the set again from its authors"
        ) from None
    except _Damaged as error:
        raise UserError(f"{path} is no pickle of pictures or text, or damaged: {error}; fetch it again") from None


class _Forbidden(Exception):
    """The function or class that a pickle names and must not."""


class _Machine:
    """The stack machine. content: the pickle; size: its bytes."""

    def __init__(self, content: mmap.mmap, size: int) -> None:
        self._content, self._size, self._at = content, size, 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._made = 0  # bytes of arrays and bytes strings made so far

    def run(self) -> Any:
        while True:
            code = self._take(1)
            if code == b".":
                return _finished(self._pop())
            act = _ACTS.get(code)
            if act is None:
                raise _Damaged(f"instruction {code!r} at byte {self._at - 1} is none that plain data needs")
            act(self)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        if count > self._size - self._at:
            raise _Damaged(f"it ends at byte {self._size} in the middle of something")
        self._at += count
        return self._content[self._at - count : self._at]

    def _line(self) -> bytes:
        end = self._content.find(b"\n", self._at)
        if end < 0:
            raise _Damaged(f"it ends at byte {self._size} in the middle of a line")
        return self._take(end + 1 - self._at)[:-1]

    def _number(self, form: str) -> int:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _sized(self, form: str) -> bytes:
        count = self._number(form)
        if count < 0:
            raise _Damaged("text of less than no length")
        return self._take(count)

    def _decimal(self, line: bytes) -> int:
        if len(line) > _MOST_DIGITS:
            raise _Damaged(f"a number of {len(line)} digits")
        try:
            return int(line)
        except ValueError:
            raise _Damaged(f"{line[:20]!r} where a number should be") from None

    # -- the stack ----------------------------------------------------------------------------------------------------

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise _Damaged("something is missing on its stack")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise _Damaged("something is missing on its stack")
        return self._stack[-1]

    def _since_mark(self) -> list[Any]:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                found = self._stack[i + 1 :]
                del self._stack[i:]
                return found
        raise _Damaged("a mark is missing on its stack")

    def _recall(self, key: int) -> None:
        if key not in self._memo:
            raise _Damaged(f"it refers to part {key}, which it does not have")
        self._push(self._memo[key])

    def _remember(self, key: int) -> None:
        self._memo[key] = self._top()

    # -- the instructions ---------------------------------------------------------------------------------------------

    def _protocol(self) -> None:
        version = self._take(1)[0]
        if version > 5:
            raise _Damaged(f"protocol {version} is newer than 5")

    def _integer_line(self) -> None:
        line = self._line()
        self._push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else self._decimal(line))

    def _float_line(self) -> None:
        line = self._line()
        try:
            self._push(float(line))
        except ValueError:
            raise _Damaged(f"{line[:20]!r} where a number should be") from None

    def _string_line(self) -> None:
        line = self._line().strip()
        if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
            raise _Damaged("text without quotes")
        try:
            self._push(codecs.escape_decode(line[1:-1])[0].decode("latin-1"))
        except ValueError:
            raise _Damaged("text with a broken escape") from None

    def _unicode_line(self) -> None:
        try:
            self._push(self._line().decode("raw-unicode-escape"))
        except UnicodeDecodeError:
            raise _Damaged("text with a broken escape") from None

    def _text(self, form: str) -> None:
        try:
            self._push(self._sized(form).decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise _Damaged("text that is not UTF-8") from None

    def _append(self) -> None:
        value = self._pop()
        self._list(self._top()).append(value)

    def _appends(self) -> None:
        values = self._since_mark()
        self._list(self._top()).extend(values)

    @staticmethod
    def _list(value: Any) -> list[Any]:
        if type(value) is not list:
            raise _Damaged("it appends to what is no list")
        return value

    def _items(self, into: Any, flat: list[Any]) -> None:
        if type(into) is not dict or len(flat) % 2:
            raise _Damaged("it sets entries of what is no dict")
        for key, value in zip(flat[::2], flat[1::2], strict=True):
            if type(key) not in (str, bytes):  # numbers can be chosen so that a dict of them takes for ever
                raise _Damaged("a key of a dict that is no text")
            into[key] = value

    def _set_items(self) -> None:
        flat = self._since_mark()
        self._items(self._top(), flat)

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._items(self._top(), [key, value])

    def _dict(self) -> None:
        into: dict = {}
        self._items(into, self._since_mark())
        self._push(into)

    def _tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(values)))

    def _name(self, module: str, name: str) -> None:
        word = _NAMES.get((module, name))
        if word is None:
            raise _Forbidden(f"{module}.{name}"[:200].encode("unicode_escape").decode())
        self._push(_Name(word))

    def _name_lines(self) -> None:
        module, name = (self._line().decode("latin-1") for _ in range(2))
        self._name(module, name)

    def _name_of_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if type(name) is not str or type(module) is not str:
            raise _Damaged("a name that is no text")
        self._name(module, name)

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if type(function) is not _Name or type(arguments) is not tuple:
            raise _Damaged("it calls what is no function")
        made = _CALLS.get(function.word)
        if made is None:
            raise _Damaged(f"it calls {function.word}")
        value = made(*arguments)
        self._charge(value.value if type(value) is _Array else value)
        self._push(value)

    def _build(self) -> None:
        state, value = self._pop(), self._top()
        if type(value) is _Type:
            _set_order(value, state)
        elif type(value) is _Array and value.value is None:
            value.value = _array_of(state)
            self._charge(value.value)
        else:
            raise _Damaged("it sets the state of what has none")

    def _charge(self, made: Any) -> None:
        """Count the bytes of arrays: they may not be more than twice the file, as when one text is made many arrays."""
        self._made += made.nbytes if isinstance(made, np.ndarray) else len(made) if type(made) is bytes else 0
        if self._made > 2 * self._size:
            raise _Damaged("it makes more than it holds")


def _call(count: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function of exactly `count` arguments, whatever the pickle gives it."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def checked(*arguments: Any) -> Any:
            if len(arguments) != count:
                raise _Damaged(f"{function.__name__.strip('_')} with {len(arguments)} arguments")
            return function(*arguments)

        return checked

    return decorate


@_call(3)
def _reconstruct(kind: Any, shape: Any, letter: Any) -> _Array:
    if kind != _Name("ndarray"):
        raise _Damaged("an array of a class of its own")
    return _Array()


@_call(3)
def _dtype(code: Any, align: Any, copy: Any) -> _Type:
    code = _bytes(code).decode("latin-1") if type(code) in (str, bytes) else ""
    order = "<"
    if code[:1] in ("<", ">", "|", "="):
        order, code = ("<" if code[0] in "|=" else code[0]), code[1:]
    text = code[:1] in ("S", "U") and code[1:].isascii() and code[1:].isdigit() and len(code) < 8 and int(code[1:]) > 0
    if code not in _TYPES and code not in ("O", "O8", "O4") and not text:
        raise _Damaged(f"an array of type {code[:20]!r}")
    return _Type("O" if code[0] == "O" else code, order)


def _set_order(kind: _Type, state: Any) -> None:
    """The state of a dtype: only its byte order is taken."""
    if type(state) is not tuple or len(state) < 2 or _text_of(state[1]) not in ("<", ">", "|", "="):
        raise _Damaged("an array type of unknown byte order")
    if len(state) > 4 and (state[2] is not None or state[3] is not None or state[4] is not None):
        raise _Damaged("an array type with fields of its own")
    kind.order = ">" if _text_of(state[1]) == ">" else "<"


def _array_of(state: Any) -> Any:
    """An array from its state: (version, shape, type, Fortran order, data); a list for one of Python objects."""
    if type(state) is not tuple or len(state) not in (4, 5):
        raise _Damaged("an array without data")
    shape, kind, fortran, data = state[-4:]
    if type(kind) is not _Type:
        raise _Damaged("an array without a type")
    if kind.code == "O":
        if type(data) is not list or _elements(shape) != len(data) or len(shape) > 1:
            raise _Damaged("an array of objects that is no list")
        return data
    return _shaped(_bytes(data), kind.made(), shape, bool(fortran))


def _shaped(data: bytes, kind: np.dtype, shape: Any, fortran: bool) -> np.ndarray:
    if _elements(shape) * kind.itemsize != len(data):
        raise _Damaged(f"an array of {len(data)} bytes that should have {_elements(shape) * kind.itemsize}")
    if kind.kind == "U":
        points = np.frombuffer(data, dtype=np.dtype("u4").newbyteorder(kind.byteorder))
        if points.max(initial=0) > 0x10FFFF:
            raise _Damaged("text that is not Unicode")
    found = np.frombuffer(data, dtype=kind) if data else np.empty(0, dtype=kind)
    return found.reshape(shape, order="F" if fortran else "C").astype(kind.newbyteorder("="), copy=False)


def _elements(shape: Any) -> int:
    good = type(shape) is tuple and len(shape) <= _MOST_DIMENSIONS
    if not good or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise _Damaged("an array without a shape")
    return math.prod(shape)


@_call(2)
def _scalar(kind: Any, data: Any) -> Any:
    if type(kind) is not _Type or kind.code == "O":
        raise _Damaged("a number without a type")
    return _shaped(_bytes(data), kind.made(), (), False)[()]


@_call(4)
def _frombuffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    if type(kind) is not _Type or kind.code == "O":
        raise _Damaged("an array without a type")
    return _Array(_shaped(_bytes(data), kind.made(), shape, _text_of(order) == "F"))


@_call(2)
def _encode(text: Any, encoding: Any) -> bytes:
    if _text_of(encoding) not in ("latin1", "latin-1"):
        raise _Damaged("text in an encoding of its own")
    return _bytes(text)


def _bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is str:
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            pass  # text of Python 3, no bytes
    raise _Damaged("bytes are missing")


def _text_of(value: Any) -> str:
    return value.decode("latin-1") if type(value) is bytes else value if type(value) is str else ""


def _empty(kind: type) -> Callable[..., Any]:
    def made(*arguments: Any) -> Any:
        if arguments:
            raise _Damaged(f"{kind.__name__} of something")
        return kind()

    return made


def _finished(root: Any) -> Any:
    """`root` with every array in the making replaced by the array. UserError's cause for what was not finished."""
    done: dict[int, Any] = {}  # by identity: what is shared stays shared, or a small file could become large
    inside: set[int] = set()
    todo = [(root, False)]
    while todo:
        item, ready = todo.pop()
        parts = _parts(item)
        if id(item) in done:
            continue
        if not ready and parts is not None:
            if id(item) in inside:
                raise _Damaged("it contains itself")
            inside.add(id(item))
            todo += [(item, True), *((part, False) for part in parts)]
        elif parts is None:
            done[id(item)] = item.value if type(item) is _Array else item
        else:
            inside.discard(id(item))
            made = [done[id(part)] for part in parts]
            if type(item) is dict:
                done[id(item)] = dict(zip(item, made, strict=True))
            else:
                done[id(item)] = made[0] if type(item) is _Array else type(item)(made)
    return done[id(root)]


def _parts(item: Any) -> list[Any] | tuple[Any, ...] | None:
    """What a value is made of, None for one without parts."""
    kind = type(item)
    if kind is _Array and item.value is None:
        raise _Damaged("an array without data")
    if kind is _Array:
        return [item.value] if type(item.value) is list else None
    if kind in (_Name, _Type):
        raise _Damaged("a function or type where data should be")
    return list(item.values()) if kind is dict else item if kind in (list, tuple) else None


_CALLS: dict[str, Callable[..., Any]] = {
    "_reconstruct": _reconstruct,
    "scalar": _scalar,
    "_frombuffer": _frombuffer,
    "dtype": _dtype,
    "encode": _encode,
    "bytes": _empty(bytes),
    "list": _empty(list),
    "dict": _empty(dict),
}

_ACTS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine._protocol,
    b"\x95": lambda m: m._take(8) and None,  # the size of a frame
    b"(": lambda m: m._push(_MARK),
    b"0": lambda m: m._pop() and None,
    b"1": lambda m: m._since_mark() and None,
    b"2": lambda m: m._push(m._top()),
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"I": _Machine._integer_line,
    b"L": lambda m: m._push(m._decimal(m._line().removesuffix(b"L"))),
    b"J": lambda m: m._push(m._number("<i")),
    b"K": lambda m: m._push(m._number("<B")),
    b"M": lambda m: m._push(m._number("<H")),
    b"\x8a": lambda m: m._push(int.from_bytes(m._sized("<B"), "little", signed=True)),
    b"F": _Machine._float_line,
    b"G": lambda m: m._push(m._number(">d")),
    b"S": _Machine._string_line,
    b"T": lambda m: m._push(m._sized("<i").decode("latin-1")),
    b"U": lambda m: m._push(m._sized("<B").decode("latin-1")),
    b"B": lambda m: m._push(m._sized("<I")),
    b"C": lambda m: m._push(m._sized("<B")),
    b"\x8e": lambda m: m._push(m._sized("<Q")),
    b"\x96": lambda m: m._push(m._sized("<Q")),
    b"V": _Machine._unicode_line,
    b"X": lambda m: m._text("<I"),
    b"\x8c": lambda m: m._text("<B"),
    b"\x8d": lambda m: m._text("<Q"),
    b"]": lambda m: m._push([]),
    b"l": lambda m: m._push(m._since_mark()),
    b"a": _Machine._append,
    b"e": _Machine._appends,
    b")": lambda m: m._push(()),
    b"t": lambda m: m._push(tuple(m._since_mark())),
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"}": lambda m: m._push({}),
    b"d": _Machine._dict,
    b"s": _Machine._set_item,
    b"u": _Machine._set_items,
    b"g": lambda m: m._recall(m._decimal(m._line())),
    b"h": lambda m: m._recall(m._number("<B")),
    b"j": lambda m: m._recall(m._number("<I")),
    b"p": lambda m: m._remember(m._decimal(m._line())),
    b"q": lambda m: m._remember(m._number("<B")),
    b"r": lambda m: m._remember(m._number("<I")),
    b"\x94": lambda m: m._remember(len(m._memo)),
    b"c": _Machine._name_lines,
    b"\x93": _Machine._name_of_stack,
    b"R": _Machine._reduce,
    b"b": _Machine._build,
}
"""The instructions that plain data is made of; `pickletools` describes each of them."""

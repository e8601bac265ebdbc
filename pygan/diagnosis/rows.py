"""What is remembered of a run's rows, and what its recipe says: all that a sign is read from."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

WINDOW = 10  # rows over which a value is called steady, or a median is taken
_BASELINE = range(5, 35)  # rows of a phase that say what a gradient usually is; the first ones are of random weights
_LARGEST = 1e100  # what is beyond is as good as infinite, and sums and products of numbers below it are not
_STEP = ("loss/", "logit/", "energy/")  # keys of what a step returned


class Row(NamedTuple):
    """A row of metrics.jsonl: its place, and its finite numbers."""

    images: int
    steps: int
    values: Mapping[str, float]
    kinds: frozenset[str]  # the keys of what a step returned; none in a row that only an evaluation wrote
    is_evaluation: bool  # does it say how good held-out pictures are?


def read(row: Mapping[str, Any]) -> Row | None:
    """A row as it was written; None without its place. What is no finite number is left out."""
    images, steps = row.get("images"), row.get("steps")
    if not _is_number(images) or not _is_number(steps):
        return None
    values = {key: float(value) for key, value in row.items() if _is_number(value)}
    kinds = frozenset(key for key in values if key.startswith(_STEP))
    return Row(int(images), int(steps), values, kinds, any(key.startswith("held_out/") for key in values))


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_LARGEST < value < _LARGEST  # which NaN is not


class Rows:
    """The last rows of a phase of a training, column by column."""

    def __init__(self) -> None:
        self._places: deque[tuple[int, int]] = deque(maxlen=WINDOW)
        self._columns: dict[str, deque[float]] = {}
        self._medians: dict[str, float] = {}  # of the newest row
        self._early: dict[str, list[float]] = {}
        self._usual: dict[str, float] = {}
        self._kinds: frozenset[str] = frozenset()
        self._found: dict[str, list[str]] = {}  # answers of `keys`
        self._epoch = 0.0
        self.evaluations: list[Row] = []

    def is_over(self, row: Row) -> bool:
        """Does another phase begin with this row? Its losses are others, or its epochs count from 1 again."""
        if not (row.kinds and self._kinds):
            return False
        return row.kinds != self._kinds or row.values.get("epoch", self._epoch) < self._epoch

    def add(self, row: Row) -> None:
        """Take in a row of this phase."""
        if row.is_evaluation:
            self.evaluations.append(row)
        if not row.kinds:
            return
        self._kinds, self._epoch = row.kinds, row.values.get("epoch", self._epoch)
        self._places.append((row.images, row.steps))
        self._medians = {}
        if self._columns.keys() != row.values.keys():
            kept = (self._columns.get(key, ()) for key in row.values)
            self._columns = {key: deque(old, WINDOW) for key, old in zip(row.values, kept, strict=True)}
            self._found = {}
        for key, value in row.values.items():
            self._columns[key].append(value)
        for key in self.keys("vital/grad_"):
            if key not in self._usual:
                early = self._early.setdefault(key, [])
                early.append(row.values[key])
                if len(early) == _BASELINE.stop:
                    self._usual[key] = median(self._early.pop(key)[_BASELINE.start :])

    def back(self, count: int) -> tuple[int, int]:
        """(images, steps) of the row that came so many before the newest, or of the oldest that is remembered."""
        return self._places[max(0, len(self._places) - 1 - count)]

    def now(self, key: str) -> float | None:
        """The value of a key in the newest row."""
        column = self._columns.get(key)
        return None if column is None else column[-1]

    def last(self, key: str) -> list[float] | None:
        """The values of a key in the last rows, oldest first; None unless all of them have one."""
        column = self._columns.get(key, ())
        return list(column) if len(column) == WINDOW else None

    def typical(self, key: str) -> float | None:
        """The median of `last`."""
        if key not in self._medians:
            if len(column := self._columns.get(key, ())) < WINDOW:
                return None
            ordered = sorted(column)
            self._medians[key] = (ordered[WINDOW // 2 - 1] + ordered[WINDOW // 2]) / 2.0
        return self._medians[key]

    def usual(self, key: str) -> float | None:
        """The median of a gradient's size when the phase was young; None as long as it is."""
        return self._usual.get(key)

    def keys(self, beginning: str) -> list[str]:
        """The keys of the newest row that begin so."""
        if beginning not in self._found:
            self._found[beginning] = [key for key in self._columns if key.startswith(beginning)]
        return self._found[beginning]

    def endings(self, key: str, other: str) -> list[str]:
        """What follows `key`, and `other`, in the keys of the newest row: "", "_A", ..."""
        found = (name[len(key) :] for name in self.keys(key))
        return [end for end in found if other + end in self._columns]


class Case:
    """The recipe of a run as its recipe.json has it, of any version."""

    def __init__(self, recipe: Mapping[str, Any], gan: str) -> None:
        self.recipe, self.gan = recipe, gan

    def get(self, name: str, default: Any = None) -> Any:
        return self.recipe.get(name, default)

    def number(self, name: str, default: float) -> float:
        value = self.recipe.get(name, default)
        return float(value) if _is_number(value) else default

    def loss(self, rows: Rows) -> str:
        """How D's opinion becomes a loss: vanilla, softplus, lsgan, wgangp, energy or began."""
        if rows.now("k") is not None:
            return "began"
        if rows.now("energy/real") is not None:
            return "energy"
        if rows.keys("loss/gp"):
            return "wgangp"
        mode = self.recipe.get("gan_mode", "softplus")
        if mode == "auto":  # SimGAN's, of its form
            return "softplus" if self.recipe.get("form") == "paper" else "lsgan"
        return mode

    def advice(self, *each: str) -> str:
        """The pieces of advice whose flags this recipe has, as one line. A flag is written {lambda_l1}; {=lambda_l1}
        also says what it is now, and a piece without flags is for everyone.
        """
        return "; ".join(text for piece in each if (text := self._filled(piece)))

    def _filled(self, piece: str) -> str:
        parts = piece.split("{")
        text = parts[0]
        for part in parts[1:]:
            name, _, rest = part.partition("}")
            field = name.removeprefix("=")
            if field not in self.recipe:
                return ""
            text += "--" + field.replace("_", "-")
            if name.startswith("="):
                text += f" (now {_plain(self.recipe[field])})"
            text += rest
        return text


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if _is_number(value) else " ".join(str(value).split())

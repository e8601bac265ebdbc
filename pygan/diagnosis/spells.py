"""When is a sign a finding: a single noisy row never is one, and nothing is said twice without a reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pygan.diagnosis.detectors import DETECTORS, Detector
from pygan.diagnosis.of_balance import FEWEST_EVALUATIONS
from pygan.diagnosis.rows import WINDOW, Case, Row, Rows, read
from pygan.diagnosis.sign import Sign

_BACK = 2.0  # sick rows that a healthy one undoes: what is sick less than two times in three never lasts
_AWAY_ROWS = 100  # a disease that was gone for so many rows is said again when it is back
_WORSE = 4.0  # and one whose severity grew by this factor


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run, as it was said."""

    name: str  # of the disease, for programs
    images: int  # when it was said
    steps: int
    since_images: int  # when it began
    since_steps: int
    evidence: float  # the number that shows it; what it is stands in `line`
    line: str  # what is wrong, since which step, with the number
    advice: str  # what people do about it

    def to_json(self) -> dict[str, Any]:
        """As in findings.jsonl; an evidence that is no number is null."""
        return asdict(self) | {"evidence": self.evidence if math.isfinite(self.evidence) else None}


class Diagnosis:
    """Watches the rows of one run, oldest first."""

    def __init__(self, recipe_values: Mapping[str, Any], gan: str) -> None:
        """recipe_values: the fields of the recipe by name, as in recipe.json; gan: its name."""
        self._case = Case(recipe_values, gan)
        self._rows = Rows()
        self._spells = [Spell(detector) for detector in DETECTORS]
        self.seen_rows = 0
        self.seen_steps = 0
        self._seen_vitals = False
        self._evaluations = 0  # of held-out and training items

    def see(self, row: Mapping[str, Any]) -> list[Finding]:
        """What is to be said after one more row of metrics.jsonl: findings that were not said before.

        A row without images and steps is passed over, as are values that are no finite numbers.
        """
        if (known := read(row)) is None:
            return []
        self.seen_rows += 1
        self.seen_steps = known.steps
        self._seen_vitals |= any(key.startswith("vital/") for key in known.values)
        self._evaluations += known.is_evaluation and any(key.startswith("train/") for key in known.values)
        if self._rows.is_over(known):
            self._rows = Rows()
            for spell in self._spells:
                spell.end()
        self._rows.add(known)
        kinds = (bool(known.kinds), known.is_evaluation)
        found = (spell.look(self._rows, self._case, known) for spell in self._spells if kinds[spell.of_evaluations])
        return [finding for finding in found if finding is not None]

    def unseen(self) -> str:
        """What the rows so far could not tell, and why; "" if nothing."""
        parts = []
        if not self._seen_vitals:
            parts.append("gradients, colours, patterns and diversity (no vital/... in its rows)")
        if self._evaluations < FEWEST_EVALUATIONS:
            kind = "of held-out and training items"
            parts.append(f"memorisation ({self._evaluations} evaluations {kind}, {FEWEST_EVALUATIONS} are needed)")
        return "; ".join(parts)


class Spell:
    """How long one disease has been seen."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._score = 0.0
        self._since: tuple[int, int] | None = None  # (images, steps)
        self._said = 0.0  # severity that was said; 0: nothing was, or it has been gone for long
        self._healthy_rows = 0
        self._has_told = False  # sick or healthy, in this phase

    @property
    def of_evaluations(self) -> bool:
        return self._detector.of_evaluations

    def end(self) -> None:
        """What was seen so far has nothing to do with what comes."""
        self._score, self._since, self._has_told = 0.0, None, False

    def look(self, rows: Rows, case: Case, row: Row) -> Finding | None:
        """What is to be said after the newest row."""
        detector = self._detector
        sign = detector.look(rows, case)
        if sign is None:  # this row does not tell
            return None
        # A median whose first value is sick already has been so from its first row on, as far as anybody can tell.
        lag, self._has_told = (detector.lag if self._has_told else WINDOW - 1), True
        if not isinstance(sign, Sign):
            self._score = max(0.0, self._score - _BACK)
            self._healthy_rows += 1
            if self._score == 0.0:
                self._since = None
            if self._healthy_rows >= _AWAY_ROWS:
                self._said = 0.0
            return None
        self._score = min(self._score + 1.0, float(detector.rows))
        self._since = self._since or ((row.images, row.steps) if detector.of_evaluations else rows.back(lag))
        if self._score < detector.rows or row.steps - self._since[1] < detector.steps:
            return None
        self._healthy_rows = 0
        if self._said and sign.severity < _WORSE * self._said:
            return None
        self._said = sign.severity
        since_images, since_steps = sign.since or self._since
        line = f"{sign.what}, since step {since_steps}"
        return Finding(
            detector.name, row.images, row.steps, since_images, since_steps, sign.evidence, line, sign.advice
        )

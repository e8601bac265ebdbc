"""What goes wrong in a training, from the rows of its metrics.jsonl: live, row by row, or replayed from the files.

Plain Python over numbers: the same `Diagnosis` serves both. Each finding is one line: what is wrong, since which step,
the number that shows it; and a second one with what people do about it. The files `of_*` know
the diseases, `spells` when one has lasted long enough to be said, `replay` the files of a run.
"""

from pygan.diagnosis.replay import Replay, replay, replayed
from pygan.diagnosis.spells import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "Replay", "replay", "replayed"]

"""Bugs planted into copies of the real kernels, one at a time: the emulator's tests must see every one of them.

planted/<op>.toml lists them: `find`, a text that stands once in csrc/ops/<op>/<op>_cuda.cu (or `file` from there), and
`replace`. A bug is seen if the op's test program crashes, finds wrong numbers, prints otherwise under another schedule
of threads, or races. The first three of each op are tested; PYGAN_MUTANTS=99 tests all.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulate
import pytest

pytestmark = pytest.mark.skipif(bool(emulate.why_not()), reason=emulate.why_not() or "runs here")

MOST = int(os.environ.get("PYGAN_MUTANTS", "3"))  # of each op: all of them take 10 minutes
MUTANTS = {
    f"{table.stem}/{mutant['name']}": (table.stem, mutant)
    for table in sorted((emulate.HERE / "planted").glob("*.toml"))
    for mutant in tomllib.loads(table.read_text())["mutant"][:MOST]
}


def plant(op: str, mutant: dict[str, str], folder: Path) -> Path:
    """A copy of csrc with the bug in it."""
    csrc = folder / "csrc"
    shutil.copytree(emulate.CSRC, csrc)
    file = csrc / "ops" / op / mutant.get("file", f"{op}_cuda.cu")
    text = file.read_text()
    assert text.count(mutant["find"]) == 1, f"{file.name} has the text {text.count(mutant['find'])} times, not once"
    file.write_text(text.replace(mutant["find"], mutant["replace"]))
    return csrc


def is_seen(op: str, mutant: dict[str, str], folder: Path) -> bool:
    """Does the test program of the op notice? The cheapest way to see it first, ThreadSanitizer last."""
    source, csrc = emulate.HERE / f"test_{op}.cpp", plant(op, mutant, folder)
    program = emulate.build(source, "address", csrc)
    first = emulate.execute(program, emulate.SCHEDULES[0])
    results = (emulate.execute(program, schedule) for schedule in emulate.SCHEDULES[1:])
    seen = first.status != 0 or any(r.status != 0 or r.stdout != first.stdout for r in results)
    program.unlink()
    if not seen and not emulate.why_no("thread"):
        program = emulate.build(source, "thread", csrc)
        seen = emulate.execute(program, emulate.RACE_SCHEDULE).status != 0
        program.unlink()
    return seen


@pytest.fixture(scope="module")
def verdicts(request, tmp_path_factory):
    """Futures of `is_seen` of every selected bug, two at work at a time."""
    if reason := emulate.why_no("address"):
        pytest.skip(reason)
    chosen = {item.callspec.params["name"] for item in request.session.items if "verdicts" in item.fixturenames}
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {n: pool.submit(is_seen, *MUTANTS[n], tmp_path_factory.mktemp("planted")) for n in sorted(chosen)}
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_seen(verdicts, name):
    assert verdicts[name].result(), f"no test of the emulator notices: {MUTANTS[name][1]}"

"""Every kernel on the host emulator (cuda_host.h), and proof that the emulator catches what it says it does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import emulate
import pytest

pytestmark = pytest.mark.skipif(bool(emulate.why_not()), reason=emulate.why_not() or "runs here")

PROGRAMS = sorted(emulate.HERE.glob("test_*.cpp"))
BUGS = emulate.HERE / "planted" / "bugs.cpp"


@pytest.fixture(scope="session")
def builders():
    if reason := emulate.why_no("address"):
        pytest.skip(reason)
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def reports(builders, request):
    """Futures of what is wrong with each selected program, two at work at a time."""
    chosen = {item.callspec.params["program"] for item in request.session.items if "reports" in item.fixturenames}
    return {program: builders.submit(emulate.problems, program) for program in sorted(chosen)}


@pytest.fixture(scope="session")
def planted(builders):
    """A function of (sanitizer, bug, schedule) that runs one planted bug."""
    jobs = {
        sanitizer: builders.submit(emulate.build, BUGS, sanitizer)
        for sanitizer in emulate.SANITIZERS
        if not emulate.why_no(sanitizer)
    }
    programs = {sanitizer: job.result() for sanitizer, job in jobs.items()}

    def run(sanitizer: str, bug: str, schedule: int) -> emulate.Result:
        if sanitizer not in programs:
            pytest.skip(emulate.why_no(sanitizer))
        return emulate.execute(programs[sanitizer], schedule, bug)

    return run


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_kernels(reports, program: Path):
    found = reports[program].result()
    assert not found, "\n".join(found)


def test_a_kernel_without_a_bug_passes(planted):
    first = planted("address", "none", 0)
    assert first.status == 0, first.stderr
    assert all(planted("address", "none", schedule) == first for schedule in emulate.SCHEDULES)


def test_a_kernel_without_a_bug_has_no_race(planted):
    result = planted("thread", "none", emulate.RACE_SCHEDULE)
    assert result.status == 0, result.stderr


@pytest.mark.parametrize(
    ("bug", "message"),
    [
        ("barrier_after_return", "emulator: divergent barrier: 40 of 64 threads"),
        ("barrier_in_both_branches", "emulator: divergent barrier: thread"),
        ("barrier_against_warp", "emulator: deadlock:"),
        ("shuffle_after_return", "which has returned"),
        ("different_collectives", "emulator: divergent warp:"),
        ("past_shared", "heap-buffer-overflow"),
        ("past_row", "index 64 out of bounds"),
        ("past_dynamic_shared", "heap-buffer-overflow"),
        ("past_global", "heap-buffer-overflow"),
        ("misaligned", "misaligned address"),
    ],
)
@pytest.mark.parametrize("schedule", [0, 2])
def test_bug_stops_the_program(planted, bug, message, schedule):
    result = planted("address", bug, schedule)
    assert result.status != 0
    assert message in result.stderr


@pytest.mark.parametrize("bug", ["neighbour_without_barrier", "reuse_without_barrier", "arrival_order"])
def test_bug_shows_as_a_result_that_depends_on_the_schedule(planted, bug):
    results = [planted("address", bug, schedule) for schedule in emulate.SCHEDULES]
    assert all(result.status == 0 for result in results), results[0].stderr
    assert len({result.stdout for result in results}) > 1


def test_shared_memory_that_was_never_written_is_nan(planted):
    assert "nan" in planted("address", "never_written", 0).stdout


@pytest.mark.parametrize(
    "bug",
    [
        "neighbour_without_barrier",
        "reuse_without_barrier",
        "lanes_without_syncwarp",
        "ticket_without_fence",
        "ticket_without_barrier",
    ],
)
def test_bug_is_a_data_race(planted, bug):
    result = planted("thread", bug, emulate.RACE_SCHEDULE)
    assert result.status != 0
    assert "WARNING: ThreadSanitizer: data race" in result.stderr
    assert "bugs.cpp" in result.stderr

"""Hundreds of hostile files and requests against translate and a real server; benchmarks.hostile throws 10,000."""

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent.parent))  # last: the installed pygan, not that of the checkout

from benchmarks import hostile
from benchmarks.hostile import hostile_files, hostile_requests
from pygan import pixels
from pygan.__main__ import main
from pygan.errors import UserError, say

TRAIN = ["train", "pix2pix", "--preset", "tiny", "--device", "cpu", "--no-tensorboard"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("hostile") / "run"
    assert main([*TRAIN, "--run", str(path)]) == 0
    return path


def test_the_same_seed_gives_the_same_files_and_requests():
    assert list(hostile_files.files(40, 3)) == list(hostile_files.files(40, 3))
    assert list(hostile_requests.requests(40, 3, "m")) == list(hostile_requests.requests(40, 3, "m"))
    assert list(hostile_files.files(40, 3)) != list(hostile_files.files(40, 4))


def test_reading_gives_a_picture_or_one_line():
    """pixels.read, without the network and the files round it: what is good is read, what is bad is refused."""
    wrong, lines = [], []
    for file in hostile_files.files(600, 5):
        try:
            pixels.read(file.data)
            outcome = hostile_files.GOOD
        except UserError as error:
            lines.append(str(error))
            outcome = hostile_files.BAD
        if file.meant not in (outcome, hostile_files.EITHER):
            wrong.append((file.why, file.kind, file.meant))
    assert wrong == []
    assert len(lines) > 100
    assert all(0 < len(line) < 300 and "\n" not in line for line in lines)


def test_the_memory_of_a_child_is_its_own(tmp_path):
    """Not that of the process that starts it, which may have had more; and what hangs is killed."""
    ours = bytearray(b"x") * (700 << 20)
    body = "import time; theirs = bytearray(b'x') * (300 << 20); time.sleep(0.3); print('one', file=sys.stderr)"
    command = [sys.executable, "-c", f"import sys; {body}; sys.exit(3)"]
    code, lines, mib = hostile._watched(command, tmp_path, None, 60)
    assert (code, lines, len(ours)) == (3, ["one"], 700 << 20)
    assert 300 < mib < 500
    assert hostile._watched([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, None, 1)[0] is None


def test_translate(run, tmp_path):
    """A folder and a list of files: a result or a line for each, the right result for good ones, nothing elsewhere."""
    found = hostile.Found()
    peak = hostile.throw_at_translate(run, tmp_path, 300, 1, found, per_command=150)
    assert found.faults == []
    assert found.counts["translated"] > 30
    assert found.counts["one line"] > 100
    assert peak < hostile.MOST_MIB


def test_serve(run, tmp_path):
    """A real server over HTTP: 200 or a 4xx of one line for each, and it is well afterwards."""
    found = hostile.Found()
    peak = hostile.throw_at_serve(run, tmp_path, 300, 2, found)
    assert found.faults == []
    assert found.counts["200"] > 20
    assert found.counts["422"] + found.counts["415"] > 50
    assert peak < hostile.MOST_MIB


def test_a_line_for_the_user_is_one_line_and_steers_no_terminal(capfd):
    say("cannot read a\nb\r\x1b[2J\udcff\N{RIGHT-TO-LEFT OVERRIDE}é")
    assert capfd.readouterr().err == "pygan: cannot read a\\nb\\r\\x1b[2J\\udcff\\u202eé\n"


# The judges themselves: each fault is seen.


def test_a_result_that_is_wrong_or_missing_is_seen(run, tmp_path):
    offline = hostile.Offline(run)
    rng = random.Random(0)
    good = hostile_files.File(hostile_files.good_picture(rng), "png", hostile_files.GOOD, "nothing")
    bad = hostile_files.File(b"x", "png", hostile_files.BAD, "noise")
    for token, file, made, lines, fault in (
        ("h000001", good, hostile_files.good_picture(rng), [], "wrongly translated"),
        ("h000002", good, None, ["pygan: cannot read h000002.png: damaged"], "refused, though nothing is wrong"),
        ("h000003", bad, None, [], "neither a result nor a line"),
        ("h000004", bad, None, ["pygan: cannot read h000004.png", "pygan: h000004.png again"], "0 results and 2 lines"),
        ("h000005", bad, good.data, [], "translated"),
        ("h000006", bad, None, ["Traceback of h000006"], "a line that is not pygan's"),
    ):
        output = tmp_path / token
        output.mkdir()
        if made is not None:
            (output / f"{token}.png").write_bytes(made)
        found = hostile.Found()
        hostile._judge_files({token: (tmp_path / f"{token}.png", file)}, output, lines, set(), offline, found)
        assert [text for text in found.faults if fault in text], (fault, found.faults)


def test_an_answer_that_is_wrong_or_missing_is_seen(run):
    from email.message import Message

    offline, rng = hostile.Offline(run), random.Random(0)
    picture = hostile_files.good_picture(rng)
    good = hostile_requests.translate("m", picture, "image/png")
    bad = hostile_requests.translate("m", b"x", "image/png", meant=hostile_files.BAD, why="noise")
    plain, structured = Message(), Message()
    structured["Content-Type"] = "application/json"
    for request, outcome, fault in (
        (good, (200, plain, hostile_files.good_picture(rng)), "a wrong picture"),
        (good, (422, plain, b"no"), "to a good picture"),
        (good, (0, plain, b""), "no answer"),
        (good, (-1, plain, b""), "no answer"),
        (bad, (200, plain, picture), "200 to"),
        (bad, (500, plain, b"oops"), "500 to"),
        (bad, (400, plain, b"two\nlines"), "not told in one line"),
        (bad, (400, structured, b'{"error": ""}'), "not told in one line"),
    ):
        found = hostile.Found()
        hostile._judge_answer(request, outcome, offline, found)
        assert fault in " ".join(found.faults).replace("closed without an answer", "no answer"), (fault, found.faults)


def test_a_file_outside_the_output_is_seen(tmp_path):
    (tmp_path / "out").mkdir()
    before = hostile.seen(tmp_path, but=(tmp_path / "out",))
    (tmp_path / "out" / "x").write_text("x")
    assert hostile.seen(tmp_path, but=(tmp_path / "out",)) == before
    (tmp_path / "y").write_text("y")
    assert hostile.seen(tmp_path, but=(tmp_path / "out",)) != before

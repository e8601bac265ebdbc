"""`pygan quiz`: whole sessions in a headless Chromium, over a crash of the server, and the picture that needs none."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from pygan.__main__ import main
from pygan.quiz import pool, rates, records

# Notes, frame by frame, how many pictures can be seen; its own clock, beside the page's.
WATCH = """
window.seen = [];
(function note(now) {
  const there = [...document.querySelectorAll("#stage img")].filter(
    (image) => getComputedStyle(image).visibility === "visible" && image.complete && image.naturalWidth > 0
      && image.getBoundingClientRect().width > 50);
  window.seen.push([now, there.length]);
  requestAnimationFrame(note);
})(performance.now());
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs of one recipe and two seeds, with 8 held-out pairs."""
    folder = tmp_path_factory.mktemp("quiz")
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--data-images", "20", "--holdout", "0.4"]
    for name, seed in (("a", "1"), ("b", "2")):
        run = str(folder / name)
        assert main(["train", "pix2pix", *flags, "--steps", "4", "--epochs", "0", "--seed", seed, "--run", run]) == 0
    return folder / "a", folder / "b"


class Quiz:
    """`pygan quiz` in a process of its own, once it serves."""

    def __init__(self, *argv, port=0):
        command = [sys.executable, "-m", "pygan", "quiz", *map(str, argv), "--port", str(port), "--no-open"]
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.url, self.port = found[0], int(found[1])
                return
        pytest.fail(f"it does not serve: {self.said}")

    def end(self, number=signal.SIGINT):
        """(exit code, what it said at the end)"""
        self.process.send_signal(number)
        rest = self.process.communicate(timeout=60)[0]
        return self.process.returncode, rest


@pytest.fixture
def quiz(runs):
    """A function that starts a quiz, which ends with the test at the latest."""
    started = []

    def start(*argv, **options):
        started.append(Quiz(*argv, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def until(browser, condition, most_s=40.0):
    """Wait until a JavaScript expression is true."""
    end = time.monotonic() + most_s
    while not browser.execute_script(f"return Boolean({condition})"):
        if time.monotonic() > end:
            shown = browser.find_element("tag name", "main").text
            pytest.fail(f"{condition} never came; the page says: {shown}")
        time.sleep(0.02)


def press(browser, key):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(key).perform()


def open_on(section):
    return f"document.readyState === 'complete' && !document.getElementById('{section}').hidden"


def text(browser, name):
    return browser.find_element("id", name).text


def of(path, what):
    return [row for row in records.read(path) if row["what"] == what]


def test_a_whole_session_with_a_reload_and_a_crash(browser, quiz, runs, tmp_path):
    from selenium.webdriver.common.keys import Keys

    file = tmp_path / "answers.jsonl"
    argv = [runs[0], "--practice", "2", "--trials", "4", "--exposure", "0.3", "--results", file]
    serving = quiz(*argv)
    browser.get_log("browser")
    browser.requests()
    browser.get(serving.url)
    until(browser, open_on("hello-pairs"))
    assert "0.3 seconds" in text(browser, "hello-pairs")
    browser.execute_script(WATCH)
    press(browser, Keys.ENTER)

    # Practice: seen for as long as was asked, gone before the answer, and told.
    until(browser, "phase === 'ask'")
    assert not browser.execute_script("return document.querySelectorAll('#stage img').length")
    seen = browser.execute_script("return window.seen")
    times = [now for now, there in seen if there == 2]
    assert {there for _, there in seen} == {0, 2}  # never one alone
    assert 200 < max(times) - min(times) < 2000  # far from both on a machine that has time
    assert of(file, "shown")
    assert not of(file, "answer")
    press(browser, "f")
    until(browser, "phase === 'told'")
    (first,) = of(file, "answer")
    assert first["practice"]
    assert first["answer"] == "left"
    assert abs(first["exposure_ms"] - (max(times) - min(times))) < 200
    verdict = "Right" if first["correct"] else "Wrong"
    assert text(browser, "question") == f"{verdict}: the {first['real']} one was real."
    assert first["correct"] == (first["real"] == "left")
    press(browser, Keys.ENTER)
    until(browser, "phase === 'ask' && state.trial === 1")
    press(browser, Keys.ARROW_RIGHT)
    until(browser, "phase === 'told'")
    press(browser, Keys.ENTER)

    # What counts is not told. A reload after the pair was seen gives no second look.
    until(browser, open_on("pause"))
    press(browser, Keys.ENTER)
    until(browser, "phase === 'ask' && state.trial === 2")
    assert not browser.find_element("id", "missed").is_displayed()
    browser.refresh()
    until(browser, open_on("pair"))
    until(browser, "phase === 'ask'")
    assert browser.find_element("id", "missed").is_displayed()
    assert not browser.execute_script("return document.querySelectorAll('#stage img').length")
    assert len(of(file, "shown")) == 3
    press(browser, "j")
    until(browser, "phase === 'ask' && state.trial === 3")
    assert "one was real" not in text(browser, "pair").replace("Which one was real?", "")
    assert len(of(file, "answer")) == 3

    # The server is killed while a pair waits for its answer: nothing that was said is lost, and it goes on.
    serving.end(signal.SIGKILL)
    press(browser, "f")
    until(browser, open_on("trouble"))
    assert len(of(file, "answer")) == 3
    serving = quiz(*argv, port=serving.port)
    assert "1 person so far" in serving.said
    press(browser, Keys.ENTER)
    until(browser, "phase === 'ask' && state.trial === 4")
    assert len(of(file, "answer")) == 4
    browser.find_element("css selector", "[data-side=left]").click()
    until(browser, "phase === 'ask' && state.trial === 5")
    press(browser, "f")
    until(browser, open_on("done"))

    # The end: the page, the file and the table agree.
    answers = of(file, "answer")
    assert [row["trial"] for row in answers] == list(range(6))
    counted = [row["correct"] for row in answers if not row["practice"]]
    assert len(of(file, "session")) == 1
    assert f"right in {sum(counted)} of 4" in text(browser, "result")
    rate = float(browser.find_element("id", "rate").get_attribute("data-rate"))
    (summary,) = rates.fooling(records.read(file))
    assert rate == summary.rate.mean == 1 - sum(counted) / 4
    assert all(url.startswith(serving.url) for url in browser.requests())
    severe = [entry for entry in browser.get_log("browser") if "ERR_CONNECTION_REFUSED" not in entry["message"]]
    assert not severe
    code, said = serving.end()
    assert code == 0
    assert f"{100 * rate:.1f} %" in said


def test_a_whole_session_of_ranking(browser, quiz, runs, tmp_path):
    from selenium.webdriver.common.keys import Keys

    file = tmp_path / "ranks.jsonl"
    serving = quiz(*runs, "--rank", "--trials", "2", "--results", file)
    browser.get(serving.url)
    until(browser, open_on("hello-ranks"))
    press(browser, Keys.ENTER)
    until(browser, "phase === 'ask' && state.trial === 0")
    assert len(browser.find_elements("css selector", "#pictures img")) == 2
    assert len(browser.find_elements("css selector", "#given img")) == 1
    assert not browser.find_element("id", "confirm").is_enabled()
    press(browser, "a")
    assert browser.find_element("id", "confirm").is_enabled()  # the other one is the worst
    press(browser, Keys.BACKSPACE)
    assert not browser.find_element("id", "confirm").is_enabled()
    press(browser, "b")
    press(browser, Keys.ENTER)
    until(browser, "phase === 'ask' && state.trial === 1")
    (first,) = of(file, "rank")
    assert [one["place"] for one in first["ranks"]] == [1, 0]
    assert [one["rank"] for one in first["ranks"]] == [1, 2]
    browser.refresh()
    until(browser, "phase === 'ask' && state.trial === 1")
    browser.find_elements("css selector", "#pictures button")[0].click()
    browser.find_element("id", "confirm").click()
    until(browser, open_on("done"))
    second = of(file, "rank")[1]
    assert [one["place"] for one in second["ranks"]] == [0, 1]
    assert {one["run"] for one in second["ranks"]} == {str(run) for run in runs}
    code, said = serving.end(signal.SIGTERM)
    assert code == 0
    assert "human rank" in said


def test_the_mixed_grid_of_a_run(runs, tmp_path, capfd):
    output = tmp_path / "mixed.png"
    argv = ["quiz", str(runs[0]), "--device", "cpu", "--seed", "4"]
    assert main([*argv, "--grid", str(output), "-n", "6"]) == 0
    assert "3 real and 3 generated" in capfd.readouterr().out
    shown = pool.make(runs[0], most=6, checkpoint="last", device="cpu", data="", way="", seed=4)
    key = json.loads((tmp_path / "mixed.key.json").read_text())
    assert (key["run"], key["images_seen"]) == (str(runs[0].resolve()), shown.system.images_seen)
    sheet, zoom = np.asarray(Image.open(output)), 3  # 32 pixels are enlarged to 96
    for cell in key["cells"]:
        top, left = 8 + cell["row"] * (96 + 24), 8 + cell["column"] * (96 + 8)
        inside = sheet[top : top + 96 : zoom, left : left + 96 : zoom]
        assert (inside == (shown.real if cell["real"] else shown.fake)[cell["item"]]).all()
        assert (inside != (shown.fake if cell["real"] else shown.real)[cell["item"]]).any()
    before = output.read_bytes()
    assert main([*argv, "--grid", str(output), "-n", "6"]) == 0
    assert output.read_bytes() == before
    assert main([*argv, "--grid", str(output), "-n", "60"]) == 0
    assert "8 in the grid instead of 60" in capfd.readouterr().err


def test_noise_is_drawn_anew_for_every_batch(tmp_path):
    """Two batches of one run, from noise, are not the same pictures again."""
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--data-images", "20", "--holdout", "0.5"]
    assert main(["train", "dcgan", *flags, "--steps", "2", "--epochs", "0", "--run", str(tmp_path / "run")]) == 0
    how = {"checkpoint": "last", "device": "cpu", "data": "", "way": ""}
    shown = pool.make(tmp_path / "run", most=10, seed=0, **how)
    assert not shown.paired
    assert len({picture.tobytes() for picture in shown.fake}) == 10
    other = pool.make(tmp_path / "run", most=10, seed=1, **how)
    assert shown.fake[0].tobytes() != other.fake[0].tobytes()
    assert shown.real[0].tobytes() == other.real[0].tobytes()
    assert shown.real[0].shape == shown.fake[0].shape == (*shown.real[0].shape[:2], 3)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--practice", "-1"], "--practice must be at least 0"),
        (["--trials", "0"], "--trials must be at least 1"),
        (["--exposure", "nan"], "--exposure must be from"),
        (["--port", "70000"], "--port must be in"),
        (["--rank"], "2 to 26 runs, got 1"),
        (["--number", "4"], "--number has no meaning without --grid"),
        (["--grid", "x.png", "--trials", "4"], "--trials has no meaning with --grid"),
        (["--grid", "x.jpg"], "name it x.png"),
        (["--way", "AtoB", "--grid", "x.png"], "it has only one way"),
        (["--checkpoint", "none", "--grid", "x.png"], "no checkpoint 'none'"),
        (["--data", "/nowhere", "--grid", "x.png"], "--data /nowhere does not fit"),
        (["--results", "/proc/none/x"], "cannot write into /proc/none/x"),
        (["--results-only"], "no results yet"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(runs, tmp_path, monkeypatch, capfd, flags, expected):
    monkeypatch.chdir(tmp_path)
    there = sorted(path.name for path in runs[0].iterdir())
    assert main(["quiz", str(runs[0]), "--device", "cpu", "--no-open", *flags]) == 2
    said = capfd.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert sorted(path.name for path in runs[0].iterdir()) == there
    assert not list(tmp_path.iterdir())


def test_practice_alone_is_no_result(tmp_path, capfd):
    row = {"what": "answer", "session": "a", "trial": 0, "practice": True, "correct": True, "exposure_s": 1.0}
    file = tmp_path / "quiz.jsonl"
    file.write_text(json.dumps(row | {"run": "/a", "images_seen": 5, "way": ""}) + "\n")
    assert main(["quiz", "--results-only", "--results", str(file)]) == 0
    said = capfd.readouterr().out
    assert "no answer that counts so far" in said
    assert "fooled" not in said


def test_no_run_is_made_by_asking_about_one(tmp_path, capfd):
    assert main(["quiz", str(tmp_path / "none"), "--no-open"]) == 2
    assert "not a run directory" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["quiz"]) == 2
    assert "RUN is missing" in capfd.readouterr().err

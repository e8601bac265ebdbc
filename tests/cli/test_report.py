"""`pygan report`: one page of any run, whatever of it is there; looked at and clicked in a real browser."""

import html
import json
import math
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.append(str(Path(__file__).parent.parent.parent))  # last: the installed pygan, not that of the checkout

from benchmarks.bench_report import long_run
from pygan import progress
from pygan.__main__ import main
from pygan.report import curves, grids, measures, record, sections
from pygan.rundir import RunDir, read_metrics

TINY = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--log-every-images", "2"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished tiny run with a name that a page must not take for its own words."""
    path = tmp_path_factory.mktemp("report") / "<script>alert(1)<script>"
    assert main(["train", "pix2pix", *TINY, "--lambda-l1", "10", "--no-flip", "--run", str(path)]) == 0
    return path


@pytest.fixture
def copy(run, tmp_path):
    """The run, to be damaged."""
    return shutil.copytree(run, tmp_path / "run")


def report(path, *more):
    """Write a report; its text."""
    assert main(["report", str(path), "--device", "cpu", *map(str, more)]) == 0
    return (path / "report.html").read_text()


def fails(capfd, *argv):
    """Must end with 2 and one line on stderr. Returns the line."""
    assert main([str(word) for word in argv]) == 2
    error = capfd.readouterr().err.strip()
    assert len(error.splitlines()) == 1, error
    assert error.startswith("pygan: error: ")
    return error


def words(text):
    """What a reader sees of a page, without its pictures and numbers."""
    text = re.sub(r"<(script|style)\b.*?</\1>", " ", text, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", text)))


# In the browser.


@pytest.fixture(scope="module")
def opened(run, browser):
    report(run)
    browser.requests()
    browser.get((run / "report.html").as_uri())
    browser.execute_script("document.documentElement.style.scrollBehavior = 'auto'")
    return browser


def chart(driver, title):
    return next(c for c in driver.find_elements("css selector", ".chart") if c.text.startswith(title))


def test_nothing_is_fetched_nothing_fails_and_all_is_drawn(opened):
    assert [url for url in opened.requests() if "report.html" not in url] == []
    assert [entry["message"] for entry in opened.get_log("browser")] == []
    charts = opened.find_elements("css selector", ".chart")
    assert len(charts) >= 8
    assert all(chart.get_attribute("data-drawn") for chart in charts)
    images = "return [...document.images].filter((i) => i.src).map((i) => i.complete && i.naturalWidth > 0)"
    assert all(opened.execute_script(images))


def test_a_name_stays_text(opened, run):
    assert opened.find_element("tag name", "h1").text == f"pix2pix / {run.name}"
    assert opened.title == f"pix2pix / {run.name}"


@pytest.mark.parametrize(
    ("title", "key"),
    [("Losses", "loss/G"), ("Losses", "loss/D"), ("D's logits", "logit/fake"), ("Learning rate", "lr")],
)
def test_hover_shows_the_values_of_a_row(opened, run, title, key):
    from selenium.webdriver.common.action_chains import ActionChains

    found = chart(opened, title)
    canvas = found.find_element("css selector", ".over")
    opened.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
    ActionChains(opened, duration=0).move_to_element(canvas).perform()
    head, *lines = found.find_element("css selector", ".tip").text.splitlines()
    images = int(re.search(r"images ([\d,]+)", head)[1].replace(",", ""))
    row = next(row for row in read_metrics(run) if row["images"] == images)
    assert f"steps {row['steps']}" in head
    shown = {name: float(value) for name, value in (line.split()[:2] for line in lines)}
    assert shown[key] == pytest.approx(row[key], rel=1e-5)


def test_the_slider_goes_through_all_grids(opened, run):
    from selenium.webdriver.common.keys import Keys

    counts = [images for images, _ in record.read(run).samples]
    assert len(counts) > 2
    slider = opened.find_element("css selector", ".timeline input")
    seen = []
    slider.send_keys(Keys.HOME)
    for _ in counts:
        text = opened.find_element("css selector", ".timeline output").text
        seen.append((text, opened.execute_script("return document.querySelector('.lanes img').src")))
        slider.send_keys(Keys.ARROW_RIGHT)
    assert [text for text, _ in seen] == [f"{images} images" for images in counts]
    assert len({uri for _, uri in seen}) == len(counts)


def test_the_recipe_can_be_narrowed_to_what_was_asked(opened, run):
    opened.find_element("css selector", '[data-only="own"]').click()
    shown = [
        r.text.split()[0] for r in opened.find_elements("css selector", "#recipe-fields tbody tr") if r.is_displayed()
    ]
    opened.find_element("css selector", '[data-only="own"]').click()
    assert shown == ["--tensorboard", "--log-every-images", "--flip", "--lambda-l1"]


def test_triplets_are_the_held_out_items(opened):
    rows = opened.find_elements("css selector", "#held-out-items .pictures")
    names = [[n.text for n in row.find_elements("tag name", "figcaption")] for row in rows]
    assert names == [["input", "output", "target"]] * len(rows)
    assert len(rows) > 0
    assert "SSIM" in rows[0].text


def test_the_command_trains_the_same_run_again(opened, run, tmp_path):
    command = shlex.split(opened.find_element("css selector", "#commands code").get_attribute("textContent"))
    assert command[:5] == ["pygan", "train", "pix2pix", "--preset", "tiny"]
    assert sorted(word for word in command[5:] if word.startswith("--")) == sorted(
        ["--lambda-l1", "--no-flip", "--no-tensorboard", "--log-every-images", "--run"]
    )
    command[command.index("--run") + 1] = str(tmp_path / "again")
    assert main([*command[1:], "--device", "cpu"]) == 0
    clock = ("images_per_s",)
    rows = [
        [{k: v for k, v in row.items() if k not in clock} for row in read_metrics(p)] for p in (run, tmp_path / "again")
    ]
    assert rows[0] == rows[1]


# What is in it.


def test_it_has_all_its_parts(run):
    text = words(report(run))
    parts = [
        "Summary",
        "Findings",
        "Curves",
        "Samples",
        "Held-out items",
        "Metrics",
        "Recipe",
        "Environment",
        "Commands",
    ]
    assert [part for part in parts if part not in text] == []
    for fact in ("finished", "Does it overfit?", "On training items", "training items", "mean image", "G.safetensors"):
        assert fact.lower() in text.lower()
    assert "weight of the distance to the target in G" in text  # the help of a field


@pytest.mark.parametrize(
    "gone", ["metrics.jsonl", "samples", "scores.json", "environment.json", "checkpoints", ".lock"]
)
def test_what_is_missing_is_said_and_the_rest_is_there(copy, gone):
    path = copy / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    text = words(report(copy))
    said = {
        "metrics.jsonl": "no metrics row yet",
        "samples": "no sample grids yet",
        "scores.json": "There are no scores",
        "environment.json": "no environment.json",
        "checkpoints": "no checkpoint yet",
        ".lock": "finished",
    }
    assert said[gone] in text
    assert "Recipe" in text


DAMAGED = ("metrics.jsonl", "scores.json", "environment.json", "evaluation.json", "findings.jsonl")


@pytest.mark.parametrize(
    "content", [b"{\xff\x00", b"[1, 2", b'"text"', b"[[1], null]", b'{"scores": {"a": [1]}, "ways": 3, "sessions": 1}']
)
def test_damaged_files_do_not_stop_it(copy, content):
    for name in DAMAGED:
        (copy / name).write_bytes(content)
    assert "Recipe" in report(copy, "--triplets", 0)


def test_absurd_numbers_and_nests_do_not_stop_it(copy):
    huge, deep = "9" * 400, "[" * 100_000
    with open(copy / "metrics.jsonl", "a") as file:
        file.write(f'{{"images": {huge}, "steps": 1}}\n{deep}\n{{"images": 32, "steps": {huge}, "loss/G": {huge}}}\n')
    (copy / "scores.json").write_text(f'{{"scores": {{"a": {{"l1": {huge}}}}}}}')
    (copy / "evaluation.json").write_text(deep)
    (copy / "findings.jsonl").write_text(f'{{"name": "diverged", "images": 99, "evidence": {huge}}}\n')
    assert "evaluation.json is damaged" in words(report(copy, "--triplets", 0))
    assert main(["doctor", str(copy)]) == 0


def test_when_it_began_is_told_by_its_first_session(copy):
    """These runs have no events whose names would tell it."""
    facts = json.loads((copy / "environment.json").read_text())
    facts["sessions"] = [facts["sessions"][0] | {"began": "2020-02-03T12:00:00+00:00"}, *facts["sessions"]]
    (copy / "environment.json").write_text(json.dumps(facts))
    assert record.when(record.read(copy))[0].startswith("2020-02-03")
    text = words(report(copy, "--triplets", 0))
    assert "session 2" in text
    (copy / "environment.json").unlink()
    assert record.when(record.read(copy))[0] == ""


def test_damaged_pictures_are_left_out(copy):
    grids_there = sorted((copy / "samples").iterdir())
    grids_there[0].write_bytes(grids_there[0].read_bytes()[:200])
    text = report(copy, "--triplets", 0)
    data = json.loads(re.search(r'class="lanes">.*?<script type="application/json">(.*?)</script>', text, re.S)[1])
    assert len(data["times"]) == len(grids_there) - 1
    assert "1 could not be read" in text


def test_a_run_that_has_only_begun(tmp_path, run):
    (tmp_path / "new").mkdir()
    shutil.copy(run / "recipe.json", tmp_path / "new")
    text = words(report(tmp_path / "new"))
    assert "not begun" in text
    assert "no row to look at" in text


def test_a_run_that_diverged(copy, browser):
    row = read_metrics(copy)[-1]
    with open(copy / "metrics.jsonl", "a") as file:
        for k in range(1, 4):
            bad = {"images": row["images"] + k, "steps": row["steps"] + k, "loss/G": math.nan, "loss/D": math.inf}
            file.write(json.dumps(row | bad) + "\n")
    manifest = copy / "checkpoints" / "last" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"finished": False}))
    text = report(copy, "--triplets", 0)
    assert "diverged" in words(text)
    browser.get((copy / "report.html").as_uri())
    found = chart(browser, "Losses")
    assert found.get_attribute("data-holes") == "6"
    from selenium.webdriver.common.keys import Keys

    canvas = found.find_element("css selector", ".over")
    browser.execute_script("arguments[0].focus()", canvas)
    canvas.send_keys(Keys.END)
    assert "loss/G NaN" in found.text
    assert "loss/D ∞" in found.text
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_a_run_that_stopped_by_divergence(tmp_path):
    """No row has the NaN: training stops before it writes one."""
    path = tmp_path / "run"
    flags = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--lr", "1e15", "--log-every-images", "2"]
    assert main(["train", "dcgan", *flags, "--run", str(path)]) == 1
    assert record.read(path).status == "diverged"
    assert "first seen in module" in words(report(path, "--triplets", 0))


def test_a_run_in_training_is_said_to_be(copy):
    lock = RunDir(copy).open()
    try:
        assert record.read(copy).status == "training"
        assert "training this run now" in words(report(copy, "--triplets", 0))
    finally:
        lock.close()
    assert record.read(copy).status == "finished"


def test_a_checkpoint_that_vanishes_meanwhile(copy, monkeypatch):
    def load(*_):
        raise FileNotFoundError(2, "No such file or directory", "checkpoints/last/G.safetensors")

    monkeypatch.setattr("pygan.use.load", load)
    text = words(report(copy))
    assert "G.safetensors cannot be read (No such file or directory); write the report again" in text
    assert "Commands" in text


def test_findings_are_told(copy):
    """Those that a replay gives; here of a D that is far ahead for long."""
    rows = read_metrics(copy)
    with open(copy / "metrics.jsonl", "w") as file:
        for k in range(1, 301):
            won = {"images": 2 * k, "steps": k, "logit/real": 12.0, "logit/fake": -12.0, "loss/D": 1e-6, "loss/G": 20.0}
            won |= {"loss/D_real": 1e-6, "loss/D_fake": 1e-6}
            file.write(json.dumps(rows[0] | won) + "\n")
    found = record.read(copy).findings
    assert found
    text = words(report(copy, "--triplets", 0))
    assert found[0]["line"] in text
    assert found[0]["advice"] in text
    marks = json.loads(re.search(r'"marks":(\[.*?\])\}</script>', (copy / "report.html").read_text())[1])
    assert marks[0]["x"]["images"] == found[0]["since_images"]


def test_long_work_shows_how_far_it_is(run, copy, monkeypatch, capsys):
    """Of a large run it takes minutes: rows to look through, grids to make small, items to paint."""
    assert main(["report", str(copy)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1  # not of a small one
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)
    rows, grids = len(read_metrics(copy)), len(list((copy / "samples").iterdir()))
    assert main(["report", str(copy), "-n", "2"]) == 0
    out = capsys.readouterr().out
    for last in (
        f"looking through the rows of {copy}: {rows}/{rows} rows",
        f"{grids}/{grids} grids",
        "painting held-out",
    ):
        assert last in out
    assert main(["doctor", str(copy)]) == 0
    assert f"looking through the rows: {rows}/{rows} rows" in capsys.readouterr().out
    assert main(["doctor", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows  # nothing but JSON
    assert main(["compare", str(copy), str(run), "-o", str(copy / "compare.html")]) == 0
    assert "painting inputs of" in capsys.readouterr().out


def test_data_that_is_gone_is_named(tmp_path, capfd):
    assert main(["data", "make", "facades", str(tmp_path / "set"), "--n", "8", "--size", "36"]) == 0
    assert main(["train", "pix2pix", *TINY, "--data", str(tmp_path / "set"), "--run", str(tmp_path / "run")]) == 0
    (tmp_path / "set").rename(tmp_path / "moved")
    text = words(report(tmp_path / "run"))
    assert "cannot be shown" in text
    assert "--data DIR" in text
    assert "Recipe" in text


def test_noise_becomes_pictures_beside_real_ones(tmp_path):
    path = tmp_path / "began"
    assert main(["train", "began", *TINY, "--run", str(path), "--max-steps", "3"]) == 0
    text = report(path)
    assert "Made from noise" in text
    assert "real (held out)" in text
    assert "M, the measure of convergence" in words(text)
    assert "k, the balance" in words(text)
    assert "interrupted" in words(text)
    assert f"pygan train began --run {path}" in words(text)


# Bad wishes.


def test_bad_wishes_are_refused_in_one_line(run, tmp_path, capfd):
    assert "not a run directory" in fails(capfd, "report", tmp_path)
    assert "at least 0" in fails(capfd, "report", run, "--triplets", "-1")
    assert "name it page.html" in fails(capfd, "report", run, "-o", tmp_path / "page.pdf")
    (tmp_path / "folder.html").mkdir()
    assert "is a folder" in fails(capfd, "report", run, "-o", tmp_path / "folder.html")
    (tmp_path / "file").write_text("")
    assert "cannot write" in fails(capfd, "report", run, "--triplets", "0", "-o", tmp_path / "file" / "x.html")
    assert "no checkpoint 'bset'" in fails(capfd, "report", run, "--checkpoint", "bset", "-o", tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()


def test_a_device_that_is_not_there_is_refused(run, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    page = tmp_path / "page.html"
    assert main(["report", str(run), "--device", "cuda", "-o", str(page)]) == 2
    assert main(["compare", str(run), str(tmp_path), "--device", "cuda", "-o", str(page)]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert all("--device cuda" in line for line in lines)
    assert not page.exists()


def test_it_can_be_written_elsewhere(run, tmp_path, capfd):
    target = tmp_path / "deep" / "page.html"
    assert main(["report", str(run), "-o", str(target), "--triplets", "1", "--checkpoint", "best"]) == 0
    assert f"wrote {target}" in capfd.readouterr().out
    assert "checkpoints/best" in target.read_text()


# Long runs.


def test_two_hundred_epochs_stay_under_15_mb(tmp_path, browser):
    path = long_run(tmp_path / "run", rows=6000, distinct=3)
    text = report(path)
    assert (path / "report.html").stat().st_size < 15_000_000
    data = json.loads(re.search(r'class="lanes">.*?<script type="application/json">(.*?)</script>', text, re.S)[1])
    assert len(data["times"]) >= 30
    assert (data["times"][0], data["times"][-1]) == (400, 80_000)
    assert f"{len(data['times'])} of 200 grids" in text
    assert "It overfits" in text
    browser.requests()
    browser.get((path / "report.html").as_uri())
    charts = browser.find_elements("css selector", ".chart")
    assert all(one.get_attribute("data-drawn") for one in charts)
    assert [url for url in browser.requests() if "report.html" not in url] == []
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def test_a_page_is_small_whatever_is_logged(monkeypatch, copy):
    """A tenth of the budget, for a tenth of the numbers that would not fit."""
    monkeypatch.setattr(curves, "_BUDGET", 450_000)
    rows = [
        {"images": k, "steps": k} | {f"loss/{name}": k * (name + 1) * 7919 % 101 + 0.5 for name in range(60)}
        for k in range(1, 3001)
    ]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = report(copy, "--triplets", 0)
    numbers = sum(map(len, re.findall(r'class="column"[^>]*>([^<]*)<', text)))
    assert 100_000 < numbers < 450_000
    assert "the least and greatest of every stretch" in text


def test_grids_fit_their_room_and_keep_both_ends(tmp_path):
    random = np.random.default_rng(0)
    samples = []
    for k in range(1, 13):
        file = tmp_path / f"{k}.png"
        Image.fromarray(random.integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(file)
        samples.append((k, file))
    for budget in (4_000_000, 600_000, 200_000):
        frames, said = grids.frames(samples, budget)
        assert sum(len(uri) for _, uri in frames) <= budget
        assert (frames[0][0], frames[-1][0]) == (1, 12)
        assert ("of 12 grids" in said) == (len(frames) < 12)
    assert len(grids.frames(samples, 4_000_000)[0]) == 12
    assert grids.frames(samples, 10)[0] == []


@pytest.mark.parametrize(("count", "most"), [(5, 9), (200, 100), (3, 2), (7, 1), (0, 4)])
def test_an_even_choice_has_both_ends(count, most):
    chosen = grids.evenly(range(count), most)
    assert len(chosen) == min(count, most)
    assert chosen == sorted(set(chosen))
    if most > 1 and count:
        assert (chosen[0], chosen[-1]) == (0, count - 1)


# What it says.


def series(*values):
    return [(100 * (k + 1), float(value)) for k, value in enumerate(values)]


def test_the_gap_in_words():
    worse = curves.gap(series(10, 8, 9), series(9, 7, 5), "low")
    assert "80% worse" in worse
    assert "It overfits" in worse
    assert "best (8) at 200 images" in worse
    assert "No sign of overfitting" in curves.gap(series(10, 8, 7), series(9, 7.9, 6.9), "low")
    assert "did not get worse by it so far" in curves.gap(series(0.5, 0.6), series(0.6, 0.9), "high")
    assert "It overfits" in curves.gap(series(0.6, 0.5), series(0.6, 0.9), "high")
    assert curves.gap([], series(1), "low") == ""
    assert curves.gap(series(math.nan), series(1.0), "low") == ""
    assert "worse" not in curves.gap(series(3), series(4), "")


def test_epochs_have_fractions():
    rows = [{"images": k, "epoch": (k - 1) // 10 + 1} for k in range(1, 41)]
    found = curves.epochs(rows)
    assert found == sorted(found)
    assert found[10] == pytest.approx(1.0)  # the first image of epoch 2
    assert found[25] == pytest.approx(2.5, abs=0.06)
    assert curves.epochs(rows[:10]) is None  # one epoch tells no length
    twice = rows + [{"images": 40 + k, "epoch": (k - 1) // 10 + 1} for k in range(1, 21)]  # a second phase
    assert curves.epochs(twice)[-1] == pytest.approx(6.0, abs=0.2)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("grad_G", ("grad", "G", False)),
        ("grad_D_B_first_to_last", ("grad_first_to_last", "D_B", False)),
        ("checkerboard_2_real_A", ("checkerboard_2", "real", True)),
        ("contrast", ("contrast", "fake", False)),
        ("colour", ("colour", "", False)),
        ("colour_input_A", ("colour_input", "fake", True)),
        ("colour_chance", ("colour_input", "chance", False)),
        ("diversity_input", ("diversity", "input", False)),
    ],
)
def test_which_vital_signs_belong_together(name, what):
    assert curves.sign(name) == what


@pytest.mark.parametrize(
    ("name", "way"),
    [("l1", "low"), ("ssim", "high"), ("gradient_correlation", "high"), ("fid", "low"), ("M", "low"), ("x", "")],
)
def test_which_way_is_better(name, way):
    assert measures.way(name) == way


def test_scores_of_an_evaluation():
    scores = {
        "fid": {"value": 31.234},
        "l1": {"value": 2.0, "low": 1.5, "high": 2.5},
        "kid": {"value": 0.1, "std": 0.01},
    }
    found = sections.evaluated({"ways": {"AtoB": {"scores": scores}, "BtoA": None}})
    assert found == {"AtoB": {"fid": "31.23", "l1": "2 [1.5, 2.5]", "kid": "0.1 ± 0.01"}}


def test_the_words_of_a_command_are_quoted(copy):
    facts = json.loads((copy / "recipe.json").read_text())
    facts["asked"] |= {"data": "/my pictures/$(rm)", "lr": 1e-3, "test_dropout": False}
    (copy / "recipe.json").write_text(json.dumps(facts))
    command = record.command(record.read(copy))
    assert "--data '/my pictures/$(rm)'" in command
    assert "--no-test-dropout" in command
    assert "--lr 0.001" in command


def test_a_run_of_a_gan_that_this_version_does_not_know(copy):
    facts = json.loads((copy / "recipe.json").read_text())
    (copy / "recipe.json").write_text(json.dumps(facts | {"gan": "futuregan"}))
    text = words(report(copy))
    assert "futuregan" in text
    assert "cannot be shown" in text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_that_must_not_be_written_into(copy, tmp_path, capfd):
    copy.chmod(0o555)
    try:
        assert "choose another -o" in fails(capfd, "report", copy, "--triplets", "0")
    finally:
        copy.chmod(0o755)


def test_the_best_checkpoint_by_a_metric_that_rises(copy):
    """Its yardstick is kept with the sign turned."""
    facts = json.loads((copy / "recipe.json").read_text())
    facts["recipe"]["best_by"] = facts["asked"]["best_by"] = "ssim"
    (copy / "recipe.json").write_text(json.dumps(facts))
    manifest = copy / "checkpoints" / "last" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"best": [-0.75, 16]}))
    text = words(report(copy, "--triplets", 0))
    assert re.search(r"best SSIM 0.75 held out, at 16 images", text)

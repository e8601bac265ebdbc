"""A report of a 200-epoch run: how long it takes to write and to open: pytest benchmarks/bench_report.py.

The run is made up, with everything a long one has: 80,000 steps of pix2pix, 20,000 rows of metrics, 200 sample grids of
256 pixels. What is timed is checked: the page is under 15 MB, asks the network for nothing, has drawn all its charts,
and is open within 2 s, by the browser's own clock.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pygan import recipe as recipes
from pygan.data.facades import PALETTE, facade
from pygan.gans import pix2pix
from pygan.report.write import write

MOST_BYTES, MOST_S = 15_000_000, 2.0


def long_run(path, *, rows=20_000, grids=200, distinct=200, size=256, at_once=8):
    """A run directory of 200 epochs of 400 images; grids repeat after `distinct`. Returns its path."""
    path.mkdir(parents=True)
    recipe = replace(pix2pix.Recipe(), direction="BtoA", input_channels=3, output_channels=3, levels=8)
    asked = recipes.to_dict(pix2pix.Recipe())
    facts = {"gan": "pix2pix", "preset": "paper", "asked": asked, "recipe": recipes.to_dict(recipe)}
    (path / "recipe.json").write_text(json.dumps(facts))
    with open(path / "metrics.jsonl", "w") as out:
        out.writelines(json.dumps(row) + "\n" for row in made_up_rows(rows))
    (path / "samples").mkdir()
    last = 80_000
    for k in range(grids):
        file = path / "samples" / f"images-{(k + 1) * last // grids:09d}.png"
        if k < distinct:
            grid(k / max(1, distinct - 1), size, at_once).save(file, compress_level=1)
        else:
            os.link(path / "samples" / f"images-{(k % distinct + 1) * last // grids:09d}.png", file)
    return path


def made_up_rows(count, *, last=80_000, images_per_epoch=400):
    """Rows of metrics.jsonl as pix2pix writes them, noisy, with held-out measures at every hundredth."""
    random = np.random.default_rng(0)
    for k in range(count):
        images = (k + 1) * last // count
        t, noise = images / last, random.normal(size=16)
        row = {"images": images, "steps": images, "epoch": (images - 1) // images_per_epoch + 1}
        row |= {"lr": 2e-4 * min(1.0, 2 - 2 * t)}
        G_l1, G_gan = 40 / (1 + 4 * t) + noise[0], 0.7 + t + 0.2 * noise[1]
        row |= {
            "loss/G": G_l1 + G_gan,
            "loss/D": 0.7 / (1 + t) + 0.05 * noise[2],
            "loss/G_gan": G_gan,
            "loss/G_l1": G_l1,
        }
        row |= {"loss/D_real": 0.6 + 0.1 * noise[3], "loss/D_fake": 0.6 + 0.1 * noise[4]}
        row |= {"logit/real": 2 * t + noise[5], "logit/fake": -2 * t + noise[6]}
        signs = ("grad_G", "grad_D", "contrast", "contrast_real", "colour", "diversity_fake", "diversity_real")
        row |= {f"vital/{name}": 1 + 0.1 * noise[7 + i] for i, name in enumerate(signs)}
        if (k + 1) % 100 == 0 or k + 1 == count:
            held, train = 20 / (1 + t) + max(0.0, 8 * (t - 0.5)), 20 / (1 + 3 * t)
            row |= {"held_out/l1": held, "train/l1": train, "held_out/ssim": 1 / held, "train/ssim": 1 / train}
        yield {key: round(float(v), 6) if isinstance(v, float) else v for key, v in row.items()} | {
            "images_per_s": 50.0
        }


def grid(t, size, rows):
    """Input, output, target of some houses; the output is the noisier the earlier t, from 0 to 1, is."""
    random, lines = np.random.default_rng(int(t * 1e6)), []
    for k in range(rows):
        photo, labels = facade(0, k, size)
        fake = np.clip(photo + random.normal(0, 40 - 30 * t, photo.shape), 0, 255).astype(np.uint8)
        lines.append(np.concatenate([PALETTE[labels], fake, photo], axis=1))
    return Image.fromarray(np.concatenate(lines))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return long_run(tmp_path_factory.mktemp("report") / "run", distinct=40)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs Chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,1000"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    yield opened
    opened.quit()


def test_write(benchmark, run):
    """From the run directory to the page, without a network to run."""
    page = run / "report.html"
    benchmark.pedantic(lambda: write(run, page, triplets=0, checkpoint="last", device="cpu"), rounds=3)
    assert page.stat().st_size < MOST_BYTES
    benchmark.extra_info |= {"bytes": page.stat().st_size, "load": os.getloadavg()[0]}


def test_open(benchmark, run, chromium):
    """Until the page is loaded and every chart is drawn."""
    page = run / "report.html"
    if not page.exists():
        write(run, page, triplets=0, checkpoint="last", device="cpu")
    benchmark.pedantic(lambda: chromium.get(f"file://{page}"), rounds=5, warmup_rounds=1)
    drawn = "return [...document.querySelectorAll('figure.chart')].map((chart) => chart.dataset.drawn || '')"
    charts = chromium.execute_script(drawn)
    assert len(charts) > 5
    assert all(charts)
    fetched = chromium.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert not [name for name in fetched if not name.startswith("data:")]
    loaded_ms = chromium.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert loaded_ms < MOST_S * 1e3
    benchmark.extra_info |= {"loaded_ms": round(loaded_ms, 1), "bytes": page.stat().st_size, "charts": len(charts)}
    benchmark.extra_info |= {"load": os.getloadavg()[0]}

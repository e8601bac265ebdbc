"""JPEG files decoded by DALI for `pygan translate`: the pixels of Pillow, from many threads, bad ones among them."""

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from pygan import errors, pixels
from pygan.errors import UserError
from pygan.translate import jpegs


def jpeg(k, side=40, **options):
    ramp = np.linspace(0, 200, side + k)
    rng = np.random.default_rng(k)
    values = ramp[:, None, None] * 0.5 + ramp[None, :side, None] * 0.4 + rng.integers(0, 30, (side + k, side, 3))
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def files():
    exif = Image.Exif()
    exif[274] = 6
    return [
        jpeg(k, subsampling=k % 3, progressive=k % 4 == 0, **({"exif": exif} if k % 5 == 0 else {})) for k in range(50)
    ]


@pytest.fixture
def decoder(request):
    if pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI") is None:
        return
    made = jpegs.Jpegs(request.param)
    yield made
    made.close()


@pytest.mark.dali
@pytest.mark.parametrize(
    ("decoder", "slack"), [(None, 0), pytest.param(0, 3, marks=pytest.mark.cuda)], indirect=["decoder"]
)
def test_pixels_are_those_of_pillow_whatever_the_batch(decoder, slack):
    given = files()
    with ThreadPoolExecutor(16) as pool:
        for _ in range(2):
            for file, got in zip(given, pool.map(lambda file: pixels.read(file, jpegs=decoder), given), strict=True):
                expected = pixels.read(file).pixels
                assert got.pixels.shape == expected.shape
                assert np.abs(got.pixels.astype(int) - expected).max() <= slack


@pytest.mark.dali
@pytest.mark.parametrize("decoder", [None, pytest.param(0, marks=pytest.mark.cuda)], indirect=True)
def test_a_bad_file_costs_its_neighbours_nothing(decoder):
    given = files()[:20]
    given[3] = given[3][:-200] + b"\xff\xd9"
    given[7] = given[7][:300]
    given[9] = given[9].replace(b"\xff\xc4", b"\xff\xc4\x00\x13", 1)

    def read(file):
        try:
            return pixels.read(file, jpegs=decoder).pixels
        except UserError as error:
            return error

    with ThreadPoolExecutor(16) as pool:
        got = list(pool.map(read, given))
    assert {k for k, one in enumerate(got) if isinstance(one, UserError)} >= {7, 9}
    for k, one in enumerate(got):
        if k not in (3, 7, 9):
            assert np.abs(one.astype(int) - pixels.read(given[k]).pixels).max() <= 3


@pytest.mark.dali
@pytest.mark.parametrize("decoder", [None], indirect=True)
def test_after_the_end_pillow_decodes(decoder):
    decoder.close()
    assert decoder(jpeg(1)) is None
    assert pixels.read(jpeg(1), jpegs=decoder).size == (41, 40)


@pytest.mark.dali
@pytest.mark.parametrize("decoder", [None], indirect=True)
def test_where_no_pipeline_starts_pillow_decodes_and_one_line_says_so(decoder, monkeypatch, capsys):
    built = []

    def fails():
        built.append(1)
        raise ValueError("device_id = 7 is no device\nmore of it")

    monkeypatch.setattr(decoder, "_built", fails)
    for k in range(3):
        assert (pixels.read(jpeg(k), jpegs=decoder).pixels == pixels.read(jpeg(k)).pixels).all()
    assert built == [1]
    said = capsys.readouterr().err
    assert said.count("NVIDIA DALI does not start (device_id = 7 is no device)") == 1


@pytest.mark.dali
@pytest.mark.parametrize("decoder", [None], indirect=True)
def test_no_error_of_a_batch_ends_the_decoder(decoder, monkeypatch, capsys):
    """A caller would wait for ever. What it costs is said, and once."""
    monkeypatch.setattr(errors, "_said", set())
    build, fails = decoder._built, [MemoryError(), TypeError("what DALI may raise"), RuntimeError("a bad file")]

    def built():
        pipeline = build()
        if fails:
            monkeypatch.setattr(pipeline, "run", mock.Mock(side_effect=fails.pop()))
        return pipeline

    monkeypatch.setattr(decoder, "_built", built)
    assert [decoder(jpeg(k)) is None for k in range(4)] == [True, True, True, False]
    assert capsys.readouterr().err.count("decoded on the CPU") == 1


def test_without_dali_one_line_says_what_it_costs(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    for _ in range(2):
        with jpegs.on(torch.device("cuda", 0)) as decoder:
            assert decoder is None
    assert capsys.readouterr().err.count("JPEG files are decoded on the CPU") == 1
    with jpegs.on(torch.device("cpu")) as decoder:
        assert decoder is None

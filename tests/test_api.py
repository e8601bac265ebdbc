"""pygan as a library: any kind of picture in, the same kind out, and the very results of the command line."""

import copy
import dataclasses
import io
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pygan
from pygan import api, export, loop, pictures, tiles, use
from pygan.__main__ import main
from pygan.data import images
from pygan.data import text as texts
from pygan.gans.pix2pix import PRESETS, Recipe

ROOT = Path(__file__).parent.parent
QUIET = ["--device", "cpu", "--no-tensorboard"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A function from the name of a GAN, and flags, to a tiny run of it."""
    made = {}

    def run(gan, *flags):
        if (gan, *flags) not in made:
            path = tmp_path_factory.mktemp("api") / gan
            assert main(["train", gan, "--preset", "tiny", *QUIET, *flags, "--run", str(path)]) == 0
            made[gan, *flags] = path
        return made[gan, *flags]

    return run


@pytest.fixture(scope="module")
def g(runs):
    return pygan.load(runs("pix2pix"), device="cpu")


def noise(height=20, width=24, channels=3, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).integers(0, 65536, (height, width, channels)).astype(np.uint16)
    return (values >> 8).astype(np.uint8) if dtype == np.uint8 else values


def chw(array):
    return torch.from_numpy(array).permute(2, 0, 1)


def levels(signed):
    """A tensor (c, h, w) from -1 to 1 as uint8 (h, w, c)."""
    return ((signed.double() + 1) * 127.5).round().permute(1, 2, 0).to(torch.uint8).numpy()


# --- what it takes and gives back ---


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_it_makes_what_the_command_line_writes(g, runs, tmp_path, mode):
    x = noise(33, 21)
    image = Image.fromarray(np.dstack([x, x[:, :, :1]])) if mode == "RGBA" else Image.fromarray(x).convert(mode)
    image.save(tmp_path / "x.png")
    out = tmp_path / "out"
    assert main(["translate", str(runs("pix2pix")), str(tmp_path / "x.png"), "-o", str(out), "--device", "cpu"]) == 0
    with Image.open(out / "x.png") as written:
        expected = np.asarray(written)
    for given in (tmp_path / "x.png", str(tmp_path / "x.png"), (tmp_path / "x.png").read_bytes(), image):
        made = g(given)
        assert isinstance(made, Image.Image)
        assert made.size == image.size
        assert np.array_equal(np.asarray(made), expected)


def test_arrays_and_tensors_are_the_same_pictures(g):
    x = noise()
    expected = np.asarray(g(Image.fromarray(x)))
    assert expected.shape == x.shape
    assert not np.array_equal(expected, x)
    assert np.array_equal(g(x), expected)
    assert np.array_equal(g(np.asfortranarray(x)), expected)
    assert np.array_equal(g(x[:, ::-1])[:, ::-1], np.asarray(g(Image.fromarray(x[:, ::-1].copy())))[:, ::-1])
    tensor = g(chw(x))
    assert tensor.dtype == torch.uint8
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), expected)
    signed = g(chw(x).float() / 127.5 - 1)
    assert signed.dtype == torch.float32
    assert -1 <= signed.min() < 0 < signed.max() <= 1
    assert np.array_equal(levels(signed), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64, np.dtype(">u2")])
def test_an_array_keeps_its_type_and_rank(g, dtype):
    x = noise(dtype=np.uint16)
    floats = np.dtype(dtype).kind == "f"
    x = (x / 65535).astype(dtype) if floats else (x >> 8).astype(dtype) if dtype == np.uint8 else x.astype(dtype)
    made = g(x)
    assert (made.dtype, made.shape) == (x.dtype, x.shape)
    as_bytes = made * 255.0 if floats else made / (1 if dtype == np.uint8 else 257)
    assert np.abs(as_bytes - g(noise()).astype(float)).max() < 3  # of the 8-bit picture; a float16 is coarser
    batch = g(np.stack([x, x[::-1]]).astype(dtype))
    assert (batch.dtype, batch.shape) == (x.dtype, (2, *x.shape))
    assert np.array_equal(batch[0], made)


def test_sixteen_bits_stay_sixteen_bits(g):
    made = g(noise(dtype=np.uint16))
    assert (made % 257 != 0).any()  # not 8 bits in disguise


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.uint16, torch.float16, torch.bfloat16, torch.float32, torch.float64]
)
def test_a_tensor_keeps_its_type_and_rank(g, dtype):
    x = chw(noise())
    x = x.to(dtype) * (1 if dtype == torch.uint8 else 257) if not dtype.is_floating_point else (x / 127.5 - 1).to(dtype)
    x.requires_grad_(dtype == torch.float32)
    made = g(x)
    assert (made.dtype, made.shape, made.device) == (x.dtype, x.shape, x.device)
    assert not made.requires_grad
    batch = g(torch.stack([x, x.flip(1)]))
    assert batch.shape == (2, *x.shape)
    assert torch.equal(batch[0], made)


def test_results_can_be_learned_from(g):
    """They are no inference tensors, which autograd refuses."""
    weight = torch.ones(3, 1, 1, requires_grad=True)
    (g(torch.zeros(3, 16, 16) - 0.5) * weight).sum().backward()
    assert weight.grad is not None


def test_a_list_is_answered_by_a_list(g, tmp_path):
    xs = [noise(20, 24), noise(12, 40, seed=1), noise(20, 24, seed=2)]
    for name, x in zip("abc", xs, strict=True):
        Image.fromarray(x).save(tmp_path / f"{name}.png")
    alone = [g(x) for x in xs]
    paths = [tmp_path / f"{name}.png" for name in "abc"]
    for given in (
        xs,
        tuple(xs),
        [chw(x) for x in xs],
        [Image.fromarray(x) for x in xs],
        paths,
        [str(p) for p in paths],
    ):
        for batch in (1, 8):
            made = g(given, batch=batch)
            assert isinstance(made, list)
            kind = Image.Image if isinstance(given[0], str | Path) else type(given[0])
            assert all(isinstance(one, kind) for one in made)
            arrays = [one.permute(1, 2, 0).numpy() if torch.is_tensor(one) else np.asarray(one) for one in made]
            assert all(np.array_equal(one, other) for one, other in zip(arrays, alone, strict=True))


def test_grey_pictures(g, runs):
    grey = noise(channels=1)[:, :, 0]
    assert g(grey).shape == (*grey.shape, 3)  # this network paints colours
    assert g(grey[:, :, None]).shape == (*grey.shape, 3)
    to_grey = pygan.load(runs("pix2pix", "--output-channels", "1", "--direction", "AtoB", "--data-images", "4"))
    assert to_grey(grey).shape == grey.shape
    assert to_grey(noise()).shape == (*grey.shape, 1)
    assert to_grey(chw(noise())).shape == (1, *grey.shape)
    assert to_grey(Image.fromarray(noise())).mode == "L"
    assert to_grey(noise(dtype=np.uint16)[:, :, 0]).dtype == np.uint16
    deep = io.BytesIO()
    Image.fromarray(noise(dtype=np.uint16)[:, :, 0]).save(deep, "PNG")
    assert to_grey(deep.getvalue()).mode == "I;16"


def test_orientation_and_transparency_are_kept(g):
    x = noise(10, 30)
    image = Image.fromarray(np.dstack([x, np.full((10, 30), 77, np.uint8)]))
    made = g(image)
    assert made.mode == "RGBA"
    assert np.asarray(made)[0, 0, 3] == 77
    turned = Image.fromarray(x)
    turned.getexif()[0x0112] = 6  # a quarter turn
    assert g(turned).size == (10, 30)


def test_a_tile_gives_the_result_of_the_whole(g, monkeypatch):
    x, plain, asked = noise(70, 90), tiles.translated, []

    def translated(*args, tiling, **more):
        asked.append(tiling)
        return plain(*args, tiling=tiling, **more)

    monkeypatch.setattr(tiles, "translated", translated)
    for tile in (32, 0, tiles.Tiling(pixels=32, overlap=8)):
        made = g(x, tile=tile).astype(int)
        assert isinstance(tile, tiles.Tiling) or np.abs(made - g(x)).max() <= 1  # with less overlap it is near
    assert asked == [tiles.Tiling(pixels=32), tiles.Tiling(), tiles.Tiling(pixels=32, overlap=8)]


# --- what it refuses, in one line ---

X = noise()


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (X.transpose(2, 0, 1), "x.transpose(1, 2, 0)"),
        (X.transpose(2, 0, 1)[None], "x.transpose(0, 2, 3, 1)"),
        (torch.from_numpy(X), "x.permute(2, 0, 1)"),
        (torch.from_numpy(X)[None], "x.permute(0, 3, 1, 2)"),
        (X.astype(np.float32), "0 to 1"),
        (X / 127.5 - 1, "0 to 1"),
        (np.full((8, 8, 3), np.nan), "nan"),
        (chw(X).float(), "-1 to 1"),
        (torch.full((3, 8, 8), torch.inf), "inf"),
        (X.astype(np.int64), "int64"),
        (X > 3, "bool"),
        (X.astype(object), "object"),
        (chw(X).long(), "int64"),
        (np.dstack([X, X[:, :, :1]]), "x[..., :3]"),
        (torch.zeros(4, 8, 8), "x[:3]"),
        (torch.zeros(2, 4, 8, 8), "x[:, :3]"),
        (np.dstack([X, X]), "6 channels, the network takes 3 or 1"),
        ([], "the list is empty"),
        (X[None, :0], "at least 2x2"),
        (X[None][:0], "no pictures"),
        (X[:1], "at least 2x2"),
        (X[0, 0], "shape (3,)"),
        (torch.zeros(8, 8), "shape (8, 8)"),
        ([X, [X]], "item 1 of the list is itself a batch"),
        ([X, X[None]], "item 1 of the list is itself a batch"),
        ([X, None], "item 1 of the list is NoneType"),
        (X.tolist(), "itself a batch"),
        (3, "is int"),
        (None, "is NoneType"),
        (Image.new("RGB", (0, 0)), "at least 2x2"),
        (Image.new("RGB", (1, 9)), "at least 2x2"),
        (torch.zeros(3, 8, 8).to_sparse(), "sparse"),
        (torch.zeros(3, 8, 8, device="meta"), "meta"),
        (b"GIF", "cannot read the picture"),
        ("nowhere.png", "nowhere.png"),
        (["nowhere.png"], "nowhere.png"),
        ("nul\0.png", "nul"),
        (Path("."), "directory"),
    ],
)
def test_what_is_no_picture_is_one_line(g, x, words):
    with pytest.raises(pygan.UserError) as caught:
        g(x)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"direction": "AtoB"}, "direction"),
        ({"to": "Male"}, "to"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 63}, "seed"),
        ({"seed": 0.5}, "seed"),
        ({"batch": 0}, "batch"),
        ({"tile": -4}, "tile"),
        ({"tile": "big"}, "tile"),
        ({"tile": True}, "tile"),
    ],
)
def test_what_it_cannot_be_asked_is_one_line(g, asked, words):
    with pytest.raises(pygan.UserError, match=words):
        g(X, **asked)


def test_a_tensor_from_0_to_1_is_suspected(g, capsys):
    g(torch.rand(3, 9, 11))
    assert "x * 2 - 1" in capsys.readouterr().err


def test_whole_numbers_of_numpy_are_whole_numbers(g):
    assert np.array_equal(g(X, seed=np.int64(0), batch=np.uint8(1)), g(X))


def test_a_tile_lifts_the_limit_of_pixels_of_whatever_is_given(g, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 400)
    for x in (X, chw(X), Image.fromarray(X)):
        with pytest.raises(pygan.UserError, match="more than 400 pixels are not opened"):
            g(x)
        g(x, tile=64)


@pytest.mark.parametrize("path", [3, None, b"run", "", "nul\0", "long" * 2000])
def test_what_is_no_path_is_one_line(path):
    with pytest.raises(pygan.UserError):
        pygan.load(path)
    with pytest.raises(pygan.UserError):
        pygan.train("pix2pix", preset="tiny", run=path or 0, dry_run=True)


@pytest.mark.parametrize("device", ["gpu", "meta", "mps", "", 3, "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(runs, device):
    with pytest.raises(pygan.UserError, match="--device"):
        pygan.load(runs("pix2pix"), device=device)


def test_too_little_memory_is_one_line(g, runs, monkeypatch):
    def full(*args, **options):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(use.Trained, "translate", full)
    monkeypatch.setattr(use.Trained, "generate", full)
    with pytest.raises(pygan.UserError, match="too little memory for this; give fewer at once"):
        g(X)
    with pytest.raises(pygan.UserError, match="too little memory for this; ask for fewer at once"):
        pygan.load(runs("began")).generate(2)


def test_a_missing_run_is_one_line(tmp_path):
    with pytest.raises(pygan.UserError, match="not a run directory"):
        pygan.load(tmp_path / "nothing")
    with pytest.raises(pygan.UserError, match="no checkpoint 'last year'"):
        pygan.load(_imported_nothing(tmp_path), checkpoint="last year")


def _imported_nothing(tmp_path):
    return pygan.train(Recipe(**PRESETS["tiny"]), run=tmp_path / "run", device="cpu", max_steps=1)


# --- options, directions, labels ---


def test_directions_and_labels(runs):
    both = pygan.load(runs("cyclegan"))
    assert not np.array_equal(both(X, direction="AtoB"), both(X, direction="BtoA"))
    assert np.array_equal(both(X), both(X, direction="AtoB"))
    for way in ("up", "", 3):
        with pytest.raises(pygan.UserError, match="AtoB"):
            both(X, direction=way)
    faces = pygan.load(runs("stargan"))
    assert not np.array_equal(faces(X, to="Male"), faces(X, to="Blond_Hair"))
    for to in ("Nobody", "", 3, ["Male"]):
        with pytest.raises(pygan.UserError, match=r"^--to (must|is)|Nobody"):
            faces(X, to=to)
    assert "Male" in repr(faces)


def test_dropout_follows_the_seed(runs):
    dropped = pygan.load(runs("pix2pix"))
    assert dropped.card.chance
    assert np.array_equal(dropped(X, seed=3), dropped(X, seed=3))
    assert not np.array_equal(dropped(X, seed=3), dropped(X, seed=4))
    assert np.array_equal(dropped([X[:, ::-1], X], seed=3)[1], dropped(X, seed=3))  # whatever is beside it


def test_it_says_what_it_is(g):
    assert re.fullmatch(
        r"<pygan\.Generator pix2pix: pictures to pictures \(3 -> 3 channels\); 32 images seen; on cpu>", repr(g)
    )
    assert g.card.gan == "pix2pix"
    assert g.device == torch.device("cpu")
    with pytest.raises(AttributeError):
        g.network = None


# --- from noise ---


def test_it_makes_what_sample_shows(runs, tmp_path):
    run = runs("began")
    faces = pygan.load(run)
    assert (
        main(["sample", str(run), "-o", str(tmp_path / "grid.png"), "-n", "4", "--seed", "5", "--device", "cpu"]) == 0
    )
    images = faces.generate(4, seed=5, as_="torch")
    pictures.grid({"samples": images}).save(tmp_path / "own.png")
    with Image.open(tmp_path / "grid.png") as shown, Image.open(tmp_path / "own.png") as own:
        assert np.array_equal(np.asarray(shown), np.asarray(own))
    arrays, pil = faces.generate(4, seed=5, as_="numpy"), faces.generate(4, seed=5)
    assert (arrays.dtype, arrays.shape[0], arrays.shape[3]) == (np.uint8, 4, images.shape[1])
    for k in range(4):
        assert np.array_equal(levels(images[k]), arrays[k])
        assert np.array_equal(np.asarray(pil[k]).reshape(arrays[k].shape), arrays[k])
    assert len(faces.generate()) == 1
    assert not np.array_equal(faces.generate(1, seed=6, as_="numpy"), arrays[:1])
    z = torch.randn(3, faces.card.z)
    one = faces.generate(z=z.numpy()[1], as_="torch")  # by other kernels than three are
    assert torch.allclose(faces.generate(z=z, as_="torch")[1:2], one, atol=1e-5)
    assert not images.is_inference()


def test_sentences_are_read_by_the_encoder_of_the_run(runs):
    run = runs("stackgan")
    birds = pygan.load(run)
    said = ["a small red bird", "a large blue bird"]
    made = birds.generate(text=said, seed=2, as_="torch")
    assert made.shape[0] == 2
    trained = use.load(run, "last", "cpu")
    codes = torch.from_numpy(texts.encoder(trained.recipe.text_encoder).encode(said))
    assert torch.equal(made, trained.generate(2, trained.rng(2), text=codes))
    assert torch.equal(birds.generate(text=codes.numpy(), seed=2, as_="torch"), made)
    assert torch.equal(birds.generate(2, text=said[0], seed=2, as_="torch")[:1], made[:1])
    located = pygan.load(runs("gawwn"))
    boxes = np.array([[0.2, 0.2, 0.3, 0.3], [0.6, 0.6, 0.3, 0.3]])
    assert len(located.generate(text="a bird", where=boxes)) == 2


@pytest.mark.parametrize(
    ("gan", "asked", "words"),
    [
        ("pix2pix", {}, "no pictures from noise"),
        ("began", {"n": 0}, "n must be"),
        ("began", {"n": "3"}, "n must be"),
        ("began", {"text": "a bird"}, "text is not something"),
        ("began", {"z": [[1.0, 2.0]]}, "z has shape"),
        ("began", {"z": "zzz"}, "z must be real numbers"),
        ("began", {"z": np.zeros((1, 8), complex)}, "z must be real numbers"),
        ("began", {"n": True}, "n must be"),
        ("began", {"as_": ["pil"]}, "as_ must be one of pil, numpy, torch"),
        ("began", {"seed": -1}, "seed"),
        ("began", {"as_": "jpeg"}, "as_ must be one of pil, numpy, torch"),
        ("stackgan", {}, "give it one"),
        ("stackgan", {"text": ""}, "says nothing"),
        ("stackgan", {"text": []}, "text must be"),
        ("stackgan", {"text": ["a", 3]}, "text must be"),
        ("stackgan", {"text": 3}, "text must be"),
        ("stackgan", {"text": iter(["a"])}, "text must be"),
        ("stackgan", {"n": 3, "text": ["a", "b"]}, "text has 2 rows for 3 pictures"),
        ("stackgan", {"text": np.zeros((1, 7))}, "text has shape"),
        ("stackgan", {"text": "a", "where": [1.0]}, "where is not something"),
    ],
)
def test_what_cannot_be_made_is_one_line(runs, gan, asked, words):
    with pytest.raises(pygan.UserError, match=words):
        pygan.load(runs(gan)).generate(**asked)
    if gan != "pix2pix":
        with pytest.raises(pygan.UserError, match="translates nothing"):
            pygan.load(runs(gan))(X)


# --- threads, training, imports, types ---


@pytest.mark.parametrize("gan", ["pix2pix", "cogan"])
def test_threads_may_share_it(runs, gan):
    g = pygan.load(runs(gan))
    xs = [noise(20, 16 + 4 * k, seed=k) for k in range(6)]
    alone = [g(x) for x in xs]
    found, errors = {}, []

    def work(k):
        try:
            for _ in range(3):
                found[k] = g(xs[k])
        except Exception as error:  # a thread's would go unseen
            errors.append(error)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(xs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(np.array_equal(found[k], alone[k]) for k in range(len(xs)))


def test_the_device_works_for_one_caller_at_a_time(g):
    inside, most = [], []

    class Slow:
        card, device, rng = g.card, g.device, g.network.rng

        def translate(self, A, rng=None, **options):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()
            return A

    shared = pygan.Generator(Slow())
    threads = [threading.Thread(target=shared, args=(X,)) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_the_precision_around_it_is_not_its_own(g, runs):
    x, birds = noise(), pygan.load(runs("began"))
    alone, made = g(x), birds.generate(2, as_="numpy")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(g(x), alone)
        assert np.array_equal(birds.generate(2, as_="numpy"), made)
        assert torch.is_autocast_enabled("cpu")


# --- copies and other processes ---


@pytest.fixture(scope="module")
def held(runs, tmp_path_factory):
    """A function from what holds a network ("run" or a kind of file) to its path."""
    folder = tmp_path_factory.mktemp("held")

    def path(kind):
        made = folder / f"G{export.ENDINGS.get(kind)}"
        if kind != "run" and not made.exists():
            export.export(runs("began"), kind, made, batch=1 if kind == "pt2" else 0)
        return runs("began") if kind == "run" else made

    return path


@pytest.mark.parametrize("kind", ["run", "safetensors", "onnx", "torchscript", "pt2"])
def test_a_pickle_and_a_copy_are_the_same_network(held, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(held(kind).parent)
    g = pygan.load(held(kind).name, device="cpu")
    monkeypatch.chdir(tmp_path)  # where a name alone means another file
    expected = g.generate(1, seed=3, as_="torch")
    for other in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g), copy.copy(g)):
        assert torch.equal(other.generate(1, seed=3, as_="torch"), expected)
        assert (other.card, str(other), other.device) == (g.card, str(g), g.device)
    assert pickle.loads(pickle.dumps(g.card)) == copy.deepcopy(g.card) == g.card


def test_a_copy_has_weights_of_its_own(held):
    g = pygan.load(held("run"), device="cpu")
    other, before = copy.deepcopy(g), g.generate(1, as_="numpy")
    for parameter in other.network.net.parameters():
        parameter.zero_()
    assert np.array_equal(g.generate(1, as_="numpy"), before)
    assert not np.array_equal(other.generate(1, as_="numpy"), before)


def test_a_pickle_of_what_is_not_there_any_more_is_one_line(held, runs, tmp_path):
    path = tmp_path / "G.pt"
    path.write_bytes(held("torchscript").read_bytes())
    pickled = pickle.dumps(pygan.load(path, device="cpu"))
    export.export(runs("began"), "torchscript", path, half=True, overwrite=True)
    with pytest.raises(pygan.UserError, match="is another file now than when it was opened; load it again"):
        pickle.loads(pickled)
    path.unlink()
    with pytest.raises(pygan.UserError, match="is neither a run directory nor a file"):
        pickle.loads(pickled)
    there = dataclasses.replace(pygan.load(held("run"), device="cpu").network, device=torch.device("cuda:99"))
    with pytest.raises(pygan.UserError, match="--device cuda"):
        copy.deepcopy(there)


class Painted(torch.utils.data.Dataset):
    """Pictures that a network makes in the worker that asks for them."""

    def __init__(self, g):
        self.g = g

    def __len__(self):
        return 3

    def __getitem__(self, k):
        return self.g.generate(seed=k, as_="torch")[0]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["run", "onnx"])
def test_workers_of_a_loader_have_it(held, kind, two_threads):
    """Forked, where the threads of the parent's network are not."""
    g = pygan.load(held(kind), device="cpu")
    expected = torch.stack([Painted(g)[k] for k in range(3)])
    loader = torch.utils.data.DataLoader(Painted(g), batch_size=3, num_workers=1, timeout=30)
    (made,) = loader
    assert torch.allclose(made, expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["run", "onnx"])
def test_a_fork_waits_for_nobody(held, kind, two_threads):
    """Neither for whoever had the turn when it was made, nor for the threads that the parent computes with."""
    g = pygan.load(held(kind), device="cpu")
    expected = g.generate(seed=1, as_="torch")
    with api._turn:
        child = os.fork()
        if not child:
            signal.alarm(30)  # a hang ends too
            made = g.generate(seed=1, as_="torch")
            os._exit(0 if torch.allclose(made, expected, atol=1e-5) else 1)
        _, status = os.waitpid(child, 0)
    assert status == 0


def test_train_is_what_the_command_line_calls(tmp_path):
    assert pygan.train is loop.train
    run = pygan.train(Recipe(**PRESETS["tiny"]), run=tmp_path / "a", device="cpu", max_steps=3, tensorboard=False)
    assert run == tmp_path / "a"
    assert pygan.load(run).card.images_seen == 3 * Recipe(**PRESETS["tiny"]).batch
    assert pygan.train(Recipe(**PRESETS["tiny"]), run=run, device="cpu", max_steps=5, tensorboard=False) == run
    assert pygan.load(run).card.images_seen == 5 * Recipe(**PRESETS["tiny"]).batch
    named = pygan.train(
        "pix2pix", preset="tiny", run=str(tmp_path / "b"), device="cpu", max_steps=5, tensorboard=False, lambda_l1=7.0
    )
    assert pygan.load(named).card.recipe["lambda_l1"] == 7.0
    assert not np.array_equal(pygan.load(named)(X), pygan.load(run)(X))
    with pytest.raises(pygan.UserError, match="no recipe field 'lambda_l2'"):
        pygan.train("pix2pix", preset="tiny", lambda_l2=1.0)
    with pytest.raises(pygan.UserError, match="unknown GAN"):
        pygan.train("pixpix")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"batch": "4"}, "--batch must be a whole number, got '4'"),
        ({"batch": 2.0}, "--batch must be a whole number"),
        ({"lr": "x"}, "--lr must be a number"),
        ({"lr": None}, "--lr must be a number"),
        ({"amp": 1}, "--amp must be True or False"),
        ({"seed": 0.5}, "--seed must be a whole number"),
        ({"data": 3}, "--data must be a word"),
        ({"data": Path("nowhere")}, "nowhere"),
        ({"max_steps": "3"}, "--max-steps"),
        ({"max_steps": True}, "--max-steps"),
        ({"device": "gpu"}, "--device"),
        ({"preset": 3}, "--preset"),
    ],
)
def test_what_cannot_be_trained_is_one_line(tmp_path, asked, words):
    run = tmp_path / "run"
    with pytest.raises(pygan.UserError, match=words):
        pygan.train("pix2pix", **{"preset": "tiny", "run": run, "device": "cpu", "max_steps": 1} | asked)
    assert not run.exists()


def test_numbers_of_numpy_and_paths_are_fields_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "make", "facades", "pairs", "--n", "8"]) == 0
    fields = {"batch": np.int64(2), "lr": np.float32(1e-3), "amp": np.bool_(False), "data": Path("pairs")}
    run = pygan.train("pix2pix", preset="tiny", run=tmp_path / "run", device="cpu", max_steps=1, **fields)
    recipe = pygan.load(run).card.recipe
    assert (recipe["batch"], recipe["amp"]) == (2, False)
    assert Path(recipe["data"]) == (tmp_path / "pairs").resolve()


def test_a_new_run_lies_under_runs_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("../../elsewhere", "..", "a/b", "nul\0"):
        with pytest.raises(pygan.UserError, match="--preset must be a name"):
            pygan.train(Recipe(**PRESETS["tiny"]), preset=name, device="cpu", dry_run=True)


def test_importing_pygan_is_light():
    code = "import sys, pygan; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules), 'heavy'; print(dir(pygan))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "load" in done.stdout
    assert "train" in done.stdout
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        pygan.lode  # noqa: B018


RIGHT = """
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

import pygan
from pygan.gans.pix2pix import PRESETS, Recipe

g: pygan.Generator = pygan.load("run", checkpoint="best", device="cpu")
image: Image.Image = g("a.png")
image = g(Path("a.png"), direction="AtoB", seed=3)
image = g(image, to="Male", tile=512)
images: list[Image.Image] = g([image, image], batch=2)
images = g(["a.png", "b.png"])
images = g([Path("a.png")])
array: npt.NDArray[np.uint8] = g(np.zeros((8, 8, 3), np.uint8))
arrays: list[npt.NDArray[np.uint8]] = g([array, array])
tensor: torch.Tensor = g(torch.zeros(3, 8, 8))
tensors: list[torch.Tensor] = g((tensor, tensor))
images = g.generate(4, seed=1)
images = g.generate(text=["a bird"], as_="pil")
array = g.generate(4, z=torch.zeros(4, 8), as_="numpy")
tensor = g.generate(2, text="a bird", where=[[0.5, 0.5, 0.5, 0.5]], as_="torch")
seen: int = g.card.images_seen
run: Path = pygan.train(Recipe(**PRESETS["tiny"]), run="run", device="cpu")
run = pygan.train("pix2pix", preset="tiny", lambda_l1=10.0)
try:
    pygan.load("nothing")
except (pygan.UserError, pygan.Diverged) as error:
    print(error)
"""

# Whole libraries and all of pygan would take a minute to look at: what the signatures do not name is left out.
MYPY = """
[mypy]
strict = True
follow_imports = silent
[mypy-torch.*,rich.*,tensorboard.*,cv2.*,safetensors.*,tifffile.*,pygan.ops.*,pygan.nn,pygan.nets.*,pygan.data.*]
follow_imports = skip
[mypy-torch,torch._tensor,torch._C.*,torch.types]
follow_imports = silent
"""

WRONG = {
    'array: npt.NDArray[np.uint8] = g("a.png")': "assignment",
    "g(3)": "call-overload",
    'g("a.png", sead=3)': "call-overload",
    'g.generate(4, as_="jpeg")': "call-overload",
    "image: Image.Image = g(torch.zeros(3, 8, 8))": "assignment",
    "pygan.load(3)": "arg-type",
    "pygan.lode": "attr-defined",
    "pygan.train(3)": "arg-type",
}


def test_types_are_those_that_it_says(tmp_path):
    """By mypy --strict, as in a user's own project: every line of RIGHT passes, every one of WRONG does not."""
    pytest.importorskip("mypy")
    head = RIGHT[: RIGHT.index("image: ")]
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(head + "\n".join(WRONG))
    (tmp_path / "mypy.ini").write_text(MYPY)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "right.py", "wrong.py"],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ROOT / "pygan" / "py.typed").exists()
    found = re.findall(r"^(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, flags=re.MULTILINE)
    first = head.count("\n") + 1
    expected = {("wrong", str(first + k), code) for k, code in enumerate(WRONG.values())}
    assert set(found) == expected, done.stdout


# --- the page ---


def test_every_call_of_the_page_works(runs, tmp_path, monkeypatch):
    """The code of docs/api.md, from top to bottom, in a folder with what it names."""
    monkeypatch.chdir(tmp_path)
    for name, gan in (("facades", "pix2pix"), ("horses", "cyclegan"), ("faces", "stargan"), ("birds", "stackgan")):
        (tmp_path / "runs" / gan).mkdir(parents=True)
        (tmp_path / "runs" / gan / name).symlink_to(runs(gan))
    Image.fromarray(noise(30, 40)).save("photo.png")
    Image.fromarray(noise(90, 120)).save("large.png")
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE | re.DOTALL
    )
    assert len(blocks) >= 5
    names = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)

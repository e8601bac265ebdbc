"""`pygan sample --walk` and `--neighbours`: frames, animations, sheets, and what cannot be asked."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pygan import pictures, use
from pygan.__main__ import main
from pygan.gans import stargan
from pygan.sample import Walk, beside, given
from pygan.sample.walk import lerp, route, slerp

TWO = ["--text", "a small red circle above a blue square", "--text", "a large green star"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of some GANs that can be walked in, and of others; weights so large that pictures differ."""
    path = tmp_path_factory.mktemp("walks")
    more = {"began": [], "stargan": [], "pix2pix": [], "cyclegan": [], "cogan": []}
    more |= {name: ["--init-gain", "0.3"] for name in ("dcgan", "stackgan", "gawwn")}
    for name, flags in more.items():
        common = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--max-steps", "1", "--run"]
        assert main(["train", name, *common, str(path / name), *flags]) == 0
    return path


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def sample(run, *argv):
    return main(["sample", str(run), "--device", "cpu", *map(str, argv)])


def cells(file, rows, columns, side=96, top=18):
    """The pictures of a grid, uint8 (rows, columns, side, side, 3)."""
    sheet = np.asarray(Image.open(file).convert("RGB"))
    assert sheet.shape == (rows * (side + 4) + 4 + top, columns * (side + 4) + 4, 3)
    at = [[(top + 4 + r * (side + 4), 4 + c * (side + 4)) for c in range(columns)] for r in range(rows)]
    return np.stack([[sheet[y : y + side, x : x + side] for y, x in row] for row in at])


def near(a, b):
    """Alike up to a grey level: a picture made beside others may be summed in another order."""
    return np.abs(a.astype(int) - b.astype(int)).max() <= 1


def painted(trained, images):
    """What a grid shows of pictures of 16 or 32 pixels, uint8 (n, 96, 96, 3)."""
    pixels = pictures.to_uint8(images)
    zoom = 96 // pixels.shape[1]
    return np.broadcast_to(pixels.repeat(zoom, 1).repeat(zoom, 2), (len(pixels), 96, 96, 3))


# The arithmetic


def test_slerp_keeps_the_length_and_turns_evenly():
    a, b = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0))
    b = b / b.norm(dim=1, keepdim=True) * a.norm(dim=1, keepdim=True)
    whole = torch.acos((a * b).sum(1) / a.norm(dim=1) / b.norm(dim=1))
    for t in (0.1, 0.5, 0.9):
        between = slerp(a, b, t)
        torch.testing.assert_close(between.norm(dim=1), a.norm(dim=1))
        turned = torch.acos((a * between).sum(1) / a.norm(dim=1) / between.norm(dim=1))
        torch.testing.assert_close(turned, t * whole, rtol=1e-4, atol=1e-4)
    longer = slerp(a, 3 * b, 0.25)
    torch.testing.assert_close(longer.norm(dim=1), 1.5 * a.norm(dim=1))
    assert torch.equal(slerp(a, b, 0), a)
    assert torch.equal(slerp(a, b, 1), b)
    # The formula of the papers, where its angle is not small.
    omega = whole[:, None]
    theirs = (torch.sin(0.3 * omega) * a + torch.sin(0.7 * omega) * b) / torch.sin(omega)
    torch.testing.assert_close(slerp(a, b, 0.7), theirs, rtol=1e-4, atol=1e-4)


def test_slerp_where_there_is_no_one_great_circle():
    a = torch.tensor([[3.0, 0.5, -1.0]])
    for b in (-a, -2 * a, a, 2 * a):
        ways = [slerp(a, b, t / 8) for t in range(9)]
        assert all(way.isfinite().all() for way in ways)
        lengths = torch.tensor([float(way.norm()) for way in ways])
        torch.testing.assert_close(lengths, torch.linspace(float(a.norm()), float(b.norm()), 9))
    half = slerp(a, -a, 0.5)
    assert float((half * a).sum()) == pytest.approx(0, abs=1e-4)  # a quarter turn, to a side
    assert torch.equal(slerp(a, torch.zeros(1, 3), 1), torch.zeros(1, 3))
    assert slerp(a, torch.zeros(1, 3), 0.5).isfinite().all()
    assert slerp(a, a * (1 + 1e-7), 0.5).allclose(a)


def test_lerp_is_straight():
    a, b = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, -1.0]])
    assert lerp(a, b, 0.25).tolist() == [[0.25, 0.5]]


# Noise


@pytest.mark.parametrize("name", ["dcgan", "began"])
def test_a_walk_goes_through_the_pictures_of_a_plain_sample(runs, name):
    assert sample(runs / name, "-o", "walk.png", "--walk", "-n", 2, "--stops", 3, "--steps", 2, "--seed", 5) == 0
    frames = cells("walk.png", 2, 7, top=0)
    trained = use.load(runs / name, "last", "cpu")
    with torch.inference_mode():
        images = trained.gan.generate(trained.net, trained.recipe, 6, trained.rng(5))
    plain = painted(trained, images).reshape(2, 3, 96, 96, 3)
    for stop in range(3):
        assert near(frames[:, 3 * stop], plain[:, stop])
    for frame in range(6):
        assert not near(frames[:, frame], frames[:, frame + 1])


@pytest.mark.parametrize(("name", "kind"), [("dcgan", "sphere"), ("began", "line")])
def test_normal_noise_turns_and_uniform_noise_goes_straight(runs, name, kind):
    trained = use.load(runs / name, "last", "cpu")
    way = route(trained, runs / name, Walk(), walks=3, stops=2, steps=1, seed=0, text=())
    a, half, b = (way.point(frame) for frame in range(3))
    assert torch.allclose(half, (a + b) / 2) == (kind == "line")
    if kind == "sphere":
        torch.testing.assert_close(half.norm(dim=1), (a.norm(dim=1) + b.norm(dim=1)) / 2)


@pytest.mark.parametrize("file", ["walk.png", "walk.gif", "walk.webp"])
def test_the_same_command_writes_the_same_bytes(runs, file):
    found = []
    for seed in (0, 0, 1):
        assert sample(runs / "dcgan", "-o", file, "--walk", "-n", 2, "--steps", 3, "--seed", seed) == 0
        found.append(Path(file).read_bytes())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("file", ["walk.gif", "walk.webp"])
@pytest.mark.parametrize(("closed", "frames"), [(False, 9), (True, 12)])
def test_animations_have_their_frames(runs, file, closed, frames):
    argv = ["-o", file, "--walk", "-n", 3, "--stops", 3, "--steps", 3, "--fps", 10, *["--closed"] * closed]
    assert sample(runs / "dcgan", *argv) == 0
    with Image.open(file) as animation:
        assert animation.n_frames == frames
        assert animation.size == (2 * 100 + 4, 2 * 100 + 4)  # three walks, side by side
        assert animation.info["loop"] == 0
        for number in (1, 0):
            animation.seek(number)
            animation.load()
            assert animation.info["duration"] == 100
        shown = np.asarray(animation.convert("RGB"))[4:100, 4:100]
    trained = use.load(runs / "dcgan", "last", "cpu")
    with torch.inference_mode():
        first = painted(trained, trained.gan.generate(trained.net, trained.recipe, 9, trained.rng(0)))[0]
    # WebP is without loss; of a GIF's 256 colours one is near.
    assert np.abs(shown.astype(int) - first.astype(int)).mean() < (1 if file.endswith("webp") else 12)


def test_loss_and_dither_are_choices(runs):
    sizes = {}
    for name, argv in {"a.webp": [], "b.webp": ["--quality", 50], "a.gif": [], "b.gif": ["--dither"]}.items():
        assert sample(runs / "began", "-o", name, "--walk", "--steps", 2, *argv) == 0
        sizes[name] = Path(name).read_bytes()
    assert len(sizes["b.webp"]) < len(sizes["a.webp"])
    assert sizes["a.gif"] != sizes["b.gif"]


def test_a_palette_serves_all_frames():
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ((200, 30, 10), (10, 40, 220)))
    Path("x.gif").write_bytes(pictures.to_gif([red, blue], [red, blue], fps=20, dither=False))
    with Image.open("x.gif") as animation:
        for frame, colour in enumerate(((200, 30, 10), (10, 40, 220))):
            animation.seek(frame)
            assert np.abs(np.asarray(animation.convert("RGB")).astype(int) - colour).max() <= 2
            assert animation.info["duration"] == 50


# Sentences


def test_a_walk_between_sentences_keeps_the_noise_still(runs):
    assert sample(runs / "stackgan", "-o", "walk.png", "--walk", *TWO, "-n", 3, "--steps", 2, "--seed", 4) == 0
    assert sample(runs / "stackgan", "-o", "plain.png", *TWO, "-n", 3, "--seed", 4) == 0
    frames, plain = cells("walk.png", 3, 4), cells("plain.png", 2, 3)
    for walk in range(3):
        assert near(frames[walk, 0], plain[0, walk])
        assert near(frames[walk, -1], plain[1, walk])
    assert not near(frames[:, 0], frames[:, 1])
    assert not near(frames[0], frames[1])  # each walk has other noise


def test_one_sentence_is_walked_in_by_the_noise(runs):
    assert sample(runs / "stackgan", "-o", "walk.png", "--walk", *TWO[:2], "-n", 2, "--steps", 1) == 0
    assert sample(runs / "stackgan", "-o", "plain.png", *TWO[:2], "-n", 4) == 0
    frames, plain = cells("walk.png", 2, 3, top=0), cells("plain.png", 1, 4)
    assert near(frames[0, 0], plain[0, 0])
    assert near(frames[0, 2], plain[0, 1])
    assert near(frames[1, 0], plain[0, 2])
    assert not near(frames[0, 1], frames[0, 0])
    assert sample(runs / "stackgan", "-o", "both.png", "--walk", "z", *TWO, "-n", 2, "--steps", 1) == 0
    assert near(cells("both.png", 4, 3, top=0)[:2], frames)


def test_interpolate_is_as_it_was(runs):
    assert sample(runs / "stackgan", "-o", "old.png", "--interpolate", *TWO, *TWO[:2]) == 0
    rows = cells("old.png", 2, 8)
    assert sample(runs / "stackgan", "-o", "walk.png", "--walk", *TWO, "--steps", 6, "-n", 1) == 0
    assert near(rows[0], cells("walk.png", 1, 8)[0])
    assert near(rows[1, -1], rows[0, 0])


def test_without_a_sentence_there_are_held_out_captions(runs):
    assert sample(runs / "gawwn", "-o", "walk.png", "--walk", "z", "-n", 1, "--steps", 1) == 0
    frames = cells("walk.png", 1, 3, top=0)
    assert not near(frames[0, 0], frames[0, 2])


# Labels


def test_labels_change_from_stop_to_stop(runs):
    run = runs / "stargan"
    assert (
        sample(run, "-o", "walk.png", "--walk", "-n", 1, "--steps", 1, "--to", "Male,Young", "--to", "Black_Hair") == 0
    )
    frames = cells("walk.png", 1, 5)
    trained = use.load(run, "last", "cpu")
    (batch,) = given.held_out(trained, run, 1)
    with torch.inference_mode():
        for frame, to in ((2, "Male,Young"), (4, "Black_Hair")):
            image = trained.gan.translate(trained.net, trained.recipe, batch.image, to=to)
            assert near(frames[0, frame], painted(trained, image)[0])
        code = torch.tensor([[0.5, 0, 0, 0.5, 0.5]])
        half = trained.gan.translate(trained.net, trained.recipe, batch.image, code=code)
        assert near(frames[0, 3], painted(trained, half)[0])
        assert not near(frames[0, 3], frames[0, 2])
        as_it_is = trained.gan.translate(trained.net, trained.recipe, batch.image, code=batch.label)
        assert near(frames[0, 0], painted(trained, as_it_is)[0])


def test_all_labels_in_turn_are_those_of_the_grid(runs):
    trained = use.load(runs / "stargan", "last", "cpu")
    way = route(trained, runs / "stargan", Walk(), walks=1, stops=2, steps=3, seed=0, text=())
    assert way.names == ("as it is", *trained.recipe.labels.split(","))
    assert len(way) == 5 * 4 + 1
    (batch,) = given.held_out(trained, runs / "stargan", 1)
    columns = trained.gan.sample(trained.net, trained.recipe, batch)
    for k, name in enumerate(way.names[1:], start=1):
        (frame,) = way.frames([4 * k])
        torch.testing.assert_close(frame, columns[name])


def test_pictures_of_the_user_take_labels(runs):
    for k, size in enumerate(((50, 30), (16, 16), (9, 40))):
        Image.new("RGB", size, (40 * k, 200, 90)).save(f"{k}.png")
    inputs = [word for k in range(3) for word in ("--input", f"{k}.png")]
    assert (
        sample(runs / "stargan", "-o", "walk.gif", "--walk", *inputs, "--to", "Male", "--to", "Young", "--closed") == 0
    )
    assert sample(runs / "stargan", "-o", "walk.png", "--walk", *inputs, "--steps", 1) == 0
    assert cells("walk.png", 3, 9).std() > 1


def test_codes_of_two_sets_say_which_is_meant():
    recipe = stargan.resolve(stargan.Recipe(**stargan.PRESETS["tiny"], labels="a,b", labels_2="c,d"))
    (name, first), (_, second) = stargan.codes(recipe, ("b", "c"))
    assert name == "b"
    assert first.tolist() == [[0, 1, 0, 0, 1, 0]]
    assert second.tolist() == [[0, 0, 1, 0, 0, 1]]
    assert [name for name, _ in stargan.codes(recipe, ("a", "b", "a"))] == ["a", "b", "a"]


# Neighbours


@pytest.mark.parametrize(
    ("name", "argv", "rows"),
    [
        ("dcgan", ["-n", 3], 3),
        ("dcgan", ["--walk", "--steps", 1], 3),
        ("stackgan", [*TWO, "-n", 2], 4),
        ("cyclegan", ["-n", 2], 2),
        ("cogan", ["-n", 2], 4),  # both of a pair, each among its own kind
        ("stargan", ["-n", 5], 5),
        ("pix2pix", ["-n", 1], 1),
    ],
)
def test_any_sample_has_its_neighbours_beside_it(runs, capfd, name, argv, rows):
    assert sample(runs / name, "-o", "near.png", "--neighbours", 2, "--features", "hog", *argv) == 0
    width, height = Image.open("near.png").size
    assert width == 5 * 100 + 4
    assert height == rows * 118 + 4 + 18
    said = capfd.readouterr().out
    assert "pixels" in said
    assert "edges and colours (HOG)" in said


def test_a_sheet_that_is_too_large_is_refused_before_the_search(runs, monkeypatch, capfd):
    monkeypatch.setattr(beside, "_MOST_PIXELS", 3 * 3 * 96 * 96 - 1)
    monkeypatch.setattr(beside, "_search", None)
    assert sample(runs / "dcgan", "-o", "near.png", "--neighbours", 1, "--features", "hog", "-n", 3) == 2
    assert "3 pictures with 1 neighbours each is too large" in capfd.readouterr().err
    assert not Path("near.png").exists()


def test_a_picture_of_the_training_set_is_its_own_neighbour(runs, monkeypatch):
    trained = use.load(runs / "cyclegan", "last", "cpu")
    with given.training(trained, runs / "cyclegan") as feed:
        batch = feed.get(0)
    grids = []
    grid = pictures.grid
    monkeypatch.setattr(
        pictures, "grid", lambda columns, **more: grids.append((columns, more)) or grid(columns, **more)
    )
    groups = [beside.Group(batch.A, ["x", "y"], "A"), beside.Group(batch.B, ["v", "w"], "B")]
    beside.sheet(trained, runs / "cyclegan", groups, 1, "hog")
    (columns, more) = grids[0]
    torch.testing.assert_close(columns["pixels"], columns["sample"], atol=1 / 255, rtol=0)
    torch.testing.assert_close(columns["edges and colours (HOG)"], columns["sample"], atol=1 / 255, rtol=0)
    assert more["under"]["sample"] == ["x", "y", "v", "w"]
    # The names are those of the files: of A's pictures two of summer, of B's two of winter.
    assert all(distance == "0  " for distance, _ in more["under"]["pixels"])
    with given.training(trained, runs / "cyclegan") as feed:
        source = feed.parts[0].source
        index = source.names().index(more["under"]["pixels"][0][1])
        pixels = torch.from_numpy(np.array(source.picture(index)))
    assert np.abs(pictures.to_uint8(batch.A)[0].astype(int) - pixels.numpy().astype(int)).max() == 0


def test_names_under_pictures_are_whole_where_they_fit_else_their_ends():
    def sixteen(line):
        return len(line) <= 16

    for name, shown in (
        ("facade_1.png", "12.3  facade_1"),  # the ending goes first: all have it
        ("a.png", "12.3  a.png"),
        ("train/img_000123.jpg", "12.3  …mg_000123"),
        ("n02381460_1001", "12.3  …1460_1001"),
    ):
        assert pictures.line_of(("12.3  ", name), sixteen) == shown
    assert pictures.line_of("a small red bird", sixteen) == "a small red bird"
    assert pictures.line_of("a small red bird with a beak", sixteen) == "a small red bir…"
    assert pictures.line_of(("12.3  ", "abc"), lambda line: len(line) < 3) == "12.3  …"  # nothing fits: it ends


def test_without_weights_of_inception_it_says_what_it_takes(runs, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "nothing"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    assert sample(runs / "dcgan", "-o", "near.png", "--neighbours", "-n", 1) == 0
    assert "edges and colours" in capfd.readouterr().err
    assert Image.open("near.png").size[0] == 7 * 100 + 4


# What cannot be asked


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("pix2pix -o x.png --walk", "neither noise nor sentences nor labels"),
        ("cyclegan -o x.gif --walk", "neither noise nor sentences nor labels"),
        ("dcgan -o x.jpg --walk", "name it x.gif"),
        ("dcgan -o x.gif", "name it x.png"),
        ("dcgan -o x.png --walk --steps 0", "--steps must be at least 1"),
        ("dcgan -o x.png --walk --stops 1", "--stops must be at least 2"),
        ("dcgan -o x.png --walk --stops 0", "--stops must be at least 2"),
        ("dcgan -o x.png --walk -n 0", "--number must be at least 1"),
        ("dcgan -o x.gif --walk --fps 0", "--fps"),
        ("dcgan -o x.gif --walk --fps nan", "--fps"),
        ("dcgan -o x.gif --walk --quality 10", "--quality is of a WebP"),
        ("dcgan -o x.webp --walk --quality 101", "--quality must be in 1..100"),
        ("dcgan -o x.webp --walk --dither", "--dither is of a GIF"),
        ("dcgan -o x.png --walk sideways", "invalid choice"),
        ("dcgan -o x.png --walk text", "it has --walk z"),
        ("dcgan -o x.png --walk labels", "it has --walk z"),
        ("dcgan -o x.png --walk --to Male", "--to does not belong"),
        ("dcgan -o x.png --walk --text word", "--text"),
        ("dcgan -o x.png --steps 3", "add --walk"),
        ("dcgan -o x.png --closed", "add --walk"),
        ("dcgan -o x.png --to Male", "add --walk"),
        ("dcgan -o x.gif --walk --stops 2000 --steps 9", "frames"),
        ("dcgan -o x.png --walk --stops 200 --steps 99", "too large"),
        ("stackgan -o x.png --walk text --text word", "two or more"),
        ("stackgan -o x.png --walk --text a --text b --stops 3", "--stops does not belong"),
        ("stackgan -o x.png --walk -n 5000", "held-out captions"),
        ("stackgan -o x.png --walk --interpolate --text a --text b", "leave one of them out"),
        ("stackgan -o x.png --interpolate --text a --text b --neighbours", "--walk text"),
        ("stargan -o x.png --walk --to Beard --to Male", "does not know 'Beard'"),
        ("stargan -o x.png --walk --input nothing.png", "nothing.png"),
        ("stargan -o x.png --walk --input x.png -n 3", "--number"),
        ("stargan -o x.png --walk z", "it has --walk labels"),
        ("dcgan -o x.png --neighbours 0", "--neighbours must be at least 1"),
        ("dcgan -o x.png --neighbours x", "invalid int"),
        ("dcgan -o x.png --neighbours -n 5000", "at most 256"),
        ("dcgan -o x.png --features hog", "--neighbours"),
        ("dcgan -o x.gif --walk --neighbours", "name it x.png"),
        ("dcgan -o x.png --neighbours --features nothing.pt", "nothing.pt"),
    ],
)
def test_mistakes_of_walks_are_one_line(runs, tmp_path, capfd, argv, says):
    name, *flags = argv.split()
    capfd.readouterr()
    assert sample(runs / name, *flags) == 2
    line = capfd.readouterr().err.strip()
    assert len(line.splitlines()) == 1, line
    assert says in line
    assert not list(tmp_path.iterdir())


def test_one_label_alone_is_no_way(runs, tmp_path, capfd):
    Image.new("RGB", (16, 16)).save("a.png")
    assert sample(runs / "stargan", "-o", "x.png", "--walk", "--input", "a.png", "--to", "Male") == 2
    assert "two stops" in capfd.readouterr().err
    assert not Path("x.png").exists()


def test_training_pictures_that_are_gone_are_named(tmp_path, capfd):
    for k in range(6):
        Path("set").mkdir(exist_ok=True)
        Image.fromarray(np.full((20, 20, 3), 40 * k, dtype=np.uint8)).save(f"set/{k}.png")
    common = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard", "--max-steps", "1"]
    assert main(["train", "dcgan", *common, "--data", "set", "--run", "run"]) == 0
    Path("set").rename("elsewhere")
    capfd.readouterr()
    assert sample("run", "-o", "x.png", "--neighbours", "--features", "hog") == 2
    line = capfd.readouterr().err.strip()
    assert len(line.splitlines()) == 1
    assert "pygan train dcgan --run run --data DIR" in line
    assert not Path("x.png").exists()
    assert sample("run", "-o", "x.gif", "--walk") == 0  # which needs no data


def test_an_interrupted_walk_leaves_nothing(runs, tmp_path, monkeypatch):
    seen = []

    def interrupted(self, which):
        for k in which:
            if k == 3:
                raise KeyboardInterrupt
            seen.append(k)
            yield torch.zeros(1, 3, 16, 16)

    monkeypatch.setattr("pygan.sample.walk.Route.frames", interrupted)
    assert sample(runs / "dcgan", "-o", "x.webp", "--walk", "-n", 1) == 130
    assert seen
    assert not list(tmp_path.iterdir())


def test_frames_are_painted_a_few_at_a_time(runs, monkeypatch):
    trained = use.load(runs / "dcgan", "last", "cpu")
    way = route(trained, runs / "dcgan", Walk(), walks=5, stops=2, steps=40, seed=0, text=())
    sizes = []
    plain = trained.gan.generate
    monkeypatch.setattr(trained.gan, "generate", lambda G, r, n, z: sizes.append(n) or plain(G, r, n, z=z))
    assert sum(1 for _ in way.frames(range(len(way)))) == 42
    assert max(sizes) <= 32
    assert sum(sizes) == 5 * 42
    assert math.ceil(sum(sizes) / 32) <= len(sizes) <= 8

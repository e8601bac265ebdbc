"""A picture in tiles gives what the whole one gives: every network that translates, every norm, any size of tile."""

import dataclasses
import errno
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pygan import apply, gans, tiles, use
from pygan.data import transforms
from pygan.data.feeds import Facts
from pygan.errors import UserError
from pygan.nn import Given, NormAct, place_
from pygan.ops import philox
from pygan.pixels import Picture
from pygan.tiles import Tiling, blend, cut, memory, run, whole
from pygan.tiles import picture as of_picture
from pygan.tiles.survey import survey

GREY_LEVEL = 2 / 255  # of values in [-1, 1]
TRANSLATING = [name for name in gans.names() if hasattr(gans.load(name), "translate")]

UNETS = [
    {"norm": "instance"},
    {"norm": "instance", "in_affine": True, "bias": "all", "bottleneck_norm": True, "levels": 4},
    {"norm": "none"},
    {"test_bn": "running"},
    {"test_bn": "running", "test_dropout": False},
    {"levels": 2},
    {"levels": 3, "upsample": "nearest"},
    {"upsample": "nearest", "norm": "instance"},
    {"generator": "keras_unet"},
    {"generator": "keras_unet", "upsample": "deconv"},
    {"generator": "chainer", "norm": "instance"},
    {"skips": "none"},
    {"ngf": 3, "crop_size": 256, "load_size": 256},  # 8 halvings; masks whose channels are no multiple of 4
]
RESNETS = [
    {"norm": "batch"},
    {"norm": "batch", "test_bn": "running"},
    {"padding": "zeros", "in_affine": True},
    {"padding": "replicate", "sum_relu": True},
    {"generator": "resnet_9"},
    {"generator": "unet"},
]
CASES = [
    *((name, {}) for name in TRANSLATING),
    *(("pix2pix", fields) for fields in UNETS),
    *(("cyclegan", fields) for fields in RESNETS),
    ("stargan", {"blocks": 3}),
    ("simgan", {"preset": "tiny-paper"}),
    ("bigan", {"form": "ali"}),
]
IDS = [" ".join([name, *(f"{key}={value}" for key, value in fields.items())]) for name, fields in CASES]


def network(name, preset="tiny", channels=(3, 3), **fields):
    """A network whose weights are so large that norms, biases and dropout all matter."""
    gan = gans.load(name)
    recipe = gan.resolve(dataclasses.replace(gan.Recipe(), **{**gan.PRESETS[preset], **fields}), Facts(channels))
    net, random = gan.generator(recipe), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight, generator=random)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.3, generator=random)
            elif isinstance(module, NormAct):
                if module.weight is not None:
                    module.weight.normal_(1.0, 0.3, generator=random)
                    module.bias.normal_(0.0, 0.3, generator=random)
                if module.running_mean is not None:
                    module.running_mean.normal_(0.0, 0.3, generator=random)
                    module.running_var.uniform_(0.5, 2.0, generator=random)
    return use.Trained(gan, recipe, place_(net, "cpu").requires_grad_(False), 0, torch.device("cpu"))


def image(network, height, width, options):
    """Like a photograph: broad areas, a slope from corner to corner, a little noise."""
    random = torch.Generator().manual_seed(height)
    channels = network.card.channels[network.card.direction(options)][0]
    areas = F.interpolate(torch.randn((1, channels, 6, 6), generator=random), size=(height, width), mode="bicubic")
    slope = torch.linspace(-1, 1, width) * torch.linspace(0, 1, height)[:, None]
    return (0.4 * areas + 0.6 * slope + 0.1 * torch.randn(areas.shape, generator=random)).clamp(-1, 1)


def asked(network):
    return {"to": network.card.options["to"][0]} if network.card.options.get("to") else {}


def apart(network, height, width, **tiling):
    """Largest difference of the tiled result from the whole one, in grey levels; and the whole one."""
    options = asked(network)
    A = image(network, height, width, options)
    with torch.inference_mode():
        want = apply.through(network, A, seed=5, options=options)
    got = tiles.through(network, A, tiling=Tiling(**tiling), seed=5, options=options)
    assert got.shape == want.shape
    return float((got - want).abs().max()) / GREY_LEVEL, want


@pytest.mark.parametrize(("name", "fields"), CASES, ids=IDS)
def test_tiles_give_what_the_whole_gives(name, fields):
    difference, want = apart(network(name, **fields), 150, 203, pixels=64)
    assert difference < 0.02  # a fiftieth of what is promised
    assert want.std() > 0.05


@pytest.mark.parametrize(("height", "width"), [(33, 31), (2, 129), (97, 8)])
@pytest.mark.parametrize("pixels", [16, 40])
def test_any_size_of_picture_and_tile(height, width, pixels):
    for name, fields in (("pix2pix", {}), ("stargan", {}), ("simgan", {"preset": "tiny-paper"})):
        assert apart(network(name, **fields), height, width, pixels=pixels)[0] < 0.02


def test_the_other_direction():
    G = network("cyclegan")
    A = image(G, 90, 70, {"direction": "BtoA"})
    with torch.inference_mode():
        want, other = (apply.through(G, A, seed=0, options={"direction": way}) for way in ("BtoA", "AtoB"))
    got = tiles.through(G, A, tiling=Tiling(32), options={"direction": "BtoA"})
    assert (got - want).abs().max() < 0.02 * GREY_LEVEL < (got - other).abs().max()


def test_what_pytorch_keeps_of_a_gpu_is_free_for_the_next_picture(monkeypatch):
    """Else each picture of a folder would be cut into smaller tiles than the one before it."""
    facts = {"mem_get_info": (10, 80), "memory_reserved": 50, "memory_allocated": 20}
    for name, value in facts.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert memory.free(torch.device("cuda:1")) == 40


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "fields"), [("pix2pix", {}), ("cyclegan", {}), ("simgan", {"preset": "tiny-paper"})])
def test_on_a_gpu(name, fields, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # else rounding alone is a part of a grey level
    G = network(name, **fields)
    G = dataclasses.replace(G, net=place_(G.net, "cuda"), device=torch.device("cuda"))
    assert apart(G, 300, 410, pixels=128)[0] < 0.1
    assert apart(G, 300, 410, memory=4_000_000)[0] < 0.1


@pytest.mark.parametrize(("name", "fields"), [("cogan", {}), ("bigan", {"form": "ali"}), ("stargan", {})])
def test_a_size_chosen_by_memory(name, fields):
    assert apart(network(name, **fields), 90, 140, memory=400_000)[0] < 0.02


def test_a_trained_run(tmp_path):
    from pygan.loop import train

    flags = {"run": tmp_path / "run", "device": "cpu", "tensorboard": False, "ngf": 4}
    G = use.load(train("pix2pix", preset="tiny", **flags), "last", "cpu")
    assert apart(G, 150, 203, pixels=32)[0] < 0.02


# --- what must be seen ------------------------------------------------------------------------------------------------

LOCAL = [("pix2pix", {"test_bn": "running"}), ("cyclegan", {"norm": "batch", "test_bn": "running"}), ("stargan", {})]


@pytest.mark.parametrize(("name", "fields"), [("pix2pix", {}), ("cyclegan", {}), ("stargan", {})])
def test_statistics_of_a_tile_would_be_seen(name, fields, monkeypatch):
    monkeypatch.setattr(whole, "tell", lambda norm, moments: None)
    assert apart(network(name, **fields), 150, 203, pixels=64)[0] > 3


def test_statistics_that_count_what_is_around_a_tile_would_be_seen(monkeypatch):
    core = whole.Place.core
    monkeypatch.setattr(whole.Place, "core", lambda place, x: core(place, x) if x.shape[1] <= 3 else x)
    monkeypatch.setattr(run.Work, "_budget", property(lambda _: 0, lambda *_: None), raising=False)  # keep no maps
    assert apart(network("cyclegan"), 150, 203, pixels=64)[0] > 1


@pytest.mark.parametrize(("name", "fields"), [*LOCAL, ("simgan", {"preset": "tiny-paper"})])
def test_too_little_around_a_tile_would_be_seen(name, fields, monkeypatch):
    plain = cut.tiles

    def fewer(size, *, tile, halo, step):
        return plain(size, tile=tile, halo=halo - max(step, halo // 2 // step * step), step=step)

    monkeypatch.setattr(cut, "tiles", fewer)
    assert apart(network(name, **fields), 150, 203, pixels=64)[0] > 0.1


def test_dropout_by_the_place_in_a_tile_would_be_seen(monkeypatch):
    monkeypatch.setattr(whole, "keep_places", lambda net, place: None)
    monkeypatch.setattr(run, "_OUTER_LEVELS", 4)
    assert apart(network("pix2pix"), 150, 203, pixels=64)[0] > 3


# --- the parts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "fields"), [case for case in CASES if case[0] != "cogan"])
def test_no_pixel_sees_farther_than_the_reach(name, fields):
    """NaN in one cell of the picture, all norms told what to use: it must not come farther."""
    G = network(name, **fields)
    options = asked(G)
    card, channels = G.card, G.card.channels[G.card.direction(options)][0]

    def call(A):
        return G.translate(A, G.rng(0), **options)

    with torch.inference_mode():
        side = cut.up(max(16, card.least), card.multiple)
        found = survey(G.net, call, channels, side, card.multiple)
        for module in G.net.modules():
            if (isinstance(module, NormAct) and module.norm == "instance") or getattr(module, "norm", "") == "batch":
                ones = torch.ones(module.weight.shape if module.weight is not None else _channels(module, G.net))
                module.given = Given(mean=0 * ones, var=ones)
        cell = card.multiple
        cells = 2 * (-(-found.reach // cell)) + 3
        for down, right in ((1, cells), (cells, 1)):
            height, width = (max(cut.up(count * cell, cell), side) for count in (down, right))
            A = torch.zeros((1, channels, height, width))
            middle = cells // 2 * cell
            (A if down == 1 else A.mT)[..., middle : middle + cell] = float("nan")
            seen = call(A).isnan().any(dim=1)[0]
            at = seen.any(dim=0 if down == 1 else 1).nonzero()[:, 0]
            farthest = max(middle - int(at.min()), int(at.max()) + 1 - middle - cell)
            assert 0 <= farthest <= found.reach
            assert found.reach <= 2 * farthest + 2 * cell  # and it is no wild guess


def _channels(norm, net):
    return next(block.conv.out_channels for block in net.modules() if getattr(block, "norm_act", None) is norm)


def test_moments_are_those_of_the_whole():
    x = 100 + torch.randn((1, 5, 60, 70), generator=torch.Generator().manual_seed(1)) * torch.linspace(0.01, 3, 70)
    seen = whole.Moments()
    for part in (x[:, :, :7], x[:, :, 7:50, :1], x[:, :, 7:50, 1:], x[:, :, 50:]):
        seen.add(part)
    var, mean = torch.var_mean(x.double(), dim=(0, 2, 3), correction=0)
    assert torch.allclose(seen.mean.double(), mean, rtol=1e-6)
    assert torch.allclose(seen.var.double(), var, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_a_mask_is_a_part_of_the_whole_one(channels):
    rng, size = philox.new_rng(7, "cpu"), (24, 40)
    want = philox.keep_mask((1, channels, 12, 20), 0.3, rng, 5)
    place = whole.Place(size, cut.Tile(cut.Span(4, 8, 2, 12), cut.Span(20, 36, 16, 40)))
    assert torch.equal(whole.keep_mask((1, channels, 5, 12), 0.3, rng, 5, place), want[:, :, 1:6, 8:20])


@pytest.mark.parametrize(
    ("length", "tile", "halo", "step"), [(64, 16, 8, 4), (60, 17, 0, 4), (8, 100, 8, 8), (7, 2, 3, 1)]
)
def test_spans_cover_a_side_once(length, tile, halo, step):
    parts = cut.spans(length, tile=tile, halo=halo, step=step)
    assert (parts[0].begin, parts[-1].end) == (0, length)
    assert all(one.end == other.begin for one, other in itertools.pairwise(parts))
    for part in parts:
        assert part.end - part.begin <= max(tile, step)
        assert part.before == max(part.begin - halo, 0)
        assert part.behind == min(part.end + halo, length)
        assert not any(edge % step for edge in part)


@pytest.mark.parametrize("overlap", [1, 8, 40])
def test_blended_tiles_of_one_picture_are_that_picture(overlap):
    size, whole_picture, done = (64, 96), torch.rand((1, 2, 64, 96)), torch.zeros((1, 2, 64, 96))

    def write(top, left, part):
        done[:, :, top : top + part.shape[2], left : left + part.shape[3]] += part

    mixed = blend.Blend(size, 16, overlap, 1, write)
    for tile in cut.tiles(size, tile=16, halo=overlap, step=1):
        rows, columns = (slice(span.before, span.behind) for span in tile)
        mixed.add(tile, whole_picture[:, :, rows, columns])
    mixed.close()
    assert torch.allclose(done, whole_picture, atol=1e-6)


# --- as a user has it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [0, 8])
def test_a_small_overlap_is_an_approximation_and_says_so(overlap, capsys, monkeypatch):
    monkeypatch.setattr("pygan.errors._said", set())
    difference, _ = apart(network("cyclegan"), 150, 203, pixels=64, overlap=overlap)
    assert difference > 0.02
    assert f"--overlap {overlap}" in capsys.readouterr().err
    assert apart(network("cyclegan"), 150, 203, pixels=64, overlap=500)[0] < 0.02
    assert capsys.readouterr().err == ""


def test_without_a_size_tiles_are_as_large_as_the_memory_allows(monkeypatch):
    G, seen = network("cyclegan"), []
    monkeypatch.setattr(run, "survey", lambda *args, **kwargs: seen.append(1) or survey(*args, **kwargs))
    assert apart(G, 150, 203)[0] == 0  # in one
    assert not seen
    assert apart(G, 150, 203, memory=2_000_000)[0] < 0.02
    assert seen
    assert apart(network("pix2pix"), 150, 203, memory=1_000_000)[0] < 0.02


def test_what_maps_need_is_measured():
    G = network("simgan", preset="tiny-paper", ngf=16)
    per_pixel = memory.bytes_per_pixel(lambda A: G.translate(A), 3, 64, torch.device("cpu"))
    assert 3 * 64 <= per_pixel <= 5 * 64  # of a block: what enters, what is between, what leaves; 16 floats each
    assert memory.side(per_pixel * 300**2, per_pixel, halo=50) == 200
    assert memory.side(per_pixel * 1e9, per_pixel, halo=50) == memory.LARGEST


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("mapped", [False, True])
def test_pictures_keep_depth_and_alpha(kind, mapped, monkeypatch):
    monkeypatch.setattr(of_picture, "_IN_MEMORY", 0.0 if mapped else 1.0)
    white = 1 if kind == np.float32 else np.iinfo(kind).max
    values = (np.random.default_rng(0).random((70, 90, 4)) * white).astype(kind)
    given = Picture(values[:, :, :3], values[:, :, 3])
    G = network("pix2pix", input_channels=3, output_channels=3)
    (want,) = apply.translated(G, [given], seed=1)
    (got,) = apply.translated(G, [given], seed=1, tile=Tiling(32))
    assert got.pixels.dtype == want.pixels.dtype == kind
    assert np.array_equal(got.alpha, want.alpha)
    apart = np.abs(got.pixels.astype(np.float64) - want.pixels) / white
    assert got.pixels.shape == want.pixels.shape
    assert apart.max() <= 1 / 255


def test_a_disk_that_is_full_is_found_out_at_once(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(of_picture, "_IN_MEMORY", 0.0)
    monkeypatch.setattr("os.posix_fallocate", full)
    given = Picture(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UserError, match="has no room for a result"):
        tiles.translated(network("pix2pix"), given, tiling=Tiling(32))


def test_without_room_for_a_map_every_norm_begins_at_the_picture(capsys, monkeypatch):
    monkeypatch.setattr("pygan.errors._said", set())
    assert apart(network("stargan"), 60, 90, pixels=32, memory=10_000)[0] < 0.02
    assert "several times slower" in capsys.readouterr().err


@pytest.mark.parametrize("transform", ["grey", "lab", "mask", "canny"])
def test_pictures_are_prepared_as_whole_ones(transform):
    if transform in ("lab", "canny"):
        pytest.importorskip("cv2")
    channels = transforms.NATURAL_CHANNELS[transform]
    G = network("pix2pix", channels=channels, input_transform=transform, test_dropout=False)
    given = Picture((np.random.default_rng(2).random((75, 90, 3)) * 255).astype(np.uint8))
    (want,), (got,) = (apply.translated(G, [given], tile=tile) for tile in (None, Tiling(32)))
    assert np.abs(got.pixels.astype(int) - want.pixels).max() <= 1


def test_the_network_is_left_as_it_was():
    G = network("pix2pix")
    before = [(id(t), t.clone()) for t in G.net.state_dict(keep_vars=True).values()]
    shape = str(G.net)
    apart(G, 150, 203, pixels=64)
    assert str(G.net) == shape
    assert all(id(t) == was and torch.equal(t, value) for t, (was, value) in zip(
        G.net.state_dict(keep_vars=True).values(), before, strict=True
    ))  # fmt: skip
    for module in G.net.modules():
        assert getattr(module, "given", None) is None
        assert getattr(module, "own_kernels", True)
        assert not module._forward_pre_hooks


@pytest.mark.parametrize("fields", [{"pixels": -1}, {"overlap": -2}])
def test_sizes_that_make_no_sense(fields):
    with pytest.raises(UserError, match="must be at least"):
        Tiling(**fields)


def test_a_file_without_its_modules_is_refused():
    class File:
        card, device = network("pix2pix").card, torch.device("cpu")

    with pytest.raises(UserError, match="--tile needs the network's parts"):
        tiles.through(File(), torch.zeros((1, 3, 32, 32)), tiling=Tiling(16))


class SeesAll(torch.nn.Module):
    multiple, least = 4, 4

    def __init__(self):
        super().__init__()
        self.pool = torch.nn.AdaptiveAvgPool2d(1)

    def forward(self, A):
        return A + self.pool(A)


def test_a_layer_that_sees_everything_is_refused():
    net = SeesAll()
    with pytest.raises(UserError, match="AdaptiveAvgPool2d"):
        survey(net, net, 3, 16, 4)


_PEAK = """
import dataclasses, torch
from pathlib import Path
from pygan import apply, gans, tiles, use
torch.set_num_threads(1)
gan = gans.load("simgan")
recipe = gan.resolve(dataclasses.replace(gan.Recipe(), **{**gan.PRESETS["tiny-paper"], "ngf": 32}))
G = use.Trained(gan, recipe, gan.generator(recipe).requires_grad_(False), 0, torch.device("cpu"))
A = torch.rand((1, 3, 512, 768)) * 2 - 1
now = lambda what: int(Path("/proc/self/status").read_text().split(what + ":")[1].split()[0])
for how in ("tiles", "whole"):
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = now("VmRSS")
    if how == "tiles":
        tiles.through(G, A, tiling=tiles.Tiling(96))
    else:
        apply.through(G, A, seed=0)
    print((now("VmHWM") - before) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells a process's peak")
def test_tiles_need_a_part_of_the_memory():
    done = subprocess.run([sys.executable, "-c", _PEAK], capture_output=True, check=True, text=True)
    small, large = map(float, done.stdout.split())
    assert small < large / 3

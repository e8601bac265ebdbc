"""A picture in tiles beside the whole one: pytest benchmarks/bench_tiles.py.

Each row checks that the tiled result, in grey levels of 255, is that of the whole picture, and says how many passes
that took, how fast it was, and what memory either needs at its peak, beside what was there before. `two_passes` says
what the usual shortcut would give: statistics of the norms gathered in one pass of tiles, each with its own, and used
in the next.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import time
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pygan import apply, gans, tiles, use
from pygan.nn import NormAct, place_
from pygan.tiles import cut, progress, run, whole
from pygan.tiles.survey import survey

GREY_LEVEL = 2 / 255
SIZE, TILE = (768, 1024), 256
CASES = {
    "unet_256 batch": ("pix2pix", {"crop_size": 256, "load_size": 286}),
    "unet_256 instance": ("pix2pix", {"crop_size": 256, "load_size": 286, "norm": "instance"}),
    "unet_256 running": ("pix2pix", {"crop_size": 256, "load_size": 286, "test_bn": "running"}),
    "resnet_9 instance": ("cyclegan", {"generator": "resnet_9"}),
    "resnet_9 batch": ("cyclegan", {"generator": "resnet_9", "norm": "batch"}),
    "stargan": ("stargan", {"blocks": 6}),
    "refiner": ("simgan", {"preset": "tiny-paper", "refiner_blocks": 4}),
}


@pytest.fixture(autouse=True)
def whole_products(monkeypatch):
    """No TF32, whose rounding alone is a part of a grey level."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def network(name, preset="tiny", **fields):
    """With weights of He's scale, so that every norm matters."""
    gan, random = gans.load(name), torch.Generator().manual_seed(0)
    recipe = gan.resolve(dataclasses.replace(gan.Recipe(), **{**gan.PRESETS[preset], "ngf": 16, **fields}))
    net = gan.generator(recipe)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                torch.nn.init.kaiming_normal_(module.weight, generator=random)
                if module.bias is not None:
                    module.bias.normal_(0.0, 0.1, generator=random)
            elif isinstance(module, NormAct) and module.weight is not None:
                module.weight.normal_(1.0, 0.2, generator=random)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return use.Trained(gan, recipe, place_(net, device).requires_grad_(False), 0, device)


def image(channels, size=SIZE):
    """Like a photograph: broad areas, a slope from corner to corner, a little noise."""
    random, (height, width) = torch.Generator().manual_seed(1), size
    areas = F.interpolate(torch.randn((1, channels, 6, 8), generator=random), size=size, mode="bicubic")
    slope = torch.linspace(-1, 1, width) * torch.linspace(0, 1, height)[:, None]
    return (0.4 * areas + 0.6 * slope + 0.05 * torch.randn(areas.shape, generator=random)).clamp(-1, 1)


def peaked(device, act):
    """(what `act` returns, seconds, MiB that it needs at its peak); None where the system does not tell that."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before, began = torch.cuda.memory_allocated(), time.perf_counter()
        result = act()
        return result, time.perf_counter() - began, (torch.cuda.max_memory_allocated() - before) / 2**20
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        began = time.perf_counter()
        return act(), time.perf_counter() - began, None
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    reset.write_text("5")
    before, began = _status("VmRSS"), time.perf_counter()
    result = act()
    return result, time.perf_counter() - began, (_status("VmHWM") - before) / 1024


def _status(what):
    return int(Path("/proc/self/status").read_text().split(what + ":")[1].split()[0])


@pytest.mark.parametrize("case", CASES)
def test_tiles(benchmark, case, monkeypatch):
    """768x1024 pixels in tiles of 256, networks of 16 channels."""
    name, fields = CASES[case]
    G = network(name, **fields)
    options = {"to": G.card.options["to"][0]} if "to" in G.card.options else {}
    A, seen = image(G.card.channels[G.card.direction(options)][0]), []
    counted = progress.Progress.say
    monkeypatch.setattr(progress.Progress, "say", lambda bar, plan: seen.append(plan) or counted(bar, plan))
    benchmark.group = "tiles"

    def tiled():
        return peaked(
            G.device, lambda: tiles.through(G, A, tiling=tiles.Tiling(TILE, memory=1 << 29), seed=1, options=options)
        )

    got, seconds, mib = benchmark.pedantic(tiled, rounds=1)
    with torch.inference_mode():
        want, whole_s, whole_mib = peaked(G.device, lambda: apply.through(G, A, seed=1, options=options))
    difference = float((got - want).abs().max()) / GREY_LEVEL
    megapixels = SIZE[0] * SIZE[1] / 1e6
    benchmark.extra_info.update(
        case=case,
        size=f"{SIZE[1]}x{SIZE[0]}",
        tile=TILE,
        difference_grey_levels=round(difference, 6),
        plan=seen[0],
        megapixels_per_s=round(megapixels / seconds, 3),
        whole_megapixels_per_s=round(megapixels / whole_s, 3),
        peak_mib=mib and round(mib),
        whole_peak_mib=whole_mib and round(whole_mib),
        threads=torch.get_num_threads(),
    )
    assert difference < 1
    assert want.std() > 0.05


def passes_of_all_norms(G, A, passes, tile):
    """The result after each of `passes` passes of tiles, in which every norm has the statistics of the pass before."""
    place = whole.Place(tuple(A.shape[2:]))
    part = dataclasses.replace(G, net=run._copy(G.net))
    multiple = G.card.multiple
    side = cut.up(max(16, G.card.least), multiple)
    found = survey(part.net, part.translate, A.shape[1], side, multiple)
    for _ in range(passes):
        moments = {norm.module: whole.Moments() for norm in found.norms}

        def note(module, args, moments=moments):
            moments[module].add(place.core(args[0]))

        hooks = [norm.module.register_forward_pre_hook(note) for norm in found.norms]
        out = torch.empty_like(A)
        for one in cut.tiles(place.size, tile=tile, halo=cut.up(found.reach, multiple), step=multiple):
            place.tile = one
            rows, columns = (slice(span.before, span.behind) for span in one)
            core = place.core(part.translate(A[:, :, rows, columns]))
            out[:, :, one.rows.begin : one.rows.end, one.columns.begin : one.columns.end] = core
        for hook in hooks:
            hook.remove()
        for module, seen in moments.items():
            whole.tell(module, seen)
        yield out


@pytest.mark.parametrize("case", ["unet", "resnet_6"])
def test_two_passes(benchmark, case):
    """How far two passes are from the whole, and eight, in grey levels; 384x512 pixels in tiles of 128."""
    name, fields = {"unet": ("pix2pix", {"test_dropout": False}), "resnet_6": ("cyclegan", {})}[case]
    G, A = network(name, ngf=8, **fields), image(3, (384, 512))
    benchmark.group = "two passes"
    with torch.inference_mode():
        want = G.translate(A)
        made = benchmark.pedantic(lambda: list(passes_of_all_norms(G, A, 8, 128)), rounds=1)
    off = [float((one - want).abs().max()) / GREY_LEVEL for one in made]
    got = tiles.through(G, A, tiling=tiles.Tiling(128))
    benchmark.extra_info.update(
        case=case,
        own_grey_levels=round(off[0], 2),
        two_passes_grey_levels=round(off[1], 2),
        eight_passes_grey_levels=round(off[-1], 4),
        tiles_grey_levels=round(float((got - want).abs().max()) / GREY_LEVEL, 6),
        threads=torch.get_num_threads(),
    )
    assert (got - want).abs().max() < GREY_LEVEL
    assert off[1] > 1

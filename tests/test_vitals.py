"""Vital signs measure what they say they do, on pictures and gradients that are known; measuring moves nothing."""

import math

import pytest
import torch

from pygan import gans, vitals
from pygan.gans import pix2pix
from pygan.gans.pix2pix import PRESETS, Recipe
from pygan.optim import Adam
from pygan.state import State
from pygan.vitals import Vitals, checkerboards

GREY = 127.5


def showing(**pictures):
    """A state without nets whose last step showed these pictures."""
    state = State(nets={}, opts={})
    state.show(**pictures)
    return state


def measured(**pictures):
    return {name: float(value) for name, value in Vitals().measure(showing(**pictures)).items()}


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def board(size, period):
    """A checkerboard of amplitude 1, each field half a period wide."""
    ticks = torch.arange(size) // (period // 2)
    return (1 - 2 * ((ticks[:, None] + ticks[None]) % 2)).float().expand(1, 3, size, size)


def stripes(size, period):
    return (1 - 2 * ((torch.arange(size) // (period // 2)) % 2)).float().expand(1, 3, size, size)


# ---- Checkerboards


@pytest.mark.parametrize("pattern", [board, stripes, lambda n, p: stripes(n, p).transpose(2, 3)])
@pytest.mark.parametrize("period", [2, 4])
def test_a_pattern_gives_its_amplitude_at_its_period(pattern, period):
    found = checkerboards(0.3 * pattern(64, period) + 0.2)
    assert float(found[period]) == pytest.approx(0.3, rel=0.01)
    if period == 4:
        assert float(found[2]) < 0.3 * 0.02


def test_what_pictures_are_made_of_gives_little():
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    edge = torch.where(torch.arange(64) < 33, -1.0, 1.0).expand(1, 3, 64, 64)
    assert float(checkerboards(ramp)[2]) < 1e-3
    assert float(checkerboards(torch.full((1, 3, 64, 64), 0.7))[2]) < 1e-6
    assert float(checkerboards(edge)[2]) < 0.06  # an edge from black to white: 7 grey levels in its tiles
    assert float(checkerboards(noise(4, 3, 64, 64))[2]) < 0.1


def test_phase_counts_and_energy_does_not():
    """The same stripes, shifted by a pixel in every second row, are no pattern of period 2."""
    pattern = stripes(64, 2)
    shuffled = torch.where(torch.rand(64, generator=torch.Generator().manual_seed(1)) < 0.5, 1.0, -1.0)
    assert float(checkerboards(pattern * shuffled.view(1, 1, 64, 1))[2]) < 0.5
    assert float(checkerboards(pattern)[2]) == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 40), (11, 13), (8, 8), (4, 4), (64, 19)])
def test_every_size_is_measured_or_left_out(height, width):
    for period, amplitude in checkerboards(noise(2, 1, height, width)).items():
        assert math.isfinite(float(amplitude)), period


def test_a_picture_too_small_for_a_pattern_has_none():
    assert checkerboards(noise(1, 3, 2, 2)) == {}


# ---- Colours, contrast, saturation


def test_colours_agree_or_are_inverted():
    target = noise(2, 3, 32, 32) * 0.2 + noise(2, 3, 1, 1, seed=1)
    for sign in (1.0, -1.0):
        found = measured(fake=sign * target + 0.1, target=target, input=noise(2, 1, 32, 32))
        assert found["vital/colour"] == pytest.approx(sign, abs=1e-5)
        assert "vital/colour_input" not in found
    found = measured(fake=noise(2, 3, 32, 32, seed=5), target=target)
    assert abs(found["vital/colour"]) < 0.2


def test_without_a_target_brightness_is_compared_with_the_input_and_with_chance():
    scene = torch.linspace(-1, 1, 32).view(1, 1, 32, 1).expand(2, 1, 32, 32)
    found = measured(fake=-scene.expand(-1, 3, -1, -1), input=scene, real=scene.expand(-1, 3, -1, -1))
    assert found["vital/colour_input"] == pytest.approx(-1.0, abs=1e-5)
    assert found["vital/colour_chance"] == pytest.approx(1.0, abs=1e-5)


def test_a_flat_picture_has_no_colours_to_compare():
    assert measured(fake=torch.full((1, 3, 32, 32), 0.5), target=noise(1, 3, 32, 32))["vital/colour"] == 0.0


def test_saturation_and_contrast_are_shares_and_grey_levels():
    fake = torch.full((1, 3, 32, 32), 0.2)
    fake[..., :8] = 0.995
    found = measured(fake=fake, real=fake.flip(3) * 0.5)
    assert found["vital/saturation"] == pytest.approx(0.25)
    assert found["vital/saturation_real"] == 0.0
    expected = torch.nn.functional.adaptive_avg_pool2d(fake, 16).std() * GREY
    assert found["vital/contrast"] == pytest.approx(float(expected), rel=1e-5)
    assert found["vital/contrast_real"] == pytest.approx(float(expected) / 2, rel=1e-5)


# ---- Diversity


def test_diversity_is_the_rms_distance_of_two_pictures():
    fake, real = noise(8, 3, 16, 16) * 0.3, noise(8, 3, 16, 16, seed=1)
    found = measured(fake=fake, real=real)
    for name, pictures in (("fake", fake), ("real", real)):
        squares = [(pictures[i] - pictures[j]).square().mean() for i in range(8) for j in range(i)]
        assert found[f"vital/diversity_{name}"] == pytest.approx(float(torch.stack(squares).mean().sqrt()) * GREY)


def test_a_batch_of_one_is_compared_with_the_rows_before():
    signs, pictures = Vitals(), noise(40, 3, 16, 16)
    for i in range(40):
        found = signs.measure(showing(fake=pictures[i : i + 1], real=pictures[:1]))
        assert ("vital/diversity_fake" in found) == (i >= 7)
    last = pictures[-vitals.MEMORY :].flatten(1)
    expected = last.var(dim=0).mean().mul(2).sqrt() * GREY
    assert float(found["vital/diversity_fake"]) == pytest.approx(float(expected), rel=1e-5)
    assert float(found["vital/diversity_real"]) == 0.0


def test_pictures_of_another_size_begin_a_new_memory():
    signs = Vitals()
    signs.measure(showing(fake=noise(8, 3, 16, 16)))
    assert "vital/diversity_fake" not in signs.measure(showing(fake=noise(4, 1, 32, 32)))


def test_both_ways_are_measured_apart():
    found = measured(
        input=noise(8, 3, 32, 32), fake=noise(8, 3, 32, 32) * 0.1, real=noise(8, 3, 32, 32),
        input_A=noise(8, 3, 32, 32), fake_A=noise(8, 3, 32, 32), real_A=noise(8, 3, 32, 32),
    )  # fmt: skip
    assert found["vital/diversity_fake"] == pytest.approx(0.1 * found["vital/diversity_fake_A"], rel=1e-5)
    one = {name for name in found if not name.endswith("_A")}
    assert {f"{name}_A" for name in one} | one == set(found)


# ---- Gradients


def test_a_gradient_is_that_of_the_last_step():
    """After one step Adam's bias corrected mean is the gradient itself."""
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    opt = Adam(net, lr=0.0, betas=(0.5, 0.999))
    assert [float(x) for x in opt.layer_rms()[0]] == [0.0, 0.0]
    x = noise(6, 4)
    wanted = torch.autograd.grad(net(x).square().mean(), [net[0].weight, net[2].weight])
    opt.update(net(x).square().mean(), None)
    gradient, weight = opt.layer_rms(most=1 << 10)
    for found, expected in zip(gradient, wanted, strict=True):
        assert float(found) == pytest.approx(
            float(expected.square().mean().sqrt()), rel=0.05
        )  # 1024 of 20, with repeats
    assert float(weight[0]) == pytest.approx(float(net[0].weight.detach().square().mean().sqrt()), rel=0.05)


def test_a_loss_scale_is_not_in_it():
    sizes = []
    for scale in (None, torch.tensor(1024.0)):
        torch.manual_seed(0)
        net = torch.nn.Linear(4, 4)
        opt = Adam(net, lr=0.0, betas=(0.5, 0.999))
        opt.update(net(noise(6, 4)).square().mean(), scale)
        sizes.append(float(opt.layer_rms()[0]))
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-5)


def test_large_layers_are_sampled_all_over():
    net = torch.nn.Linear(300, 400, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(0, 1, 120_000).view(400, 300))
    rms = float(Adam(net, lr=0.0, betas=(0.5, 0.999)).layer_rms()[1])
    assert rms == pytest.approx(1 / math.sqrt(3), rel=0.01)


def test_the_first_layer_is_compared_with_the_last():
    net = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    opt = Adam(net, lr=0.0, betas=(0.5, 0.999))
    with torch.no_grad():
        net[1].weight.mul_(1e-6)
    opt.update(net(noise(6, 4)).sum(), None)
    state = State(nets={"G": net}, opts={"G": opt})
    found = {name: float(value) for name, value in Vitals().measure(state).items()}
    assert found["vital/grad_G_first_to_last"] < 1e-10  # 1e-6 of the gradient, and a weight 1e6 times as large
    assert found["vital/grad_G"] > 0


# ---- In a training


@pytest.mark.parametrize("name", gans.names())
def test_every_gan_shows_its_pictures(name):
    """Numbers of every kind after a step of the tiny preset, all finite; a second measurement finds nothing moved."""
    gan = gans.load(name)
    recipe = gan.Recipe(**gan.PRESETS["tiny"])
    with gan.batches(gans.phases(gan, recipe)[0], "train", torch.device("cpu")) as feed:
        recipe = gans.phases(gan, gan.resolve(recipe, feed.facts))[0]
        state = gan.build(recipe, "cpu")
        gan.step(state, recipe, feed.get(0))
    before = {key: value.clone() for key, value in state.tensors().items()}
    chance = torch.get_rng_state()
    found = Vitals().measure(state)
    assert all(torch.equal(value, before[key]) for key, value in state.tensors().items())
    assert torch.equal(torch.get_rng_state(), chance)
    assert {f"vital/grad_{net}" for net in state.opts} <= found.keys()
    pictures = {"vital/saturation", "vital/contrast", "vital/contrast_real", "vital/checkerboard_2"}
    assert pictures <= found.keys()
    for key, value in found.items():
        assert key.startswith("vital/")
        assert value.dim() == 0 and value.dtype == torch.float32 and not value.requires_grad, key  # noqa: PT018
        assert math.isfinite(float(value)), key
    assert all(-1.001 <= float(value) <= 1.001 for image in state.shown.values() for value in image.aminmax()) or (
        name in ("began", "ebgan")  # whose nets end in no tanh
    )


def test_only_some_pictures_of_a_large_batch_are_looked_at():
    few, many = noise(vitals.MOST, 3, 16, 16), noise(64, 3, 16, 16, seed=3)
    many[: vitals.MOST] = few
    assert measured(fake=few) == measured(fake=many)


@pytest.mark.cuda
@pytest.mark.parametrize("graphed", [False, True])
def test_nobody_waits_for_the_gpu(graphed):
    """Also of the static pictures and moments that a graph's replay leaves behind."""
    from pygan.graph import GraphedStep

    recipe = pix2pix.resolve(Recipe(**PRESETS["tiny"]))
    state, signs = pix2pix.build(recipe, "cuda"), Vitals()
    with pix2pix.batches(recipe, "train", torch.device("cuda")) as feed:
        batches = [feed.get(2 * i) for i in range(4)]

        def step(batch):
            return pix2pix.step(state, recipe, batch)

        act = GraphedStep(step, state, batches[0]) if graphed else step
        act(batches[0])
        signs.measure(state)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for batch in batches[1:]:
                act(batch)
                found = signs.measure(state)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    values = {name: float(value) for name, value in found.items()}
    assert all(map(math.isfinite, values.values()))
    assert values["vital/diversity_fake"] > 0  # 4 rows of 2 pictures
    with torch.no_grad():  # what is shown is of the last batch: its target
        assert torch.equal(state.shown["target"], batches[-1].B)
    here = Vitals()
    shown = State(nets={}, opts={})
    shown.show(**{name: image.cpu() for name, image in state.shown.items()})
    for name, value in here.measure(shown).items():
        if "diversity" not in name:
            assert values[name] == pytest.approx(float(value), rel=1e-3, abs=1e-4), name

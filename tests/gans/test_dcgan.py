"""DCGAN: counts and fingerprint of its networks, the step against the equations in stock PyTorch, how G is used."""

import functools

import fingerprint
import numpy as np
import pytest
import stock
import torch
import torch.nn.functional as F
from stock import counts, noise, on_meta
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pygan.data import Facts
from pygan.errors import UserError
from pygan.gans import dcgan
from pygan.gans.dcgan import PRESETS, Recipe
from pygan.gans.dcgan import recipe as recipe_module
from pygan.nn import Mode
from pygan.state import State

TINY = PRESETS["tiny"]
FACES = PRESETS["faces"]
ON_A_GPU = {
    "do": {"arch": "do", "z": "uniform"},
    "64 wide in fp16": {"amp": True, "amp_dtype": "fp16", "ngf": 64},
}
doubled = functools.partial(stock.doubled, dcgan)
pictures = functools.partial(noise, dcgan)


def tiny(**fields):
    return dcgan.resolve(Recipe(**{**TINY, **fields}))


# The networks


@pytest.mark.parametrize(
    ("fields", "of_g", "of_d"),
    [
        ({}, (3_576_704, 1_920), (2_765_568, 1_792)),
        ({"channels": 1}, (3_574_656, 1_920), (2_763_520, 1_792)),
        # of the authors' faces, whose first norm has a scale for each of 16,384 values
        (FACES, (18_885_760, 2 * (16_384 + 512 + 256 + 128)), (17_232_768, 2 * (256 + 512 + 1024))),
        ({"crop_size": 32}, (100 * 256 * 16 + 256 * 128 * 16 + 128 * 64 * 16 + 64 * 3 * 16 + 2 * 448, 896), None),
    ],
    ids=["64 pixels", "one channel", "faces", "32 pixels"],
)
def test_parameter_counts(fields, of_g, of_d):
    recipe = Recipe(**fields)
    assert counts(dcgan.generator, recipe) == of_g
    if of_d:
        assert counts(recipe_module.discriminator, recipe) == of_d


def test_multiplications_of_one_image():
    recipe = Recipe()
    for make, shape, expected in (
        (dcgan.generator, (1, 100), 104_628_224),
        (recipe_module.discriminator, (1, 3, 64, 64), 103_817_216),
    ):
        net = on_meta(make, recipe)
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            net(torch.empty(shape))
        assert counter.get_total_flops() == 2 * expected


def test_multiplications_of_one_step(monkeypatch):
    def update(state, name, loss):
        loss.backward(inputs=list(state.nets[name].parameters()))

    monkeypatch.setattr(recipe_module, "update", update)
    monkeypatch.setattr(recipe_module, "end_step_", lambda state, recipe: None)
    recipe = Recipe(batch=2)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        nets = {"G": dcgan.generator(recipe), "D": recipe_module.discriminator(recipe)}
        rng = torch.empty(2, dtype=torch.int64)
        dcgan.step(State(nets=nets, opts={}, buffers={"rng": rng}), recipe, dcgan.example(recipe))
    per_image = counter.get_total_flops() / 2 / 2
    # The PyTorch example also computes gradients of D's weights in G's update, and throws them away.
    assert (per_image + 103_817_216) / 1e9 == pytest.approx(1.241, abs=5e-4)


def test_fingerprint():
    z = fingerprint.filled((2, 100, 1, 1)).flatten(1)
    G = on_meta(dcgan.generator, Recipe())
    fingerprint.fill_(G, lambda net: net(z.to("meta", torch.float32)))
    with torch.no_grad():
        output = G(z)
    expected = (-0.008616071, 0.364771341, 0.141000008, -0.064450261)
    np.testing.assert_allclose(fingerprint.signature(output), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("arch", ["conv", "do"])
@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_sizes_by_levels(arch, size):
    recipe = Recipe(arch=arch, load_size=size, crop_size=size, ngf=4, ndf=4)
    G, D = on_meta(dcgan.generator, recipe), on_meta(recipe_module.discriminator, recipe)
    image = G(torch.empty(2, 100, device="meta"))
    assert image.shape == (2, 3, size, size)
    assert D(image).shape == (2, 1, 1, 1)
    assert len(G.ups) + 2 == len(D.downs) + 1 == {16: 3, 32: 4, 64: 5, 128: 6}[size]


# The step, against stock PyTorch


class View(nn.Module):
    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(len(x), *self.shape)


def plain_nets(do, nz, channels):
    """G and D for 16 pixels with widths 8, as the paper's section 3 has them, of stock layers."""
    k, p, more = (5, 2, {"output_padding": 1}) if do else (4, 1, {})
    if do:
        first = [nn.Linear(nz, 16 * 16, bias=False), nn.BatchNorm1d(256), nn.ReLU(), View(16, 4, 4)]
    else:
        first = [View(nz, 1, 1), nn.ConvTranspose2d(nz, 16, 4, 1, 0, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    G = nn.Sequential(
        *first,
        *(nn.ConvTranspose2d(16, 8, k, 2, p, bias=False, **more), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.ConvTranspose2d(8, channels, k, 2, p, bias=False, **more), nn.Tanh()),
    )
    head = [nn.Flatten(), nn.Linear(256, 1, bias=False)] if do else [nn.Conv2d(16, 1, 4, 1, 0, bias=False)]
    D = nn.Sequential(
        *(nn.Conv2d(channels, 8, k, 2, p, bias=False), nn.LeakyReLU(0.2)),
        *(nn.Conv2d(8, 16, k, 2, p, bias=False), nn.BatchNorm2d(16), nn.LeakyReLU(0.2)),
        *head,
        nn.Flatten(0),
    )
    return G.double(), D.double()


def beside(plain, net):
    """(tensor of a stock net, the same one of ours); both list layers, each with its norm behind it."""
    own = [p for name, p in plain.state_dict(keep_vars=True).items() if "num_batches" not in name]
    theirs = list(net.state_dict(keep_vars=True).values())
    return list(zip(own, theirs, strict=True))


@pytest.mark.parametrize(
    "fields",
    [{}, {"arch": "do", "z": "uniform", "weight_decay": 1e-2}, {"channels": 1}],
    ids=["conv", "do", "one channel"],
)
def test_three_steps_equal_the_equations_in_stock_pytorch(fields):
    channels = fields.get("channels", 3)
    recipe = dcgan.resolve(Recipe(**{**TINY, "lr": 1e-3, **fields}), Facts(channels=(channels,)))
    state = doubled(recipe)
    G, D = plain_nets(recipe.arch == "do", recipe.z_dim, channels)
    pairs = beside(G, state.G) + beside(D, state.D)
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "foreach": False}
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), **numbers) for net in (G, D))

    for i in range(3):
        batch = pictures(recipe, seed=i, dtype=torch.float64)
        z = recipe_module.latent(recipe, state.rng, recipe.batch, dtype=torch.float64)
        logs = dcgan.step(state, recipe, batch)

        opt_D.zero_grad()
        said_real = D(batch.image)
        fake = G(z)
        said_fake = D(fake.detach())
        loss_real = F.binary_cross_entropy_with_logits(said_real, torch.ones_like(said_real))
        loss_fake = F.binary_cross_entropy_with_logits(said_fake, torch.zeros_like(said_fake))
        (loss_real + loss_fake).backward()
        opt_D.step()
        opt_G.zero_grad()
        said_again = D(fake)
        loss_G = F.binary_cross_entropy_with_logits(said_again, torch.ones_like(said_again))
        loss_G.backward()
        opt_G.step()

        expected = {
            "loss/G": loss_G,
            "loss/D": loss_real + loss_fake,
            "loss/D_real": loss_real,
            "loss/D_fake": loss_fake,
            "logit/real": said_real.mean(),
            "logit/fake": said_fake.mean(),
            "prob/real": said_real.sigmoid().mean(),
            "prob/fake_before": said_fake.sigmoid().mean(),
            "prob/fake_after": said_again.sigmoid().mean(),
        }
        assert set(logs) == set(expected)
        for name, value in logs.items():
            torch.testing.assert_close(value.double(), expected[name].detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


def test_noise_is_new_each_step_and_of_its_kind():
    state = dcgan.build(tiny(), "cpu")
    first = recipe_module.latent(Recipe(), state.rng, 200)
    dcgan.step(state, tiny(), pictures(tiny()))
    second = recipe_module.latent(Recipe(), state.rng, 200)
    assert not torch.equal(first, second)
    assert first.mean().abs() < 0.03
    assert abs(first.std() - 1) < 0.03
    even = recipe_module.latent(Recipe(z="uniform"), state.rng, 200)
    assert even.min() >= -1
    assert even.max() <= 1
    assert abs(even.std() - 3**-0.5) < 0.01


def test_a_step_moves_all_nets_and_keeps_every_address():
    recipe = tiny(ema_half_life_images=4.0)
    state = dcgan.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    logs = dcgan.step(state, recipe, pictures(recipe))
    for name, tensor in state.tensors().items():
        assert tensor.data_ptr() == before[name][0], name
        assert not torch.equal(tensor, before[name][1]), name
    assert state.rng.tolist() == [0, 1]
    assert all(value.dim() == 0 and not value.requires_grad for value in logs.values())


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("arch", ["conv", "do"])
def test_a_step_in_16_bits_is_near(arch):
    rows = {}
    for amp in (False, True):
        recipe = tiny(amp=amp, arch=arch)
        state = dcgan.build(recipe, "cpu")
        rows[amp] = [dcgan.step(state, recipe, pictures(recipe, seed=i)) for i in range(2)]
        assert any(leaf.dtype == torch.bfloat16 for leaf in state.opt_G.leaves()) == amp
    for full, low in zip(rows[False], rows[True], strict=True):
        assert all(value.dtype == torch.float32 for value in low.values())
        for name, value in low.items():
            torch.testing.assert_close(value, full[name], rtol=0.05, atol=0.05, msg=name)


# Use


def test_generated_pictures_follow_the_seed_and_nothing_else():
    recipe = tiny()
    state = dcgan.build(recipe, "cpu")
    dcgan.step(state, recipe, pictures(recipe))
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    images = dcgan.generate(state.G, recipe, 5)
    assert images.shape == (5, 3, 16, 16)
    assert images.abs().max() <= 1
    assert not images.requires_grad
    assert torch.equal(images, dcgan.generate(state.G, recipe, 5))
    other = dcgan.generate(state.G, recipe, 5, torch.tensor([9, 9]))
    assert not torch.equal(images, other)
    z = recipe_module.latent(recipe, torch.tensor([recipe.seed, 0]), 5)
    with torch.no_grad():
        alone = state.G(z[:1], Mode(statistics="running"))
    torch.testing.assert_close(alone, images[:1], rtol=0, atol=1e-5)
    together = dcgan.generate(state.G, tiny(test_bn="batch"), 5)
    assert not torch.allclose(together, images, atol=1e-3)
    columns = dcgan.sample(state.G, recipe, pictures(recipe))
    assert {name: image.shape for name, image in columns.items()} == {"samples": (4, 3, 16, 16)}
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())


def test_the_yardstick_tells_sets_apart():
    draws = torch.Generator().manual_seed(0)
    dark, again = (torch.rand(32, 3, 16, 16, generator=draws) * 2 - 1 for _ in range(2))
    here = recipe_module.sliced_w(dark, dark.flip(0))
    assert here == 0  # a set has no order
    near, far = recipe_module.sliced_w(dark, again), recipe_module.sliced_w(dark, again + 0.5)
    assert near < 0.25 * far
    alike = recipe_module.sliced_w(dark, again[:1].expand(32, -1, -1, -1))
    assert alike > 1.5 * near  # 32 times the same picture, for all that it is a good one
    # A shift of every picture by the same blocks moves every shadow by its own length: the mean of |direction . shift|.
    shift = torch.zeros(1, 3, 16, 16)
    shift[0, 0, :2, :2] = 0.2  # one block by 25.5 grey levels
    moved = recipe_module.sliced_w(dark, dark + shift)
    directions = recipe_module.normal(torch.zeros(2, dtype=torch.int64), recipe_module._DIRECTION_STREAM, (192, 128))
    expected = 25.5 * (directions / directions.norm(dim=0))[0].abs().mean()
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


def test_measures_of_a_batch():
    recipe = tiny()
    state, batch = dcgan.build(recipe, "cpu"), pictures(recipe)
    row = dcgan.measure(state.nets, recipe, batch)
    assert list(row) == ["sliced_w", "prob/real", "prob/fake"]
    assert torch.equal(row["sliced_w"], recipe_module.sliced_w(batch.image, dcgan.generate(state.G, recipe, 4)))
    assert all(value.dim() == 0 and not value.requires_grad for value in row.values())


# Recipes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    recipe = dcgan.resolve(Recipe(**PRESETS[preset]), Facts(channels=(1,)))
    assert recipe.channels == 1
    assert dcgan.resolve(recipe, Facts(channels=(1,))) == recipe
    assert dcgan.example(recipe).image.shape == (recipe.batch, 1, recipe.crop_size, recipe.crop_size)


def test_the_paper_is_the_example():
    recipe = dcgan.resolve(Recipe(**PRESETS["paper"]))
    expected = {
        **{"batch": 64, "epochs": 25, "decay_epochs": 0, "schedule": "const", "lr": 2e-4, "beta1": 0.5},
        **{"beta2": 0.999, "weight_decay": 0.0, "z_dim": 100, "z": "normal", "ngf": 64, "ndf": 64, "arch": "conv"},
        **{"load_size": 64, "crop_size": 64, "pre_crop": "square", "flip": False, "init_gain": 0.02},
    }
    assert {name: getattr(recipe, name) for name in expected} == expected
    faces = dcgan.resolve(Recipe(**FACES))
    assert (faces.ngf, faces.ndf, faces.weight_decay, faces.z, faces.batch) == (128, 128, 1e-5, "uniform", 128)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 48}, "--crop-size must be a power of two such as 32 or 64, got 48"),
        ({"crop_size": 8}, "--crop-size must be at least 16"),
        ({"crop_size": 128}, "--load-size must be at least --crop-size 128, got 64"),
        ({"z_dim": 0}, "--z-dim must be at least 1"),
        ({"z": "pink"}, "--z must be one of normal, uniform"),
        ({"arch": "tf"}, "--arch must be one of conv, do"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_channels_that_the_data_does_not_have():
    with pytest.raises(UserError, match="--channels is 4, but the data has 1"):
        dcgan.resolve(Recipe(channels=4), Facts(channels=(1,)))


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = dcgan.build(tiny(), "cpu").tensors()
    torch.manual_seed(2)
    again, other = dcgan.build(tiny(), "cpu").tensors(), dcgan.build(tiny(seed=1), "cpu").tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.G.head.weight"], other["net.G.head.weight"])
    wide = dcgan.build(Recipe(load_size=32, crop_size=32), "cpu")
    assert abs(wide.G.ups[0].conv.weight.std() - 0.02) < 1e-3
    assert abs(wide.G.ups[0].norm_act.weight.mean() - 1) < 0.01
    assert 0.01 < wide.G.ups[0].norm_act.weight.std() < 0.03


# On a GPU

"""BiGAN and ALI: counts of their networks, both steps against the equations in stock PyTorch, how G and E are used."""

import dataclasses
import functools
import math

import pytest
import stock
import torch
import torch.nn.functional as F
from PIL import Image
from stock import bce, beside, counts, noise, patch_d, pooled, residual_g
from torch import nn

from pygan import outputs, pool
from pygan.__main__ import main
from pygan.data import Batch, Facts, Pictures
from pygan.errors import UserError
from pygan.gans import bigan
from pygan.gans.bigan import PRESETS, Recipe, model
from pygan.gans.bigan import recipe as recipe_module
from pygan.nn import Mode, NormAct
from pygan.ops.philox import keep_mask, normal, words

ALI = {**PRESETS["ali"], "epochs": 1, "batch": 3}
ON_A_GPU = {"pool": {"pool_size": 3}, "ali": ALI, "ali in bf16": {**ALI, "amp": True}}
STATISTICS = ("weight", "bias", "running_mean", "running_var")
doubled = functools.partial(stock.doubled, bigan)
batch_of = functools.partial(noise, bigan)


def tiny(channels=(3, 3), **fields):
    return bigan.resolve(Recipe(**{**PRESETS["tiny"], **fields}), Facts(channels=channels))


def ali(channels=(3,), **fields):
    return bigan.resolve(Recipe(**{**ALI, **fields}), Facts(channels=channels))


# The networks


def ali_counts():
    """Parameters of (encoder, decoder, D) from the table of layers: k^2 x in x out, two for each norm, biases."""
    encoder = [(5, 3, 32), (4, 32, 64), (4, 64, 128), (4, 128, 256), (4, 256, 512), (1, 512, 512)]
    decoder = [(4, 64, 256), (4, 256, 128), (4, 128, 64), (4, 64, 32), (5, 32, 32), (1, 32, 32)]
    normed = [sum(k * k * c * d + 2 * d for k, c, d in table) for table in (encoder, decoder)]
    see_x = [(5, 3, 32), (4, 16, 64), (4, 32, 128), (4, 64, 256), (4, 128, 512)]
    rest = [(1, 64, 512), (1, 256, 512), (1, 512, 1024), (1, 512, 1024), (1, 512, 1)]
    judged = sum(k * k * c * d for k, c, d in see_x + rest) + 32 + 1024 + 1024 + 1
    return normed[0] + 512 * 128 + 128, normed[1] + 32 * 3 + 3 * 32 * 32, judged


def test_parameter_counts():
    encoder, decoder, judge = ali_counts()
    assert counts(lambda: model.Encoder(3, 64))[0] == encoder
    assert counts(lambda: model.Decoder(3, 64))[0] == decoder
    assert counts(lambda: model.AliD(3, 64))[0] == judge
    assert counts(lambda: recipe_module.generator(ali()))[0] == encoder + decoder
    assert counts(lambda: recipe_module.generator(Recipe())) == (2 * 7_837_699, 0)
    assert counts(lambda: recipe_module.generator(Recipe(load_size=286, crop_size=256)))[0] == 2 * 11_378_179
    # a PatchGAN of 3 channels has 2,764,737: 3 more channels are 64 kernels of 4x4 each
    assert counts(lambda: recipe_module.discriminator(Recipe())) == (2_764_737 + 3 * 16 * 64, 0)


def test_the_sizes_of_ali():
    with torch.device("meta"):
        G, D = model.AliGenerators(1, 64), model.AliD(1, 64)
        image, z = torch.empty(2, 1, 32, 32), torch.empty(2, 64)
        sizes = []
        for block in (*G.encoder.blocks, *G.decoder.blocks):
            block.register_forward_hook(lambda block, inputs, output: sizes.append(output.shape[-1]))
        assert [part.shape for part in G.encoder(image)] == [(2, 64), (2, 64)]
        assert G.decoder(z).shape == (2, 1, 32, 32)
        assert sizes == [28, 13, 10, 4, 1, 1, 4, 10, 13, 28, 32, 32]
        assert D(image, z).shape == (2, 1, 1, 1)
    norms = [module for module in G.modules() if isinstance(module, NormAct)]
    assert {(norm.momentum, norm.slope) for norm in norms} == {(0.05, 0.1)}
    drops = [module.dropout_p for module in D.modules() if isinstance(module, NormAct)]
    assert drops == [0.2, 0.5, 0.5, 0.5, 0.5, 0.2, 0.5, 0.5, 0.5, 0.5]
    streams = [module.rng_stream for module in D.modules() if isinstance(module, NormAct)]
    assert len(set(streams)) == len(streams)


# The steps, against stock PyTorch


def squares(logits, target):
    return ((logits - target) ** 2).mean()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"gan_mode": "vanilla", "pool_size": 0},
        {"gan_mode": "softplus"},
        {"d_loss_scale": 1.0, "weight_decay": 1e-4},
    ],
    ids=["lsgan", "vanilla, no pool", "softplus", "not halved"],
)
def test_three_steps_between_domains_equal_the_equations_in_stock_pytorch(fields):
    """Three Adams, one each for D, G and E, in that order."""
    recipe = tiny(channels=(1, 3), **{"pool_size": 2, "ngf": 2, "ndf": 4, "lr": 1e-3, "crop_size": 24, **fields})
    state = doubled(recipe)
    G, E, D = residual_g(1, 3, 2, 6).double(), residual_g(3, 1, 2, 6).double(), patch_d(4, 4, 2).double()
    pairs = [
        *beside(G, state.G.AtoB, STATISTICS),
        *beside(E, state.G.BtoA, STATISTICS),
        *beside(D, state.D, STATISTICS),
    ]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "foreach": False}
    opt_D, opt_G, opt_E = (torch.optim.Adam(net.parameters(), **numbers) for net in (D, G, E))
    loss = squares if recipe.gan_mode == "lsgan" else bce
    half = 1.0 if recipe.gan_mode == "softplus" else recipe.d_loss_scale
    pools = {"G": [], "E": []}

    for i in range(3):
        A, B = batch_of(recipe, seed=i, dtype=torch.float64)
        draws = {x: words(state.rng, recipe_module._POOL_STREAMS[x], 2 * len(A)).tolist() for x in "GE"}
        logs = bigan.step(state, recipe, Batch(A, B))

        of_G, of_E = torch.cat((A, G(A)), dim=1), torch.cat((E(B), B), dim=1)
        seen = {"G": of_G.detach(), "E": of_E.detach()}
        if recipe.pool_size:
            seen = {x: pooled(pools[x], recipe.pool_size, seen[x], draws[x])[0] for x in "GE"}
        loss_D = half * (loss(D(seen["G"]), 1.0) + loss(D(seen["E"]), 0.0))
        opt_D.zero_grad()
        loss_D.backward()
        opt_D.step()

        loss_G = loss(D(of_G), 0.0)
        opt_G.zero_grad()
        loss_G.backward()
        opt_G.step()

        loss_E = loss(D(of_E), 1.0)
        opt_E.zero_grad()
        loss_E.backward()
        opt_E.step()

        expected = {"loss/D": loss_D, "loss/G_B": loss_G, "loss/G_A": loss_E, "loss/G": loss_G + loss_E}
        for name, value in expected.items():
            torch.testing.assert_close(logs[name].double(), value.detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


class PlainAli(nn.Module):
    """ALI of stock layers, on pictures in [0, 1]; dropout by the masks that the state's random numbers give."""

    def __init__(self, channels=3, z_dim=64):
        super().__init__()
        down = ((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512), (1, 1, 512))
        up = ((4, 1, 256), (4, 2, 128), (4, 1, 64), (4, 2, 32), (5, 1, 32), (1, 1, 32))

        def sequence(layer, c, table):
            layers = []
            for kernel, stride, c_next in table:
                layers += [layer(c, c_next, kernel, stride, bias=False), nn.BatchNorm2d(c_next, momentum=0.05)]
                layers += [nn.LeakyReLU(0.1)]
                c = c_next
            return layers

        self.decoder = nn.Sequential(*sequence(nn.ConvTranspose2d, z_dim, up), nn.Conv2d(32, channels, 1, bias=False))
        self.b = nn.Parameter(torch.zeros(channels, 32, 32))
        self.encoder = nn.Sequential(*sequence(nn.Conv2d, channels, down), nn.Conv2d(512, 2 * z_dim, 1))
        see_x, c = [], channels
        for kernel, stride, c_next in down[:5]:
            see_x.append(nn.Conv2d(c, c_next, kernel, stride, bias=not see_x))
            c = c_next // 2
        see_z = [nn.Conv2d(c, 512, 1, bias=False) for c in (z_dim, 256)]
        self.judges = nn.ModuleList(
            [*see_x, *see_z, nn.Conv2d(512, 1024, 1), nn.Conv2d(512, 1024, 1), nn.Conv2d(512, 1, 1)]
        )

    def paint(self, z):
        return torch.sigmoid(self.decoder(z[:, :, None, None]) + self.b)

    def infer(self, x, epsilon):
        mean, log_sigma = self.encoder(x).flatten(1).chunk(2, dim=1)
        return mean + torch.exp(log_sigma) * epsilon

    def judge(self, x, z, drop):
        """drop: (tensor, p, number of the layer) -> tensor."""

        def maxout(i, h, p):
            h = self.judges[i](drop(h, p, i))
            n, c, height, width = h.shape
            return h.view(n, c // 2, 2, height, width).amax(dim=2)

        for i in range(5):
            x = maxout(i, x, 0.5 if i else 0.2)
        h = torch.cat((x, maxout(6, maxout(5, z[:, :, None, None], 0.2), 0.5)), dim=1)
        return self.judges[9](drop(maxout(8, maxout(7, h, 0.5), 0.5), 0.5, 9))


@pytest.mark.parametrize("fields", [{}, {"dropout_in": 0.0, "dropout_p": 0.0, "gan_mode": "vanilla"}], ids=str)
def test_three_steps_of_ali_equal_the_equations_in_stock_pytorch(fields):
    recipe = ali(lr=1e-3, init_gain=0.1, **fields)
    state = doubled(recipe)
    plain = PlainAli().double()
    pairs = [*beside(plain.decoder, state.G.decoder, STATISTICS), *beside(plain.encoder, state.G.encoder, STATISTICS)]
    pairs += [*beside(plain.judges, state.D, STATISTICS), (plain.b, state.G.decoder.pixel_bias)]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    judges = list(plain.judges.parameters())
    painters = [param for name, param in plain.named_parameters() if not name.startswith("judges")]
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "foreach": False}
    opt_G, opt_D = torch.optim.Adam(painters, **numbers), torch.optim.Adam(judges, **numbers)
    streams = [1, 2, 3, 4, 5, 16, 17, 32, 33, 34]
    half = 0.5 if recipe.gan_mode == "vanilla" else 1.0

    for i in range(3):
        (x,) = batch_of(recipe, seed=i, dtype=torch.float64)
        rng = state.rng.clone()
        logs = bigan.step(state, recipe, Pictures(x))

        def drop(h, p, i, rng=rng):
            if not recipe.dropout_p:
                return h
            return h * keep_mask(h.shape, p, rng, streams[i]) / (1 - p)

        z, epsilon = (normal(rng, s, (3, 64), dtype=x.dtype) for s in (recipe_module._Z, recipe_module._EPSILON))
        real = (x + 1) / 2
        said = plain.judge(torch.cat((real, plain.paint(z))), torch.cat((plain.infer(real, epsilon), z)), drop)
        on_data, on_sample = said[:3], said[3:]
        loss_D = half * (F.softplus(-on_data).mean() + F.softplus(on_sample).mean())
        loss_G_z, loss_G_x = F.softplus(on_data).mean(), F.softplus(-on_sample).mean()
        gradients = torch.autograd.grad(
            loss_D, judges, retain_graph=True
        )  # all from the same weights, as in the source
        gradients_G = torch.autograd.grad(loss_G_z + loss_G_x, painters)
        for param, gradient in zip([*judges, *painters], [*gradients, *gradients_G], strict=True):
            param.grad = gradient
        opt_D.step()
        opt_G.step()

        expected = {"loss/D": loss_D, "loss/G_z": loss_G_z, "loss/G_x": loss_G_x, "loss/G": loss_G_z + loss_G_x}
        expected |= {"logit/real": on_data.mean(), "logit/fake": on_sample.mean()}
        for name, value in expected.items():
            torch.testing.assert_close(logs[name].double(), value.detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


RECIPES = {"cyclegan": tiny, "ali": ali}


@pytest.mark.parametrize("form", RECIPES)
def test_a_step_moves_both_nets_and_the_random_numbers_and_keeps_every_address(form):
    recipe = RECIPES[form](ema_half_life_images=4.0)
    state = bigan.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    logs = bigan.step(state, recipe, batch_of(recipe))
    assert all(value.dim() == 0 and not value.requires_grad and value.isfinite() for value in logs.values())
    assert {"loss/G", "loss/D", "logit/real", "logit/fake"} <= set(logs)
    for name, tensor in state.tensors().items():
        assert tensor.data_ptr() == before[name][0], name
        if ".conv.bias" not in name:  # most of these have a norm behind them that takes them away again
            assert not torch.equal(tensor, before[name][1]), name
    assert state.rng.tolist() == [0, 1]


def test_what_a_discriminator_that_says_nothing_costs():
    """D 0.5 and G 0 + 1 with lsgan; softplus: ln 4 for D, and for G and E together."""
    recipe = tiny(lr=0.0)
    state = bigan.build(recipe, "cpu")
    nn.init.zeros_(state.D.head.weight)
    logs = bigan.step(state, recipe, batch_of(recipe))
    assert [float(logs[f"loss/{x}"]) for x in ("D", "G_B", "G_A")] == pytest.approx([0.5, 0.0, 1.0], abs=1e-6)
    recipe = ali(lr=0.0)
    state = bigan.build(recipe, "cpu")
    nn.init.zeros_(state.D.head.weight)
    logs = bigan.step(state, recipe, batch_of(recipe))
    assert [float(logs[f"loss/{x}"]) for x in ("D", "G")] == pytest.approx([math.log(4)] * 2, abs=1e-5)


# Use


def test_translation_both_ways():
    for fields in ({}, {"norm": "batch"}, {"norm": "batch", "test_bn": "running"}):
        recipe = tiny(channels=(1, 3), ngf=4, ndf=4, **fields)
        state, (A, B) = bigan.build(recipe, "cpu"), batch_of(recipe, n=3)
        bigan.step(state, recipe, batch_of(recipe))
        before = {name: tensor.clone() for name, tensor in state.tensors().items()}
        there, back = bigan.translate(state.G, recipe, A), bigan.translate(state.G, recipe, B, direction="BtoA")
        assert (there.shape, back.shape) == (B.shape, A.shape)
        assert there.abs().max() <= 1
        alone = bigan.translate(state.G, recipe, A[1:2], torch.tensor([9, 9]))
        torch.testing.assert_close(alone, there[1:2], rtol=0, atol=1e-5)
        columns = bigan.sample(state.G, recipe, Batch(A, B))
        assert list(columns) == ["A", "A to B", "B", "B to A"]
        for column, expected in zip(columns.values(), (A, there, B, back), strict=True):
            assert torch.equal(column, expected)
        assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
        cycled = bigan.translate(state.G, recipe, there, direction="BtoA")
        measured = bigan.measure(state.nets, recipe, Batch(A, B))
        assert list(measured) == ["cycle_l1", "cycle_A", "cycle_B"]
        assert float(measured["cycle_A"]) == pytest.approx(127.5 * float((cycled - A).abs().mean()), rel=1e-5)
        assert float(measured["cycle_l1"]) == pytest.approx(float(measured["cycle_A"] + measured["cycle_B"]) / 2)
    with pytest.raises(ValueError, match='direction must be "AtoB" or "BtoA"'):
        bigan.translate(state.G, recipe, A, direction="both")
    with pytest.raises(UserError, match="a bigan of --form cyclegan has no noise"):
        recipe_module.generate(state.G, recipe, 2)
    with pytest.raises(UserError, match="a bigan of --form cyclegan has no noise"):
        bigan.latent(recipe, torch.tensor([0, 0]), 2)


def test_ali_generates_and_reconstructs():
    recipe = ali(channels=(1,))
    state, (x,) = bigan.build(recipe, "cpu"), batch_of(recipe)
    bigan.step(state, recipe, Pictures(x))
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    running = Mode(statistics="running")
    z = normal(torch.tensor([recipe.seed, 0]), recipe_module._Z_IN_USE, (3, 64))
    with torch.no_grad():
        new, again = state.G.decoder(z, running), state.G.decoder(state.G.encoder(x, running)[0], running)
    columns = bigan.sample(state.G, recipe, Pictures(x))
    assert list(columns) == ["input", "reconstruction", "sample"]
    for column, expected in zip(columns.values(), (x, again, new), strict=True):
        assert torch.equal(column, expected)
    assert torch.equal(bigan.translate(state.G, recipe, x), again)
    assert not torch.equal(recipe_module.generate(state.G, recipe, 3, torch.tensor([9, 9])), new)
    assert recipe_module.generate(state.G, recipe, 5).shape == (5, 1, 32, 32)
    assert torch.equal(bigan.latent(recipe, torch.tensor([recipe.seed, 0]), 3), z)
    assert torch.equal(bigan.generate(state.G, recipe, 3, z=z), new)
    judged = outputs.of(bigan, recipe, state.G, Pictures(x))
    assert torch.equal(judged.fake, new)
    assert judged.real is x
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    measured = bigan.measure(state.nets, recipe, Pictures(x))
    assert float(measured["reconstruction_l1"]) == pytest.approx(127.5 * float((again - x).abs().mean()), rel=1e-5)
    for call, message in (
        (lambda: bigan.reconstruct(state.G, recipe, torch.zeros(1, 1, 32, 64)), "32x32 pixels alone, got 32x64"),
        (lambda: bigan.translate(state.G, recipe, x, direction="BtoA"), "--direction BtoA: with --form ali"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_ali_translates_larger_pictures_tile_by_tile():
    recipe = ali(channels=(1,), init_gain=0.3)  # what tiny weights paint is grey
    state = bigan.build(recipe, "cpu")
    x = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = bigan.translate(state.G, recipe, x)
    assert whole.shape == x.shape
    for i, top, left in ((0, 0, 0), (0, 32, 64), (1, 0, 32), (1, 32, 0)):
        tile = bigan.reconstruct(state.G, recipe, x[i : i + 1, :, top : top + 32, left : left + 32])
        torch.testing.assert_close(whole[i : i + 1, :, top : top + 32, left : left + 32], tile, rtol=0, atol=1e-5)
    assert not torch.allclose(whole[0, :, :32, :32], whole[0, :, 32:, 64:], atol=1e-4)


def test_pictures_go_through_ali_on_the_command_line(tmp_path):
    form = ["--form", "ali", "--load-size", "32", "--max-steps", "1"]
    common = ["--preset", "tiny", "--device", "cpu", "--no-tensorboard"]
    assert main(["train", "bigan", "--run", str(tmp_path / "run"), *common, *form]) == 0
    Image.new("RGB", (50, 40), "red").save(tmp_path / "a.png")
    translate = ["translate", str(tmp_path / "run"), str(tmp_path / "a.png"), "--device", "cpu"]
    assert main([*translate, "-o", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert image.size == (50, 40)


def test_an_example_has_the_shapes_of_a_batch():
    for recipe, kind in ((tiny(channels=(1, 3)), Batch), (ali(channels=(1,)), Pictures)):
        batch = bigan.example(recipe)
        assert type(batch) is kind
        assert batch[0].shape == (recipe.batch, 1, 32, 32)
        logs = bigan.step(bigan.build(recipe, "meta"), recipe, batch)
        assert logs["loss/D"].device.type == "meta"


# Recipes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    facts = Facts(channels=(1,) if preset == "ali" else (1, 3))
    recipe = bigan.resolve(Recipe(**PRESETS[preset]), facts)
    assert bigan.resolve(recipe, facts) == recipe
    if preset == "ali":
        assert recipe.channels == 1
    else:
        assert (recipe.input_channels, recipe.output_channels) == (1, 3)
        assert recipe.generator == "resnet_6"


def test_the_presets_are_what_was_published():
    expected = {"pool_size": 50, "gan_mode": "lsgan", "lr": 2e-4, "beta1": 0.5, "batch": 1, "n_layers_d": 3}
    expected |= {"epochs": 100, "decay_epochs": 100, "schedule": "linear"}
    assert {name: getattr(Recipe(), name) for name in expected} == expected
    expected = {"z_dim": 64, "batch": 100, "epochs": 6475, "decay_epochs": 0, "gan_mode": "softplus", "lr": 1e-4}
    expected |= {"beta1": 0.5, "dropout_in": 0.2, "dropout_p": 0.5, "init": "normal", "init_gain": 0.01}
    assert {name: getattr(Recipe(**PRESETS["ali"]), name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 250, "load_size": 250}, "--crop-size must be a multiple of 4 such as 248 or 252, got 250"),
        ({"crop_size": 4}, "--crop-size must be a multiple of 4 such as 8 or 12, got 4"),
        ({"form": "ali"}, "--crop-size must be 32 with --form ali, got 128; see --preset ali"),
        ({"load_size": 100}, "--load-size must be at least --crop-size 128"),
        ({"n_layers_d": 7}, "--n-layers-d must be at most 6"),
        ({"n_layers_d": 6}, "a crop size of at least 192, or fewer layers"),
        ({"dropout_in": 1.0}, r"--dropout-in must be in \[0, 1\)"),
        ({"gan_mode": "wgangp"}, "--gan-mode must be one of"),
        ({"pool_size": -1}, "--pool-size must be at least 0"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_channels_that_the_data_does_not_have():
    with pytest.raises(UserError, match="--input-channels is 4, but the data has 3"):
        bigan.resolve(Recipe(input_channels=4), Facts())
    with pytest.raises(UserError, match="--channels is 1, but the data has 3"):
        bigan.resolve(Recipe(**{**ALI, "channels": 1}), Facts(channels=(3,)))


@pytest.mark.parametrize("form", RECIPES)
def test_build_depends_on_the_seed_alone(form):
    torch.manual_seed(1)
    recipe = RECIPES[form]()
    first = bigan.build(recipe, "cpu").tensors()
    torch.manual_seed(2)
    again = bigan.build(recipe, "cpu").tensors()
    other = bigan.build(dataclasses.replace(recipe, seed=1), "cpu").tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    weight = next(name for name in first if name.startswith("net.G.") and name.endswith("conv.weight"))
    assert not torch.equal(first[weight], other[weight])
    if form == "ali":
        assert float(first["net.G.encoder.blocks.4.conv.weight"].std()) == pytest.approx(0.01, rel=0.01)
        assert not first["net.G.decoder.pixel_bias"].any()


def test_pools_hold_whole_pairs():
    recipe = tiny(channels=(1, 3))
    state = bigan.build(recipe, "cpu")
    A, B = batch_of(recipe)
    with torch.no_grad():
        fake_B, fake_A = state.G.AtoB(A), state.G.BtoA(B)
    bigan.step(state, recipe, Batch(A, B))
    torch.testing.assert_close(state.pool_G_images[:2], torch.cat((A, fake_B), dim=1))
    torch.testing.assert_close(state.pool_E_images[:2], torch.cat((fake_A, B), dim=1))
    assert int(state.pool_G_count) == int(state.pool_E_count) == 2
    assert pool.empty(4, (4, 32, 32), device="cpu")["images"].shape == state.pool_G_images.shape


# On a GPU

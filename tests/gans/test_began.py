"""BEGAN: counts and fingerprint of its networks, the step against the equations in stock PyTorch, how G is used."""

import functools
import math
from types import SimpleNamespace

import fingerprint
import numpy as np
import pytest
import stock
import torch
import torch.nn.functional as F
from plain_autoencoder import PlainD, PlainDecoder, beside, even
from stock import noise
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pygan import checkpoint, ops
from pygan import recipe as recipes
from pygan.data import Facts
from pygan.errors import UserError
from pygan.gans import began
from pygan.gans.began import PRESETS, Recipe
from pygan.gans.began import recipe as recipe_module
from pygan.nets.autoencoder import Autoencoder, Decoder, Shape, fade_
from pygan.nn import Linear, UpsampleConv
from pygan.state import State

TINY = PRESETS["tiny"]
SEED = {"size": 32, "n": 32, "z_dim": 32, "down": "pool"}
KERAS = {"n": 64, "z_dim": 128, "down": "second", "dense_elu": True, "tanh": True}
ON_A_GPU = {
    "G then D": {"order": "g_then_d", "down": "pool"},
    "separate z": {"separate_z": True, "down": "second"},
    "skips": {"skips": True, "residuals": True},
    "m_stall": {"lr_decay": "m_stall", "stall_window": 1, "lr": 1e-2, "lr_floor": 1e-4},
    "64 wide in bf16": {"amp": True, "n": 64, "load_size": 64, "crop_size": 64},
}
doubled = functools.partial(stock.doubled, began)
pictures = functools.partial(noise, began)


def tiny(**fields):
    return began.resolve(Recipe(**{**TINY, **fields}))


# The networks


def both(**shape):
    """(G, D) that are not even allocated."""
    with torch.device("meta"):
        return Decoder(Shape(**shape)), Autoencoder(Shape(**shape))


def inputs(**shape):
    made = Shape(**shape)
    return torch.empty(1, made.z_dim, device="meta"), torch.empty(1, 3, made.size, made.size, device="meta")


SIZES = [  # shape, parameters of G and D, multiplications per picture
    ({}, (1_716_611, 13_405_379), (1_619_001_344, 4_966_580_224)),
    ({"n": 64}, (563_395, 4_011_651), (408_420_352, 1_249_378_304)),
    ({"size": 128}, (2_011_779, 23_221_443), (6_493_306_880, 20_453_523_456)),
    ({"size": 32}, (1_421_443, 7_128_643), (400_424_960, 1_151_074_304)),
    (SEED, (123_939, 588_259), (25_722_880, 78_839_808)),
]


def enlarged(x, weight, bias):
    """What a merged kernel does, as the papers' codes do it: an enlarged map, then 3x3."""
    return F.conv2d(ops.upsample_concat(x, None), weight, bias, padding=1)


@pytest.mark.parametrize(("shape", "parameters", "multiplications"), SIZES, ids=lambda value: str(value)[:12])
def test_sizes(shape, parameters, multiplications, monkeypatch):
    monkeypatch.setattr(ops, "upsample_conv3x3", enlarged)
    for net, x, count, expected in zip(both(**shape), inputs(**shape), parameters, multiplications, strict=True):
        assert sum(p.numel() for p in net.parameters()) == count
        assert not list(net.buffers())
        with FlopCounterMode(display=False) as counter:
            net(x)
        assert counter.get_total_flops() == 2 * expected


def test_a_merged_kernel_saves_5_of_9_multiplications_behind_each_upsampling():
    n, saved = 128, 0
    for size in (8, 16, 32):
        saved += (36 - 16) * size * size * n * n
    with FlopCounterMode(display=False) as counter:
        both()[0](inputs()[0])
    assert counter.get_total_flops() == 2 * (1_619_001_344 - saved)


def test_presets_are_these_networks():
    counts = {}
    for name in ("paper", "celeba", "cifar10", "seed", "keras"):
        with torch.device("meta"):
            nets = (net(Recipe(**PRESETS[name])) for net in (began.generator, recipe_module.discriminator))
            counts[name] = tuple(sum(p.numel() for p in net.parameters()) for net in nets)
    assert counts["paper"] == counts["celeba"] == (1_716_611, 13_405_379)
    assert counts["cifar10"] == (1_421_443, 7_128_643)
    assert counts["seed"] == (123_939, 588_259)
    assert counts["keras"] == tuple(sum(p.numel() for p in net.parameters()) for net in both(**KERAS))


def test_fingerprint():
    image = fingerprint.filled((2, 3, 64, 64))
    _, D = both()
    fingerprint.fill_(D, lambda net: net(image.to("meta", torch.float32)))
    with torch.no_grad():  # one by one: half the memory
        output = torch.cat([D(one) for one in image.split(1)])
    expected = (-0.368623657, 2.248102467, -0.188032869, 0.258002429)
    np.testing.assert_allclose(fingerprint.signature(output), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", [8, 24, 48, 100])
def test_sizes_that_are_no_doubling(size):
    with pytest.raises(ValueError, match=f"size must be 16, 32, 64 or another doubling, got {size}"):
        Shape(size=size)


def test_ways_down_that_there_are_not():
    with pytest.raises(ValueError, match="down must be one of conv, second, pool"):
        Shape(down="max")


# Networks and step, against stock PyTorch


PLAIN = [
    {"weight_decay": 1e-3},
    {"down": "pool", "unit_range": True, "order": "g_then_d", "init": "normal", "crop_size": 32, "load_size": 32},
    {"down": "second", "dense_elu": True, "tanh": True, "k_clip": False, "separate_z": True, "gamma": 0.05},
    {"skips": True, "residuals": True, "crop_size": 32, "load_size": 32},
    {"separate_z": True, "order": "g_then_d", "pad": "symmetric"},
    {"lr_decay": "m_stall", "stall_window": 1, "lr": 0.02, "lr_floor": 0.008, "lambda_k": 5.0},
]


@pytest.mark.parametrize("fields", PLAIN, ids=lambda fields: ", ".join(map(str, fields)))
def test_three_steps_equal_the_equations_in_stock_pytorch(fields):
    recipe = tiny(**{"n": 3, "lr": 1e-3, "lambda_k": 0.2, **fields})
    state = doubled(recipe)
    G, D = PlainDecoder(recipe).double(), PlainD(recipe).double()
    pairs = [tensors for plain, net in ((G, state.G), (D, state.D)) for tensors in beside(plain, net)]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    numbers = {"lr": recipe.lr, "betas": (0.9, 0.999), "weight_decay": recipe.weight_decay, "foreach": False}
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), **numbers) for net in (G, D))
    k, ks, lowest, lr, rates = 0.0, [], math.inf, recipe.lr, []

    for i in range(3):
        (x,) = batch = pictures(recipe, seed=i, dtype=torch.float64)
        if recipe.unit_range:
            x = (x + 1) / 2
        z_G = even(state.rng, recipe_module._Z_STREAM, recipe)
        z_D = even(state.rng, recipe_module._Z_OF_D_STREAM, recipe) if recipe.separate_z else z_G
        logs = began.step(state, recipe, batch)

        carry = max(0.0, 1 - i / recipe.carry_steps) if recipe.residuals else 0.0
        for opt in (opt_G, opt_D):
            opt.zero_grad()
            opt.param_groups[0]["lr"] = lr
        rates.append(lr)
        fake = G(z_G, carry)
        loss_G = (fake - D(fake, carry)).abs().mean()
        gradients = torch.autograd.grad(loss_G, list(G.parameters()))

        def learn_G(gradients=gradients):
            for param, gradient in zip(G.parameters(), gradients, strict=True):
                param.grad = gradient
            opt_G.step()

        if recipe.order == "g_then_d":
            learn_G()
        v = G(z_D, carry).detach()
        energy_real = (x - D(x, carry)).abs().mean()
        loss_D = energy_real - k * (v - D(v, carry)).abs().mean()
        opt_D.zero_grad()
        loss_D.backward()
        opt_D.step()
        if recipe.order == "simultaneous":
            learn_G()
        balance = recipe.gamma * energy_real.item() - loss_G.item()
        k += recipe.lambda_k * balance
        if recipe.k_clip:
            k = min(1.0, max(0.0, k))
        ks.append(k)
        expected = {"loss/G": loss_G, "energy/fake": loss_G, "loss/D": loss_D, "energy/real": energy_real}
        expected = {name: loss.item() for name, loss in expected.items()}
        expected |= {"k": k, "M": energy_real.item() + abs(balance)}
        if recipe.lr_decay == "m_stall":
            if expected["M"] >= lowest:
                lr = max(lr / 2, recipe.lr_floor)
            lowest = min(lowest, expected["M"])
            expected["lr_factor"] = lr / recipe.lr
        assert set(logs) == set(expected)
        for name, value in expected.items():
            assert float(logs[name]) == pytest.approx(value, rel=1e-9, abs=1e-9), name
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)
    if not recipe.k_clip:
        assert min(ks) < 0
    else:
        assert max(ks[:-1]) > 0
    if recipe.lr_decay == "m_stall":
        assert rates[0] > rates[-1], rates


@pytest.mark.parametrize("fields", [{}, {"k_clip": False, "gamma": 0.05}], ids=["k > 0", "k < 0"])
def test_one_pass_is_what_a_pass_for_each_loss_is(fields, monkeypatch):
    recipe = tiny(**{"lambda_k": 0.2, "lr": 1e-3, **fields})
    ends = []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(recipe_module, "_learn_in_one_pass", recipe_module._learn_apart)
        state = doubled(recipe)
        logs = [began.step(state, recipe, pictures(recipe, seed=i, dtype=torch.float64)) for i in range(3)]
        ends.append((logs, state.tensors()))
    (a, together), (b, separate) = ends
    for one, other in zip(a, b, strict=True):
        assert {k: float(v) for k, v in one.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-9)
    for name, tensor in together.items():
        torch.testing.assert_close(tensor, separate[name], rtol=0, atol=1e-9, msg=name)


def step_flops(monkeypatch, *, merged=False, **fields):
    """Billions of multiplications of one step, per picture. merged: as it is computed, else as the papers' codes do."""
    recipe = began.resolve(Recipe(**{"batch": 1, **fields}))

    def update(state, name, loss, also=()):
        loss.backward(inputs=[*state.nets[name].parameters(), *also])

    monkeypatch.setattr(recipe_module, "update", update)
    monkeypatch.setattr(recipe_module, "end_step_", lambda state, recipe: None)
    if not merged:
        monkeypatch.setattr(ops, "upsample_conv3x3", enlarged)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        G, D = began.generator(recipe), recipe_module.discriminator(recipe)
        buffers = {"rng": torch.empty(2, dtype=torch.int64), "k": torch.zeros(()), "M": torch.zeros(())}
        state = State(nets={"G": G, "D": D}, opts={}, buffers=buffers)
        began.step(state, recipe, began.example(recipe))
    return counter.get_total_flops() / 2e9


def test_merged_kernels_save_in_every_pass_of_a_step(monkeypatch):
    # Behind each upsampling to 16, 32 and 64 pixels, 16 of 36 multiplications are left, forward, to the inputs and to
    # the weights: of G's decoder once, of D's for two pictures.
    D, stem = 4.966580224, 3 * 128 * 9 * 64 * 64 / 1e9
    saved = 3 * (1 + 2) * (36 - 16) * (8 * 8 + 16 * 16 + 32 * 32) * 128 * 128 / 1e9
    assert step_flops(monkeypatch, merged=True) == pytest.approx(44.561 - 2 * (D - stem) - saved, abs=5e-4)


def test_multiplications_of_one_step(monkeypatch):
    # The published way runs D on x, on G(z) for D and on G(z) for G, forward and backward: 44.561. One pass over both
    # pictures has one forward and one backward pass of D less, and comes to the pictures themselves on both halves.
    G, D, stem = 1.619001344, 4.966580224, 3 * 128 * 9 * 64 * 64 / 1e9
    assert step_flops(monkeypatch, order="g_then_d") == pytest.approx(44.561 + G, abs=5e-4)  # G paints again for D
    assert step_flops(monkeypatch) == pytest.approx(44.561 - 2 * (D - stem), abs=5e-4)


# The balance


def balanced(recipe, real, fake, k=0.0):
    state = SimpleNamespace(k=torch.tensor(k), M=torch.zeros(()))
    recipe_module._balance_(state, recipe, torch.tensor(real), torch.tensor(fake))
    return float(state.k), float(state.M)


def test_the_balance_in_numbers():
    recipe = Recipe()
    assert balanced(recipe, 0.2, 0.05) == (pytest.approx(5e-5), pytest.approx(0.25))
    assert balanced(recipe, 0.2, 0.3) == (0.0, pytest.approx(0.4))
    assert balanced(Recipe(k_clip=False), 0.2, 0.3)[0] == pytest.approx(-2e-4)
    assert balanced(recipe, 0.9, 0.0, k=0.99999)[0] == 1.0
    assert balanced(Recipe(k_clip=False), 0.9, 0.0, k=1.0)[0] == pytest.approx(1.00045)
    assert balanced(Recipe(gamma=0.7, lambda_k=0.01), 0.5, 0.1, k=0.5) == (pytest.approx(0.5025), pytest.approx(0.75))


@pytest.mark.parametrize(
    ("fields", "factors"),
    [
        ({}, {0: 1, 99_999: 1, 100_000: 0.5, 199_999: 0.5, 200_000: 0.25, 300_000: 0.25, 499_999: 0.25}),
        ({"lr": 1e-4}, {199_999: 0.5, 200_000: 0.25, 300_000: 0.2}),
        ({"lr": 1e-5}, {0: 1, 100_000: 1}),
        ({"lr": 0.0}, {0: 1, 100_000: 0.5 + 0.5}),
        ({"lr_decay": "none"}, {400_000: 1}),
        ({"lr_decay": "m_stall"}, {400_000: 1}),
        (PRESETS["keras"], {19_999: 1, 20_000: 0.5, 40_000: 0.25}),
    ],
)
def test_the_learning_rate_is_halved_down_to_its_floor(fields, factors):
    recipe = Recipe(**fields)
    for step, factor in factors.items():
        assert began.lr_factor(recipe, 1, step) == pytest.approx(factor), step


def test_a_stalled_M_halves_the_learning_rate_down_to_its_floor():
    recipe = Recipe(lr_decay="m_stall", stall_window=2, lr=8e-5, lr_floor=3e-5)
    state = began.build(tiny(lr_decay="m_stall"), "cpu")
    seen = []
    for M in (0.9, 0.7, 0.8, 0.6, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.1, 1.3):  # means .8 .7 .75 .6 .6 .7
        state.M.fill_(M)
        recipe_module._halve_lr_if_stalled_(state, recipe)
        seen.append(float(state.lr_factor))
    assert seen == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.375, 0.375, 0.375]
    assert float(state.stall_lowest) == pytest.approx(0.6)


def test_a_resumed_run_has_its_halved_learning_rate(tmp_path):
    recipe = tiny(lr_decay="m_stall", stall_window=1, lr=1e-2, lr_floor=1e-4, lambda_k=5.0, residuals=True)
    feed = [pictures(recipe, seed=i) for i in range(8)]
    whole = began.build(recipe, "cpu")
    for batch in feed[:5]:
        began.step(whole, recipe, batch)
    assert float(whole.lr_factor) < 1
    checkpoint.save(tmp_path, whole, {"gan": "began", "recipe": recipes.to_dict(recipe)}, {})
    resumed = began.build(recipe, "cpu")
    checkpoint.load_newest(tmp_path, resumed)
    for state in (whole, resumed):
        for batch in feed[5:]:
            for opt in state.opts.values():
                opt.set_lr_(recipe.lr * began.lr_factor(recipe, 1, 5))
            began.step(state, recipe, batch)
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, resumed.tensors()[name]), name


def test_the_carry_falls_in_a_straight_line_and_is_saved_with_its_net():
    net = Decoder(Shape(size=16, n=2, z_dim=2, residuals=True))
    seen = []
    for done in (0, 4_000, 16_000, 20_000):
        fade_(net, torch.tensor([5, done]), 16_000)
        seen.append(float(net.carry))
    assert seen == [1.0, 0.75, 0.0, 0.0]
    recipe = tiny(residuals=True, ema_half_life_images=4.0)
    state = began.build(recipe, "cpu")
    assert float(state.G.carry) == float(state.D.carry) == float(state.ema_G.carry) == 1
    began.step(state, recipe, pictures(recipe))
    began.step(state, recipe, pictures(recipe))
    assert float(state.G.carry) == float(state.D.carry) == 0.75
    assert {name for name in state.tensors() if name.endswith("carry")} == {
        "net.G.carry",
        "net.D.carry",
        "net.G_ema.carry",
    }


# What a step does


@pytest.mark.parametrize("fields", [{}, {"order": "g_then_d"}, {"separate_z": True}, {"lr_decay": "m_stall"}])
def test_a_step_moves_all_nets_and_keeps_every_address(fields):
    recipe = tiny(ema_half_life_images=4.0, **fields)
    state = began.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    logs = began.step(state, recipe, pictures(recipe))
    still = {"buffer.lr_factor", "buffer.stall_lowest"}  # before the end of a window
    for name, tensor in state.tensors().items():
        assert tensor.data_ptr() == before[name][0], name
        assert torch.equal(tensor, before[name][1]) == (name in still), name
    assert state.rng.tolist() == [0, 1]
    assert all(value.dim() == 0 and not value.requires_grad for value in logs.values())
    assert all(param.grad is None for net in state.nets.values() for param in net.parameters())


def test_noise_is_even_and_differs_between_steps_nets_and_use():
    recipe = Recipe(z_dim=500, batch=40)
    rng = torch.tensor([3, 0])
    like = torch.empty(40, 1)
    z = [recipe_module._noise(recipe, rng, stream, like) for stream in (1, 2, 3)]
    z.append(recipe_module._noise(recipe, torch.tensor([3, 1]), 1, like))
    for i, one in enumerate(z):
        assert one.shape == (40, 500)
        assert one.min() < -0.999
        assert 0.999 < one.max() <= 1
        assert abs(float(one.mean())) < 0.02
        assert float(one.square().mean()) == pytest.approx(1 / 3, abs=0.01)
        assert not any(torch.equal(one, other) for other in z[:i])


def test_D_sees_G_s_pictures_of_its_own_noise_where_asked():
    counts = {}
    for fields in ({}, {"separate_z": True}, {"order": "g_then_d"}):
        recipe, seen = tiny(**fields), []
        state = began.build(recipe, "cpu")
        state.G.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].clone()))
        began.step(state, recipe, pictures(recipe))
        counts[str(fields)] = [len(seen), len({tuple(z.flatten().tolist()) for z in seen})]
    assert list(counts.values()) == [[1, 1], [2, 2], [2, 1]]


def test_with_a_loss_scale_each_loss_has_a_pass_and_the_same_comes_out():
    recipe, rows, passes = tiny(lambda_k=0.5), [], []
    for scaled in (False, True):
        state, seen = began.build(recipe, "cpu"), []
        if scaled:
            state.buffers |= {"loss_scale": torch.tensor(2.0**16), "loss_scale_growth": torch.tensor(0).int()}
        state.D.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(len(inputs[0])))
        rows.append([{k: float(v) for k, v in began.step(state, recipe, pictures(recipe)).items()} for _ in range(3)])
        passes.append(seen[:2])
    assert passes == [[4, 4], [2, 4]]
    for one, apart in zip(*rows, strict=True):
        assert one == pytest.approx(apart, rel=1e-4, abs=1e-6)


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("fields", [{}, {"skips": True, "residuals": True, "dense_elu": True}], ids=["plain", "all"])
def test_a_step_in_16_bits_is_near_and_its_pictures_are_not_in_16_bits(fields):
    rows, types = {}, []
    for amp in (False, True):
        recipe = tiny(amp=amp, lambda_k=0.5, **fields)
        state = began.build(recipe, "cpu")
        if amp:
            for net in state.nets.values():
                net.register_forward_hook(lambda _, inputs, output: types.extend((inputs[0].dtype, output.dtype)))
            state.D.encoder.stem.register_forward_hook(lambda _, inputs, output: types.append(output.dtype))
        rows[amp] = [
            {k: float(v) for k, v in began.step(state, recipe, pictures(recipe, seed=i)).items()} for i in range(4)
        ]
    assert set(types[:2]) == {torch.float32}
    assert types.count(torch.bfloat16) == 4
    for exact, low in zip(rows[False], rows[True], strict=True):
        assert low == pytest.approx(exact, rel=0.02, abs=0.01)


@pytest.mark.parametrize(
    "fields",
    [
        {"down": "pool", "unit_range": True},
        {"down": "second", "dense_elu": True, "tanh": True},
        {"skips": True, "residuals": True},
        {"lr_decay": "m_stall"},
        {"channels": 1, "crop_size": 32, "load_size": 32},
    ],
    ids=str,
)
def test_every_variant_trains_and_is_used(fields):
    recipe = began.resolve(Recipe(**{**TINY, **fields}), Facts(channels=(fields.get("channels", 3),)))
    state, batch = began.build(recipe, "cpu"), None
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    batch = pictures(recipe)
    for _ in range(2):  # with a carry of 1 the layers that vanish have no gradient yet
        logs = began.step(state, recipe, batch)
    assert all(value.isfinite() for value in logs.values())
    for name, tensor in state.tensors().items():
        if name.startswith("net."):
            assert not torch.equal(tensor, before[name]), name
    images = began.sample(state.G, recipe, batch)
    assert images.keys() == {"samples"}
    assert images["samples"].shape == batch.image.shape
    assert torch.equal(images["samples"], began.generate(state.G, recipe, len(batch.image)))
    assert images["samples"].abs().max() <= 1


def test_pictures_in_0_to_1_inside_are_in_minus_1_to_1_outside():
    recipe = tiny(unit_range=True)
    state = began.build(recipe, "cpu")
    nn.init.zeros_(state.G.head.weight)
    for inside, outside in ((0.25, -0.5), (1.0, 1.0), (3.0, 1.0), (-1.0, -1.0)):
        nn.init.constant_(state.G.head.bias, inside)
        images = began.generate(state.G, recipe, 3)
        torch.testing.assert_close(images, torch.full((3, 3, 16, 16), outside))


def test_samples_follow_the_random_numbers_alone():
    recipe = tiny()
    state = began.build(recipe, "cpu")
    again = began.generate(state.G, recipe, 2)
    assert torch.equal(began.generate(state.G, recipe, 2), again)
    assert torch.equal(began.generate(state.G, recipe, 2, torch.tensor([recipe.seed, 0])), again)
    assert not torch.equal(began.generate(state.G, recipe, 2, torch.tensor([recipe.seed, 1])), again)
    assert not again.requires_grad


@pytest.mark.parametrize("fields", [{}, {"unit_range": True}], ids=["-1..1", "0..1"])
def test_measures_are_the_formulas_and_leave_the_state_alone(fields):
    recipe = tiny(gamma=0.7, **fields)
    state, batch = began.build(recipe, "cpu"), pictures(recipe)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    found = began.measure(state.nets, recipe, batch)
    x, fake = batch.image, began.generate(state.G, recipe, 2)  # so small that nothing is cut off
    if recipe.unit_range:
        x, fake = (x + 1) / 2, recipe_module._paint(state.G, recipe, 2, None)
    with torch.no_grad():
        real, made = ((v - state.D(v)).abs().mean() for v in (x, fake))
    assert next(iter(found)) == "M"
    expected = {"M": real + (0.7 * real - made).abs(), "energy_real": real, "energy_fake": made}
    assert {k: float(v) for k, v in found.items()} == pytest.approx({k: float(v) for k, v in expected.items()})
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    state.k.fill_(0.9)
    assert torch.equal(began.measure(state.nets, recipe, batch)["M"], found["M"])


def test_an_example_walks_a_step_without_data():
    recipe = tiny()
    assert began.example(recipe).image.shape == (2, 3, 16, 16)
    state = began.build(recipe, "meta")
    logs = began.step(state, recipe, began.example(recipe))
    assert {"loss/G", "loss/D"} < logs.keys()


# Recipes


def test_the_presets_are_the_codes():
    expected = {
        "celeba": {"pre_crop": "128x128+25+50", "resample": "nearest", "load_size": 64, "lr": 8e-5, "beta1": 0.9},
        "cifar10": {"load_size": 32, "crop_size": 32, "n": 128, "z_dim": 64, "lr_decay": "halve_floor"},
        "keras": {
            **{"down": "second", "dense_elu": True, "tanh": True, "n": 64, "z_dim": 128, "lr": 1e-4, "beta1": 0.9},
            **{"k_clip": False, "separate_z": True, "lr_decay_every": 200 * 100, "lr_floor": 1e-6, "batch": 16},
            **{"steps": 500 * 100, "gamma": 0.5, "lambda_k": 0.001, "order": "simultaneous"},
        },
        "seed": {
            **{"down": "pool", "n": 32, "z_dim": 32, "crop_size": 32, "unit_range": True, "lr": 1e-4, "beta1": 0.5},
            **{"lr_decay": "none", "order": "g_then_d", "separate_z": False, "k_clip": True, "batch": 16},
            **{"steps": 50 * 10_000 // 16, "init": "normal", "init_gain": 0.02, "dense_elu": False, "tanh": False},
        },
    }
    for preset, values in expected.items():
        recipe = Recipe(**PRESETS[preset])
        assert {name: getattr(recipe, name) for name in values} == values, preset


def test_the_defaults_are_the_published_ones():
    recipe = Recipe()
    expected = {
        **{"batch": 16, "steps": 500_000, "lr": 8e-5, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0},
        **{"lr_decay": "halve_floor", "lr_decay_every": 100_000, "lr_floor": 2e-5, "crop_size": 64, "n": 128},
        **{"z_dim": 64, "gamma": 0.5, "lambda_k": 0.001, "k_clip": True, "separate_z": False, "init": "glorot"},
        **{"order": "simultaneous", "pad": "right_bottom", "skips": False, "residuals": False, "carry_steps": 16_000},
    }
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 48, "load_size": 48}, "--crop-size must be 16, 32, 64, 128 or another doubling, got 48"),
        ({"crop_size": 8}, "--crop-size must be 16"),
        ({"crop_size": 128}, "--load-size must be at least --crop-size 128, got 64"),
        ({"gamma": 1.5}, r"--gamma must be in \[0, 1\], got 1.5"),
        ({"n": 0}, "--n must be at least 1"),
        ({"z_dim": 0}, "--z-dim must be at least 1"),
        ({"lambda_k": -1.0}, "--lambda-k must be at least 0"),
        ({"stall_window": 0}, "--stall-window must be at least 1"),
        ({"lr_decay": "linear"}, "--lr-decay must be one of halve_floor, m_stall, none"),
        ({"schedule": "linear"}, "--schedule must be one of const"),
        ({"down": "max"}, "--down must be one of conv, second, pool"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_channels_that_the_data_does_not_have():
    with pytest.raises(UserError, match="--channels is 1, but the data has 3"):
        began.resolve(Recipe(channels=1))
    grey = began.resolve(Recipe(), Facts(channels=(1,)))
    assert grey.channels == 1
    assert began.resolve(grey, Facts(channels=(1,))) == grey


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = began.build(tiny(), "cpu").tensors()
    torch.manual_seed(2)
    again, other = began.build(tiny(), "cpu").tensors(), began.build(tiny(seed=1), "cpu").tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    weight = "net.G.dense.linear.weight"
    assert not torch.equal(first[weight], other[weight])
    kinds = {type(module) for module in began.build(tiny(), "cpu").G.modules()}
    assert {Linear, UpsampleConv} < kinds


# On a GPU

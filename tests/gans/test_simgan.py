"""SimGAN: counts of its networks, both forms' steps against the equations in stock PyTorch, phases, how G is used."""

import dataclasses
import functools

import numpy as np
import pytest
import stock
import torch
import torch.nn.functional as F
from stock import LOSSES, begun, counts, noise, patch_d, pooled, residual_g
from torch import nn

from pygan import checkpoint, nets
from pygan import recipe as recipes
from pygan.data import Batch, Facts
from pygan.errors import UserError
from pygan.gans import simgan
from pygan.gans.simgan import PRESETS, Recipe, history, model
from pygan.gans.simgan import recipe as recipe_module
from pygan.ops.philox import words

TINY, TINY_PAPER = PRESETS["tiny"], PRESETS["tiny-paper"]
GREY = Facts((1, 1))
ON_A_GPU = {"paper": TINY_PAPER, "paper in bf16": {**TINY_PAPER, "amp": True}}
doubled = functools.partial(stock.doubled, simgan)
pair = functools.partial(noise, simgan)


def tiny(**fields):
    return simgan.resolve(Recipe(**{**TINY, **fields}))


def tiny_paper(**fields):
    return simgan.resolve(Recipe(**{**TINY_PAPER, **fields}), GREY)


# The networks


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: model.Refiner(1), 296_129),
        (lambda: model.LocalD(1), 75_906),
        (lambda: recipe_module.generator(Recipe(form="paper", input_channels=1, batch=6)), 296_129),
        (lambda: recipe_module.discriminator(Recipe(form="paper", input_channels=1, batch=6)), 75_906),
        (lambda: recipe_module.generator(Recipe()), 11_378_179),
        (lambda: recipe_module.generator(Recipe(crop_size=128)), 7_837_699),
        (lambda: recipe_module.discriminator(Recipe()), 2_764_737),
    ],
)
def test_parameter_counts(make, expected):
    assert counts(make)[0] == expected


@pytest.mark.parametrize(("size", "places"), [((55, 35), (14, 9)), ((64, 64), (16, 16)), ((9, 8), (3, 2))])
def test_a_map_of_logits_and_a_picture_of_any_size(size, places):
    image = torch.rand(1, 1, *size)
    with torch.no_grad():
        assert model.LocalD(1)(image).shape == (1, 1, *places)
        assert model.Refiner(1, width=4)(image).shape == (1, 1, *size)


def test_the_largest_neighbours_are_those_of_a_maximum_pool():
    x = torch.rand(2, 3, 7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    x = x.relu().requires_grad_()  # many ties, at 0
    outputs = model.largest(x), F.max_pool2d(x, 3, stride=1, padding=1)
    torch.testing.assert_close(*outputs, rtol=0, atol=0)
    a, b = (torch.autograd.grad((y * torch.arange(y.numel()).view_as(y)).sum(), x)[0] for y in outputs)
    torch.testing.assert_close(a[x > 0], b[x > 0], rtol=0, atol=0)


# Stock PyTorch, from the papers


class PlainResidual(nn.Module):
    def __init__(self, body, act):
        super().__init__()
        self.body, self.act = nn.Sequential(*body), act

    def forward(self, x):
        return self.act(x + self.body(x))


def plain_refiner(channels, width, blocks):
    """Shrivastava et al. 2017, 3.1."""

    def block():
        body = (nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
        return PlainResidual(body, nn.ReLU())

    first = (nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())
    return nn.Sequential(*first, *(block() for _ in range(blocks)), nn.Conv2d(width, channels, 1), nn.Tanh())


def plain_local_d(channels):
    """3.1; two outputs at every place: refined, real."""
    return nn.Sequential(
        *(nn.Conv2d(channels, 96, 3, 2, 1), nn.ReLU(), nn.Conv2d(96, 64, 3, 2, 1), nn.ReLU()),
        nn.MaxPool2d(3, 1, 1),
        *(nn.Conv2d(64, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 32, 1), nn.ReLU(), nn.Conv2d(32, 2, 1)),
    )


def descend(opt, loss):
    opt.zero_grad()
    loss.backward(inputs=[p for group in opt.param_groups for p in group["params"]])
    opt.step()


def compare(logs, expected, where):
    assert set(logs) == set(expected)
    for name, value in logs.items():
        torch.testing.assert_close(value.double(), expected[name].detach(), rtol=1e-9, atol=1e-9, msg=f"{where} {name}")


def cross_entropy(outputs, real):
    """Summed over the map, mean over the batch."""
    target = torch.full_like(outputs[:, 0], 1 if real else 0, dtype=torch.int64)
    return F.cross_entropy(outputs, target, reduction="none").sum((1, 2)).mean()


def plain_history(kept, size, fresh, back, over):
    """The published rule for half a batch. kept: list of pictures, changed in place. Returns as many of the history."""
    half = len(fresh)
    largest_first = np.argsort(-np.array(back[: len(kept)]), kind="stable")[:half]
    older = torch.stack([kept[i] for i in largest_first]) if kept else fresh
    if len(kept) < size:
        kept.extend(fresh)
    else:
        for slot, image in zip(np.argsort(-np.array(over), kind="stable")[:half], fresh, strict=True):
            kept[slot] = image
    return older


@pytest.mark.parametrize(
    ("phase", "fields"),
    [
        ("all", {}),
        ("adversarial", {"refiner_steps": 1, "batch": 8, "history_size": 4}),
        ("refiner", {"batch": 2}),
        ("discriminator", {"batch": 4, "history_size": 4}),
    ],
)
def test_three_steps_of_the_paper_equal_its_equations_in_stock_pytorch(phase, fields):
    recipe = tiny_paper(phase=phase, refiner_blocks=2, lambda_gan=1.5, **fields)
    state = doubled(recipe)
    R, D = plain_refiner(1, 4, 2).double(), plain_local_d(1).double()
    *pairs, weight, bias = begun(R, state.G) + begun(D, state.D)
    heads = [weight, bias]  # of D, whose two outputs stand in the other order
    with torch.no_grad():
        for own, theirs in heads:
            own.copy_(theirs.flip(0))
    opt_R, opt_D = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.9, 0.999)) for net in (R, D))
    kept, back_and_forth = [], 0

    for i in range(3):
        A, B = pair(recipe, seed=i, dtype=torch.float64)
        draws = words(state.rng, recipe_module._POOL_STREAM, 2 * recipe.history_size).tolist()
        logs = simgan.step(state, recipe, Batch(A, B))

        zero, expected = torch.zeros((), dtype=torch.float64), {}
        parts = recipe.refiner_steps + 1 if phase in ("all", "adversarial") else 1
        portions = A.chunk(parts)
        for x in portions[:-1] if parts > 1 else portions[: phase == "refiner"]:
            refined = R(x)
            distance = recipe.lambda_self * (refined - x).abs().sum((1, 2, 3)).mean()
            expected = {"loss/G_self": distance, "loss/G": distance}
            if phase != "refiner":
                expected["loss/G_gan"] = 1.5 * cross_entropy(D(refined), real=True)
                expected["loss/G"] = distance + expected["loss/G_gan"]
            descend(opt_R, expected["loss/G"])
        if phase == "refiner":
            compare(logs, expected | {"loss/D": zero}, i)
            continue

        x, y = portions[-1], B.chunk(parts)[-1]
        fresh = R(x[: len(x) // 2]).detach()
        size = recipe.history_size
        older = plain_history(kept, size, fresh, draws[:size], draws[size:])
        back_and_forth += not torch.equal(older, fresh)
        shown = torch.cat((fresh, older))
        assert len(shown) == len(y)
        outputs_real, outputs_fake = D(y), D(shown)
        loss = cross_entropy(outputs_real, real=True) + cross_entropy(outputs_fake, real=False)
        descend(opt_D, loss)
        expected |= {"loss/D": loss}
        expected |= {"logit/real": (outputs_real[:, 1] - outputs_real[:, 0]).mean()}
        expected |= {"logit/fake": (outputs_fake[:, 1] - outputs_fake[:, 0]).mean()}
        compare(logs, {"loss/G": zero} | expected, i)

    for own, theirs in pairs + [(own.flip(0), theirs) for own, theirs in heads]:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)
    if phase == "refiner":
        assert state.buffers.keys() == {"rng"}
    else:
        assert back_and_forth == 2
        torch.testing.assert_close(state.pool_images[: len(kept)], torch.stack(kept), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"gan_mode": "vanilla", "lambda_self": 4.0, "direction": "BtoA"},
        {"gan_mode": "softplus", "pool_size": 0, "lambda_gan": 2.0, "weight_decay": 1e-4},
        {"d_loss_scale": 1.0},
    ],
    ids=["lsgan", "vanilla, B to A", "softplus, no pool", "not halved"],
)
def test_three_steps_of_the_comparison_equal_its_equations_in_stock_pytorch(fields):
    recipe = tiny(**{"pool_size": 2, "ngf": 2, "ndf": 4, "lr": 1e-3, "crop_size": 24, **fields})
    state = doubled(recipe)
    G, D = residual_g(3, 3, 2, 6).double(), patch_d(3, 4, 2).double()
    pairs = begun(G, state.G) + begun(D, state.D)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay}
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), **numbers) for net in (G, D))
    loss_of_D, loss_of_G = LOSSES[recipe.gan_mode]
    kept = []

    for i in range(3):
        batch = pair(recipe, seed=i, dtype=torch.float64)
        x, y = batch if recipe.direction == "AtoB" else batch[::-1]
        draws = words(state.rng, recipe_module._POOL_STREAM, 2 * len(x)).tolist()
        logs = simgan.step(state, recipe, batch)

        refined = G(x)
        shown = refined.detach()
        if recipe.pool_size:
            shown = pooled(kept, recipe.pool_size, shown, draws)[0]
        logits_real, logits_fake = D(y), D(shown)
        loss_D = 2 * recipe.d_loss_scale * loss_of_D(logits_real, logits_fake)
        descend(opt_D, loss_D)
        distance = recipe.lambda_self * (refined - x).abs().mean()
        gan = recipe.lambda_gan * loss_of_G(D(refined))
        descend(opt_G, distance + gan)
        expected = {"loss/G": distance + gan, "loss/G_self": distance, "loss/G_gan": gan, "loss/D": loss_D}
        compare(logs, expected | {"logit/real": logits_real.mean(), "logit/fake": logits_fake.mean()}, i)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


# The history


def test_a_history_gives_different_pictures_and_forgets_evenly():
    size, half = 12, 3
    images = torch.zeros(size, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    count, rng = torch.zeros((), dtype=torch.int64), torch.tensor([7, 0])
    address, seen = images.data_ptr(), np.zeros(3 * size)
    for turn in range(400):
        fresh = torch.arange(turn * half, (turn + 1) * half, dtype=torch.float32).view(half, 1, 1, 1)
        there = images[: int(count)].flatten().tolist()
        older = history.exchange_(images, count, fresh, rng=rng, stream=5).flatten().tolist()
        assert older == fresh.flatten().tolist() if turn == 0 else set(older) <= set(there)
        assert len(set(older)) == half
        after = images[: int(count)].flatten().tolist()
        assert int(count) == len(after) == min(size, (turn + 1) * half)
        assert len(set(after)) == len(after)
        assert set(fresh.flatten().tolist()) <= set(after)
        if turn > 30:
            ages = turn - 1 - np.array(older, dtype=int) // half  # turns since the one that came after it
            np.add.at(seen, np.minimum(ages, 3 * size - 1), 1)
        rng[1] += 1
    assert images.data_ptr() == address
    # A picture survives a turn with probability 3/4: each age comes 3/4 as often as the one before.
    shares = seen / seen.sum()
    assert shares[:4] == pytest.approx([0.25 * 0.75**k for k in range(4)], abs=0.05)
    with pytest.raises(ValueError, match=r"fresh must have shape \(n, 1, 1, 1\), n a divisor of 12, got \[5, 1"):
        history.exchange_(images, count, torch.zeros(5, 1, 1, 1), rng=rng, stream=5)


# Phases


def test_phases_of_the_paper_come_one_after_the_other():
    whole = simgan.resolve(Recipe(**PRESETS["paper"]), GREY)
    first, second, third = simgan.phases(whole)
    assert [(part.phase, part.steps, part.batch) for part in (first, second, third)] == [
        ("refiner", 1000, 512),
        ("discriminator", 200, 512),
        ("adversarial", 10_000, 1536),
    ]
    assert all(simgan.phases(part) == (part,) for part in (first, second, third))
    assert [p.phase for p in simgan.phases(dataclasses.replace(whole, pretrain_refiner_steps=0))] == [
        "discriminator",
        "adversarial",
    ]
    plain = tiny()
    assert simgan.phases(plain) == (plain,)


@pytest.mark.parametrize("ema", [0.0, 8.0])
def test_a_phase_begins_where_the_one_before_ended(ema):
    before, moved = None, {}
    for part in simgan.phases(tiny_paper(ema_half_life_images=ema)):
        state = simgan.build(part, "cpu")
        if before is not None:
            simgan.inherit_(state, before.nets)
            for name, net in before.nets.items():
                heirs = [state.nets[name], *([state.ema[name]] if name in state.ema else [])]
                for key, value in net.state_dict().items():
                    assert all(torch.equal(value, heir.state_dict()[key]) for heir in heirs)
            assert state.ema.keys() == ({"G"} if ema else set())
        start = {name: [p.clone() for p in net.parameters()] for name, net in state.nets.items()}
        for seed in range(2):
            assert all(value.isfinite() for value in simgan.step(state, part, pair(part, seed=seed)).values())
        moved[part.phase] = [
            name
            for name, net in state.nets.items()
            if all(not torch.equal(a, b) for a, b in zip(start[name], net.parameters(), strict=True))
        ]
        before = state
    assert moved == {"refiner": ["G"], "discriminator": ["D"], "adversarial": ["G", "D"]}


# Recipes, use


def test_a_step_keeps_every_address_and_a_resumed_run_goes_on(tmp_path):
    for recipe in (tiny(ngf=2, ndf=2), tiny_paper()):
        state = simgan.build(recipe, "cpu")
        before = {name: tensor.data_ptr() for name, tensor in state.tensors().items()}
        simgan.step(state, recipe, pair(recipe))
        assert {name: tensor.data_ptr() for name, tensor in state.tensors().items()} == before
        folder = tmp_path / recipe.form
        checkpoint.save(folder, state, {"gan": "simgan", "recipe": recipes.to_dict(recipe)}, {})
        resumed = simgan.build(dataclasses.replace(recipe, seed=9), "cpu")
        checkpoint.load_newest(folder, resumed)
        for seed in (1, 2):
            a, b = (simgan.step(one, recipe, pair(recipe, seed=seed)) for one in (state, resumed))
            assert {name: float(v) for name, v in a.items()} == {name: float(v) for name, v in b.items()}
        assert all(torch.equal(tensor, resumed.tensors()[name]) for name, tensor in state.tensors().items())


def test_it_learns_to_leave_pictures_alone_and_to_take_the_others_colours():
    still = tiny_paper(phase="refiner", batch=4, lr=1e-2)
    state = simgan.build(still, "cpu")
    changes = [float(simgan.step(state, still, pair(still, seed=seed))["loss/G_self"]) for seed in range(40)]
    assert changes[-1] < 0.8 * changes[0]

    recipe = tiny(lambda_self=0.1, ngf=4, ndf=4, lr=2e-3)
    state = simgan.build(recipe, "cpu")
    dark = Batch(pair(recipe).A, 0.1 * pair(recipe).B - 0.8)
    before = simgan.measure(state.nets, recipe, dark)
    for seed in range(40):
        x, y = pair(recipe, seed=seed)
        simgan.step(state, recipe, Batch(x, 0.1 * y - 0.8))
    after = simgan.measure(state.nets, recipe, dark)
    assert after["colours"] < 0.6 * before["colours"]
    assert after["colours_before"] == before["colours_before"]


@pytest.mark.parametrize("recipe", [tiny(ngf=2, ndf=2), tiny(ngf=2, direction="BtoA"), tiny_paper()])
def test_what_people_and_the_measure_see(recipe):
    state, batch = simgan.build(recipe, "cpu"), pair(recipe)
    x, y = batch if recipe.direction == "AtoB" else batch[::-1]
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    refined = simgan.translate(state.G, recipe, x)
    torch.testing.assert_close(simgan.translate(state.G, recipe, x[1:2], torch.tensor([9, 9])), refined[1:2])
    assert not refined.requires_grad
    columns = simgan.sample(state.G, recipe, batch)
    assert list(columns) == ["input", "output", "real"]
    assert all(torch.equal(a, b) for a, b in zip(columns.values(), (x, refined, y), strict=True))

    measured = {name: float(value) for name, value in simgan.measure(state.nets, recipe, batch).items()}
    assert list(measured) == ["colours", "colours_before", "change"]
    expected = [np.abs(np.sort(a, axis=None) - np.sort(b, axis=None)).mean() for a, b in channels(refined, y)]
    assert measured["colours"] == pytest.approx(127.5 * np.mean(expected), rel=1e-5)
    assert measured["change"] == pytest.approx(127.5 * float((refined - x).abs().mean()), rel=1e-5)
    assert float(simgan.measure(state.nets, recipe, Batch(x, x))["colours_before"]) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())


def channels(a, b):
    return [(a[:, c].numpy(), b[:, c].numpy()) for c in range(a.shape[1])]


@pytest.mark.parametrize("make", [tiny, tiny_paper])
def test_an_example_has_the_shapes_of_a_batch(make):
    recipe = make()
    A, B = simgan.example(recipe)
    assert A.device.type == B.device.type == "meta"
    assert A.shape == B.shape == (recipe.batch, recipe.input_channels, recipe.crop_size, recipe.crop_size)
    batch = Batch(*(image.zero_() for image in simgan.example(recipe, "cpu")))
    assert simgan.step(simgan.build(recipe, "cpu"), recipe, batch)["loss/D"].isfinite()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    recipe = simgan.resolve(Recipe(**PRESETS[preset]))
    assert (recipe.direction, recipe.input_channels, recipe.output_channels) == ("AtoB", 3, 3)
    assert recipe.gan_mode == ("softplus" if recipe.form == "paper" else "lsgan")
    assert simgan.resolve(recipe) == recipe
    with torch.device("meta"):
        assert isinstance(simgan.generator(recipe), model.Refiner if recipe.form == "paper" else nets.ResNet)


def test_the_paper_is_the_paper():
    recipe = Recipe(**PRESETS["paper"])
    expected = {"history_size": 25_600, "lambda_self": 0.5, "lr": 1e-3, "ngf": 64, "refiner_blocks": 4}
    expected |= {"refiner_steps": 2, "pretrain_refiner_steps": 1000, "pretrain_d_steps": 200, "batch": 3 * 512}
    assert {name: getattr(recipe, name) for name in expected} == expected
    recipe = Recipe(**PRESETS["comparison"])
    expected = {"form": "comparison", "lambda_self": 10.0, "pool_size": 50, "lr": 2e-4, "crop_size": 128, "batch": 1}
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 250}, "--crop-size must be a multiple of 4 such as 248 or 252, got 250"),
        ({"crop_size": 300}, "--load-size must be at least --crop-size 300"),
        ({"n_layers_d": 7}, "--n-layers-d must be at most 6"),
        ({"n_layers_d": 6, "crop_size": 128}, "a crop size of at least 192, or fewer layers"),
        ({"gan_mode": "wgangp"}, "--gan-mode must be one of"),
        ({"phase": "refiner"}, "--phase refiner is for --form paper"),
        ({"lambda_gan": 0.0, "lambda_self": 0.0}, "there is nothing to train G with"),
        ({"form": "paper", "batch": 512}, "--batch must be a multiple of 6 such as 510 .3 equal parts"),
        (
            {"form": "paper", "batch": 12, "history_size": 25},
            "--history-size must be a multiple of 2, .* such as 24",
        ),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_channels_that_do_not_fit():
    with pytest.raises(UserError, match="--input-channels is 4, but the data has 3"):
        simgan.resolve(Recipe(input_channels=4))
    with pytest.raises(UserError, match="as many channels in A as in B, got 1 and 3: set --input-channels 3"):
        simgan.resolve(Recipe(), Facts((1, 3)))


def test_build_depends_on_the_seed_alone():
    for make in (tiny, tiny_paper):
        torch.manual_seed(1)
        first = simgan.build(make(), "cpu").tensors()
        torch.manual_seed(2)
        again, other = simgan.build(make(), "cpu").tensors(), simgan.build(make(seed=1), "cpu").tensors()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert not torch.equal(first["net.G.stem.conv.weight"], other["net.G.stem.conv.weight"])


# On a GPU

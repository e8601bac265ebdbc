"""EBGAN: its pulling-away term, the step against the equations in stock PyTorch, how G is used."""

import functools

import pytest
import stock
import torch
from plain_autoencoder import PlainD, PlainDecoder, beside, even
from stock import noise

from pygan.data import Facts
from pygan.errors import UserError
from pygan.gans import ebgan
from pygan.gans.ebgan import PRESETS, Recipe
from pygan.gans.ebgan import recipe as recipe_module

TINY = PRESETS["tiny"]
ON_A_GPU = {
    "l2norm": {"energy": "l2norm", "down": "pool"},
    "skips": {"skips": True, "pt_weight": 0.0},
    "64 wide in bf16": {"amp": True, "n": 64, "load_size": 64, "crop_size": 64},
}
doubled = functools.partial(stock.doubled, ebgan)
pictures = functools.partial(noise, ebgan)


def tiny(**fields):
    return ebgan.resolve(Recipe(**{**TINY, **fields}))


# The formulas


def plain_pt(code):
    """The pulling-away term pair by pair, as it is printed."""
    n, total = len(code), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                total = total + (code[i] @ code[j] / (code[i].norm() * code[j].norm())) ** 2
    return total / (n * (n - 1))


def test_the_pulling_away_term_in_numbers():
    pull = recipe_module._pulling_away
    assert float(pull(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))) == pytest.approx(0.5)
    assert float(pull(torch.tensor([[3.0, 0.0], [-0.1, 0.0]]))) == pytest.approx(1.0)
    assert float(pull(torch.eye(4))) == pytest.approx(0.0)
    assert float(pull(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))) == 0.0  # a code of zeros points nowhere


def test_the_pulling_away_term_and_its_gradient_pair_by_pair():
    code = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ours, theirs = recipe_module._pulling_away(code), plain_pt(code)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    slopes = (torch.autograd.grad(value, code)[0] for value in (ours, theirs))
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)
    in_16_bits = recipe_module._pulling_away(code.detach().to(torch.bfloat16))
    assert in_16_bits.dtype == torch.float32
    assert float(in_16_bits) == pytest.approx(ours.item(), rel=0.02)


def test_energies_in_numbers():
    image, again = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    again[0] = 0.5
    again[1, 0, 0, 0] = -2.0
    mse = recipe_module._energy(Recipe(), again, image)
    torch.testing.assert_close(mse, torch.tensor([0.25, 4.0 / 48]))
    norm = recipe_module._energy(Recipe(energy="l2norm"), again, image)
    torch.testing.assert_close(norm, torch.tensor([0.5 * 48**0.5, 2.0]))


PLAIN = [
    {},
    {"margin": 0.3, "pt_weight": 0.0, "weight_decay": 1e-3},
    {"energy": "l2norm", "margin": 8.0, "down": "pool", "crop_size": 32, "load_size": 32},
    {"down": "second", "dense_elu": True, "tanh": True, "skips": True, "pt_weight": 2.0, "batch": 3},
]


@pytest.mark.parametrize("fields", PLAIN, ids=lambda fields: ", ".join(map(str, fields)) or "defaults")
def test_three_steps_equal_the_equations_in_stock_pytorch(fields):
    recipe = tiny(**{"n": 3, "lr": 2e-3, **fields})
    state = doubled(recipe)
    G, D = PlainDecoder(recipe).double(), PlainD(recipe).double()
    pairs = [tensors for plain, net in ((G, state.G), (D, state.D)) for tensors in beside(plain, net)]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
        state.G.head.bias.add_(0.5)  # energies on both sides of a margin
        G.last.bias.add_(0.5)
    numbers = {"lr": recipe.lr, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "foreach": False}
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), **numbers) for net in (G, D))

    def energy(v):
        if recipe.energy == "mse":
            return torch.stack([((one - D(one[None])[0]) ** 2).mean() for one in v])
        return torch.stack([((one - D(one[None])[0]) ** 2).sum().sqrt() for one in v])

    for i in range(3):
        (x,) = batch = pictures(recipe, seed=i, dtype=torch.float64)
        z = even(state.rng, recipe_module._Z_STREAM, recipe)
        logs = ebgan.step(state, recipe, batch)

        fake = G(z)
        real_energy, fake_energy = energy(x), energy(fake.detach())
        loss_D = real_energy.mean() + (recipe.margin - fake_energy).clamp(min=0).mean()
        opt_D.zero_grad()
        loss_D.backward()
        opt_D.step()
        loss_G = energy(fake).mean()
        pulled = plain_pt(D.encoder(fake))
        if recipe.pt_weight:
            loss_G = loss_G + recipe.pt_weight * pulled
        opt_G.zero_grad()
        loss_G.backward()
        opt_G.step()

        expected = {"loss/G": loss_G, "loss/D": loss_D}
        expected |= {"energy/real": real_energy.mean(), "energy/fake": fake_energy.mean()}
        if recipe.pt_weight:
            expected["loss/pt"] = pulled
        assert set(logs) == set(expected)
        for name, value in expected.items():
            assert float(logs[name]) == pytest.approx(value.item(), rel=1e-9, abs=1e-9), name
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


def test_a_margin_that_is_reached_leaves_the_fakes_alone():
    recipe = tiny(margin=0.0)
    state, batch = ebgan.build(recipe, "cpu"), pictures(recipe)
    logs = ebgan.step(state, recipe, batch)
    assert float(logs["loss/D"]) == float(logs["energy/real"])
    assert float(logs["energy/fake"]) > 0


# What a step does


def test_a_step_moves_all_nets_and_keeps_every_address():
    recipe = tiny(ema_half_life_images=4.0)
    state = ebgan.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    logs = ebgan.step(state, recipe, pictures(recipe))
    for name, tensor in state.tensors().items():
        assert tensor.data_ptr() == before[name][0], name
        assert not torch.equal(tensor, before[name][1]), name
    assert state.rng.tolist() == [0, 1]
    assert all(value.dim() == 0 and not value.requires_grad for value in logs.values())


def test_D_judges_in_two_passes():
    recipe, seen = tiny(), []
    state = ebgan.build(recipe, "cpu")
    state.D.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    painted = []
    state.G.register_forward_hook(lambda *_: painted.append(1))
    ebgan.step(state, recipe, pictures(recipe))
    assert (seen, len(painted)) == ([4, 2], 1)


@pytest.mark.usefixtures("low_precision")
def test_a_step_in_16_bits_is_near():
    rows = {}
    for amp in (False, True):
        recipe = tiny(amp=amp)
        state = ebgan.build(recipe, "cpu")
        logs = [ebgan.step(state, recipe, pictures(recipe, seed=i)) for i in range(3)]
        assert {value.dtype for row in logs for value in row.values()} == {torch.float32}
        rows[amp] = [{k: float(v) for k, v in row.items()} for row in logs]
    for exact, low in zip(rows[False], rows[True], strict=True):
        assert low == pytest.approx(exact, rel=0.02, abs=0.01)


@pytest.mark.parametrize(
    "fields",
    [
        {"down": "pool", "energy": "l2norm"},
        {"down": "second", "dense_elu": True, "tanh": True},
        {"skips": True, "pt_weight": 0.0},
        {"channels": 1, "crop_size": 32, "load_size": 32},
    ],
    ids=str,
)
def test_every_variant_trains_and_is_used(fields):
    recipe = ebgan.resolve(Recipe(**{**TINY, **fields}), Facts(channels=(fields.get("channels", 3),)))
    state, batch = ebgan.build(recipe, "cpu"), pictures(recipe)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    logs = ebgan.step(state, recipe, batch)
    assert all(value.isfinite() for value in logs.values())
    for name, tensor in state.tensors().items():
        assert not torch.equal(tensor, before[name]), name
    images = ebgan.sample(state.G, recipe, batch)
    assert images.keys() == {"samples"}
    assert images["samples"].shape == batch.image.shape
    assert torch.equal(images["samples"], ebgan.generate(state.G, recipe, len(batch.image)))
    assert images["samples"].abs().max() <= 1


def test_samples_follow_the_random_numbers_alone():
    recipe = tiny()
    state = ebgan.build(recipe, "cpu")
    again = ebgan.generate(state.G, recipe, 2)
    assert torch.equal(ebgan.generate(state.G, recipe, 2, torch.tensor([recipe.seed, 0])), again)
    assert not torch.equal(ebgan.generate(state.G, recipe, 2, torch.tensor([recipe.seed, 1])), again)
    assert not again.requires_grad


@pytest.mark.parametrize("energy", ["mse", "l2norm"])
def test_measures_are_the_formulas_and_leave_the_state_alone(energy):
    recipe = tiny(energy=energy)
    state, batch = ebgan.build(recipe, "cpu"), pictures(recipe)
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    found = ebgan.measure(state.nets, recipe, batch)
    with torch.no_grad():
        lacks = [(v - state.D(v)).flatten(1) for v in (batch.image, ebgan.generate(state.G, recipe, 2))]
        means = [(lack.norm(dim=1) if energy == "l2norm" else lack.square().mean(dim=1)).mean() for lack in lacks]
    real, made = map(float, means)
    assert next(iter(found)) == "M"
    expected = {"M": real + abs(real - made), "energy_real": real, "energy_fake": made}
    assert {k: float(v) for k, v in found.items()} == pytest.approx(expected, rel=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())


def test_an_example_walks_a_step_without_data():
    recipe = tiny()
    assert ebgan.example(recipe).image.shape == (2, 3, 16, 16)
    logs = ebgan.step(ebgan.build(recipe, "meta"), recipe, ebgan.example(recipe))
    assert {"loss/G", "loss/D"} < logs.keys()


# Recipes


def test_the_defaults_are_those_of_the_comparison_with_began():
    recipe = Recipe()
    expected = {
        **{"batch": 16, "steps": 500_000, "lr": 2e-4, "beta1": 0.5, "beta2": 0.999, "crop_size": 64, "n": 128},
        **{"z_dim": 64, "energy": "mse", "margin": 1.0, "pt_weight": 0.1, "init": "glorot", "pad": "right_bottom"},
    }
    assert {name: getattr(recipe, name) for name in expected} == expected
    with torch.device("meta"):
        nets = ebgan.generator(recipe), recipe_module.discriminator(recipe)
    assert [sum(p.numel() for p in net.parameters()) for net in nets] == [1_716_611, 13_405_379]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 48, "load_size": 48}, "--crop-size must be 16, 32, 64, 128 or another doubling, got 48"),
        ({"crop_size": 128}, "--load-size must be at least --crop-size 128, got 64"),
        ({"margin": -1.0}, "--margin must be at least 0"),
        ({"pt_weight": -0.1}, "--pt-weight must be at least 0"),
        ({"batch": 1}, "--batch 1 leaves no pair for the pulling-away term: take 2 or more, or --pt-weight 0"),
        ({"energy": "l1"}, "--energy must be one of mse, l2norm"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_one_picture_per_step_without_the_pulling_away_term():
    recipe = tiny(batch=1, pt_weight=0.0)
    assert "loss/pt" not in ebgan.step(ebgan.build(recipe, "cpu"), recipe, pictures(recipe))


def test_channels_that_the_data_does_not_have():
    with pytest.raises(UserError, match="--channels is 1, but the data has 3"):
        ebgan.resolve(Recipe(channels=1))
    grey = ebgan.resolve(Recipe(), Facts(channels=(1,)))
    assert ebgan.resolve(grey, Facts(channels=(1,))) == grey


# On a GPU

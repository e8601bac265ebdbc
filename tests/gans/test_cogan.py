"""CoGAN: counts of its networks, the step against the equations in stock PyTorch, pairs, translation by search."""

import dataclasses
import functools
import math

import pytest
import stock
import torch
import torch.nn.functional as F
from stock import counts, noise
from torch import nn

from pygan.data import Batch, Facts
from pygan.errors import UserError
from pygan.gans import cogan
from pygan.gans.cogan import PRESETS, Recipe, model
from pygan.gans.cogan import recipe as recipe_module
from pygan.nn import Mode
from pygan.ops.philox import normal

TINY = PRESETS["tiny"]
MNIST = {"form": "mnist", "load_size": 28, "crop_size": 28}
ON_A_GPU = {"mnist": MNIST, "mnist in bf16": {**MNIST, "amp": True}}
doubled = functools.partial(stock.doubled, cogan)
pair = functools.partial(noise, cogan)


def tiny(channels=(3, 3), **fields):
    return cogan.resolve(Recipe(**{**TINY, **fields}), Facts(channels=channels))


# The networks


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: model.mnist_generators(1, 1), (7_842_694, 3_840)),
        (lambda: model.mnist_discriminators(1, 1), (427_593, 0)),
        # DCGAN at 64 pixels has 3,576,704 and 2,765,568: its ends come twice here, and have biases
        (lambda: model.generators(3, 3, size=64), (3_576_704 - 3_072 + 2 * 3_075, 1_920)),
        (lambda: model.discriminators(3, 3, size=64), (2_765_568 - 3_072 + 2 * 3_136 + 1, 1_792)),
        (lambda: recipe_module.generator(Recipe(crop_size=64)), (3_579_782, 1_920)),
        (lambda: recipe_module.discriminator(Recipe(crop_size=64)), (2_768_769, 1_792)),
    ],
)
def test_parameter_counts(make, expected):
    assert counts(make) == expected


@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_sizes_of_the_comparison_form(size):
    with torch.device("meta"):
        G, D = (make(1, 3, size=size) for make in (model.generators, model.discriminators))
        A, B = G(torch.empty(2, 100))
        assert (A.shape, B.shape) == ((2, 1, size, size), (2, 3, size, size))
        assert D(A, B).shape == (4, 1, 1, 1)
    assert G.head_a.in_channels == 64
    assert G.multiple == size


def test_what_the_domains_share():
    for fields in ({}, MNIST):
        state = cogan.build(tiny(**fields), "cpu")
        names = [name for name, _ in state.G.named_parameters()]
        own = {name for name in names if not name.startswith("shared.")}
        assert own == {f"head_{x}.{part}" for x in "ab" for part in ("weight", "bias")}
        own = {name for name, _ in state.D.named_parameters() if not name.startswith(("shared.", "head."))}
        assert len(own) == 4
        assert {name.split(".")[0] for name in own} == {"enter_a", "enter_b"}


def test_weights_begin_as_in_the_source():
    state = cogan.build(tiny(channels=(1, 1), z_dim=100, **MNIST), "cpu")
    weight = state.G.shared[2].conv.weight.detach()  # (1024, 512, 3, 3)
    bound = math.sqrt(2) * math.sqrt(6 / (9 * (1024 + 512)))
    assert float(weight.abs().max()) == pytest.approx(bound, rel=1e-3)
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=1e-2)
    biases = [p for net in state.nets.values() for name, p in net.named_parameters() if name.endswith("bias")]
    assert len(biases) == 6 + 5
    assert all(bool((bias == 0.1).all()) for bias in biases)
    slopes = [p for net in state.nets.values() for name, p in net.named_parameters() if name.endswith("slope")]
    assert [slope.item() for slope in slopes] == [0.25] * 5


# The step, against stock PyTorch


def plain_mnist():
    """G: shared layers and a head per domain; D: a first layer per domain and the shared ones; of stock layers."""
    shared, c = [], 8
    for c_next in (1024, 512, 256, 128):
        shape = (4, 1, 0) if c_next == 1024 else (3, 2, 1)
        shared += [nn.ConvTranspose2d(c, c_next, *shape, bias=False), nn.BatchNorm2d(c_next, affine=False), nn.PReLU()]
        c = c_next
    heads = [nn.Sequential(nn.ConvTranspose2d(128, channels, 6, 1, 1), nn.Sigmoid()) for channels in (1, 3)]
    enter = [nn.Conv2d(channels, 20, 5) for channels in (1, 3)]
    judge = nn.Sequential(
        *(nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2), nn.Conv2d(50, 500, 4), nn.PReLU()),
        *(nn.Conv2d(500, 2, 1), nn.Flatten()),
    )
    return nn.Sequential(*shared), nn.ModuleList(heads), nn.ModuleList(enter), judge


def plain_comparison():
    """The same for 32 pixels: DCGAN's layers."""
    shared, c = [], 8
    for i, c_next in enumerate((32, 16, 8)):
        shape = (4, 2, 1) if i else (4, 1, 0)
        shared += [nn.ConvTranspose2d(c, c_next, *shape, bias=False), nn.BatchNorm2d(c_next), nn.ReLU()]
        c = c_next
    heads = [nn.Sequential(nn.ConvTranspose2d(8, channels, 4, 2, 1), nn.Tanh()) for channels in (1, 3)]
    enter = [nn.Sequential(nn.Conv2d(channels, 8, 4, 2, 1), nn.LeakyReLU(0.2)) for channels in (1, 3)]
    judge = []
    for c, c_next in ((8, 16), (16, 32)):
        judge += [nn.Conv2d(c, c_next, 4, 2, 1, bias=False), nn.BatchNorm2d(c_next), nn.LeakyReLU(0.2)]
    return (
        nn.Sequential(*shared),
        nn.ModuleList(heads),
        nn.ModuleList(enter),
        nn.Sequential(*judge, nn.Conv2d(32, 1, 4)),
    )


def beside(plain, net):
    """(parameter of stock layers, the same one of ours), in the order of the layers."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    convs = [[module for module in one.modules() if isinstance(module, kinds)] for one in (plain, net)]
    for own, theirs in zip(*convs, strict=True):
        yield own.weight, theirs.weight
        if own.bias is not None:
            yield own.bias, theirs.bias
    norms = [module for module in plain.modules() if isinstance(module, nn.BatchNorm2d) and module.affine]
    scaled = [module for module in net.modules() if module._buffers.get("running_mean") is not None]
    for own, theirs in zip(norms, [module for module in scaled if module.weight is not None], strict=True):
        yield own.weight, theirs.weight
        yield own.bias, theirs.bias
    slopes = [module.weight for module in plain.modules() if isinstance(module, nn.PReLU)]
    yield from zip(slopes, [m.slope for m in net.modules() if isinstance(m, model.PReLU)], strict=True)


def cross_entropy(said, is_real):
    """Of two classes where D has two outputs, else of one logit."""
    if said.shape[1] == 2:
        return F.cross_entropy(said, torch.full((len(said),), int(is_real)))
    return F.binary_cross_entropy_with_logits(said, torch.full_like(said, float(is_real)))


def squares(said, is_real):
    return ((said - float(is_real)) ** 2).mean()


@pytest.mark.parametrize(
    "fields",
    [MNIST, {}, {"gan_mode": "vanilla"}, {"gan_mode": "lsgan", "weight_decay": 0.0}],
    ids=["mnist", "comparison", "vanilla", "lsgan"],
)
def test_three_steps_equal_the_equations_in_stock_pytorch(fields):
    recipe = tiny(channels=(1, 3), lr=1e-3, **fields)
    state = doubled(recipe)
    mnist = recipe.form == "mnist"
    shared, heads, enter, judge = (net.double() for net in (plain_mnist() if mnist else plain_comparison()))
    G, D = nn.ModuleList([shared, heads]), nn.ModuleList([enter, judge])
    ours = nn.ModuleList([state.D.enter_a, state.D.enter_b, state.D.shared, state.D.head])
    pairs = [*beside(G, state.G), *beside(D, ours)]
    with torch.no_grad():
        for own, theirs in pairs:
            own.copy_(theirs)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "foreach": False}
    opt_G, opt_D = torch.optim.Adam(G.parameters(), **numbers), torch.optim.Adam(D.parameters(), **numbers)
    loss = squares if recipe.gan_mode == "lsgan" else cross_entropy
    half = 1.0 if recipe.gan_mode == "softplus" else 0.5

    def paint(stream):
        features = shared(normal(state.rng, stream, (2, 8), dtype=torch.float64).view(2, 8, 1, 1))
        return [head(features) for head in heads]  # in [0, 1] of mnist, else in [-1, 1]

    def judged(A, B):
        return judge(torch.cat([enter[0](A), enter[1](B)]))

    for i in range(3):
        batch = pair(recipe, seed=i, dtype=torch.float64)
        at = state.rng.clone()
        logs = cogan.step(state, recipe, batch)
        state.rng[1] = at[1]
        real = [(x + 1) / 2 for x in batch] if mnist else batch

        fake = [x.detach() for x in paint(recipe_module._Z_FOR_D)]
        on_real, on_fake = loss(judged(*real), True), loss(judged(*fake), False)
        loss_D = half * (on_real + on_fake)
        opt_D.zero_grad()
        loss_D.backward()
        opt_D.step()
        loss_G = loss(judged(*paint(recipe_module._Z_FOR_G)), True)
        opt_G.zero_grad()
        loss_G.backward()
        opt_G.step()

        state.rng[1] += 1
        for name, value in {"D": loss_D, "G": loss_G, "D_real": on_real, "D_fake": on_fake}.items():
            torch.testing.assert_close(logs[f"loss/{name}"].double(), value.detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)


def test_a_step_moves_both_nets_and_the_random_numbers_and_keeps_every_address():
    for fields in ({}, MNIST):
        recipe = tiny(ema_half_life_images=4.0, **fields)
        state = cogan.build(recipe, "cpu")
        before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
        logs = cogan.step(state, recipe, pair(recipe))
        assert all(value.dim() == 0 and not value.requires_grad and value.isfinite() for value in logs.values())
        assert {"loss/G", "loss/D", "logit/real", "logit/fake"} <= set(logs)
        for name, tensor in state.tensors().items():
            dead = ".conv.bias" in name and ".G" in name  # a bias that a norm takes away again
            assert tensor.data_ptr() == before[name][0], name
            assert torch.equal(tensor, before[name][1]) == dead, name
        assert state.rng.tolist() == [0, 1]


def test_discriminators_see_the_domains_by_their_own_first_layer_only():
    recipe = tiny()
    D, (A, B) = cogan.build(recipe, "cpu").D.double(), pair(recipe, dtype=torch.float64)
    with torch.no_grad():
        own = D(A, B, Mode(statistics="running"))
        D.enter_b.load_state_dict(D.enter_a.state_dict())
        torch.testing.assert_close(D(A, A, Mode(statistics="running"))[2:], own[:2], rtol=0, atol=1e-12)
        order = D(torch.cat((A, B)), torch.cat((A, B)), Mode(statistics="running", groups=2))
    torch.testing.assert_close(order[2:4], own[:2], rtol=0, atol=1e-12)  # real A, real B, fake A, fake B


# Use


def test_pairs_come_from_one_z_and_the_seed_alone():
    for fields in ({}, MNIST):
        recipe = tiny(channels=(1, 3), **fields)
        state = cogan.build(recipe, "cpu")
        cogan.step(state, recipe, pair(recipe))
        before = {name: tensor.clone() for name, tensor in state.tensors().items()}
        columns = cogan.sample(state.G, recipe, pair(recipe))
        size = recipe.crop_size
        assert {name: x.shape for name, x in columns.items()} == {"A": (2, 1, size, size), "B": (2, 3, size, size)}
        z = normal(torch.tensor([recipe.seed, 0]), recipe_module._Z_IN_USE, (2, recipe.z_dim))
        A, B = state.G(z, Mode(statistics="running"))
        assert torch.equal(columns["A"], A)
        assert torch.equal(columns["B"], B)
        side_by_side = cogan.generate(state.G, recipe, 2)
        assert side_by_side.shape == (2, 3, size, 2 * size)
        assert torch.equal(side_by_side[..., :size], A.expand(-1, 3, -1, -1))
        assert torch.equal(side_by_side[..., size:], B)
        assert side_by_side.abs().max() <= 1
        assert not torch.equal(cogan.generate(state.G, recipe, 2, torch.tensor([9, 9])), side_by_side)
        assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_translation_finds_the_noise_of_a_picture(direction):
    recipe = tiny(channels=(1, 3), translate_steps=150, translate_starts=3, init="normal", init_gain=0.3)
    G = cogan.build(recipe, "cpu").G.double().requires_grad_(False)
    z = torch.randn(2, recipe.z_dim, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    A, B = G(z, Mode(statistics="running"))
    given, wanted = (A, B) if direction == "AtoB" else (B, A)
    with torch.inference_mode():
        found = cogan.translate(G, recipe, given.clone(), direction=direction)
        few = cogan.translate(G, dataclasses.replace(recipe, translate_steps=1), given.clone(), direction=direction)
        alone = cogan.translate(G, recipe, given[1:], direction=direction)
    assert found.shape == wanted.shape
    assert float((found - wanted).square().mean()) < 0.05 * float((few - wanted).square().mean())
    torch.testing.assert_close(alone, found[1:], rtol=0, atol=1e-6)
    assert torch.equal(cogan.translate(G, recipe, given, direction=direction), found)


def test_more_starts_are_never_worse():
    recipe = tiny(translate_steps=3, init="normal", init_gain=0.3)
    G, (A, _) = cogan.build(recipe, "cpu").G, pair(recipe)

    def distance(starts):
        begun = dataclasses.replace(recipe, translate_starts=starts)
        G.head_b.load_state_dict(G.head_a.state_dict())  # so that what is painted is what was searched for
        return (cogan.translate(G, begun, A) - A).square().mean(dim=(1, 2, 3))

    assert bool((distance(8) <= distance(1) + 1e-6).all())
    assert all(param.grad is None for param in G.parameters())


def test_a_larger_picture_is_taken_tile_by_tile():
    recipe = tiny(channels=(1, 3))
    G, (A, _) = cogan.build(recipe, "cpu").G, pair(recipe, n=4)
    rows = [torch.cat((A[i], A[i + 1]), dim=2) for i in (0, 2)]
    whole = cogan.translate(G, recipe, torch.cat(rows, dim=1)[None])
    assert whole.shape == (1, 3, 64, 64)
    tiles = cogan.translate(G, recipe, A)
    torch.testing.assert_close(whole[0, :, :32, 32:], tiles[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(whole[0, :, 32:, :32], tiles[2], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="multiples of 32, got 32x40"):
        cogan.translate(G, recipe, torch.zeros(1, 1, 32, 40))
    with pytest.raises(ValueError, match='direction must be "AtoB" or "BtoA"'):
        cogan.translate(G, recipe, A, direction="both")


def test_the_measure_is_a_distance_of_distributions():
    recipe = tiny()
    state = cogan.build(recipe, "cpu")
    own = cogan.sample(state.G, recipe, pair(recipe, n=16))
    shuffled = Batch(own["A"].flip(0), own["B"].roll(3, dims=0))
    assert list(cogan.measure(state.nets, recipe, shuffled)) == ["sliced", "sliced_A", "sliced_B"]
    assert float(cogan.measure(state.nets, recipe, shuffled)["sliced"]) == pytest.approx(0, abs=1e-3)
    far = cogan.measure(state.nets, recipe, Batch(own["A"], own["B"] + 0.5))
    assert float(far["sliced_A"]) == pytest.approx(0, abs=1e-3)
    assert 0 < float(far["sliced"]) == pytest.approx(float(far["sliced_B"]) / 2)


def test_an_example_has_the_shapes_of_a_batch():
    for fields in ({}, MNIST):
        recipe = tiny(channels=(1, 3), **fields)
        A, B = cogan.example(recipe)
        assert (A.device.type, A.shape[:2], B.shape[:2]) == ("meta", (2, 1), (2, 3))
        logs = cogan.step(cogan.build(recipe, "meta"), recipe, Batch(A, B))
        assert logs["loss/D"].shape == ()


# Recipes


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    facts = Facts(channels=(1, 1) if preset == "mnist" else (3, 3))
    recipe = cogan.resolve(Recipe(**PRESETS[preset]), facts)
    assert (recipe.input_channels, recipe.output_channels) == facts.channels
    assert cogan.resolve(recipe, facts) == recipe


def test_digits_as_in_the_source():
    recipe = Recipe(**PRESETS["mnist"])
    expected = {"batch": 64, "steps": 5000, "lr": 2e-4, "beta1": 0.5, "beta2": 0.999, "weight_decay": 5e-4}
    expected |= {"z_dim": 100, "init": "xavier_uniform", "init_gain": math.sqrt(2), "init_bias": 0.1}
    expected |= {"schedule": "const", "gan_mode": "softplus", "crop_size": 28}
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 96}, "--crop-size must be 32 or 64 or 128 or 256 with --form comparison, got 96"),
        ({"form": "mnist"}, "--crop-size must be 28 with --form mnist, got 128"),
        ({"load_size": 100}, "--load-size must be at least --crop-size 128"),
        ({"z_dim": 0}, "--z-dim must be at least 1"),
        ({"translate_steps": 0}, "--translate-steps must be at least 1"),
        ({"form": "faces"}, "--form must be one of"),
        ({"gan_mode": "wgangp"}, "--gan-mode must be one of"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_channels_that_the_data_does_not_have():
    with pytest.raises(UserError, match="--output-channels is 4, but the data has 3"):
        cogan.resolve(Recipe(output_channels=4), Facts())


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = cogan.build(tiny(), "cpu").tensors()
    torch.manual_seed(2)
    again, other = cogan.build(tiny(), "cpu").tensors(), cogan.build(tiny(seed=1), "cpu").tensors()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.G.head_a.weight"], other["net.G.head_a.weight"])
    assert not torch.equal(first["net.G.head_a.weight"], first["net.G.head_b.weight"])


# On a GPU

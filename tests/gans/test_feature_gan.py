"""Feature loss + GAN: VGG-16 and its file, the step against its equations in stock PyTorch, how G is used."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from stock import LOSSES, begun, noise, patch_d, pooled, residual_g
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pygan import checkpoint, errors, optim
from pygan import recipe as recipes
from pygan.__main__ import main
from pygan.data import Facts
from pygan.errors import UserError
from pygan.gans import feature_gan
from pygan.gans.feature_gan import PRESETS, Recipe, model
from pygan.gans.feature_gan import recipe as recipe_module
from pygan.ops.philox import words
from pygan.optim import adam
from pygan.state import State

TINY = PRESETS["tiny"]
ON_A_GPU = {"larger features": {"feature_size": 32, "pool_size": 3}}
pair = functools.partial(noise, feature_gan)


def tiny(facts=None, **fields):
    return feature_gan.resolve(Recipe(**{**TINY, **fields}), facts or Facts())


def doubled(recipe):
    """The state of `build` in float64."""
    state = feature_gan.build(recipe, "cpu")
    nets = {name: net.double() for name, net in state.nets.items()}
    buffers = {k: v.double() if v.is_floating_point() else v for k, v in state.buffers.items()}
    twin = State(nets=nets, opts={k: adam(v, recipe) for k, v in nets.items()}, buffers=buffers)
    twin.vgg = model.Vgg(recipe.crop_size, size=recipe.feature_size).double().requires_grad_(False)
    twin.vgg.load_state_dict(state.vgg.state_dict())
    exact = F.interpolate(torch.eye(recipe.crop_size).double()[None], size=recipe.feature_size, mode="linear")[0].T
    torch.testing.assert_close(twin.vgg.rows, exact, rtol=0, atol=1e-7)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(1, 3, 1, 1) for v in (MEAN, STD))
    twin.vgg.rows, twin.vgg.scale, twin.vgg.shift = exact, 0.5 / std, (0.5 - mean) / std  # not rounded to float32
    return twin


# VGG-16


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTHS = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class PlainVgg(nn.Module):
    """VGG-16 with torchvision's names."""

    def __init__(self):
        super().__init__()
        layers, c = [], 3
        for width in WIDTHS:
            if width == "M":
                layers.append(nn.MaxPool2d(2, 2))
            else:
                layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU()]
                c = width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(4, 2))

    def relu4_2(self, image, size):
        """image in [-1, 1]."""
        image = image.expand(-1, 3, -1, -1)
        image = F.interpolate((image + 1) / 2, size=(size, size), mode="bilinear", align_corners=False)
        mean, std = (image.new_tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
        return self.features[:21]((image - mean) / std)


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    net = PlainVgg().requires_grad_(False)
    for module in net.features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, 0.0, 0.1)
    return net


@pytest.fixture(scope="module")
def weights(plain, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(plain.state_dict(), path)
    return path


def test_parameter_counts_and_multiplications():
    with torch.device("meta"):
        vgg = model.Vgg(256)
        assert sum(p.numel() for p in vgg.parameters()) == 5_275_456
        image = torch.empty(1, 3, 256, 256)
        with FlopCounterMode(display=False) as counter:
            assert vgg(image).shape == (1, 512, 28, 28)
        assert sum(p.numel() for p in recipe_module.generator(Recipe()).parameters()) == 11_378_179
        assert sum(p.numel() for p in recipe_module.discriminator(Recipe()).parameters()) == 2_764_737
    convs = 224**2 * (3 * 64 + 64 * 64) + 112**2 * (64 * 128 + 128 * 128)
    convs = 9 * (convs + 56**2 * (128 * 256 + 2 * 256 * 256) + 28**2 * (256 * 512 + 512 * 512))
    resize = 3 * 224 * (256 * 256 + 256 * 224)
    assert counter.get_total_flops() == 2 * (convs + resize)


@pytest.mark.parametrize(("channels", "size_in", "size"), [(3, 20, 32), (1, 20, 32), (3, 40, 32), (3, 32, 32)])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_the_features_are_those_of_stock_layers(plain, weights, tmp_path, channels, size_in, size, suffix):
    path = weights
    if suffix == ".safetensors":
        path = tmp_path / "vgg16.safetensors"
        save_file(plain.state_dict(), path)
    vgg = model.Vgg(size_in, size=size)
    model.load_(vgg, path)
    image = torch.rand(2, channels, size_in, size_in, generator=torch.Generator().manual_seed(1)) * 2 - 1
    image.requires_grad_()
    features, expected = vgg(image), plain.relu4_2(image, size)
    assert features.shape == (2, 512, size // 8, size // 8)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    a, b = (torch.autograd.grad(one.square().mean(), image)[0] for one in (features, expected))
    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def damaged(plain, **changes):
    return {name: changes.get(name, tensor) for name, tensor in plain.state_dict().items()}


def test_files_that_are_not_vgg16_are_one_clear_line(plain, tmp_path):
    def refused(path, message):
        with pytest.raises(UserError, match=message) as caught:
            model.load_(model.Vgg(16, size=16), path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
        assert "torchvision" in str(caught.value)

    refused(tmp_path / "none.pth", "--vgg-weights: there is no file ")
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"noise{suffix}"
        path.write_bytes(b"\x00\x01 this is no file of tensors" * 9)
        refused(path, "cannot be read as tensors")
    path = tmp_path / "other.pth"
    torch.save(plain, path)  # a whole module: reading it would run what it brings
    refused(path, "cannot be read as tensors")
    torch.save([1, 2], path)
    refused(path, "holds a list, expected is")
    torch.save(plain.features.state_dict(), path)
    refused(path, r"has no tensor features.0.weight")
    torch.save({k: v for k, v in plain.state_dict().items() if k != "features.19.bias"}, path)
    refused(path, r"has no tensor features.19.bias")
    torch.save(damaged(plain, **{"features.2.weight": torch.zeros(64, 64, 1, 1)}), path)
    refused(path, "features.2.weight of .* is 64x64x1x1, that of VGG-16 is 64x64x3x3")
    torch.save(damaged(plain, **{"features.5.bias": torch.full((128,), float("nan"))}), path)
    refused(path, "features.5.bias of .* has values that are no finite numbers")


def test_without_weights_nothing_is_begun(weights):
    for name in ("paper", "fast"):
        recipe = Recipe(**PRESETS[name])
        for act in (
            lambda recipe=recipe: feature_gan.batches(recipe, "train", torch.device("cpu")),
            lambda recipe=recipe: feature_gan.build(recipe, "cpu"),
        ):
            with pytest.raises(UserError, match="--features vgg16 needs --vgg-weights FILE: the state dict of VGG-16"):
                act()
    assert feature_gan.build(recipe, "meta").vgg.rows.is_meta  # to be walked through, without data or weights
    recipe = tiny(features="vgg16", vgg_weights=str(weights))
    first = feature_gan.build(recipe, "cpu").vgg.convs[0].weight
    torch.testing.assert_close(first.cpu(), torch.load(weights, weights_only=True)["features.0.weight"], rtol=0, atol=0)


def test_random_features_are_said_once(capsys, monkeypatch):
    monkeypatch.setattr(errors, "_said", set())
    for _ in range(2):
        feature_gan.build(tiny(ngf=2, ndf=2), "cpu")
    assert capsys.readouterr().err.count("the features are not VGG-16's") == 1


# The step, against stock PyTorch


@pytest.mark.parametrize(
    ("channels", "fields"),
    [
        ((3, 3), {}),
        ((3, 1), {"gan_mode": "vanilla", "lambda_features": 4.0, "feature_size": 32}),
        ((3, 1), {"gan_mode": "softplus", "pool_size": 0, "direction": "BtoA", "d_loss_scale": 1.0}),
        ((3, 3), {"d_loss_scale": 1.0, "lambda_gan": 2.0, "weight_decay": 1e-4}),
    ],
    ids=["lsgan", "vanilla, to grey", "softplus, no pool, from grey", "not halved"],
)
def test_three_steps_equal_the_equations_in_stock_pytorch(plain, weights, channels, fields):
    fields = {"features": "vgg16", "vgg_weights": str(weights), "pool_size": 2, "ngf": 2, "ndf": 4, **fields}
    recipe = tiny(Facts(channels), **{"lr": 1e-3, "crop_size": 24, **fields})
    state = doubled(recipe)
    vgg = PlainVgg().double().requires_grad_(False)
    vgg.load_state_dict(plain.state_dict())
    c_in, c_out = channels if recipe.direction == "AtoB" else channels[::-1]
    G, D = residual_g(c_in, c_out, 2, 6).double(), patch_d(c_out, 4, 2).double()
    pairs = begun(G, state.G) + begun(D, state.D)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay}
    opt_G, opt_D = (torch.optim.Adam(net.parameters(), **numbers) for net in (G, D))
    loss_of_D, loss_of_G = LOSSES[recipe.gan_mode]
    kept, still = [], {name: p.clone() for name, p in state.vgg.state_dict().items()}

    for i in range(3):
        batch = pair(recipe, seed=i, dtype=torch.float64)
        x, y = batch if recipe.direction == "AtoB" else batch[::-1]
        draws = words(state.rng, recipe_module._POOL_STREAM, 2 * len(x)).tolist()
        logs = feature_gan.step(state, recipe, batch)

        painted = G(x)
        shown = painted.detach()
        if recipe.pool_size:
            shown = pooled(kept, recipe.pool_size, shown, draws)[0]
        logits_real, logits_fake = D(y), D(shown)
        loss_D = loss_of_D(logits_real, logits_fake)
        if recipe.gan_mode != "softplus":
            loss_D = 2 * recipe.d_loss_scale * loss_D
        opt_D.zero_grad()
        loss_D.backward()
        opt_D.step()
        features = [vgg.relu4_2(image, recipe.feature_size) for image in (painted, x)]
        distance = recipe.lambda_features * (features[0] - features[1]).abs().mean()
        gan = recipe.lambda_gan * loss_of_G(D(painted))
        opt_G.zero_grad()
        (distance + gan).backward()
        opt_G.step()

        expected = {"loss/G": distance + gan, "loss/G_features": distance, "loss/G_gan": gan, "loss/D": loss_D}
        expected |= {"logit/real": logits_real.mean(), "logit/fake": logits_fake.mean()}
        assert set(logs) == set(expected)
        for name, value in logs.items():
            torch.testing.assert_close(value.double(), expected[name].detach(), rtol=1e-9, atol=1e-9, msg=name)
    for own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9)
    assert all(torch.equal(p, still[name]) for name, p in state.vgg.state_dict().items())


def test_the_features_are_no_part_of_what_is_saved(tmp_path):
    recipe = tiny(ngf=2, ndf=2)
    state = feature_gan.build(recipe, "cpu")
    assert not any("vgg" in name for name in state.tensors())
    assert all(p.grad is None and not p.requires_grad for p in state.vgg.parameters())
    before = {name: tensor.data_ptr() for name, tensor in state.tensors().items()}
    feature_gan.step(state, recipe, pair(recipe))
    assert {name: tensor.data_ptr() for name, tensor in state.tensors().items()} == before
    checkpoint.save(tmp_path, state, {"gan": "feature_gan", "recipe": recipes.to_dict(recipe)}, {})
    resumed = feature_gan.build(recipe, "cpu")
    checkpoint.load_newest(tmp_path, resumed)
    for seed in (1, 2):
        a, b = (feature_gan.step(one, recipe, pair(recipe, seed=seed)) for one in (state, resumed))
        assert {name: float(v) for name, v in a.items()} == {name: float(v) for name, v in b.items()}


def test_without_its_weight_the_features_are_not_computed():
    recipe = tiny(lambda_features=0.0, ngf=2, ndf=2)
    state = feature_gan.build(recipe, "cpu")
    state.vgg.register_forward_pre_hook(lambda *_: pytest.fail("called"))
    logs = feature_gan.step(state, recipe, pair(recipe))
    assert torch.equal(logs["loss/G"], logs["loss/G_gan"])
    assert "loss/G_features" not in logs


def test_a_step_in_16_bits_is_near(monkeypatch):
    dtype = torch.bfloat16
    monkeypatch.setattr(optim, "precision", lambda recipe, device: (dtype if recipe.amp else torch.float32, ""))
    rows, types = {}, {}
    for amp in (False, True):
        recipe = tiny(amp=amp)
        state = feature_gan.build(recipe, "cpu")
        types[amp] = {p.dtype for p in state.vgg.parameters()}
        rows[amp] = {name: float(v) for name, v in feature_gan.step(state, recipe, pair(recipe)).items()}
    assert types == {False: {torch.float32}, True: {dtype}}
    assert rows[True] == pytest.approx(rows[False], rel=0.05, abs=0.02)


def test_features_hold_a_generator_back():
    last = {}
    for weight in (0.0, 20.0):
        recipe = tiny(lambda_features=weight, ngf=4, ndf=4, lr=2e-3)
        state = feature_gan.build(recipe, "cpu")
        for seed in range(30):
            feature_gan.step(state, recipe, pair(recipe, seed=seed))
        A, _ = pair(recipe, seed=99)
        with torch.no_grad():
            painted = feature_gan.translate(state.G, recipe, A)
            last[weight] = float((state.vgg(painted) - state.vgg(A)).abs().mean())
    assert last[20.0] < 0.9 * last[0.0]


# Use, recipes


@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
@pytest.mark.parametrize("channels", [(3, 3), (3, 1)])
def test_what_people_and_the_measure_see(direction, channels):
    recipe = tiny(Facts(channels), ngf=2, ndf=2, direction=direction)
    state, batch = feature_gan.build(recipe, "cpu"), pair(recipe)
    x, y = batch if direction == "AtoB" else batch[::-1]
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    painted = feature_gan.translate(state.G, recipe, x)
    alone = feature_gan.translate(state.G, recipe, x[1:2], torch.tensor([9, 9]))
    torch.testing.assert_close(alone, painted[1:2], rtol=0, atol=1e-5)
    columns = feature_gan.sample(state.G, recipe, batch)
    assert list(columns) == ["input", "output", "real"]
    assert all(torch.equal(a, b) for a, b in zip(columns.values(), (x, painted, y), strict=True))
    measured = {name: float(value) for name, value in feature_gan.measure(state.nets, recipe, batch).items()}
    of_each = zip(painted.transpose(0, 1).numpy(), y.transpose(0, 1).numpy(), strict=True)
    colours = [np.abs(np.sort(a, axis=None) - np.sort(b, axis=None)).mean() for a, b in of_each]
    assert measured["colours"] == pytest.approx(127.5 * np.mean(colours), rel=1e-5)
    assert list(measured) == ["colours", *(["colours_before", "change"] if channels == (3, 3) else [])]
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    A, B = feature_gan.example(recipe)
    assert (A.device.type, A.shape, B.shape) == ("meta", batch.A.shape, batch.B.shape)


def test_from_grey_to_colour_on_the_command_line(tmp_path):
    """B has one channel, A three: what goes from B to A takes grey pictures."""
    flags = ["--preset", "tiny", "--output-channels", "1", "--direction", "BtoA", "--max-steps", "1"]
    assert main(["train", "feature_gan", "--run", str(tmp_path / "run"), "--device", "cpu", *flags]) == 0
    Image.new("L", (40, 36), 90).save(tmp_path / "a.png")
    translate = ["translate", str(tmp_path / "run"), str(tmp_path / "a.png"), "--device", "cpu"]
    assert main([*translate, "-o", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert (image.size, image.mode) == ((40, 36), "RGB")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_recipes(preset):
    recipe = feature_gan.resolve(Recipe(**PRESETS[preset]))
    assert (recipe.direction, recipe.generator, recipe.input_channels) == ("AtoB", "resnet_6", 3)
    assert feature_gan.resolve(recipe) == recipe
    assert recipe.features == ("random" if preset in ("demo", "tiny") else "vgg16")


def test_the_paper_is_the_paper():
    recipe = Recipe(**PRESETS["paper"])
    expected = {"lambda_features": 10.0, "feature_size": 224, "pool_size": 50, "gan_mode": "lsgan", "batch": 1}
    expected |= {"lr": 2e-4, "beta1": 0.5, "epochs": 100, "decay_epochs": 100, "n_layers_d": 3, "ngf": 64}
    assert {name: getattr(recipe, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 250}, "--crop-size must be a multiple of 4 such as 248 or 252, got 250"),
        ({"feature_size": 100}, "--feature-size must be a multiple of 8 such as 96 or 104, got 100"),
        ({"crop_size": 300}, "--load-size must be at least --crop-size 300"),
        ({"n_layers_d": 6, "crop_size": 128}, "a crop size of at least 192, or fewer layers"),
        ({"features": "alexnet"}, "--features must be one of vgg16, random"),
        ({"features": "random", "vgg_weights": "x"}, "--vgg-weights is for --features vgg16"),
        ({"lambda_gan": 0.0, "lambda_features": 0.0}, "there is nothing to train G with"),
    ],
)
def test_mistakes_in_a_recipe_are_one_clear_line(fields, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**fields)
    assert "\n" not in str(caught.value)


def test_channels_that_do_not_fit():
    with pytest.raises(UserError, match="--input-channels is 1, but the data has 3"):
        feature_gan.resolve(Recipe(input_channels=1))
    with pytest.raises(UserError, match=r"--output-channels must be 1 .grey. or 3 .colour. for the features, got 12"):
        feature_gan.resolve(Recipe(), Facts((3, 12)))


def test_build_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = feature_gan.build(tiny(), "cpu")
    torch.manual_seed(2)
    again, other = feature_gan.build(tiny(), "cpu"), feature_gan.build(tiny(seed=1), "cpu")
    for tensors, same in ((again, True), (other, False)):
        assert torch.equal(first.vgg.convs[3].weight, tensors.vgg.convs[3].weight)  # no checkpoint has them
        assert torch.equal(first.G.stem.conv.weight, tensors.G.stem.conv.weight) == same


# On a GPU

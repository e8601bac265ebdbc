"""StackGAN: counts and fingerprints of its networks, both stages against the equations in stock PyTorch, its use."""

import copy
import dataclasses
import functools
import math

import fingerprint
import numpy as np
import pytest
import stock
import torch
import torch.nn.functional as F
from stock import bce, noise
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pygan import checkpoint, ops
from pygan.data import CaptionedWrong, Facts
from pygan.errors import UserError
from pygan.gans import stackgan
from pygan.gans.stackgan import PRESETS, Recipe, model
from pygan.gans.stackgan import recipe as recipe_module
from pygan.nets.text import Condition, ConditioningAugmentation, kl_to_standard_normal
from pygan.ops import philox
from pygan.state import State

TEXT = 12  # length of the embeddings of these tests
TF = {name: value for name, value in PRESETS["tf"].items() if not name.startswith("halve")}
CA = {"text_dim": 1024, "c_dim": 128, "ca_act": "leaky_relu", "sample": True}
ON_A_GPU = {
    "tf": TF,
    "text once": {"text_twice": False},
    "tf in fp16": {**TF, "amp": True, "amp_dtype": "fp16", "gf": 32},
}
doubled = functools.partial(stock.doubled, stackgan)
made = functools.partial(noise, stackgan)


def tiny(stage="1", **fields):
    """A resolved recipe of one stage: sketches of 16 pixels, pictures of 32."""
    size = {"crop_size": 16} if stage == "1" else {}
    return stackgan.resolve(Recipe(**{**PRESETS["tiny"], "stage": stage, **size, **fields}), Facts((3,), text_dim=TEXT))


def stage1(arch="pytorch", gf=128, size=64, **fields):
    return model.StageI(size, gf=gf, z_dim=100, arch=arch, **{**CA, **fields})


def stage2(arch="pytorch", gf=128, r=4, size=256, text_twice=True, **fields):
    return model.StageII(size, 64, gf=gf, r=r, arch=arch, text_twice=text_twice, **{**CA, **fields})


def judge(stage, arch="pytorch", df=64, size=None):
    return model.TextD(size or (64, 256)[stage - 1], stage=stage, df=df, text_dim=1024, c_dim=128, arch=arch)


# The networks


@pytest.mark.parametrize(
    ("make", "parameters", "statistics"),
    [
        (stage1, 10_301_248, 34_688),
        (lambda: judge(1), 5_715_713, 2_816),
        (stage2, 26_290_080, 11_712),
        (lambda: judge(2), 71_269_122, 12_032),
        (lambda: stage2(text_twice=False), 25_437_856, 11_712),
        (lambda: stage1(gf=192), 20_020_832, None),
        (lambda: judge(1, df=96), 12_407_425, None),
        (lambda: stage2(gf=192, r=2), 37_130_480, None),
        (lambda: judge(2, df=96), 159_889_538, None),
        (lambda: stage1("tf"), 14_264_192, None),
        (lambda: judge(1, "tf"), 4_029_824, None),
        (lambda: stage2("tf"), 26_290_080, None),
        (lambda: judge(2, "tf"), 48_603_520, None),
    ],
)
def test_parameter_counts(make, parameters, statistics):
    with torch.device("meta"):
        net = make()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert statistics in (None, sum(b.numel() for b in net.buffers()))


def test_presets_have_the_networks_of_the_papers():
    counts = {}
    with torch.device("meta"):
        for preset in ("paper", "coco", "tf", "text-once", "one-stage"):
            for phase in stackgan.phases(Recipe(**PRESETS[preset])):
                G, D = recipe_module.generator(phase), recipe_module.discriminator(phase)
                counts[preset, phase.stage] = [sum(p.numel() for p in net.parameters()) for net in (G, D)]
    assert counts["paper", "1"] == [10_301_248, 5_715_713]
    assert counts["paper", "2"] == [10_301_248 + 26_290_080, 71_269_122]
    assert counts["coco", "2"] == [20_020_832 + 37_130_480, 159_889_538]
    assert counts["tf", "2"] == [14_264_192 + 26_290_080, 48_603_520]
    assert counts["text-once", "2"] == [10_301_248 + 25_437_856, 71_269_122]
    assert set(counts) == {(p, s) for p in ("paper", "coco", "tf", "text-once") for s in "12"} | {("one-stage", "1")}


@pytest.fixture
def whole_upsampling(monkeypatch):
    """Nearest x2 and 3x3 as two steps, as the published figures count them; ours takes 4/9 of it."""

    def stock(x, weight, bias=None):
        return F.conv2d(F.interpolate(x, scale_factor=2.0), weight, bias, padding=1)

    monkeypatch.setattr(ops, "upsample_conv3x3", stock)


@pytest.mark.parametrize(
    ("make", "shapes", "expected"),
    [
        (stage1, [(1024,), (100,), (128,)], 1_219_035_136),
        (lambda: judge(1), [(3, 64, 64), (128,)], 151_003_136),
        (stage2, [(3, 64, 64), (1024,), (128,)], 11_563_433_984),
        (lambda: judge(2), [(3, 256, 256), (128,)], 3_159_375_872),
        (lambda: stage2(text_twice=False), [(3, 64, 64), (1024,), (128,)], 11_412_176_896),
    ],
)
def test_multiplications_of_one_picture(make, shapes, expected, whole_upsampling):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        make()(*(torch.empty(1, *shape) for shape in shapes))
    assert counter.get_total_flops() == 2 * expected


@pytest.mark.parametrize(
    ("make", "shapes", "giga"),
    [
        (lambda: stage1(gf=192), [(1024,), (100,), (128,)], 2.734),
        (lambda: judge(1, df=96), [(3, 64, 64), (128,)], 0.330),
        (lambda: stage2(gf=192, r=2), [(3, 64, 64), (1024,), (128,)], 20.415),
        (lambda: judge(2, df=96), [(3, 256, 256), (128,)], 7.064),
    ],
)
def test_multiplications_of_the_wide_nets(make, shapes, giga, whole_upsampling):
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        make()(*(torch.empty(1, *shape) for shape in shapes))
    assert counter.get_total_flops() / 2e9 == pytest.approx(giga, abs=5e-4)


@pytest.mark.parametrize(("stage", "giga", "of_d"), [("1", 5.151, 0.151003136), ("2", 64.370, 3.159375872)])
def test_multiplications_of_one_step(stage, giga, of_d, whole_upsampling, monkeypatch):
    def update(state, name, loss):
        loss.backward(inputs=[p for p in state.nets[name].parameters() if p.requires_grad])

    monkeypatch.setattr(recipe_module, "update", update)
    monkeypatch.setattr(recipe_module, "end_step_", lambda state, recipe: None)
    recipe = Recipe(stage=stage, batch=1000)  # nearly as many pairs with the next text as pictures
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        G, D = recipe_module.generator(recipe), recipe_module.discriminator(recipe)
        rng = torch.empty(2, dtype=torch.int64)
        state = State(nets={"G": G, "D": D}, opts={}, buffers={"rng": rng})
        stackgan.step(state, recipe, stackgan.example(recipe))
    # the published figure has gradients of D's weights in G's update, which nobody wants
    assert counter.get_total_flops() / 2e9 / 1000 == pytest.approx(giga - of_d, abs=1e-3)


OF_STAGE_1, OF_STAGE_2 = [(1024,), (100,), (128,)], [(3, 64, 64), (1024,), (128,)]


@pytest.mark.parametrize(
    ("make", "shapes", "which", "expected"),
    [
        (lambda: stage1(ca_act="relu"), OF_STAGE_1, 0, (-0.255170282, 0.543878727, 0.364783824, 0.117545709)),
        (stage1, OF_STAGE_1, 0, (-0.255166854, 0.543248611, 0.417671886, 0.163687980)),
        (lambda: judge(1), [(3, 64, 64), (128,)], 0, (-0.213077047, 0.213077047, -0.062653802, -0.363500291)),
        (lambda: stage2(ca_act="relu"), OF_STAGE_2, 0, (0.204604393, 0.565457973, 0.617618481, 0.240294995)),
        (stage2, OF_STAGE_2, 0, (0.204231881, 0.565109674, 0.606034305, 0.260040930)),
        (lambda: judge(2), [(3, 256, 256), (128,)], 0, (0.682041036, 0.682041036, 0.461585855, 0.902496217)),
        (lambda: judge(2), [(3, 256, 256), (128,)], 1, (-0.331718330, 1.502618060, 1.170899730, -1.834336390)),
    ],
    ids=["G1 relu", "G1", "D1", "G2 relu", "G2", "D2", "D2 alone"],
)
def test_fingerprint(make, shapes, which, expected):
    inputs = [fingerprint.filled((2, *shape), 9999 - i) for i, shape in enumerate(shapes)]
    with torch.device("meta"):
        net = make()
    fingerprint.fill_(net, lambda net: net(*(x.to("meta", torch.float32) for x in inputs)))
    with torch.no_grad():
        output = net(*inputs)[which]
    np.testing.assert_allclose(fingerprint.signature(output), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("size", "sketch", "width"),
    [(256, 64, 8), (128, 64, 16), (64, 32, 16), (64, 64, 32), (32, 16, 16)],
)
def test_stages_of_other_sizes(size, sketch, width):
    with torch.device("meta"):
        text, z, eps = torch.empty(2, 1024), torch.empty(2, 100), torch.empty(2, 128)
        painted = stage1(gf=32, size=size)(text, z, eps)[0]
        assert painted.shape == (2, 3, size, size)
        net = model.StageII(size, sketch, gf=32, r=1, arch="pytorch", text_twice=True, **CA)
        assert net(torch.empty(2, 3, sketch, sketch), text, eps)[0].shape == (2, 3, size, size)
        assert net.head.in_channels == width
        for arch in ("pytorch", "tf"):
            for stage in (1, 2):
                with_text, alone = judge(stage, arch, df=8, size=size)(painted, text if arch == "tf" else eps)
                assert with_text.shape == (2, 1, 1, 1)
                assert (alone is not None) == (stage == 2 and arch == "pytorch")


# The condition


def test_the_divergence_is_that_of_two_gaussians():
    ones = Condition(torch.empty(0), torch.ones(2, 3), torch.zeros(2, 3))
    assert kl_to_standard_normal(ones) == 0.5
    assert kl_to_standard_normal(ones, reduction="sum") == 1.5
    mu, log_variance = torch.randn(5, 7), torch.randn(5, 7)
    normals = [
        torch.distributions.Normal(mu, (0.5 * log_variance).exp()),
        torch.distributions.Normal(torch.zeros(5, 7), torch.ones(5, 7)),
    ]
    expected = torch.distributions.kl_divergence(*normals)
    condition = Condition(mu, mu, log_variance)
    torch.testing.assert_close(kl_to_standard_normal(condition), expected.mean())
    torch.testing.assert_close(kl_to_standard_normal(condition, reduction="sum"), expected.sum() / 5)
    with pytest.raises(ValueError, match='reduction must be "mean" or "sum"'):
        kl_to_standard_normal(condition, reduction="none")


def test_conditions_are_drawn_around_their_mean():
    torch.manual_seed(0)
    text, eps = torch.randn(3, TEXT), torch.randn(3, 5)
    for log_sigma in (False, True):
        augment = ConditioningAugmentation(TEXT, 5, log_sigma=log_sigma)
        c, mu, log_variance = augment(text, eps)
        second = F.leaky_relu(augment.fc.linear(text), 0.2)[:, 5:]
        sigma = second.exp() if log_sigma else (second / 2).exp()
        torch.testing.assert_close(c, mu + eps * sigma)
        torch.testing.assert_close((log_variance / 2).exp(), sigma)
        assert augment(text, None).c is augment(text, None).mu or torch.equal(augment(text, None).c, mu)
    without = ConditioningAugmentation(TEXT, 5, sample=False)
    assert torch.equal(without(text, eps).c, without(text, eps).mu)
    assert (ConditioningAugmentation(TEXT, 50, act="relu")(text, None).mu >= 0).all()


def test_truncated_noise():
    rng = torch.tensor([3, 0])
    drawn = recipe_module._truncated_normal(rng, 2, (200, 100), dtype=torch.float64)
    assert drawn.abs().max() < 2.0
    assert drawn.abs().max() > 1.99
    inside = math.erf(math.sqrt(2.0))  # variance of N(0, 1) within two standard deviations
    variance = 1.0 - 4.0 * math.exp(-2.0) / math.sqrt(2.0 * math.pi) / inside
    assert float(drawn.var()) == pytest.approx(variance, abs=0.01)
    below_one = 0.5 * (1 + math.erf(math.sqrt(0.5)) / inside)
    assert float((drawn < 1.0).double().mean()) == pytest.approx(below_one, abs=0.005)


# The step, against stock PyTorch


def conv(c, c_next, kernel, stride=1, bias=False):
    return nn.Conv2d(c, c_next, kernel, stride, (kernel - 1) // 2, bias=bias)


class PlainResidual(nn.Module):
    def __init__(self, c, inner, act):
        super().__init__()
        shapes = [(c, inner, 1), (inner, inner, 3), (inner, c, 3)] if inner else [(c, c, 3), (c, c, 3)]
        layers = []
        for a, b, kernel in shapes:
            layers += [conv(a, b, kernel), nn.BatchNorm2d(b), act]
        self.body, self.act = nn.Sequential(*layers[:-1]), act

    def forward(self, x):
        return self.act(x + self.body(x))


class PlainCA(nn.Module):
    """Equation 3's c, and what the divergence of equation 4 is of."""

    def __init__(self, recipe):
        super().__init__()
        self.recipe, self.fc = recipe, nn.Linear(TEXT, 2 * recipe.c_dim)

    def forward(self, text, eps):
        h = self.fc(text)
        mu, spread = (F.relu(h) if self.recipe.ca_act == "relu" else F.leaky_relu(h, 0.2)).chunk(2, dim=1)
        log_sigma = spread if self.recipe.arch == "tf" else spread / 2
        c = mu + eps * log_sigma.exp() if self.recipe.cond_augmentation else mu
        each = -log_sigma + 0.5 * (-1 + (2 * log_sigma).exp() + mu**2)
        return c, mu, each.sum(1).mean() if self.recipe.kl_reduction == "sum" else each.mean()


class PlainStageI(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        gf, self.tf = recipe.gf, recipe.arch == "tf"
        self.ca = PlainCA(recipe)
        self.fc = nn.Linear(recipe.z_dim + recipe.c_dim, 8 * gf * 16, bias=False)
        self.bn = nn.BatchNorm1d(8 * gf * 16)
        up, size = nn.Upsample(scale_factor=2), recipe.crop_size if recipe.stage == "1" else recipe.low_size
        blocks = [[up, conv(8 * gf, 4 * gf, 3), nn.BatchNorm2d(4 * gf), nn.ReLU()]]  # 4 -> 8
        blocks += [[up, conv(4 * gf, 2 * gf, 3), nn.BatchNorm2d(2 * gf), nn.ReLU()]]  # 8 -> 16
        blocks += [[up, conv(2 * gf, gf, 3), nn.BatchNorm2d(gf), nn.ReLU()]] if size == 32 else []
        assert size in (16, 32)
        if self.tf:  # the last one is straight to the picture
            self.first = nn.Sequential(*blocks[0][:-1])
            self.middle = nn.Sequential(*(layer for block in blocks[1:-1] for layer in block))
            self.residuals = nn.ModuleList(
                PlainResidual(c, inner, nn.ReLU()) for c, inner in ((8 * gf, 2 * gf), (4 * gf, gf))
            )
            self.last = nn.Sequential(up, conv(blocks[-1][1].in_channels, 3, 3), nn.Tanh())
        else:
            layers = [layer for block in blocks for layer in block]
            self.body = nn.Sequential(*layers, conv(blocks[-1][1].out_channels, 3, 3), nn.Tanh())

    def forward(self, text, z, eps):
        c, mu, kl = self.ca(text, eps)
        h = self.bn(self.fc(torch.cat((c, z) if self.tf else (z, c), dim=1)))
        if not self.tf:
            return self.body(F.relu(h).view(len(z), -1, 4, 4)), mu, kl
        h = self.residuals[0](h.view(len(z), -1, 4, 4))
        return self.last(self.middle(self.residuals[1](self.first(h)))), mu, kl


class PlainStageII(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        gf, relu, up = recipe.gf, nn.ReLU(), nn.Upsample(scale_factor=2)
        down = [
            conv(gf, 2 * gf, 4, 2),
            nn.BatchNorm2d(2 * gf),
            relu,
            conv(2 * gf, 4 * gf, 4, 2),
            nn.BatchNorm2d(4 * gf),
        ]
        self.encode = nn.Sequential(conv(3, gf, 3), relu, *down, relu)
        self.ca = PlainCA(recipe) if recipe.text_twice else None
        joint = 4 * gf + (recipe.c_dim if recipe.text_twice else 0)
        layers = [conv(joint, 4 * gf, 3), nn.BatchNorm2d(4 * gf), relu]
        layers += [PlainResidual(4 * gf, 0, relu) for _ in range(recipe.r)]
        for c in (4 * gf, 2 * gf, gf):  # 4 -> 32
            layers += [up, conv(c, c // 2, 3), nn.BatchNorm2d(c // 2), relu]
        self.body = nn.Sequential(*layers, conv(gf // 2, 3, 3), nn.Tanh())

    def forward(self, sketch, text, eps):
        h, mu, kl = self.encode(sketch), None, None
        if self.ca is not None:
            c, mu, kl = self.ca(text, eps)
            h = torch.cat((h, c[:, :, None, None].expand(-1, -1, *h.shape[2:])), dim=1)
        return self.body(h), mu, kl


class PlainD(nn.Module):
    def __init__(self, recipe):
        super().__init__()
        df, act, tf, sketches = recipe.df, nn.LeakyReLU(0.2), recipe.arch == "tf", recipe.stage == "1"
        layers, c = [conv(3, df, 4, 2), act], df
        while recipe.crop_size > 8 * (c // df):  # down to 4
            layers += [conv(c, 2 * c, 4, 2), nn.BatchNorm2d(2 * c), act]
            c *= 2
        if tf and sketches and recipe.crop_size > 16:
            layers[-4] = nn.Identity()
        if tf:
            layers[-1] = PlainResidual(c, c // 4, act)
        self.trunk = nn.Sequential(*layers)
        self.text = nn.Sequential(nn.Linear(TEXT, recipe.c_dim), act) if tf else nn.Identity()
        kernel = 1 if tf else 3
        self.joint = nn.Sequential(
            conv(c + recipe.c_dim, c, kernel), nn.BatchNorm2d(c), act, nn.Conv2d(c, 1, 4, bias=not tf)
        )
        self.alone = None if tf or sketches else nn.Conv2d(c, 1, 4)

    def pair(self, features, about):
        about = self.text(about)[:, :, None, None].expand(-1, -1, 4, 4)
        return self.joint(torch.cat((features, about), dim=1))


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def beside(plain, net):
    """(name, parameter or statistic of a stock net, the same one of ours)."""
    layers = [[m for m in one.modules() if isinstance(m, nn.Conv2d | nn.Linear)] for one in (plain, net)]
    for i, (own, theirs) in enumerate(zip(*layers, strict=True)):
        yield f"weight {i}", own.weight, theirs.weight
        if own.bias is not None:
            yield f"bias {i}", own.bias, theirs.bias
    norms = [m for m in plain.modules() if isinstance(m, NORMS)]
    theirs = [m for m in net.modules() if getattr(m, "running_mean", None) is not None]
    for i, (own, their) in enumerate(zip(norms, theirs, strict=True)):
        for name in ("weight", "bias", "running_mean", "running_var"):
            yield f"norm {i} {name}", getattr(own, name), getattr(their, name)


CASES = {
    "stage I": ("1", {}),
    "stage I, relu, kl summed": ("1", {"ca_act": "relu", "kl_reduction": "sum", "lambda_kl": 0.5}),
    "stage I, c not drawn, no wrong pairs": ("1", {"cond_augmentation": False, "use_wrong_pairs": False}),
    "stage I, other pictures": ("1", {"wrong_pairs": "other", "weight_decay": 1e-4}),
    "stage I, tf": ("1", TF),
    "stage I, 32 pixels": ("1", {"crop_size": 32}),
    "stage I, tf, 32 pixels": ("1", {"crop_size": 32, **TF}),
    "stage II": ("2", {}),
    "stage II, no wrong pairs": ("2", {"use_wrong_pairs": False, "r": 0}),
    "stage II, text once": ("2", {"text_twice": False}),
    "stage II, other pictures": ("2", {"wrong_pairs": "other", "redraw": True}),
    "stage II, tf": ("2", TF),
}


@pytest.mark.parametrize("case", CASES)
def test_three_steps_equal_the_equations_in_stock_pytorch(case):
    stage, fields = CASES[case]
    recipe = tiny(stage, lr=1e-3, batch=4, **fields)
    tf = recipe.arch == "tf"
    state = doubled(recipe)
    G1, G2, D = PlainStageI(recipe), PlainStageII(recipe), PlainD(recipe)
    pairs = [(f"G1 {name}", a, b) for name, a, b in beside(G1.double(), state.G.stage1)]
    if stage == "2":
        pairs += [(f"G2 {name}", a, b) for name, a, b in beside(G2.double(), state.G.stage2)]
    pairs += [(f"D {name}", a, b) for name, a, b in beside(D.double(), state.D)]
    with torch.no_grad():
        for _, own, theirs in pairs:
            own.copy_(theirs)
    numbers = {"lr": 1e-3, "betas": (0.5, 0.999), "weight_decay": recipe.weight_decay, "foreach": False}
    opt_G = torch.optim.Adam((G1 if stage == "1" else G2).parameters(), **numbers)
    opt_D = torch.optim.Adam(D.parameters(), **numbers)
    normal = recipe_module._truncated_normal if tf else philox.normal
    frozen = copy.deepcopy(state.G.stage1.state_dict())

    def paint(text, rng, shift):
        z = philox.normal(rng, 1 + shift, (4, recipe.z_dim), dtype=torch.float64)
        eps = [normal(rng, stream + shift, (4, recipe.c_dim), dtype=torch.float64) for stream in (2, 3)]
        sketch, mu, kl = G1(text, z, eps[0])
        if stage == "1":
            return sketch, mu, kl
        image, mu_2, kl = G2(sketch.detach(), text, eps[1])
        return image, (mu if mu_2 is None else mu_2), kl

    for i in range(3):
        batch = made(recipe, seed=i, dtype=torch.float64)
        rng = state.rng.clone()
        logs = stackgan.step(state, recipe, batch)

        fake, mu, kl = paint(batch.text, rng, 0)
        about = batch.text if tf else mu.detach()
        real_features, fake_features = D.trunk(batch.image), D.trunk(fake.detach())
        real = bce(D.pair(real_features, about), 1.0)
        expected = {"real": real, "fake": bce(D.pair(fake_features, about), 0.0)}
        lost = [expected["fake"]]
        if recipe.use_wrong_pairs and recipe.wrong_pairs == "next":
            expected["wrong"] = bce(D.pair(real_features[:3], about[1:]), 0.0)
        elif recipe.use_wrong_pairs:
            expected["wrong"] = bce(D.pair(D.trunk(batch.wrong), about), 0.0)
        if "wrong" in expected:
            lost.append(expected["wrong"])
        if D.alone is None:
            loss_D = real + sum(lost) / len(lost)
        else:
            expected["real_alone"] = bce(D.alone(real_features), 1.0)
            expected["fake_alone"] = bce(D.alone(fake_features), 0.0)
            lost.append(expected["fake_alone"])
            loss_D = (real + expected["real_alone"]) / 2 + sum(lost) / len(lost)
        opt_D.zero_grad()
        loss_D.backward()
        opt_D.step()
        expected = {f"loss/D_{name}": value for name, value in expected.items()} | {"loss/D": loss_D}

        if recipe.redraw:
            fake, mu, kl = paint(batch.text, rng, 8)
        features = D.trunk(fake)
        loss_G = expected["loss/G_fake"] = bce(D.pair(features, about if tf else mu.detach()), 1.0)
        if D.alone is not None:
            expected["loss/G_fake_alone"] = bce(D.alone(features), 1.0)
            loss_G = loss_G + expected["loss/G_fake_alone"]
        if recipe.cond_augmentation and kl is not None:
            expected["loss/kl"] = kl
            loss_G = loss_G + recipe.lambda_kl * kl
        opt_G.zero_grad()
        loss_G.backward()
        opt_G.step()
        expected["loss/G"] = loss_G

        assert {name for name in logs if name.startswith("loss/")} == set(expected)
        for name, value in expected.items():
            torch.testing.assert_close(logs[name].double(), value.detach(), rtol=1e-9, atol=1e-9, msg=name)
    for name, own, theirs in pairs:
        torch.testing.assert_close(theirs, own, rtol=0, atol=1e-9, msg=name)
    if stage == "2":  # of a stage I below, nothing but running statistics moves
        moved = {k for k, v in state.G.stage1.state_dict().items() if not torch.equal(v, frozen[k])}
        assert moved == {k for k in frozen if ".running_" in k}


def test_parts_of_the_objective_have_their_weights():
    expected = {  # at logits of 0 each cross-entropy is log 2
        ("1", "next"): (2.0, 1.0), ("1", "off"): (2.0, 1.0), ("2", "next"): (2.0, 2.0), ("2", "off"): (2.0, 2.0),
    }  # fmt: skip
    for (stage, pairs), (of_d, of_g) in expected.items():
        recipe = tiny(stage, lr=0.0, lambda_kl=0.0, use_wrong_pairs=pairs != "off")
        state = stackgan.build(recipe, "cpu")
        for module in state.D.modules():
            if isinstance(module, nn.Conv2d) and module.out_channels == 1:
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
        logs = stackgan.step(state, recipe, made(recipe))
        assert float(logs["loss/D"]) == pytest.approx(of_d * math.log(2), abs=1e-5)
        assert float(logs["loss/G"]) == pytest.approx(of_g * math.log(2), abs=1e-5)


def test_a_weight_of_the_divergence():
    losses = []
    for weight in (0.0, 2.0):
        recipe = tiny("2", lambda_kl=weight)
        logs = stackgan.step(stackgan.build(recipe, "cpu"), recipe, made(recipe))
        losses.append((float(logs["loss/G"]), float(logs["loss/kl"])))
    (without, kl), (with_it, same) = losses
    assert kl == same > 0
    assert with_it == pytest.approx(without + 2 * kl, rel=1e-6)


# What a step does, and what it leaves out


@pytest.mark.parametrize("stage", ["1", "2"])
def test_a_step_moves_both_nets_and_keeps_every_address(stage):
    recipe = tiny(stage, ema_half_life_images=4.0)
    state = stackgan.build(recipe, "cpu")
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.tensors().items()}
    stackgan.step(state, recipe, made(recipe))
    for name, tensor in state.tensors().items():
        frozen = stage == "2" and ".stage1." in name and ".running_" not in name
        assert tensor.data_ptr() == before[name][0], name
        assert torch.equal(tensor, before[name][1]) == frozen, name
    assert state.rng.tolist() == [0, 1]
    assert not any("stage1" in name for name in state.opts["G"].tensors()) or stage == "1"


def test_an_average_follows_the_stage_that_is_trained():
    recipe = tiny("2", ema_half_life_images=2.0)  # half of the way in a step of two pictures
    state = stackgan.build(recipe, "cpu")
    before = {name: value.clone() for name, value in state.G.state_dict().items()}
    stackgan.step(state, recipe, made(recipe))
    for name, value in state.ema_G.state_dict().items():
        torch.testing.assert_close(value, (before[name] + state.G.state_dict()[name]) / 2, msg=name)


def test_each_step_draws_new_noise():
    recipe = tiny()
    images = []
    for offset in (0, 0, 1):
        state = stackgan.build(recipe, "cpu")
        state.rng[1] += offset
        images.append(float(stackgan.step(state, recipe, made(recipe))["loss/G_fake"]))
    assert images[0] == images[1] != images[2]


def test_discriminators_learn_nothing_from_the_generators_update():
    recipe = tiny("2", lr=1e-3)
    state = stackgan.build(recipe, "cpu")
    seen = {}
    step = state.opts["G"].update

    def update(*arguments):
        seen["before"] = [p.clone() for p in state.D.parameters()]
        step(*arguments)
        seen["after"] = [p.clone() for p in state.D.parameters()]

    state.opts["G"].update = update
    stackgan.step(state, recipe, made(recipe))
    assert all(torch.equal(a, b) for a, b in zip(seen["before"], seen["after"], strict=True))
    assert all(p.grad is None for p in state.D.parameters())


@pytest.mark.usefixtures("low_precision")
@pytest.mark.parametrize("fields", [{}, TF], ids=["pytorch", "tf"])
@pytest.mark.parametrize("stage", ["1", "2"])
def test_a_step_in_16_bits_is_near(stage, fields):
    rows = {}
    for amp in (False, True):
        recipe = tiny(stage, amp=amp, batch=8, **fields)
        state = stackgan.build(recipe, "cpu")
        rows[amp] = [
            {k: float(v) for k, v in stackgan.step(state, recipe, made(recipe, seed=i)).items()} for i in range(2)
        ]
        assert stackgan.sample(state.G, recipe, made(recipe))["stage I"].dtype == torch.float32
    for exact, low in zip(rows[False], rows[True], strict=True):
        assert low == pytest.approx(exact, rel=0.05, abs=0.03)


# Stages one after the other


def test_both_stages_have_their_own_numbers():
    first, second = stackgan.phases(Recipe())
    assert (first.stage, first.load_size, first.crop_size) == ("1", 76, 64)
    assert (second.stage, second.load_size, second.crop_size) == ("2", 304, 256)
    assert (first.batch, first.epochs, first.halve_every) == (second.batch, second.epochs, second.halve_every)
    first, second = stackgan.phases(Recipe(**PRESETS["coco"]))
    assert (first.batch, first.epochs, first.halve_every) == (128, 120, 20)
    assert (second.batch, second.epochs, second.halve_every) == (40, 100, 20)
    first, second = stackgan.phases(Recipe(load_size=150, crop_size=128, steps=7, steps_2=5))
    assert (first.load_size, first.crop_size, first.steps) == (75, 64, 7)
    assert (second.load_size, second.crop_size, second.steps) == (150, 128, 5)
    (only,) = stackgan.phases(Recipe(stage="1"))
    assert (only.load_size, only.crop_size) == (76, 64)
    with pytest.raises(UserError, match="--stage 2 needs a trained stage I"):
        stackgan.phases(Recipe(stage="2"))


def test_learning_rates_are_halved():
    recipe = Recipe(**PRESETS["tf"])
    factors = [stackgan.lr_factor(recipe, epoch, step=0) for epoch in (1, 50, 51, 100, 101, 600)]
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.25, 0.5**11]
    assert [stackgan.lr_factor(Recipe(halve_every=0), epoch, step=0) for epoch in (1, 600)] == [1.0, 1.0]
    falling = Recipe(halve_every=0, epochs=1, decay_epochs=1)
    assert [stackgan.lr_factor(falling, epoch, step=0) for epoch in (1, 2)] == [1.0, 0.5]


@pytest.mark.parametrize("ema", [0.0, 4.0])
def test_stage_2_paints_over_the_stage_1_before(ema, tmp_path):
    both = stackgan.resolve(Recipe(**{**PRESETS["tiny"], "ema_half_life_images": ema}), Facts((3,), text_dim=TEXT))
    first, second = stackgan.phases(both)
    state = stackgan.build(first, "cpu")
    for i in range(3):
        stackgan.step(state, first, made(first, seed=i))
    trained = (state.ema_G or state.G).stage1.state_dict()

    follower = stackgan.build(second, "cpu")
    addresses = [tensor.data_ptr() for tensor in follower.tensors().values()]
    stackgan.inherit_(follower, state.networks())
    assert addresses == [tensor.data_ptr() for tensor in follower.tensors().values()]
    for net in (follower.G, follower.ema_G):
        if net is not None:
            assert all(torch.equal(value, trained[name]) for name, value in net.stage1.state_dict().items())

    checkpoint.save(tmp_path / "checkpoints", state, {"gan": "stackgan", "recipe": {}}, {})
    files = tmp_path / "checkpoints" / "last"
    for where in (tmp_path, files, files / ("G_ema.safetensors" if ema else "G.safetensors")):
        alone = dataclasses.replace(second, stage1=str(where))
        assert stackgan.phases(alone) == (alone,)
        taken = stackgan.build(alone, "cpu").G
        assert all(torch.equal(value, trained[name]) for name, value in taken.stage1.state_dict().items())
        assert not any(p.requires_grad for p in taken.stage1.parameters())
    with pytest.raises(UserError, match=r"^--stage1: .*shape.*trained with the same --arch"):
        stackgan.build(dataclasses.replace(alone, gf=8), "cpu")
    with pytest.raises(UserError, match=r"^--stage1 /nowhere must be a run directory"):
        stackgan.build(dataclasses.replace(alone, stage1="/nowhere"), "cpu")
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"^--stage1: .*not a readable safetensors file"):
        stackgan.build(dataclasses.replace(alone, stage1=str(tmp_path / "other.safetensors")), "cpu")


# Recipes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch": 1}, "--batch must be at least 2, got 1: BatchNorm"),
        ({"batch_2": 1}, "--batch-2 must be 0 or at least 2"),
        ({"crop_size": 96}, "--crop-size must be a power of two from 16 on such as 64 or 256, got 96"),
        ({"low_size": 8}, "--low-size must be a power of two"),
        ({"crop_size": 32}, "--crop-size must be at least --low-size 64, got 32"),
        ({"load_size": 200}, "--load-size must be at least the crop size 256, got 200"),
        ({"stage1": "x"}, "--stage1 is for --stage 2 alone, not --stage both"),
        ({"gf": 6}, "--gf must be a multiple of 4 for pictures of that size, got 6"),
        ({"lambda_kl": -1.0}, "--lambda-kl must be at least 0"),
        ({"arch": "keras"}, "--arch must be one of pytorch, tf"),
    ],
)
def test_recipes_that_cannot_be(fields, message):
    with pytest.raises(UserError, match=message):
        Recipe(**fields)


def test_the_papers_numbers():
    recipe = Recipe(**PRESETS["paper"])
    expected = {
        **{"stage": "both", "batch": 64, "epochs": 600, "decay_epochs": 0, "halve_every": 100, "lr": 2e-4},
        **{"beta1": 0.5, "beta2": 0.999, "weight_decay": 0.0, "arch": "pytorch", "gf": 128, "df": 64, "c_dim": 128},
        **{"z_dim": 100, "r": 4, "init": "normal", "init_gain": 0.02, "cond_augmentation": True, "ca_act": "lrelu"},
        **{"text_twice": True, "lambda_kl": 2.0, "kl_reduction": "mean", "use_wrong_pairs": True, "redraw": False},
        **{"wrong_pairs": "next", "captions_per_image": "one", "flip": True},
    }
    assert {name: getattr(recipe, name) for name in expected} == expected
    tf = {"arch": "tf", "init": "truncated", "captions_per_image": "mean4", "wrong_pairs": "other", "redraw": True}
    assert PRESETS["tf"].items() >= tf.items()
    first, second = stackgan.phases(Recipe(**PRESETS["tf"]))
    assert [(one.batch, one.epochs, one.halve_every) for one in (first, second)] == [(64, 600, 50), (64, 600, 100)]
    ablations = {"no-ca": {"cond_augmentation"}, "text-once": {"text_twice"}, "one-stage": {"stage", "crop_size"}}
    for preset, changed in ablations.items():
        other = Recipe(**PRESETS[preset])
        assert {f.name for f in dataclasses.fields(other) if getattr(other, f.name) != f.default} == changed


def test_resolving_takes_what_the_data_has():
    recipe = stackgan.resolve(Recipe(), Facts((3,), text_dim=384))
    assert (recipe.text_dim, recipe.crop_size, recipe.load_size) == (384, 256, 304)
    assert stackgan.resolve(recipe, Facts((3,), text_dim=384)) == recipe == stackgan.resolve(recipe)
    assert stackgan.resolve(Recipe()).text_dim == 1024
    with pytest.raises(UserError, match="--text-dim is 384, but captions of the data have 1024 values"):
        stackgan.resolve(recipe, Facts((3,), text_dim=1024))
    assert stackgan.resolve(Recipe(stage="1")).crop_size == 64


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_walks_a_step(preset):
    for phase in stackgan.phases(stackgan.resolve(Recipe(**PRESETS[preset]))):
        batch = stackgan.example(phase)
        assert isinstance(batch, CaptionedWrong) == (preset == "tf")
        assert batch.image.shape == (phase.batch, 3, phase.crop_size, phase.crop_size)
        assert batch.text.shape == (phase.batch, phase.text_dim)


@pytest.mark.parametrize("stage", ["1", "2"])
def test_weights_begin_as_the_authors_have_them(stage):
    recipe = tiny(stage, gf=16, df=16)
    state = stackgan.build(recipe, "cpu")
    head = state.D.conditional.head
    assert head.bias.abs().max() <= 1 / math.sqrt(head.weight[0].numel())
    assert head.bias != 0
    weights = torch.cat([m.weight.flatten() for m in state.G.modules() if isinstance(m, nn.Conv2d)])
    assert float(weights.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert weights.abs().max() > 0.05
    state = stackgan.build(tiny(stage, gf=16, df=16, **TF), "cpu")
    weights = torch.cat([m.weight.flatten() for m in state.G.modules() if isinstance(m, nn.Conv2d)])
    linear = torch.cat([m.weight.flatten() for m in state.G.modules() if isinstance(m, nn.Linear)])
    assert weights.abs().max() <= 0.04 < linear.abs().max()


# In use


@pytest.mark.parametrize("fields", [{}, TF, {"cond_augmentation": False}], ids=["pytorch", "tf", "no-ca"])
@pytest.mark.parametrize("stage", ["1", "2"])
def test_pictures_of_texts(stage, fields):
    recipe = tiny(stage, batch=4, **fields)
    state, batch = stackgan.build(recipe, "cpu"), made(tiny(stage, batch=4, **fields))
    for i in range(2):
        stackgan.step(state, recipe, made(recipe, seed=i))
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    images = stackgan.generate(state.G, recipe, 4, text=batch.text)
    assert images.shape == batch.image.shape
    assert images.abs().max() <= 1
    assert torch.equal(images, stackgan.generate(state.G, recipe, 4, text=batch.text))
    other = stackgan.generate(state.G, recipe, 4, torch.tensor([7, 0]), text=batch.text)
    assert not torch.equal(images, other)
    columns = stackgan.sample(state.G, recipe, batch)
    assert list(columns) == ["picture", "stage I", "stage II"][: 2 + (stage == "2")]
    torch.testing.assert_close(columns["stage II" if stage == "2" else "stage I"], images)
    assert all(column.shape == batch.image.shape for column in columns.values())
    measured = stackgan.measure(state.nets, recipe, batch)
    assert next(iter(measured)) == "colour_l1"
    assert all(value.dim() == 0 and value.isfinite() and not value.requires_grad for value in measured.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.tensors().items())
    with pytest.raises(ValueError, match=r"text must have shape \(n, d\) = \[3, 12\], got \[4, 12\]"):
        stackgan.generate(state.G, recipe, 3, text=batch.text)


def test_with_the_same_noise_only_texts_make_the_difference():
    recipe = tiny()
    state = stackgan.build(recipe, "cpu")
    for i in range(2):
        stackgan.step(state, recipe, made(recipe, seed=i))
    a, b = torch.randn(2, TEXT)
    way = torch.stack([a, a, (a + b) / 2, b])
    images = stackgan.generate(state.G, recipe, 4, text=way, same_noise=True)
    torch.testing.assert_close(images[0], images[1])
    ends = (images[0] - images[3]).abs().mean()
    assert 0 < (images[0] - images[2]).abs().mean() < 2 * ends
    noisy = stackgan.generate(state.G, recipe, 4, text=way)
    assert not torch.allclose(noisy[0], noisy[1])


def test_the_yardstick_is_a_distance_of_colours_in_place():
    recipe = tiny()
    state = stackgan.build(recipe, "cpu")
    batch = made(recipe)
    painted = stackgan.generate(state.G, recipe, 2, text=batch.text)
    same = stackgan.measure(state.nets, recipe, batch._replace(image=painted))
    assert float(same["colour_l1"]) == pytest.approx(0.0, abs=1e-4)
    brighter = stackgan.measure(state.nets, recipe, batch._replace(image=painted + 10 / 127.5))
    assert float(brighter["colour_l1"]) == pytest.approx(10.0, abs=1e-3)
    cells = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)  # what no cell of 2x2 pixels sees
    grained = stackgan.measure(state.nets, recipe, batch._replace(image=painted + cells))
    assert float(grained["colour_l1"]) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("stage", ["1", "2"])
def test_a_picture_in_use_does_not_depend_on_the_others(stage):
    recipe = tiny(stage, batch=4, init_gain=0.2)
    state = stackgan.build(recipe, "cpu")
    stackgan.step(state, recipe, made(recipe))
    draws = torch.Generator().manual_seed(0)
    text, others = torch.randn(3, TEXT, generator=draws), torch.randn(3, TEXT, generator=draws)
    others[0] = text[0]
    a, b = (stackgan.generate(state.G, recipe, 3, text=x) for x in (text, others))
    torch.testing.assert_close(a[0], b[0], rtol=1e-4, atol=1e-5)
    assert (a[1] - b[1]).abs().mean() > 1e-3

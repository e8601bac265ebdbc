"""The numbers of the overfitting lab: what is compared, what a skip carries, gaps and their intervals, the words."""

import dataclasses

import numpy as np
import pytest
import torch

from pygan import bootstrap
from pygan.bootstrap import Interval
from pygan.errors import UserError
from pygan.gans import pix2pix
from pygan.nets import PatchD
from pygan.nets.unet import unet
from pygan.nn import Mode
from pygan.study import answer, figure, measure, numbers, plan, variants
from pygan.study.numbers import Cell
from pygan.study.variants import Variant

USE = Mode(statistics="running")


# --- what is compared -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_layers", range(6))
def test_receptive_fields_are_those_of_the_net(n_layers):
    """The pixels whose change changes one logit, by its gradient."""
    seen = variants.receptive_field(n_layers)
    assert seen == (1, 16, 34, 70, 142, 286)[n_layers]
    D = PatchD(1, ndf=1, n_layers=n_layers, norm="none").double()
    for parameter in D.parameters():
        torch.nn.init.constant_(parameter, 0.1)  # no two paths cancel
    size = 2 * (seen // 2 + 2 ** (n_layers + 3))
    image = torch.zeros(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    logits = D(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    rows, columns = image.grad[0, 0].nonzero().unbind(dim=1)
    for places in (rows, columns):
        assert places.min() > 0 or seen == 1, "the picture is too small to tell"
        assert int(places.max() - places.min()) + 1 == seen


def kept(found):
    return [variant.fields["skips"] for variant in found]


def test_sets_of_skips():
    assert kept(variants.skips("continuum", 5)) == ["none", "1", "1,2", "1,2,3", "1,2,3,4", "all"]
    assert kept(variants.skips("outermost-first", 3)) == ["all", "1,2", "1", "none"]
    assert kept(variants.skips("innermost-first", 3)) == ["none", "3", "2,3", "all"]
    assert kept(variants.skips("single", 3)) == ["none", "1", "2", "3", "all"]
    assert kept(variants.skips("blog", 5)) == ["none", "1", "1,2,3", "all"]
    assert kept(variants.skips("none; 2,1 ;1,2;all;1,2,3", 3)) == ["none", "1,2", "all"]  # each once
    for wrong in ("4", "", "1,,2", "0", "all,1", "1.5", "continuum;all"):
        with pytest.raises(UserError, match="--variants must be"):
            variants.skips(wrong, 3)


def test_combinations_are_named_by_what_varies():
    found = variants.product([variants.skips("none;all", 3), variants.inputs("canny"), variants.lambdas([10, 100])])
    assert [one.name for one in found] == [
        "skips-none_l1-10",
        "skips-none_l1-100",
        "skips-all_l1-10",
        "skips-all_l1-100",
    ]
    assert found[3].fields == {"skips": "all", "input_transform": "canny", "lambda_l1": 100.0}
    assert found[3].axes == {"skips": "all", "input": "canny", "L1 weight": "100"}
    assert found[0].title == "no skips, L1 weight 10"


TINY = {"preset": "quick", "size": 16, "images": 6, "items": 4, "epochs": 2, "lpips": "none"}


def test_every_variant_gets_the_same_budget_and_the_same_pictures():
    made = plan.make("skips", {**TINY, "variants": "none;all", "lambdas": "1,100"})
    assert len(made.units) == 4
    batches = []
    for unit in made.units:
        recipe = pix2pix.Recipe(**{**pix2pix.PRESETS[made.preset], **made.given(unit)})
        assert (recipe.epochs + recipe.decay_epochs, recipe.max_minutes, recipe.seed) == (2, 0, 0)
        with pix2pix.batches(recipe, "train", "cpu") as feed:
            batches.append([feed.get(images) for images in (0, 4, 8)])
    for other in batches[1:]:
        for a, b in zip(batches[0], other, strict=True):
            assert torch.equal(a.A, b.A)
            assert torch.equal(a.B, b.B)


def test_a_budget_in_images_or_minutes_is_a_number_of_steps():
    made = plan.make("skips", {**TINY, "epochs": 0, "budget_images": 30})
    assert made.fields["steps"] == 30 // 4
    assert (made.fields["epochs"] + made.fields["decay_epochs"]) * 6 >= 28  # the learning rate lasts as long
    timed = plan.make("skips", {**TINY, "epochs": 0, "minutes": 1e-9}, "cpu")
    assert timed.fields["steps"] == 1


def test_a_built_in_set_with_a_number_has_its_size_too():
    made = plan.make("skips", {**TINY, "data": "facades:3", "variants": "none;all"})
    recipe = pix2pix.Recipe(**{**pix2pix.PRESETS[made.preset], **made.given(made.units[0])})
    with pix2pix.batches(recipe, "train", "cpu") as train, pix2pix.batches(recipe, "held-out", "cpu") as held_out:
        assert (train.n_items, held_out.n_items) == (6, 4)


def test_receptive_fields_that_do_not_fit_are_left_out(capsys):
    made = plan.make("patch", {**TINY, "size": 32})
    assert [variant.fields["n_layers_d"] for variant in made.variants] == [0, 1, 2, 3]
    assert capsys.readouterr().err.count("is left out") == 2


def test_a_plan_comes_back_from_its_file(tmp_path):
    made = plan.make("lambda", TINY)
    plan.write(made, tmp_path)
    assert plan.read(tmp_path) == made
    text = (tmp_path / plan.PLAN).read_text()
    for damage in (text[:-9], "[]", text.replace('"variants"', '"x"'), text.replace('"gan": "', '"gan": 3, "y": "')):
        (tmp_path / plan.PLAN).write_text(damage)
        with pytest.raises(UserError, match=r"study\.json"):
            plan.read(tmp_path)


# --- what a skip carries ----------------------------------------------------------------------------------------------


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = unet(3, 3, ngf=4, levels=5, skips=(1, 2, 4)).double().requires_grad_(False)
    for module in made.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return made


def test_a_skip_that_is_zeroed_is_one_that_nobody_reads(net):
    """Zeroing a skip equals zero weights for its channels in the convolution that follows."""
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    whole = net(x, USE)
    assert net.skips == (1, 2, 4)
    for skip in net.skips:
        with net.without_skip(skip):
            without = net(x, USE)
        reader = net.ups[skip].conv if skip < len(net.ups) else net.head  # d_(i+1) reads what is joined after d_i
        first = net.ups[skip - 1].conv.weight.shape[1]  # the decoder's own channels come first
        saved = reader.weight.clone()
        reader.weight[first:] = 0  # (in, out, 4, 4)
        torch.testing.assert_close(without, net(x, USE), rtol=1e-12, atol=1e-12)
        reader.weight.copy_(saved)
        assert not torch.equal(without, whole)
    assert torch.equal(net(x, USE), whole), "nothing is left behind"


def test_only_skips_that_are_there_can_be_zeroed(net):
    for skip in (0, 3, 5):
        with pytest.raises(ValueError, match="no skip"), net.without_skip(skip):
            pass


@pytest.mark.parametrize("generator", ["keras_unet", "chainer"])
def test_the_relatives_know_their_skips_too(generator):
    values = {**pix2pix.PRESETS["tiny"], "crop_size": 64, "load_size": 64, "generator": generator, "skips": "1,3"}
    G = pix2pix.generator(pix2pix.Recipe(**values)).requires_grad_(False)
    assert G.skips == (1, 3)
    x = torch.randn(1, 3, 64, 64)
    whole = G(x, USE)
    for skip in G.skips:
        with G.without_skip(skip):
            assert not torch.equal(G(x, USE), whole)
    assert torch.equal(G(x, USE), whole)


# --- gaps and their intervals -----------------------------------------------------------------------------------------


def test_the_interval_of_a_difference_is_that_of_two_normal_means():
    random = np.random.default_rng(0)
    a, b = random.normal(3, 2, 200), random.normal(1, 1, 100)
    found = bootstrap.of_difference(a, b)
    error = (a.var() / 200 + b.var() / 100) ** 0.5
    assert found.mean == a.mean() - b.mean()
    assert found.std == pytest.approx(error, rel=0.03)
    assert (found.low, found.high) == pytest.approx((found.mean - 1.96 * error, found.mean + 1.96 * error), abs=0.03)
    back = bootstrap.of_difference(b, a)
    assert back.low == pytest.approx(-found.high, abs=0.02)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        found = bootstrap.of_difference(random.normal(0, 1, 40), random.normal(0, 3, 30), draws=800)
        held += found.low <= 0 <= found.high
    assert 0.89 <= held / 200 <= 0.99


def test_networks_that_differ_widen_the_interval():
    random = np.random.default_rng(2)
    items = random.normal(0, 1, (1, 50))
    alike, different = items + np.zeros((4, 1)), items + np.array([[-2.0], [-1], [1], [2]])
    nothing = np.zeros((4, 1))
    narrow, wide = (bootstrap.of_difference(values, nothing) for values in (alike, different))
    assert narrow.mean == pytest.approx(wide.mean)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)
    both = bootstrap.of_difference(different, different[:, :20])  # a network that is worse is so on both sides
    assert both.high - both.low < wide.high - wide.low
    for wrong in (([], [1.0]), ([1.0], [float("nan")]), (np.zeros((2, 3)), np.zeros((3, 3)))):
        with pytest.raises(ValueError, match=r"finite numbers|same networks"):
            bootstrap.of_difference(*wrong)


def pictures(n, seed):
    """(n, 3, 16, 16) smooth pictures in [-1, 1]."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, 16, mode="bilinear")


def row(train, held_out, **more):
    """A row of results of what a network made of training and of held-out items."""
    to_training, to_held_out = (
        measure._rms(held_out.output, train.target),
        measure._rms(held_out.output, held_out.target),
    )
    near = {
        "output": to_training.amin(dim=1).tolist(),
        "own": to_held_out.diagonal().tolist(),
        "target": measure._rms(held_out.target, train.target).amin(dim=1).tolist(),
        **measure.memory(to_training.numpy(), to_held_out.numpy()),
    }
    found = {"unit": "x", "images": 1, "parameters": 1, "kept": [], "skips": {}, "nearest": near}
    return found | {"train": measure.of_items(train), "held_out": measure.of_items(held_out)} | more


def seen(target, output):
    return measure.Seen(target.mean(dim=1, keepdim=True), output, target)


def test_a_network_that_has_learned_by_heart_has_a_gap():
    training, unseen = pictures(24, 0), pictures(24, 1)
    nearest = measure._rms(unseen.mean(1, keepdim=True), training.mean(1, keepdim=True)).argmin(dim=1)
    cell = Cell(variants.skips("all", 3)[0], (row(seen(training, training), seen(unseen, training[nearest])),))
    for metric in ("l1", "ssim", "edges"):
        assert cell.gap(metric).low > 0, metric
    nearer, chance = cell.memory()
    assert nearer > 10
    assert chance < 0.01
    assert cell.copies() == 1.0


def test_a_network_that_errs_alike_everywhere_has_none():
    training, unseen = pictures(24, 0), pictures(24, 1)
    cell = Cell(
        variants.skips("all", 3)[0],
        (row(seen(training, training + pictures(24, 2) / 4), seen(unseen, unseen + pictures(24, 3) / 4)),),
    )
    gap = cell.gap("l1")
    assert gap.low <= 0 <= gap.high
    assert cell.memory()[1] > 0.05
    assert cell.copies() == 0.0


def test_the_same_pictures_on_both_sides_have_a_gap_of_nothing():
    training = pictures(12, 0)
    whole = seen(training, training + pictures(12, 1) / 4)
    gap = Cell(variants.skips("all", 3)[0], (row(whole, whole),)).gap("l1")
    assert gap.mean == 0
    assert gap.low < 0 < gap.high


def test_a_blurred_picture_is_no_memory():
    """One grey picture for everything: which set happens to hold what is nearest to it is chance."""
    chances = []
    for seed in range(20):
        training, unseen = pictures(12, 2 * seed), pictures(12, 2 * seed + 1)
        grey = torch.zeros_like(unseen)
        chances.append(row(seen(training, torch.zeros_like(training)), seen(unseen, grey))["nearest"]["chance"])
    assert 0.25 < np.mean(chances) < 0.75
    assert sum(chance < 0.05 for chance in chances) <= 4


def test_memory_compares_with_as_many_others_and_never_with_its_own():
    to_training = np.array([[1.0, 5, 9], [6, 2, 7], [8, 4, 3], [9, 9, 9]])
    to_held_out = np.array([[0.0, 7, 6, 9], [8, 0, 5, 9], [4, 9, 0, 9], [2, 3, 4, 0]])
    found = measure.memory(to_training, to_held_out)
    assert found["seen"] == [5, 6, 4, 9]  # the partner of the own one does not count either
    assert found["unseen"] == [6, 5, 4, 2]
    assert measure.memory(to_training[:, :1], to_held_out) == {"seen": [], "unseen": [], "chance": 1.0}


def test_errors_are_those_of_the_gan_itself():
    whole = seen(pictures(5, 0), pictures(5, 1))
    found, expected = measure.of_items(whole), pix2pix.recipe.metrics.of_pairs(whole.output, whole.target)
    for name, its in (("l1", "l1"), ("ssim", "ssim"), ("edges", "gradient_correlation")):
        assert len(found[name]) == 5
        assert np.mean(found[name]) == pytest.approx(float(expected[its]), rel=1e-5)


# --- the words --------------------------------------------------------------------------------------------------------


def studied(few, many, **options):
    """(plan, cells) of an encoder-decoder and a U-Net with these (train, held-out) errors per item."""
    made = plan.make("skips", {**TINY, "variants": "none;all", **options})
    cells = []
    for variant, (train, held_out), skips in zip(made.variants, (few, many), ([], [1, 2, 3]), strict=True):
        rows = []
        for errors in zip(np.atleast_2d(train), np.atleast_2d(held_out), strict=True):
            sets = {
                where: {key: list(values) for key in ("l1", "ssim", "edges", "input_edges")}
                for where, values in zip(("train", "held_out"), errors, strict=True)
            }
            n = len(errors[1])
            near = {"output": [9.0] * n, "own": [5.0] * n, "target": [9.0] * n, "seen": [9.0] * n, "unseen": [9.0] * n}
            carried = {
                str(i): {"held_out": {"output": [i + 0.1 * k for k in range(n)], "error": [1.0] * n}} for i in skips
            }
            rows.append({**sets, "kept": skips, "skips": carried, "nearest": near | {"chance": 0.5}})
        cells.append(Cell(variant, tuple(rows)))
    return made, cells


RANDOM = np.random.default_rng(5)
NOISE, MORE = RANDOM.normal(0, 1, 30), RANDOM.normal(0, 1, 30)


def test_the_answer_says_which_overfits_more():
    said = answer.answer(*studied((20 + NOISE, 22 + MORE), (10 + NOISE, 18 + MORE)))
    assert ": both overfit; the difference is" in said[0]
    assert "the network with all skips overfits more, as far as one training of each can tell" in said[0]
    assert "the network with all skips is the better one, by 4.00 [" in said[0]
    assert "--seeds 3" in said[-1]
    assert any(line.startswith("Skip 3 (the outermost) carries most") for line in said)


def test_the_answer_says_which_overfits_less():
    said = answer.answer(*studied((10 + NOISE, 18 + MORE), (20 + NOISE, 22 + MORE)))
    assert "the network with all skips overfits less" in said[0]
    assert "the network with all skips is the worse one" in said[0]


def test_the_answer_is_no_stronger_than_its_intervals():
    noise = np.random.default_rng(6).normal(0, 4, (4, 30))
    made, cells = studied((20 + noise[0], 22 + noise[1]), (20 + noise[2], 22.3 + noise[3]))
    assert numbers.difference_of_gaps(cells[1], cells[0], "l1").low < 0
    said = " ".join(answer.answer(made, cells))
    assert "which one overfits more cannot be told apart from chance" in said
    for word in ("overfits more,", "overfits less", "better one", "worse one"):
        assert word not in said


def test_with_several_networks_the_caveat_is_another():
    many = (np.stack([10 + NOISE, 11 + NOISE]), np.stack([18 + MORE, 19 + MORE]))
    few = (np.stack([20 + NOISE, 21 + NOISE]), np.stack([22 + MORE, 23 + MORE]))
    said = answer.answer(*studied(few, many, seeds=2))
    assert "overfits more" in said[0]
    assert "one training" not in said[0]
    assert "over 2 networks of each variant" in said[-1]


def test_one_may_overfit_and_the_other_not():
    said = answer.answer(*studied((20 + NOISE, 20 + MORE), (10 + NOISE, 18 + MORE)))
    assert "only the one with all skips overfits by more than chance" in said[0]
    said = answer.answer(*studied((20 + NOISE, 20 + MORE), (10 + NOISE, 10 + MORE)))
    assert "neither overfits by more than chance" in said[0]


def test_nothing_is_said_of_one_variant():
    made, cells = studied((10 + NOISE, 18 + MORE), (20 + NOISE, 22 + MORE))
    assert answer.answer(made, cells[:1]) == []


def test_variants_are_compared_on_the_seeds_that_all_have():
    made = plan.make("skips", {**TINY, "variants": "none;all", "seeds": 2})
    whole = row(seen(pictures(4, 0), pictures(4, 1)), seen(pictures(4, 2), pictures(4, 3)))
    names = [unit.name for unit in made.units]
    assert names == ["skips-none_seed-0", "skips-all_seed-0", "skips-none_seed-1", "skips-all_seed-1"]
    results = {name: {**whole, "unit": name} for name in names[:3]}
    assert [[one["unit"] for one in cell.rows] for cell in numbers.cells(made, results)] == [[names[0]], [names[1]]]
    results[names[1]] = {"unit": names[1], "diverged": "NaN"}
    assert [len(cell.rows) for cell in numbers.cells(made, results)] == [2]


# --- the figure -------------------------------------------------------------------------------------------------------


def test_the_figure_has_every_value_in_both_its_forms():
    values = [Interval(1.0, 0.5, 1.5, 0.2), None, Interval(3.0, 2.5, 4.5, 0.5)]
    marks = figure.layout("Gap <b>", "grey levels", ("none", "1", "all"), [figure.Series("gap", values)])
    dots = [mark for mark in marks if mark.kind == "dot"]
    assert len(dots) == 2
    assert dots[0].y > dots[1].y, "more is higher"
    drawn = figure.svg(marks, "said")
    assert "Gap &lt;b&gt;" in drawn
    assert "gap: 3 [2.5, 4.5]" in drawn
    sheet = np.asarray(figure.image(marks, 1.0))
    for dot in dots:
        assert tuple(sheet[round(dot.y), round(dot.x)]) == (0x1F, 0x66, 0xB0)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (0.0101, 0.0102), (5, 5), (-1e6, 1e6), (39.1, 45.6)])
def test_ticks_are_few_and_hold_all(low, high):
    ticks = figure._ticks(low, high)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_only_a_variant_of_the_study_is_a_cell():
    made = plan.make("skips", {**TINY, "variants": "none;all"})
    assert numbers.cells(made, {"another": {"unit": "another"}}) == []
    assert dataclasses.replace(made, variants=()).units == []
    assert isinstance(made.variants[0], Variant)

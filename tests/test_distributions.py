"""FID, KID and the Inception score: exact small cases, and the reference library on the same features."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from pygan import distributions
from pygan.distributions import InceptionScore, Moments, Reservoir
from pygan.features import inception


@pytest.fixture(scope="module")
def torchmetrics():
    """The library, which a torch-fidelity without torchvision keeps from being imported otherwise."""
    with inception.importable():
        try:
            import torchmetrics.image.fid
            import torchmetrics.image.inception
            import torchmetrics.image.kid
        except ImportError as error:
            pytest.skip(f"torchmetrics is not installed: {error}")
    return torchmetrics


class Pixels(nn.Module):
    """Features as the library wants them from a network: here they are what is fed."""

    def __init__(self, dim):
        super().__init__()
        self.num_features = dim

    def forward(self, images):
        return images.flatten(1)


def moments(features, chunk=64):
    seen = Moments(features.shape[1])
    for part in features.split(chunk):
        seen.add(part)
    return seen


def draw(n, dim, seed, *, rank=None, offset=0.0, scale=1.0):
    random = np.random.default_rng(seed)
    rank = rank or dim
    mixed = random.normal(size=(n, rank)) @ random.normal(size=(rank, dim)) / math.sqrt(rank)
    return torch.from_numpy(mixed * scale + offset)


def test_fid_of_two_gaussians_is_that_of_the_specification():
    zero, other = torch.zeros(2), torch.tensor([1.0, 2.0])
    found = distributions.frechet_of(zero, torch.eye(2), other, torch.diag(torch.tensor([4.0, 9.0])))
    assert found == pytest.approx(10, abs=1e-12)


def test_kid_of_four_points_is_that_of_the_specification():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    assert distributions.kid(a, b) == (pytest.approx(1.125, abs=1e-12), 0, 1)
    assert distributions.mmd(a, b) == pytest.approx(1.125, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 7, 10])
def test_inception_score_of_balanced_and_of_constant_predictions(classes):
    sharp = InceptionScore(classes, splits=1)
    sharp.add(1e4 * torch.eye(classes))
    assert sharp.score() == (pytest.approx(classes, rel=1e-12), 0, 1)
    constant = InceptionScore(40, splits=4)
    constant.add(torch.tensor([[3.0, -1.0, 0.5]]).expand(40, 3))
    assert constant.score() == (pytest.approx(1, abs=1e-12), pytest.approx(0, abs=1e-12), 4)


CASES = {
    "plain": ({}, {"offset": 0.3, "scale": 1.2}),
    "far from zero": ({"offset": 1e5}, {"offset": 1e5 + 0.5, "scale": 1.3}),
    "nearly degenerate": ({"rank": 3}, {"rank": 3, "offset": 0.2, "scale": 2.0}),
    "small": ({"scale": 1e-3}, {"scale": 2e-3, "offset": 1e-3}),
}


@pytest.mark.parametrize("case", CASES)
def test_fid_agrees_with_the_library(torchmetrics, case):
    one, other = CASES[case]
    real, fake = draw(300, 16, 1, **one), draw(260, 16, 2, **other)
    metric = torchmetrics.image.fid.FrechetInceptionDistance(Pixels(16), input_img_size=(16, 1, 1)).set_dtype(
        torch.float64
    )
    if case == "far from zero":  # it sums squares about 0; the distance does not change when both sides move
        metric.update((real - 1e5).view(-1, 16, 1, 1), real=True)
        metric.update((fake - 1e5).view(-1, 16, 1, 1), real=False)
    else:
        metric.update(real.view(-1, 16, 1, 1), real=True)
        metric.update(fake.view(-1, 16, 1, 1), real=False)
    assert distributions.frechet(moments(real), moments(fake)) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_fid_of_fewer_pictures_than_features(torchmetrics):
    real, fake = draw(20, 64, 1), draw(15, 64, 2, offset=0.2)
    metric = torchmetrics.image.fid.FrechetInceptionDistance(Pixels(64), input_img_size=(64, 1, 1)).set_dtype(
        torch.float64
    )
    metric.update(real.view(-1, 64, 1, 1), real=True)
    metric.update(fake.view(-1, 64, 1, 1), real=False)
    assert distributions.frechet(moments(real), moments(fake)) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_fid_of_a_set_with_itself_is_nothing():
    """Of a low rank too, where the root of a product of covariances loses half of the digits."""
    for rank in (32, 3):
        features = draw(200, 32, 3, rank=rank, scale=5.0)
        assert distributions.frechet(moments(features), moments(features)) < 1e-10


@pytest.mark.parametrize("offset", [0.0, 3.0])
def test_kid_agrees_with_the_library(torchmetrics, offset):
    real, fake = draw(120, 16, 1, offset=offset).float(), draw(120, 16, 2, offset=offset + 0.4).float()
    metric = torchmetrics.image.kid.KernelInceptionDistance(Pixels(16), subsets=1, subset_size=120).set_dtype(
        torch.float64
    )
    metric.update(real.double().view(-1, 16, 1, 1), real=True)
    metric.update(fake.double().view(-1, 16, 1, 1), real=False)
    mean, _ = metric.compute()
    assert distributions.kid(fake, real).mean == pytest.approx(float(mean), rel=1e-4)


def test_inception_score_agrees_with_the_library(torchmetrics):
    logits = draw(500, 12, 4, scale=2.0).float()
    metric = torchmetrics.image.inception.InceptionScore(Pixels(12), splits=1)
    metric.update(logits.view(-1, 12, 1, 1))
    score = InceptionScore(500, splits=1)
    for part in logits.split(33):
        score.add(part)
    assert score.score().mean == pytest.approx(float(metric.compute()[0]), rel=1e-4)


def test_inception_score_over_splits_is_its_definition():
    """Ten contiguous splits of one shuffle: here by hand, with the shuffle that the seed says."""
    logits = draw(103, 5, 4, scale=2.0)
    score = InceptionScore(103, seed=7)
    for part in logits.split(10):
        score.add(part)
    places = np.random.Generator(np.random.Philox(key=7)).permutation(103)
    p = logits.softmax(dim=1)[torch.from_numpy(np.argsort(places))]
    by_hand = []
    for k in range(10):
        part = p[k * 103 // 10 : (k + 1) * 103 // 10]
        by_hand.append(float((part * (part.log() - part.mean(0).log())).sum(1).mean().exp()))
    assert score.score() == (pytest.approx(np.mean(by_hand)), pytest.approx(np.std(by_hand)), 10)


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_neither_batches_nor_their_order_matter(offset):
    features = draw(1300, 24, 5, offset=offset)
    whole = moments(features, chunk=1300)
    expected = torch.cov(features.T)
    assert torch.allclose(whole.covariance, expected, rtol=1e-9, atol=1e-9)
    for chunk in (1, 7, 600):
        seen = moments(features.flip(0), chunk=chunk)
        assert torch.allclose(seen.mean, whole.mean, rtol=1e-10)
        assert torch.allclose(seen.covariance, whole.covariance, rtol=1e-10, atol=1e-10)
    merged = Moments(24)
    for part in reversed(features.split(170)):
        merged.merge(moments(part, chunk=13))
    assert merged.count == 1300
    assert torch.allclose(merged.covariance, whole.covariance, rtol=1e-10, atol=1e-10)


def test_features_far_from_zero_lose_no_digits():
    """Sums of squares about 0 would have 1e16 where the variance is 1: nothing would be left of it."""
    features = draw(600, 4, 6)
    near, far = moments(features).covariance, moments(features + 1e8).covariance
    assert torch.allclose(near, far, rtol=1e-6)


def test_a_reservoir_is_fair_bounded_and_deaf_to_batches():
    features = torch.arange(5000.0).view(-1, 1)
    kept = {}
    for chunk in (1, 64, 5000):
        seen = Reservoir(1, most=300, seed=1)
        for part in features.split(chunk):
            seen.add(part)
        kept[chunk] = seen.features
        assert seen.features.shape == (300, 1)
        assert seen.count == 5000
    assert torch.equal(kept[1], kept[64])
    assert torch.equal(kept[1], kept[5000])
    values = kept[1].flatten()
    assert len(values.unique()) == 300
    assert abs(float(values.mean()) - 2500) < 4 * 5000 / math.sqrt(12 * 300)
    few = Reservoir(1, most=300)
    few.add(features[:250])
    assert torch.equal(few.features, features[:250])


def test_kid_over_subsets_is_near_the_whole_and_repeats():
    real, fake = draw(900, 8, 1), draw(700, 8, 2, offset=0.3)
    whole = distributions.mmd(fake, real)
    score = distributions.kid(fake, real, subsets=60, subset_size=200, seed=3)
    assert score.parts == 60
    assert score.std > 0
    assert score.mean == pytest.approx(whole, abs=4 * score.std / math.sqrt(60) + 1e-3)
    assert score == distributions.kid(fake, real, subsets=60, subset_size=200, seed=3)
    assert score != distributions.kid(fake, real, subsets=60, subset_size=200, seed=4)


def test_kid_of_one_distribution_may_be_negative():
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 2, 50, 8)))
    values = [distributions.kid(one, other).mean for one, other in features]
    assert min(values) < 0 < max(values)


def test_what_cannot_be_measured_is_said():
    with pytest.raises(ValueError, match="at least 2 pictures"):
        distributions.frechet(moments(draw(1, 4, 0)), moments(draw(5, 4, 0)))
    with pytest.raises(ValueError, match="at least 2 pictures"):
        distributions.kid(draw(1, 4, 0), draw(5, 4, 0))
    with pytest.raises(ValueError, match=r"\(n, 4\)"):
        Moments(4).add(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="cannot be merged"):
        Moments(4).merge(Moments(5))
    with pytest.raises(ValueError, match="finite"):
        Moments(2).add(torch.tensor([[1.0, math.nan]]))
    with pytest.raises(ValueError, match="finite"):
        Reservoir(2).add(torch.tensor([[1.0, math.inf]]))
    with pytest.raises(ValueError, match="at least one picture"):
        InceptionScore(0)
    score = InceptionScore(3)
    score.add(torch.zeros(2, 4))
    with pytest.raises(ValueError, match="there were 2"):
        score.score()
    with pytest.raises(ValueError, match="there are more"):
        score.add(torch.zeros(2, 4))


def test_numbers_whose_sum_overflows_are_finite_all_the_same():
    Moments(2).add(torch.tensor([[1.7e308, 1.7e308]], dtype=torch.float64))

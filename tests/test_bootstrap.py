"""The bootstrap interval of a mean."""

import numpy as np
import pytest

from pygan import bootstrap


def test_a_coin_has_the_interval_of_the_binomial():
    values = np.repeat([0.0, 1.0], [60, 40])
    found = bootstrap.of_mean(values)
    error = np.sqrt(0.4 * 0.6 / 100)
    assert found.mean == pytest.approx(0.4)
    assert found.std == pytest.approx(error, rel=0.05)
    assert found.low == pytest.approx(0.4 - 1.96 * error, abs=0.02)
    assert found.high == pytest.approx(0.4 + 1.96 * error, abs=0.02)


def test_it_is_the_same_every_time_and_holds_the_mean():
    values = np.random.default_rng(0).exponential(size=37)
    a, b = bootstrap.of_mean(values), bootstrap.of_mean(list(values))
    assert a == b
    assert a.low < a.mean < a.high
    assert bootstrap.of_mean(values, confidence=0.5).low > a.low


def test_one_value_and_many():
    assert bootstrap.of_mean([3.0]) == bootstrap.Interval(3.0, 3.0, 3.0, 0.0)
    found = bootstrap.of_mean(np.arange(100_000.0), draws=100)  # drawn in parts
    assert found.low < 49_999.5 < found.high


@pytest.mark.parametrize("values", [[], [float("nan")], [[1.0]]])
def test_what_has_no_mean_is_refused(values):
    with pytest.raises(ValueError, match="finite numbers"):
        bootstrap.of_mean(values)

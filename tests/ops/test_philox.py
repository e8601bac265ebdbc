"""The reference generator against its published vectors, and the statistics of the masks made from it."""

import pytest
import torch

from pygan.ops.philox import KNOWN_ANSWERS, keep_mask, philox, words


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter, key, answer):
    got = philox(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
    assert got.tolist() == list(answer)


def test_words_are_the_counters_of_the_contract():
    """Element e: word e % 4 of (lo(e / 4), hi(e / 4), lo(offset), stream) under (lo(seed), hi(seed))."""
    seed, offset, stream = -0x123456789ABCDEF, 5_000_000_017, 3
    got = words(torch.tensor([seed, offset]), stream, 11)
    for e in (0, 3, 4, 10):
        counter = (e // 4, 0, offset % 2**32, stream)
        key = (seed % 2**64 % 2**32, seed % 2**64 >> 32)
        block = philox(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
        assert got[e] == block[e % 4]


def test_words_look_uniform_and_independent():
    rng = torch.tensor([1, 0])
    a, b = words(rng, 0, 1 << 16).double() / 2**32, words(rng, 1, 1 << 16).double() / 2**32
    sigma = (1 / 12) ** 0.5 / (1 << 8)
    assert abs(a.mean() - 0.5) < 4 * sigma
    assert abs(a.var() - 1 / 12) < 0.002
    for other in (b, a.roll(1), a.roll(4)):
        assert abs(torch.corrcoef(torch.stack((a, other)))[0, 1]) < 4 / (1 << 8)


@pytest.mark.parametrize("change", [{"seed": 2}, {"offset": 1}, {"stream": 1}])
def test_each_coordinate_changes_the_mask(change):
    def draw(seed=1, offset=0, stream=0):
        return keep_mask((1, 8, 8, 8), 0.5, torch.tensor([seed, offset]), stream)

    assert torch.equal(draw(), draw())
    assert not torch.equal(draw(), draw(**change))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_mask_keeps_the_asked_share(p):
    kept = keep_mask((2, 64, 16, 16), p, torch.tensor([7, 3]), 0)
    assert kept.shape == (2, 64, 16, 16)
    sigma = (p * (1 - p) / kept.numel()) ** 0.5
    assert abs(kept.double().mean() - (1 - p)) < 4 * sigma


def test_mask_is_nhwc():
    """The first c words belong to the channels of the first pixel."""
    rng = torch.tensor([9, 0])
    kept = keep_mask((1, 6, 2, 2), 0.5, rng, 0)
    assert torch.equal(kept[0, :, 0, 0], words(rng, 0, 6) >= 2**31)

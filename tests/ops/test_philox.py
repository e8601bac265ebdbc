"""The generator against its published vectors, the kernel against the reference, and the statistics of masks."""

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode

from pygan import errors
from pygan.ops import _impl
from pygan.ops import philox as module
from pygan.ops.philox import KNOWN_ANSWERS, keep_mask, normal, philox, uniform, words, words_ref

IMPLS = ("native", "ref")
WORD = 2**32
# {seed, offset}, stream: every part beyond 32 bits, and with the sign bit of its word
DRAWS = [
    ((0, 0), 0),
    ((-0x123456789ABCDEF, 5_000_000_017), 3),
    ((-1, -1), WORD - 1),
    ((2**63 - 1, -(2**63)), 2**31),
    ((WORD, WORD), 1),
    ((-(2**63), 2**31), -1),
]
COUNTS = [0, 1, 2, 3, 4, 5, 7, 8, 1023, 1024, 1025, 4099]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_known_answers(counter, key, answer):
    got = philox(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
    assert got.tolist() == list(answer)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("rng", "stream"), DRAWS)
def test_words_are_the_counters_of_the_contract(rng, stream, impl):
    """Element e: word e % 4 of (lo(e / 4), hi(e / 4), lo(offset), stream) under (lo(seed), hi(seed))."""
    seed, offset = rng
    got = words(torch.tensor(rng), stream, 11, impl=impl)
    assert got.shape == (11,)
    assert got.dtype == torch.int64
    for e in (0, 3, 4, 10):
        counter = (e // 4, 0, offset % WORD, stream % WORD)
        key = (seed % 2**64 % WORD, seed % 2**64 >> 32)
        block = philox(tuple(torch.tensor(c) for c in counter), tuple(torch.tensor(k) for k in key))
        assert got[e] == block[e % 4]


@pytest.mark.parametrize("count", COUNTS)
def test_the_twin_equals_the_reference_bit_for_bit(count):
    for rng, stream in DRAWS:
        got = words(torch.tensor(rng), stream, count, impl="native")
        expected = words_ref(torch.tensor(rng), stream, count)
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)


def test_a_shorter_draw_is_the_beginning_of_a_longer_one():
    rng = torch.tensor([3, 4])
    longer = words(rng, 5, 64)
    assert all(torch.equal(words(rng, 5, count), longer[:count]) for count in range(64))


def test_opcheck():
    torch.library.opcheck(torch.ops.pygan.philox_words.default, (torch.tensor([3, 4]), 5, 7))


@pytest.mark.parametrize("impl", ["auto", "ref"])
def test_without_values(impl):
    """Meta tensors, and the fake ones of a compiler."""
    got = words(torch.empty(2, dtype=torch.int64, device="meta"), 0, 7, impl=impl)
    assert (got.shape, got.dtype, got.device.type) == ((7,), torch.int64, "meta")
    with FakeTensorMode():
        got = words(torch.empty(2, dtype=torch.int64), 0, 7, impl=impl)
    assert (got.shape, got.dtype, got.device.type) == ((7,), torch.int64, "cpu")


def test_auto_is_the_kernel_where_there_is_one(monkeypatch):
    taken = []
    monkeypatch.setattr(module, "words_ref", lambda *args: taken.append("ref"))
    words(torch.tensor([3, 4]), 5, 7)
    assert taken == []
    words(torch.tensor([3, 4]), 5, 7, impl="ref")
    assert taken == ["ref"]


def test_without_the_library_it_is_the_reference_and_says_so(monkeypatch):
    said, expected = [], words(torch.tensor([3, 4]), 5, 7)
    monkeypatch.setattr(_impl._native, "available", lambda: False)
    monkeypatch.setattr(_impl._native, "why_missing", lambda: "it is not there")
    monkeypatch.setattr(errors, "say_once", said.append)
    assert torch.equal(words(torch.tensor([3, 4]), 5, 7), expected)
    assert said == ["philox_words runs in plain PyTorch (slower): it is not there"]
    with pytest.raises(RuntimeError, match="philox_words: it is not there"):
        words(torch.tensor([3, 4]), 5, 7, impl="native")


RNG = torch.tensor([3, 4])
MISTAKES = [
    ({"rng": torch.zeros(3, dtype=torch.int64)}, r"rng must be contiguous int64 of shape \[2\], .*got.*\[3\]"),
    ({"rng": torch.zeros(2, 2, dtype=torch.int64)}, r"rng must be contiguous int64 of shape \[2\]"),
    ({"rng": torch.zeros(2, dtype=torch.int32)}, r"rng must be contiguous int64 of shape \[2\]"),
    ({"rng": torch.zeros(4, dtype=torch.int64)[::2]}, r"rng must be contiguous int64 of shape \[2\]"),
    ({"count": -1}, "count must be at least 0, got -1"),
]


@pytest.mark.parametrize(("changes", "message"), [*MISTAKES, ({"impl": "fast"}, "impl must be 'auto', 'native'")])
def test_errors(changes, message):
    with pytest.raises(ValueError, match=f"philox_words: {message}"):
        words(**{"rng": RNG, "stream": 0, "count": 4} | changes)


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_errors_of_the_native_op(changes, message):
    with pytest.raises(RuntimeError, match=f"philox_words: {message}"):
        torch.ops.pygan.philox_words(**{"rng": RNG, "stream": 0, "count": 4} | changes)


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


# ---- on a GPU


@pytest.fixture
def poisoned():
    """Memory that the next tensors are made from, full of -1."""
    junk = [torch.full((n,), -1, device="cuda") for n in COUNTS]
    torch.cuda.synchronize()
    del junk


@pytest.mark.cuda
@pytest.mark.parametrize("count", [*COUNTS, 1_000_003])
def test_cuda_equals_the_reference_bit_for_bit(count, poisoned):
    for rng, stream in DRAWS:
        expected = words_ref(torch.tensor(rng), stream, count)
        for impl in IMPLS:
            got = words(torch.tensor(rng, device="cuda"), stream, count, impl=impl)
            assert got.is_cuda
            assert torch.equal(got.cpu(), expected)
        assert torch.equal(words(torch.tensor(rng, device="cuda"), stream, count), got)


@pytest.mark.cuda
def test_cuda_graph_reads_the_offset_of_each_replay(capture):
    rng = torch.tensor([3, 4], device="cuda")
    graph, drawn = capture(lambda: words(rng, 5, 1027, impl="native"))
    for _ in range(3):
        rng[1] += 1
        drawn.fill_(-1)
        graph.replay()
        assert torch.equal(drawn, words(rng, 5, 1027, impl="native"))
        assert torch.equal(drawn.cpu(), words_ref(rng.cpu(), 5, 1027))


def test_uniform_numbers_are_the_words():
    rng = torch.tensor([7, 9])
    got = uniform(rng, 5, (3, 5), low=-1.0, high=1.0, dtype=torch.float64)
    torch.testing.assert_close(got, (words(rng, 5, 15).double() / 2.0**31 - 1).view(3, 5), rtol=0, atol=1e-15)
    assert uniform(rng, 5, (4,)).dtype == torch.float32


def test_normal_numbers_are_normal():
    rng = torch.tensor([7, 9])
    z = normal(rng, 5, (100_001,), dtype=torch.float64)
    assert z.shape == (100_001,)
    for power, moment in ((1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)):
        error = (2 * math.prod(range(1, 2 * power, 2)) / len(z)) ** 0.5  # the moment's spread is below this
        assert abs(float(z.pow(power).mean()) - moment) < 5 * error
    assert abs(float((z[: len(z) // 2] * z[len(z) // 2 + 1 :]).mean())) < 5 / (len(z) / 2) ** 0.5  # cos beside sin
    u, v = words(rng, 5, 100_002).double().view(2, -1)[:, 0]
    torch.testing.assert_close(z[0], (-2 * ((u + 1) / WORD).log()).sqrt() * (2 * math.pi * v / WORD).cos())
    assert normal(rng, 5, (3, 3)).dtype == torch.float32
    assert normal(rng, 5, (0,)).shape == (0,)

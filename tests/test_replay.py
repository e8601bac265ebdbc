"""Replayed networks: the same bits on a GPU; on a CPU which shapes would be recorded, and how many are kept."""

import dataclasses

import pytest
import torch

from pygan import apply, gans, use
from pygan.nn import place_
from pygan.pixels import Picture
from pygan.recipe import make
from pygan.translate.replay import Replay


def network(name, device="cpu", **fields):
    gan = gans.load(name)
    recipe = gans.phases(gan, gan.resolve(make(gan.Recipe, gan.PRESETS, "tiny", {})))[-1]
    recipe = dataclasses.replace(recipe, **fields)
    torch.manual_seed(0)
    net = place_(gan.generator(recipe), torch.device(device)).requires_grad_(False)
    return use.Trained(gan, recipe, net, 7, torch.device(device))


def pictures(one, n, side=32, **options):
    channels = one.card.channels[one.card.direction(options)][0]
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(n * side)) * 2 - 1


class Counted(Replay):
    """Records nothing, and counts."""

    def __init__(self, one, **how):
        super().__init__(one, **how)
        self._records, self.recorded, self.replayed = True, [], []

    def _record(self, A, rng, options):
        self.recorded.append(tuple(A.shape))

        def replay(A, rng):
            self.replayed.append(tuple(A.shape))
            return self._network.translate(A, rng, **options)

        return replay


def test_a_shape_is_recorded_when_it_comes_again_and_few_are_kept():
    one = network("pix2pix")
    replayed = Counted(one, most=2)
    sizes = [32, 64, 32, 32, 64, 96, 96, 32, 64]
    for side in sizes:
        A = pictures(one, 1, side)
        assert torch.equal(replayed(A, one.rng(0)), one.translate(A, one.rng(0)))
    # When 96 is recorded 32 was not used for longest, so that goes; when 32 comes again, 64 goes.
    assert [shape[2] for shape in replayed.recorded] == [32, 64, 96, 32, 64]
    assert len(replayed.replayed) == len(sizes) - 3
    assert len(replayed._graphs) == 2


def test_options_and_chance_are_part_of_what_is_recorded():
    one = network("cyclegan")
    replayed = Counted(one)
    A = pictures(one, 1)
    for way in ("AtoB", "BtoA") * 2:
        assert torch.equal(replayed(A, direction=way), one.translate(A, direction=way))
    assert len(replayed.recorded) == 2
    replayed(A, one.rng(0), direction="AtoB")
    assert len(replayed.recorded) == 2  # without a seed and with one are not the same call


def test_what_cannot_be_recorded_stays_plain_and_says_so_once(capsys):
    one = network("pix2pix")

    class Refuses(Counted):
        def _record(self, A, rng, options):
            self.recorded.append(1)
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    replayed = Refuses(one)
    A = pictures(one, 1)
    for _ in range(4):
        assert torch.equal(replayed(A), one.translate(A))
    assert len(replayed.recorded) == 1
    assert capsys.readouterr().err.count("cannot be replayed") == 1


@pytest.mark.parametrize("name", ["pix2pix", "cogan"])
def test_on_a_cpu_and_for_a_search_nothing_is_recorded(name):
    one = network(name)
    replayed = Replay(one)
    assert not replayed._records
    A = pictures(one, 1)
    assert torch.equal(replayed.translate(A, one.rng(3)), one.translate(A, one.rng(3)))


CASES = [
    ("pix2pix", {}, {}), ("pix2pix", {"test_dropout": True}, {}), ("cyclegan", {}, {"direction": "BtoA"}),
    ("feature_gan", {}, {}), ("simgan", {}, {}), ("bigan", {}, {}),
]  # fmt: skip


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "fields", "options"), CASES)
def test_replayed_is_bit_equal_to_plain(name, fields, options):
    one = network(name, "cuda", **fields)
    replayed = Replay(one)
    with torch.inference_mode():
        for n, side, seed in [(1, 32, 0), (2, 64, 1), (1, 32, 2), (1, 32, 3), (2, 64, 4), (2, 64, 5), (1, 32, 6)]:
            A = pictures(one, n, side, **options)
            assert torch.equal(replayed(A, one.rng(seed), **options), one.translate(A, one.rng(seed), **options)), (
                f"batch of {n}, {side} pixels, seed {seed}"
            )
    assert len(replayed._graphs) == (2 if replayed._records else 0)


@pytest.mark.cuda
def test_pictures_through_a_replayed_network_are_the_same():
    one = network("pix2pix", "cuda")
    replayed = Replay(one, most=1)
    values = (torch.rand(4, 40, 50, 3, generator=torch.Generator().manual_seed(1)) * 255).byte().numpy()
    given = [Picture(x) for x in values]
    expected = apply.translated(one, given)
    for _ in range(4):
        for a, b in zip(apply.translated(replayed, given), expected, strict=True):
            assert (a.pixels == b.pixels).all()


@pytest.mark.cuda
def test_graphs_that_go_give_their_memory_back():
    one = network("pix2pix", "cuda")
    replayed = Replay(one, most=2)
    used = []
    for side in (64, 96, 128, 160, 192, 224, 256, 96, 64):
        for _ in range(3):
            replayed(pictures(one, 1, side), one.rng(0))
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        used.append(torch.cuda.memory_reserved())
    assert used[-1] <= max(used[:-1])
    assert len(replayed._graphs) == 2

"""The nearest training pictures, against brute force; what is said about them."""

import weakref

import numpy as np
import pytest
import torch

from pygan import features, neighbours
from pygan.data.feeds import Batch, Pictures


class Feed:
    """Pictures in order, some at once."""

    def __init__(self, images, batch_size=4, make=Pictures):
        self.images, self.batch_size, self.make, self.n_items = images, batch_size, make, len(images)

    def get(self, first):
        at = torch.arange(first, first + self.batch_size) % self.n_items  # as a feed: the epoch begins again
        return self.make(*[self.images[at]] * len(self.make._fields))


def noise(n, c=3, h=6, w=6, seed=0):
    """Pictures of whole grey levels in [-1, 1]."""
    levels = torch.randint(0, 256, (n, c, h, w), generator=torch.Generator().manual_seed(seed))
    return levels.float() / 127.5 - 1


def levels(images):
    return ((images.double() + 1) * 127.5).round()


@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
def test_pixels_equal_brute_force_however_the_feed_is_cut(batch_size):
    known, asked = noise(23), noise(5, seed=1)
    found = neighbours.nearest(asked, Feed(known, batch_size), 4)
    distance = (levels(asked)[:, None] - levels(known)[None]).square().mean((2, 3, 4)).sqrt()  # (5, 23)
    expected = distance.sort(dim=1, stable=True)
    assert torch.equal(found.index, expected.indices[:, :4])
    torch.testing.assert_close(found.distance, expected.values[:, :4], rtol=1e-14, atol=0)
    assert found.distance.dtype == torch.float64
    assert found.images.dtype == torch.uint8
    assert torch.equal(found.images.double(), levels(known)[found.index])


def test_a_training_picture_finds_itself_and_not_its_mirror_image():
    known = noise(9)
    found = neighbours.nearest(known, Feed(known), 1)
    assert found.index[:, 0].tolist() == list(range(9))
    assert found.distance.abs().max() == 0
    mirrored = neighbours.nearest(known.flip(3), Feed(known), 1)
    assert mirrored.distance.min() > 10


def test_of_equal_distances_the_earlier_item_is_nearer():
    known = noise(2)[[0, 1, 0, 0, 1, 0]]
    for batch_size in (1, 2, 6):
        found = neighbours.nearest(known[:1], Feed(known, batch_size), 3)
        assert found.index.tolist() == [[0, 2, 3]]


def test_a_small_feed_gives_all_it_has():
    found = neighbours.nearest(noise(2), Feed(noise(3, seed=2), 8), 5)
    assert found.index.shape == (2, 3)
    assert sorted(found.index[0].tolist()) == [0, 1, 2]


def test_no_more_is_kept_of_a_larger_feed():
    alive = []

    class Fresh(Feed):
        def get(self, first):
            batch = super().get(first)
            alive.append(weakref.ref(batch.image))
            self.most = max(getattr(self, "most", 0), sum(ref() is not None for ref in alive))
            return batch

    feed = Fresh(noise(300), 4)
    neighbours.search(noise(2, seed=6), feed, 2, (None,), usual=4)
    assert len(alive) > 70
    assert feed.most <= 4
    one = neighbours._Search(noise(2), [], 1, (3, 6, 6), None)
    one.see_(0, noise(50))
    assert {row[0].untyped_storage().nbytes() for row in one._images} == {3 * 6 * 6}  # not the whole batch


def test_sizes_and_colours_that_differ():
    large = noise(4, h=8, w=8)
    small = large.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))  # areas
    for asked, known in ((small, large), (large, small)):
        found = neighbours.nearest(asked, Feed(known), 1)
        assert found.index[:, 0].tolist() == [0, 1, 2, 3]
        assert found.distance.max() < 0.7  # rounding
        assert found.images.shape[3:] == known.shape[2:]
    grey = noise(4, c=1)
    assert neighbours.nearest(grey, Feed(grey.expand(-1, 3, -1, -1)), 1).distance.max() == 0
    assert neighbours.nearest(grey.expand(-1, 3, -1, -1), Feed(grey), 1).distance.max() == 0
    with pytest.raises(ValueError, match="2 channels"):
        neighbours.nearest(noise(2, c=2), Feed(noise(2)), 1)


def test_features_equal_brute_force():
    hog = features.load("hog", "cpu")
    known, asked = noise(11, h=16, w=16), noise(3, h=16, w=16, seed=3)
    found = neighbours.nearest(asked, Feed(known, 4), 2, features=hog)
    distance = torch.cdist(hog(asked).double(), hog(known).double())
    expected = distance.sort(dim=1)
    assert torch.equal(found.index, expected.indices[:, :2])
    torch.testing.assert_close(found.distance, expected.values[:, :2], rtol=1e-6, atol=1e-6)
    itself = neighbours.nearest(known, Feed(known, 4), 1, features=hog)
    assert itself.index[:, 0].tolist() == list(range(11))
    assert itself.distance.max() < 1e-5


def test_the_pictures_that_count_are_chosen_and_only_the_first_items_seen():
    first, second = noise(6), noise(6, seed=4)
    feed = Feed(first, 4, Batch)
    feed.get = lambda at: Batch(first[at : at + 4], second[at : at + 4])
    (found,) = neighbours.search(second[4:], feed, 1, (None,), pick=lambda batch: batch.B, items=4)
    assert found.neighbours.index.max() < 4
    (found,) = neighbours.search(second[4:], feed, 1, (None,), pick=lambda batch: batch.B)
    assert found.neighbours.index[:, 0].tolist() == [4, 5]
    for images, k in ((first[0], 1), (first[:0], 1), (first, 0)):
        with pytest.raises(ValueError, match="are expected"):
            neighbours.search(images, feed, k, (None,))


@pytest.mark.parametrize("batch_size", [2, 7])
def test_what_is_usual_leaves_a_picture_itself_out(batch_size):
    known = noise(12)
    steps = []
    found, _ = neighbours.search(
        noise(2, seed=5),
        Feed(known, batch_size),
        1,
        (None, features.load("hog", "cpu")),
        usual=5,
        progress=lambda done, of: steps.append((done, of)),
    )
    distance = (levels(known)[:5, None] - levels(known)[None]).square().mean((2, 3, 4)).sqrt()
    distance[range(5), range(5)] = torch.inf
    torch.testing.assert_close(found.usual, distance.amin(1), rtol=1e-14, atol=0)
    assert steps[-1] == (12, 12)
    assert [done for done, _ in steps] == [*range(batch_size, 12, batch_size), 12]


def found_at(distances, usual):
    distance = torch.tensor(distances, dtype=torch.float64)[:, None]
    near = neighbours.Neighbours(torch.zeros(len(distance), 1, dtype=torch.int64), distance, torch.zeros(1))
    return neighbours.Found(near, torch.tensor(usual, dtype=torch.float64))


def test_the_hint_counts_what_is_nearer_than_usual():
    usual = np.linspace(10, 20, 200)
    line = neighbours.hint(found_at([1.0] * 30 + [15.0] * 34, usual), "pixels", " grey levels")
    assert line.startswith("pixels: 30 of 64 are at most 10.05 grey levels from a training picture, as 2 of 200")
    assert "learned by heart, or so blurred" in line
    assert "no sign" not in line
    assert "no sign" in neighbours.hint(found_at([1.0] + [15.0] * 63, usual), "pixels")
    assert "twice" in neighbours.hint(found_at([0.0] * 9, [0.0] * 10 + [1.0] * 90), "pixels")
    assert "too few" in neighbours.hint(found_at([1.0], [1.0] * 19), "pixels")
    assert "\n" not in line

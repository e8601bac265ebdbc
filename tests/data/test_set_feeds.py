"""Feeds of sets that are no pairs: what travels with the pictures, and what must have nothing to do with each other."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pygan.data import Batch, Labelled, Pictures, captioned, labelled, sets, unpaired
from pygan.data.choice import open_feeds, stream_of
from pygan.data.feeds import Address, Facts, ResidentFeed, SetFeed
from pygan.data.sources import PictureSource
from pygan.data.stream import Others, Stream
from pygan.errors import UserError


class Numbered(PictureSource):
    """Item i is a picture all of whose pixels are first + i."""

    filters = ("bicubic",)

    def __init__(self, count, first=0, size=8, **facts):
        self.count, self.first, self.load_size, self.channels = count, first, size, (3,)
        self.facts = facts
        self.labels = tuple(f"label {k}" for k in range(facts["label"].shape[1])) if "label" in facts else ()

    def __len__(self):
        return self.count

    def names(self):
        return [f"{self.first + i}" for i in range(self.count)]

    def picture(self, i):
        return np.full((self.load_size, self.load_size, 3), self.first + i, dtype=np.uint8)

    def describe(self):
        return f"{self.count} numbered pictures"


def recipe(**fields):
    common = {"data": "", "data_2": "", "batch": 3, "seed": 0, "crop_size": 8, "flip": True, "feed": "resident"}
    return SimpleNamespace(**{**common, "captions_per_image": "one", **fields})


def numbers(images):
    """The items that a batch of pictures shows."""
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()


@pytest.fixture(params=["resident", "pillow"])
def kind(request):
    return request.param


def test_two_domains_are_not_paired(monkeypatch, kind):
    monkeypatch.setattr(unpaired, "unpaired_sources", lambda recipe, split: (Numbered(20), Numbered(20, 100)))
    together = Counter()
    with sets.unpaired_feed(recipe(batch=5, feed=kind), "train", "cpu") as feed:
        assert feed.n_items == 20
        for images_seen in range(0, 400, 5):
            batch = feed.get(images_seen)
            assert isinstance(batch, Batch)
            together.update(zip(numbers(batch.A), numbers(batch.B), strict=True))
    assert Counter(a for a, _ in together.elements()) == dict.fromkeys(range(20), 20)  # every epoch once
    assert len(together) > 200  # 400 draws of 400 possible pairs; in lockstep it would be 20
    assert max(together.values()) < 8


def test_domains_of_different_length(monkeypatch):
    monkeypatch.setattr(unpaired, "unpaired_sources", lambda recipe, split: (Numbered(3), Numbered(7, 100)))
    with sets.unpaired_feed(recipe(batch=1), "held-out", "cpu") as feed:
        assert feed.n_items == 7
        seen = [tuple(numbers(part)[0] for part in feed.get(i)) for i in range(7)]
    assert seen == [(i % 3, 100 + i) for i in range(7)]


def test_a_label_travels_with_its_picture(monkeypatch, kind):
    label = np.eye(4)[np.arange(12) % 4]
    monkeypatch.setattr(labelled, "labelled_source", lambda recipe, split, data: Numbered(12, label=label))
    with sets.labelled_feed(recipe(feed=kind), "train", "cpu", batch=6) as feed:
        assert feed.facts == Facts((3,), labels=("label 0", "label 1", "label 2", "label 3"), single=True)
        assert feed.batch_size == 6
        for images_seen in (0, 6, 30):
            batch = feed.get(images_seen)
            assert isinstance(batch, Labelled)
            assert batch.label.dtype == torch.float32
            assert batch.label.argmax(1).tolist() == [i % 4 for i in numbers(batch.image)]


def test_two_labelled_sets_side_by_side(monkeypatch):
    both = {"a": Numbered(6, label=np.ones((6, 2))), "b": Numbered(9, 100, label=np.eye(3)[np.arange(9) % 3])}
    monkeypatch.setattr(labelled, "labelled_source", lambda recipe, split, data: both[data])
    with sets.labelled_feed(recipe(data="a", data_2="b"), "train", "cpu") as feed:
        batch = feed.get(0)
        assert (feed.facts.single, feed.facts.single_2, len(feed.facts.labels_2)) == (False, True, 3)
        assert max(numbers(batch.image)) < 6
        assert batch.label.shape == (3, 2)
        assert batch.label_2.argmax(1).tolist() == [(i - 100) % 3 for i in numbers(batch.image_2)]


def captions(monkeypatch, **facts):
    """12 pictures with 2 to 4 captions each; the embedding of caption k of picture i is (i, k)."""
    counts = 2 + np.arange(12) % 3
    ranges = np.stack([np.cumsum(counts) - counts, counts], axis=1)
    source = Numbered(12, text_range=ranges, **facts)
    source.texts = np.array([(i, k) for i in range(12) for k in range(counts[i])], dtype=np.float32)
    monkeypatch.setattr(captioned, "captioned_source", lambda recipe, split: source)


def test_a_caption_is_one_of_its_picture(monkeypatch, kind):
    captions(monkeypatch)
    with sets.captioned_feed(recipe(feed=kind), "train", "cpu") as feed:
        assert feed.facts.text_dim == 2
        seen = set()
        for images_seen in range(0, 600, 3):
            batch = feed.get(images_seen)
            assert batch.text[:, 0].long().tolist() == numbers(batch.image)
            seen |= {tuple(text) for text in batch.text.long().tolist()}
    assert seen == {(i, k) for i in range(12) for k in range(2 + i % 3)}


def test_held_out_captions_are_the_first(monkeypatch):
    captions(monkeypatch)
    with sets.captioned_feed(recipe(), "held-out", "cpu") as feed:
        assert feed.get(3).text.tolist() == [[3, 0], [4, 0], [5, 0]]
    with sets.captioned_feed(recipe(captions_per_image="mean4"), "held-out", "cpu") as feed:
        assert feed.get(3).text.tolist() == [[3, 0.5], [4, 1], [5, 1.5]]


def test_wrong_pictures_are_of_another_class(monkeypatch):
    classes = np.arange(12) // 4
    captions(monkeypatch, **{"class": classes})
    with sets.captioned_feed(recipe(), "train", "cpu", wrong=True) as feed:
        seen = Counter()
        for images_seen in range(0, 1200, 3):
            batch = feed.get(images_seen)
            own, wrong = numbers(batch.image), numbers(batch.wrong)
            assert all(classes[a] != classes[b] for a, b in zip(own, wrong, strict=True))
            seen.update(wrong)
    assert set(seen) == set(range(12))


def test_without_classes_wrong_is_any_other():
    stream = Stream(n_items=5, seed=1, batch=4, load_size=8, crop_size=8)
    others = Others.beside(stream, None)
    pairs = Counter()
    for images_seen in range(0, 2000, 4):
        pairs.update(zip(stream.draw(images_seen).items, others.draw(images_seen).items, strict=True))
    assert {(a, b) for a in range(5) for b in range(5) if a != b} == pairs.keys()
    assert min(pairs.values()) > 50  # of 100 expected
    alone = Stream(n_items=1, seed=1, batch=2, load_size=8, crop_size=8)
    assert Others.beside(alone, None).draw(0).items.tolist() == [0, 0]
    same = Others.beside(stream, np.zeros(5, dtype=np.int64)).draw(0).items
    assert (same != stream.draw(0).items).all()


def test_boxes_and_key_points_follow_crop_and_flip(monkeypatch):
    """A white pixel per picture; box and key points say where. They must still say so after crop and flip."""
    size, crop = 16, 8
    places = np.random.default_rng(0).integers(0, size, (12, 2))  # x, y

    class Dots(Numbered):
        mirror = (1, 0)

        def picture(self, i):
            pixels = np.zeros((size, size, 3), dtype=np.uint8)
            pixels[places[i, 1], places[i, 0]] = 255
            return pixels

    box = np.concatenate([places / size, np.full((12, 2), 1 / size)], axis=1)
    points = np.ones((12, 2, 3))
    points[:, :, :2] = (places[:, None] + 0.5) / size
    points[:, 1, :2] = 0.5 / size  # the second: the corner pixel
    ranges = np.stack([np.arange(12), np.ones(12, dtype=np.int64)], axis=1)
    source = Dots(12, size=size, text_range=ranges, box=box, keypoints=points)
    source.texts = np.zeros((12, 1), dtype=np.float32)
    monkeypatch.setattr(captioned, "captioned_source", lambda recipe, split: source)
    inside = flips = 0
    for images_seen in range(0, 60, 3):
        with sets.captioned_feed(recipe(crop_size=crop, where="box"), "train", "cpu") as feed:
            boxes, draw = feed.get(images_seen), feed.parts[0].stream.draw(images_seen)
            assert feed.facts.where == (4,)
        with sets.captioned_feed(recipe(crop_size=crop, where="keypoints"), "train", "cpu") as feed:
            dots = feed.get(images_seen).where
        for n, image in enumerate(boxes.image):
            lit = (image[0] > 0).nonzero().tolist()
            x, y, w, h = (boxes.where[n] * crop).tolist()
            own = dots[n, 1 if draw.flip[n] else 0]  # the two key points change places in a mirrored picture
            if not lit:
                assert w * h == 0
                assert own.tolist() == [0, 0, 0]
                continue
            ((row, column),) = lit
            assert (x, y, w, h) == pytest.approx((column, row, 1, 1), abs=1e-5)
            assert (own * crop).tolist() == pytest.approx([column + 0.5, row + 0.5, crop], abs=1e-5)
            inside += 1
            flips += draw.flip[n]
    assert inside > 5
    assert 0 < flips < inside
    del source.facts["box"]
    with pytest.raises(UserError, match="--where box: 12 numbered pictures has no boxes"):
        sets.captioned_feed(recipe(where="box"), "train", "cpu")


def test_a_set_that_comes_twice_is_decoded_once():
    source = Numbered(4)
    stream = stream_of(recipe(), "train", source)
    first, second = open_feeds(recipe(), [(source, stream), (source, Others.beside(stream, None))], "cpu")
    assert isinstance(first, ResidentFeed)
    assert first._pixels[0].data_ptr() == second._pixels[0].data_ptr()


def test_an_address_can_be_taken_apart_and_made_again():
    source = Numbered(4)
    streams = [stream_of(recipe(), "train", source, salt=salt) for salt in (0, 16)]
    parts = open_feeds(recipe(), [(source, stream) for stream in streams], "cpu")
    feed = SetFeed(parts, [lambda seen: np.full((3, 1), seen, dtype=np.float32)], lambda *all_: all_, Facts())
    address = feed.address(6)
    again = type(address)(*(tensor.clone() for tensor in address))
    assert isinstance(again, Address)
    assert all(map(torch.equal, feed.batch(again), feed.get(6)))
    assert feed.get(6)[2].tolist() == [[6], [6], [6]]
    assert isinstance(parts[0].get(0), Pictures)
    feed.close()
    feed.close()


def test_numbers_of_two_streams_have_nothing_in_common():
    a, b = (Stream(n_items=50, seed=3, batch=50, load_size=12, crop_size=8, salt=salt) for salt in (0, 16))
    assert a.draw(0).items.tolist() != b.draw(0).items.tolist()
    assert a.draw(0).top.tolist() != b.draw(0).top.tolist()
    assert a.random(2, 7, 3).tolist() != a.random(3, 7, 3).tolist()
    assert a.random(2, 7, 3).tolist() == a.random(2, 7, 3).tolist()


@pytest.mark.cuda
def test_on_a_gpu_the_same(monkeypatch, kind):
    captions(monkeypatch)
    for wrong in (False, True):
        feeds = [sets.captioned_feed(recipe(feed=kind), "train", device, wrong=wrong) for device in ("cpu", "cuda")]
        for images_seen in (0, 3, 33):
            for a, b in zip(*(feed.get(images_seen) for feed in feeds), strict=True):
                assert torch.equal(a, b.cpu())

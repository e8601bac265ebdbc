"""Resident and Pillow bring the same pixels for the same (seed, images seen), whoever asks and in whatever order."""

import os
import threading

import numpy as np
import pytest
import torch

from pygan import data
from pygan.data import choice, feeds, paired_feed, paired_source
from pygan.data.feeds import normalise
from pygan.data.stream import Stream
from pygan.errors import UserError


@pytest.fixture
def folder(tmp_path, picture):
    for i in range(7):
        picture(tmp_path / "set" / "train" / f"{i}.jpg", 90, 40, seed=i)
        picture(tmp_path / "set" / "val" / f"{i}.png", seed=20 + i)
    return tmp_path / "set"


def same(left, right):
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def by_hand(source, stream, images_seen, swap=False):
    """The definition of a feed, sample by sample in NumPy and float64."""
    draw, crop, sides = stream.draw(images_seen), stream.crop_size, ([], [])
    for item, top, left, flip in zip(draw.items, draw.top, draw.left, draw.flip, strict=True):
        for side, pixels in zip(sides, source.pair(int(item)), strict=True):
            window = pixels[top : top + crop, left : left + crop]
            side.append(window[:, ::-1] if flip else window)
    A, B = (np.stack(side).transpose(0, 3, 1, 2) / 127.5 - 1 for side in sides)
    return (B, A) if swap else (A, B)


@pytest.mark.parametrize("kind", ["resident", "pillow"])
@pytest.mark.parametrize("direction", ["AtoB", "BtoA"])
def test_a_feed_is_its_definition(folder, recipe, kind, direction):
    fields = recipe(data=folder, batch=3, feed=kind, direction=direction)
    source = paired_source(fields, "train")
    stream = Stream(n_items=7, seed=0, batch=3, load_size=36, crop_size=32)
    with paired_feed(fields, "train", "cpu") as feed:
        assert feed.kind == kind
        assert feed.n_items == 7
        for images_seen in range(0, 14, 3):
            batch = feed.get(images_seen)
            for got, expected in zip(batch, by_hand(source, stream, images_seen, direction == "BtoA"), strict=True):
                assert got.shape == (3, 3, 32, 32)
                assert got.dtype == torch.float32
                assert got.is_contiguous(memory_format=torch.channels_last)
                assert np.abs(got.numpy() - expected).max() < 1e-6


def test_resident_equals_pillow_over_two_epochs(folder, recipe):
    fields = {"data": folder, "batch": 2, "seed": 3}
    flips = tops = 0
    with (
        paired_feed(recipe(**fields, feed="resident"), "train", "cpu") as resident,
        paired_feed(recipe(**fields, feed="pillow"), "train", "cpu") as pillow,
    ):
        for images_seen in range(0, 16, 2):
            assert same(resident.get(images_seen), pillow.get(images_seen))
            draw = resident.stream.draw(images_seen)
            flips, tops = flips + draw.flip.sum(), tops + len(set(draw.top))
    assert 0 < flips < 16
    assert tops > 8


def test_a_resident_batch_is_made_of_its_address(folder, recipe):
    """What a CUDA graph holds: the same gather, of another address at each replay."""
    with paired_feed(recipe(data=folder, batch=5, feed="resident"), "train", "cpu") as feed:
        addresses = [feed.address(images_seen) for images_seen in (0, 5)]
        assert [a.where.dtype for a in addresses] == [torch.int32] * 2
        assert [a.where.shape for a in addresses] == [(5, 4)] * 2
        static = type(addresses[0])(torch.empty_like(addresses[0].where))
        for images_seen, address in zip((0, 5), addresses, strict=True):
            static.where.copy_(address.where)
            assert same(feed.batch(static), feed.get(images_seen))
        assert not same(feed.get(0), feed.get(5))


@pytest.mark.parametrize("kind", ["resident", "pillow"])
def test_random_access(folder, recipe, kind):
    fields = recipe(data=folder, feed=kind)
    with paired_feed(fields, "train", "cpu") as feed, paired_feed(fields, "train", "cpu") as again:
        in_order = {s: feed.get(s) for s in range(0, 20, 2)}
        for s in (18, 2, 2, 4, 0, 16, 6):
            assert same(again.get(s), in_order[s])
        assert not same(in_order[0], in_order[2])


def test_another_seed_another_order(folder, recipe):
    first, second = (paired_feed(recipe(data=folder, seed=seed), "train", "cpu") for seed in (0, 1))
    assert not same(first.get(0), second.get(0))


@pytest.mark.parametrize("kind", ["resident", "pillow"])
def test_ranks_share_the_stream(folder, recipe, kind):
    with paired_feed(recipe(data=folder, batch=4, feed=kind), "train", "cpu") as alone:
        whole = [alone.get(s) for s in (0, 4, 8, 12)]
    for rank in (0, 1):
        with paired_feed(recipe(data=folder, batch=2, feed=kind), "train", "cpu", rank=rank, world=2) as feed:
            for s, batch in zip((0, 4, 8, 12), whole, strict=True):
                part = feed.get(s)
                assert torch.equal(part.A, batch.A[2 * rank : 2 * rank + 2])
                assert torch.equal(part.B, batch.B[2 * rank : 2 * rank + 2])


@pytest.mark.parametrize("kind", ["resident", "pillow"])
def test_held_out_is_in_order_and_whole(folder, recipe, kind):
    fields = recipe(data=folder, feed=kind)
    source = paired_source(fields, "held-out")
    with paired_feed(fields, "held-out", "cpu") as feed:
        for s in range(0, 6, 2):
            for k in (0, 1):
                A, B = source.pair(s + k)
                assert torch.equal(feed.get(s).A[k], normalise(torch.from_numpy(A)[None])[0])
                assert torch.equal(feed.get(s).B[k], normalise(torch.from_numpy(B)[None])[0])


@pytest.mark.parametrize("kind", ["resident", "pillow"])
def test_batch_larger_than_the_set(folder, recipe, kind):
    with paired_feed(recipe(data=folder, batch=20, feed=kind), "train", "cpu") as feed:
        assert feed.get(0).A.shape[0] == 20
        assert sorted(feed.stream.draw(0).items[:7]) == list(range(7))


@pytest.mark.parametrize("kind", ["resident", "pillow"])
def test_the_hole_is_in_the_middle_of_the_crop(folder, recipe, kind):
    with paired_feed(recipe(data=folder, input_transform="mask", feed=kind), "train", "cpu") as feed:
        for s in (0, 2, 4):
            A, B = feed.get(s)
            assert (A[:, :, 8:24, 8:24] == 1).all()
            outside = torch.ones(32, 32, dtype=torch.bool)
            outside[8:24, 8:24] = False
            assert torch.equal(A[:, :, outside], B[:, :, outside])
            assert not (B[:, :, 8:24, 8:24] == 1).all()


def test_values():
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1)
    out = normalise(pixels)
    assert out.min() == -1
    assert out.max() == 1
    assert torch.allclose(out.double().flatten(), torch.arange(256).double() / 127.5 - 1, atol=1e-7)


def test_auto_takes_memory_while_it_lasts(folder, recipe, monkeypatch):
    with paired_feed(recipe(data=folder), "train", "cpu") as feed:
        assert feed.kind == "resident"
        assert "fits in memory" in feed.describe()
    monkeypatch.setattr(choice, "memory_budget", lambda device: 1000)
    with paired_feed(recipe(data=folder), "train", "cpu") as feed:
        assert feed.kind == "pillow"
        assert "too large for memory" in feed.describe()
    with pytest.raises(UserError, match="--feed pillow"):
        paired_feed(recipe(data=folder, feed="resident"), "train", "cpu")


def test_budget_and_size(folder, recipe):
    assert feeds.resident_bytes(paired_source(recipe(data=folder), "train")) == 7 * 36 * 36 * 6
    assert 2**20 < feeds.memory_budget("cpu") < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


@pytest.mark.parametrize("kind", ["resident", "pillow"])
def test_a_file_that_breaks_during_the_run_is_named(folder, recipe, kind, monkeypatch):
    index_files = data.index_files

    def then_break(root, paths):
        entries = index_files(root, paths)
        path = folder / "train" / "3.jpg"
        path.write_bytes(path.read_bytes()[:300])
        return entries

    def one_epoch():
        with paired_feed(recipe(data=folder, feed=kind), "train", "cpu") as feed:
            for s in range(0, 8, 2):
                feed.get(s)

    monkeypatch.setattr(data, "index_files", then_break)
    with pytest.raises(UserError, match=r"train/3\.jpg") as caught:
        one_epoch()
    assert "\n" not in str(caught.value)


def test_close_ends_the_threads(folder, recipe):
    feed = paired_feed(recipe(data=folder, feed="pillow"), "train", "cpu")
    feed.get(0)
    assert any(t.name.startswith("pygan-pillow") for t in threading.enumerate())
    feed.close()
    feed.close()
    assert not any(t.name.startswith("pygan-pillow") for t in threading.enumerate())
    with pytest.raises(ValueError, match="closed"):
        feed.get(0)


def test_prefetch_looks_ahead(folder, recipe, monkeypatch):
    with paired_feed(recipe(data=folder, feed="pillow"), "train", "cpu") as feed:
        feed.get(4)
        assert min(feed._prepared) == 6
        assert set(range(6, 10, 2)) <= set(feed._prepared)
        feed.get(6)
        assert 6 not in feed._prepared


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_its_own_threads(folder, recipe):
    with paired_feed(recipe(data=folder, feed="pillow"), "train", "cpu") as feed:
        expected = feed.get(0).A.sum().item()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:  # the parent's threads do not exist here
            total = sum(float(v) for v in feed.get(0).A.reshape(-1).numpy().astype(np.float64))
            os.write(write, repr(total).encode())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert float(os.read(read, 100)) == pytest.approx(expected, abs=0.05)
        os.close(read)
        os.close(write)
        assert feed.get(0).A.sum().item() == expected


@pytest.mark.cuda
@pytest.mark.parametrize("kind", ["resident", "pillow"])
def test_the_gpu_sees_the_same_pixels(folder, recipe, kind):
    fields = recipe(data=folder, batch=3, feed=kind)
    with paired_feed(fields, "train", "cpu") as here, paired_feed(fields, "train", "cuda") as there:
        for s in range(0, 15, 3):
            batch = there.get(s)
            assert batch.A.is_cuda
            assert batch.A.is_contiguous(memory_format=torch.channels_last)
            assert same((x.cpu() for x in batch), here.get(s))


@pytest.mark.parametrize("channels", [1, 3])
def test_empty_images_lie_as_a_batch_does(channels):
    images = data.empty_images(4, channels, 16, "meta")
    assert (images.shape, images.dtype, images.device.type) == ((4, channels, 16, 16), torch.float32, "meta")
    assert images.is_contiguous(memory_format=torch.channels_last)

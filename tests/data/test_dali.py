"""The DALI feed against the definition of a feed: the stream's draws on the source's pixels."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pygan.data import dali, labelled_feed, pictures_feed, unpaired_feed
from pygan.data.dali import DaliFeed
from pygan.data.feeds import PillowFeed, normalise
from pygan.data.index import examine
from pygan.data.layouts import Item
from pygan.data.sources import BuiltInFacades, FilePairs, PairSource, SideBySide, Transformed, TwoFolders
from pygan.data.stream import Stream
from pygan.errors import UserError

LEVEL = 1 / 127.5  # one step of 0..255 in [-1, 1]


def files_source(pairs: list[tuple[Path, ...]], load_size: int, filters=("bicubic", "bicubic")) -> FilePairs:
    """A source of files as `paired_feed` makes it: one file per pair (side by side) or two."""
    items = [Item(str(i), files) for i, files in enumerate(pairs)]
    return (SideBySide if len(pairs[0]) == 1 else TwoFolders)(
        items,
        {path: examine(path) for files in pairs for path in files},
        load_size=load_size,
        channels=(3, 3),
        filters=filters,
        natural_direction="AtoB",
        description="pictures of a test",
    )


@pytest.fixture
def make_feed():
    """DaliFeed(...) on the CPU, closed after the test."""
    pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install '.[dali]'")
    feeds = []

    def make(source: PairSource, stream: Stream, device="cpu", swap=False, **options) -> DaliFeed:
        feeds.append(DaliFeed(source, stream, device, swap, **options))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.close()


def photo(width: int, height: int, seed: int) -> Image.Image:
    """Blobs of several sizes and a little noise, the spectrum of a photograph."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 3, (height, width, 3))
    for cell, weight in ((32, 0.6), (8, 0.25), (4, 0.15)):
        coarse = rng.integers(0, 256, (height // cell + 2, width // cell + 2, 3), dtype=np.uint8)
        mixed += weight * np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def side_by_side(folder: Path, count: int, *, size: int = 48, ending: str = "png", **saving) -> list[tuple[Path, ...]]:
    for i in range(count):
        photo(2 * size, size, seed=i).save(folder / f"{i}.{ending}", **saving)
    return [(folder / f"{i}.{ending}",) for i in range(count)]


def two_folders(folder: Path, count: int, *, ending: str = "png", **saving) -> list[tuple[Path, ...]]:
    """Pictures of different sizes: those of A square, those of B wide."""
    for i in range(count):
        photo(40 + 8 * i, 40 + 8 * i, seed=i).save(folder / f"A{i}.{ending}", **saving)
        photo(70 + 5 * i, 56, seed=100 + i).save(folder / f"B{i}.{ending}", **saving)
    return [(folder / f"A{i}.{ending}", folder / f"B{i}.{ending}") for i in range(count)]


def expected(source: PairSource, stream: Stream, images_seen: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What every feed must give at an address, item by item."""
    draw, crop, batch = stream.draw(images_seen), stream.crop_size, []
    for item, top, left, flip in zip(draw.items, draw.top, draw.left, draw.flip, strict=True):
        cut = [side[top : top + crop, left : left + crop] for side in source.pair(int(item))]
        batch.append([side[:, ::-1] if flip else side for side in cut])
    A, B = (normalise(torch.from_numpy(np.stack(sides))) for sides in zip(*batch, strict=True))
    return A, B


def difference(got: torch.Tensor, want: torch.Tensor) -> tuple[float, float]:
    """(largest, mean) difference in levels of 0..255, after a look at shape, type and memory."""
    assert (got.shape, got.dtype) == (want.shape, torch.float32)
    assert got.is_contiguous(memory_format=torch.channels_last)
    levels = (got.cpu() - want.cpu()).abs() / LEVEL
    return float(levels.max()), float(levels.mean())


SAVED = {
    "jpeg 4:4:4": {"ending": "jpg", "subsampling": 0, "quality": 95},
    "jpeg 4:2:0": {"ending": "jpg", "subsampling": 2, "quality": 90},
    "png": {"ending": "png"},
}


@pytest.mark.parametrize("layout", [side_by_side, two_folders])
@pytest.mark.parametrize("saving", SAVED.values(), ids=SAVED)
def test_equals_the_pillow_feed_within_the_stated_difference(tmp_path, make_feed, layout, saving):
    source = files_source(layout(tmp_path, 3, **saving), load_size=64)
    stream = Stream(3, seed=5, batch=3, load_size=64, crop_size=56)
    with PillowFeed(source, stream, torch.device("cpu"), False) as pillow:
        feed = make_feed(source, stream)
        for address in (0, 3, 6):
            for got, want in zip(feed.get(address), pillow.get(address), strict=True):
                largest, mean = difference(got, want)
                assert largest < 4.5
                assert mean < 0.02


@pytest.mark.parametrize("saving", SAVED.values(), ids=SAVED)
def test_pictures_of_load_size_are_equal_to_the_bit(tmp_path, make_feed, saving):
    source = files_source(side_by_side(tmp_path, 4, size=32, **saving), load_size=32)
    stream = Stream(4, seed=1, batch=4, load_size=32, crop_size=24)
    feed = make_feed(source, stream)
    for address in (0, 4):
        A, B = expected(source, stream, address)
        got = feed.get(address)
        assert torch.equal(got.A, A)
        assert torch.equal(got.B, B)
    assert {bool(flip) for address in (0, 4) for flip in stream.draw(address).flip} == {True, False}


def test_nearest_takes_the_pixels_that_pillow_takes(tmp_path, make_feed):
    # from 40, 48, 56, 70 and 75 pixels to 32 no centre falls on the border of two pixels
    source = files_source(two_folders(tmp_path, 2), load_size=32, filters=("nearest", "nearest"))
    stream = Stream(2, seed=1, batch=2, load_size=32, crop_size=32, shuffle=False)
    for got, want in zip(make_feed(source, stream).get(0), expected(source, stream, 0), strict=True):
        assert difference(got, want) == (0, 0)


def test_hard_edges_are_within_the_stated_difference(tmp_path, make_feed):
    labels = np.random.default_rng(0).integers(0, 2, (16, 32, 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1) * 255
    Image.fromarray(labels).save(tmp_path / "0.png")
    source = files_source([(tmp_path / "0.png",)], load_size=70)
    stream = Stream(1, seed=1, batch=1, load_size=70, crop_size=70, shuffle=False)
    for got, want in zip(make_feed(source, stream).get(0), expected(source, stream, 0), strict=True):
        largest, mean = difference(got, want)
        assert largest <= 30
        assert mean < 0.1  # one resize for both axes instead of two: 1 to 3


def test_no_pixel_of_one_half_reaches_the_other(tmp_path, make_feed):
    picture = Image.new("RGB", (80, 40))
    picture.paste((255, 255, 255), (40, 0, 80, 40))
    picture.save(tmp_path / "0.png")
    stream = Stream(1, seed=0, batch=1, load_size=64, crop_size=64, shuffle=False)
    batch = make_feed(files_source([(tmp_path / "0.png",)], load_size=64), stream).get(0)
    assert batch.A.unique().tolist() == [-1]
    assert batch.B.unique().tolist() == [1]


def test_swap_gives_the_source_s_b_as_input(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 2), load_size=48)
    stream = Stream(2, seed=2, batch=2, load_size=48, crop_size=48)
    A, B = expected(source, stream, 0)
    batch = make_feed(source, stream, swap=True).get(0)
    assert torch.equal(batch.A, B)
    assert torch.equal(batch.B, A)


def test_the_hole_is_cut_after_the_crop(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 2), load_size=48)
    source.mask_centre = True
    stream = Stream(2, seed=2, batch=2, load_size=48, crop_size=32)
    A, B = expected(source, stream, 0)
    A[:, :, 8:24, 8:24] = 1
    batch = make_feed(source, stream).get(0)
    assert torch.equal(batch.A, A)
    assert torch.equal(batch.B, B)


def test_any_address_in_any_order_gives_the_same_batch(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 5), load_size=48)
    stream = Stream(5, seed=3, batch=2, load_size=48, crop_size=40)
    feed = make_feed(source, stream)
    # on, on, jump ahead, the same again, back, odd offset across the end of an epoch, far, resume
    for address in (0, 2, 300, 300, 2, 9, 1_000_000_007, 4):
        for got, want in zip(feed.get(address), expected(source, stream, address), strict=True):
            assert torch.equal(got, want), address


def test_a_resumed_feed_goes_on_with_the_same_pixels(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 5, ending="jpg"), load_size=60)
    stream = Stream(5, seed=3, batch=2, load_size=60, crop_size=48)
    first, resumed = make_feed(source, stream), make_feed(source, stream)
    kept = [first.get(address) for address in range(0, 12, 2)]
    for address, batch in list(zip(range(0, 12, 2), kept, strict=True))[3:]:  # 6: inside the second epoch
        again = resumed.get(address)
        assert torch.equal(batch.A, again.A)
        assert torch.equal(batch.B, again.B)
    assert not torch.equal(kept[3].A, kept[4].A)


@pytest.mark.parametrize("ahead", [1, 3])
def test_consecutive_batches_are_prepared_ahead_and_once(tmp_path, make_feed, ahead):
    source = files_source(side_by_side(tmp_path, 4), load_size=48)
    read: list[int] = []
    paths = source.paths
    source.paths = lambda i: read.append(i) or paths(i)
    stream = Stream(4, seed=0, batch=2, load_size=48, crop_size=48, world=2)  # 4 images a step
    feed = make_feed(source, stream, ahead=ahead)
    read.clear()
    for step in range(5):
        feed.get(4 * step)
        assert len(read) == 2 * (step + 1 + ahead)
    assert list(feed._orders.under_way) == [20 + 4 * k for k in range(ahead)]
    assert read == [item for step in range(5 + ahead) for item in stream.draw(4 * step).items]


def test_processes_share_the_stream(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 5), load_size=48)
    sizes = {"load_size": 48, "crop_size": 40}
    alone = make_feed(source, Stream(5, seed=3, batch=4, **sizes))
    ranks = [make_feed(source, Stream(5, seed=3, batch=2, rank=rank, world=2, **sizes)) for rank in (0, 1)]
    for address in (0, 4, 8):
        assert torch.equal(alone.get(address).A, torch.cat([feed.get(address).A for feed in ranks]))


def test_a_batch_may_be_larger_than_the_set(tmp_path, make_feed):
    source = files_source(two_folders(tmp_path, 2), load_size=40)
    stream = Stream(2, seed=3, batch=5, load_size=40, crop_size=32)
    batch = make_feed(source, stream).get(1)
    assert difference(batch.A, expected(source, stream, 1)[0])[1] < 0.02


def test_the_number_of_threads_changes_nothing(tmp_path, make_feed):
    source = files_source(two_folders(tmp_path, 4, ending="jpg"), load_size=60)
    stream = Stream(4, seed=3, batch=4, load_size=60, crop_size=48)
    one, three = (make_feed(source, stream, threads=threads).get(8) for threads in (1, 3))
    assert torch.equal(one.A, three.A)
    assert torch.equal(one.B, three.B)


def test_held_out_sets_come_in_order_and_centred(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 3), load_size=48)
    stream = Stream(3, seed=3, batch=3, load_size=48, crop_size=40, shuffle=False)
    want = normalise(torch.from_numpy(np.stack([source.pair(i)[0][4:44, 4:44] for i in range(3)])))
    assert torch.equal(make_feed(source, stream).get(0).A, want)


def test_batches_stay_as_they_were_given(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 4), load_size=48)
    stream = Stream(4, seed=0, batch=1, load_size=48, crop_size=48)
    feed = make_feed(source, stream)
    kept = [feed.get(address) for address in range(12)]
    for address, batch in enumerate(kept):
        assert torch.equal(batch.B, expected(source, stream, address)[1])


def test_exif_orientation_is_applied(tmp_path, make_feed):
    files = []
    for orientation in range(1, 9):
        picture = photo(40, 40, seed=orientation)
        exif = picture.getexif()
        exif[0x0112] = orientation
        for side, ending in (("A", "jpg"), ("B", "png")):
            picture.save(tmp_path / f"{side}{orientation}.{ending}", exif=exif)
        files.append((tmp_path / f"A{orientation}.jpg", tmp_path / f"B{orientation}.png"))
    source = files_source(files, load_size=40)
    stream = Stream(8, seed=0, batch=8, load_size=40, crop_size=40, shuffle=False)
    for got, want in zip(make_feed(source, stream).get(0), expected(source, stream, 0), strict=True):
        assert torch.equal(got, want)


def test_a_name_may_hold_any_character(tmp_path, make_feed):
    path = tmp_path / "façade № 1 (été).png"
    photo(64, 32, seed=0).save(path)
    source = files_source([(path,)], load_size=32)
    stream = Stream(1, seed=0, batch=1, load_size=32, crop_size=32)
    assert torch.equal(make_feed(source, stream).get(0).A, expected(source, stream, 0)[0])


ENDINGS = {
    "BMP": "bmp", "JPEG": "jpg", "JPEG2000": "jp2", "MPO": "jpg", "PNG": "png", "PPM": "ppm", "TIFF": "tif",
    "WEBP": "webp",
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "mode"), [(kind, mode) for kind, modes in dali._SAME_AS_PILLOW.items() for mode in sorted(modes)]
)
def test_every_kind_of_file_it_takes_decodes_as_pillow_does(tmp_path, make_feed, kind, mode):
    path = tmp_path / f"0.{ENDINGS[kind]}"
    more = {"save_all": True, "append_images": [photo(64, 32, seed=1)]} if kind == "MPO" else {}
    photo(64, 32, seed=0).convert(mode).save(path, format=kind, **more)
    source = files_source([(path,)], load_size=32)
    assert source.file_modes() == {(kind, mode)}
    stream = Stream(1, seed=0, batch=1, load_size=32, crop_size=32, shuffle=False)
    batch = make_feed(source, stream).get(0)
    for got, want in zip(batch, expected(source, stream, 0), strict=True):
        assert torch.equal(got, want)


def _save_grey16(path: Path) -> None:
    Image.fromarray(np.arange(32 * 64, dtype=np.uint16).reshape(32, 64) * 31).save(path)


def _save_half_seen(path: Path) -> None:
    picture = photo(64, 32, seed=0)
    picture.putalpha(128)
    picture.save(path)


def _save_see_through(path: Path) -> None:
    photo(64, 32, seed=0).quantize(16).save(path, transparency=3)


def _save_webp_with_exif(path: Path) -> None:
    picture = photo(64, 32, seed=0)
    exif = picture.getexif()
    exif[0x0112] = 3
    picture.save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "save", "said"),
    [
        ("grey16.png", _save_grey16, "PNG of mode I;16"),
        ("alpha.png", _save_half_seen, "PNG of mode RGBA with transparency"),
        ("palette.png", _save_see_through, "PNG of mode P with transparency"),
        ("moving.gif", lambda path: photo(64, 32, seed=0).save(path), "GIF of mode"),
        ("turned.webp", _save_webp_with_exif, "WebP with EXIF"),
    ],
)
def test_files_that_would_come_out_wrong_are_refused_by_name(tmp_path, make_feed, name, save, said):
    files = side_by_side(tmp_path, 1)
    photo(64, 32, seed=1).convert("RGBA").save(tmp_path / "0.png")  # opaque: not the one to blame
    save(tmp_path / name)
    source = files_source([*files, (tmp_path / name,)], load_size=32)
    stream = Stream(2, seed=0, batch=1, load_size=32, crop_size=32)
    with pytest.raises(UserError) as refused:
        make_feed(source, stream)
    line = str(refused.value)
    assert str(tmp_path / name) in line
    assert said in line
    assert "--feed pillow" in line
    assert "\n" not in line


def test_sets_without_rgb_files_are_refused(tmp_path, make_feed):
    pairs = side_by_side(tmp_path, 1)
    how = {"load_size": 48, "filters": ("bicubic", "bicubic"), "natural_direction": "AtoB", "description": "a set"}
    entries = {pairs[0][0]: examine(pairs[0][0])}
    sources = [BuiltInFacades(0, [0], load_size=48, channels=(3, 3), description="houses")]
    for transform, channels in (("canny", (1, 3)), ("lab", (1, 2)), ("mask", (3, 3))):
        sources.append(Transformed([Item("0", pairs[0])], entries, transform=transform, channels=channels, **how))
    sources.append(SideBySide([Item("0", pairs[0])], entries, channels=(1, 3), **how))
    stream = Stream(1, seed=0, batch=1, load_size=48, crop_size=48)
    for source in sources:
        with pytest.raises(UserError, match=r"in memory or transformed.*--feed resident or --feed pillow$"):
            make_feed(source, stream)
    with pytest.raises(UserError, match=r"cannot resize by 'area'.*--feed pillow$"):
        make_feed(files_source(pairs, load_size=48, filters=("bicubic", "area")), stream)


def test_a_file_damaged_during_the_run_is_named_in_one_line(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 3, ending="jpg"), load_size=48)
    stream = Stream(3, seed=0, batch=3, load_size=48, crop_size=48)
    damaged = tmp_path / "1.jpg"  # whole when the set was indexed
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    feed = make_feed(source, stream)
    with pytest.raises(UserError, match=r"cannot read .*1\.jpg") as said:
        feed.get(0)
    assert "\n" not in str(said.value)
    with pytest.raises(ValueError, match="closed"):
        feed.get(0)


def test_close_ends_the_pipeline_and_may_be_called_twice(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 1), load_size=48)
    feed = make_feed(source, Stream(1, seed=0, batch=1, load_size=48, crop_size=48))
    feed.get(0)
    assert "\n" not in feed.describe()
    pipeline = weakref.ref(feed._pipeline)
    feed.close()
    feed.close()
    assert pipeline() is None


def test_a_feed_ends_with_its_last_reference(tmp_path, make_feed):
    stream = Stream(1, seed=0, batch=1, load_size=48, crop_size=48)
    feed = DaliFeed(files_source(side_by_side(tmp_path, 1), load_size=48), stream, "cpu", False)
    feed.get(0)
    pipeline = weakref.ref(feed._pipeline)
    del feed
    assert pipeline() is None


def run_program(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python program of its own with the pygan under test."""
    environment = {**os.environ, "PYTHONPATH": str(Path(dali.__file__).parents[2])}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)


EXITS_WITH_AN_OPEN_FEED = """
import sys
from pathlib import Path
from pygan.data.dali import DaliFeed
from pygan.data.sources import PairSource
from pygan.data.stream import Stream

class Two(PairSource):
    load_size, channels, filters = 48, (3, 3), ("bicubic", "bicubic")
    __len__ = lambda self: 2
    names = pair = describe = None  # DALI needs the files only
    paths = lambda self, i: (Path(sys.argv[1]) / f"{i}.jpg",)

feed = DaliFeed(Two(), Stream(2, seed=0, batch=2, load_size=48, crop_size=48), sys.argv[2], False)
feed.get(0)
cycle = [feed]
cycle.append(cycle)  # no reference count closes it
print("got", len(feed.get(2).A))
"""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.dali])])
def test_an_open_feed_does_not_disturb_the_end_of_the_program(tmp_path, make_feed, device):
    side_by_side(tmp_path, 2, ending="jpg")
    ended = run_program(EXITS_WITH_AN_OPEN_FEED, str(tmp_path), device)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "got 2\n", "")


def test_importing_does_not_import_dali():
    ended = run_program("import sys, pygan.data.dali; print('nvidia.dali' in sys.modules)")
    assert (ended.returncode, ended.stdout) == (0, "False\n")


def test_without_dali_the_command_to_install_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    dali._import_dali.cache_clear()
    source = files_source(side_by_side(tmp_path, 1), load_size=48)
    with pytest.raises(UserError, match=r"pip install nvidia-dali-cuda130"):
        DaliFeed(source, Stream(1, seed=0, batch=1, load_size=48, crop_size=48), "cpu", False)
    assert "pip install nvidia-dali-cuda130" in dali.decoder_report()


def test_the_report_is_one_line_with_the_version(make_feed):
    import nvidia.dali

    report = dali.decoder_report()
    assert f"DALI {nvidia.dali.__version__}, JPEG decoded on the " in report
    assert "\n" not in report


@pytest.mark.cuda
@pytest.mark.dali
@pytest.mark.parametrize("saving", SAVED.values(), ids=SAVED)
def test_decoding_on_the_gpu_is_within_the_stated_difference(tmp_path, make_feed, saving):
    source = files_source(side_by_side(tmp_path, 4, size=64, **saving), load_size=64)
    stream = Stream(4, seed=1, batch=4, load_size=64, crop_size=56)
    feed = make_feed(source, stream, device="cuda")
    for address in (0, 4, 400):
        batch = feed.get(address)
        assert batch.A.device.type == "cuda"
        for got, want in zip(batch, expected(source, stream, address), strict=True):
            largest, mean = difference(got, want)
            assert largest < (0.5 if saving["ending"] == "png" else 3.5)
            assert mean < 0.1


@pytest.mark.cuda
@pytest.mark.dali
@pytest.mark.parametrize("filters", [("bicubic", "bicubic"), ("nearest", "bilinear")])
def test_resizing_on_the_gpu_is_within_the_stated_difference(tmp_path, make_feed, filters):
    source = files_source(two_folders(tmp_path, 3), load_size=66, filters=filters)
    stream = Stream(3, seed=1, batch=3, load_size=66, crop_size=56)
    for got, want in zip(make_feed(source, stream, device="cuda").get(0), expected(source, stream, 0), strict=True):
        assert difference(got, want)[1] < 0.3


@pytest.mark.cuda
@pytest.mark.dali
def test_batches_on_the_gpu_stay_as_they_were_given(tmp_path, make_feed):
    source = files_source(side_by_side(tmp_path, 6, size=64), load_size=64)
    stream = Stream(6, seed=1, batch=2, load_size=64, crop_size=64)
    feed = make_feed(source, stream, device="cuda")
    other = torch.cuda.Stream()
    kept = []
    for step in range(24):
        with torch.cuda.stream(other if step % 2 else torch.cuda.current_stream()):
            kept.append(feed.get(2 * step))
    torch.cuda.synchronize()
    for step, batch in enumerate(kept):
        for got, want in zip(batch, expected(source, stream, 2 * step), strict=True):
            assert difference(got, want)[0] < 0.5, step


@pytest.mark.cuda
@pytest.mark.dali
def test_the_report_says_that_the_gpu_decodes():
    pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install '.[dali]'")
    assert dali.decoder_report().endswith("JPEG decoded on the GPU (nvJPEG)")


@pytest.mark.parametrize("kind", ["unpaired", "pictures", "labelled"])
def test_sets_that_are_no_pairs(tmp_path, kind):
    """Single pictures, each of its own size, by the feed functions: as Pillow's within the stated difference."""
    pytest.importorskip("nvidia.dali", reason="needs NVIDIA DALI: pip install '.[dali]'")
    folders = {"unpaired": ("trainA", "trainB"), "pictures": ("train", "val"), "labelled": ("train/a", "train/b")}[kind]
    for k, folder in enumerate(folders):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(4):
            photo(40 + 8 * i, 40 + 8 * i, seed=10 * k + i).save(tmp_path / folder / f"{i}.jpg", quality=95)
    fields = {"data": str(tmp_path), "data_2": "", "data_images": 8, "seed": 2, "batch": 3, "load_size": 40}
    fields |= {"crop_size": 32, "flip": True, "resample": "auto", "holdout": 0.25, "skip_bad": False, "attrs": ""}
    fields |= {"pre_crop": "none", "input_channels": 0, "output_channels": 0, "channels": 0}
    opened = {"unpaired": unpaired_feed, "pictures": pictures_feed, "labelled": labelled_feed}[kind]
    recipes = [SimpleNamespace(**fields, feed=feed) for feed in ("dali", "pillow")]
    with opened(recipes[0], "train", "cpu") as dali, opened(recipes[1], "train", "cpu") as pillow:
        assert "dali feed" in dali.describe()
        for address in (0, 3, 9):
            for got, want in zip(dali.get(address), pillow.get(address), strict=True):
                if got.dim() == 2:
                    assert torch.equal(got, want)
                    continue
                largest, mean = difference(got, want)
                assert largest < 4.5
                assert mean < 0.02

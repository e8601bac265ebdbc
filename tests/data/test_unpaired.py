"""Two domains: every layout is read, each domain by itself, and what is wrong is said in one line."""

import numpy as np
import pytest
from PIL import Image

from pygan.data import paired_source
from pygan.data.seasons import FIRST_WINTER, season_picture
from pygan.data.unpaired import unpaired_sources
from pygan.errors import UserError


def refusal(fields):
    with pytest.raises(UserError) as caught:
        unpaired_sources(fields, "train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_loaded(pixels, size=36):
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


LAYOUTS = {
    "joined": ("trainA/", "trainB/", "testA/", "testB/", "test"),
    "joined with val": ("trainA/", "trainB/", "valA/", "valB/", "val"),
    "apart": ("A/train/", "B/train/", "A/test/", "B/test/", "test"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_domains_with_held_out_folders(tmp_path, recipe, picture, layout):
    a, b, held_a, held_b, where = LAYOUTS[layout]
    pixels = {}
    for i in range(3):
        pixels[f"horse{i}"] = picture(tmp_path / a / f"horse{i}.png", 40, 30, seed=i)
    for i in range(5):
        pixels[f"zebra{i}"] = picture(tmp_path / b / f"deep/zebra{i}.jpg", 24, 48, seed=10 + i, quality=100)
    picture(tmp_path / held_a / "horse9.png", seed=20)
    for i in range(2):
        picture(tmp_path / held_b / f"zebra{i}.png", seed=30 + i)
    A, B = unpaired_sources(recipe(data=tmp_path), "train")
    held = unpaired_sources(recipe(data=tmp_path), "held-out")
    assert [len(A), len(B), len(held[0]), len(held[1])] == [3, 5, 1, 2]
    assert len({*A.names(), *B.names(), *held[0].names(), *held[1].names()}) == 11
    assert np.array_equal(A.picture(1), as_loaded(pixels["horse1"]))
    assert A.pictures(1)[0].shape == (36, 36, 3)
    assert held[1].picture(0).shape == (32, 32, 3)
    assert A.paths(2) == (tmp_path / a / "horse2.png",)
    assert (A.file_modes(), B.file_modes()) == ({("PNG", "RGB")}, {("JPEG", "RGB")})
    for words in ("domain A", "40x30 to 64x32", "3 to train, 1 held out", f"({where})"):
        assert words in A.describe()
    assert "5 to train, 2 held out" in B.describe()


@pytest.mark.parametrize("folders", [("A", "B"), ("trainA", "trainB")])
def test_domains_without_held_out_folders(tmp_path, recipe, picture, folders):
    for folder, count in zip(folders, (8, 4), strict=True):
        for i in range(count):
            picture(tmp_path / folder / f"{i}.png", seed=i)
    train, held = (unpaired_sources(recipe(data=tmp_path), split) for split in ("train", "held-out"))
    assert [len(train[0]), len(held[0]), len(train[1]), len(held[1])] == [6, 2, 3, 1]
    for k in (0, 1):
        assert not {*train[k].names()} & {*held[k].names()}
    assert "by hash of the names" in train[0].describe()


def test_grey_and_deep_pictures_among_colour_ones(tmp_path, recipe, picture):
    for i in range(3):
        picture(tmp_path / "A" / f"{i}.png", seed=i)
        picture(tmp_path / "B" / f"{i}.png", seed=i)
    picture(tmp_path / "A" / "grey.png", mode="L")
    Image.fromarray(np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)).save(tmp_path / "A" / "deep.png")
    A, B = unpaired_sources(recipe(data=tmp_path, holdout=0.0), "train")
    assert "2 grey pictures repeated to 3 channels; 1 of 16 bits scaled to 8" in A.describe()
    assert "repeated" not in B.describe()
    held_out, _ = unpaired_sources(recipe(data=tmp_path, holdout=0.0), "held-out")
    (deep,) = (s.picture(s.names().index("A/deep")) for s in (A, held_out) if "A/deep" in s.names())
    assert (deep.min(), deep.max()) == (0, 255)
    assert np.array_equal(deep[:, :, 0], deep[:, :, 2])
    grey, colour = unpaired_sources(recipe(data=tmp_path, input_channels=1), "train")
    assert (grey.channels, colour.channels) == ((1,), (3,))
    assert grey.picture(0).shape == (36, 36, 1)
    assert "3 colour pictures made grey" in grey.describe()
    assert "--input-channels must be 1" in refusal(recipe(data=tmp_path, input_channels=2))


def test_bad_pictures_are_named_or_left_out(tmp_path, recipe, picture):
    for domain in "AB":
        for i in range(4):
            picture(tmp_path / domain / f"{i}.png", seed=i)
    (tmp_path / "B" / "3.png").write_bytes(b"")
    assert "B/3.png (empty file (0 bytes))" in refusal(recipe(data=tmp_path))
    A, B = unpaired_sources(recipe(data=tmp_path, skip_bad=True), "train")
    assert (len(A), len(B)) == (3, 2)
    assert "1 bad files left out" in B.describe()
    assert "left out" not in A.describe()


def test_a_domain_without_a_good_picture(tmp_path, recipe, picture):
    for name in ("trainA/1", "trainB/1", "testA/1"):
        picture(tmp_path / f"{name}.png")
    (tmp_path / "testB").mkdir()
    (tmp_path / "testB" / "1.png").write_bytes(b"")
    assert "no good picture of domain B is left held out" in refusal(recipe(data=tmp_path, skip_bad=True))


def test_what_is_missing(tmp_path, recipe, picture):
    assert "no folder" in refusal(recipe(data=tmp_path / "none"))
    picture(tmp_path / "1.png")
    line = refusal(recipe(data=tmp_path))
    assert "no two domains" in line
    assert "trainA" in line
    picture(tmp_path / "trainA" / "1.png")
    assert f"no folder {tmp_path / 'trainB'}" in refusal(recipe(data=tmp_path))
    (tmp_path / "trainB").mkdir()
    assert f"no pictures in {tmp_path / 'trainB'}" in refusal(recipe(data=tmp_path))
    picture(tmp_path / "trainB" / "1.png")
    picture(tmp_path / "testA" / "1.png")
    assert f"no folder {tmp_path / 'testB'}" in refusal(recipe(data=tmp_path))
    picture(tmp_path / "B" / "1.png")
    assert "give --data the one folder that is meant" in refusal(recipe(data=tmp_path))


def test_pre_crop_of_each_domain(tmp_path, recipe, picture):
    for domain in "AB":
        for i in range(2):
            pixels = picture(tmp_path / domain / f"{i}.png", 60, 40, seed=7)
    A, _ = unpaired_sources(recipe(data=tmp_path, pre_crop="square"), "train")
    assert np.array_equal(A.picture(0), as_loaded(pixels[:, 10:50]))
    assert A.paths(0) is None


# -- Cityscapes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cityscapes(tmp_path, picture):
    """Cityscapes as unpacked: four training places, one of val, one of test without labels."""
    palette = np.array([(128, 64, 128), (70, 70, 70), (0, 0, 142)], dtype=np.uint8)
    for i, (split, city) in enumerate(
        [("train", "aachen")] * 3 + [("train", "ulm"), ("val", "lindau"), ("test", "bonn")]
    ):
        name = f"{split}/{city}/{city}_{i:06d}_000019"
        picture(tmp_path / "leftImg8bit" / f"{name}_leftImg8bit.png", 64, 32, seed=i)
        if split != "test":
            colours = palette[np.arange(32 * 64).reshape(32, 64) // 11 % 3]
            opaque = np.dstack([colours, np.full((32, 64), 255, dtype=np.uint8)])
            path = tmp_path / "gtFine" / f"{name}_gtFine_color.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(opaque).save(path)
            Image.fromarray(np.zeros((32, 64), dtype=np.uint8)).save(path.with_name(f"{path.stem[:-5]}labelIds.png"))
    return tmp_path


def test_cityscapes_as_domains(cityscapes, recipe):
    A, B = unpaired_sources(recipe(data=cityscapes), "train")
    assert (len(A), len(B)) == (4, 4)
    assert A.names()[0] == "train/aachen/aachen_000000_000019"
    assert (A.filters, B.filters) == (("bicubic",), ("nearest",))
    assert {tuple(c) for c in B.picture(0).reshape(-1, 3)} == {(128, 64, 128), (70, 70, 70), (0, 0, 142)}
    assert "cityscapes" in A.describe()
    assert "1 in test not used" in A.describe()
    held = unpaired_sources(recipe(data=cityscapes), "held-out")
    assert held[0].names() == ["val/lindau/lindau_000004_000019"]


def test_cityscapes_as_pairs(cityscapes, recipe):
    source = paired_source(recipe(data=cityscapes), "train")
    assert (len(source), source.natural_direction, source.filters) == (4, "BtoA", ("bicubic", "nearest"))
    photo, labels = source.pair(3)
    assert {tuple(c) for c in labels.reshape(-1, 3)} == {(128, 64, 128), (70, 70, 70), (0, 0, 142)}
    assert len(np.unique(photo)) > 50
    assert "ulm" in source.paths(3)[0].name
    assert "ulm" in source.paths(3)[1].name
    assert "Cityscapes (A photo, B labels)" in source.describe()


def test_cityscapes_with_parts_missing(cityscapes, recipe):
    (cityscapes / "gtFine/train/ulm/ulm_000003_000019_gtFine_color.png").unlink()
    assert "ulm_000003_000019_leftImg8bit.png" in refusal(recipe(data=cityscapes))
    assert len(unpaired_sources(recipe(data=cityscapes, skip_bad=True), "train")[1]) == 3
    (cityscapes / "gtFine").rename(cityscapes / "gtCoarse")
    assert "has no folder gtFine" in refusal(recipe(data=cityscapes))


# -- built-in ---------------------------------------------------------------------------------------------------------


def test_the_built_in_seasons(recipe):
    A, B = unpaired_sources(recipe(), "train")
    held = unpaired_sources(recipe(), "held-out")
    assert [len(A), len(B), len(held[0]), len(held[1])] == [8, 8, 2, 2]
    assert np.array_equal(A.picture(3), season_picture(0, 3, 36, "A"))
    assert np.array_equal(B.picture(3), season_picture(0, FIRST_WINTER + 3, 36, "B"))
    assert len({*A.names(), *B.names(), *held[0].names(), *held[1].names()}) == 20
    again, _ = unpaired_sources(recipe(data="seasons:7", input_channels=1), "train")
    assert again.picture(0).shape == (36, 36, 1)
    assert "set 7" in again.describe()
    assert "less than 2**63" in refusal(recipe(data=f"seasons:{1 << 63}"))
    assert "no folder faces" in refusal(recipe(data="faces"))

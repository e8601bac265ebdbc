"""Every layout is recognised, pairs what belongs together, and says in one line what is wrong with it."""

import json
from itertools import product

import numpy as np
import pytest
from PIL import Image

from pygan.data import paired_source
from pygan.data.facades import PALETTE, facade
from pygan.data.layouts import hold_out
from pygan.errors import UserError


def both(recipe_fields):
    return paired_source(recipe_fields, "train"), paired_source(recipe_fields, "held-out")


def refusal(recipe_fields):
    with pytest.raises(UserError) as caught:
        paired_source(recipe_fields, "train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_loaded(pixels, size=36):
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


# -- side by side ---------------------------------------------------------------------------------------------------


def test_side_by_side_with_splits(tmp_path, recipe, picture):
    wide = {i: picture(tmp_path / "train" / f"{i}.png", 80, 40, seed=i) for i in range(3)}
    picture(tmp_path / "val" / "0.png", seed=10)
    picture(tmp_path / "test" / "0.png", seed=11)
    train, held_out = both(recipe(data=tmp_path))
    assert train.names() == ["train/0", "train/1", "train/2"]
    assert held_out.names() == ["val/0"]
    A, B = train.pair(1)
    assert np.array_equal(A, as_loaded(wide[1][:, :40]))
    assert np.array_equal(B, as_loaded(wide[1][:, 40:]))
    assert A.dtype == np.uint8
    assert A.flags.c_contiguous
    assert held_out.pair(0)[0].shape == (32, 32, 3)  # crop size
    assert train.paths(1) == (tmp_path / "train" / "1.png",)
    assert train.file_modes() == {("PNG", "RGB")}
    assert train.natural_direction == "AtoB"
    assert train.filters == ("bicubic", "bicubic")
    for words in ("side-by-side", "3 to train", "1 held out (val)", "1 in test/ not used", "AtoB"):
        assert words in train.describe()


def test_test_folder_where_there_is_no_val(tmp_path, recipe, picture):
    picture(tmp_path / "train" / "a.png")
    picture(tmp_path / "test" / "b.png")
    assert paired_source(recipe(data=tmp_path), "held-out").names() == ["test/b"]


def test_bare_folder_nested_folders_and_equal_names(tmp_path, recipe, picture):
    for name in ("a.png", "sub/a.png", "sub/deep/b.jpg", "a.jpg"):
        picture(tmp_path / name)
    train, held_out = both(recipe(data=tmp_path))
    assert len(held_out) == 1
    assert {*train.names(), *held_out.names()} == {"a", "a.png", "sub/a", "sub/deep/b"}


def test_hold_out_is_fixed_by_the_names():
    names = [f"n{i}" for i in range(40)]
    train, held = hold_out(names, 0.25)
    assert len(held) == 10
    assert sorted(train + held) == list(range(40))
    backwards = hold_out(names[::-1], 0.25)[1]
    assert {names[i] for i in held} == {names[::-1][i] for i in backwards}
    assert held != list(range(30, 40))
    assert [len(part) for part in hold_out(names[:2], 0.0)] == [1, 1]
    assert [len(part) for part in hold_out(names[:2], 0.99)] == [1, 1]
    assert hold_out(names[:1], 0.5) == ([0], [0])


def test_one_pair_is_both(tmp_path, recipe, picture):
    picture(tmp_path / "only.png")
    train, held_out = both(recipe(data=tmp_path))
    assert train.names() == held_out.names() == ["only"]
    assert "the training picture itself" in train.describe()


def test_unequal_halves_are_named(tmp_path, recipe, picture):
    picture(tmp_path / "good.png")
    picture(tmp_path / "odd.png", 63, 32)
    line = refusal(recipe(data=tmp_path))
    assert "odd.png (63x32: no two equal halves)" in line
    assert "good.png" not in line
    assert "--input-transform" in line


def test_the_facades_folder_is_labels_to_photo(tmp_path, recipe, picture):
    picture(tmp_path / "facades" / "train" / "1.jpg")
    assert paired_source(recipe(data=tmp_path / "facades"), "train").natural_direction == "BtoA"


def test_marker_decides_direction_and_label_side(tmp_path, recipe, picture):
    picture(tmp_path / "1.png")
    (tmp_path / "pygan.json").write_text(json.dumps({"natural_direction": "BtoA", "label_side": "B"}))
    source = paired_source(recipe(data=tmp_path), "train")
    assert source.natural_direction == "BtoA"
    assert source.filters == ("bicubic", "nearest")
    (tmp_path / "pygan.json").write_text(json.dumps({"natural_direction": "up"}))
    assert "pygan.json" in refusal(recipe(data=tmp_path))
    (tmp_path / "pygan.json").write_text("{")
    assert "pygan.json" in refusal(recipe(data=tmp_path))


# -- two folders ------------------------------------------------------------------------------------------------------

TWO = {
    "A, B": ("A/", "B/", None, None),
    "A/train": ("A/train/", "B/train/", "A/test/", "B/test/"),
    "A/val": ("A/train/", "B/train/", "A/val/", "B/val/"),
    "trainA": ("trainA/", "trainB/", "testA/", "testB/"),
    "trainA alone": ("trainA/", "trainB/", None, None),
}


@pytest.mark.parametrize("layout", TWO)
def test_two_folders_matched_by_name(tmp_path, recipe, picture, layout):
    a, b, held_a, held_b = TWO[layout]
    pixels = {}
    for i in range(4):
        pixels[f"x{i}"] = (
            picture(tmp_path / a / f"sub/x{i}.png", 40, 40, seed=i),
            picture(tmp_path / b / f"sub/x{i}.bmp", 24, 48, seed=100 + i),
        )
    if held_a:
        picture(tmp_path / held_a / "y.png", seed=50)
        picture(tmp_path / held_b / "y.jpg", seed=51)
    train, held_out = both(recipe(data=tmp_path))
    assert (len(train), len(held_out)) == ((4, 1) if held_a else (3, 1))
    for i, name in enumerate(train.names()):
        A, B = train.pair(i)
        expected = pixels[name.rsplit("/", 1)[1]]
        assert np.array_equal(A, as_loaded(expected[0]))
        assert np.array_equal(B, as_loaded(expected[1]))
        assert [p.suffix for p in train.paths(i)] == [".png", ".bmp"]
    assert "two folders" in train.describe()


def test_palette_folder_is_a_label_map(tmp_path, recipe, picture):
    for i in range(2):
        picture(tmp_path / "A" / f"{i}.png", seed=i)
        ids = np.arange(256, dtype=np.uint8).reshape(16, 16) % 5
        labels = Image.fromarray(ids, mode="P")
        labels.putpalette([c for k in range(5) for c in (50 * k, 0, 255 - 50 * k)])
        (tmp_path / "B").mkdir(exist_ok=True)
        labels.save(tmp_path / "B" / f"{i}.png")
    source = paired_source(recipe(data=tmp_path), "train")
    assert source.filters == ("bicubic", "nearest")
    assert {tuple(c) for c in source.pair(0)[1].reshape(-1, 3)} == {(50 * k, 0, 255 - 50 * k) for k in range(5)}
    explicit = paired_source(recipe(data=tmp_path, resample="area"), "train")
    assert explicit.filters == ("area", "nearest")


def test_unpaired_names_are_listed(tmp_path, recipe, picture):
    for name in ("A/1", "A/2", "A/3", "B/2", "B/4"):
        picture(tmp_path / f"{name}.png")
    line = refusal(recipe(data=tmp_path))
    assert "3 pictures" in line
    assert "A/1.png, A/3.png, B/4.png" in line
    source = paired_source(recipe(data=tmp_path, skip_bad=True), "train")
    assert source.names() == ["2"]
    assert "3 without a partner left out" in source.describe()


def test_nothing_in_common_and_missing_partner(tmp_path, recipe, picture):
    picture(tmp_path / "A" / "1.png")
    assert "no folder B" in refusal(recipe(data=tmp_path))
    (tmp_path / "B").mkdir()
    assert "no pictures in" in refusal(recipe(data=tmp_path))
    picture(tmp_path / "B" / "2.png")
    assert "no name in common" in refusal(recipe(data=tmp_path, skip_bad=True))


def test_same_name_twice_in_one_folder(tmp_path, recipe, picture):
    for name in ("A/1.png", "A/1.bmp", "B/1.png"):
        picture(tmp_path / name)
    assert "have the same name" in refusal(recipe(data=tmp_path))


@pytest.mark.parametrize("more", ["train/1.png", "trainA/1.png"])
def test_ambiguous(tmp_path, recipe, picture, more):
    for name in ("A/1.png", "B/1.png", more):
        picture(tmp_path / name)
    assert "give --data the one folder that is meant" in refusal(recipe(data=tmp_path))


# -- CMP facades ------------------------------------------------------------------------------------------------------


def write_cmp(folder, name, seed=0, ids=None):
    ids = (np.arange(40 * 30).reshape(40, 30) // 7 % 12 + 1).astype(np.uint8) if ids is None else ids
    labels = Image.fromarray(ids, mode="P")
    labels.putpalette(list(range(39)))  # not the colours: only the indices count
    folder.mkdir(parents=True, exist_ok=True)
    labels.save(folder / f"{name}.png")
    photo = np.random.Generator(np.random.Philox(seed)).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    Image.fromarray(photo).save(folder / f"{name}.jpg")
    (folder / f"{name}.xml").write_text("<objects/>")
    return ids


def test_cmp_as_distributed(tmp_path, recipe):
    for number in (1, 299, 300, 378):
        ids = write_cmp(tmp_path / "base", f"cmp_b{number:04d}", seed=number)
    write_cmp(tmp_path / "extended", "cmp_x0001")
    train, held_out = both(recipe(data=tmp_path))
    assert train.names() == ["cmp_b0001", "cmp_b0299", "cmp_x0001"]
    assert held_out.names() == ["cmp_b0300", "cmp_b0378"]
    assert train.natural_direction == "BtoA"
    assert train.paths(0) is None
    photo, labels = held_out.pair(0)
    shown = np.asarray(Image.fromarray(ids).resize((32, 32), Image.Resampling.NEAREST))
    assert np.array_equal(labels, PALETTE[shown])
    assert photo.shape == (32, 32, 3)
    assert "CMP facades" in train.describe()


def test_cmp_base_folder_itself_and_one_hot(tmp_path, recipe):
    for number in (1, 2, 3, 4):
        write_cmp(tmp_path, f"cmp_b{number:04d}")
    source = paired_source(recipe(data=tmp_path, input_channels=12), "train")
    assert len(source) == 3
    labels = source.pair(0)[1]
    assert labels.shape == (36, 36, 12)
    assert (labels.sum(axis=2, dtype=int) == 255).all()


def test_cmp_incomplete_or_with_strange_labels(tmp_path, recipe):
    write_cmp(tmp_path / "base", "cmp_b0001")
    write_cmp(tmp_path / "base", "cmp_b0002", ids=np.full((8, 8), 13, dtype=np.uint8))
    assert "cmp_b0002.png (P 13..13: not classes 1..12)" in refusal(recipe(data=tmp_path))
    (tmp_path / "base" / "cmp_b0002.jpg").unlink()
    assert "cmp_b0002 lack" in refusal(recipe(data=tmp_path))


# -- one folder and a transform ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transform", "channels", "asked"),
    [("canny", (1, 3), {}), ("grey", (1, 3), {}), ("lab", (1, 2), {}), ("mask", (3, 3), {}),
     ("canny", (3, 3), {"input_channels": 3}), ("grey", (1, 1), {"output_channels": 1})],
)  # fmt: skip
def test_one_folder_with_a_transform(tmp_path, recipe, picture, transform, channels, asked):
    pixels = {f"{i}": picture(tmp_path / f"{i}.png", 50, 31, seed=i) for i in range(4)}
    source = paired_source(recipe(data=tmp_path, input_transform=transform, **asked), "train")
    assert source.channels == channels
    A, B = source.pair(0)
    assert (A.shape, B.shape) == ((36, 36, channels[0]), (36, 36, channels[1]))
    assert source.paths(0) is None
    assert source.mask_centre == (transform == "mask")
    if channels[1] == 3:
        assert np.array_equal(B, as_loaded(pixels[source.names()[0]]))


def test_transform_and_direction_are_told_apart(tmp_path, recipe, picture):
    picture(tmp_path / "1.png")
    fields = {"data": tmp_path, "input_transform": "grey", "direction": "BtoA"}
    assert paired_source(recipe(**fields), "train").channels == (1, 3)
    assert paired_source(recipe(**fields, input_channels=1), "train").channels == (1, 1)
    assert "lab makes 1 channel" in refusal(recipe(data=tmp_path, input_transform="lab", input_channels=3))
    assert "must be 1 (grey) or 3" in refusal(recipe(data=tmp_path, input_transform="grey", input_channels=2))


# -- built-in ---------------------------------------------------------------------------------------------------------


def test_built_in_houses(recipe):
    train, held_out = both(recipe())
    assert (len(train), len(held_out)) == (8, 2)
    photo, ids = facade(0, 3, 36)
    A, B = train.pair(3)
    assert np.array_equal(A, photo)
    assert np.array_equal(B, PALETTE[ids])
    assert train.natural_direction == "BtoA"
    assert train.paths(0) is None
    assert not set(train.names()) & set(held_out.names())
    more = paired_source(recipe(data_images=12, data="facades"), "held-out")
    assert np.array_equal(more.pair(0)[0], held_out.pair(0)[0])  # held-out houses do not depend on the training set
    assert np.array_equal(paired_source(recipe(data="facades:7"), "train").pair(0)[0], facade(7, 0, 36)[0])
    # The seed of a run decides weights and order, not the houses.
    assert np.array_equal(paired_source(recipe(seed=5), "train").pair(0)[0], train.pair(0)[0])


def test_built_in_channels_and_transform(recipe):
    assert paired_source(recipe(input_channels=12), "train").pair(0)[1].shape == (36, 36, 12)
    assert paired_source(recipe(input_channels=1, output_channels=1), "train").channels == (1, 1)
    edges = paired_source(recipe(input_transform="canny"), "train")
    assert edges.natural_direction == "AtoB"
    A, B = edges.pair(0)
    assert set(np.unique(A)) <= {0, 255}
    assert np.array_equal(B, facade(0, 0, 36)[0])


def test_a_folder_called_facades_wins_over_the_built_in_set(tmp_path, recipe, picture, monkeypatch):
    picture(tmp_path / "facades" / "1.png")
    monkeypatch.chdir(tmp_path)
    assert paired_source(recipe(data="facades"), "train").names() == ["1"]


# -- what is wrong ----------------------------------------------------------------------------------------------------


def test_missing_empty_and_file(tmp_path, recipe):
    assert "no folder" in refusal(recipe(data=tmp_path / "none"))
    (tmp_path / "empty" / "train").mkdir(parents=True)
    line = refusal(recipe(data=tmp_path / "empty"))
    assert "no pictures in" in line
    assert all(word in line for word in ("side-by-side", "trainA", "cmp_b0001", "--input-transform"))
    (tmp_path / "x.png").write_bytes(b"1")
    assert "is a file" in refusal(recipe(data=tmp_path / "x.png"))


def test_empty_train_beside_pictures(tmp_path, recipe, picture):
    (tmp_path / "train").mkdir()
    picture(tmp_path / "val" / "1.png")
    assert "no pictures in" in refusal(recipe(data=tmp_path))


def test_bad_files_stop_or_are_left_out_with_their_pair(tmp_path, recipe, picture):
    for side, i in product("AB", range(5)):
        picture(tmp_path / side / f"{i}.png", seed=i)
    (tmp_path / "B" / "3.png").write_bytes(b"")
    assert "B/3.png (empty file (0 bytes))" in refusal(recipe(data=tmp_path))
    train, held_out = both(recipe(data=tmp_path, skip_bad=True))
    assert sorted(train.names() + held_out.names()) == ["0", "1", "2", "4"]
    assert "1 bad files left out" in train.describe()


def test_nothing_good_left(tmp_path, recipe):
    (tmp_path / "1.png").write_bytes(b"")
    assert "no good pair is left" in refusal(recipe(data=tmp_path, skip_bad=True))


def test_a_file_that_goes_bad_later(tmp_path, recipe, picture):
    for i in range(3):
        picture(tmp_path / f"{i}.png", seed=i)
    source = paired_source(recipe(data=tmp_path), "train")
    path = source.paths(0)[0]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=path.name):
        source.pair(0)


def test_sizes_and_splits_that_make_no_sense(recipe):
    assert "--load-size 16 is smaller than --crop-size 32" in refusal(recipe(load_size=16))
    with pytest.raises(ValueError, match="split must be one of"):
        paired_source(recipe(), "validation")

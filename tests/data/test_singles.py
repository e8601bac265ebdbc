"""Single pictures: folders, CelebA, CIFAR-10, HDF5 and what is drawn, cut and scaled as the recipe says."""

import pickle

import numpy as np
import pytest
from PIL import Image

from pygan.data import celeba, paired_source
from pygan.data.faces import face_picture
from pygan.data.shapes import shapes_picture
from pygan.data.singles import pictures_source
from pygan.errors import UserError


def both(fields):
    return pictures_source(fields, "train"), pictures_source(fields, "held-out")


def refusal(fields, of=pictures_source):
    with pytest.raises(UserError) as caught:
        of(fields, "train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def as_loaded(pixels, size=36, how=Image.Resampling.BICUBIC):
    return np.asarray(Image.fromarray(pixels).resize((size, size), how))


def test_folders(tmp_path, recipe, picture):
    for i in range(3):
        picture(tmp_path / "train" / f"{i}.png", 33, 21, seed=i)
    pixels = picture(tmp_path / "val" / "9.jpg", 33, 21, quality=100, subsampling=0)
    picture(tmp_path / "test" / "9.png")
    train, held_out = both(recipe(data=tmp_path))
    assert train.names() == ["train/0", "train/1", "train/2"]
    assert held_out.names() == ["val/9"]
    assert np.abs(held_out.picture(0).astype(int) - as_loaded(pixels, 32)).max() < 8  # JPEG
    assert train.picture(0).flags.c_contiguous
    for words in ("3 to train, 1 held out (val)", "1 in test/ not used", "33x21"):
        assert words in train.describe()


def test_one_folder_and_how_it_is_scaled(tmp_path, recipe, picture):
    pixels = {f"{i}": picture(tmp_path / f"{i}.png", 50, 31, seed=i) for i in range(4)}
    train, held_out = both(recipe(data=tmp_path, resample="area"))
    assert (len(train), len(held_out)) == (3, 1)
    expected = as_loaded(pixels[train.names()[2]], 36, Image.Resampling.BOX)
    assert np.array_equal(train.picture(2), expected)
    assert train.filters == ("area",)
    grey = pictures_source(recipe(data=tmp_path, channels=1), "train")
    assert grey.picture(0).shape == (36, 36, 1)
    assert "--channels must be" in refusal(recipe(data=tmp_path, channels=4))


@pytest.mark.parametrize(
    ("pre_crop", "rows", "columns"),
    [("square", (0, 40), (10, 50)), ("20", (10, 30), (20, 40)), ("30x10+4+25", (25, 35), (4, 34)),
     ("21", (9, 30), (19, 40))],
)  # fmt: skip
def test_pre_crop(tmp_path, recipe, picture, pre_crop, rows, columns):
    for i in range(2):
        pixels = picture(tmp_path / f"{i}.png", 60, 40, seed=3)
    source = pictures_source(recipe(data=tmp_path, pre_crop=pre_crop), "train")
    assert np.array_equal(source.picture(0), as_loaded(pixels[slice(*rows), slice(*columns)].copy()))
    assert source.paths(0) is None


def test_began_crops_celeba_at_row_50_column_25(tmp_path, recipe, picture):
    """Spec 5.2: 128 x 128 at row 50, column 25, then nearest to 64."""
    for i in range(2):
        pixels = picture(tmp_path / f"{i}.png", 178, 218, seed=3)
    fields = recipe(data=tmp_path, pre_crop="128x128+25+50", load_size=64, crop_size=64, resample="nearest")
    expected = as_loaded(pixels[50:178, 25:153].copy(), 64, Image.Resampling.NEAREST)
    assert np.array_equal(pictures_source(fields, "train").picture(0), expected)


@pytest.mark.parametrize("pre_crop", ["half", "-3", "10x10", "10x10+1", "square!", "10 "])
def test_pre_crop_that_says_nothing(tmp_path, recipe, picture, pre_crop):
    picture(tmp_path / "1.png")
    assert "--pre-crop must be none, square" in refusal(recipe(data=tmp_path, pre_crop=pre_crop))


@pytest.mark.parametrize("pre_crop", ["41", "10x10+55+0"])
def test_pre_crop_that_does_not_fit(tmp_path, recipe, picture, pre_crop):
    picture(tmp_path / "1.png", 60, 40)
    line = refusal(recipe(data=tmp_path, pre_crop=pre_crop))
    assert f"--pre-crop {pre_crop} does not fit into 1 pictures" in line
    assert "1.png (60x40)" in line


@pytest.mark.parametrize("pre_crop", ["1", "0", "10x1+0+0"])
def test_pre_crop_that_leaves_nothing(tmp_path, recipe, picture, pre_crop):
    picture(tmp_path / "1.png")
    assert "--pre-crop must leave at least 2x2 pixels" in refusal(recipe(data=tmp_path, pre_crop=pre_crop))


def test_what_is_no_set_of_single_pictures(tmp_path, recipe, picture):
    assert "no folder" in refusal(recipe(data=tmp_path / "none"))
    assert "no pictures in" in refusal(recipe(data=tmp_path))
    assert "smaller than --crop-size" in refusal(recipe(load_size=8))
    picture(tmp_path / "u" / "trainA" / "1.png")
    assert "holds two domains" in refusal(recipe(data=tmp_path / "u"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "1.png").write_bytes(b"")
    assert "1.png (empty file (0 bytes))" in refusal(recipe(data=tmp_path / "bad"))
    assert "no good picture is left" in refusal(recipe(data=tmp_path / "bad", skip_bad=True))
    with pytest.raises(ValueError, match="split must be one of"):
        pictures_source(recipe(), "test")


# -- CelebA -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def faces(tmp_path, picture):
    """CelebA's pictures and its file of splits: 6 train, 2 val, 2 test."""
    for i in range(1, 11):
        picture(tmp_path / "images" / f"{i:06d}.jpg", 178, 218, seed=i)
    rows = [f"{i:06d}.jpg {0 if i < 7 else 1 if i < 9 else 2}" for i in range(1, 11)]
    (tmp_path / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_celeba_with_its_file_of_splits(faces, recipe):
    train, held_out = both(recipe(data=faces, pre_crop="178"))
    assert train.names() == [f"{i:06d}" for i in range(1, 7)]
    assert held_out.names() == ["000007", "000008"]
    assert "val of list_eval_partition.txt" in train.describe()
    assert "2 of the test split not used" in train.describe()


def test_celeba_without_it_is_divided_by_hash(faces, recipe):
    (faces / "list_eval_partition.txt").unlink()
    (faces / "list_attr_celeba.txt").write_text("not looked at")
    train, held_out = both(recipe(data=faces, holdout=0.2))
    assert (len(train), len(held_out)) == (8, 2)
    assert "by hash of the names" in train.describe()


def test_the_whole_of_celeba_is_divided_by_order(faces, recipe, monkeypatch):
    """Spec 5.2: 162,770 / 19,867 / 19,962 of 202,599, here 5 / 3 / 2 of 10."""
    assert sum(celeba.SPLIT_SIZES) == celeba.N_PICTURES == 202_599
    monkeypatch.setattr(celeba, "N_PICTURES", 10)
    monkeypatch.setattr(celeba, "SPLIT_SIZES", (5, 3, 2))
    (faces / "list_eval_partition.txt").unlink()
    train, held_out = both(recipe(data=faces))
    assert train.names()[-1] == "000005"
    assert held_out.names() == ["000006", "000007", "000008"]
    assert "by order" in train.describe()


@pytest.mark.parametrize(
    ("content", "words"),
    [("000001.jpg 0\n000002.jpg 3\n", "line 2"), ("000001.jpg\n", "line 1"), ("000001.jpg 0\n000001.jpg 0\n", "line 2"),
     ("\n000001.jpg 0\n", "line 1: is empty"), ("000001.jpg 0\n", "9 pictures have no row")],
)  # fmt: skip
def test_a_damaged_file_of_splits(faces, recipe, content, words):
    (faces / "list_eval_partition.txt").write_text(content)
    assert words in refusal(recipe(data=faces))


def test_rows_and_pictures_that_do_not_match(faces, recipe):
    (faces / "images" / "000003.jpg").unlink()
    assert "1 rows without a picture: 000003.jpg" in refusal(recipe(data=faces))
    train, _ = both(recipe(data=faces, skip_bad=True))
    assert len(train) == 5
    assert "1 rows without a picture left out" in train.describe()


# -- CIFAR-10 ---------------------------------------------------------------------------------------------------------


def batch(n, seed):
    """(labels (n,), planes (n, 3072)): all red, all green, all blue values of a picture, row by row."""
    random = np.random.Generator(np.random.Philox(seed))
    return random.integers(0, 10, n, dtype=np.uint8), random.integers(0, 256, (n, 3072), dtype=np.uint8)


def write_cifar(folder, kind):
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        labels, planes = batch(4, k)
        if kind == "binary":
            (folder / f"{name}.bin").write_bytes(np.concatenate([labels[:, None], planes], axis=1).tobytes())
        else:
            content = {"batch_label": name, "labels": labels.tolist(), "data": planes, "filenames": ["x.png"] * 4}
            named = content if kind == "text keys" else {key.encode(): value for key, value in content.items()}
            (folder / name).write_bytes(pickle.dumps(named, protocol=2))


@pytest.mark.parametrize("kind", ["binary", "text keys", "byte keys"])
@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin", "cifar-10-batches-py"])
def test_cifar_10(tmp_path, recipe, kind, inner):
    write_cifar(tmp_path / inner, kind)
    fields = recipe(data=tmp_path, load_size=32, crop_size=32)
    train, held_out = both(fields)
    assert (len(train), len(held_out)) == (20, 4)
    labels, planes = batch(4, 2)
    pixels = train.picture(9)  # the second of the third batch
    assert train.names()[9] == "data_batch_3/00001"
    for row, column, colour in ((0, 0, 0), (5, 7, 1), (31, 30, 2)):
        assert pixels[row, column, colour] == planes[1, colour * 1024 + row * 32 + column]
    assert train.labels[labels[1]] == train.labels[train.facts["label"][9].argmax()]
    assert train.labels[:3] == ("airplane", "automobile", "bird")
    assert (train.facts["label"].sum(1) == 1).all()
    assert train.facts["label"].dtype == np.float32
    assert "CIFAR-10" in train.describe()
    assert pictures_source(recipe(data=tmp_path), "train").picture(0).shape == (36, 36, 3)


def test_cifar_10_in_parts(tmp_path, recipe):
    write_cifar(tmp_path, "binary")
    for name in ("data_batch_2", "data_batch_3", "test_batch"):
        (tmp_path / f"{name}.bin").unlink()
    train, held_out = both(recipe(data=tmp_path))
    assert (len(train), len(held_out)) == (9, 3)
    assert "3 of 5 batches" in train.describe()
    assert not {*train.names()} & {*held_out.names()}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"x" * 3072, "no whole number of records of 3073"), (b"", "0 bytes"), (b"\x0a" + b"x" * 3072, "labels 10..10")],
)
def test_a_damaged_binary_batch(tmp_path, recipe, content, words):
    write_cifar(tmp_path, "binary")
    (tmp_path / "data_batch_4.bin").write_bytes(content)
    line = refusal(recipe(data=tmp_path))
    assert words in line
    assert "data_batch_4.bin" in line


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"data": np.zeros((2, 3072), np.uint8)}, {"data": np.zeros((2, 3072)), "labels": [1, 2]},
     {"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, {"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]},
     {"data": np.zeros((1, 1024), np.uint8), "labels": [1]}, {"data": np.zeros((0, 3072), np.uint8), "labels": []}],
)  # fmt: skip
def test_a_pickled_batch_that_is_none(tmp_path, recipe, content):
    write_cifar(tmp_path, "text keys")
    (tmp_path / "data_batch_4").write_bytes(pickle.dumps(content))
    assert "data_batch_4 is no batch of CIFAR-10" in refusal(recipe(data=tmp_path))


# -- HDF5 -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def h5(tmp_path):
    """A function that writes arrays by name to an HDF5 file and returns its path."""
    h5py = pytest.importorskip("h5py")

    def write(**arrays):
        path = tmp_path / "h" / "pairs.h5"
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
        return path

    return write


def noise(*shape, seed=0):
    return np.random.Generator(np.random.Philox(seed)).integers(0, 256, shape, dtype=np.uint8)


def test_hdf5_of_full_and_sketch(h5, recipe):
    """KD: N x C x H x W."""
    full, sketch, val = noise(5, 3, 36, 36), noise(5, 3, 36, 36, seed=1), noise(2, 3, 36, 36, seed=2)
    path = h5(train_data_full=full, train_data_sketch=sketch, val_data_full=val, val_data_sketch=val)
    source = paired_source(recipe(data=path), "train")
    A, B = source.pair(3)
    assert np.array_equal(A, sketch[3].transpose(1, 2, 0))
    assert np.array_equal(B, full[3].transpose(1, 2, 0))
    assert (source.channels, source.natural_direction, len(source)) == ((3, 3), "AtoB", 5)
    held_out = paired_source(recipe(data=path.parent, load_size=36, crop_size=36), "held-out")  # the folder will do
    assert held_out.names() == ["val/00000", "val/00001"]
    assert np.array_equal(held_out.pair(1)[0], val[1].transpose(1, 2, 0))
    single = pictures_source(recipe(data=path), "train")
    assert np.array_equal(single.picture(3), B)
    assert source.files(0) == (path,)


def test_hdf5_of_gen_and_raw(h5, recipe):
    """MU: N x H x W x C of floats 0..255, the raw (edges or grey) of one channel, no validation split in some."""
    gen, raw = noise(8, 36, 36, 3), noise(8, 36, 36, 1, seed=1)
    path = h5(train_data_gen=gen.astype(np.float32), train_data_raw=raw)
    train, held_out = (paired_source(recipe(data=path), split) for split in ("train", "held-out"))
    assert (len(train), len(held_out), train.channels) == (6, 2, (1, 3))
    i = int(train.names()[2].split("/")[1])
    assert np.array_equal(train.pair(2)[0], raw[i])
    assert np.array_equal(train.pair(2)[1], gen[i])
    assert paired_source(recipe(data=path, input_channels=3), "train").pair(0)[0].shape == (36, 36, 3)
    backwards = paired_source(recipe(data=path, direction="BtoA", output_channels=3), "train")
    assert backwards.channels == (3, 3)
    assert "must be 1 (grey) or 3" in refusal(recipe(data=path, input_channels=2), paired_source)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": noise(2, 3, 8, 8)}, "has no train_data_full and train_data_sketch"),
        ({"train_data_full": noise(2, 3, 8, 8)}, "has no train_data_full and train_data_sketch"),
        ({"train_data_full": noise(2, 3, 8, 8), "train_data_sketch": noise(3, 3, 8, 8)}, "has 3 pictures"),
        ({"train_data_full": noise(2, 8, 8), "train_data_sketch": noise(2, 3, 8, 8)}, "must be pictures"),
        ({"train_data_full": noise(2, 5, 8, 8), "train_data_sketch": noise(2, 3, 8, 8)}, "no axis of 1 or 3 channels"),
        ({"train_data_full": noise(0, 3, 8, 8), "train_data_sketch": noise(0, 3, 8, 8)}, "must be pictures"),
        ({"train_data_gen": noise(2, 8, 8, 3) / 255, "train_data_raw": noise(2, 8, 8, 1)}, "expected 0..255"),
        ({"train_data_gen": noise(2, 8, 8, 3) * 2.0, "train_data_raw": noise(2, 8, 8, 1)}, "expected 0..255"),
        ({"train_data_gen": np.full((2, 8, 8, 3), np.nan), "train_data_raw": noise(2, 8, 8, 1)}, "no numbers"),
    ],
)
def test_hdf5_that_holds_no_pairs(h5, recipe, arrays, words):
    assert words in refusal(recipe(data=h5(**arrays)), paired_source)


def test_hdf5_that_is_none(tmp_path, recipe):
    pytest.importorskip("h5py")
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    assert "no HDF5 file, or damaged" in refusal(recipe(data=tmp_path / "a.h5"), paired_source)
    (tmp_path / "b.hdf5").write_bytes(b"no HDF5")
    assert "has 2 HDF5 files" in refusal(recipe(data=tmp_path))


def test_hdf5_without_h5py(tmp_path, recipe, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"")
    assert "pip install '.[hdf5]' in pygan's checkout" in refusal(recipe(data=tmp_path / "a.h5"))


# -- built-in ---------------------------------------------------------------------------------------------------------


def test_what_is_drawn(recipe):
    train, held_out = both(recipe(pre_crop="178"))  # drawn pictures are square already
    assert (len(train), len(held_out)) == (8, 2)
    assert np.array_equal(train.picture(4), face_picture(0, 4, 36)[0])
    assert np.array_equal(pictures_source(recipe(data="shapes:3"), "train").picture(1), shapes_picture(3, 1, 36)[0])
    assert pictures_source(recipe(data="facades", channels=1), "held-out").picture(0).shape == (32, 32, 1)

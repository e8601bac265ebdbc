"""Pictures with labels: CelebA's attributes, class folders, CIFAR-10 and the drawn faces."""

import random

import numpy as np
import pytest

from pygan.data import celeba
from pygan.data.faces import ATTRIBUTES, draw_attributes, face_picture
from pygan.data.labelled import labelled_source
from pygan.errors import UserError

NAMES = ("5_o_Clock_Shadow", "Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Smiling", "Young")


def both(fields):
    return labelled_source(fields, "train", fields.data), labelled_source(fields, "held-out", fields.data)


def refusal(fields):
    with pytest.raises(UserError) as caught:
        labelled_source(fields, "train", fields.data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values_of(i):
    """What picture i has, 0 or 1 for each of NAMES."""
    return [(i >> k) & 1 for k in range(len(NAMES))]


@pytest.fixture
def faces(tmp_path, picture):
    """CelebA with 20 pictures and 7 attributes, as distributed."""
    lines = ["20", " ".join(NAMES) + " "]
    for i in range(1, 21):
        picture(tmp_path / "images" / f"{i:06d}.jpg", 18, 22, seed=i)
        lines.append(f"{i:06d}.jpg  " + " ".join(f"{2 * v - 1:2d}" for v in values_of(i)))
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_celeba(faces, recipe):
    train, held_out = both(recipe(data=faces, pre_crop="18"))
    assert train.labels == ("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young")
    assert (len(train), len(held_out)) == (15, 5)
    for source in (train, held_out):
        assert source.facts["label"].dtype == np.float32
        for name, label in zip(source.names(), source.facts["label"], strict=True):
            values = dict(zip(NAMES, values_of(int(name)), strict=True))
            assert label.tolist() == [values[attribute] for attribute in source.labels]
    assert "CelebA" in train.describe()
    assert train.picture(0).shape == (36, 36, 3)


def test_the_split_is_that_of_stargan(faces, recipe):
    """Spec 7: the lines after the second shuffled with Python's seed 1234, the first of them are the test set."""
    lines = (faces / "list_attr_celeba.txt").read_text().splitlines()[2:]
    random.seed(1234)
    random.shuffle(lines)
    expected = [line.split()[0].split(".")[0] for line in lines]
    train, held_out = both(recipe(data=faces))
    assert held_out.names() == expected[:5]
    assert train.names() == expected[5:]
    assert "the first 5 after shuffling the rows with seed 1234" in train.describe()


def test_the_split_of_the_whole_set_has_the_size_of_stargan():
    train, test, _ = celeba.stargan_split(202_599, 0.1)
    assert (len(test), len(train)) == (1999, 200_600)
    assert sorted(train + test) == list(range(202_599))
    assert [len(part) for part in celeba.stargan_split(2, 0.0)[:2]] == [1, 1]
    assert celeba.stargan_split(1, 0.5)[:2] == ([0], [0])


def test_attributes_are_chosen_by_name(faces, recipe):
    train, _ = both(recipe(data=faces, attrs="Smiling, Male"))
    assert train.labels == ("Smiling", "Male")
    values = dict(zip(NAMES, values_of(int(train.names()[3])), strict=True))
    assert train.facts["label"][3].tolist() == [values["Smiling"], values["Male"]]
    line = refusal(recipe(data=faces, attrs="Male,blond_hair"))
    assert "no attribute 'blond_hair'" in line
    assert "did you mean Blond_Hair" in line
    assert "there are 5_o_Clock_Shadow, Black_Hair" in refusal(recipe(data=faces, attrs="xyz"))
    assert "Male twice" in refusal(recipe(data=faces, attrs="Male,Young,Male"))


def test_without_the_five_of_stargan_all_are_taken(faces, recipe):
    path = faces / "list_attr_celeba.txt"
    path.write_text(path.read_text().replace("Young", "Old"))
    assert both(recipe(data=faces))[0].labels == (*NAMES[:-1], "Old")


def test_distributed_folders_and_png(faces, recipe, picture):
    (faces / "Anno").mkdir()
    (faces / "list_attr_celeba.txt").rename(faces / "Anno" / "list_attr_celeba.txt")
    (faces / "images").rename(faces / "img_align_celeba")
    (faces / "img_align_celeba" / "000003.jpg").unlink()
    picture(faces / "img_align_celeba" / "000003.png", 18, 22)
    assert len(both(recipe(data=faces))[0]) == 15


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("20\n", "21\n", "line 1 says 21 pictures, but 20 lines follow"),
        ("20\n", "many\n", "line 1: expected the number of pictures"),
        ("Young", "Male", "line 2: expected names of attributes, each once"),
        ("000004.jpg  -1 -1", "000004.jpg  -1  0", "line 6: expected a file name and 7 values 1 or -1"),
        ("000004.jpg  -1", "000004.jpg ", "line 6: expected a file name and 7 values"),
        ("000004.jpg", "000005.jpg", "line 7: 000005.jpg is there twice"),
        ("000004.jpg", "400004.jpg", "1 rows without a picture: 400004.jpg"),
    ],
)
def test_a_damaged_file_of_attributes(faces, recipe, old, new, words):
    path = faces / "list_attr_celeba.txt"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert words in refusal(recipe(data=faces))


def test_an_empty_file_of_attributes(faces, recipe):
    (faces / "list_attr_celeba.txt").write_text("")
    assert "ends after 0 lines" in refusal(recipe(data=faces))


def test_rows_and_pictures_that_do_not_match(faces, recipe, picture):
    picture(faces / "images" / "000099.jpg")
    assert "1 pictures have no row" in refusal(recipe(data=faces))
    (faces / "images" / "000004.jpg").unlink()
    train, held_out = both(recipe(data=faces, skip_bad=True))
    assert len(train) + len(held_out) == 19
    assert "1 rows without a picture left out; 1 pictures without a row left out" in train.describe()
    for path in (faces / "images").iterdir():
        path.rename(path.with_stem(f"x{path.stem}"))
    assert "no row about any of the 20 pictures" in refusal(recipe(data=faces, skip_bad=True))


def test_bad_pictures_keep_the_split_of_the_others(faces, recipe):
    before = both(recipe(data=faces))
    (faces / "images" / "000004.jpg").write_bytes(b"")
    assert "000004.jpg (empty file (0 bytes))" in refusal(recipe(data=faces))
    after = both(recipe(data=faces, skip_bad=True))
    for old, new in zip(before, after, strict=True):
        assert new.names() == [name for name in old.names() if name != "000004"]


def test_what_is_missing_of_celeba(faces, recipe):
    (faces / "list_attr_celeba.txt").rename(faces / "list_eval_partition.txt")
    assert "has no list_attr_celeba.txt" in refusal(recipe(data=faces))
    (faces / "list_eval_partition.txt").rename(faces / "list_attr_celeba.txt")
    (faces / "images").rename(faces / "pictures")
    assert "no folder images/" in refusal(recipe(data=faces))


# -- class folders ----------------------------------------------------------------------------------------------------


def test_class_folders_with_a_test_folder(tmp_path, recipe, picture):
    for k, emotion in enumerate(("angry", "happy", "sad")):
        for i in range(k + 1):
            picture(tmp_path / "train" / emotion / f"{i}.jpg", seed=i)
    picture(tmp_path / "test" / "sad" / "0.jpg")
    train, held_out = both(recipe(data=tmp_path))
    assert train.labels == held_out.labels == ("angry", "happy", "sad")
    assert train.names()[1:4] == ["train/happy/0", "train/happy/1", "train/sad/0"]
    assert train.facts["label"].argmax(1).tolist() == [0, 1, 1, 2, 2, 2]
    assert (train.facts["label"].sum(1) == 1).all()
    assert held_out.facts["label"].tolist() == [[0, 0, 1]]
    assert "3 classes" in train.describe()


def test_class_folders_without_one_hold_out_of_every_class(tmp_path, recipe, picture):
    for kind, count in (("cat", 8), ("dog", 4)):
        for i in range(count):
            picture(tmp_path / kind / f"{i}.png", seed=i)
    train, held_out = both(recipe(data=tmp_path))
    assert train.facts["label"].sum(0).tolist() == [6, 3]
    assert held_out.facts["label"].sum(0).tolist() == [2, 1]
    assert not {*train.names()} & {*held_out.names()}
    assert "the same part of every class" in train.describe()


def test_class_folders_that_cannot_be_used(tmp_path, recipe, picture):
    picture(tmp_path / "train" / "a" / "1.png")
    assert "no folders of two classes" in refusal(recipe(data=tmp_path))
    (tmp_path / "train" / "b").mkdir()
    assert f"the class {tmp_path / 'train' / 'b'} has no pictures" in refusal(recipe(data=tmp_path))
    (tmp_path / "train" / "b" / "1.png").write_bytes(b"")
    assert "b/1.png (empty file (0 bytes))" in refusal(recipe(data=tmp_path))
    assert "no good picture of the class b is left" in refusal(recipe(data=tmp_path, skip_bad=True))
    picture(tmp_path / "train" / "b" / "1.png")
    picture(tmp_path / "test" / "c" / "1.png")
    assert "has the class c" in refusal(recipe(data=tmp_path))
    assert "no folder" in refusal(recipe(data=tmp_path / "none"))


# -- built-in ---------------------------------------------------------------------------------------------------------


def test_the_drawn_faces(recipe):
    train, held_out = both(recipe(attrs="Smiling,Eyeglasses"))
    assert (len(train), len(held_out), train.labels) == (8, 2, ("Smiling", "Eyeglasses"))
    assert np.array_equal(train.picture(5), face_picture(0, 5, 36)[0])
    for i in range(8):
        has = dict(zip(ATTRIBUTES, draw_attributes(0, i), strict=True))
        assert train.facts["label"][i].tolist() == [has["Smiling"], has["Eyeglasses"]]
    assert both(recipe(data="faces:4"))[0].labels == celeba.DEFAULT_ATTRIBUTES
    assert "did you mean Smiling" in refusal(recipe(attrs="Smile"))

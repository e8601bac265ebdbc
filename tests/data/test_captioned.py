"""Pictures with captions.jsonl, and the drawn shapes: captions, embeddings, classes, boxes and key points."""

import json

import numpy as np
import pytest

from pygan.data import shapes
from pygan.data.captioned import boxes_in_parts, captioned_source, points_in_parts
from pygan.data.singles import pictures_source
from pygan.data.text import Hashing
from pygan.errors import UserError


def both(fields):
    return captioned_source(fields, "train"), captioned_source(fields, "held-out")


def refusal(fields):
    with pytest.raises(UserError) as caught:
        captioned_source(fields, "train")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def write(tmp_path, picture):
    """A function that writes six pictures of 60 x 40 pixels and captions.jsonl with these rows; returns the folder."""

    def make(rows, pictures=6):
        for i in range(pictures):
            picture(tmp_path / "images" / f"{i}.png", 60, 40, seed=i)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path

    return make


def row(i, **more):
    return {"file": f"images/{i}.png", "captions": [f"picture {i}", f"number {i} café"], **more}


def test_captions_and_their_embeddings(write, recipe):
    rows = [row(i) for i in range(5)]
    rows[2]["captions"] = ["only one"]
    rows.append({"file": "images/5.png", "caption": "picture 5"})
    rows.append({"file": "images/5.png", "caption": "again 5"})  # another line about the same picture
    train, held_out = both(recipe(data=write(rows)))
    assert (len(train), len(held_out)) == (4, 2)
    said = {}
    for source in (train, held_out):
        assert source.texts.shape == (len(source.captions), 256)
        assert np.array_equal(source.texts, Hashing().encode(source.captions))
        assert source.facts["text_range"].dtype == np.int64
        for name, (first, count) in zip(source.names(), source.facts["text_range"], strict=True):
            said[name] = source.captions[first : first + count]
    assert said["images/2"] == ["only one"]
    assert said["images/5"] == ["picture 5", "again 5"]
    assert said["images/4"] == ["picture 4", "number 4 café"]
    assert train.picture(0).shape == (36, 36, 3)
    assert train.paths(0) == (write(rows) / f"{train.names()[0]}.png",)
    assert train.facts["class"].tolist() == [0] * 4
    for words in ("captioned pictures of 60x40", "4 to train, 2 held out", "built-in hashing embeddings of 256"):
        assert words in train.describe()


def test_splits_that_the_rows_tell(write, recipe):
    splits = ["train", "test", "val", "train", "val", "train"]
    folder = write([row(i, split=split) for i, split in enumerate(splits)])
    train, held_out = both(recipe(data=folder))
    assert train.names() == ["images/0", "images/3", "images/5"]
    assert held_out.names() == ["images/2", "images/4"]  # val goes before test
    assert "(val)" in train.describe()
    assert 'no line has "split": "train"' in refusal(recipe(data=write([row(i, split="val") for i in range(6)])))


def test_splits_that_the_folders_tell(tmp_path, recipe, picture):
    rows = []
    for name in ("train/a/1", "train/2", "test/1"):
        picture(tmp_path / f"{name}.png")
        rows.append(json.dumps({"file": f"{name}.png", "caption": name}))
    (tmp_path / "captions.jsonl").write_text("\n".join(rows))
    train, held_out = both(recipe(data=tmp_path))
    assert train.captions == ["train/a/1", "train/2"]
    assert held_out.captions == ["test/1"]


def test_classes_boxes_and_key_points(write, recipe):
    rows = [
        row(
            i, split="train" if i else "test", box=[6, 4, 30, 20], keypoints=[[15, 10, 1], [3, 3, 0]], **{"class": kind}
        )
        for i, kind in enumerate(["b", "b", "a", "c", "a", "c"])
    ]
    train, held_out = both(recipe(data=write(rows)))
    assert train.facts["class"].tolist() == [1, 0, 2, 0, 2]
    assert held_out.facts["class"].tolist() == [1]  # the same number for the same class in both splits
    assert np.allclose(train.facts["box"], [[0.1, 0.1, 0.5, 0.5]] * 5)
    assert np.allclose(train.facts["keypoints"], [[[0.25, 0.25, 1], [0, 0, 0]]] * 5)
    assert train.facts["box"].dtype == train.facts["keypoints"].dtype == np.float32
    square = captioned_source(recipe(data=write(rows), pre_crop="square"), "train")  # columns 10..50
    assert np.allclose(square.facts["box"][0], [0, 0.1, 26 / 40, 0.5])
    assert np.allclose(square.facts["keypoints"][0, 0], [5 / 40, 0.25, 1])


def test_places_in_parts_of_a_frame():
    frames = np.array([[10.0, 20.0, 30.0, 60.0]])
    assert np.allclose(boxes_in_parts(np.array([[15.0, 10.0, 100.0, 30.0]]), frames), [[0.25, 0, 0.75, 0.5]])
    points = np.array([[[20.0, 40.0, 1.0], [9.0, 40.0, 1.0], [30.0, 60.0, 1.0], [20.0, 61.0, 1.0], [20.0, 40.0, 0.0]]])
    expected = [[[0.5, 0.5, 1], [0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0]]]
    assert np.allclose(points_in_parts(points, frames), expected)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", "line 3: not JSON"),
        ("[1]", "line 3: expected an object"),
        ('{"caption": "x"}', 'line 3: needs "file"'),
        ('{"file": 1, "caption": "x"}', 'line 3: needs "file"'),
        ('{"file": "../secret.png", "caption": "x"}', "must lie in the set's folder"),
        ('{"file": "/etc/x.png", "caption": "x"}', "must lie in the set's folder"),
        ('{"file": "images/2.png"}', 'line 3: needs either "caption" or "captions"'),
        ('{"file": "images/2.png", "caption": "x", "captions": ["x"]}', 'either "caption" or "captions"'),
        ('{"file": "images/2.png", "captions": []}', "line 3: \"captions\" must be a list of one caption or more"),
        ('{"file": "images/2.png", "captions": "x"}', "must be a list"),
        ('{"file": "images/2.png", "caption": " "}', "line 3: a caption is empty"),
        ('{"file": "images/2.png", "captions": ["x", 3]}', "line 3: a caption is empty or no text"),
        ('{"file": "images/2.png", "caption": "x", "split": "dev"}', '"split" must be one of train, val, test'),
        ('{"file": "images/2.png", "caption": "x", "class": [1]}', '"class" must be a name or a number'),
        ('{"file": "images/2.png", "caption": "x", "box": [1, 2, 3]}', '"box" must be'),
        ('{"file": "images/2.png", "caption": "x", "box": [1, 2, 0, 4]}', '"box" must be'),
        ('{"file": "images/2.png", "caption": "x", "box": [1, 2, NaN, 4]}', '"box" must be'),
        ('{"file": "images/2.png", "caption": "x", "keypoints": [[1, 2]]}', '"keypoints" must be'),
        ('{"file": "images/2.png", "caption": "x", "keypoints": []}', '"keypoints" must be'),
        ('{"file": "images/2.png", "caption": "x", "box": [1, 2, 3, 4]}', 'has no "box", which other lines have'),
        ('{"file": "images/0.png", "caption": "x", "class": "z"}', "line 3: says other things about images/0.png"),
    ],
)  # fmt: skip
def test_lines_that_are_wrong(write, recipe, bad, words):
    rows = [row(0), row(1), bad, row(3), row(4), row(5)]
    line = refusal(recipe(data=write(rows)))
    assert words in line
    assert "captions.jsonl" in line


def test_key_points_of_another_number(write, recipe):
    rows = [row(i, keypoints=[[1, 1, 1]] * (2 if i == 3 else 1)) for i in range(6)]
    assert "line 4: has 2 key points, line 1 has 1" in refusal(recipe(data=write(rows)))


def test_files_that_cannot_be_read(write, recipe):
    folder = write([row(i) for i in range(6)])
    (folder / "captions.jsonl").write_bytes(b'{"file": "caf\xe9"}')
    assert "is not UTF-8 text" in refusal(recipe(data=folder))
    (folder / "captions.jsonl").write_text("\n \n")
    assert "is empty" in refusal(recipe(data=folder))
    (folder / "captions.jsonl").unlink()
    line = refusal(recipe(data=folder))
    assert "has no captions.jsonl; understood are" in line
    assert "no folder" in refusal(recipe(data=folder / "none"))


def test_captions_and_pictures_that_do_not_match(write, recipe):
    folder = write([row(i) for i in range(1, 8)])
    assert "captions for 2 pictures that are not there: images/6.png, images/7.png" in refusal(recipe(data=folder))
    folder = write([row(i) for i in range(1, 6)])
    assert "1 pictures in" in refusal(recipe(data=folder))
    assert "have no captions in captions.jsonl: images/0.png" in refusal(recipe(data=folder))
    folder = write([row(i) for i in range(1, 8)])
    train, held_out = both(recipe(data=folder, skip_bad=True))
    assert len(train) + len(held_out) == 5
    assert "2 captions of missing pictures left out; 1 pictures without captions left out" in train.describe()
    folder = write([row(i) for i in range(7, 9)])
    assert "no caption for any picture" in refusal(recipe(data=folder, skip_bad=True))


def test_bad_pictures_take_their_captions_with_them(write, recipe):
    folder = write([row(i) for i in range(6)])
    (folder / "images" / "2.png").write_bytes(b"")
    assert "images/2.png (empty file (0 bytes))" in refusal(recipe(data=folder))
    train, held_out = both(recipe(data=folder, skip_bad=True))
    said = [*train.captions, *held_out.captions]
    assert len(said) == 10
    assert "picture 2" not in said
    for source in (train, held_out):
        for name, (first, _) in zip(source.names(), source.facts["text_range"], strict=True):
            assert source.captions[first] == f"picture {name[-1]}"


def test_pictures_alone(write, recipe):
    folder = write([row(i, split="train" if i else "test") for i in range(6)])
    fields = recipe(data=folder)
    alone, captioned = pictures_source(fields, "train"), captioned_source(fields, "train")
    assert alone.names() == captioned.names()
    assert np.array_equal(alone.picture(2), captioned.picture(2))


# -- built-in ---------------------------------------------------------------------------------------------------------


def test_the_drawn_shapes(recipe):
    train, held_out = both(recipe())
    assert (len(train), len(held_out)) == (8, 2)
    picture, scene = shapes.shapes_picture(0, 3, 36)
    assert np.array_equal(train.picture(3), picture)
    first, count = train.facts["text_range"][3]
    assert train.captions[first : first + count] == shapes.captions(scene, 0, 3)
    assert np.array_equal(train.texts, Hashing().encode(train.captions))
    assert np.allclose(train.facts["box"][3], shapes.bounds(scene.items[0]), atol=1e-6)
    assert np.allclose(train.facts["keypoints"][3], shapes.keypoints(scene), atol=1e-6)
    kinds = {}
    for i in range(8):
        main = shapes.plan(0, i).items[0]
        kinds.setdefault((main.colour, main.kind), set()).add(int(train.facts["class"][i]))
    assert all(len(numbers) == 1 for numbers in kinds.values())
    assert len(set.union(*kinds.values())) == len(kinds)
    other = both(recipe(data="shapes:5"))[0]
    assert "set 5" in other.describe()
    assert other.captions != train.captions


def test_mirrored_key_points_of_the_shapes(recipe):
    """In a mirrored picture the rightmost point is the leftmost: the points of `mirror`, with x turned round."""
    train, _ = both(recipe())
    points = train.facts["keypoints"]
    assert sorted(train.mirror) == list(range(15))
    turned = points[:, list(train.mirror)]
    seen = points[:, 2::5, 2] > 0
    assert (1 - turned[:, 2::5, 0][seen] >= 1 - turned[:, 4::5, 0][seen]).all()  # still right of the left one
    assert (points[:, 2::5, 0][seen] >= points[:, 4::5, 0][seen]).all()

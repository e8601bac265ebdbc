"""CUB birds and Oxford flowers, written exactly as StackGAN's authors distribute them."""

import os
import pickle

import numpy as np
import pytest
from PIL import Image

from pygan.data import birds
from pygan.data.captioned import captioned_source
from pygan.data.singles import pictures_source
from pygan.errors import UserError

D = 12  # length of an embedding here; 1024 in the real sets
CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")


def both(fields):
    return captioned_source(fields, "train"), captioned_source(fields, "held-out")


def refusal(fields, split="train"):
    with pytest.raises(UserError) as caught:
        captioned_source(fields, split)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def embedding(i, captions=10):
    return np.random.Generator(np.random.Philox(i)).standard_normal((captions, D)).astype(np.float32)


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2))


def box_of(i):
    return (4.0 + i, 6.0, 20.0, 12.0)


@pytest.fixture
def cub(tmp_path, picture):
    """birds/: five training pictures of two classes, two test pictures of a third, all files of the set."""
    root = tmp_path / "birds"
    names = [f"{CLASSES[min(i // 3, 1) if i < 5 else 2]}/bird_{i:04d}" for i in range(7)]
    top = root / "CUB_200_2011"
    for i, name in enumerate(names):
        picture(top / "images" / f"{name}.jpg", 60, 40, seed=i, quality=100, subsampling=0)
        text = root / "text_c10" / f"{name}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("".join(f"bird {i} caption {k}\n" for k in range(10)))
    order = [3, 0, 6, 1, 5, 2, 4]  # the numbers of the set have nothing to do with the order of the pickles
    lines = [(number, i) for number, i in enumerate(order, start=1)]
    (top / "images.txt").write_text("".join(f"{n} {names[i]}.jpg\n" for n, i in lines))
    boxes = [f"{n} " + " ".join(str(v) for v in box_of(i)) for n, i in lines]
    (top / "bounding_boxes.txt").write_text("\n".join(boxes) + "\n")
    (top / "parts").mkdir()
    (top / "parts" / "parts.txt").write_text("1 back\n2 left eye\n3 right eye\n")
    parts = [f"{n} {part} {10.0 * part + i} 8.0 {int(part < 3)}\n" for n, i in lines for part in (1, 2, 3)]
    (top / "parts" / "part_locs.txt").write_text("".join(parts))
    for split, numbers in (("train", range(5)), ("test", range(5, 7))):
        dump(root / split / "filenames.pickle", [names[i] for i in numbers])
        dump(root / split / "class_info.pickle", [int(names[i][:3]) for i in numbers])
        dump(root / split / "char-CNN-RNN-embeddings.pickle", [embedding(i) for i in numbers])
        for size in (76, 304):
            dump(root / split / f"{size}images.pickle", [np.full((size, size, 3), 10 * i, np.uint8) for i in numbers])
    return root


def test_birds(cub, recipe):
    train, held_out = both(recipe(data=cub))
    assert train.names() == [f"{CLASSES[i // 3]}/bird_{i:04d}" for i in range(5)]
    assert held_out.names() == [f"{CLASSES[2]}/bird_{i:04d}" for i in (5, 6)]
    assert np.array_equal(train.texts, np.concatenate([embedding(i) for i in range(5)]))
    assert np.array_equal(held_out.texts, np.concatenate([embedding(i) for i in (5, 6)]))
    assert train.facts["text_range"].tolist() == [[10 * i, 10] for i in range(5)]
    assert train.captions[23] == "bird 2 caption 3"
    assert held_out.captions[10] == "bird 6 caption 0"
    assert train.facts["class"].tolist() == [1, 1, 1, 2, 2]
    assert held_out.facts["class"].tolist() == [3, 3]
    for words in (
        "5 to train, 2 held out (test)",
        "50 captions, char-CNN-RNN embeddings of 12",
        "square round the box",
    ):
        assert words in train.describe()


def test_birds_are_cut_round_their_box(cub, recipe):
    """Spec 6.5: half the side is int(0.75 max(w, h)) = 15, the middle int(x + w / 2), int(y + h / 2), clipped."""
    train, _ = both(recipe(data=cub))
    i = 3  # box 7 6 20 12: middle (17, 12), columns 2..32, rows 0..27
    with Image.open(cub / "CUB_200_2011" / "images" / f"{train.names()[i]}.jpg") as image:
        expected = np.asarray(image.crop((2, 0, 32, 27)).resize((36, 36), Image.Resampling.BICUBIC))
    assert np.array_equal(train.picture(i), expected)
    assert train.paths(i) is None
    assert np.allclose(train.facts["box"][i], [5 / 30, 6 / 27, 20 / 30, 12 / 27])
    points = train.facts["keypoints"][i]
    assert np.allclose(points, [[(13 - 2) / 30, 8 / 27, 1], [(23 - 2) / 30, 8 / 27, 1], [0, 0, 0]])
    assert train.mirror == (0, 2, 1)


def test_birds_whose_box_is_a_condition_are_whole(cub, recipe):
    train = captioned_source(recipe(data=cub, where="box"), "train")
    assert np.allclose(train.facts["box"][3], [7 / 60, 6 / 40, 20 / 60, 12 / 40])
    assert train.paths(3) is not None
    square = captioned_source(recipe(data=cub, pre_crop="square"), "train")  # columns 10..50
    assert np.allclose(square.facts["box"][3], [0, 6 / 40, 17 / 40, 12 / 40])


def test_captions_encoded_anew(cub, recipe):
    from pygan.data.text import Hashing

    train, _ = both(recipe(data=cub, text_encoder="hashing"))
    assert np.array_equal(train.texts, Hashing().encode(train.captions))
    assert train.captions[42] == "bird 4 caption 2"
    for path in (cub / "text_c10").rglob("*.txt"):
        path.unlink()
    assert "no captions in text_c10/" in refusal(recipe(data=cub, text_encoder="hashing"))
    assert both(recipe(data=cub))[0].captions == [""] * 50  # embeddings alone will do


def test_pictures_in_pickles(cub, recipe):
    (cub / "CUB_200_2011").rename(cub.parent / "elsewhere")
    train, held_out = both(recipe(data=cub))
    assert [int(train.picture(i)[0, 0, 0]) for i in range(5)] == [0, 10, 20, 30, 40]
    assert [int(held_out.picture(i)[0, 0, 0]) for i in range(2)] == [50, 60]
    assert "in pickles of 76x76" in train.describe()
    assert train.files(0) == (cub / "train" / "76images.pickle",)
    assert "box" not in train.facts
    large, _ = both(recipe(data=cub, load_size=77))
    assert "304x304" in large.describe()
    (cub / "train" / "76images.pickle").unlink()
    assert "304x304" in captioned_source(recipe(data=cub), "train").describe()
    assert "has only pictures that are cut already" in refusal(recipe(data=cub, where="box"))
    assert "are cut already; leave it out" in refusal(recipe(data=cub, pre_crop="20"))
    (cub / "train" / "304images.pickle").unlink()
    assert "has no pictures" in refusal(recipe(data=cub))


def test_pictures_alone(cub, recipe):
    train = pictures_source(recipe(data=cub), "train")
    assert np.array_equal(train.picture(2), captioned_source(recipe(data=cub), "train").picture(2))


def test_flowers(tmp_path, recipe, picture):
    """jpg/image_00001.jpg, captions in text_c10/class_00001/image_00001.txt, no boxes; names with and without jpg/."""
    root = tmp_path / "flowers"
    for i in range(4):
        picture(root / "jpg" / f"image_{i:05d}.jpg", 50, 40, seed=i)
        text = root / "text_c10" / f"class_{i % 2:05d}" / f"image_{i:05d}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("".join(f"flower {i} caption {k}\n" for k in range(10)))
    for split, numbers, prefix in (("train", (0, 1, 2), "jpg/"), ("test", (3,), "")):
        dump(root / split / "filenames.pickle", [f"{prefix}image_{i:05d}" for i in numbers])
        dump(root / split / "class_info.pickle", np.array(numbers) % 2)
        dump(root / split / "char-CNN-RNN-embeddings.pickle", np.stack([embedding(i) for i in numbers]))
    train, held_out = both(recipe(data=root))
    assert train.captions[21] == "flower 2 caption 1"
    assert held_out.captions[9] == "flower 3 caption 9"
    assert np.array_equal(train.texts[10:20], embedding(1))
    assert train.facts["class"].tolist() == [0, 1, 0]
    assert set(train.facts) == {"text_range", "class"}
    assert "cut" not in train.describe().split("flowers:")[1]
    assert "holds the set flowers: give --data" in refusal(recipe(data=tmp_path))


def test_birds_without_a_test_folder(cub, recipe):
    import shutil

    shutil.rmtree(cub / "test")
    train, held_out = both(recipe(data=cub))
    assert (len(train), len(held_out)) == (4, 1)
    for source in (train, held_out):
        for name, (first, _) in zip(source.names(), source.facts["text_range"], strict=True):
            assert np.array_equal(source.texts[first], embedding(int(name[-4:]))[0])


class Call:
    def __reduce__(self):
        return os.system, ("echo was run",)


@pytest.mark.parametrize(
    ("file", "value", "words"),
    [
        ("filenames", Call(), "is refused: it names"),
        ("char-CNN-RNN-embeddings", [Call()], "is refused: it names"),
        ("filenames", [], "must hold a list of file names"),
        ("filenames", {"a": 1}, "must hold a list of file names"),
        ("filenames", ["../../etc/passwd"] * 5, "must hold a list of file names"),
        ("filenames", ["/etc/passwd"] * 5, "must hold a list of file names"),
        ("class_info", [1, 2], "has 2 classes, filenames.pickle 5 names"),
        ("class_info", ["a"] * 5, "must hold a list of class numbers"),
        ("class_info", [2**70] * 5, "too large"),
        ("char-CNN-RNN-embeddings", [embedding(0)] * 4, "embeddings of 4 pictures, filenames.pickle 5 names"),
        ("char-CNN-RNN-embeddings", {"a": 1}, "embeddings of 0 pictures"),
        ("char-CNN-RNN-embeddings", [embedding(0)[0]] * 5, "must hold an array of captions x numbers"),
        ("char-CNN-RNN-embeddings", [np.ones((10, D), np.int64)] * 5, "must hold an array of captions x numbers"),
        ("char-CNN-RNN-embeddings", [np.ones((10, D + i)) for i in range(5)], "embeddings of several lengths"),
        ("char-CNN-RNN-embeddings", [np.full((10, D), np.nan)] * 5, "values that are no numbers"),
    ],
)
def test_pickles_that_are_not_what_they_should_be(cub, recipe, file, value, words, capfd):
    dump(cub / "train" / f"{file}.pickle", value)
    line = refusal(recipe(data=cub))
    assert words in line
    assert f"{file}.pickle" in line
    assert "was run" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("value", "words"),
    [([np.zeros((76, 76, 3), np.uint8)] * 4, "has 4 pictures"), ([np.zeros((76, 76, 3))] * 5, "must hold pictures"),
     ([np.zeros((76, 76), np.uint8)] * 5, "must hold pictures"), ([np.zeros((1, 76, 3), np.uint8)] * 5, "must hold"),
     ("none", "has 0 pictures"), (Call(), "is refused")],
)  # fmt: skip
def test_pickled_pictures_that_are_none(cub, recipe, value, words):
    (cub / "CUB_200_2011").rename(cub.parent / "elsewhere")
    dump(cub / "train" / "76images.pickle", value)
    assert words in refusal(recipe(data=cub))


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("images.txt", None, "no such file"),
        ("images.txt", "1 only/one.jpg\n", "lacks 7 of the pictures"),
        ("images.txt", "x only/one.jpg\n", "line 1: expected int str"),
        ("images.txt", "1 a.jpg\n2 a.jpg\n", "line 2: a.jpg is there twice"),
        ("bounding_boxes.txt", None, "no such file"),
        ("bounding_boxes.txt", "1 1 1 1\n", "line 1: expected int float float float float"),
        ("bounding_boxes.txt", "1 1 1 nan 1\n", "line 1: expected int float float float float"),
        ("bounding_boxes.txt", "1 1 1 1 1\n", "has no box of"),
        ("bounding_boxes.txt", "".join(f"{n} 1 1 0 1\n" for n in range(1, 8)), "has no box of"),
        ("bounding_boxes.txt", "".join(f"{n} 500 500 9 9\n" for n in range(1, 8)), "is not in the picture"),
        ("parts/parts.txt", "1 back\n", "part 2 is not in parts.txt"),
        ("parts/part_locs.txt", "1 1 a 8.0 1\n", "line 1: expected int int float float int"),
    ],
)
def test_text_files_that_are_damaged(cub, recipe, file, content, words):
    path = cub / "CUB_200_2011" / file
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    assert words in refusal(recipe(data=cub))


def test_pictures_that_are_missing_or_bad(cub, recipe):
    images = cub / "CUB_200_2011" / "images"
    (images / CLASSES[0] / "bird_0001.jpg").unlink()
    assert "1 pictures named in filenames.pickle are not in" in refusal(recipe(data=cub))
    (images / CLASSES[1] / "bird_0003.jpg").write_bytes(b"")
    train, held_out = both(recipe(data=cub, skip_bad=True))
    assert [name[-4:] for name in train.names()] == ["0000", "0002", "0004"]
    for name, (first, count), kind, box in zip(
        train.names(), train.facts["text_range"], train.facts["class"], train.facts["box"], strict=True
    ):
        i = int(name[-4:])
        assert np.array_equal(train.texts[first : first + count], embedding(i))
        assert train.captions[first] == f"bird {i} caption 0"
        assert kind == int(name[:3])
        assert box[2] == pytest.approx(20 / (30 if i >= 1 else 29), abs=0.03)
    assert len(held_out) == 2
    assert "1 missing pictures left out" in train.describe()
    for path in images.rglob("bird_000[56].jpg"):
        path.write_bytes(b"")
    assert "no good picture is left held out" in refusal(recipe(data=cub, skip_bad=True))


def test_missing_pickles(cub, recipe):
    (cub / "train" / "char-CNN-RNN-embeddings.pickle").unlink()
    assert "has no char-CNN-RNN-embeddings.pickle" in refusal(recipe(data=cub))
    assert both(recipe(data=cub, text_encoder="hashing"))[0].texts.shape == (50, 256)
    (cub / "train" / "class_info.pickle").unlink()
    assert both(recipe(data=cub, text_encoder="hashing"))[0].facts["class"].tolist() == [0] * 5
    (cub / "train" / "filenames.pickle").unlink()
    assert not birds.has_embeddings(cub)

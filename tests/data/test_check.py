"""`pygan data check` recognises every layout and lists what is wrong with it."""

import json
import pickle

import numpy as np
import pytest

from pygan.data.check import check
from pygan.errors import UserError


@pytest.fixture
def run(tmp_path, capsys):
    """A function that checks a folder: (exit code, what was printed)."""

    def look(folder=tmp_path):
        code = check(folder, plain=False)
        return code, capsys.readouterr().out

    return look


def test_domains(tmp_path, picture, run):
    for name in ("trainA/h1", "trainA/h2", "trainB/z1", "testA/h3", "testB/z2"):
        picture(tmp_path / f"{name}.png")
    code, out = run()
    assert code == 0
    for words in ("two domains (unpaired)", "2 A + 1 B to train, held out: 1 A + 1 B", "bad        none"):
        assert words in out
    (tmp_path / "trainB" / "z1.png").write_bytes(b"")
    code, out = run()
    assert code == 2
    assert "trainB/z1.png: empty file (0 bytes)" in out


def test_pairs_stay_pairs(tmp_path, picture, run):
    for name in ("trainA/1", "trainB/1", "trainB/2"):
        picture(tmp_path / f"{name}.png")
    code, out = run()
    assert code == 2
    assert "two folders" in out
    assert "trainB/2.png: no partner of the same name" in out


def test_classes(tmp_path, picture, run):
    for name in ("train/cat/1", "train/cat/2", "train/dog/1", "test/cat/1"):
        picture(tmp_path / f"{name}.png", 33, 20)  # an odd width: no pair of halves, and no problem
    (tmp_path / "train" / "emu").mkdir()
    code, out = run()
    assert code == 2
    assert "a folder per class" in out
    assert "2: cat (2), dog (1)" in out
    assert "emu: no pictures of this class" in out
    (tmp_path / "train" / "emu").rmdir()
    picture(tmp_path / "test" / "dog" / "1.png")
    assert run()[0] == 0


def test_celeba(tmp_path, picture, run):
    for i in (1, 2, 3):
        picture(tmp_path / "images" / f"{i:06d}.jpg")
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text("3\nMale Young\n000001.jpg 1 -1\n000002.jpg -1 1\n000003.jpg 1 1\n")
    code, out = run()
    assert code == 0
    assert "2 of 3 pictures: Male, Young" in out
    path.write_text("3\nMale Young\n000001.jpg 1 -1\n000007.jpg -1 1\n000008.jpg 1 1\n")
    (tmp_path / "list_eval_partition.txt").write_text("000001.jpg 0\n000002.jpg 1\n000003.jpg 5\n")
    code, out = run()
    assert code == 2
    for words in (
        "000007.jpg: in list_attr_celeba.txt, but no such picture", "000008.jpg: in list_attr_celeba.txt",
        "000002.jpg: no row in list_attr_celeba.txt", "000003.jpg: no row", "line 3: expected a file name, once",
        "bad        5",
    ):  # fmt: skip
        assert words in out


def test_captions(tmp_path, picture, run):
    for i in range(4):
        picture(tmp_path / f"{i}.png")
    rows = [{"file": f"{i}.png", "captions": ["a", "b"], "box": [0, 0, 9, 9], "class": "x"} for i in range(4)]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out = run()
    assert code == 0
    for words in ("pictures with captions", "8 of 4 pictures", "1 classes, boxes", "64x32 (4)"):
        assert words in out
    rows[1]["file"], rows[2]["file"] = "x.png", "y.png"
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out = run()
    assert code == 2
    for words in (
        "x.png: captions, but no such picture",
        "y.png: captions",
        "1.png: no captions",
        "2.png: no captions",
    ):
        assert words in out
    (tmp_path / "captions.jsonl").write_text("{")
    assert "line 1: not JSON" in run()[1]


def test_birds(tmp_path, picture, run):
    for split, n in (("train", 3), ("test", 2)):
        folder = tmp_path / split
        folder.mkdir()
        for i in range(n):
            picture(tmp_path / "jpg" / f"{split}{i}.jpg")
        values = {
            "filenames": [f"{split}{i}" for i in range(n)],
            "class_info": list(range(n)),
            "char-CNN-RNN-embeddings": [np.ones((10, 6), np.float32)] * n,
        }
        for name, value in values.items():
            (folder / f"{name}.pickle").write_bytes(pickle.dumps(value, protocol=2))
    code, out = run()
    assert code == 0
    for words in ("char-CNN-RNN", "3 pictures of 3 classes", "30 of 6 numbers; as text: of 0 pictures"):
        assert words in out
    (tmp_path / "jpg" / "train1.jpg").unlink()
    (tmp_path / "test" / "class_info.pickle").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    code, out = run()
    assert code == 2
    assert "train1: no such picture" in out
    assert "is refused: it names os.system" in out


def test_cifar(tmp_path, run):
    for name in ("data_batch_1", "test_batch"):
        (tmp_path / f"{name}.bin").write_bytes(bytes(2 * 3073))
    code, out = run()
    assert code == 2
    assert "data_batch_1.bin: 2 pictures of 1 classes" in out
    assert "1 of the 5 training batches are there" in out
    for k in range(2, 6):
        (tmp_path / f"data_batch_{k}.bin").write_bytes(bytes(3073))
    assert run()[0] == 0
    (tmp_path / "data_batch_5.bin").write_bytes(bytes(3072))
    assert "no whole number of records" in run()[1]


def test_hdf5(tmp_path, run):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["train_data_full"] = file["train_data_sketch"] = np.zeros((4, 3, 8, 8), dtype=np.uint8)
    code, out = run()
    assert code == 0
    assert "4 pairs: A train_data_sketch 8x8x3, B train_data_full 8x8x3" in out
    assert run(tmp_path / "x.h5")[0] == 0


def test_cityscapes(tmp_path, picture, run):
    for i in range(2):
        picture(tmp_path / f"leftImg8bit/train/ulm/ulm_{i}_leftImg8bit.png")
        picture(tmp_path / f"gtFine/train/ulm/ulm_{i}_gtFine_color.png")
    code, out = run()
    assert code == 0
    assert "cityscapes" in out
    (tmp_path / "gtFine/train/ulm/ulm_1_gtFine_color.png").unlink()
    code, out = run()
    assert code == 2
    assert "ulm_1_leftImg8bit.png: no partner" in out


def test_what_is_nothing(tmp_path, run):
    with pytest.raises(UserError, match="no folder"):
        run(tmp_path / "none")
    (tmp_path / "A").mkdir()
    with pytest.raises(UserError, match="no pictures"):
        run()

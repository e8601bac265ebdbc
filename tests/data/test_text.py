"""Captions as numbers: the same everywhere, different where the order of words is, remembered until they change."""

import hashlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from pygan.data import text
from pygan.data.text import Hashing, embed, encoder
from pygan.errors import UserError


def test_the_built_in_encoder():
    captions = ["a red circle above a blue square", "a blue square above a red circle", "three birds"]
    captions.append("A RED circle; above a blue square!")
    found = Hashing().encode(captions)
    assert found.shape == (4, 256)
    assert found.dtype == np.float32
    assert np.allclose(np.square(found).mean(1), 1, atol=1e-5)
    alike = found @ found.T / 256
    assert alike[0, 3] == pytest.approx(1, abs=1e-5)  # case and punctuation are no words
    assert alike[0, 1] < 0.8  # the same words in another order
    assert alike[0, 1] > alike[0, 2] + 0.2  # and yet nearer than other words
    assert abs(alike[0, 2]) < 0.25


def test_it_is_the_same_on_every_machine_and_for_any_company():
    alone = Hashing().encode(["a red circle"])
    assert np.array_equal(alone[0], Hashing().encode(["something else", "a red circle"])[1])
    # One word has two features, itself and its place; the signs of each are the bits of its hash.
    bits = [
        np.unpackbits(np.frombuffer(hashlib.blake2b(f, digest_size=32).digest(), "u1")) for f in (b"w red", b"p 0 red")
    ]
    total = 2.0 * (bits[0].astype(float) + bits[1]) - 2
    found = Hashing().encode(["red"])[0]
    assert np.allclose(found, total / np.sqrt(np.mean(total**2)), atol=1e-6)
    assert found[:8].tolist() == pytest.approx([GOLDEN, GOLDEN, 0, -GOLDEN, -GOLDEN, 0, 0, 0], abs=1e-5)


GOLDEN = 1.436842


def test_captions_without_words():
    assert not Hashing().encode(["", " ... "]).any()
    assert Hashing().encode([]).shape == (0, 256)


def test_names_of_encoders():
    assert isinstance(encoder("auto"), Hashing)
    assert isinstance(encoder("hashing"), Hashing)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"pip install '\.\[text\]' in pygan's checkout"):
        encoder("all-MiniLM-L6-v2")


class Library:
    """What the sentence-transformers library looks like from here."""

    class SentenceTransformer:
        def __init__(self, name, device, local_files_only):
            assert local_files_only
            if "missing" in name:
                raise OSError(f"{name} is not a local folder\nand is not a valid model identifier")
            self.name = name

        def encode(self, captions, convert_to_numpy, show_progress_bar):
            return np.array([[len(c), c.count("a"), 1] for c in captions], dtype=np.float64)


def test_a_model_of_the_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sentence_transformers", Library)
    (tmp_path / "config.json").write_text("{}")
    model = encoder(str(tmp_path))
    assert model.dim == 3
    assert model.encode(["abca"]).tolist() == [[4, 2, 1]]
    assert model.encode(["abca"]).dtype == np.float32
    assert model.encode([]).shape == (0, 3)
    (tmp_path / "config.json").write_text("{ }")
    assert encoder(str(tmp_path)).identity != model.identity  # another model, another key of the cache
    with pytest.raises(UserError, match="a model of that name on this machine") as caught:
        encoder("missing")
    assert "\n" not in str(caught.value)


def counting():
    calls = []

    def encode(captions):
        calls.append(list(captions))
        return np.array([[len(c)] * 2 for c in captions], dtype=np.float32)

    return SimpleNamespace(dim=2, identity="test 1", title="test", encode=encode), calls


def test_embeddings_are_remembered_until_something_changes(tmp_path):
    using, calls = counting()
    first = embed(["a", "bb"], using, tmp_path)
    assert np.array_equal(embed(["a", "bb"], using, tmp_path), first)
    assert len(calls) == 1
    assert embed(["ab", "b"], using, tmp_path)[0, 0] == 2
    using.identity = "test 2"
    embed(["a", "bb"], using, tmp_path)
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"\x80\x04."])
def test_a_damaged_cache_is_made_anew(tmp_path, damage, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    using, calls = counting()
    embed(["a"], using, tmp_path)
    (cache,) = text.cache_file(tmp_path).parent.glob("texts-*.npy")
    cache.write_bytes(damage)
    assert embed(["a"], using, tmp_path).tolist() == [[1, 1]]
    embed(["a"], using, tmp_path)
    assert len(calls) == 2


def test_an_unwritable_cache_costs_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    using, calls = counting()
    for _ in range(2):
        assert embed(["a"], using, tmp_path).tolist() == [[1, 1]]
    assert len(calls) == 2
    assert capsys.readouterr().err.count("cannot keep the captions' embeddings") == 1

"""From a caption to numbers: a built-in encoder that needs no download, or a sentence-transformers model."""

from __future__ import annotations

import functools
import hashlib
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pygan.data.images import why
from pygan.data.index import cache_file
from pygan.errors import UserError, say_once

_WORD = re.compile(r"[^\W_]+")


class Encoder(Protocol):
    """What turns captions into embeddings.

    dim: length of one; identity: changes whenever the embeddings would; title: for the user.
    """

    dim: int
    identity: str
    title: str

    def encode(self, captions: Sequence[str]) -> np.ndarray:
        """float32 (n, dim). A caption always becomes the same numbers, whatever the others are."""
        ...


class Hashing:
    """Words, pairs of neighbouring words and words at their places, each a fixed vector of +-1; their sum, scaled.

    A random projection of the bag of features (Achlioptas 2003): two captions' inner product is, nearly, the number of
    features that they share, so what differs only in the order of its words differs here too. Upper and lower case and
    punctuation make no difference. The mean square of an embedding is 1; a caption without words is all 0.
    """

    dim = 256
    identity = "hashing 1"
    title = "built-in hashing"

    def encode(self, captions: Sequence[str]) -> np.ndarray:
        return np.stack([self._one(caption) for caption in captions]) if captions else np.zeros((0, self.dim), "f4")

    def _one(self, caption: str) -> np.ndarray:
        words = _WORD.findall(caption.casefold())
        features = [f"w {word}" for word in words]
        features += [f"b {a} {b}" for a, b in itertools.pairwise(words)]
        features += [f"p {place} {word}" for place, word in enumerate(words)]
        total = np.zeros(self.dim, dtype=np.float32)
        for feature in features:
            total += _signs(feature)
        scale = float(np.sqrt(np.mean(np.square(total), dtype=np.float64)))
        return total / np.float32(scale) if scale else total


@functools.lru_cache(maxsize=65536)
def _signs(feature: str) -> np.ndarray:
    """float32 (256,) of +-1 from the hash of a feature: the same on every machine."""
    bits = np.unpackbits(np.frombuffer(hashlib.blake2b(feature.encode(), digest_size=32).digest(), dtype=np.uint8))
    return bits.astype(np.float32) * 2 - 1


class SentenceTransformer:
    """A model of the sentence-transformers library, by the path of its folder or by a name that is on this machine."""

    def __init__(self, name: str) -> None:
        try:
            import sentence_transformers  # optional and slow to import
        except ImportError:
            raise UserError(
                f"--text-encoder {name} needs sentence-transformers: pip install '.[text]' in pygan's checkout, or use "
                f"--text-encoder hashing"
            ) from None
        path = Path(os.path.expanduser(name))
        model = str(path) if path.is_dir() else name
        try:  # nothing is fetched: what a run is trained on must not depend on who answers
            self._model = sentence_transformers.SentenceTransformer(model, device="cpu", local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            if path.is_dir():
                text = " ".join(str(error).split())[:160]
                raise UserError(
                    f"--text-encoder {name}: the folder holds no model that can be read ({text})"
                ) from error
            raise UserError(
                f"--text-encoder {name}: there is neither such a folder nor a model of that name on this machine, and "
                f"none is fetched: download it and give its folder, or use --text-encoder hashing"
            ) from error
        self.title = path.name
        self.dim = self._encode(["a"]).shape[1]
        self.identity = f"sentence-transformers {name} {_files_of(path)}"

    def encode(self, captions: Sequence[str]) -> np.ndarray:
        return self._encode(captions).reshape(len(captions), self.dim)

    def _encode(self, captions: Sequence[str]) -> np.ndarray:
        found = self._model.encode(list(captions), convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(found, dtype=np.float32)


def _files_of(folder: Path) -> str:
    """Changes when a file of the model does."""
    stats = [(str(p.relative_to(folder)), p.stat()) for p in sorted(folder.rglob("*")) if p.is_file()]
    text = repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def encoder(name: str) -> Encoder:
    """The text encoder of a name: "auto" or "hashing", the built-in one; else a sentence-transformers model.

    name: of a model or the path of its folder. UserError when the library or the model is missing.
    """
    return Hashing() if name in ("auto", "hashing", "") else SentenceTransformer(name)


def sentences(said: Sequence[str], name: str, dim: int) -> np.ndarray:
    """Embeddings float32 (n, dim) of sentences for a network that was trained by the encoder of that name.

    Errors: UserError for a sentence that says nothing, and where the encoder gives other embeddings than the network
    takes: its captions were embedded by another program.
    """
    if not all(sentence.strip() for sentence in said):
        raise UserError("--text says nothing; give it a sentence")
    using = encoder(name)
    if using.dim != dim:
        raise UserError(
            f"--text: the run was trained on embeddings of {dim} numbers, and its text encoder {name!r} gives "
            f"{using.dim}: its captions were embedded by another program"
        )
    return using.encode(list(said))


def embed(captions: Sequence[str], using: Encoder, root: Path) -> np.ndarray:
    """`using.encode(captions)`, remembered beside the picture index of the folder `root` until a caption changes.

    A cache that cannot be read or written costs one line and the time to encode again.
    """
    content = hashlib.blake2b(using.identity.encode(), digest_size=10)
    for caption in captions:
        content.update(len(caption).to_bytes(8, "little") + caption.encode("utf-8", "surrogatepass"))
    cache = cache_file(root).with_name(f"texts-{content.hexdigest()}.npy")
    try:
        stored = np.load(cache, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        stored = None
    if stored is not None and stored.shape == (len(captions), using.dim) and stored.dtype == np.float32:
        return stored
    texts = using.encode(captions)
    temporary = cache.with_suffix(f".{os.getpid()}.tmp")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, texts)
        temporary.replace(cache)
    except OSError as error:
        say_once(f"cannot keep the captions' embeddings in {cache.parent} ({why(error)}): every run will make them")
    return texts

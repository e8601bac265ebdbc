"""A sentence-transformers model in a folder, small and untrained, through the real library."""

import numpy as np
import pytest

from pygan.data.text import encoder


def test_a_model_from_its_folder(tmp_path):
    pytest.importorskip("sentence_transformers")
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "circle", "above", "blue", "square"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    bert = tmp_path / "bert"
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(bert)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(bert)
    using = encoder(str(bert))
    assert using.dim == 16
    captions = ["a red circle above a blue square", "a blue square above a red circle"]
    found = using.encode(captions)
    assert (found.shape, found.dtype) == ((2, 16), np.float32)
    assert np.array_equal(encoder(str(bert)).encode(captions), found)
    assert np.abs(found[0] - found[1]).max() > 1e-4

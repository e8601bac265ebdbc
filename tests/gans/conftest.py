"""Precision that no processor decides."""

import pytest
import torch

from pygan import optim


@pytest.fixture
def low_precision(monkeypatch):
    """--amp computes in --amp-dtype here, whatever this processor can do."""

    def precision(recipe, device):
        low = {"bf16": torch.bfloat16, "fp16": torch.float16}[recipe.amp_dtype]
        return (low if recipe.amp else torch.float32), ""

    monkeypatch.setattr(optim, "precision", precision)

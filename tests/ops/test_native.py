"""The native library is there: without this, every test of a kernel that skips for its lack would look green."""

import pytest

from pygan.ops import _native
from pygan.ops._impl import compiled

OPS = (
    *("norm_act", "upsample_concat", "gan_loss", "l1_loss", "loss_sum", "crop_flip", "adam_", "philox_words"),
    *("thin_spread", "thin_wgrad", "thin_gather", "small_conv"),
)


def test_the_library_is_loaded_with_every_op():
    assert _native.available(), _native.why_missing()
    assert all(compiled(op) for op in OPS)


def test_it_has_the_cuda_kernels_that_the_build_speaks_of():
    module = pytest.importorskip("pygan._C", reason="the sources are imported, not the installed package")
    archs = module.build_info()["cuda_archs"]
    assert [compiled(op, "CUDA") for op in OPS] == [archs != ""] * len(OPS)

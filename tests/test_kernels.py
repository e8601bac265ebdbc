"""`pygan doctor --kernels`: one line per layer, by the rule that the step follows."""

import pytest
import torch

from pygan import gans, kernels
from pygan.__main__ import main

P1 = {"load_size": 256, "crop_size": 256}


def paths(gan_name, dtype=torch.bfloat16, device="cuda", **fields):
    gan = gans.load(gan_name)
    recipe = gan.resolve(gan.Recipe(**fields))
    return kernels.walk(gan, recipe, dtype, device)


def named(layers, name):
    return {layer.path.name for layer in layers if layer.name == name}


def test_pix2pix_at_batch_1():
    layers = paths("pix2pix", **P1)
    assert named(layers, "G.downs.0") == named(layers, "G.head") == named(layers, "D.blocks.0") == {"thin"}
    assert named(layers, "D.head") == {"thin"}
    assert named(layers, "G.downs.7") == named(layers, "G.ups.0") == named(layers, "G.ups.3") == {"small"}
    assert named(layers, "G.downs.1") == named(layers, "D.blocks.2") == {"library"}
    first = layers[0]
    assert (first.x_shape, first.y_shape, first.what) == ((1, 3, 256, 256), (1, 64, 128, 128), "conv 4x4 s2")
    d = [layer.x_shape[0] for layer in layers if layer.name == "D.head"]
    assert d == [2, 1]  # real and fake together, then the fake alone


def test_at_a_large_batch_the_deep_layers_are_the_librarys():
    layers = paths("pix2pix", **P1, batch=64)
    assert named(layers, "G.downs.7") == {"library"}
    assert named(layers, "G.head") == {"thin"}


def test_cyclegan_stems_and_heads():
    layers = paths("cyclegan", **P1)
    assert {layer.path.name for layer in layers if layer.x_shape[1] == 3} == {"thin"}
    assert {layer.path.name for layer in layers if layer.y_shape[1] == 3} == {"thin"}
    blocks = [layer for layer in layers if layer.what == "conv 3x3 reflect"]
    assert {layer.path.name for layer in blocks} == {"library"}
    assert {(layer.x_shape[2:], layer.y_shape[2:]) for layer in blocks} == {((66, 66), (64, 64))}


@pytest.mark.parametrize("options", [{"dtype": torch.float32}, {"device": "cpu"}, {"kernels": "library"}])
def test_what_fits_no_kernel_has_a_reason(options):
    layers = paths("pix2pix", **P1, **options)
    assert {layer.path.name for layer in layers} == {"library"}
    assert all(layer.path.why for layer in layers)


def test_the_command(capsys):
    assert main(["doctor", "--kernels", "pix2pix", "--preset", "paper", "--amp", "--batch", "2"]) == 0
    text = capsys.readouterr()
    assert "pix2pix, preset paper, batch 2, bfloat16 on a GPU:" in text.out
    assert "2x3x256x256 -> 2x64x128x128" in text.out
    assert "thin" in text.out.splitlines()[-1]
    assert not text.err


def test_an_unknown_gan(capsys):
    assert main(["doctor", "--kernels", "pix3pix"]) == 2
    assert "unknown GAN 'pix3pix'" in capsys.readouterr().err

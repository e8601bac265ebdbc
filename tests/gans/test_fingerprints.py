"""The architectures against fingerprints that stock layers gave: any wrong padding, order, width or norm shows here."""

import fingerprint
import numpy as np
import pytest
import torch

from pygan import nets
from pygan.gans.pix2pix import model
from pygan.nn import TRAIN


def classes(D, A, B):
    return torch.softmax(D.class_logits(A, B, TRAIN), dim=1)


# name: (net, how it is called, shapes of the inputs of a batch of 2, mean, mean |.|, first, last)
NETS = {
    "U-Net 256, encoder first": (
        lambda: nets.unet(3, 3, decoder_first=False),
        lambda G, A: G(A),
        [(3, 256, 256)],
        (-0.094174372, 0.306198130, 0.172744131, -0.024054033),
    ),
    "U-Net 256, decoder first": (
        lambda: nets.unet(3, 3),
        lambda G, A: G(A),
        [(3, 256, 256)],
        (-0.097629031, 0.301733662, 0.042248363, -0.020518399),
    ),
    "U-Net 128, encoder first": (
        lambda: nets.unet(3, 3, levels=7, decoder_first=False),
        lambda G, A: G(A),
        [(3, 128, 128)],
        (0.050214215, 0.322000521, -0.066779249, 0.097819047),
    ),
    "Keras U-Net": (
        lambda: model.keras_unet(1, 3),
        lambda G, A: G(A),
        [(1, 128, 128)],
        (0.429148956, 0.581721826, 0.133621485, 0.091754608),
    ),
    "Keras U-Net, skip 1 only": (
        lambda: model.keras_unet(1, 3, skips={1}),
        lambda G, A: G(A),
        [(1, 128, 128)],
        (0.419352128, 0.608046594, -0.473647888, 0.712541761),
    ),
    "Keras U-Net, deconv": (
        lambda: model.keras_unet(1, 3, upsample="deconv"),
        lambda G, A: G(A),
        [(1, 128, 128)],
        (0.150890395, 0.347910225, 0.067792168, 0.034922637),
    ),
    "Keras two-branch D": (
        lambda: model.KerasTwoBranchD(1, 3, size=(128, 128)),
        lambda D, B, A: classes(D, A, B),
        [(3, 128, 128), (1, 128, 128)],
        (0.5, 0.5, 0.387589973, 0.605958470),
    ),
    "Keras patch D with minibatch discrimination": (
        lambda: model.KerasPatchD(3, size=(128, 128), minibatch=True),
        lambda D, B: classes(D, None, B),
        [(3, 128, 128)],
        (0.5, 0.5, 0.204350240, 0.811171755),
    ),
    "Chainer encoder and decoder": (
        lambda: model.chainer_unet(12, 3),
        lambda G, A: G(A),
        [(12, 256, 256)],
        (-0.150067834, 0.706002099, -0.174935596, 1.002198248),
    ),
    "PatchGAN 70, BatchNorm, 6 channels": (
        lambda: model.PatchD(3, 3),
        lambda D, x: D(x[:, :3], x[:, 3:]),
        [(6, 256, 256)],
        (0.180683154, 0.683873375, 1.070353340, 0.059172706),
    ),
    "PatchGAN 70, InstanceNorm, 3 channels": (
        lambda: model.PatchD(3, 3, conditional=False, norm="instance"),
        lambda D, B: D(None, B),
        [(3, 256, 256)],
        (0.178459179, 0.710520970, 1.078720936, 0.914443757),
    ),
}


def test_the_fill_rule():
    np.testing.assert_allclose(fingerprint.h(3, 0), [-0.111862734426, -0.345732884016, 0.004978236044], atol=1e-12)
    np.testing.assert_allclose(fingerprint.h(3, 7), [0.119188580662, -0.070117876865, 0.046966689639], atol=1e-12)


@pytest.mark.parametrize("name", NETS)
def test_fingerprint(name):
    make, call, shapes, expected = NETS[name]
    inputs = [fingerprint.filled((2, *shape), 9999 - i) for i, shape in enumerate(shapes)]
    with torch.device("meta"):
        net = make()
    fingerprint.fill_(net, lambda net: call(net, *(x.to("meta", torch.float32) for x in inputs)))
    with torch.no_grad():
        output = call(net, *inputs)
    np.testing.assert_allclose(fingerprint.signature(output), expected, rtol=0, atol=1e-7)

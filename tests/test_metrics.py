"""Measures with values known beforehand."""

import math

import pytest
import torch

from pygan.metrics import colour_l1, gradient_correlation, l1, psnr, ssim


@pytest.fixture
def image():
    return torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_l1_and_psnr_of_a_constant_shift(image):
    near = image * 0.5
    assert float(l1(near + 0.25, near)) == pytest.approx(0.25, rel=1e-5)
    assert float(psnr(near + 0.25, near)) == pytest.approx(10 * math.log10(4 / 0.0625), rel=1e-5)
    assert float(psnr(near, near)) == pytest.approx(100.0, rel=1e-5)
    both = torch.cat((near + 0.25, near)), torch.cat((near, near))
    assert float(psnr(*both)) == pytest.approx((10 * math.log10(4 / 0.0625) + 100) / 2, rel=1e-5)


def test_colour_l1_is_in_grey_levels_and_blind_to_detail():
    black, grey = torch.full((2, 3, 16, 16), -1.0), torch.full((2, 3, 16, 16), 0.0)
    assert colour_l1(black, grey) == 127.5
    half = black.clone()
    half[:, 0, :8] = 1.0  # one of three channels, the upper half
    torch.testing.assert_close(colour_l1(black, half), torch.tensor(255.0 / 6))
    checks = torch.ones(2, 3, 16, 16)
    checks[..., ::2, ::2] = checks[..., 1::2, 1::2] = -1.0
    assert colour_l1(checks, grey) == 0
    assert colour_l1(black.half(), grey.half()).dtype == torch.float32
    with pytest.raises(ValueError, match="one shape"):
        colour_l1(black, grey[:1])


def test_ssim_of_equal_inverted_and_flat_images(image):
    assert float(ssim(image, image)) == pytest.approx(1.0, abs=1e-5)
    assert float(ssim(image, -image)) < -0.5  # grey on average: only the structure is turned round
    flat = torch.full((1, 1, 11, 11), 0.5)
    luminance = (2 * 0.75 * 0.625 + 1e-4) / (0.75**2 + 0.625**2 + 1e-4)  # in [0, 1]; structure is 1 without variance
    assert float(ssim(flat, flat * 0.5)) == pytest.approx(luminance, rel=1e-4)
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(image[..., :10], image[..., :10])


def test_ssim_against_a_direct_sum():
    draws = torch.Generator().manual_seed(3)
    a, b = (torch.rand(1, 1, 11, 11, generator=draws, dtype=torch.float64) for _ in "ab")
    offset = torch.arange(11, dtype=torch.float64) - 5
    window = torch.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / 4.5)
    window /= window.sum()
    mean_a, mean_b = (window * a).sum(), (window * b).sum()
    var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
    covariance = (window * (a - mean_a) * (b - mean_b)).sum()
    expected = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
    assert float(ssim(2 * a - 1, 2 * b - 1)) == pytest.approx(float(expected), rel=1e-9)


def test_gradient_correlation(image):
    assert float(gradient_correlation(image, image)) == pytest.approx(1.0, abs=1e-5)
    assert float(gradient_correlation(image, -0.3 * image + 0.1)) == pytest.approx(1.0, abs=1e-4)
    noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(9)) * 2 - 1
    assert abs(float(gradient_correlation(image, noise))) < 0.15
    assert float(gradient_correlation(image, torch.zeros_like(image))) == 0.0


def test_gradient_correlation_sees_where_edges_are():
    a, b, c = (torch.zeros(1, 1, 16, 16) for _ in "abc")
    a[..., :, 8:] = 1  # an edge down the middle
    b[..., :, 8:] = 0.1
    c[..., 8:, :] = 1  # one across
    assert float(gradient_correlation(a, b)) == pytest.approx(1.0, abs=1e-5)
    assert float(gradient_correlation(a, c)) < 0.1


@pytest.mark.cuda
@pytest.mark.parametrize("measure", [l1, psnr, ssim, gradient_correlation])
def test_a_gpu_measures_what_the_cpu_measures(measure, image):
    near = image * 0.9 + 0.02
    layout = torch.channels_last
    there = measure(*(x.cuda().contiguous(memory_format=layout) for x in (image, near)))
    assert float(there) == pytest.approx(float(measure(image, near)), rel=1e-5)


@pytest.mark.parametrize("measure", [l1, psnr, ssim, gradient_correlation])
def test_shapes_must_agree(measure, image):
    with pytest.raises(ValueError, match="one shape"):
        measure(image, image[:1])

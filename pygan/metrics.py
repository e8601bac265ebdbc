"""How near one image is to another.

All take two (n, c, h, w) float tensors in [-1, 1] and return a 0-d tensor, the mean over the n images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

HIGHER_IS_BETTER = frozenset(
    ("ssim", "psnr", "gradient_correlation", "is", "pixel_accuracy", "class_accuracy", "class_iou")
)  # of every other metric, in this file or of a GAN, less is better
PEAK = 2.0  # the range of [-1, 1]
_GREY = (0.299, 0.587, 0.114)
_BLOCKS = 8  # each way, that `colour_l1` compares


def of_pairs(output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """What outputs are measured by where the target is known: l1 (grey levels of 255), psnr (dB), ssim,
    gradient_correlation.
    """
    output, target = output.float(), target.float()
    return {
        "l1": l1(output, target) * 127.5,
        "psnr": psnr(output, target),
        "ssim": ssim(output, target),
        "gradient_correlation": gradient_correlation(output, target),
    }


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute error."""
    _check(a, b)
    return (a - b).abs().mean()


def colour_l1(a: Tensor, b: Tensor) -> Tensor:
    """What is where, and in which colour, without detail: `l1`, in grey levels of 255, of the means of 8x8 blocks.

    h and w are multiples of 8. In at least float32.
    """
    _check(a, b)
    a, b = (image.to(torch.promote_types(image.dtype, torch.float32)) for image in (a, b))
    return F.avg_pool2d(a - b, (a.shape[2] // _BLOCKS, a.shape[3] // _BLOCKS)).abs().mean() * 127.5


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, 10 log10(PEAK^2 / mse) per image; at most 100 (equal images)."""
    _check(a, b)
    mse = (a - b).square().flatten(1).mean(dim=1)  # (n,)
    return (10.0 * torch.log10(PEAK**2 / mse.clamp_min(PEAK**2 * 1e-10))).mean()


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, equation 13): Gaussian window 11x11, sigma 1.5, K1 0.01, K2 0.03.

    Computed on [0, 1], as usual (SSIM is not the same on [-1, 1]). Windows lie wholly inside the image, which must be
    at least 11x11 pixels; channels are averaged.
    """
    _check(a, b)
    dtype = a.dtype
    a, b = (a.double() + 1) / 2, (b.double() + 1) / 2  # the variances below are small differences
    size, sigma = 11, 1.5
    if min(a.shape[2:]) < size:
        raise ValueError(f"ssim needs images of at least {size}x{size} pixels, got {a.shape[2]}x{a.shape[3]}")
    window = [math.exp(-((k - size // 2) ** 2) / (2 * sigma**2)) for k in range(size)]
    window = [weight / sum(window) for weight in window]

    # Sums of shifted maps: every GPU has these in float64, and convolutions in float32 are rounded to TF32 there.
    def blur(x: Tensor) -> Tensor:  # (n, c, h, w) -> (n, c, h - 10, w - 10)
        for dim in (2, 3):
            length = x.shape[dim] - size + 1
            total = x.narrow(dim, 0, length) * window[0]
            for k in range(1, size):
                total.add_(x.narrow(dim, k, length), alpha=window[k])
            x = total
        return x

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a * mean_a, blur(b * b) - mean_b * mean_b
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean().to(dtype)


def gradient_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Do edges lie where they should: Pearson's correlation of the gradient magnitudes, per image.

    Magnitudes are those of the grey images, from differences of neighbours. 0 for an image without any edge.
    """
    _check(a, b)
    p, q = (_gradient_magnitude(x).flatten(1) for x in (a, b))  # (n, (h - 1) (w - 1))
    p, q = p - p.mean(dim=1, keepdim=True), q - q.mean(dim=1, keepdim=True)
    spread = (p.square().sum(dim=1) * q.square().sum(dim=1)).sqrt()
    least = math.sqrt(torch.finfo(a.dtype).tiny)
    return torch.where(spread > least, (p * q).sum(dim=1) / spread.clamp_min(least), 0.0).mean()


def _gradient_magnitude(x: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, h - 1, w - 1)."""
    if x.shape[1] == 3:
        grey = (x * x.new_tensor(_GREY).view(1, 3, 1, 1)).sum(dim=1)
    else:
        grey = x.mean(dim=1)
    down = grey[:, 1:, :-1] - grey[:, :-1, :-1]
    right = grey[:, :-1, 1:] - grey[:, :-1, :-1]
    return (down.square() + right.square()).sqrt()


def _check(a: Tensor, b: Tensor) -> None:
    if a.dim() != 4 or a.shape != b.shape:
        raise ValueError(f"two (n, c, h, w) tensors of one shape are expected, got {list(a.shape)} and {list(b.shape)}")

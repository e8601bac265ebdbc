"""What each score is, in words, for evaluation.json and for the table."""

from __future__ import annotations

from typing import NamedTuple


class Definition(NamedTuple):
    """head: in the table; better: "lower" or "higher"; words: what exactly is computed.

    digits: shown behind the dot; 0: three in all.
    """

    head: str
    better: str
    words: str
    digits: int = 3


_ACCURACY = "hist[i, j] counts pixels of true class i taken for j, over all pictures; 1e-12 is added to denominators"

DEFINITIONS = {
    "fid": Definition(
        "FID",
        "lower",
        "|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2)) of the features' means and covariances (divisor n - 1), float64",
    ),
    "kid": Definition(
        "KID",
        "lower",
        "unbiased MMD^2 with (a.b/d + 1)^3 over random subsets drawn without replacement; mean and population std over "
        "subsets; may be negative",
        0,
    ),
    "is": Definition(
        "Inception score",
        "higher",
        "exp(mean KL(p(y|x) || p(y))) in contiguous splits of one shuffle; mean and population std over splits",
    ),
    "lpips": Definition("LPIPS", "lower", "distance of deep features to the target, mean over pictures", 4),
    "feature_distance": Definition(
        "feature distance",
        "lower",
        "squared difference of feature maps of length 1 over the channels, mean over places, sum over maps",
        4,
    ),
    "ssim": Definition(
        "SSIM", "higher", "Gaussian window 11x11, sigma 1.5, K1 0.01, K2 0.03, on [0, 1]; mean over pictures", 4
    ),
    "psnr": Definition("PSNR (dB)", "higher", "10 log10(255^2 / mse) of each picture, at most 100; mean over pictures"),
    "l1": Definition("L1 (grey levels)", "lower", "mean absolute difference to the target in levels of 0..255"),
    "gradient_correlation": Definition(
        "edges (correlation)", "higher", "Pearson's correlation of the gradient magnitudes of picture and target", 4
    ),
    "pixel_accuracy": Definition("pixel accuracy", "higher", f"sum of the diagonal / sum of hist; {_ACCURACY}", 4),
    "class_accuracy": Definition("class accuracy", "higher", f"mean over classes of diagonal / row; {_ACCURACY}", 4),
    "class_iou": Definition(
        "class IoU", "higher", f"mean over classes of diagonal / (row + column - diagonal); {_ACCURACY}", 4
    ),
}

_KINDS = {
    "segmentation": ("", "of painted class maps against their targets"),
    "fcn": ("FCN score: ", "of what the segmenter reads in painted pictures, against what they were painted from"),
    "fcn_of_real": ("of real pictures: ", "of what the segmenter reads in the real pictures: the most to be had"),
}


def of(name: str) -> Definition:
    """The definition of a score, as "fid" or "fcn/class_iou"."""
    kind, slash, score = name.rpartition("/")
    if not slash:
        return DEFINITIONS[name]
    prefix, words = _KINDS[kind]
    what = DEFINITIONS[score]
    return what._replace(head=prefix + what.head, words=f"{what.words}; {words}")


def head(name: str) -> str:
    """A metric's name for a line of text."""
    return DEFINITIONS[name].head if name in DEFINITIONS else name

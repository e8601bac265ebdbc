"""image to image, learned from pairs (Isola, Zhu, Zhou, Efros, CVPR 2017)

G sees an image A and paints B; D sees A beside the real or the painted B and tells which it is, patch by patch. G is
also held near the target in L1, which gets the low frequencies right and leaves the high ones to D.
Image-to-Image Translation with Conditional Adversarial Networks, section 3, equations 1 to 4.
"""

from pygan.gans.pix2pix.recipe import (
    PRESETS,
    Recipe,
    baselines,
    batches,
    build,
    example,
    generator,
    measure,
    resolve,
    sample,
    step,
    translate,
)

__all__ = [
    "PRESETS",
    "Recipe",
    "baselines",
    "batches",
    "build",
    "example",
    "generator",
    "measure",
    "resolve",
    "sample",
    "step",
    "translate",
]

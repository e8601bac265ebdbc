"""one generator for many domains (Choi, Choi, Kim, Ha, Kim, Choo, CVPR 2018)

G sees an image and a label and paints the image as that label would have it; D tells real from painted and names the
label. What went to another label and back to its own must be what it was.
StarGAN: Unified Generative Adversarial Networks for Multi-Domain Image-to-Image Translation, section 3, equations 1
to 8.
"""

from pygan.gans.stargan.recipe import (
    CELEBA,
    PRESETS,
    RAFD,
    Recipe,
    batches,
    build,
    codes,
    example,
    generator,
    images_per_step,
    lr_factor,
    measure,
    resolve,
    sample,
    step,
    translate,
)

__all__ = [
    "CELEBA",
    "PRESETS",
    "RAFD",
    "Recipe",
    "batches",
    "build",
    "codes",
    "example",
    "generator",
    "images_per_step",
    "lr_factor",
    "measure",
    "resolve",
    "sample",
    "step",
    "translate",
]

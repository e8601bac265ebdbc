"""image to image, learned without pairs (Zhu, Park, Isola, Efros, ICCV 2017)

Two generators, A to B and B to A, and a discriminator for each domain. What went there and came back must be what it
was: that cycle takes the place of the pairs.
Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, section 3, equations 1 to 3.
"""

from pygan.gans.cyclegan.recipe import (
    PRESETS,
    Recipe,
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

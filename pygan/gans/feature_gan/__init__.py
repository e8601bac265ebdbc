"""pictures repainted so that VGG-16 sees the same in them (a baseline of Zhu, Park, Isola, Efros, ICCV 2017)

A generator turns pictures A into what a discriminator takes for pictures B. In place of CycleGAN's way back, features
of VGG-16 are to stay what they were.
Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, 5.1, "Feature loss + GAN".
"""

from pygan.gans.feature_gan.recipe import (
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
    takes,
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
    "takes",
    "translate",
]

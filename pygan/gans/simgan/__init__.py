"""synthetic pictures refined until they look real (Shrivastava, Pfister, Tuzel, Susskind, Wang, Webb, CVPR 2017)

A refiner changes synthetic pictures A as little as it can, and so that a discriminator takes them for the real ones B.
Learning from Simulated and Unsupervised Images through Adversarial Training, section 2, equations 1 to 5. The form in
which CycleGAN's paper compares itself with it (Zhu et al. 2017, 5.1) is the default; `--preset paper` is SimGAN's own.
"""

from pygan.gans.simgan.recipe import (
    PRESETS,
    Recipe,
    batches,
    build,
    example,
    generator,
    inherit_,
    measure,
    phases,
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
    "inherit_",
    "measure",
    "phases",
    "resolve",
    "sample",
    "step",
    "translate",
]

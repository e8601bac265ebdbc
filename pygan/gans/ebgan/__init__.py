"""pictures from noise, against an energy (Zhao, Mathieu, LeCun, ICLR 2017)

D is an autoencoder whose reconstruction error is an energy: low for real pictures, for G's at least a margin. G learns
pictures of low energy, whose codes a pulling-away term keeps apart.
Energy-based Generative Adversarial Network, sections 2.1 to 2.4.
"""

from pygan.gans.ebgan.recipe import (
    PRESETS,
    Recipe,
    batches,
    build,
    example,
    generate,
    generator,
    latent,
    measure,
    prior,
    resolve,
    sample,
    step,
)

__all__ = [
    "PRESETS",
    "Recipe",
    "batches",
    "build",
    "example",
    "generate",
    "generator",
    "latent",
    "measure",
    "prior",
    "resolve",
    "sample",
    "step",
]

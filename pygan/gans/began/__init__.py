"""pictures from noise, against an autoencoder in balance (Berthelot, Schumm, Metz, 2017)

D is an autoencoder: it learns to paint real pictures again, and G's badly. G learns pictures that D paints well. A
number k holds the two in balance, and their losses give a measure M of how far training has come.
BEGAN: Boundary Equilibrium Generative Adversarial Networks, sections 3.2 to 3.5.
"""

from pygan.gans.began.recipe import (
    PRESETS,
    Recipe,
    batches,
    build,
    example,
    generate,
    generator,
    latent,
    lr_factor,
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
    "lr_factor",
    "measure",
    "prior",
    "resolve",
    "sample",
    "step",
]

"""two domains from one noise, learned without pairs (Liu, Tuzel, NIPS 2016)

Two generators that share all but their last layer, and two discriminators that share all but their first: what is
shared decides what a picture shows, and each domain's own layer how it looks. Each pair of pictures comes from one z.
Coupled Generative Adversarial Networks, section 3.
"""

from pygan.gans.cogan.recipe import (
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
    translate,
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
    "translate",
]

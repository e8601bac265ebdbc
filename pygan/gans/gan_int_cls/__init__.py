"""pictures from text, matched and interpolated (Reed, Akata, Yan, Logeswaran, Schiele, Lee, ICML 2016)

G paints a picture of 64 pixels from noise and a caption; D sees picture and caption together. CLS: D is also shown real
pictures that the caption does not describe. INT: G also has to please for captions half-way between two.
Generative Adversarial Text to Image Synthesis, section 4, equations 2 to 5 and algorithm 1.
"""

from pygan.gans.gan_int_cls.recipe import (
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

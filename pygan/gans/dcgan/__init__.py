"""pictures from noise, the convolutional GAN (Radford, Metz, Chintala, ICLR 2016)

G turns a vector of noise into a picture by transposed convolutions, D tells pictures from G's by strided ones; no
pooling, no dense hidden layers, BatchNorm almost everywhere. What trains stably since.
Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks, sections 3 and 4.
"""

from pygan.gans.dcgan.recipe import (
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

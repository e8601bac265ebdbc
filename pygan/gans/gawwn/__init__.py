"""pictures from text and where things are (Reed, Akata, Mohan, Tenka, Schiele, Lee, NIPS 2016)

G paints what a caption says into a bounding box, or around key points; D sees picture, caption and place together. Both
have a global stream, and a local one that looks at the place alone.
Learning What and Where to Draw (GAWWN), sections 4.1 (boxes) and 4.2 (key points).
"""

from pygan.gans.gawwn.recipe import (
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

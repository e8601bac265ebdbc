"""text to image, sketched and then finished (Zhang, Xu, Li, Zhang, Wang, Huang, Metaxas, ICCV 2017)

Stage I paints a small picture from an embedding of a text: shapes and colours. Stage II reads the text again and paints
a large picture over it. Between text and picture stands a Gaussian, so that near texts give near pictures.
StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial Networks, equations 1 to 6.
"""

from pygan.gans.stackgan.recipe import (
    PRESETS,
    Recipe,
    batches,
    build,
    example,
    generate,
    generator,
    inherit_,
    latent,
    lr_factor,
    measure,
    phases,
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
    "inherit_",
    "latent",
    "lr_factor",
    "measure",
    "phases",
    "prior",
    "resolve",
    "sample",
    "step",
]

"""a generator and its inverse, told apart by their pairs (Dumoulin et al.; Donahue et al., ICLR 2017)

G paints one side of a pair from the other, E the other from the one; D sees whole pairs and tells whose they are. Where
it cannot, G and E are each other's inverse.
Adversarially Learned Inference, section 2, equation 3; Adversarial Feature Learning, section 3, equation 3; between two
domains of pictures: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks, section 5.1.1.
"""

from pygan.gans.bigan.recipe import (
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
    reconstruct,
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
    "generate",
    "generator",
    "latent",
    "measure",
    "prior",
    "reconstruct",
    "resolve",
    "sample",
    "step",
    "takes",
    "translate",
]

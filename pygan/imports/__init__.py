"""Networks that other programs trained, as run directories of this one.

Understood are generators of the widely used PyTorch port of CycleGAN and pix2pix (`*_net_G.pth`, U-Net or ResNet) and
of StarGAN's own code (`*-G.ckpt`). `reading` takes tensors out of a file, `network` says which generator they are,
`layers` what its layers are called there and here, `recipes` which recipe has it, `write` makes the run.
"""

from pygan.imports.asked import PEERS, Asked
from pygan.imports.write import import_network

__all__ = ["PEERS", "Asked", "import_network"]

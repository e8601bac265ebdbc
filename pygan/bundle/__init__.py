"""A trained network as a folder in the layout of the Hugging Face Hub: model card, config, safetensors, samples.

    README.md           the model card: what it is, how it was trained, how good it is, how to use it
    config.json         what the network takes and makes, its recipe, versions, the checksum of its weights
    model.safetensors   the generator, or its average where the run keeps one
    samples/            pictures of it
    .gitattributes      what Git LFS keeps

`git push` or `huggingface_hub.upload_folder` publish such a folder; after `git clone` or `snapshot_download` it is what
`pygan translate` and `pygan.load` take. Nothing here uses a network.
"""

from pygan.bundle.layout import CONFIG, is_bundle
from pygan.bundle.reading import read
from pygan.bundle.writing import write

__all__ = ["CONFIG", "is_bundle", "read", "write"]

"""pygan trains, judges and serves the classic GANs. Start with `pygan train pix2pix --amp`.

As a library: `pygan.load(run_or_file)` is a network ready for use, `pygan.train(...)` is what `pygan train` calls. They
are imported when they are first used: `import pygan` alone does not import torch.
"""

from typing import TYPE_CHECKING

from pygan.errors import Diverged, UserError
from pygan.version import __version__

if TYPE_CHECKING:
    from pygan.api import Generator, load
    from pygan.loop import train
else:
    _WHERE = {"Generator": "pygan.api", "load": "pygan.api", "train": "pygan.loop"}

    def __getattr__(name: str):
        if name not in _WHERE:
            raise AttributeError(f"module 'pygan' has no attribute {name!r}")
        import importlib

        found = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = found
        return found

    def __dir__():
        return sorted({*globals(), *_WHERE})


__all__ = ["Diverged", "Generator", "UserError", "__version__", "load", "train"]

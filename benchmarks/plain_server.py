"""The plain way to serve a network, written well: `python -m benchmarks.plain_server RUN PORT LEVEL`

FastAPI and uvicorn, Pillow for the pictures, PyTorch's own layers in eval mode, one picture at a time through the
network under a lock. Requests are handled in FastAPI's threads, so that decoding and encoding overlap with computing.
LEVEL is how hard zlib tries on a PNG; Pillow's own is 6.
The weights are those of a run of pix2pix (U-Net, running statistics, no dropout in use), so that its answers can be
compared with pygan's.
"""

import io
import sys
import threading
from pathlib import Path

import numpy as np
import torch
import uvicorn
from fastapi import Body, FastAPI, HTTPException, Response
from PIL import Image, UnidentifiedImageError
from torch import nn

from benchmarks import plain
from pygan import use


def network(run, device):
    """(a run's generator in PyTorch's own layers, in eval mode on `device`; what sides are multiples of, pixels)."""
    trained = use.load(Path(run), "last", "cpu")
    recipe, G = trained.recipe, trained.net
    if recipe.test_dropout or recipe.test_bn != "running" or recipe.generator != "unet":
        raise SystemExit("the run must be of pix2pix, --no-test-dropout --test-bn running")
    copy = plain.PlainUNet(2**recipe.levels, recipe.ngf, recipe.dropout_p)
    with torch.no_grad():
        for mine, theirs in zip(copy.parameters(), G.parameters(), strict=True):
            mine.copy_(theirs)
        norms = [m for m in copy.modules() if isinstance(m, nn.BatchNorm2d)]
        means = [value for name, value in G.named_buffers() if name.endswith("running_mean")]
        variances = [value for name, value in G.named_buffers() if name.endswith("running_var")]
        for norm, mean, variance in zip(norms, means, variances, strict=True):
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
    return copy.eval().to(device), 2**recipe.levels


def create(run, device, level=6):
    """The application: POST a picture to /translate, get a PNG of that zlib level."""
    net, multiple = network(run, device)
    lock, app = threading.Lock(), FastAPI()

    @app.get("/health")
    def health():
        return {"status": "ok"}

    @app.post("/translate")
    def translate(body: bytes = Body(media_type="application/octet-stream")):
        try:
            image = Image.open(io.BytesIO(body)).convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise HTTPException(415, "no picture") from error
        if image.width % multiple or image.height % multiple:
            raise HTTPException(422, f"sides must be multiples of {multiple}")
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float().div(127.5).sub(1)
        with lock, torch.inference_mode():
            y = net(x.to(device)).cpu()
        pixels = y[0].permute(1, 2, 0).add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels.numpy()).save(buffer, "PNG", compress_level=level)
        return Response(buffer.getvalue(), media_type="image/png")

    return app


if __name__ == "__main__":
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made = create(sys.argv[1], where, int(sys.argv[3]))
    uvicorn.run(made, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")

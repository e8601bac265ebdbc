"""What schemathesis cannot know from a description: bodies of image/png and the like that are pictures."""

import io

import numpy as np
import schemathesis
from hypothesis import strategies as st
from PIL import Image

from pygan.serve.intake import PICTURE_TYPES

KINDS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP", "image/tiff": "TIFF", "image/bmp": "BMP"}
KINDS |= {"image/gif": "GIF", "application/octet-stream": "PNG"}


@st.composite
def pictures(draw, media):
    """A small picture of that media type, of any mode that it has."""
    height, width = draw(st.integers(2, 24)), draw(st.integers(2, 24))
    pixels = np.random.default_rng(draw(st.integers(0, 999))).integers(0, 255, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    if media == "application/x-npy":
        np.save(buffer, pixels)
    else:
        mode = draw(st.sampled_from(("RGB", "L") if media in ("image/jpeg", "image/bmp") else ("RGB", "L", "P")))
        Image.fromarray(pixels).convert(mode).save(buffer, KINDS[media])
    return buffer.getvalue()


for media in PICTURE_TYPES:
    schemathesis.openapi.media_type(media, pictures(media))

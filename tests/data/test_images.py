"""Every kind of file becomes upright 8-bit pixels, and what cannot says so by name."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pygan.data import images
from pygan.data.images import halves, load, resize
from pygan.data.index import examine
from pygan.errors import UserError


def ramp(top=255):
    return np.linspace(0, top, 64).round().reshape(8, 8)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(ramp(65535).astype(np.uint16)).save(path)
    assert examine(path).bits == 16
    assert np.array_equal(np.asarray(load(path, 1)), ramp().astype(np.uint8))
    assert np.array_equal(np.asarray(load(path, 3))[:, :, 1], ramp().astype(np.uint8))


def test_16_bit_tiff(tmp_path):
    path = tmp_path / "deep.tif"
    Image.fromarray(ramp(65535).astype(np.uint16)).save(path)
    assert np.array_equal(np.asarray(load(path, 1)), ramp().astype(np.uint8))


@pytest.mark.parametrize(("dtype", "words"), [(np.float32, "floating-point"), (np.int32, "32-bit integer")])
def test_pictures_without_a_range_are_refused(tmp_path, dtype, words):
    path = tmp_path / "free.tif"
    Image.fromarray((ramp() * 1000).astype(dtype)).save(path)
    assert words in examine(path).why
    with pytest.raises(UserError, match=f"free.tif: {words}"):
        load(path, 1)


def test_transparency_is_laid_on_white(tmp_path):
    pixels = np.zeros((4, 6, 4), dtype=np.uint8)
    pixels[:, :3] = (200, 10, 30, 255)
    pixels[:, 3:, 3] = 0  # invisible black
    Image.fromarray(pixels).save(tmp_path / "t.png")
    got = np.asarray(load(tmp_path / "t.png", 3))
    assert (got[:, :3] == (200, 10, 30)).all()
    assert (got[:, 3:] == 255).all()
    assert examine(tmp_path / "t.png").transparent
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "opaque.png")
    assert not examine(tmp_path / "opaque.png").transparent


def test_palette_with_a_transparent_entry(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], dtype=np.uint8), mode="P")
    image.putpalette([10, 20, 30, 0, 0, 0])
    image.save(tmp_path / "p.png", transparency=1)
    assert np.asarray(load(tmp_path / "p.png", 3)).tolist() == [
        [[10, 20, 30], [255, 255, 255]],
        [[255, 255, 255], [10, 20, 30]],
    ]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / f"m.{'jpg' if mode in ('CMYK', 'YCbCr') else 'png'}"
    Image.new("RGB", (8, 8), "white").convert(mode).save(path)
    assert examine(path).why == ""
    got = np.asarray(load(path, 3))
    assert got.shape == (8, 8, 3)
    assert got.min() > 250


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    upright = np.zeros((24, 16, 3), dtype=np.uint8)
    upright[:8, :8] = 255  # bright corner at the top left
    back = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    stored = Image.fromarray(upright)
    stored = stored.transpose(back) if back is not None else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "e.png", exif=exif)
    entry = examine(tmp_path / "e.png")
    assert (entry.width, entry.height, entry.orientation) == (16, 24, orientation)
    assert np.array_equal(np.asarray(load(tmp_path / "e.png", 3)), upright)


def test_grey_weights(tmp_path):
    Image.fromarray(np.array([[[200, 100, 50]] * 2] * 2, dtype=np.uint8)).save(tmp_path / "c.png")
    assert abs(int(np.asarray(load(tmp_path / "c.png", 1))[0, 0]) - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)) <= 0.5


def test_resize_filters():
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    assert resize(image, 8, "bicubic")[:, :, 0].tolist() == np.asarray(image).tolist()
    assert set(resize(image, 5, "nearest").ravel()) <= set(range(64))
    assert resize(image, 4, "area")[0, 0, 0] == 5  # the mean of 0, 1, 8, 9 is 4.5
    assert resize(image.convert("RGB"), 3, "bilinear").shape == (3, 3, 3)


def test_halves_are_cut_before_resizing():
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, 8:] = 255
    left, right = halves(Image.fromarray(pixels))
    assert resize(left, 12, "bicubic").max() == 0
    assert resize(right, 12, "bicubic").min() == 255


def png_header(width, height):
    """A valid PNG that claims a size and holds next to nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg_bytes(width=64, height=64):
    noise = np.random.Generator(np.random.Philox(1)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="JPEG")
    return buffer.getvalue()


DAMAGE = {
    "truncated": (jpeg_bytes()[:900], "truncated"),
    "header only": (jpeg_bytes()[:20], "not a picture|damaged|truncated"),
    "zero bytes": (b"", "empty file"),
    "text": (b"this is no picture, whatever it is called\n" * 9, "not a picture"),
    "bomb": (png_header(30000, 30000), "more than 89,478,485 pixels"),
    "small bomb": (png_header(10000, 10000), "10000x10000 pixels: more than 89,478,485 pixels"),
    "one pixel": (png_header(1, 1), "1x1 pixels: at least 2x2"),
    "one row": (png_header(50, 1), "50x1 pixels: at least 2x2"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # pytest undoes the filter of the module
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_named(tmp_path, kind):
    content, words = DAMAGE[kind]
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    assert re.search(words, examine(path).why)
    with pytest.raises(UserError, match=r"photo\.jpg") as caught:
        load(path, 3)
    assert "\n" not in str(caught.value)


def test_missing_and_forbidden(tmp_path, monkeypatch):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert examine(tmp_path / "gone.jpg").why == "no such file"
    path = tmp_path / "secret.png"
    Image.new("RGB", (4, 4)).save(path)

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(images.Image, "open", refuse)
    assert examine(path).why == "no permission to read it"


def test_a_png_named_jpg_is_read(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.jpg", format="PNG")
    entry = examine(tmp_path / "x.jpg")
    assert entry.why == ""
    assert entry.misnamed
    assert entry.format == "PNG"
    assert load(tmp_path / "x.jpg", 3).size == (4, 4)

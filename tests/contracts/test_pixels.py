import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from contracts.errors import InvalidImage, TooLarge
from contracts.manifest import Preprocessing
from contracts.pixels import ImageLimits, check_pixels, load_pixels, open_image, resize, to_rgb
from tests.image_files import jpeg_with_exif, printer_profile

RNG = np.random.default_rng(0)
SQUARE = Preprocessing(height=32, width=32)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> np.ndarray:
    image = to_rgb(open_image(data, ImageLimits()))
    assert image.mode == "RGB"
    return np.asarray(image)


def noise(height: int = 20, width: int = 30, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def slow_resize(pixels: np.ndarray, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Antialiased bilinear scaling of `box` to size x size, straight from its definition."""

    def weights(start: float, stop: float, length: int) -> np.ndarray:
        scale = (stop - start) / size
        support = max(scale, 1.0)
        centres = start + (np.arange(size) + 0.5) * scale
        distance = np.abs(np.arange(length)[None, :] + 0.5 - centres[:, None]) / support
        triangle = np.clip(1 - distance, 0, None)
        return triangle / triangle.sum(axis=1, keepdims=True)

    left, top, right, bottom = box
    across = weights(left, right, pixels.shape[1])
    down = weights(top, bottom, pixels.shape[0])
    return np.einsum("ij,jkc,lk->ilc", down, pixels.astype(np.float64), across)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_give_their_pixels(format):
    pixels = noise()
    image = Image.fromarray(pixels)
    if format == "GIF":
        image = image.quantize(64)
        pixels = np.asarray(image.convert("RGB"))
    assert np.array_equal(decoded(encoded(image, format)), pixels)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_give_nearly_their_pixels(format):
    image = Image.fromarray(np.full((16, 16, 3), (200, 100, 50), dtype=np.uint8))
    assert np.abs(decoded(encoded(image, format)).astype(int) - (200, 100, 50)).max() <= 6


def test_grey_is_the_same_in_three_channels():
    pixels = noise(channels=1)
    assert np.array_equal(decoded(encoded(Image.fromarray(pixels))), np.repeat(pixels[..., None], 3, axis=2))


def test_black_and_white_is_0_and_255():
    bits = RNG.integers(0, 2, (9, 9)).astype(bool)
    assert np.array_equal(decoded(encoded(Image.fromarray(bits)))[..., 0], bits * 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_upper_byte(format):
    values = np.array([[0, 256, 257, 32768, 65279, 65534, 65535]], dtype=np.uint16)
    grey = decoded(encoded(Image.fromarray(values), format))[0, :, 0].tolist()
    assert grey == [0, 0, 1, 127, 254, 254, 255]


def test_transparent_pixels_show_white():
    pixels = noise(channels=4)
    pixels[..., 3] = RNG.choice([0, 128, 255], pixels.shape[:2])
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(decoded(encoded(Image.fromarray(pixels))) - expected).max() <= 1


def test_a_large_image_is_converted_as_a_small_one_is():
    pixels = np.tile(noise(50, 60, channels=4), (42, 34, 1))
    assert pixels.shape[0] * pixels.shape[1] > 4_000_000
    small = decoded(encoded(Image.fromarray(pixels[:50, :60])))
    assert np.array_equal(to_rgb(Image.fromarray(pixels)), np.tile(small, (42, 34, 1)))


def test_damaged_metadata_is_passed_over_in_silence():
    data = jpeg_with_exif(b"II*\0\x08\0\0\0\x05\0\x12\1")
    script = "import sys; from contracts.pixels import *; "
    script += "to_rgb(open_image(sys.stdin.buffer.read(), ImageLimits()))"
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, check=True)
    assert done.stderr == b""


def test_a_transparent_palette_entry_shows_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decoded(encoded(image, "PNG", transparency=0)).tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_grey_with_alpha_shows_white():
    image = Image.fromarray(np.array([[[100, 0], [100, 255]]], dtype=np.uint8), "LA")
    assert decoded(encoded(image))[0, :, 0].tolist() == [255, 100]


def test_cmyk_without_a_profile_is_converted_by_its_inks():
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8)
    rgb = decoded(encoded(Image.fromarray(inks, "CMYK"), "TIFF"))
    assert rgb.tolist() == [[[255, 255, 255], [0, 255, 255], [0, 0, 0]]]


def test_cmyk_with_a_broken_profile_is_converted_by_its_inks():
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    data = encoded(image, "TIFF", icc_profile=b"not a profile")
    assert decoded(data)[0, 0].tolist() == [255, 0, 0]


def test_cmyk_goes_through_its_profile():
    # Whatever the coloured inks, this printer prints one violet; red is what they mean without it.
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    data = encoded(image, "TIFF", icc_profile=printer_profile((60, 30, -20)))
    assert np.abs(decoded(data)[0, 0] - lab_to_srgb(60, 30, -20)).max() <= 3


def lab_to_srgb(lightness: float, a: float, b: float) -> np.ndarray:
    """CIE Lab under D50 to 8-bit sRGB, by the formulas of the ICC and of IEC 61966-2-1."""
    fy = (lightness + 16) / 116
    xyz = np.array([0.9642, 1, 0.8249]) * np.array([fy + a / 500, fy, fy - b / 200]) ** 3
    matrix = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    return 255 * (1.055 * (matrix @ xyz) ** (1 / 2.4) - 0.055)


# What undoes each EXIF orientation, as array operations on [row, column]: the tag says where the top
# left corner of the stored rows and columns is to be shown.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(orientation):
    pixels = noise()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), "PNG", exif=exif)
    assert np.array_equal(decoded(data), UPRIGHT[orientation](pixels))


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_counts(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if format == "WEBP" else {}
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert np.array_equal(decoded(data), np.asarray(frames[0]))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (100, 60), (61, 101), (7, 9), (33, 400)])
def test_the_middle_is_cropped_and_scaled_as_by_definition(height, width):
    pixels = noise(height, width)
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    expected = slow_resize(pixels, (left, top, left + side, top + side), 32)
    # Pillow rounds once an axis and computes with fixed-point weights.
    assert np.abs(resize(Image.fromarray(pixels), SQUARE) - expected).max() <= 1.5


def test_squash_scales_each_axis_alone():
    pixels = noise(50, 90)
    preprocessing = Preprocessing(height=32, width=32, resize="squash")
    expected = slow_resize(pixels, (0, 0, 90, 50), 32)
    assert np.abs(resize(Image.fromarray(pixels), preprocessing) - expected).max() <= 1.5


def test_a_target_that_is_not_square_keeps_its_own_shape():
    pixels = np.zeros((90, 90, 3), dtype=np.uint8)
    pixels[30:60] = 255
    scaled = resize(Image.fromarray(pixels), Preprocessing(height=10, width=30))
    assert scaled.shape == (10, 30, 3)
    assert scaled.min() > 200


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 50_000), (50_000, 1), (3, 30_000)])
def test_tiny_long_and_thin_images_are_scaled(height, width):
    image = Image.new("RGB", (width, height), (10, 20, 30))
    pixels = load_pixels(encoded(image), SQUARE)
    assert pixels.shape == (32, 32, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 20, 30)).all()


def test_a_header_that_promises_too_many_pixels_is_refused_undecoded():
    chunk = struct.pack(">4s2I5B", b"IHDR", 20_000, 20_000, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    header += struct.pack(">I4s", 100, b"IDAT")
    with pytest.raises(TooLarge, match="20000x20000, 400000000 pixels, and the limit is 100000000"):
        load_pixels(header + bytes(100), SQUARE)


def test_the_limits_themselves_are_allowed():
    limits = ImageLimits(max_bytes=1000, max_pixels=100)
    data = encoded(Image.new("RGB", (10, 10)))
    assert open_image(data + bytes(1000 - len(data)), limits).size == (10, 10)
    with pytest.raises(TooLarge, match="1001 bytes"):
        open_image(data + bytes(1001 - len(data)), limits)
    with pytest.raises(TooLarge, match="101 pixels"):
        open_image(encoded(Image.new("RGB", (101, 1))), limits)


def test_an_image_without_pixels_is_invalid():
    with pytest.raises(InvalidImage, match="0x5"):
        check_pixels(0, 5, ImageLimits())


@pytest.mark.parametrize(
    "data", [b"", b"text that is no image", b"\xff\xd8\xff", b"%PDF-1.7", b"<svg xmlns='x'/>", bytes(500)]
)
def test_bytes_that_are_no_image_are_invalid(data):
    with pytest.raises(InvalidImage):
        load_pixels(data, SQUARE)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_a_truncated_image_is_invalid(format):
    data = encoded(Image.fromarray(noise(200, 200)), format)
    with pytest.raises(InvalidImage):
        load_pixels(data[: len(data) // 2], SQUARE)


@pytest.mark.parametrize("format", ["PPM", "TGA", "ICO"])
def test_formats_that_are_not_listed_are_invalid(format):
    with pytest.raises(InvalidImage, match="send one of JPEG"):
        load_pixels(encoded(Image.new("RGB", (16, 16)), format), SQUARE)


@pytest.mark.parametrize(("kind", "samples"), [(np.float32, "float"), (np.int32, "32-bit")])
@pytest.mark.parametrize("orientation", [1, 6])
def test_samples_of_unknown_range_are_invalid(kind, samples, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(Image.fromarray(np.full((4, 4), 200, dtype=kind)), "TIFF", exif=exif)
    with pytest.raises(InvalidImage, match=f"{samples}.* samples"):
        load_pixels(data, SQUARE)

"""From the bytes of an image file to the pixels that a model takes: the reference arithmetic.

Trainer and service both go through `resize`, so that a model sees at serving time what it was
evaluated on. The service decodes JPEG files with a faster library; what that changes is measured
against `load_pixels`.
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from contracts.errors import InvalidImage, TooLarge
from contracts.manifest import Preprocessing
from contracts.structure import inspect_structure

Pixels = npt.NDArray[np.uint8]
"""uint8 [height, width, 3], RGB."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""Formats read, by Pillow's names. A short list: each decoder is a surface for hostile files."""

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each EXIF orientation upright; 1, and values that are none, need nothing."""

_BAND_PIXELS = 4_000_000
"""Colours are converted by so many pixels at a time, or they would take several copies of the image."""

# Our own limit is checked from the header, for every format, before anything is decoded.
Image.MAX_IMAGE_PIXELS = None

# Pillow warns of damaged metadata, thousands of times for one hostile file; Python keeps what it has warned
# of, and so would never give that memory back.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """The largest image accepted."""

    max_bytes: int = 32 * 2**20
    max_pixels: int = 100_000_000


def open_image(data: bytes, limits: ImageLimits) -> Image.Image:
    """Check the header of an image file against `limits`, decoding nothing.

    Raises InvalidImage for bytes that are no image, or one of a structure that is made to cost, and
    TooLarge for one over a limit.
    """
    check_size(len(data), limits)
    check_structure(data, limits)
    return open_checked(data, limits)


def open_checked(data: bytes, limits: ImageLimits) -> Image.Image:
    """The same for bytes whose size and structure have been checked."""
    if not data:
        raise InvalidImage("the image is empty (0 bytes): send the bytes of an image file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as exc:  # Pillow's parsers raise of every kind on hostile headers.
        raise InvalidImage(
            f"the {len(data)} bytes are not an image that can be read here: send one of {', '.join(FORMATS)}"
        ) from exc
    check_pixels(image.width, image.height, limits)
    return image


def check_size(num_bytes: int, limits: ImageLimits) -> None:
    """Raise TooLarge if an image file has more bytes than allowed."""
    if num_bytes > limits.max_bytes:
        raise TooLarge(
            f"the image has {num_bytes} bytes and the limit is {limits.max_bytes}: send a smaller file"
        )


def check_structure(data: bytes, limits: ImageLimits) -> int:
    """Pixels that a decoder will allocate whatever the image's size says; 0 if that is all there is to it.

    Raises InvalidImage for a structure that is made to cost, TooLarge for one over a limit.
    """
    allocated = inspect_structure(data)
    if allocated is None or min(allocated) < 1:
        return 0
    check_pixels(*allocated, limits)
    return allocated[0] * allocated[1]


def check_pixels(width: int, height: int, limits: ImageLimits) -> None:
    """Raise TooLarge if an image has more pixels than allowed, InvalidImage if it has none."""
    if width < 1 or height < 1:
        raise InvalidImage(f"the image is {width}x{height} and has no pixels: send another")
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"the image is {width}x{height}, {width * height} pixels, and the limit is "
            f"{limits.max_pixels}: scale it down before sending"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode the first frame as upright 8-bit RGB. Raises InvalidImage if the file is damaged.

    EXIF orientation is applied, transparency is laid on `BACKGROUND`, 16-bit grey keeps its upper
    byte, and CMYK goes through its ICC profile if it carries one.
    """
    try:
        image.seek(0)
        image.load()
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
            samples = "float" if image.mode == "F" else "32-bit or signed"
            raise InvalidImage(
                f"the image has {samples} samples, whose range is unknown: save it with 8 bits"
            )
        method = UPRIGHT.get(orientation_of(image))
        return _by_bands(image if method is None else image.transpose(method), _flatten)
    except InvalidImage:
        raise
    except MemoryError as exc:
        raise TooLarge(
            f"there is not enough memory now to decode the {image.width}x{image.height} image: "
            "scale it down, or send it again later"
        ) from exc
    except Exception as exc:  # As above: truncated and hostile files raise of every kind.
        reason = str(exc) or type(exc).__name__
        raise InvalidImage(
            f"the image cannot be decoded ({reason}): the file is damaged or truncated"
        ) from exc


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of an image; 1 if it has none, or EXIF that cannot be read."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - broken EXIF is common in the wild, and the pixels are still good.
        return 1
    return found if isinstance(found, int) else 1


def resize(image: Image.Image, preprocessing: Preprocessing) -> Pixels:
    """Scale an RGB image to uint8 [height, width, 3] with an antialiased bilinear filter.

    `crop` reads the largest centred box of the target's aspect ratio, so that no intermediate image
    is ever larger than the source, however long and thin that is.
    """
    size = preprocessing.width, preprocessing.height
    box = source_box(image.width, image.height, preprocessing)
    scaled = image.resize(size, Image.Resampling.BILINEAR, box=box)
    return np.asarray(scaled, dtype=np.uint8)


def load_pixels(data: bytes, preprocessing: Preprocessing, limits: ImageLimits | None = None) -> Pixels:
    """The reference path from file bytes to uint8 [height, width, 3]."""
    return resize(to_rgb(open_image(data, limits or ImageLimits())), preprocessing)


def source_box(width: int, height: int, preprocessing: Preprocessing) -> tuple[float, float, float, float]:
    """left, top, right and bottom, in pixels, of what is encoded of an image."""
    if preprocessing.resize == "squash":
        return 0.0, 0.0, float(width), float(height)
    aspect = preprocessing.width / preprocessing.height
    box_width = min(float(width), height * aspect)
    box_height = min(float(height), width / aspect)
    left, top = (width - box_width) / 2, (height - box_height) / 2
    return left, top, left + box_width, top + box_height


def _from_cmyk(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        # A broken or foreign profile is common in the wild, and the pixels are still good without it.
        return image.convert("RGB")
    assert converted is not None  # None only when converting in place.
    return converted


def _by_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`convert(image)` in RGB, in little more memory than the two take."""
    num_rows = max(1, _BAND_PIXELS // image.width)
    if image.height <= num_rows:
        return convert(image)
    converted = Image.new("RGB", image.size)
    for top in range(0, image.height, num_rows):
        band = image.crop((0, top, image.width, min(top + num_rows, image.height)))
        converted.paste(convert(band), (0, top))
    return converted


def _flatten(image: Image.Image) -> Image.Image:
    """RGB of any mode, pixel by pixel."""
    if image.mode == "CMYK":
        image = _from_cmyk(image)
    elif image.mode == "La":
        image = image.convert("LA")  # The only one that Pillow knows the way to.
    elif image.mode.startswith("I"):
        # Samples of 16 bits; Pillow's own conversion clips them at 255.
        grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535) // 257
        image = Image.fromarray(grey.astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(canvas, image)
    return image.convert("RGB")

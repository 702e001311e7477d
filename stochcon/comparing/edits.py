"""What people do to pictures before they post them again, to see whether a model still finds them.

Every edit is a function of an RGB image and a random generator. Images are made no larger than SIDE first,
and saved as JPEG afterwards, as such pictures are.
"""

import io
import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from contracts.pixels import ImageLimits, open_image, to_rgb

SIDE = 1024
"""The longer side in pixels of the largest picture that is edited."""

_QUALITY = 95

Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def edited(data: bytes, limits: ImageLimits, seed: list[int]) -> list[bytes]:
    """An image file under each of EDITS, as JPEG files. Raises InvalidImage, TooLarge."""
    image = to_rgb(open_image(data, limits))
    image.thumbnail((SIDE, SIDE))
    return [
        _jpeg(edit(image, np.random.default_rng([*seed, number])), _QUALITY)
        for number, edit in enumerate(EDITS.values())
    ]


def shrink(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Half the size, in a JPEG of quality 20."""
    small = image.resize((max(1, image.width // 2), max(1, image.height // 2)))
    return _compress(small, 20)


def mirror(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Left and right exchanged."""
    return ImageOps.mirror(image)


def blur(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Blurred by 1.5 % of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(0.015 * min(image.size)))


def crop_half(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """Half of the area, from anywhere."""
    return _crop(image, 0.5, random)


def overlay(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """An opaque box of half the width and half the height, anywhere."""
    image = image.copy()
    width, height = max(1, image.width // 2), max(1, image.height // 2)
    left, top = _corner(image, width, height, random)
    red, green, blue = random.integers(256, size=3).tolist()
    box = (left, top, left + width - 1, top + height - 1)
    ImageDraw.Draw(image).rectangle(box, fill=(red, green, blue))
    return image


def crop_quarter(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """A quarter of the area, from anywhere, mirrored, in a JPEG of quality 20."""
    return _compress(ImageOps.mirror(_crop(image, 0.25, random)), 20)


def tilt(image: Image.Image, random: np.random.Generator) -> Image.Image:
    """The overlay, and all of it turned by 25 degrees on white."""
    angle = 25 if random.random() < 0.5 else -25
    covered = overlay(image, random)
    return covered.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=(255, 255, 255))


EDITS: dict[str, Edit] = {
    "half size, JPEG 20": shrink,
    "mirror": mirror,
    "blur": blur,
    "crop 50 %": crop_half,
    "overlay": overlay,
    "crop 25 %, mirror, JPEG 20": crop_quarter,
    "overlay, turned 25°": tilt,
}
"""From mild to hard."""


def _crop(image: Image.Image, area: float, random: np.random.Generator) -> Image.Image:
    width, height = (max(1, round(side * math.sqrt(area))) for side in image.size)
    left, top = _corner(image, width, height, random)
    return image.crop((left, top, left + width, top + height))


def _corner(image: Image.Image, width: int, height: int, random: np.random.Generator) -> tuple[int, int]:
    left = random.integers(image.width - width + 1)
    return int(left), int(random.integers(image.height - height + 1))


def _compress(image: Image.Image, quality: int) -> Image.Image:
    return to_rgb(Image.open(io.BytesIO(_jpeg(image, quality))))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()

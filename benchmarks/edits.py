"""Edits that make near-duplicates hard to find: what people, platforms and collage makers do to a photograph.

Each is a function of an RGB image and a generator of random numbers; the same numbers give the same edit.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Edit = Callable[[Image.Image, np.random.Generator, Image.Image], Image.Image]
"""The photograph, random numbers, and another photograph, for collages."""


def crop(share: float) -> Edit:
    """A random part of `share` of the area, in the photograph's own shape."""

    def edit(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
        width, height = (max(1, round(side * share**0.5)) for side in image.size)
        left = int(random.integers(0, image.width - width + 1))
        top = int(random.integers(0, image.height - height + 1))
        return image.crop((left, top, left + width, top + height))

    return edit


def jpeg(quality: int) -> Edit:
    """Compressed and opened again."""

    def edit(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=quality)
        with Image.open(encoded) as reopened:
            return reopened.convert("RGB")

    return edit


def mirror(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
    """Left and right exchanged."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def overlays(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
    """Three opaque boxes, each of up to half the width and height."""
    found = image.copy()
    draw = ImageDraw.Draw(found)
    for _ in range(3):
        width, height = (int(side * random.uniform(0.25, 0.5)) for side in image.size)
        left = int(random.integers(0, image.width - width + 1))
        top = int(random.integers(0, image.height - height + 1))
        colour = tuple(int(value) for value in random.integers(0, 256, 3))
        draw.rectangle((left, top, left + width, top + height), fill=colour)
    return found


def rotate(degrees: float) -> Edit:
    """Turned to either side, on black, in a frame of the same size."""

    def edit(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
        side = 1 if random.random() < 0.5 else -1
        return image.rotate(side * degrees, Image.Resampling.BILINEAR)

    return edit


def blur(radius: float) -> Edit:
    """A Gaussian of that deviation in pixels, of a photograph whose shorter side is 375."""

    def edit(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius * min(image.size) / 375))

    return edit


def recolour(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
    """Red and blue exchanged, and half as bright."""
    red, green, blue = image.split()
    return Image.merge("RGB", (blue, green, red)).point(lambda value: value // 2)


def thumbnail(side: int) -> Edit:
    """Squashed to so many pixels each way."""

    def edit(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
        return image.resize((side, side), Image.Resampling.BILINEAR)

    return edit


def collage(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
    """Beside another photograph of the same height, left or right."""
    other = other.resize(image.size, Image.Resampling.BILINEAR)
    first, second = (image, other) if random.random() < 0.5 else (other, image)
    both = Image.new("RGB", (2 * image.width, image.height))
    both.paste(first, (0, 0))
    both.paste(second, (image.width, 0))
    return both


def in_turn(*edits: Edit) -> Edit:
    """One after the other."""

    def edit(image: Image.Image, random: np.random.Generator, other: Image.Image) -> Image.Image:
        for each in edits:
            image = each(image, random, other)
        return image

    return edit


HARD: dict[str, Edit] = {
    "crop 30 %": crop(0.3),
    "crop 15 %": crop(0.15),
    "crop 30 %, mirror, JPEG 10": in_turn(crop(0.3), mirror, jpeg(10)),
    "overlays": overlays,
    "rotation 25°": rotate(25),
    "blur 5": blur(5),
    "red-blue, dark": recolour,
    "thumbnail 48": thumbnail(48),
    "half a collage": collage,
    "overlays, rotation": in_turn(overlays, rotate(25)),
    "crop 30 %, red-blue, dark": in_turn(crop(0.3), recolour),
    "collage, JPEG 10": in_turn(collage, jpeg(10)),
    "blur 5, mirror": in_turn(blur(5), mirror),
    "thumbnail 48, rotation": in_turn(rotate(25), thumbnail(48)),
}
"""By name. Mild edits (scale, JPEG 20, a crop to 70 %) are left out: every method finds them all."""

COLLAGES = frozenset({"half a collage", "collage, JPEG 10"})
"""Those that hold a part of the other photograph."""

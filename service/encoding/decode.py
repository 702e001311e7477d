"""From the bytes of an image file to the pixels that the model takes, fast where that is safe.

`contracts.pixels` is the reference and decides what is an image. JPEG files of the common kinds take
a shorter way: libjpeg-turbo scales while it decodes, so a photograph of 12 megapixels is never held
in full. Whatever is unusual about a JPEG (CMYK, a damaged header, a warning while decoding) sends it
the reference way, which then accepts or refuses it. The two ways differ by a few grey levels;
tests/service/encoding/test_decode.py holds the bounds.
"""

import io
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import ceil

import numpy as np
import simplejpeg
from PIL import Image

from contracts.manifest import Preprocessing
from contracts.pixels import (
    UPRIGHT,
    ImageLimits,
    Pixels,
    check_pixels,
    check_size,
    check_structure,
    open_checked,
    orientation_of,
    resize,
    to_rgb,
)
from service.encoding.resize import Resizer

_JPEG_START = b"\xff\xd8\xff"
_FAST_COLOURSPACES = ("YCbCr", "Gray")

OVERSAMPLING = 2.0
"""A scaled decode keeps at least this many times the pixels that the resize needs, each way.

At 1 the decoder's own low-pass filter would stand in for the resize's and sharpen the picture; at 2
the mean difference to the reference falls from 2.8 to 0.06 grey levels (500x375 to 224x224) and
decoding takes a tenth longer.
"""

_LARGE_PIXELS = 10_000_000
"""An image of more pixels that is decoded in full is large: a second of work, a gigabyte of memory."""

_LARGE_SCALED_PIXELS = 50_000_000
"""The same for a JPEG that is scaled while it is decoded, at about a fifth of the work per pixel."""

_SIDEWAYS = (5, 6, 7, 8)
"""Orientations that swap width and height."""


class LargeImage(Exception):
    """The image is too large to be decoded among small ones."""


class PixelBudget:
    """Holds back decoding while too many pixels are being decoded at once.

    One image of any size may always be decoded; several only if together they fit the budget.
    """

    def __init__(self, max_pixels: int) -> None:
        self._max_pixels = max_pixels
        self._in_use = 0
        self._freed = threading.Condition()

    @contextmanager
    def hold(self, num_pixels: int) -> Iterator[None]:
        """Wait for room for `num_pixels`, and give it back at the end."""
        with self._freed:
            self._freed.wait_for(lambda: self._in_use == 0 or self._in_use + num_pixels <= self._max_pixels)
            self._in_use += num_pixels
        try:
            yield
        finally:
            with self._freed:
                self._in_use -= num_pixels
                self._freed.notify_all()


class Decoder:
    """Decodes image files for one model. Safe to call from many threads."""

    def __init__(
        self, preprocessing: Preprocessing, limits: ImageLimits, oversampling: float = OVERSAMPLING
    ) -> None:
        self._oversampling = oversampling
        self._preprocessing = preprocessing
        self._limits = limits
        self._resize = Resizer(preprocessing)
        self._budget = PixelBudget(limits.max_pixels)

    def decode(self, data: bytes, *, may_be_large: bool = True) -> Pixels:
        """uint8 [height, width, 3] at the model's size.

        Raises InvalidImage and TooLarge; and LargeImage, having read the header alone, unless
        `may_be_large`. One caller at a time may decode large images: they are not held back.
        """
        check_size(len(data), self._limits)
        num_allocated = check_structure(data, self._limits)
        pixels = self._decode_jpeg(data, may_be_large) if data.startswith(_JPEG_START) else None
        if pixels is not None:
            return pixels
        image = open_checked(data, self._limits)
        with self._hold(max(num_allocated, image.width * image.height), _LARGE_PIXELS, may_be_large):
            return resize(to_rgb(image), self._preprocessing)

    def _hold(self, num_pixels: int, large: int, may_be_large: bool) -> AbstractContextManager[None]:
        """A share of the budget; none for an image of more than `large` pixels. Raises LargeImage."""
        if num_pixels <= large:
            return self._budget.hold(num_pixels)
        if not may_be_large:
            raise LargeImage
        return nullcontext()

    def _decode_jpeg(self, data: bytes, may_be_large: bool) -> Pixels | None:
        """The fast way, or None for a file that the reference has to judge. Raises as `decode`."""
        try:
            height, width, colourspace, _ = simplejpeg.decode_jpeg_header(data)
        except ValueError:
            return None
        check_pixels(width, height, self._limits)
        orientation = _orientation(data)
        if colourspace not in _FAST_COLOURSPACES or orientation is None:
            return None
        min_width, min_height = self._least_size(width, height, orientation)
        with self._hold(width * height, _LARGE_SCALED_PIXELS, may_be_large):
            try:
                decoded = simplejpeg.decode_jpeg(
                    data, "RGB", min_width=min_width, min_height=min_height, min_factor=1, strict=True
                )
            except ValueError:
                return None
        if orientation in UPRIGHT:
            decoded = np.asarray(Image.fromarray(decoded).transpose(UPRIGHT[orientation]))
        return self._resize(decoded)

    def _least_size(self, width: int, height: int, orientation: int) -> tuple[int, int]:
        """Width and height, as stored, that a scaled decode has to keep."""
        to_width, to_height = self._preprocessing.width, self._preprocessing.height
        if orientation in _SIDEWAYS:
            to_width, to_height = to_height, to_width
        scale_x, scale_y = to_width / width, to_height / height
        if self._preprocessing.resize == "crop":
            scale_x = scale_y = max(scale_x, scale_y)
        return (
            min(width, ceil(self._oversampling * width * scale_x)),
            min(height, ceil(self._oversampling * height * scale_y)),
        )


def _orientation(data: bytes) -> int | None:
    """EXIF orientation of a JPEG file, 1 where it says nothing, None if Pillow cannot open the file."""
    if b"Exif\0\0" not in data and b"tiff:Orientation" not in data:
        return 1
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return orientation_of(image)
    except Exception:  # noqa: BLE001 - Pillow's parsers raise of every kind; the reference words the error.
        return None

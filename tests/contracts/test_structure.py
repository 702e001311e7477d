import struct
import time

import pytest

from contracts.errors import InvalidImage, TooLarge
from contracts.manifest import Preprocessing
from contracts.pixels import ImageLimits, check_structure, load_pixels, open_image
from contracts.structure import inspect_structure
from tests import image_files
from tests.costly_images import COSTLY, NEARLY, SLOW_BMP, gif_with, tiff_in_strips
from tests.image_files import encode, gif_frame, jpeg, photo, png, tiff, webp_canvas

SQUARE = Preprocessing(height=32, width=32)
FAR = 60_000
"""Pixels that no file here has, but in what it lies about."""


@pytest.mark.parametrize("kind", COSTLY)
def test_a_file_that_is_made_to_cost_is_refused_with_a_remedy(kind):
    with pytest.raises(InvalidImage, match=r"has more than \d+ .*: save it"):
        open_image(COSTLY[kind], ImageLimits())


@pytest.mark.parametrize("kind", SLOW_BMP)
def test_what_is_decoded_slowly_has_limits_of_its_own(kind):
    with pytest.raises(TooLarge, match=r"run-length encoded BMP of .*: save it as PNG"):
        open_image(SLOW_BMP[kind], ImageLimits())


@pytest.mark.parametrize("kind", NEARLY)
def test_a_file_just_within_the_limits_is_read(kind):
    start = time.process_time()
    assert load_pixels(NEARLY[kind], SQUARE).shape == (32, 32, 3)
    assert time.process_time() - start < 3


@pytest.mark.parametrize("kind", image_files.GOOD)
def test_nothing_is_wrong_with_the_structure_of_good_files(kind):
    check_structure(image_files.GOOD[kind], ImageLimits())


@pytest.mark.parametrize("kind", image_files.GOOD)
def test_a_file_may_break_off_anywhere(kind):
    data = image_files.GOOD[kind]
    for stop in range(0, len(data), 1 + len(data) // 500):
        check_structure(data[:stop], ImageLimits())


def test_bytes_of_other_kinds_have_no_structure():
    for data in (b"", b"text", b"\xff", bytes(100)):
        assert inspect_structure(data) is None
    assert inspect_structure(png()) is None
    assert inspect_structure(jpeg()) is None


def test_the_extent_of_a_gif_frame_is_found():
    assert inspect_structure(gif_frame(FAR, 3)) == (FAR, 3)
    shifted = gif_frame(5, 3).replace(b"," + bytes(4), b"," + struct.pack("<HH", 10, FAR))
    assert inspect_structure(shifted) == (15, FAR + 3)


@pytest.mark.parametrize(
    "blocks",
    [
        b"!\xfe\0",
        b"!\xfe\1,\0",
        b"!\1\0\1,\0",  # Pillow takes the empty sub-block for the first, and reads a list of them.
        b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
        b"!\xff\x0bNETSCAPE2.0\0\1,\0",
        b"xyz",
    ],
)
def test_a_gif_frame_is_found_where_pillow_finds_it(blocks):
    data = bytearray(gif_with(blocks))
    frame = data.rindex(b",\0\0\0\0" + struct.pack("<HH", 48, 40))
    data[frame + 5 : frame + 9] = struct.pack("<HH", 60, 50)
    assert inspect_structure(bytes(data)) == (60, 50)
    assert open_image(bytes(data), ImageLimits()).size == (60, 50)


def test_the_canvas_of_a_webp_is_found():
    assert inspect_structure(webp_canvas(FAR, 7)) == (FAR, 7)
    assert inspect_structure(encode(photo(48, 40), "WEBP")) is None


def test_the_tiles_of_a_tiff_are_found():
    tiled = tiff(1, 1, 8, b"x", {322: [FAR], 323: [32], 324: [8]})
    assert inspect_structure(tiled) == (FAR, 32)
    assert inspect_structure(tiff_in_strips(5)) is None


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [3, 4, 8, 9, 13, 16])
def test_the_tiles_of_a_tiff_are_found_whatever_their_type(order, kind):
    code = {3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q"}[kind]
    value = struct.pack(order + code, 30_000)
    where = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(order + "I", 38)
    data = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, 2)
    for tag in (322, 323):
        data += struct.pack(order + "HHI", tag, kind, 1) + where
    assert inspect_structure(data + bytes(4) + value) == (30_000, 30_000)


def test_the_tiles_of_a_big_tiff_are_found():
    data = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, 2)
    for tag in (322, 323):
        data += struct.pack("<HHQQ", tag, 16, 1, FAR)
    assert inspect_structure(data) == (FAR, FAR)


def test_a_tag_of_a_tiff_that_is_there_twice_counts_at_its_largest():
    data = tiff(1, 1, 8, b"x", {322: [16], 323: [16], 324: [8], 65_000: [FAR]})
    doubled = data.replace(struct.pack("<HH", 65_000, 4), struct.pack("<HH", 322, 4))
    assert inspect_structure(doubled) == (FAR, 16)


def test_a_tag_of_a_tiff_that_points_nowhere_hides_no_other():
    data = tiff(1, 1, 8, b"x", {322: [FAR], 323: [FAR], 324: [8]})
    entry = struct.pack("<HHII", 256, 4, 1, 1)
    assert inspect_structure(data.replace(entry, struct.pack("<HHII", 322, 4, 9, 2**31))) == (FAR, FAR)

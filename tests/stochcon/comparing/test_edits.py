import io

import numpy as np
import pytest
from PIL import Image

from contracts.errors import InvalidImage
from contracts.pixels import ImageLimits
from stochcon.comparing.edits import EDITS, SIDE, edited
from tests.image_files import encode, jpeg, photo

LIMITS = ImageLimits()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def edit(name: str, image: Image.Image, seed: int = 0) -> Image.Image:
    return EDITS[name](image, np.random.default_rng(seed))


def test_edits_of_one_seed_are_the_same_again_and_of_another_others():
    assert edited(jpeg(), LIMITS, [0, 1]) == edited(jpeg(), LIMITS, [0, 1])
    assert edited(jpeg(), LIMITS, [0, 1]) != edited(jpeg(), LIMITS, [0, 2])


def test_every_edit_gives_a_jpeg_that_differs_from_the_picture_and_from_the_others():
    files = edited(jpeg(), LIMITS, [0, 0])
    assert len(set(files)) == len(EDITS)
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
        assert data != jpeg()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("half size, JPEG 20", (80, 60)),
        ("mirror", (160, 120)),
        ("blur", (160, 120)),
        ("crop 50 %", (113, 85)),
        ("overlay", (160, 120)),
        ("crop 25 %, mirror, JPEG 20", (80, 60)),
    ],
)
def test_sizes_are_what_the_names_say(name, size):
    assert edit(name, photo()).size == size


def test_a_mirror_exchanges_left_and_right():
    assert (np.asarray(edit("mirror", photo())) == np.asarray(photo())[:, ::-1]).all()


def test_a_crop_is_a_part_of_the_picture():
    whole, part = np.asarray(photo()), np.asarray(edit("crop 50 %", photo(), seed=5))
    height, width = part.shape[:2]
    places = [
        (top, left)
        for top in range(whole.shape[0] - height + 1)
        for left in range(whole.shape[1] - width + 1)
        if (whole[top : top + height, left : left + width] == part).all()
    ]
    assert len(places) == 1


def test_an_overlay_covers_a_quarter_with_one_colour_and_leaves_the_rest():
    before, after = np.asarray(photo()), np.asarray(edit("overlay", photo(), seed=2))
    changed = (before != after).any(axis=2)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert (len(rows), len(columns)) == (60, 80)
    box = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert (box == box[0, 0]).all()


def test_a_blur_takes_detail_away():
    def detail(image: Image.Image) -> float:
        return float(np.abs(np.diff(np.asarray(image, dtype=float), axis=1)).mean())

    assert detail(edit("blur", photo())) < 0.7 * detail(photo())


def test_large_pictures_are_made_smaller_first():
    files = edited(jpeg(width=3000, height=1000), LIMITS, [0, 0])
    assert opened(files[list(EDITS).index("mirror")]).size == (SIDE, 341)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 3)])
def test_the_smallest_pictures_can_be_edited(size):
    assert len(edited(encode(Image.new("RGB", size)), LIMITS, [0, 0])) == len(EDITS)


def test_pictures_are_upright_before_they_are_edited():
    exif = Image.Exif()
    exif[0x0112] = 6
    files = edited(encode(photo(160, 120), "JPEG", exif=exif), LIMITS, [0, 0])
    assert opened(files[list(EDITS).index("mirror")]).size == (120, 160)


def test_what_is_no_image_is_refused():
    with pytest.raises(InvalidImage):
        edited(b"no image", LIMITS, [0, 0])

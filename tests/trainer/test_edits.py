import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from tests.trainer.test_views import from_pillow, to_pillow
from trainer import edits
from trainer.randomness import keys

SIDE = 64


@pytest.fixture
def photos() -> torch.Tensor:
    """Four smooth pictures with a bright bar, [4, 3, 64, 64], in bytes' values."""
    coarse = np.random.default_rng(0).integers(40, 200, (4, 8, 8, 3), dtype=np.uint8)
    scaled = [Image.fromarray(c).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for c in coarse]
    images = torch.stack([from_pillow(image) for image in scaled])
    images[:, :, 20:28, :] = 1.0
    return images


def test_compression_is_that_of_a_jpeg_file(photos: torch.Tensor) -> None:
    for quality in (10, 25, 39):
        u = torch.full((4, 1), (quality - 8) / (40 - 8))
        ours = edits.compress(photos, u)
        for image, found in zip(photos, ours, strict=True):
            file = io.BytesIO()
            to_pillow(image).save(file, "JPEG", quality=quality, subsampling=0)
            with Image.open(file) as opened:
                theirs = from_pillow(opened.convert("RGB"))
            # A file rounds colours to bytes, which decides a few coefficients otherwise.
            assert (found - theirs).abs().mean() < 0.3 * (image - theirs).abs().mean()


def test_a_shrunken_picture_is_one_that_pillow_made_small_and_large_again(photos: torch.Tensor) -> None:
    for choice, small in enumerate((28, 40, 56)):
        u = torch.full((4, 1), (choice + 0.5) / 4)
        ours = edits.shrink(photos, u)
        for image, found in zip(photos, ours, strict=True):
            there = to_pillow(image).resize((small, small), Image.Resampling.BILINEAR)
            theirs = from_pillow(there.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            torch.testing.assert_close(found, theirs, atol=2.1 / 255, rtol=0)


@pytest.mark.parametrize("u", [0.0, 0.3, 1.0])
def test_a_tilted_picture_is_one_that_pillow_turned(photos: torch.Tensor, u: float) -> None:
    ours = edits.tilt(photos, torch.full((4, 1), u))
    degrees = -(2 * u - 1) * 35
    inner = slice(2, -2)  # Pillow has no half pixels at the border
    for image, found in zip(photos, ours, strict=True):
        theirs = from_pillow(to_pillow(image).rotate(-degrees, Image.Resampling.BILINEAR))
        assert (found - theirs)[:, inner, inner].abs().mean() < 0.01
    assert math.isclose(float(ours[0, :, 0, 0].sum()), 0.0) or u == 0.5


def test_boxes_cover_what_they_should(photos: torch.Tensor) -> None:
    # Width and height 0.15 + 0.35 u, left and top in the room that is left, then a colour.
    one = [1.0, 0.0, 0.0, 1.0, 0.1, 0.2, 0.3]
    covered = edits.cover(photos, torch.tensor([one * 3] * 4))
    box = (covered - torch.tensor([0.1, 0.2, 0.3])[:, None, None]).abs().amax(1) < 1e-6
    expected = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    expected[math.ceil(0.85 * SIDE - 0.5) :, : SIDE // 2] = True
    assert torch.equal(box[0], expected)
    assert torch.equal(covered[:, :, ~expected], photos[:, :, ~expected])


def test_a_collage_has_the_picture_in_one_half_and_its_negative_in_the_other(photos: torch.Tensor) -> None:
    left, right = edits.beside_another(photos, torch.tensor([[0.2]] * 4)).chunk(2, dim=3)
    half = (photos[..., ::2] + photos[..., 1::2]) / 2
    torch.testing.assert_close(left, half)
    torch.testing.assert_close(right, 1 - half.flip(1, 2))
    other, picture = edits.beside_another(photos, torch.tensor([[0.7]] * 4)).chunk(2, dim=3)
    assert torch.equal(picture, left)
    assert torch.equal(other, right)


def test_colours_are_exchanged_and_darkened(photos: torch.Tensor) -> None:
    red, green, blue = edits.recolour(photos, torch.tensor([[0.0]] * 4)).unbind(1)
    torch.testing.assert_close(torch.stack([blue, green, red], 1), photos * 0.3)


def test_an_image_is_edited_alike_whatever_is_beside_it(photos: torch.Tensor) -> None:
    key = keys(0, 3, torch.arange(4), 1)
    together = edits.edit(photos.clone(), key, 0.5)
    alone = torch.cat([edits.edit(photos[i : i + 1].clone(), key[i : i + 1], 0.5) for i in range(4)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_each_edit_is_made_as_often_as_asked_and_none_leaves_the_range(photos: torch.Tensor) -> None:
    many = photos[:1].repeat(600, 1, 1, 1)
    key = keys(0, 0, torch.arange(600), 0)
    assert torch.equal(edits.edit(many.clone(), key, 0.0), many)
    edited = edits.edit(many.clone(), key, 0.3)
    assert edited.min() >= 0
    assert edited.max() <= 1 + 1e-6  # sums of weights in float32
    unchanged = (edited == many).flatten(1).all(1).float().mean()
    assert abs(unchanged - 0.7**6) < 0.05

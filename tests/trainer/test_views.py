import colorsys
import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from trainer.randomness import keys, uniform
from trainer.recipe import View
from trainer.resampling import blur_matrix, resample_matrix
from trainer.views import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    as_floats,
    crop_boxes,
    grey,
    make_view,
)

PLAIN = View(size=8, scale=(1.0, 1.0), flip=0, jitter=0, grey=0)


def some_images(count: int = 3, side: int = 16) -> torch.Tensor:
    """Bytes as floats, so that Pillow sees the same values."""
    values = np.random.default_rng(0).integers(0, 256, (count, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(values).float() / 255


def to_pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def from_pillow(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def view_keys(count: int, step: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return keys(0, step, torch.arange(count), 0), keys(0, step, torch.tensor([-1]), 0)


@pytest.mark.parametrize("box", [(0, 0, 16, 16), (3.25, 1.5, 14.75, 9.1), (6.1, 6.2, 9.3, 8.9)])
@pytest.mark.parametrize("size", [5, 24])
def test_crops_are_pillows_antialiased_resize(box: tuple[float, ...], size: int) -> None:
    image = some_images(1)[0]
    left, top, right, bottom = box
    rows = resample_matrix(torch.tensor([top]), torch.tensor([bottom - top]), 16, size)[0]
    columns = resample_matrix(torch.tensor([left]), torch.tensor([right - left]), 16, size)[0]
    expected = from_pillow(to_pillow(image).resize((size, size), Image.Resampling.BILINEAR, box=box))
    torch.testing.assert_close(rows @ image @ columns.T, expected, atol=1.1 / 255, rtol=0)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (adjust_brightness, ImageEnhance.Brightness),
        (adjust_contrast, ImageEnhance.Contrast),
        (adjust_saturation, ImageEnhance.Color),
    ],
)
def test_colour_operations_are_torchvisions(ours, theirs, factor: float) -> None:
    # torchvision's transforms of PIL images are these classes of Pillow.
    for image in some_images():
        result = ours(image[None], torch.full((1, 1, 1, 1), factor))[0]
        expected = from_pillow(theirs(to_pillow(image)).enhance(factor))
        torch.testing.assert_close(result, expected, atol=2.1 / 255, rtol=0)


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.0, 0.07, 0.5])
def test_hue_turns_as_in_colorsys(shift: float) -> None:
    image = some_images(1, 6)
    image[0, :, 0, 0] = 0.5  # grey, whose hue is undefined
    result = adjust_hue(image, torch.tensor([shift]))[0]
    for y in range(6):
        for x in range(6):
            h, s, v = colorsys.rgb_to_hsv(*image[0, :, y, x].tolist())
            expected = torch.tensor(colorsys.hsv_to_rgb((h + shift) % 1, s, v))
            torch.testing.assert_close(result[:, y, x], expected, atol=1e-5, rtol=0)


def test_grey_is_pillows_luma() -> None:
    image = some_images(1)
    expected = from_pillow(to_pillow(image[0]).convert("L").convert("RGB"))
    torch.testing.assert_close(grey(image)[0], expected, atol=1.1 / 255, rtol=0)


def test_blur_is_a_normalised_gaussian_and_sigma_zero_is_the_identity() -> None:
    matrix = blur_matrix(torch.tensor([0.0, 1.5]), 9)
    assert torch.equal(matrix[0], torch.eye(9))
    row = [math.exp(-((j - 4) ** 2) / (2 * 1.5**2)) for j in range(9)]
    torch.testing.assert_close(matrix[1, 4], torch.tensor(row) / sum(row))


def test_a_view_does_not_depend_on_the_batch_around_it() -> None:
    images, aspects = some_images(6), torch.ones(6)
    key, order = view_keys(6)
    view = View(size=8, blur=0.5, solarize=0.5)
    whole = make_view(images, aspects, key, order, view)
    for i in range(6):
        alone = make_view(images[i : i + 1], aspects[:1], key[i : i + 1], order, view)
        torch.testing.assert_close(alone[0], whole[i], atol=1e-6, rtol=0)


def test_views_differ_between_steps_and_samples() -> None:
    images = some_images(1).expand(4, 3, 16, 16)
    first = make_view(images, torch.ones(4), *view_keys(4), View(8))
    second = make_view(images, torch.ones(4), *view_keys(4, step=1), View(8))
    assert not torch.allclose(first, second)
    assert not torch.allclose(first[0], first[1])


def test_a_mirrored_view_is_the_same_crop_read_backwards() -> None:
    images, aspects = some_images(20), torch.ones(20)
    key, order = view_keys(20)
    straight = make_view(images, aspects, key, order, View(size=6, flip=0))
    mirrored = make_view(images, aspects, key, order, View(size=6, flip=1))
    torch.testing.assert_close(mirrored.flip(3), straight, atol=1e-5, rtol=0)


def test_a_batch_too_large_for_the_cache_gives_the_views_of_its_parts() -> None:
    count = 40
    view = View(size=128, blur=0.5, solarize=0.5)
    images, aspects = some_images(count), torch.linspace(0.5, 2, count)
    key, order = view_keys(count)
    whole = make_view(images, aspects, key, order, view)
    for i in range(0, count, 3):
        alone = make_view(images[i : i + 1], aspects[i : i + 1], key[i : i + 1], order, view)
        torch.testing.assert_close(alone[0], whole[i], atol=1e-6, rtol=0)


def test_bytes_become_floats_and_views_lie_channels_last() -> None:
    values = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    images = as_floats(torch.from_numpy(values))
    np.testing.assert_array_equal(images.numpy(), values.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    key, order = view_keys(5)
    made = make_view(images, torch.ones(5), key, order, View(size=8))
    assert made.is_contiguous(memory_format=torch.channels_last)
    other = make_view(images.contiguous(), torch.ones(5), key, order, View(size=8))
    torch.testing.assert_close(made, other, atol=1e-6, rtol=0)


def test_nothing_is_changed_where_every_probability_is_zero() -> None:
    images = some_images(2, 8)
    view = make_view(images, torch.ones(2), *view_keys(2), PLAIN)
    # The aspect ratio is still drawn, so only the values' range and the mean are kept roughly.
    assert view.shape == (2, 3, 8, 8)
    assert (view.mean(dim=(2, 3)) - images.mean(dim=(2, 3))).abs().max() < 0.1


def test_flip_grey_and_solarize_happen_as_often_as_they_should() -> None:
    count = 2000
    ramp = torch.linspace(0, 1, 16).expand(count, 3, 16, 16).clone()
    ramp[:, 0] *= 0.5
    key, order = view_keys(count)
    settings = {"size": 8, "scale": (1.0, 1.0), "jitter": 0.0}
    mirrored = make_view(ramp, torch.ones(count), key, order, View(**settings, flip=0.5, grey=0))
    share = (mirrored[:, 1, :, 0] > mirrored[:, 1, :, -1]).all(dim=1).float().mean().item()
    assert share == pytest.approx(0.5, abs=0.05)
    greyed = make_view(ramp, torch.ones(count), key, order, View(**settings, flip=0, grey=0.2))
    share = (greyed[:, 0] == greyed[:, 1]).all(dim=(1, 2)).float().mean().item()
    assert share == pytest.approx(0.2, abs=0.04)
    solarized = make_view(ramp, torch.ones(count), key, order, View(**settings, flip=0, grey=0, solarize=0.2))
    share = (solarized[:, 1, 0, -1] < 0.5).float().mean().item()
    assert share == pytest.approx(0.2, abs=0.04)
    jitter = {"jitter": 0.3, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.1}
    jittered = make_view(ramp, torch.ones(count), key, order, View(**settings | jitter, flip=0, grey=0))
    plain = make_view(ramp, torch.ones(count), key, order, View(**settings, flip=0, grey=0))
    share = ((jittered - plain).abs().amax(dim=(1, 2, 3)) > 1e-4).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize("strength", ["brightness", "contrast", "saturation", "hue"])
def test_each_colour_operation_acts_on_the_view_with_its_own_strength(strength: str) -> None:
    strengths = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0} | {strength: 0.3}
    view = View(size=8, scale=(1.0, 1.0), flip=0, jitter=1, grey=0, **strengths)
    images, (key, order) = some_images(20), view_keys(20)
    plain = make_view(images, torch.ones(20), key, order, PLAIN)
    result = make_view(images, torch.ones(20), key, order, view)
    u = uniform(key, 16)[:, 6 + list(strengths).index(strength)]
    if strength == "hue":
        expected = adjust_hue(plain, 0.3 * (2 * u - 1))
    else:
        operation = {
            "brightness": adjust_brightness,
            "contrast": adjust_contrast,
            "saturation": adjust_saturation,
        }[strength]
        expected = operation(plain, 0.7 + 0.6 * u[:, None, None, None])
    torch.testing.assert_close(result, expected)
    assert not torch.allclose(result, plain, atol=0.01)


def test_blur_acts_on_the_view_as_often_as_it_should() -> None:
    count = 1000
    key, order = view_keys(count)
    images = some_images(1).expand(count, 3, 16, 16)
    plain = make_view(images, torch.ones(count), key, order, PLAIN)
    view = dataclasses.replace(PLAIN, blur=0.4, blur_sigma=(1.0, 1.0))
    blurred = make_view(images, torch.ones(count), key, order, view)
    changed = (blurred - plain).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert changed.float().mean().item() == pytest.approx(0.4, abs=0.05)
    gaussian = blur_matrix(torch.tensor([1.0]), 8)[0]
    torch.testing.assert_close(blurred[changed], gaussian @ plain[changed] @ gaussian.T, atol=1e-5, rtol=0)


def test_crops_have_the_area_and_the_aspect_ratio_asked_for() -> None:
    u = torch.rand(4, 20_000, generator=torch.Generator().manual_seed(0))
    aspects = torch.full((20_000,), 1.5)
    left, top, width, height = crop_boxes((0.05, 0.4), aspects, *u)
    area = width * height
    assert area.min() >= 0.05 * 0.99
    assert area.max() <= 0.4 * 1.01
    assert area.mean().item() == pytest.approx(0.225, abs=0.005)
    ratio = width * 1.5 / height
    assert ratio.min() >= 0.749
    assert ratio.max() <= 1.334
    assert (left >= 0).all()
    assert (left + width <= 1.0001).all()
    assert (top >= 0).all()
    assert (top + height <= 1.0001).all()

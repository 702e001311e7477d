import numpy as np
import torch

from trainer.augmentation import crop_and_flip, latent_noise
from trainer.dataset import Batch

CPU = torch.device("cpu")


def batch_of(images: np.ndarray, samples: range) -> Batch:
    return Batch(torch.tensor(samples), torch.from_numpy(images), torch.ones(len(samples)))


def test_crops_are_random_flips_are_half_and_colours_stay() -> None:
    """Red grows from left to right, so a view tells what it spans; green and blue are the same all over."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = np.arange(32) * 8
    image[..., 1:] = (60, 200)
    views = crop_and_flip(batch_of(np.stack([image] * 2000), range(2000)), 16, 3, 0, CPU)
    assert views.shape == (2000, 3, 16, 16)
    torch.testing.assert_close(views[:, 1], torch.full((2000, 16, 16), 60 / 255))
    torch.testing.assert_close(views[:, 2], torch.full((2000, 16, 16), 200 / 255))
    rise = (views[:, 0, :, -1] - views[:, 0, :, 0]).mean(1) * 255 / 8 * 16 / 15  # pixels that a view spans
    assert abs(float((rise < 0).float().mean()) - 0.5) < 0.05
    spans = rise.abs() / 32
    # The width of 8 to 100 % of the area at 3/4 to 4/3: from 0.245 to the whole.
    assert 0.24 < spans.min() < 0.3
    assert 0.9 < spans.max() <= 1.001


def test_views_and_noise_depend_on_seed_step_and_sample_and_not_on_the_company() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    whole = crop_and_flip(batch_of(images, range(6)), 16, 1, 4, CPU)
    part = crop_and_flip(batch_of(images[2:4], range(2, 4)), 16, 1, 4, CPU)
    torch.testing.assert_close(whole[2:4], part)
    for seed, step in ((2, 4), (1, 5)):
        assert not torch.allclose(whole, crop_and_flip(batch_of(images, range(6)), 16, seed, step, CPU))
    samples = torch.arange(6)
    noise = latent_noise(samples, 64, 1, 4, 0, CPU)
    assert torch.equal(noise[2:4], latent_noise(samples[2:4], 64, 1, 4, 0, CPU))
    assert 0 < noise.min() < noise.max() < 1
    assert len(noise.unique(dim=0)) == 6
    for seed, step, view in ((2, 4, 0), (1, 5, 0), (1, 4, 1)):
        assert not torch.equal(noise, latent_noise(samples, 64, seed, step, view, CPU))

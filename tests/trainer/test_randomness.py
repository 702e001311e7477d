import numpy as np
import torch

from trainer.randomness import _GOLDEN, _mix, keys, uniform

MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """Sebastiano Vigna's reference, in Python's integers."""
    z = state & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_hash_is_splitmix64() -> None:
    # The first outputs of SplitMix64 seeded with 0, as published with the reference code.
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    states = torch.arange(1, 4) * _GOLDEN
    assert [int(value) & MASK for value in _mix(states)] == expected
    states = torch.randint(-(2**62), 2**62, (100,), generator=torch.Generator().manual_seed(0))
    expected = [splitmix64(int(state)) for state in states]
    assert [int(value) & MASK for value in _mix(states.clone())] == expected


def test_a_samples_numbers_do_not_depend_on_the_batch_around_it() -> None:
    samples = torch.arange(200) * 7 % 200
    whole = uniform(keys(3, 7, samples, 1), 5000)  # more than are hashed at once
    for row, sample in enumerate(samples):
        assert torch.equal(uniform(keys(3, 7, sample[None], 1), 5000)[0], whole[row])


def test_every_part_of_the_key_matters() -> None:
    samples = torch.tensor([5])
    base = uniform(keys(3, 7, samples, 1), 8)
    others = [
        uniform(keys(4, 7, samples, 1), 8),
        uniform(keys(3, 8, samples, 1), 8),
        uniform(keys(3, 7, samples + 1, 1), 8),
        uniform(keys(3, 7, samples, 2), 8),
        uniform(keys(3, 7, samples, 1), 8, stream=1),
    ]
    for other in others:
        assert not torch.isin(other, base).any()


def test_keys_leave_the_sample_numbers_alone() -> None:
    samples = torch.arange(4)
    keys(1, 2, samples, 3)
    assert torch.equal(samples, torch.arange(4))


def test_numbers_are_uniform_and_uncorrelated() -> None:
    numbers = uniform(keys(0, 0, torch.arange(1000), 0), 1000).double().numpy()
    assert numbers.min() > 0
    assert numbers.max() < 1
    counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
    expected = numbers.size / 100
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert 50 < chi_squared < 160  # 99 degrees of freedom
    for a, b in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.005

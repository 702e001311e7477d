import numpy as np
import pytest
import torch
from torch import nn

from tests.trainer.rank_jobs import Normalisation, normalise
from tests.trainer.two_ranks import TwoRanks
from trainer.batchnorm import SyncBatchNorm, synchronise
from trainer.model import StochCon
from trainer.ranks import OneProcess
from trainer.recipe import Recipe

FLOAT32 = {"rtol": 1e-4, "atol": 1e-5}
BFLOAT16 = {"rtol": 2e-2, "atol": 2e-2}


@pytest.mark.parametrize(
    ("case", "tolerance"),
    [
        (Normalisation((6, 6), (5, 4, 3)), FLOAT32),
        (Normalisation((7, 3), (8, 4, 4), channels_last=True), FLOAT32),
        (Normalisation((5, 0), (8, 4, 4), channels_last=True), FLOAT32),
        (Normalisation((0, 9), (6,)), FLOAT32),
        (Normalisation((1, 1), (6,)), FLOAT32),
        (Normalisation((6, 5), (8, 4, 4), channels_last=True, dtype=torch.bfloat16), BFLOAT16),
        (Normalisation((40, 2), (3, 2, 2), offset=3000.0), {"rtol": 1e-3, "atol": 3e-3}),
    ],
    ids=["even", "uneven", "empty-2d", "empty-1d", "one-each", "bf16", "far-from-0"],
)
def test_two_ranks_normalise_as_batchnorm_does_on_all_values(
    two_ranks: TwoRanks, case: Normalisation, tolerance: dict[str, float]
) -> None:
    norm = case.norm().double()  # in more digits than either
    x, grad = (part.double() for part in case.values())
    x.requires_grad_()
    expected = norm(x)
    expected.backward(grad)
    found = two_ranks.run(normalise, case)
    for key, whole in (("out", expected), ("x", x.grad)):
        together = np.concatenate([of_rank[key] for of_rank in found])
        np.testing.assert_allclose(together, whole.detach().numpy(), **tolerance, err_msg=key)
    for key, parameter in (("weight", norm.weight), ("bias", norm.bias)):
        summed = sum(of_rank[key] for of_rank in found)
        scale = parameter.grad.abs().max().item()
        np.testing.assert_allclose(summed / scale, parameter.grad.numpy() / scale, **tolerance, err_msg=key)
    for of_rank in found:
        for name, buffer in norm.named_buffers():
            np.testing.assert_allclose(of_rank["buffers"][name], buffer.numpy(), rtol=1e-4, err_msg=name)
    evaluated = norm.eval()(x.detach()[: case.shares[0]]).detach().numpy()
    np.testing.assert_allclose(found[0]["evaluated"], evaluated, **tolerance)


def test_the_ranks_follow_the_same_statistics_to_the_bit(two_ranks: TwoRanks) -> None:
    ours, theirs = two_ranks.run(normalise, Normalisation((7, 4), (8, 4, 4)))
    for name, buffer in ours["buffers"].items():
        assert np.array_equal(buffer, theirs["buffers"][name])


class _Pretended(OneProcess):
    """Enough of two ranks to have modules replaced."""

    size = 2


def test_a_checkpoint_does_not_tell_of_ranks(recipe: Recipe) -> None:
    torch.manual_seed(0)
    model = StochCon(recipe)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    parameters = list(model.parameters())
    synchronise(model, _Pretended())
    assert sum(isinstance(module, SyncBatchNorm) for module in model.modules()) > 10
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))


def test_one_process_keeps_the_native_kernel(recipe: Recipe) -> None:
    model = StochCon(recipe)
    synchronise(model, OneProcess())
    assert not any(isinstance(module, SyncBatchNorm) for module in model.modules())

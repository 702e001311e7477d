from pathlib import Path

import numpy as np
import pytest

from tests.trainer.labelled_images import write_labelled
from trainer.epochs import Epochs
from trainer.sources import Source, open_source

LEARNABLE = np.array([0, 1, 3, 4, 6, 8, 9])


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return open_source([write_labelled(tmp_path / "ten.parquet", [0] * 10)])


def test_an_epoch_takes_whole_batches_of_learnable_images_in_the_source_s_order(source: Source) -> None:
    epochs = Epochs(source, LEARNABLE, count=3, batch_size=3, seed=7)
    batches = list(epochs.batches())
    assert epochs.steps_per_epoch == 2
    assert epochs.num_steps == len(batches) == 6
    for epoch in range(3):
        order = [i for i in source.epoch_order(7, epoch).tolist() if i in LEARNABLE.tolist()]
        assert np.concatenate(batches[2 * epoch : 2 * epoch + 2]).tolist() == order[:6]
    assert batches[0].tolist() != batches[2].tolist()


@pytest.mark.parametrize("start", range(7))
def test_batches_go_on_from_any_step(source: Source, start: int) -> None:
    epochs = Epochs(source, LEARNABLE, count=3, batch_size=3, seed=7)
    whole, rest = list(epochs.batches()), list(epochs.batches(start))
    assert [batch.tolist() for batch in rest] == [batch.tolist() for batch in whole[start:]]


@pytest.mark.parametrize(
    ("count", "batch_size", "seed", "message"),
    [
        (0, 3, 0, "give --epochs of at least 1"),
        (1, 1, 0, "--batch-size of at least 2"),
        (
            1,
            8,
            0,
            "7 images to learn from and a batch takes 8: give more images, or --batch-size of at most 7",
        ),
        (1, 3, -1, "seed is -1: give --seed from 0"),
    ],
)
def test_settings_that_make_no_step_name_the_flag(
    source: Source, count: int, batch_size: int, seed: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Epochs(source, LEARNABLE, count, batch_size, seed)

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny_images import make_png, write_parquet
from trainer.dataset import Batch
from trainer.plan import Plan
from trainer.ranks import OneProcess
from trainer.recipe import Recipe, View
from trainer.sources import open_source


class _Rank(OneProcess):
    def __init__(self, rank: int, size: int) -> None:
        super().__init__()
        self.rank, self.size = rank, size


@pytest.fixture
def plan(recipe: Recipe, coloured: Path) -> Plan:
    """Two epochs of four steps of three chunks: 4, 4 and 3 images. The last 4 of 48 fill no batch."""
    return Plan.of(
        dataclasses.replace(recipe, batch_size=11, chunk_size=4, epochs=2), open_source([coloured])
    )


@pytest.fixture
def supervised(recipe: Recipe, tmp_path: Path) -> Plan:
    """Of 20 images, those with even numbers have no label."""
    labels = [i % 3 if i % 2 else -1 for i in range(20)]
    path = write_parquet(tmp_path / "some.parquet", [make_png(0, i) for i in range(20)], labels)
    recipe = dataclasses.replace(recipe, objective="supervised", global_views=(View(16),), batch_size=5)
    return Plan.of(recipe, open_source([path]))


def test_each_epoch_takes_every_image_at_most_once_in_an_order_of_its_own(plan: Plan) -> None:
    assert (plan.steps_per_epoch, plan.num_steps, plan.num_chunks) == (4, 8, 3)
    chunks = list(plan.orders(0, OneProcess()))
    assert [len(chunk) for chunk in chunks] == [4, 4, 3] * 8
    first, second = np.concatenate(chunks[:12]), np.concatenate(chunks[12:])
    assert len(set(first)) == len(set(second)) == 44
    assert first.tolist() != second.tolist()


def test_a_resumed_run_takes_the_images_that_an_unbroken_one_would(plan: Plan) -> None:
    whole = [chunk.tolist() for chunk in plan.orders(0, OneProcess())]
    for start in (1, 4, 6, 8):
        assert [chunk.tolist() for chunk in plan.orders(start, OneProcess())] == whole[3 * start :]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_ranks_share_every_chunk_among_them(plan: Plan, size: int) -> None:
    shares = [list(plan.orders(0, _Rank(rank, size))) for rank in range(size)]
    for whole, *parts in zip(plan.orders(0, OneProcess()), *shares, strict=True):
        assert np.concatenate(parts).tolist() == whole.tolist()
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_images_without_a_label_are_no_part_of_a_supervised_run(supervised: Plan) -> None:
    assert supervised.num_usable == 10
    assert supervised.steps_per_epoch == 2
    taken = np.concatenate(list(supervised.orders(0, OneProcess()))[:2])
    assert sorted(taken) == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]
    samples = torch.tensor([3, 7, 1])
    batch = Batch(samples, torch.empty(3, 16, 16, 3, dtype=torch.uint8), torch.ones(3))
    (targets,) = supervised.targets([batch])
    assert targets.tolist() == [0, 1, 1]
    assert supervised.classes == ["red", "green", "blue"]


def test_a_contrastive_run_looks_at_no_label(plan: Plan) -> None:
    assert plan.targets([]) is None
    assert plan.classes == []
    assert plan.num_usable == 48


def test_what_cannot_be_planned_names_what_to_give(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--batch-size of at most 48"):
        Plan.of(dataclasses.replace(recipe, batch_size=49), open_source([coloured]))
    unlabelled = write_parquet(tmp_path / "plain.parquet", [make_png(0, i) for i in range(20)])
    supervised = dataclasses.replace(recipe, objective="supervised", global_views=(View(16),))
    with pytest.raises(ValueError, match="the images have no labels: give labelled ones"):
        Plan.of(supervised, open_source([unlabelled]))

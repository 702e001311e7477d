from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

from tests.tiny_images import make_png, write_parquet
from tests.trainer.labelled_images import write_labelled, write_numbered
from trainer.sources import Source, open_source
from trainer.targets import Classification, Regression


def numbered(path: Path, values: list[float | None]) -> Source:
    images = [make_png(0, i) for i in range(len(values))]
    return open_source([write_numbered(path, images, {"age": pa.array(values, pa.float64())})])


def folder(path: Path, labels: list[str]) -> Source:
    for number, label in enumerate(labels):
        (path / label).mkdir(parents=True, exist_ok=True)
        (path / label / f"{number}.png").write_bytes(make_png(0, number))
    return open_source([path])


def test_classes_are_matched_by_name_and_images_without_one_left_out(tmp_path: Path) -> None:
    train = folder(tmp_path / "train", ["ant", "bee", "cat"])
    test = folder(tmp_path / "test", ["bee", "cat"])  # whose numbers are 0 and 1
    task = Classification(train, test)
    assert task.num_outputs == 3
    outputs = torch.eye(3)[[1, 2]]  # says bee, cat
    assert task.scores(outputs, torch.tensor([0, 1])) == {"top1": 1.0}
    assert task.scores(outputs, torch.tensor([1, 0])) == {"top1": 0.0}
    loss = task.loss(torch.eye(3), torch.tensor([2, 1, 0]))
    assert loss == pytest.approx(float(F.cross_entropy(torch.eye(3), torch.tensor([2, 1, 0]))))
    some = open_source([write_labelled(tmp_path / "some.parquet", [0, -1, 2, 1])])
    assert Classification(some, some).learnable.tolist() == [0, 2, 3]
    assert Classification(some, some).measurable.tolist() == [0, 2, 3]


def test_a_held_out_class_that_cannot_be_learnt_is_named(tmp_path: Path) -> None:
    train = folder(tmp_path / "train", ["ant", "bee"])
    test = folder(tmp_path / "test", ["ant", "wasp"])
    with pytest.raises(ValueError, match="--queries has images of the class wasp, and --images has no such"):
        Classification(train, test)
    Classification(test, folder(tmp_path / "fewer", ["wasp"]))


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    labelled = open_source([write_labelled(tmp_path / "labelled.parquet", [0, 1])])
    plain = open_source([write_parquet(tmp_path / "plain.parquet", [make_png(0, 0)] * 2)])
    for train, test in ((plain, labelled), (labelled, plain)):
        with pytest.raises(ValueError, match="the images have no labels"):
            Classification(train, test)


def test_regression_learns_standardised_numbers_and_is_measured_in_the_column_s_units(tmp_path: Path) -> None:
    train = numbered(tmp_path / "train.parquet", [10.0, None, 20.0, 60.0, float("nan"), float("inf")])
    test = numbered(tmp_path / "test.parquet", [20.0, 40.0, None, 90.0])
    task = Regression(train, test, "age")
    assert task.learnable.tolist() == [0, 2, 3]
    assert task.measurable.tolist() == [0, 1, 3]
    mean, std = 30.0, np.sqrt((400 + 100 + 900) / 3)
    outputs = torch.tensor([[0.5], [-1.0]])
    loss = ((0.5 - (60 - mean) / std) ** 2 + (-1.0 - (10 - mean) / std) ** 2) / 2
    assert float(task.loss(outputs, torch.tensor([3, 0]))) == pytest.approx(loss)
    assert task.baseline_mae == pytest.approx((10 + 10 + 60) / 3)
    guesses = np.array([25.0, 35.0, 80.0])
    outputs = torch.from_numpy((guesses - mean) / std)[:, None]
    scores = task.scores(outputs, torch.tensor([0, 1, 3]))
    assert list(scores) == ["r2", "mae"]
    assert scores["mae"] == pytest.approx((5 + 5 + 10) / 3)
    assert scores["r2"] == pytest.approx(1 - (25 + 25 + 100) / (900 + 100 + 1600))
    assert task.scores(torch.zeros(3, 1), torch.tensor([0, 1, 3]))["mae"] == pytest.approx(task.baseline_mae)


def test_a_column_of_text_is_refused_and_so_is_one_that_is_not_there(tmp_path: Path) -> None:
    images = [make_png(0, i) for i in range(3)]
    columns = {"name": pa.array(["a", "b", "c"]), "age": pa.array([1, 2, 3])}
    source = open_source([write_numbered(tmp_path / "people.parquet", images, columns)])
    with pytest.raises(ValueError, match=r"people\.parquet has name of type string: targets are numbers"):
        Regression(source, source, "name")
    with pytest.raises(ValueError, match=r"no column height.*it has .*age"):
        Regression(source, source, "height")
    assert Regression(source, source, "age").learnable.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([5.0, 5.0, None], [1.0, 2.0], "age is 5 for every image of --images"),
        ([1.0, 2.0], [7.0, None, 7.0], "age is 7 for every image of --queries"),
        ([None, None], [1.0, 2.0], "no image of --images has a number in age"),
        ([1.0, 2.0], [None], "no image of --queries has a number in age"),
    ],
)
def test_numbers_that_nothing_can_be_learnt_from_are_refused(
    tmp_path: Path, train: list[float | None], test: list[float | None], message: str
) -> None:
    sources = numbered(tmp_path / "train.parquet", train), numbered(tmp_path / "test.parquet", test)
    with pytest.raises(ValueError, match=message):
        Regression(*sources, "age")


def test_readable_images_that_all_have_one_number_tell_nothing(tmp_path: Path) -> None:
    source = numbered(tmp_path / "test.parquet", [20.0, 40.0, 20.0])
    task = Regression(source, source, "age")
    with pytest.raises(ValueError, match="that can be read all have one target"):
        task.scores(torch.zeros(2, 1), torch.tensor([0, 2]))

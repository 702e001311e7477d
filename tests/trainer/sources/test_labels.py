import numpy as np
import pytest

from trainer.sources.labels import LabelBuilder


def build(labels: list[int | str | None]) -> tuple[list[int], list[str] | None]:
    builder = LabelBuilder()
    for number, label in enumerate(labels):
        builder.add(label, f"sample {number}")
    numbers, classes = builder.finish()
    assert numbers.dtype == np.int32
    return numbers.tolist(), classes


def test_numbers_are_class_numbers_up_to_the_largest() -> None:
    assert build([2, None, 0, -5]) == ([2, -1, 0, -1], ["0", "1", "2"])


def test_names_are_numbered_in_their_order() -> None:
    assert build(["dog", "cat", None, "dog", "ant"]) == ([2, 1, -1, 2, 0], ["ant", "cat", "dog"])


def test_without_any_label_there_are_no_classes() -> None:
    assert build([None, -1, None]) == ([-1, -1, -1], None)


@pytest.mark.parametrize("labels", [[1, "dog"], ["dog", None, 1]])
def test_numbers_among_names_are_refused(labels: list[int | str | None]) -> None:
    with pytest.raises(ValueError, match=f"sample {len(labels) - 1} has the label .* of the other kind"):
        build(labels)


def test_an_identifier_is_no_class_number() -> None:
    with pytest.raises(
        ValueError, match="sample 1 has the label 1000000, and the largest class number is 999999"
    ):
        build([999_999, 1_000_000])

import functools
import math

import pytest

from contracts.errors import InvalidItem, InvalidQuery
from index.items import check_collection_name, is_id, to_metadata, to_row
from index.protocol import Item

CODE = bytes(8)


@pytest.mark.parametrize("item_id", ["a", "a" * 255, "é" * 127, "träume/日本.jpg", " ", "a b?#%", "\u00a0"])
def test_ids_of_1_to_255_bytes_are_kept_as_they_are(item_id: str) -> None:
    assert to_row(Item(item_id, CODE), 8)[0] == item_id
    assert is_id(item_id)


@pytest.mark.parametrize(
    "item_id", ["", "a" * 256, "é" * 128, "a\nb", "\x00", "\x7f", "\x85", "a\x00b", "\ud800", None, 7, b"a"]
)
def test_other_ids_are_refused(item_id: object) -> None:
    with pytest.raises(InvalidItem):
        to_row(Item(item_id, CODE), 8)
    assert not is_id(item_id)


@pytest.mark.parametrize("code", [bytes(7), bytes(9), b"", "12345678", None, bytearray(8)])
def test_codes_of_another_length_or_type_are_refused(code: object) -> None:
    with pytest.raises(InvalidItem):
        to_row(Item("a", code), 8)


METADATA = {
    "text": 'ä " \\ \n \x00 \u2028 😀',
    "int": -(2**63),
    "large": 2**63 - 1,
    "float": 0.1 + 0.2,
    "tiny": 5e-324,
    "yes": True,
    "nothing": None,
    "tags": ["a", "", "ä"],
    "none": [],
    "_Key9": 1.0,
    "k" * 64: 0,
}


def test_metadata_comes_back_as_it_went_in() -> None:
    found = to_metadata(to_row(Item("a", CODE, metadata=METADATA), 8)[3])
    assert found == METADATA
    assert [type(value) for value in found.values()] == [type(value) for value in METADATA.values()]
    assert list(found) == list(METADATA)


@pytest.mark.parametrize(
    "metadata",
    [
        {"nested": {"a": 1}},
        {"nested": functools.reduce(lambda inner, _: [inner], range(100_000), [])},
        {"list": [1]},
        {"list": ["a", None]},
        {"list": [["a"]]},
        {"nan": math.nan},
        {"infinite": -math.inf},
        {"huge": 2**63},
        {"huge": -(2**63) - 1},
        {"surrogate": "\ud800"},
        {"surrogate": ["\udfff"]},
        {"bytes": b"a"},
        {"": 1},
        {"1a": 1},
        {"a.b": 1},
        {"a-b": 1},
        {"é": 1},
        {"a\n": 1},
        {"k" * 65: 1},
        {7: 1},
        {f"k{i}": i for i in range(65)},
        {"long": "x" * (16 * 1024)},
        ["a"],
    ],
)
def test_other_metadata_is_refused_with_the_item_named(metadata: object) -> None:
    with pytest.raises(InvalidItem, match="item 'culprit'"):
        to_row(Item("culprit", CODE, metadata=metadata), 8)


def test_metadata_at_its_limits_is_accepted() -> None:
    to_row(Item("a", CODE, metadata={f"k{i}": i for i in range(64)}), 8)
    to_row(Item("a", CODE, metadata={"k": "x" * (16 * 1024 - len('{"k":""}'))}), 8)
    with pytest.raises(InvalidItem, match="16385 bytes"):
        to_row(Item("a", CODE, metadata={"k": "x" * (16 * 1024 - len('{"k":""}') + 1)}), 8)


@pytest.mark.parametrize("field", ["label", "uri"])
@pytest.mark.parametrize("value", [7, b"a", ["a"], "\ud800"])
def test_label_and_uri_are_strings_or_nothing(field: str, value: object) -> None:
    with pytest.raises(InvalidItem, match=field):
        to_row(Item("a", CODE, **{field: value}), 8)


@pytest.mark.parametrize("name", ["a", "default", "-_0", "z" * 64])
def test_good_collection_names(name: str) -> None:
    check_collection_name(name)


@pytest.mark.parametrize("name", ["", "A", "a b", "ä", "a/b", "..", ".", "z" * 65, "a\n"])
def test_bad_collection_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidQuery, match="a-z"):
        check_collection_name(name)

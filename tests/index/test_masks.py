from collections.abc import Callable

import numpy as np
import pytest

from index.embedded import EmbeddedStore
from index.filters import compile_filter
from index.masks import Masks
from index.protocol import ModelRef

CAT = compile_filter({"label": "cat"})


def slots_in(mask: dict[int, np.ndarray]) -> list[int]:
    return [
        number * 64 + offset
        for number, bitmap in mask.items()
        for offset in np.flatnonzero(np.unpackbits(bitmap, bitorder="little")).tolist()
    ]


@pytest.fixture
def collection(store: EmbeddedStore, make_items: Callable, model: ModelRef):
    store.upsert("c", make_items(70, "cat", label="cat"), model)
    store.upsert("c", make_items(70, "dog", label="dog"), model)
    return store._collections["c"]


def test_a_mask_grows_with_the_collection(collection, make_items: Callable) -> None:
    masks = Masks()
    with collection.moment() as (reader, snapshot):
        assert slots_in(masks.get(CAT, reader, snapshot)) == list(range(70))
    collection.upsert(make_items(3, "kitten", label="cat"))
    with collection.moment() as (reader, snapshot):
        assert slots_in(masks.get(CAT, reader, snapshot)) == [*range(70), 140, 141, 142]


def test_a_known_mask_is_not_worked_out_again(collection) -> None:
    masks = Masks()
    with collection.moment() as (reader, snapshot):
        first = masks.get(CAT, reader, snapshot)
        again = masks.get(CAT, reader, snapshot)
    assert all(again[number] is first[number] for number in first)
    assert masks.memory_bytes == 2 * 8


def test_an_older_moment_does_not_use_a_newer_mask(collection, make_items: Callable) -> None:
    """A mask made later lacks slots that were alive earlier and died in between."""
    masks = Masks()
    collection.upsert(make_items(5, "kitten", label="cat"))
    with collection.moment() as (old_reader, old_snapshot):
        collection.delete(["kitten0", "kitten1"])
        with collection.moment() as (reader, snapshot):
            assert slots_in(masks.get(CAT, reader, snapshot)) == [*range(70), 142, 143, 144]
        assert slots_in(masks.get(CAT, old_reader, old_snapshot)) == [*range(70), *range(140, 145)]
    with collection.moment() as (reader, snapshot):
        assert slots_in(masks.get(CAT, reader, snapshot)) == [*range(70), 142, 143, 144]


def test_masks_of_segments_that_are_gone_are_forgotten(collection) -> None:
    masks = Masks()
    with collection.moment() as (reader, snapshot):
        masks.get(CAT, reader, snapshot)
    collection.delete([f"cat{i}" for i in range(64)])
    with collection.moment() as (reader, snapshot):
        assert 0 not in masks.get(CAT, reader, snapshot)


def test_only_the_filters_used_last_are_kept(collection) -> None:
    masks = Masks()
    with collection.moment() as (reader, snapshot):
        for i in range(100):
            masks.get(compile_filter({"label": {"in": ["cat", str(i)]}}), reader, snapshot)
    assert masks.memory_bytes == 32 * 2 * 8

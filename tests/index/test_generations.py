"""Two generations of a collection: filled side by side, and exchanged in one moment."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable, ModelMismatch, NotFound, StoreCorrupt
from index.embedded import EmbeddedStore
from index.generations import FILE_NAME
from index.protocol import Item, ModelRef, other_generation

C = "photos"
OTHER = other_generation(C)

Open = Callable[[], EmbeddedStore]


def codes_of(store: EmbeddedStore, name: str = C) -> dict[str, bytes]:
    return {item.id: item.code for item in store.list_items(name, limit=1000)}


def recoded(items: list[Item]) -> list[Item]:
    return [replace(item, code=bytes(255 - byte for byte in item.code)) for item in items]


def fill(store: EmbeddedStore, items: list[Item], model: ModelRef, new_model: ModelRef) -> None:
    store.upsert(C, items, model)
    store.stage(C, new_model)
    store.upsert(OTHER, recoded(items), new_model)


def test_another_generation_is_filled_unseen_and_then_switched_to(store, make_items, model, other_model):
    items = make_items(200)
    fill(store, items, model, other_model)
    assert [info.name for info in store.collections()] == [C]
    assert codes_of(store) == {item.id: item.code for item in items}
    assert (store.model(C).id, store.other_model(C).id) == (model.id, other_model.id)
    store.switch([C], other_model.id)
    assert codes_of(store) == {item.id: item.code for item in recoded(items)}
    assert codes_of(store, OTHER) == {item.id: item.code for item in items}
    assert (store.model(C).id, store.other_model(C).id) == (other_model.id, model.id)
    assert store.active_model == other_model.id
    assert store.collection(C).name == C
    (found,) = store.search(C, store_code(store, "item3"), k=1)
    assert (found.hits[0].id, found.hits[0].distance) == ("item3", 0)


def store_code(store: EmbeddedStore, item_id: str):
    import numpy as np

    return np.frombuffer(store.get(C, [item_id])[0].code, dtype=np.uint8)[None]


def test_a_switch_lasts_and_so_does_the_way_back(open_store: Open, make_items, model, other_model):
    store = open_store()
    items = make_items(100)
    fill(store, items, model, other_model)
    for _ in range(2):
        store.switch([C], other_model.id)
        store = open_store()
        assert store.model(C).id == other_model.id
        assert codes_of(store) == {item.id: item.code for item in recoded(items)}
        store.switch([C], model.id)
        store = open_store()
        assert (store.active_model, store.model(C).id) == (model.id, model.id)
        assert codes_of(store) == {item.id: item.code for item in items}


def test_all_collections_switch_together_or_none(store, make_items, model, other_model):
    for name in ("a", "b", "c"):
        store.upsert(name, make_items(5, prefix=name), model)
    for name in ("a", "b"):
        store.stage(name, other_model)
    with pytest.raises(NotFound, match="'c' has no other generation"):
        store.switch(["a", "b", "c"], other_model.id)
    assert {store.model(name).id for name in ("a", "b", "c")} == {model.id}
    assert store.active_model is None
    store.switch(["a", "b"], other_model.id)
    assert [store.model(name).id for name in ("a", "b", "c")] == [other_model.id] * 2 + [model.id]


def test_staging_again_keeps_what_is_there_unless_it_is_for_another_model(
    store, make_items, model, other_model
):
    items = make_items(10)
    fill(store, items, model, other_model)
    assert store.stage(C, other_model).num_items == 10
    third = replace(other_model, id="c" * 64)
    assert store.stage(C, third).num_items == 0
    with pytest.raises(ModelMismatch):
        store.upsert(OTHER, items, other_model)
    with pytest.raises(NotFound):
        store.stage("nothing", other_model)


def test_a_dropped_generation_is_gone_for_good(open_store: Open, make_items, model, other_model, tmp_path):
    store = open_store()
    items = make_items(100)
    fill(store, items, model, other_model)
    store.switch([C], other_model.id)
    store.drop_other(C)
    store.drop_other(C)
    assert store.other_model(C) is None
    with pytest.raises(NotFound):
        store.list_items(OTHER)
    assert len(list((tmp_path / "collections").iterdir())) == 1
    store = open_store()
    assert codes_of(store) == {item.id: item.code for item in recoded(items)}
    store.stage(C, model)
    assert store.collection(OTHER).num_items == 0


def test_a_collection_is_deleted_with_both_and_can_be_made_again(
    open_store: Open, make_items, model, other_model
):
    store = open_store()
    fill(store, make_items(10), model, other_model)
    store.switch([C], other_model.id)
    store.delete_collection(C)
    assert store.collections() == []
    store = open_store()
    store.upsert(C, make_items(3), model)
    assert (store.model(C).id, store.collection(C).num_items) == (model.id, 3)
    store = open_store()
    assert (store.model(C).id, store.other_model(C)) == (model.id, None)


@pytest.mark.parametrize("left_by", ["staging", "dropping"])
def test_what_a_crash_left_of_another_generation_is_cleared_away(
    open_store: Open, make_items, model, other_model, tmp_path: Path, left_by: str
):
    store = open_store()
    fill(store, make_items(10), model, other_model)
    folder = tmp_path / "collections" / "photos@2"
    assert folder.is_dir()
    store.close()
    folder.rename(folder.with_name(".deleted-1" if left_by == "dropping" else ".new-1"))
    store = open_store()
    assert store.other_model(C) is None
    assert store.collection(C).num_items == 10
    assert store.stage(C, other_model).num_items == 0


def test_a_folder_that_the_file_does_not_know_is_never_guessed_about(
    open_store: Open, make_items, model, other_model, tmp_path: Path
):
    store = open_store()
    fill(store, make_items(10), model, other_model)
    store.switch([C], other_model.id)
    store.close()
    kept = (tmp_path / FILE_NAME).read_bytes()
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(StoreCorrupt, match=FILE_NAME):
        open_store()
    (tmp_path / FILE_NAME).write_text("{")
    with pytest.raises(StoreCorrupt, match="damaged"):
        open_store()
    (tmp_path / FILE_NAME).write_bytes(kept)
    assert open_store().model(C).id == other_model.id


def test_both_generations_are_verified(store, make_items, model, other_model):
    fill(store, make_items(200), model, other_model)
    assert store.verify() == []


def test_a_generation_that_is_staged_while_its_collection_is_deleted_goes_with_it(
    open_store: Open, make_items, model, other_model, monkeypatch
):
    store = open_store()
    fill(store, make_items(10), model, other_model)
    drop = store.drop_other

    def drop_and_stage(name: str) -> None:
        drop(name)
        monkeypatch.setattr(store, "drop_other", drop)
        store.stage(name, other_model)

    monkeypatch.setattr(store, "drop_other", drop_and_stage)
    store.delete_collection(C)
    assert store.other_model(C) is None
    store.upsert(C, make_items(2), model)
    assert store.other_model(C) is None
    assert open_store().collection(C).num_items == 2


def test_no_generation_is_taken_for_a_collection_whose_own_folder_is_gone(
    open_store: Callable, make_items: Callable, model: ModelRef, other_model: ModelRef, tmp_path: Path
) -> None:
    store = open_store()
    store.upsert("c", make_items(3), model)
    store.stage("c", other_model)
    with pytest.raises(NotFound, match="'d'"):
        store.upsert(other_generation("d"), make_items(1), other_model)
    store.close()
    (tmp_path / "collections" / "c").rename(tmp_path / "c")
    with pytest.raises(StoreCorrupt, match="put it back"):
        open_store()
    (tmp_path / "c").rename(tmp_path / "collections" / "c")
    assert open_store().collection("c").num_items == 3


def test_a_full_disk_while_a_collection_is_deleted_loses_nothing_that_comes_later(
    open_store: Open, make_items, model, other_model, monkeypatch, tmp_path: Path
):
    store = open_store()
    fill(store, make_items(10), model, other_model)
    store.switch([C], other_model.id)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    store.drop_other(C)
    with monkeypatch.context() as patched:
        patched.setattr("index.folders.write_generations", full)
        with pytest.raises(BackendUnavailable, match="No space"):
            store.delete_collection(C)
    assert list((tmp_path / "collections").iterdir()) == []
    items = make_items(3)
    store.upsert(C, items, model)
    assert codes_of(open_store()) == {item.id: item.code for item in items}

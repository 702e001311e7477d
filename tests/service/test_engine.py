"""The engine without HTTP, over the real store."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.errors import (
    InvalidImage,
    InvalidItem,
    InvalidModel,
    InvalidQuery,
    ModelMismatch,
    NotFound,
    StoreLocked,
)
from service.encoding.encoding import Encoding
from service.engine import Engine
from service.queries import NewItem, Query, SearchOptions
from service.settings import Settings
from tests.image_files import png
from tests.service.http_answers import reference_code
from tests.tiny_model import write_tiny_model


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    write_tiny_model(folder / "tiny.onnx")
    return folder


def open_engine(tmp_path: Path, **settings: object) -> Engine:
    chosen = {"data": tmp_path / "data", "models": tmp_path / "models", "provider": "cpu", "threads": 1}
    return Engine.open(Settings(**chosen | settings))


@pytest.fixture
def engine(tmp_path: Path, models: Path) -> Iterator[Engine]:
    opened = open_engine(tmp_path)
    yield opened
    opened.close()


def test_the_default_collection_is_empty_before_its_first_item(engine: Engine) -> None:
    assert engine.search(Query(image=png())).hits == []
    assert engine.search(Query(code=bytes(8))).hits == []
    assert engine.classify(Query(code=bytes(8))).labels == []
    assert engine.list_items() == []
    info = engine.collection()
    assert (info.name, info.num_items, info.model) == ("default", 0, engine.active.ref())
    assert engine.collections() == []
    with pytest.raises(NotFound):
        engine.get("a")
    with pytest.raises(NotFound):
        engine.delete("a")
    with pytest.raises(NotFound):
        engine.search(Query(id="a"))
    with pytest.raises(InvalidItem, match="64"):
        engine.search(Query(code=bytes(9)))


def test_other_collections_must_exist_to_be_read(engine: Engine) -> None:
    for read in (
        lambda: engine.search(Query(code=bytes(8)), SearchOptions(collection="nope")),
        lambda: engine.list_items("nope"),
        lambda: engine.get("a", "nope"),
        lambda: engine.delete("a", "nope"),
        lambda: engine.collection("nope"),
    ):
        with pytest.raises(NotFound, match="nope"):
            read()


def test_the_first_write_makes_the_collection_and_binds_it(engine: Engine) -> None:
    engine.upsert([NewItem(id="a", image=png(1))], "mine")
    info = engine.collection("mine")
    assert (info.num_items, info.model.id, info.model.provider) == (1, engine.active.id, "cpu-fp32")
    assert engine.get("a", "mine").code == reference_code(png(1))


def test_working_with_codes_alone_loads_no_model(engine: Engine) -> None:
    engine.upsert([NewItem(id="a", code=bytes(8))])
    engine.search(Query(code=bytes(8)))
    engine.search(Query(id="a"))
    engine.delete("a")
    assert not engine.is_started
    engine.start()
    assert engine.is_started


def test_the_model_is_loaded_once_however_many_ask(engine: Engine) -> None:
    encoders: list[object] = []
    threads = [threading.Thread(target=lambda: encoders.append(engine.encoder)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(encoders) == 8
    assert len(set(map(id, encoders))) == 1


def test_images_and_encodings_are_the_same_to_a_search(engine: Engine) -> None:
    engine.upsert([NewItem(id=str(seed), image=png(seed)) for seed in range(5)])
    (encoding,) = engine.encode([png(3)])
    assert isinstance(encoding, Encoding)
    assert engine.search(Query(image=png(3))) == engine.search(Query(image=encoding))
    mixed = engine.search_many([Query(id="1"), Query(image=png(3)), Query(code=reference_code(png(4)))])
    assert [result.hits[0].id for result in mixed] == ["1", "3", "4"]


def test_a_bad_image_among_items_is_named_and_nothing_is_kept(engine: Engine) -> None:
    with pytest.raises(InvalidImage, match="image 1"):
        engine.upsert([NewItem(image=png(1)), NewItem(image=b"no image"), NewItem(image=png(2))])
    assert engine.collections() == []


def test_a_query_is_exactly_one_thing(engine: Engine) -> None:
    for query in (Query(), Query(id="a", code=bytes(8)), Query(image=png(), id="a")):
        with pytest.raises(InvalidQuery, match="exactly one"):
            engine.search(query)


def test_rescore_needs_an_image_and_has_no_part_in_a_vote(engine: Engine) -> None:
    with pytest.raises(InvalidQuery, match="rescore"):
        engine.search(Query(code=bytes(8)), SearchOptions(rescore=True))
    with pytest.raises(InvalidQuery, match="rescore"):
        engine.classify(Query(image=png()), SearchOptions(rescore=True))


@pytest.mark.parametrize("k", [0, -1, 1001, 10**9])
def test_k_out_of_range_is_refused_even_where_nothing_is_kept(engine: Engine, k: int) -> None:
    with pytest.raises(InvalidQuery, match=str(k)):
        engine.search(Query(code=bytes(8)), SearchOptions(k=k))


class TestAnotherModel:
    """A collection whose model is not the active one."""

    @pytest.fixture
    def old(self, tmp_path: Path, models: Path) -> str:
        """The id of the 64-bit model that the collection `kept` is bound to."""
        engine = open_engine(tmp_path)
        engine.upsert([NewItem(id="a", image=png(1)), NewItem(id="b", image=png(2))], "kept")
        old = engine.active.id
        engine.close()
        return old

    @pytest.fixture(params=[64, 128])
    def newer(self, request: pytest.FixtureRequest, tmp_path: Path, old: str) -> Iterator[Engine]:
        """An engine whose model has other weights, and the same or another number of bits."""
        path = write_tiny_model(
            tmp_path / "models" / "other.onnx", num_bits=request.param, seed=5, name="other"
        )
        engine = open_engine(tmp_path, model=str(path))
        yield engine
        engine.close()

    def test_images_are_refused_with_the_remedy(self, newer: Engine) -> None:
        for use in (
            lambda: newer.search(Query(image=png(1)), SearchOptions(collection="kept")),
            lambda: newer.classify(Query(image=png(1)), SearchOptions(collection="kept")),
            lambda: newer.upsert([NewItem(image=png(1))], "kept"),
        ):
            with pytest.raises(ModelMismatch, match="--model tiny"):
                use()
        assert newer.collection("kept").num_items == 2

    def test_codes_that_do_not_say_whose_they_are_are_refused(self, newer: Engine) -> None:
        with pytest.raises(ModelMismatch, match="model"):
            newer.search(Query(code=bytes(8)), SearchOptions(collection="kept"))
        with pytest.raises(ModelMismatch, match="model"):
            newer.upsert([NewItem(code=bytes(8))], "kept")

    def test_codes_that_name_the_collections_model_are_taken(self, newer: Engine, old: str) -> None:
        code = reference_code(png(1))
        result = newer.search(Query(code=code, model=old), SearchOptions(collection="kept", k=1))
        assert [(hit.id, hit.distance) for hit in result.hits] == [("a", 0)]
        newer.upsert([NewItem(id="c", code=code)], "kept", model=old)
        assert newer.get("c", "kept").code == code

    def test_queries_by_id_still_work(self, newer: Engine) -> None:
        result = newer.search(Query(id="b"), SearchOptions(collection="kept", k=1))
        assert [hit.id for hit in result.hits] == ["b"]

    def test_making_the_collection_again_is_refused(self, newer: Engine) -> None:
        with pytest.raises(ModelMismatch):
            newer.create_collection("kept")

    def test_new_collections_are_bound_to_the_active_model(self, newer: Engine) -> None:
        newer.upsert([NewItem(image=png(1))], "fresh")
        assert newer.collection("fresh").model.name == "other"


def test_a_second_engine_is_told_who_has_the_store(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(StoreLocked):
        open_engine(tmp_path)


def test_an_empty_model_folder_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    engine = open_engine(tmp_path)
    with pytest.raises(NotFound, match="stochcon train"):
        engine.start()
    engine.close()


def test_a_model_without_codes_is_refused_when_named(tmp_path: Path, models: Path) -> None:
    write_tiny_model(models / "floats.onnx", latent="gaussian", name="floats")
    engine = open_engine(tmp_path, model="floats")
    with pytest.raises(InvalidModel, match=r"floats.*gaussian"):
        engine.start()
    engine.close()


def test_calls_on_items_do_not_measure_the_whole_collection(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its sizes are those of all its files, which grow with the collection.
    engine.upsert([NewItem(id="a", code=bytes(8), label="x")])
    measured = []
    measure = engine.store.collection
    monkeypatch.setattr(engine.store, "collection", lambda name: measured.append(name) or measure(name))
    engine.upsert([NewItem(id="b", code=bytes(8))])
    assert engine.get("b").id == "b"
    assert len(engine.search(Query(id="b")).hits) == 2
    assert engine.classify(Query(id="b")).labels[0].label == "x"
    assert len(engine.list_items()) == 2
    engine.delete("b")
    assert measured == []
    assert engine.collection().num_items == 1
    assert measured == ["default"]

"""Writes that have to reach the other generation and the image files that are kept, over the real store."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contracts.errors import InvalidItem, ModelMismatch
from index.protocol import Item, ModelRef, other_generation
from service.engine import Engine
from service.queries import NewItem
from service.settings import Settings
from stochcon.local import LocalBackend
from tests.image_files import png
from tests.service.http_answers import reference_code
from tests.tiny_model import write_tiny_model

OTHER = other_generation("default")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """One that keeps originals, and has items `a` and `b` that came as images."""
    models = tmp_path / "models"
    models.mkdir()
    write_tiny_model(models / "old.onnx", name="old")
    settings = Settings(data=tmp_path / "data", models=models, provider="cpu", threads=1, keep_originals=True)
    opened = Engine.open(settings)
    opened.upsert([NewItem(id="a", image=png(1)), NewItem(id="b", image=png(2))])
    write_tiny_model(models / "new.onnx", seed=1, name="new")
    yield opened
    assert opened.store.verify() == []
    opened.close()


def stage(engine: Engine) -> None:
    """Load another model, and fill the other generation with it."""
    model = next(model for model in engine.models.list().models if model.id != engine.active.id)
    engine.load_successor(model)
    engine.store.stage("default", model.ref())
    engine.upsert([NewItem(id="a", image=png(1)), NewItem(id="b", image=png(2))])


def contents(engine: Engine, generation: str) -> dict[str, tuple[bytes, int | None]]:
    return {item.id: (item.code, item.original) for item in engine.store.list_items(generation)}


def test_a_write_that_is_refused_has_reached_nothing(engine: Engine) -> None:
    stage(engine)
    before = contents(engine, "default"), contents(engine, OTHER)
    for bad in (
        NewItem(id="c", code=bytes(8), label="\ud800"),
        NewItem(id="c", code=bytes(8), metadata={"a b": 1}),
        NewItem(id="c" * 300, code=bytes(8)),
    ):
        with pytest.raises(InvalidItem):
            engine.upsert([NewItem(id="a", image=png(3)), NewItem(id="b", code=bytes(8)), bad])
        assert (contents(engine, "default"), contents(engine, OTHER)) == before
    assert engine.original("a") == png(1)
    assert engine.store.collection("default").num_originals == 2


@pytest.mark.parametrize("is_staged", [False, True])
def test_the_last_one_of_an_id_is_kept_and_nothing_of_those_before(engine: Engine, is_staged: bool) -> None:
    if is_staged:
        stage(engine)
    code_last = [NewItem(id="a", image=png(3)), NewItem(id="a", code=b"12345678")]
    image_last = [
        NewItem(id="b", code=b"12345678"),
        NewItem(id="b", image=png(4)),
        NewItem(id="c", image=png(5)),
    ]
    assert engine.upsert(code_last) == ["a", "a"]
    assert engine.upsert(image_last) == ["b", "b", "c"]
    assert engine.get("a").code == b"12345678"
    assert engine.get("a").original is None
    assert engine.get("b").code == reference_code(png(4))
    assert (engine.original("b"), engine.original("c")) == (png(4), png(5))
    assert engine.store.collection("default").num_originals == 2
    if is_staged:
        assert contents(engine, OTHER).keys() == {"b", "c"}, "no code of the new model stands for the code"


def test_an_id_that_is_no_text_is_refused(engine: Engine) -> None:
    for wrong in ([1], {"x": 1}, 7, b"a"):
        with pytest.raises(InvalidItem, match="give it as a string"):
            engine.upsert([NewItem(id=wrong, image=png(1))])  # type: ignore[arg-type]


def test_what_the_command_line_writes_without_a_service_stays_in_step(engine: Engine) -> None:
    stage(engine)
    backend, model = LocalBackend(engine), engine.active.ref("cpu-fp32")
    a = engine.get("a")
    backend.upsert("default", [Item("a", a.code, "label"), Item("b", b"12345678")], model)
    assert (engine.get("a").label, engine.original("a")) == ("label", png(1))
    assert engine.get("b").original is None
    assert engine.store.collection("default").num_originals == 1
    (other,) = engine.store.list_items(OTHER)
    assert (other.id, other.label) == ("a", "label"), "b had one of the image before"
    with pytest.raises(ModelMismatch):
        backend.upsert("default", [Item("a", bytes(8))], ModelRef("f" * 64, "third", 64))
    assert engine.store.list_items(OTHER) == [other]
    assert engine.original("a") == png(1)


def test_another_label_is_no_reason_to_look_again(engine: Engine) -> None:
    stage(engine)
    late = engine.writes.others.note_late()
    for _ in range(3):
        engine.upsert([NewItem(id="a", code=engine.get("a").code, label="cat")])
    assert (late.look_again, late.without_source) == (set(), {})
    assert engine.store.get(OTHER, ["a"])[0] is not None
    engine.upsert([NewItem(id="a", code=bytes(8), uri="file:///a.png")])
    assert late.look_again == {"default"}


def test_a_code_that_is_being_written_is_waited_for_when_late_ones_are_counted(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(engine)
    others = engine.writes.others
    late = others.note_late()
    noted, may_go_on = threading.Event(), threading.Event()
    upsert = engine.store.upsert

    def slowly(name: str, items: Sequence[Item], model: ModelRef) -> None:
        if name == "default" and items:
            noted.set()
            assert may_go_on.wait(20)
        upsert(name, items, model)

    monkeypatch.setattr(engine.store, "upsert", slowly)
    with ThreadPoolExecutor(2) as pool:
        write = pool.submit(engine.upsert, [NewItem(id="c", code=bytes(8))])
        assert noted.wait(20)
        count = pool.submit(others.count_late, late)
        with pytest.raises(TimeoutError):
            count.result(0.3)
        may_go_on.set()
        assert write.result(20) == ["c"]
        assert count.result(20) == {"default": 1}

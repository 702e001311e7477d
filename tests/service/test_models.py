from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.errors import InvalidModel, NotFound
from contracts.model_file import SHIPPED_MODELS, model_id, write_manifest
from service.models import ModelFolder
from tests.tiny_model import make_manifest, write_tiny_model


def add(folder: Path, name: str, year: int, latent: str = "bernoulli", seed: int = 0) -> Path:
    path = write_tiny_model(folder / f"{name}-{year}.onnx", latent=latent, name=name, seed=seed)
    created = datetime(year, 1, 1, tzinfo=UTC)
    write_manifest(path, make_manifest(latent=latent, name=name).model_copy(update={"created": created}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add(tmp_path, "cats", 2024, seed=1)
    add(tmp_path, "cats", 2026, seed=2)
    add(tmp_path, "dogs", 2025, seed=3)
    add(tmp_path, "floats", 2027, latent="none", seed=4)
    return tmp_path


def test_models_are_listed_newest_first_with_those_that_make_no_codes(folder: Path) -> None:
    listing = ModelFolder(folder).list()
    assert [(m.manifest.name, m.manifest.created.year, m.makes_codes) for m in listing.models] == [
        ("floats", 2027, False),
        ("cats", 2026, True),
        ("dogs", 2025, True),
        ("cats", 2024, True),
    ]
    assert listing.faults == {}


def test_without_a_wish_the_newest_that_makes_codes_is_taken(folder: Path) -> None:
    assert ModelFolder(folder).select(None).path.name == "cats-2026.onnx"


def test_a_model_is_chosen_by_name_id_or_path(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    models = ModelFolder(folder)
    assert models.select("dogs").path.name == "dogs-2025.onnx"
    assert models.select("cats").path.name == "cats-2026.onnx"
    old = folder / "cats-2024.onnx"
    assert models.select(model_id(old)).path == old
    assert models.select(str(old)).path == old
    elsewhere = add(tmp_path_factory.mktemp("elsewhere"), "birds", 2020, seed=9)
    assert models.select(str(elsewhere)).manifest.name == "birds"


def test_a_model_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    with pytest.raises(NotFound, match=r"'fish'.*cats"):
        ModelFolder(folder).select("fish")
    with pytest.raises(InvalidModel, match=r"nope\.onnx"):
        ModelFolder(folder).select("nope.onnx")
    with pytest.raises(NotFound):
        ModelFolder(folder).get("0" * 64)


def test_a_model_without_codes_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(InvalidModel, match=r"floats.*'none'"):
        ModelFolder(folder).select("floats")


def test_files_that_are_no_models_are_named_and_harm_nothing(folder: Path) -> None:
    (folder / "broken.onnx").write_bytes(b"not a model")
    (folder / "empty.onnx").write_bytes(b"")
    listing = ModelFolder(folder).list()
    assert len(listing.models) == 4
    assert sorted(listing.faults) == ["broken.onnx", "empty.onnx"]


def test_a_folder_with_nothing_but_broken_files_says_what_is_wrong_with_them(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(NotFound, match=r"broken\.onnx"):
        ModelFolder(tmp_path).select(None)


def test_a_file_that_changes_is_read_again(folder: Path) -> None:
    models = ModelFolder(folder)
    before = models.select("dogs").id
    add(folder, "dogs", 2025, seed=77)
    assert models.select("dogs").id not in (before, None)


def test_of_two_copies_of_a_model_one_is_a_fault(folder: Path) -> None:
    (folder / "copy.onnx").write_bytes((folder / "dogs-2025.onnx").read_bytes())
    models = ModelFolder(folder)
    listing = models.list()
    assert len({model.id for model in listing.models}) == len(listing.models) == 4
    (fault,) = listing.faults.items()
    assert {fault[0]} < {"copy.onnx", "dogs-2025.onnx"}
    assert "copy.onnx" in fault[1]
    assert "dogs-2025.onnx" in fault[1]
    assert models.get(models.select("dogs").id).manifest.name == "dogs"


def test_a_copy_whose_card_says_that_it_makes_no_codes_is_never_chosen(folder: Path) -> None:
    copy = folder / "a-copy.onnx"
    copy.write_bytes((folder / "dogs-2025.onnx").read_bytes())
    card = make_manifest(latent="none", name="dogs")
    write_manifest(copy, card.model_copy(update={"created": datetime(2030, 1, 1, tzinfo=UTC)}))
    models = ModelFolder(folder)
    shared = model_id(copy)
    assert shared == model_id(folder / "dogs-2025.onnx")
    for wanted in ("dogs", shared):
        assert models.select(wanted).path.name == "dogs-2025.onnx"
    assert models.get(shared).makes_codes
    assert list(models.list().faults) == ["a-copy.onnx"]
    with pytest.raises(InvalidModel, match=r"a-copy\.onnx.*'none'"):
        models.select(str(copy))


def test_a_newer_model_of_a_name_that_makes_no_codes_gives_way_to_one_that_does(folder: Path) -> None:
    add(folder, "dogs", 2031, latent="none", seed=31)
    assert ModelFolder(folder).select("dogs").path.name == "dogs-2025.onnx"


@pytest.mark.parametrize("name", ["nowhere", "a-file.onnx"])
def test_a_model_folder_that_is_none_is_named(tmp_path: Path, name: str) -> None:
    write_tiny_model(tmp_path / "a-file.onnx")
    with pytest.raises(NotFound, match=f"{name} is not a folder"):
        ModelFolder(tmp_path / name).select(None)


def test_the_model_that_ships_is_small_and_for_photographs() -> None:
    model = ModelFolder(SHIPPED_MODELS).select(None)
    assert (model.manifest.name, model.manifest.num_bits) == ("starter", 2048)
    assert (model.manifest.preprocessing.height, model.manifest.preprocessing.width) == (224, 224)
    assert model.manifest.licence == "Apache-2.0"
    assert "EfficientNet-Lite0" in model.manifest.data  # whose authors have to be named
    assert model.path.stat().st_size <= 15_000_000

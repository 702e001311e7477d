import numpy as np
import onnx
import pytest

from contracts.errors import InvalidModel
from contracts.manifest import MANIFEST_KEY
from contracts.model_file import model_id, read_manifest, read_model, write_manifest
from tests.tiny_model import make_manifest, write_tiny_model


@pytest.fixture
def model_path(tmp_path):
    return write_tiny_model(tmp_path / "tiny.onnx")


def rewrite(path, change):
    """Load the file with the onnx package, change it, and save it again."""
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())


def test_the_manifest_in_the_file_is_read(model_path):
    manifest, id = read_model(model_path)
    assert manifest == read_manifest(model_path) == make_manifest()
    assert id == model_id(model_path)
    assert len(id) == 64


def test_the_id_changes_with_one_weight(model_path):
    before = model_id(model_path)

    def nudge(model):
        weights = next(w for w in model.graph.initializer if w.name == "projection")
        values = onnx.numpy_helper.to_array(weights).copy()
        values[0, 0] = np.nextafter(values[0, 0], np.float32(1))
        weights.CopyFrom(onnx.numpy_helper.from_array(values, "projection"))

    rewrite(model_path, nudge)
    assert model_id(model_path) != before


def test_the_id_changes_with_the_graph_and_with_the_operators_version(model_path):
    ids = {model_id(model_path)}
    rewrite(model_path, lambda model: setattr(model.graph.node[1].attribute[0], "i", 1))
    ids.add(model_id(model_path))
    rewrite(model_path, lambda model: setattr(model.opset_import[0], "version", 19))
    ids.add(model_id(model_path))
    assert len(ids) == 3


def test_the_id_changes_with_the_preprocessing_and_not_with_the_card(model_path):
    before = model_id(model_path)
    manifest = read_manifest(model_path)
    write_manifest(model_path, manifest.model_copy(update={"name": "renamed", "metrics": {"knn": 0.9}}))
    assert read_manifest(model_path).name == "renamed"
    assert model_id(model_path) == before
    squashed = manifest.preprocessing.model_copy(update={"resize": "squash"})
    write_manifest(model_path, manifest.model_copy(update={"preprocessing": squashed}))
    assert model_id(model_path) != before


def test_writing_a_manifest_leaves_everything_else_to_the_byte(model_path):
    rewrite(model_path, lambda model: model.metadata_props.add(key="author", value="someone"))
    before = onnx.load(model_path)
    write_manifest(model_path, read_manifest(model_path).model_copy(update={"version": "2"}))
    after = onnx.load(model_path)
    onnx.checker.check_model(after)
    assert after.graph.SerializeToString() == before.graph.SerializeToString()
    assert {p.key for p in after.metadata_props} == {"author", MANIFEST_KEY}
    assert len(after.metadata_props) == 2
    assert list(model_path.parent.iterdir()) == [model_path]


def test_a_long_manifest_is_read_back(model_path):
    manifest = read_manifest(model_path).model_copy(update={"data": "é" * 100_000})
    write_manifest(model_path, manifest)
    assert read_manifest(model_path) == manifest


def test_a_file_without_a_manifest_is_an_invalid_model(model_path):
    rewrite(model_path, lambda model: model.ClearField("metadata_props"))
    with pytest.raises(InvalidModel, match="stochcon export"):
        read_model(model_path)


def test_a_missing_file_is_an_invalid_model(tmp_path):
    with pytest.raises(InvalidModel, match="No such file"):
        read_model(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\xff" * 100, b"\x00\x00", bytes(1000), b"text" * 50])
def test_a_file_that_is_no_model_is_an_invalid_model(tmp_path, content):
    path = tmp_path / "not.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModel):
        read_model(path)


def test_a_truncated_model_is_an_invalid_model_or_has_another_id(model_path):
    whole = model_path.read_bytes()
    id = model_id(model_path)
    for length in [1, 2, 3, 100, len(whole) // 2, *range(len(whole) - 700, len(whole), 7)]:
        model_path.write_bytes(whole[:length])
        try:
            assert model_id(model_path) != id
        except InvalidModel:
            continue


def test_a_manifest_that_is_not_utf8_is_an_invalid_model(model_path):
    content = model_path.read_bytes()
    start = content.index(b'{"name"')
    model_path.write_bytes(content[:start] + b"\xff" + content[start + 1 :])
    with pytest.raises(InvalidModel, match="UTF-8"):
        read_manifest(model_path)

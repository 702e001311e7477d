from datetime import datetime

import pytest

from contracts.errors import InvalidModel
from contracts.manifest import ModelManifest
from tests.tiny_model import make_manifest


def test_a_manifest_survives_its_json():
    manifest = make_manifest().model_copy(
        update={"labels": ["cat", "dog"], "metrics": {"knn": 0.5}, "recipe": {"seed": 0, "lr": [1, 2]}}
    )
    assert ModelManifest.from_json(manifest.model_dump_json()) == manifest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"num_bits": 12}, "num_bits"),
        ({"num_bits": 0}, "num_bits"),
        ({"name": "Not A Name"}, "name"),
        ({"name": ""}, "name"),
        ({"latent": "cauchy"}, "latent"),
        ({"surprise": 1}, "surprise"),
        ({"created": datetime(2026, 1, 1).isoformat()}, "created"),
        ({"preprocessing": {"height": 0, "width": 32}}, "preprocessing.height"),
        ({"preprocessing": {"height": 32, "width": 32, "version": 2}}, "preprocessing.version"),
        ({"preprocessing": {"height": 32, "width": 32, "resize": "pad"}}, "preprocessing.resize"),
    ],
)
def test_a_wrong_field_is_named(change, field):
    import json

    fields = make_manifest().model_dump(mode="json") | change
    with pytest.raises(InvalidModel, match=rf"at {field}\b"):
        ModelManifest.from_json(json.dumps(fields))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_text_that_is_no_manifest_is_an_invalid_model(text):
    with pytest.raises(InvalidModel, match="stochcon export"):
        ModelManifest.from_json(text)


def test_only_bits_and_preprocessing_make_the_identity():
    manifest = make_manifest()
    card = {"name": "other", "version": "9", "metrics": {"a": 1.0}, "licence": "MIT", "latent": "none"}
    assert manifest.model_copy(update=card).identity() == manifest.identity()
    squashed = manifest.preprocessing.model_copy(update={"resize": "squash"})
    assert manifest.model_copy(update={"preprocessing": squashed}).identity() != manifest.identity()
    assert manifest.model_copy(update={"num_bits": 128}).identity() != manifest.identity()


def test_a_manifest_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        make_manifest().name = "other"

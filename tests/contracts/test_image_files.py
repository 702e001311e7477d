import json

import pytest

from contracts.image_files import label_names


def test_label_names_are_read_from_the_schema_that_datasets_writes() -> None:
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    assert label_names({b"huggingface": json.dumps({"info": {"features": features}}).encode()}) == [
        "cat",
        "dog",
    ]


@pytest.mark.parametrize(
    "metadata", [None, {}, {b"other": b"1"}, {b"huggingface": b"not JSON"}, {b"huggingface": b'{"info": {}}'}]
)
def test_other_schemas_have_no_names(metadata: dict[bytes, bytes] | None) -> None:
    assert label_names(metadata) is None

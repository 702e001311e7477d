import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.targets import with_targets
from tests.tiny_images import write_parquet


def test_targets_are_the_luma_and_the_bytes_of_each_image(tmp_path: Path) -> None:
    encoded = []
    for colour in ((255, 255, 255), (255, 0, 0)):
        file = io.BytesIO()
        Image.fromarray(np.full((4, 8, 3), colour, np.uint8)).save(file, "PNG")
        encoded.append(file.getvalue())
    table = pq.read_table(write_parquet(tmp_path / "two.parquet", encoded, [0, 1]))
    found = with_targets(table)
    assert found["brightness"].to_pylist() == [1.0, pytest.approx(0.299, abs=0.002)]
    assert found["detail"].to_pylist() == [len(data) / 32 for data in encoded]
    assert found.select(table.column_names).equals(table)  # class names in the metadata among it
    assert found.schema.metadata == table.schema.metadata

"""Numbers to regress on, for data sets that have none: copies of Parquet files with two more columns.

    python -m benchmarks.targets --images train.parquet --out DIR

`brightness` is the mean luma (ITU-R 601) of an image, from 0 to 1, which colour jitter teaches a network to
overlook. `detail` is the size of its file in bytes for each pixel, which grows with edges and texture.
"""

import argparse
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def main() -> None:
    """Parse the arguments and write each file's copy, whole or not at all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, action="append", required=True, help="a Parquet file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the copies")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.images:
        partial = options.out / f"{path.name}.part"
        pq.write_table(with_targets(pq.read_table(path)), partial)
        partial.replace(options.out / path.name)


def with_targets(table: pa.Table) -> pa.Table:
    """The table with `brightness` and `detail`, float64, of the images in its column `image`."""
    encoded = [image["bytes"] for image in table["image"].to_pylist()]
    targets = np.array([_targets(data) for data in encoded])
    for name, column in zip(("brightness", "detail"), targets.T, strict=True):
        table = table.append_column(name, pa.array(column))
    return table


def _targets(data: bytes) -> tuple[float, float]:
    with Image.open(io.BytesIO(data)) as image:
        luma = np.asarray(image.convert("L"))
    return float(luma.mean()) / 255, len(data) / luma.size


if __name__ == "__main__":
    main()

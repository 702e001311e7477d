"""Small images whose class can be seen, as bytes and as the Parquet files that people have."""

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = ((200, 40, 40), (40, 180, 60), (50, 60, 210))


def make_png(label: int, seed: int, side: int = 16) -> bytes:
    """A noisy square whose colour is its class."""
    rng = np.random.default_rng([label, seed])
    pixels = np.array(COLOURS[label]) + rng.normal(0, 30, (side, side, 3))
    encoded = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(encoded, "PNG")
    return encoded.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]], kind: int = tarfile.PAX_FORMAT) -> Path:
    """A shard with these members, in this order."""
    with tarfile.open(path, "w", format=kind) as shard:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return path


def write_parquet(path: Path, images: list[bytes | None], labels: list[int] | None = None) -> Path:
    """Images as Hugging Face's `datasets` writes them, class names in the schema's metadata."""
    columns: dict[str, pa.Array] = {
        "image": pa.array(
            [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        )
    }
    metadata = {}
    if labels is not None:
        columns["label"] = pa.array(labels, pa.int64())
        features = {"label": {"names": ["red", "green", "blue"], "_type": "ClassLabel"}}
        metadata["huggingface"] = json.dumps({"info": {"features": features}})
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path

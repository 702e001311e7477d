from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from tests.image_files import encode, photo
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """`good` and `other` work, `wide` has more bits, `broken` has one code for all, `floats` makes none."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "good.onnx", name="good")
    write_tiny_model(folder / "other.onnx", seed=1, name="other")
    write_tiny_model(folder / "wide.onnx", num_bits=256, seed=2, name="wide")
    write_tiny_model(folder / "floats.onnx", seed=3, latent="gaussian", name="floats")
    write_broken_model(folder / "broken.onnx")
    return folder


def write_broken_model(path: Path) -> None:
    """A model whose projection is all zeros."""
    model = onnx.load(write_tiny_model(path, name="broken"))
    (broken,) = [tensor for tensor in model.graph.initializer if tensor.name == "projection"]
    broken.CopyFrom(numpy_helper.from_array(np.zeros((64, 64), dtype=np.float32), "projection"))
    path.write_bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def labelled_photos(tmp_path_factory) -> Path:
    """Three kinds of pictures, ten of each: one scene, in other lights and with other noise."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for kind in range(3):
        scene = np.asarray(photo(seed=kind), dtype=np.float64)
        other = np.asarray(photo(seed=100), dtype=np.float64)
        for number in range(10):
            mixed = 0.75 * scene + 0.25 * np.roll(other, random.integers(160), axis=1)
            pixels = mixed + random.normal(0, 8, scene.shape)
            path = folder / f"kind{kind}" / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encode(Image.fromarray(pixels.clip(0, 255).astype(np.uint8))))
    return folder

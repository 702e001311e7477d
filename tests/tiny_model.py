"""A real StochCon model file, small enough to make in a test, without torch.

Grey 4x4 block means of a 32x32 image through a fixed random projection: near images get near codes,
and every code can be worked out by hand from the same matrix.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from contracts.manifest import MANIFEST_KEY, ModelManifest, Preprocessing

SIDE = 32


def make_manifest(num_bits: int = 64, latent: str = "bernoulli", name: str = "tiny") -> ModelManifest:
    return ModelManifest(
        name=name,
        version="1",
        num_bits=num_bits,
        preprocessing=Preprocessing(height=SIDE, width=SIDE),
        latent=latent,
        data="none",
        licence="Apache-2.0",
        created=datetime(2026, 1, 1, tzinfo=UTC),
    )


def projection(num_bits: int, seed: int) -> np.ndarray:
    """float32 [64, num_bits]"""
    return np.random.default_rng(seed).standard_normal((64, num_bits), dtype=np.float32)


def reference_logits(pixels: np.ndarray, num_bits: int = 64, seed: int = 0) -> np.ndarray:
    """The model in numpy: uint8 [n, 32, 32, 3] -> float32 [n, num_bits]."""
    grey = pixels.astype(np.float32).mean(axis=-1) / 255 - 0.5
    blocks = grey.reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(-1, 64)
    return blocks @ projection(num_bits, seed)


def write_tiny_model(
    path: Path, num_bits: int = 64, seed: int = 0, latent: str = "bernoulli", name: str = "tiny"
) -> Path:
    initializers = {
        "minus_half": np.array(-0.5, dtype=np.float32),
        "scale": np.array(1 / 255, dtype=np.float32),
        "projection": projection(num_bits, seed),
        "flat": np.array([0, 64], dtype=np.int64),
        "blocks": np.array([0, 8, 4, 8, 4], dtype=np.int64),
        "channel_axis": np.array([3], dtype=np.int64),
        "block_axes": np.array([2, 4], dtype=np.int64),
        "zero": np.array(0, dtype=np.float32),
        "bits": np.array([0, num_bits // 8, 8], dtype=np.int64),
        "weights": np.array([128, 64, 32, 16, 8, 4, 2, 1], dtype=np.float32),
        "last_axis": np.array([2], dtype=np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["image"], ["float_image"], to=TensorProto.FLOAT),
        node("ReduceMean", ["float_image", "channel_axis"], ["grey"], keepdims=0),
        node("Mul", ["grey", "scale"], ["unit"]),
        node("Add", ["unit", "minus_half"], ["centred"]),
        node("Reshape", ["centred", "blocks"], ["blocked"]),
        node("ReduceMean", ["blocked", "block_axes"], ["means"], keepdims=0),
        node("Reshape", ["means", "flat"], ["features"]),
        node("MatMul", ["features", "projection"], ["logits"]),
        node("GreaterOrEqual", ["logits", "zero"], ["positive"]),
        node("Cast", ["positive"], ["float_bits"], to=TensorProto.FLOAT),
        node("Reshape", ["float_bits", "bits"], ["octets"]),
        node("Mul", ["octets", "weights"], ["weighted"]),
        node("ReduceSum", ["weighted", "last_axis"], ["float_code"], keepdims=0),
        node("Cast", ["float_code"], ["code"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("code", TensorProto.UINT8, ["N", num_bits // 8]),
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", num_bits]),
        ],
        [numpy_helper.from_array(value, key) for key, value in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {MANIFEST_KEY: make_manifest(num_bits, latent, name).model_dump_json()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path

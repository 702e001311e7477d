"""From a run to one self-contained ONNX file: uint8 pixels in; packed codes, logits and class logits out.

A Bernoulli latent gives codes and logits, any other run its features; a run that knows classes, supervised
or fine-tuned, gives class logits besides.

Normalisation, thresholding and packing are inside the graph, so no other part repeats them. Weights are
stored in float16 and computed with in float32.
"""

import copy
import logging
import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from contracts.codes import active_bits, pack_logits
from contracts.manifest import MANIFEST_KEY, ModelManifest
from trainer.classifier import Classifier
from trainer.fusion import fuse_batchnorm
from trainer.model import StochCon
from trainer.runs import Trained, load_run

_OPSET = 18
_FLOAT16_FROM = 256
"""Tensors with fewer values stay float32: biases and statistics weigh nothing and matter most."""

_MAX_ERROR = 1e-3
"""Largest difference of a logit between file and PyTorch that is rounding and no mistake."""


@dataclass(frozen=True, slots=True)
class Parity:
    """An exported file against PyTorch with the same float16 weights, on random images."""

    max_error: float
    """Largest difference of a logit, class logit or feature."""
    flipped_bits: int
    """Bits that differ. Only logits within `max_error` of 0 can flip."""
    num_bits: int
    """Bits compared."""


class ExportedGraph(nn.Module):
    """What the file computes from uint8 images [N, H, W, 3]: the outputs that `output_names` names."""

    weights: Tensor

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.model = trained.model
        self.makes_codes = trained.recipe.latent == "bernoulli"
        self.has_classes = bool(trained.classes)
        self.output_names = ["code", "logits"] if self.makes_codes else ["features"]
        self.output_names += ["class_logits"] if self.has_classes else []
        # Most significant bit first. Floats, because few providers reduce bytes; 255 is exact even in bf16.
        self.register_buffer("weights", 2.0 ** torch.arange(7, -1, -1))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        h = self.model.features(image.permute(0, 3, 1, 2).float() / 255)
        outputs: list[Tensor] = []
        if self.makes_codes:
            logits = self.model.logits(h)
            bits = (logits >= 0).float().reshape(-1, logits.shape[1] // 8, 8)
            outputs += [(bits * self.weights).sum(-1).to(torch.uint8), logits]
        else:
            outputs.append(h)
        if self.has_classes:
            assert isinstance(self.model, Classifier | StochCon)
            outputs.append(self.model.class_logits(h))
        return tuple(outputs)


def export(
    run: Path,
    path: Path,
    *,
    name: str,
    version: str = "1",
    data: str = "",
    licence: str = "",
    metrics: dict[str, float] | None = None,
) -> tuple[ModelManifest, Parity]:
    """Write the model of `run` to `path` and check it against PyTorch.

    Raises ValueError for a run without a checkpoint, a folder that is not there or a card that is not
    valid, RuntimeError if the file does not compute what the model does.
    """
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}: make it, or write the file elsewhere")
    trained = load_run(run)
    recipe, model = trained.recipe, trained.model
    fuse_batchnorm(model)
    _round_weights(model)
    graph = ExportedGraph(trained).eval()
    card = recipe.to_dict()
    if trained.finetuning is not None:
        card["finetuning"] = asdict(trained.finetuning)
    try:
        manifest = ModelManifest(
            name=name,
            version=version,
            num_bits=recipe.num_bits if graph.makes_codes else model.backbone.num_features,
            preprocessing=recipe.preprocessing,
            latent=recipe.latent,
            recipe=card,
            data=data,
            metrics=metrics or {},
            labels=trained.classes or None,
            licence=licence,
            created=datetime.now(UTC).replace(microsecond=0),
        )
    except ValidationError as exc:
        wrong = exc.errors()[0]
        field = wrong["loc"][0]
        raise ValueError(f"{field} is {wrong['input']!r}: {wrong['msg']}; give another --{field}") from exc
    side = recipe.image_size
    encoded = _to_onnx(graph, side, manifest)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(encoded)
    parity = check_parity(partial, graph, side)
    if not parity.max_error <= _MAX_ERROR:  # said so that nan, of weights that are not finite, fails too
        raise RuntimeError(
            f"{partial} differs from PyTorch by {parity.max_error:.3g} in an output, and {_MAX_ERROR:g} is "
            "allowed: the export is wrong, and the file has been left for inspection"
        )
    partial.replace(path)
    return manifest, parity


@torch.no_grad()
def check_parity(path: Path, graph: ExportedGraph, side: int, count: int = 32) -> Parity:
    """Compare the file, run by onnxruntime, with PyTorch on `count` random images.

    The class logits of an image whose bits differ are not compared: a layer that reads bits sees the flip.
    Raises RuntimeError if a code is not the packed signs of its own logits.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    theirs = dict(zip(graph.output_names, session.run(graph.output_names, {"image": images}), strict=True))
    ours = {
        name: output.numpy()
        for name, output in zip(graph.output_names, graph(torch.from_numpy(images)), strict=True)
    }
    flipped = np.zeros(count, np.int64)
    num_bits = 0
    if graph.makes_codes:
        if not np.array_equal(theirs["code"], pack_logits(theirs["logits"])):
            raise RuntimeError(f"{path} packs codes that are not the signs of its logits")
        flipped = active_bits(theirs["code"] ^ ours["code"])
        num_bits = theirs["logits"].size
    errors = [
        _largest_difference(theirs[name], ours[name], flipped == 0 if name == "class_logits" else None)
        for name in graph.output_names
        if name != "code"
    ]
    # np.max, since max() may pass over a nan.
    return Parity(float(np.max(errors)), int(flipped.sum()), num_bits)


def _largest_difference(
    theirs: npt.NDArray[np.float32], ours: npt.NDArray[np.float32], rows: npt.NDArray[np.bool_] | None = None
) -> float:
    """Over these rows, or all; nan where either is not finite."""
    with np.errstate(invalid="ignore"):
        differences = np.abs(theirs - ours)
    return float(np.max(differences if rows is None else differences[rows], initial=0))


def _round_weights(model: nn.Module) -> None:
    """Round to float16 what will be stored so, which makes the parity check exact about the rest."""
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and tensor.numel() >= _FLOAT16_FROM:
            tensor.copy_(tensor.half().float())


def _to_onnx(graph: ExportedGraph, side: int, manifest: ModelManifest) -> bytes:
    import onnx

    # The exporter warns of its own deprecated calls, and of torchvision, which is not used.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph,
            (torch.zeros(2, side, side, 3, dtype=torch.uint8),),
            input_names=["image"],
            output_names=graph.output_names,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # None only when a file is written directly.
    model = program.model_proto
    _strip(model.graph)
    _store_float16(model.graph)
    onnx.helper.set_model_props(model, {MANIFEST_KEY: manifest.model_dump_json()})
    onnx.checker.check_model(model)
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


def _strip(graph: Any) -> None:
    """Remove what the exporter notes about the source code, paths of this machine among it."""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    graph.doc_string = ""


def _store_float16(graph: Any) -> None:
    """Store large float32 tensors as float16, cast back where the graph starts."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _FLOAT16_FROM:
            continue
        values = numpy_helper.to_array(tensor).astype(np.float16)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values, f"{name}_float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *copy.deepcopy(list(graph.node))]
    del graph.node[:]
    graph.node.extend(nodes)

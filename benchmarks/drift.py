"""How many bits of a code depend on how it was made: decoder and scaled decode by precision and provider.

    python -m benchmarks.drift --photos DIR --model models/starter.onnx [--calibration DIR] [--json FILE]

The reference is Pillow's full decode and resize (`contracts.pixels.load_pixels`) and the model in fp32 on
plain CPU. Each other way is compared with it over the photos: mean and 99th percentile of flipped bits, and
what they do to a search: queries are the photos cropped to half their area and saved as JPEG of quality 60,
made into codes the other way, and the gallery is the photos, coded the reference way, as in a store whose
items were written before the setting changed.

int8 is ONNX Runtime's static quantisation (QDQ, signed, per channel) calibrated on `--calibration` photos,
fp16 its conversion of the whole graph. bf16 is what matrix units compute, on any processor: what goes into a
convolution or a product is rounded to bf16, and sums are fp32. The providers compute as they choose here.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import simplejpeg
from PIL import Image

from benchmarks.edits import crop, in_turn, jpeg
from contracts.codes import Codes
from contracts.errors import BackendUnavailable
from contracts.manifest import Preprocessing
from contracts.model_file import read_manifest
from contracts.pixels import Pixels, load_pixels, resize
from service.encoding.decode import OVERSAMPLING, Decoder, ImageLimits
from service.encoding.resize import Resizer
from service.encoding.session import open_session

_BATCH = 16

Decode = Callable[[bytes], Pixels]
Run = Callable[[Pixels], Codes]


@dataclass(frozen=True, slots=True)
class Drift:
    """What another way to make codes changes."""

    decoder: str
    precision: str
    mean_bits: float
    p99_bits: float
    recall_at_1: float

    def cell(self) -> str:
        return f"{self.mean_bits:.1f} / {self.p99_bits:.0f} / {self.recall_at_1:.3f}"


def decoders(preprocessing: Preprocessing) -> Iterator[tuple[str, Decode]]:
    """Ways from a JPEG file to pixels, the reference first."""
    resizer = Resizer(preprocessing)

    def full(data: bytes) -> Pixels:
        return resize(Image.fromarray(simplejpeg.decode_jpeg(data, "RGB")), preprocessing)

    def full_fast(data: bytes) -> Pixels:
        return resizer(simplejpeg.decode_jpeg(data, "RGB"))

    yield "Pillow", lambda data: load_pixels(data, preprocessing)
    yield "libjpeg-turbo in full, Pillow's resize", full
    yield "libjpeg-turbo in full, fast resize", full_fast
    for oversampling in (3.0, OVERSAMPLING, 1.5, 1.0):
        which = " (the service)" if oversampling == OVERSAMPLING else ""
        decoder = Decoder(preprocessing, ImageLimits(), oversampling)
        yield f"scaled decode at {oversampling} times the size{which}", decoder.decode


def precisions(
    model: Path, calibration: Sequence[Pixels], folder: Path
) -> Iterator[tuple[str, Run | BackendUnavailable]]:
    """Ways from pixels to codes, the reference first, or why there is none here."""
    manifest = read_manifest(model)
    yield "fp32", _runtime(model)
    for provider in ("openvino", "cuda"):
        try:
            session = open_session(model, manifest, provider)
        except BackendUnavailable as exc:
            yield provider, exc
            continue
        yield session.provider, lambda pixels, session=session: session.run(pixels)[0]
    yield "bf16", _runtime(_to_bf16(model, folder))
    yield "fp16", _runtime(_to_fp16(model, folder))
    yield "int8", _runtime(_to_int8(model, calibration, folder))


def _runtime(path: Path) -> Run:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["code"], {"image": pixels})[0]


def _to_bf16(model: Path, folder: Path) -> Path:
    import onnx

    loaded, path = onnx.load(model), folder / "bf16.onnx"
    nodes = []
    for node in loaded.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            for place, name in enumerate(node.input[:2]):
                narrow, rounded = (f"{name} {node.name} {place} {kind}" for kind in ("bf16", "rounded"))
                nodes.append(onnx.helper.make_node("Cast", [name], [narrow], to=onnx.TensorProto.BFLOAT16))
                nodes.append(onnx.helper.make_node("Cast", [narrow], [rounded], to=onnx.TensorProto.FLOAT))
                node.input[place] = rounded
        nodes.append(node)
    del loaded.graph.node[:]
    loaded.graph.node.extend(nodes)
    onnx.save(loaded, path)
    return path


def _to_fp16(model: Path, folder: Path) -> Path:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    path = folder / "fp16.onnx"
    onnx.save(convert_float_to_float16(onnx.load(model), keep_io_types=True), path)
    return path


def _to_int8(model: Path, calibration: Sequence[Pixels], folder: Path) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._pixels = iter(calibration)

        def get_next(self) -> dict[str, Pixels] | None:
            pixels = next(self._pixels, None)
            return None if pixels is None else {"image": pixels[None]}

    prepared, path = folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(path), Reader(), per_channel=True, weight_type=QuantType.QInt8, reduce_range=True
    )
    return path


def run_all(run: Run, pixels: Sequence[Pixels]) -> Codes:
    """Codes [n, bytes]."""
    batches = (np.stack(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH))
    return np.concatenate([run(batch) for batch in batches])


def compare(codes: Codes, asked: Codes, reference: Codes) -> tuple[float, float, float]:
    """Mean and 99th percentile of flipped bits, and recall@1.

    `codes` and `asked` are of the photos and of their edits, `reference` is the gallery's.
    """
    flipped = np.bitwise_count(codes ^ reference).sum(axis=1)
    distances: npt.NDArray[np.int64] = np.stack(
        [np.bitwise_count(query ^ reference).sum(axis=1) for query in asked]
    )
    found = distances.argmin(axis=1) == np.arange(len(asked))
    return float(flipped.mean()), float(np.percentile(flipped, 99)), float(found.mean())


def main() -> None:
    """Print a table in Markdown, and write the figures if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="folder of .jpg files")
    parser.add_argument("--calibration", type=Path, help="folder of .jpg files for int8; else the photos")
    parser.add_argument("--num-calibration", type=int, default=64)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    preprocessing = read_manifest(options.model).preprocessing
    photos = [path.read_bytes() for path in sorted(options.photos.glob("*.jpg"))]
    edited = [_edit(data, number) for number, data in enumerate(photos)]
    calibrating = sorted((options.calibration or options.photos).glob("*.jpg"))[: options.num_calibration]
    calibration = [load_pixels(path.read_bytes(), preprocessing) for path in calibrating]

    drifts: list[Drift] = []
    with tempfile.TemporaryDirectory() as folder:
        ways = list(precisions(options.model, calibration, Path(folder)))
        runs = [(name, run) for name, run in ways if not isinstance(run, BackendUnavailable)]
        print(f"{options.model.name}, {len(photos)} photos; flipped bits, mean / p99 / recall@1 of edits\n")
        print(f"| decoder | {' | '.join(name for name, _ in runs)} |\n|---{'|---' * len(runs)}|", flush=True)
        reference: Codes | None = None
        for decoder, decode in decoders(preprocessing):
            ours, theirs = ([decode(data) for data in files] for files in (photos, edited))
            row = []
            for precision, run in runs:
                codes = run_all(run, ours)
                reference = codes if reference is None else reference
                row.append(Drift(decoder, precision, *compare(codes, run_all(run, theirs), reference)))
            print(f"| {decoder} | {' | '.join(drift.cell() for drift in row)} |", flush=True)
            drifts += row
    for name, run in ways:
        if isinstance(run, BackendUnavailable):
            print(f"\nnot measured: {name}: {run}")
    if options.json:
        options.json.write_text(json.dumps([asdict(drift) for drift in drifts], indent=1) + "\n")


def _edit(data: bytes, number: int) -> bytes:
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    change = in_turn(crop(0.5), jpeg(60))
    changed = change(image, np.random.default_rng([0, number]), image)
    file = io.BytesIO()
    changed.save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    main()

"""Reading and editing the manifest of an ONNX file, and the model's id, without the onnx package.

An ONNX file is one protobuf `ModelProto`. Only its top level is walked here, so the graph's bytes are
neither parsed nor rewritten: a card can be edited without touching a weight, and the service, which
has no onnx package, can tell one model from another.

Field numbers are those of onnx.proto3: graph = 7, opset_import = 8, metadata_props = 14 (key = 1,
value = 2), functions = 25.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from contracts.errors import InvalidModel
from contracts.manifest import MANIFEST_KEY, ModelManifest

SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "models"
"""Where the models that ship lie: beside the packages."""

_GRAPH, _OPSETS, _METADATA, _FUNCTIONS = 7, 8, 14, 25
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_manifest(path: Path) -> ModelManifest:
    """The manifest inside the ONNX file. Raises InvalidModel if there is none or it is not valid."""
    return _manifest(_read(path), path)


def model_id(path: Path) -> str:
    """SHA-256, in hex, over graph, weights and preprocessing of the ONNX file.

    The card (name, metrics, licence, ...) is left out. Raises InvalidModel for other files.
    """
    return read_model(path)[1]


def read_model(path: Path) -> tuple[ModelManifest, str]:
    """Manifest and id, with the file read once. Raises InvalidModel."""
    model = _read(path)
    manifest = _manifest(model, path)
    digest = hashlib.sha256(manifest.identity())
    for number, wire, value in _fields(model, path):
        if number in (_GRAPH, _OPSETS, _FUNCTIONS) and wire == _BYTES:
            digest.update(number.to_bytes(1, "little") + len(value).to_bytes(8, "little"))
            digest.update(value)
    return manifest, digest.hexdigest()


def write_manifest(path: Path, manifest: ModelManifest) -> None:
    """Put `manifest` into the ONNX file in place of the one it has, atomically, graph untouched."""
    kept = bytearray()
    for number, wire, value in _fields(_read(path), path):
        if number == _METADATA and _entry(value, path)[0] == MANIFEST_KEY:
            continue
        kept += _encode_field(number, wire, value)
    entry = _encode_field(1, _BYTES, memoryview(MANIFEST_KEY.encode()))
    entry += _encode_field(2, _BYTES, memoryview(manifest.model_dump_json().encode()))
    kept += _encode_field(_METADATA, _BYTES, memoryview(entry))
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as file:
        file.write(kept)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _manifest(model: memoryview, path: Path) -> ModelManifest:
    for number, _, value in _fields(model, path):
        if number == _METADATA:
            key, text = _entry(value, path)
            if key == MANIFEST_KEY:
                return ModelManifest.from_json(text)
    raise InvalidModel(
        f"{path} has no {MANIFEST_KEY} among its metadata: it was not made by `stochcon export`"
    )


def _read(path: Path) -> memoryview:
    try:
        return memoryview(path.read_bytes())
    except OSError as exc:
        raise InvalidModel(f"cannot read the model {path}: {exc.strerror}") from exc


def _entry(entry: memoryview, path: Path) -> tuple[str, str]:
    fields = {number: bytes(value) for number, _, value in _fields(entry, path)}
    try:
        return fields.get(1, b"").decode(), fields.get(2, b"").decode()
    except UnicodeDecodeError as exc:
        raise InvalidModel(f"{path} has metadata that is not UTF-8: the file is damaged") from exc


def _fields(message: memoryview, path: Path) -> Iterator[tuple[int, int, memoryview]]:
    """Top-level (field number, wire type, value bytes) of a protobuf message."""
    damaged = InvalidModel(f"{path} is not an ONNX file, or is damaged: copy or export it again")
    position = 0
    while position < len(message):
        tag, position = _varint(message, position, damaged)
        number, wire = tag >> 3, tag & 7
        start = position
        if wire == _VARINT:
            _, position = _varint(message, position, damaged)
        elif wire == _BYTES:
            length, start = _varint(message, position, damaged)
            position = start + length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
        else:
            raise damaged
        if number == 0 or position > len(message):
            raise damaged
        yield number, wire, message[start:position]


def _varint(message: memoryview, position: int, damaged: InvalidModel) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise damaged


def _encode_field(number: int, wire: int, value: memoryview) -> bytes:
    header = _encode_varint(number << 3 | wire)
    if wire == _BYTES:
        header += _encode_varint(len(value))
    return header + bytes(value)


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)

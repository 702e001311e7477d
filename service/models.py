"""The folder of model files: which there are, and which one is in use."""

import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InvalidModel, NotFound
from contracts.manifest import ModelManifest
from contracts.model_file import read_model
from index.files import translated_files, write_durably
from index.protocol import ModelRef
from service.encoding.session import require_codes


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model that lies in a file."""

    path: Path
    manifest: ModelManifest
    id: str

    @property
    def makes_codes(self) -> bool:
        """Whether it can be served; others export features for evaluation."""
        return self.manifest.latent == "bernoulli"

    def ref(self, provider: str = "") -> ModelRef:
        """The model as collections know it."""
        return ModelRef(self.id, self.manifest.name, self.manifest.num_bits, provider)


@dataclass(frozen=True, slots=True)
class ModelListing:
    """What a folder holds."""

    models: list[ModelFile]
    """Newest first."""
    faults: dict[str, str]
    """What is wrong with the files that are no models, or a second time the same, by file name."""


class ModelFolder:
    """The `*.onnx` files of one folder. Safe to use from many threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        # A model's id is a hash over the whole file, so a file is read again only when it has changed.
        self._read: dict[Path, tuple[tuple[int, int], ModelFile]] = {}

    def list(self) -> ModelListing:
        """All models, newest first, with what is wrong with files that are none.

        An id says which network a file holds, not which card it carries. Of several files with one id
        the first is the model, one that makes codes before one that does not; the others are faults.
        """
        models, faults = self._read_all()
        first: dict[str, ModelFile] = {}
        for model in sorted(
            models, key=lambda model: not model.makes_codes
        ):  # Stable: the newest stay first.
            kept = first.setdefault(model.id, model)
            if kept is not model:
                faults[model.path.name] = (
                    f"{model.path} holds the same network as {kept.path}, which is used in its place "
                    f"(id {model.id[:12]}): remove one of them"
                )
        return ModelListing([model for model in models if first[model.id] is model], faults)

    def get(self, model_id: str) -> ModelFile:
        """The model of that id. Raises NotFound."""
        for model in self.list().models:
            if model.id == model_id:
                return model
        raise NotFound(
            f"there is no model with the id {model_id!r} in {self.path}: list them with GET /models"
        )

    def select(self, wanted: str | None) -> ModelFile:
        """The model of that path, id or name (the newest of the name), or the newest that makes codes.

        Raises NotFound if there is none, InvalidModel if it makes no codes.
        """
        if wanted is not None and (wanted.endswith(".onnx") or "/" in wanted):
            model = self.read(Path(wanted))
        else:
            model = self._find(wanted)
        try:
            require_codes(model.manifest)
        except InvalidModel as exc:
            raise InvalidModel(f"{model.path}: {exc}") from exc
        return model

    def read(self, path: Path) -> ModelFile:
        """One model file. Raises InvalidModel."""
        try:
            stat = path.stat()
        except OSError as exc:
            raise InvalidModel(f"cannot read the model {path}: {exc.strerror}") from exc
        version = (stat.st_mtime_ns, stat.st_size)
        with self._lock:
            known = self._read.get(path)
        if known is not None and known[0] == version:
            return known[1]
        manifest, model_id = read_model(path)
        model = ModelFile(path, manifest, model_id)
        with self._lock:
            self._read[path] = (version, model)
        return model

    def add(self, name: str, content: bytes, check: Callable[[Path], str]) -> ModelFile:
        """Put a model into the folder, as a file that is called so and by its id, once `check` has passed it.

        `check` is given a file with the content and returns the model's id. A model that is there already is
        left as it is. Raises what `check` raises, and BackendUnavailable if the folder cannot be written.
        """
        with translated_files(self.path), tempfile.TemporaryDirectory() as elsewhere:
            candidate = Path(elsewhere) / f"{name}.onnx"
            candidate.write_bytes(content)
            model_id = check(candidate)
            with suppress(NotFound):
                return self.get(model_id)
            self.path.mkdir(parents=True, exist_ok=True)
            path = self.path / f"{name}-{model_id[:12]}.onnx"
            write_durably(path, content)
        return self.read(path)

    def delete(self, model_id: str) -> None:
        """Delete a model's file. Raises NotFound, BackendUnavailable."""
        path = self.get(model_id).path
        with translated_files(path):
            path.unlink()

    def _read_all(self) -> tuple[Sequence[ModelFile], dict[str, str]]:
        """All files, newest first, and what is wrong with those that are no models, by name."""
        models: list[ModelFile] = []
        faults: dict[str, str] = {}
        for path in sorted(self.path.glob("*.onnx")):
            try:
                models.append(self.read(path))
            except InvalidModel as exc:
                faults[path.name] = str(exc)
        models.sort(key=lambda model: (model.manifest.created, model.id), reverse=True)
        return models, faults

    def _find(self, wanted: str | None) -> ModelFile:
        if not self.path.is_dir():
            raise NotFound(
                f"{self.path} is not a folder: name the folder of the models with --models, or one file "
                "with --model"
            )
        models, faults = self._read_all()
        found = [model for model in models if wanted is None or wanted in (model.id, model.manifest.name)]
        able = [model for model in found if model.makes_codes]
        if able:
            return able[0]
        if found and wanted is not None:
            return found[0]  # Named, so that the caller can say what is wrong with it.
        there = ", ".join(model.manifest.name for model in models) or "none"
        broken = "".join(f"; {fault}" for fault in faults.values())
        what = f"no model {wanted!r}" if wanted else "no model that makes codes"
        raise NotFound(
            f"there is {what} in {self.path} (models there: {there}{broken}): choose another with --model or "
            "--models, or make one with `stochcon train` and `stochcon export`"
        )

"""Putting another model into use: checked, every collection encoded again with it, and all switched at once.

1. The model is checked in a process of its own, then loaded beside the active one.
2. Each collection gets another generation, which workers fill from the items' sources. Searches and writes go
   on meanwhile; images that are written reach both generations.
3. What could not be encoded again is counted: its source is gone, or it came without one. Somebody decides.
4. All collections and the model switch in one moment. The generations before are kept for the way back.

`activation.json` in the data folder says how far it is, so that it goes on after a restart. A kill at any
point leaves the old generations in use, or the new ones: what decides is one file, `index.generations`.
"""

import json
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import structlog

from contracts.errors import BackendUnavailable, JobConflict, NotFound, StochConError
from index.protocol import ModelRef
from service.encoding.session import require_codes
from service.engine import Engine
from service.jobs.job import Job, JobSpec
from service.jobs.ledger import Ledger
from service.model_check import ModelCheck, check_in_fresh_process
from service.models import ModelFile
from service.settings import Settings

FILE_NAME = "activation.json"
POLL_S = 0.5

State = Literal["checking", "encoding", "waiting", "done", "failed", "cancelled"]
"""`waiting`: items would be left out, and nobody has said yet what to do with them."""

OPEN_STATES: tuple[State, ...] = ("checking", "encoding", "waiting")

Policy = Literal["ask", "leave-out", "keep"]
"""What is to become of items that cannot be encoded again: wait for a decision, go on without them, or keep
the old generation of the collections that have any."""

_log = structlog.get_logger("service")


@dataclass(frozen=True, slots=True)
class Activation:
    """How far it is."""

    model: str
    """Id of the model that is being activated."""
    previous: str
    """Id of the model that was active before."""
    missing: Policy
    state: State = "checking"
    jobs: Mapping[str, str] = field(default_factory=dict)
    """Job that encodes again, by collection."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Items that could not be encoded again, by collection; the failures of its job say why."""
    check: Mapping[str, Any] | None = None
    """What the check in a fresh process found; see `service.model_check.ModelCheck`."""
    reason: str | None = None
    """Why it failed."""

    @property
    def is_open(self) -> bool:
        """Whether anything is still to come."""
        return self.state in OPEN_STATES


Change = Callable[[Callable[[], Any]], Any]
"""Does what it is given while no request depends on the model."""


class Activations:
    """One activation at a time, in a thread of its own."""

    def __init__(self, engine: Engine, ledger: Ledger, settings: Settings, change: Change) -> None:
        self._engine = engine
        self._ledger = ledger
        self._settings = settings
        self._change = change
        self._path = settings.data / FILE_NAME
        self._lock = threading.Lock()
        self._current = _read(self._path)
        self._told = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> Activation | None:
        """The activation that is under way, or the last one."""
        return self._current

    def resume(self) -> None:
        """Go on with what was under way when the service stopped. Returns with the model loaded."""
        current = self._current
        if current is None or not current.is_open:
            return
        if current.state != "checking":
            try:
                self._engine.load_successor(self._engine.models.get(current.model))
            except StochConError as exc:
                self._update(state="failed", reason=str(exc))
                return
        self._begin()

    def activate(self, model_id: str, missing: Policy) -> Activation:
        """Begin to activate a model, or say what is to become of the items that it would leave out.

        Raises NotFound, InvalidModel for one that makes no codes, and JobConflict if the model is active or
        another is being activated.
        """
        with self._lock:
            current = self._current
            if current is not None and current.is_open:
                if current.model != model_id:
                    raise JobConflict(
                        f"the model {current.model[:12]} is being activated: wait for it, or cancel it first"
                    )
                is_decided = current.state == "waiting" and missing != "ask"
                self._update(missing=missing, state="encoding" if is_decided else current.state)
            else:
                model = self._engine.models.get(model_id)
                require_codes(model.manifest)
                if model.id == self._engine.active.id and not self._behind(model.id):
                    raise JobConflict(f"the model {model.manifest.name} ({model.id[:12]}) is active already")
                self._write(Activation(model.id, self._engine.active.id, missing))
                self._begin()
            self._told.set()
            assert self._current is not None
            return self._current

    def cancel(self, model_id: str) -> Activation:
        """Give up the activation of a model; what was encoded is kept for the next try.

        Raises JobConflict if it is not being activated.
        """
        with self._lock:
            current = self._current
            if current is None or not current.is_open or current.model != model_id:
                raise JobConflict(f"the model {model_id[:12]} is not being activated")
            self._update(state="cancelled")
            self._told.set()
        self._join()
        for job_id in current.jobs.values():
            self._cancel_job(job_id)
        assert self._current is not None
        return self._current

    def rollback(self, model_id: str) -> Activation:
        """Go back from the active model to the one before it, at once.

        Items that were written since cannot be in the old generation: `left_out` counts them. Activating the
        old model again, instead, encodes them first. Raises NotFound if the old model's file is gone, and
        JobConflict if the model is not active, if there is none before it, or while another is activated.
        """
        with self._lock:
            active = self._engine.active.id
            if active != model_id:
                raise JobConflict(f"the model {model_id[:12]} is not active: {active[:12]} is")
            current = self._current
            if (
                current is None
                or current.state != "done"
                or current.model != active
                or current.previous == active
            ):
                raise JobConflict(f"there is no model to go back to from {active[:12]}")
            previous = self._engine.models.get(current.previous)
            names = [
                name
                for name in self._names()
                if (other := self._engine.store.other_model(name)) is not None and other.id == previous.id
            ]
            self._engine.load_successor(previous)
            left_out = {name: count for name in names if (count := self._engine.others.num_missing(name))}
            self._change(lambda: self._engine.switch(names))
            self._write(Activation(previous.id, active, "leave-out", "done", left_out=left_out))
            assert self._current is not None
            return self._current

    def add(self, name: str, content: bytes) -> ModelFile:
        """Put a model into the folder, as a file of that name. Raises InvalidModel, BackendUnavailable.

        A model that is there already is left as it is, and returned.
        """
        folder = self._engine.models.path
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part") as partial:
                partial.write(content)
                partial.flush()
                os.fsync(partial.fileno())
                path = Path(partial.name)
                found = check_in_fresh_process(path, self._settings.provider, self._settings.threads)
                for model in self._engine.models.list().models:
                    if model.id == found.id:
                        return model
                final = folder / f"{name}-{found.id[:12]}.onnx"
                os.link(path, final)
        except OSError as exc:
            raise BackendUnavailable(
                f"the model cannot be written into {folder} ({exc.strerror}): choose a folder that can be "
                "written with --models"
            ) from exc
        final.chmod(0o644)
        return self._engine.models.read(final)

    def delete(self, model_id: str) -> None:
        """Delete a model's file from the folder. Raises NotFound, and JobConflict if it is in use."""
        model = self._engine.models.get(model_id)
        store = self._engine.store
        users = [
            name
            for name in self._names()
            if store.model(name).id == model_id
            or ((other := store.other_model(name)) is not None and other.id == model_id)
        ]
        current = self._current
        if model_id == self._engine.active.id or (current and current.is_open and current.model == model_id):
            raise JobConflict(f"the model {model.manifest.name} ({model_id[:12]}) is in use")
        if users:
            raise JobConflict(
                f"the model {model.manifest.name} ({model_id[:12]}) is that of the collection {users[0]!r}, now "
                "or before the last switch: without it nobody could go back, nor search there by image"
            )
        try:
            model.path.unlink()
        except OSError as exc:
            raise BackendUnavailable(f"{model.path} cannot be deleted ({exc.strerror})") from exc

    def stop(self) -> None:
        """End the thread; what is under way goes on after the next start."""
        self._stopping = True
        self._told.set()
        self._join()

    def _begin(self) -> None:
        self._told.clear()
        self._thread = threading.Thread(target=self._run, name="activation", daemon=True)
        self._thread.start()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._prepare()
            while not self._is_over() and not self._round():
                pass
        except StochConError as exc:
            _log.error("a model could not be activated", reason=str(exc))
            self._update(state="failed", reason=str(exc))
        except Exception as exc:  # noqa: BLE001 - whoever waits for it must hear of it.
            _log.error("a model could not be activated", exc_info=exc)
            self._update(
                state="failed", reason="the service failed in a way that was not foreseen: see its log"
            )
        if not self._stopping and self._engine.successor is not None:
            self._change(self._engine.drop_successor)

    def _prepare(self) -> None:
        assert self._current is not None
        if self._engine.successor is not None:
            return
        model = self._engine.models.get(self._current.model)
        found: ModelCheck = check_in_fresh_process(
            model.path, self._settings.provider, self._settings.threads
        )
        self._update(check=asdict(found))
        if not self._is_over():
            self._engine.load_successor(model)

    def _round(self) -> bool:
        """Encode what is missing, and switch if that was all; whether it is over."""
        assert self._engine.successor is not None
        model = self._engine.successor.model.ref()
        names: list[str] = self._change(lambda: self._stage(model))
        others = self._engine.others
        seen = others.num_left_behind
        try:
            missing = {name: count for name in names if (count := others.num_missing(name))}
        except NotFound:
            return False  # A collection was deleted just now.
        tried = self._tried()
        if any(count > tried.get(name, 0) for name, count in missing.items()):
            self._encode({name for name, count in missing.items() if count > tried.get(name, 0)}, model)
            return False
        policy = self._decision(missing)
        if policy is None:
            return True
        switched = [name for name in names if policy == "leave-out" or name not in missing]
        kept = frozenset(names) - frozenset(switched)

        def switch() -> bool:
            if others.num_left_behind != seen or frozenset(self._behind(model.id)) != frozenset(names):
                return False
            self._engine.switch(switched)
            return True

        if not self._change(switch):
            return False
        self._update(state="done", left_out=missing)
        _log.info("a model was activated", model=model.id, collections=switched, kept=sorted(kept))
        return True

    def _stage(self, model: ModelRef) -> list[str]:
        names = self._behind(model.id)
        for name in names:
            self._engine.store.stage(name, model)
        return names

    def _encode(self, names: set[str], model: ModelRef) -> None:
        """Have workers encode what is missing of those collections, and wait until they have."""
        assert self._current is not None
        running = {name: job for name, job in self._jobs().items() if job.is_open}
        jobs = dict(self._current.jobs)
        for name in sorted(names - running.keys()):
            spec = JobSpec(source=f"collection:{name}", collection=name, reencode=model.id)
            jobs[name] = self._ledger.submit(spec).id
        self._update(state="encoding", jobs=jobs)
        while not self._is_over():
            found = self._jobs()
            for name in found.keys() - self._names():
                self._cancel_job(found.pop(name).id)  # It was deleted, and so is what its job was to fill.
            stopped = [job for job in found.values() if job.state in ("failed", "cancelled")]
            if stopped:
                reason = stopped[0].reason or f"its job {stopped[0].id} was cancelled"
                self._update(state="failed", reason=f"collection {stopped[0].spec.collection!r}: {reason}")
            elif not any(job.is_open for job in found.values()):
                return
            self._told.wait(POLL_S)
            self._told.clear()

    def _decision(self, missing: Mapping[str, int]) -> Policy | None:
        """What is to become of items that cannot be encoded again; None if it is over before that is said."""
        while not self._is_over():
            assert self._current is not None
            if not missing:
                return "leave-out"
            if self._current.missing != "ask":
                return self._current.missing
            if self._current.state != "waiting":
                self._update(state="waiting", left_out=missing)
            self._told.wait()
            self._told.clear()
        return None

    def _tried(self) -> dict[str, int]:
        """Items that the last job of each collection could not encode."""
        return {name: job.counts.failed for name, job in self._jobs().items() if job.state == "done"}

    def _jobs(self) -> dict[str, Job]:
        assert self._current is not None
        return {name: self._ledger.job(job_id) for name, job_id in self._current.jobs.items()}

    def _names(self) -> list[str]:
        return [info.name for info in self._engine.collections()]

    def _behind(self, model_id: str) -> list[str]:
        """Collections that are bound to another model."""
        return [info.name for info in self._engine.collections() if info.model.id != model_id]

    def _is_over(self) -> bool:
        return self._stopping or self._current is None or not self._current.is_open

    def _cancel_job(self, job_id: str) -> None:
        try:
            self._ledger.cancel(job_id)
        except (JobConflict, NotFound):
            return  # It is over.

    def _update(self, **changes: Any) -> None:
        assert self._current is not None
        if self._current.is_open:
            self._write(replace(self._current, **changes))

    def _write(self, activation: Activation) -> None:
        partial = self._path.with_suffix(".part")
        with partial.open("wb") as file:
            file.write(json.dumps(asdict(activation)).encode())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._path)
        self._current = activation


def _read(path: Path) -> Activation | None:
    try:
        return Activation(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None

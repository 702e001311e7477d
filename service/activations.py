"""Putting another model into use: checked, every collection encoded again with it, and all switched at once.

1. The model is checked in a process of its own, then loaded beside the active one.
2. Each collection gets another generation, which workers fill from the items' sources. Searches and writes go
   on meanwhile; images that are written reach both generations.
3. What could not be encoded again is counted: its source is gone, or it came without one. Somebody decides.
4. All collections and the model switch in one moment. The generations before are kept for the way back.

`activation.json` in the data folder says how far it is, so that it goes on after a restart. A kill at any
point leaves the old generations in use, or the new ones: what decides is one file, `index.generations`.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

import structlog

from contracts.errors import BackendUnavailable, Conflict, NotFound, StochConError
from index.protocol import ModelRef
from service.activation_record import FILE_NAME, Activation, ActivationRecord, Policy
from service.encoding.session import require_codes
from service.engine import Engine
from service.jobs.job import Job, JobSpec
from service.jobs.ledger import Ledger
from service.model_check import check_in_fresh_process
from service.settings import Settings
from service.successor import Late, has_source

POLL_S = 0.5
_STOP_S = 5.0

_log = structlog.get_logger("service")

T = TypeVar("T")

Change = Callable[[Callable[[], Any]], Any]
"""Does what it is given while no request depends on the model."""


class Activations:
    """One activation at a time, in a thread of its own."""

    def __init__(self, engine: Engine, ledger: Ledger, settings: Settings, change: Change) -> None:
        """Raises BackendUnavailable if the file in which it is kept cannot be read."""
        self._engine = engine
        self._others = engine.writes.others
        self._ledger = ledger
        self._settings = settings
        self._change = change
        self._record = ActivationRecord(settings.data / FILE_NAME)
        self._command_lock = threading.Lock()
        self._told = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> Activation | None:
        """The activation that is under way, or the last one."""
        return self._record.current

    def resume(self) -> None:
        """Go on with what was under way when the service stopped. Returns with the model loaded."""
        current = self._record.current
        if current is None or not current.is_open:
            return
        if current.state != "checking":
            try:
                self._engine.load_successor(self._engine.models.get(current.model))
            except StochConError as exc:
                self._record.update(state="failed", reason=str(exc))
                return
        self._begin()

    def activate(self, model_id: str, missing: Policy) -> Activation:
        """Begin to activate a model, or say what is to become of the items that it would leave out.

        Raises NotFound, InvalidModel for one that makes no codes, and Conflict if the model is active or
        another is being activated.
        """
        with self._commanding():
            current = self._record.current
            if current is not None and current.is_open:
                if current.model != model_id:
                    raise Conflict(
                        f"the model {current.model[:12]} is being activated: wait for it, or cancel it first"
                    )
                return self._decide(missing)
            self._check_idle()
            model = self._engine.models.get(model_id)
            require_codes(model.manifest)
            if model.id == self._engine.active.id and not self._others.behind(model.id):
                raise Conflict(f"the model {model.manifest.name} ({model.id[:12]}) is active already")
            begun = self._record.write(Activation(model.id, self._engine.active.id, missing))
            self._begin()
            return begun

    def cancel(self, model_id: str) -> Activation:
        """Give up the activation of a model; what was encoded is kept for the next try.

        Raises Conflict if it is not being activated.
        """
        with self._commanding():
            current = self._record.current
            if current is None or not current.is_open or current.model != model_id:
                raise Conflict(f"the model {model_id[:12]} is not being activated")
            cancelled = self._record.update(state="cancelled")
            self._told.set()
            return cancelled

    def rollback(self, model_id: str) -> Activation:
        """Go back from the active model to the one before it, as soon as that is loaded.

        Items that were written since cannot be in the old generation: `left_out` counts them. Activating the
        old model again, instead, encodes them first. Raises NotFound if the old model's file is gone, and
        Conflict if the model is not active, if there is none before it, or while another is activated.
        """
        with self._commanding():
            active = self._engine.active.id
            if active != model_id:
                raise Conflict(f"the model {model_id[:12]} is not active: {active[:12]} is")
            if self._record.current is not None and self._record.current.is_open:
                raise Conflict(
                    f"the model {self._record.current.model[:12]} is being activated: cancel it first"
                )
            self._check_idle()
            previous = self._previous()
            if previous is None:
                raise Conflict(f"there is no model to go back to from {active[:12]}")
            names = self._others.of_model(previous)
            self._engine.load_successor(self._engine.models.get(previous))
            try:
                counts = {name: sum(1 for _ in self._others.all_missing(name)) for name in names}
                self._change(lambda: self._engine.switch(names))
            finally:
                self._change(self._engine.drop_successor)
            left_out = {name: count for name, count in counts.items() if count}
            return self._record.write(Activation(previous, active, "leave-out", "done", left_out=left_out))

    def check_unused(self, model_id: str) -> None:
        """Raise Conflict for a model that is active, is being activated, or whose codes are kept."""
        current = self._record.current
        if model_id == self._engine.active.id or (current and current.is_open and current.model == model_id):
            raise Conflict(f"the model {model_id[:12]} is in use")
        users = [*self._others.of_model(model_id), *(set(self._names()) - set(self._others.behind(model_id)))]
        if users:
            raise Conflict(
                f"the model {model_id[:12]} is that of the collection {users[0]!r}, now or before the last "
                "switch: without it nobody could go back, nor search there by image"
            )

    def stop(self) -> None:
        """End the thread; what is under way goes on after the next start."""
        self._stopping = True
        self._told.set()
        if self._thread is not None:
            # It may be checking a model, or counting: nothing is lost if it is cut off there.
            self._thread.join(_STOP_S)

    @contextmanager
    def _commanding(self) -> Iterator[None]:
        if not self._command_lock.acquire(blocking=False):
            raise Conflict("another call is about to change the model: try again when it is done")
        try:
            yield
        finally:
            self._command_lock.release()

    def _check_idle(self) -> None:
        if self._thread is not None:
            self._thread.join(_STOP_S)
        if self._thread is not None and self._thread.is_alive():
            raise Conflict("the last activation is still being wound up: try again in a moment")

    def _decide(self, missing: Policy) -> Activation:
        with self._record.lock:
            assert self._record.current is not None
            is_decided = self._record.current.state == "waiting" and missing != "ask"
            decided = self._record.update(
                missing=missing, state="encoding" if is_decided else self._record.current.state
            )
        self._told.set()
        return decided

    def _previous(self) -> str | None:
        """Id of the model before the active one, by the generations kept or by what was done last."""
        active = self._engine.active.id
        others = {
            other.id
            for info in self._engine.collections()
            if info.model.id == active and (other := self._engine.store.other_model(info.name)) is not None
        }
        if len(others) == 1:
            return others.pop()
        current = self._record.current
        if current is None or (current.state, current.model) != ("done", active):
            return None
        return None if current.previous == active else current.previous

    def _begin(self) -> None:
        self._told.clear()
        self._thread = threading.Thread(target=self._run, name="activation", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._prepare()
            while not self._is_over() and not self._round():
                pass
        except StochConError as exc:
            _log.error("a model could not be activated", reason=str(exc))
            self._fail(str(exc))
        except Exception as exc:  # noqa: BLE001 - whoever waits for it must hear of it.
            _log.error("a model could not be activated", exc_info=exc)
            self._fail("the service failed in a way that was not foreseen: see its log")
        if self._stopping:
            return
        if self._engine.successor is not None:
            self._change(self._engine.drop_successor)
        if self._record.current is not None and self._record.current.state != "done":
            for job_id in self._record.current.jobs.values():
                self._cancel_job(job_id)

    def _prepare(self) -> None:
        assert self._record.current is not None
        loaded = self._engine.successor
        if loaded is not None and loaded.model.id == self._record.current.model:
            return
        model = self._engine.models.get(self._record.current.model)
        settings = self._settings
        found = check_in_fresh_process(model.path, settings.provider, settings.threads, self._is_over)
        self._record.update(check=asdict(found))
        if not self._is_over():
            self._engine.load_successor(model)

    def _round(self) -> bool:
        """Encode what is missing, and switch if that was all; whether it is over."""
        successor = self._engine.successor
        assert successor is not None
        if successor.encoder.failure is not None:
            raise BackendUnavailable(f"the model has stopped: {successor.encoder.failure}")
        model, others = successor.model.ref(), self._others
        self._drop_all_but(model.id)  # Which takes its time; staging does not, and requests wait for it.
        names, late = self._change(lambda: (others.stage(model), others.note_late()))
        try:
            counts = {name: self._count_missing(name, late) for name in names}
        except NotFound:
            return False  # A collection was deleted just now.
        untried = {name for name, (_, num_untried) in counts.items() if num_untried}
        if untried:
            self._encode(untried, model)
            return False
        missing = {name: num_missing for name, (num_missing, _) in counts.items() if num_missing}
        policy = self._policy
        if missing and policy == "ask":
            self._wait_for_decision(missing)
            return self._is_over()  # Else it is looked at again: that may have taken days.
        switched = [name for name in names if policy != "keep" or name not in missing]
        num_late = others.count_late(late)

        def switch() -> bool:
            left = num_late + others.count_late(late)
            held_up = late.look_again | (set() if policy == "leave-out" else set(left))
            if not held_up.isdisjoint(switched) or set(self._others.behind(model.id)) != set(names):
                return False
            with self._record.lock:
                if self._is_over():
                    return True
                if names:  # Else a kill came after the switch, and they are counted already.
                    self._record.update(left_out=dict(left + Counter(missing)))
                self._engine.switch(switched)
                done = self._record.update(state="done")
            _log.info("a model was activated", model=model.id, collections=switched, left_out=done.left_out)
            return True

        is_over: bool = self._change(switch)
        return is_over

    def _drop_all_but(self, model_id: str) -> None:
        """Give up the way back to a third model."""
        for name in self._others.behind(model_id):
            other = self._engine.store.other_model(name)
            if other is not None and other.id != model_id:
                self._engine.writes.drop_other(name)

    def _count_missing(self, name: str, late: Late) -> tuple[int, int]:
        """How many items the other generation has not, but for late ones, and how many a job has to try."""
        tried = self._tried(name)
        num_missing = num_untried = 0
        for item in self._others.all_missing(name):
            if item.id in late.without_source.get(name, ()):
                continue
            num_missing += 1
            # Once a job has listed those without a source, more are only counted: they may keep coming.
            num_untried += tried is None or (item.id not in tried and has_source(item))
            if self._is_over():
                break
        return num_missing, num_untried

    def _tried(self, name: str) -> set[str] | None:
        """Items that the last job of a collection could not encode; None if none has ended well."""
        job = self._jobs().get(name)
        if job is None or job.state != "done":
            return None
        found: set[str] = set()
        while page := self._asked(partial(self._ledger.failures, job.id, len(found), 1000)):
            found |= {failure.id for failure in page}
        return found

    def _encode(self, names: set[str], model: ModelRef) -> None:
        """Have workers encode what is missing of those collections, and wait until they have."""
        assert self._record.current is not None
        running = {name for name, job in self._jobs().items() if job.is_open}
        for name in sorted(names - running):
            spec = JobSpec(source=f"collection:{name}", collection=name, reencode=model.id)
            # If it was submitted although no answer came, the other job finds nothing left to do.
            job = self._asked(partial(self._ledger.submit, spec))
            if job is not None:
                self._record.update(state="encoding", jobs={**self._record.current.jobs, name: job.id})
        while not self._is_over():
            found = self._jobs()
            for name in found.keys() - self._names():
                self._cancel_job(found.pop(name).id)  # It was deleted, and so is what its job was to fill.
            for job in found.values():
                if job.state in ("failed", "cancelled"):
                    reason = job.reason or f"its job {job.id} was cancelled"
                    self._fail(f"collection {job.spec.collection!r}: {reason}")
            if not any(job.is_open for job in found.values()):
                return
            self._told.wait(POLL_S)
            self._told.clear()

    def _wait_for_decision(self, missing: Mapping[str, int]) -> None:
        """Wait until somebody has said what is to become of items that cannot be encoded, or it is over."""
        self._record.update(state="waiting", left_out=missing)
        while not self._is_over() and self._policy == "ask":
            self._told.wait()
            self._told.clear()

    @property
    def _policy(self) -> Policy:
        assert self._record.current is not None
        return self._record.current.missing

    def _jobs(self) -> dict[str, Job]:
        """The jobs by collection, without those that were removed."""
        assert self._record.current is not None
        found = {}
        for name, job_id in self._record.current.jobs.items():
            with suppress(NotFound):
                job = self._asked(partial(self._ledger.job, job_id))
                if job is not None:
                    found[name] = job
        return found

    def _asked(self, ask: Callable[[], T]) -> T | None:
        """What the ledger answers, however long it is away; None if all is over before."""
        while not self._is_over():
            try:
                return ask()
            except BackendUnavailable as exc:
                _log.warning("the ledger of jobs does not answer", reason=str(exc))
                self._told.wait(POLL_S)
        return None

    def _names(self) -> list[str]:
        return [info.name for info in self._engine.collections()]

    def _is_over(self) -> bool:
        return self._stopping or self._record.current is None or not self._record.current.is_open

    def _cancel_job(self, job_id: str) -> None:
        try:
            self._ledger.cancel(job_id)
        except (Conflict, NotFound):
            return  # It is over.
        except BackendUnavailable as exc:
            _log.warning("a job could not be cancelled", job=job_id, reason=str(exc))

    def _fail(self, reason: str) -> None:
        if self._stopping:
            return  # It is the end of the service that came in between: it goes on after the next start.
        try:
            self._record.update(state="failed", reason=reason)
        except BackendUnavailable as exc:
            _log.error("the activation could not be kept", reason=str(exc))

"""The worker: leases shards of jobs, does them, and says so in the ledger.

It encodes with a model of its own and hands codes to the service that owns the store. All that it knows of
a job is in the lease, so it may be killed at any moment: its leases run out, and others do the shards again,
which changes nothing that is stored already.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog

from contracts.errors import (
    BackendUnavailable,
    ModelMismatch,
    NotFound,
    Overloaded,
    RequestTimeout,
    StochConError,
    StoreCorrupt,
    StoreLocked,
    Unauthorized,
)
from service.jobs.ledger import LEASE_S, Lease, LeaseLost, Ledger
from stochcon.shards import Interrupted, Shards
from stochcon.sources.source import SourceUnavailable

POLL_S = 0.5
"""How often a worker without work asks for some."""

LONGEST_PAUSE_S = 30.0

CONCURRENCY = 2
"""Shards at once: while one begins or ends, the other keeps the model busy."""

_OUTSIDE = (
    BackendUnavailable,
    Overloaded,
    StoreLocked,
    NotFound,
    ModelMismatch,
    Unauthorized,
    RequestTimeout,
    StoreCorrupt,
)
"""What says nothing of the shard: another try, or another worker, may do it."""

_log = structlog.get_logger("worker")


@dataclass
class Worker:
    """One process's work on jobs. Made to be run once."""

    ledger: Ledger
    shards: Shards
    name: str
    concurrency: int = CONCURRENCY
    lease_s: float = LEASE_S
    idle_s: float = float("inf")
    """How long there may be nothing to do before `run` returns."""
    grace_s: float = 20.0
    """How long shards under way may take to end once told to stop; beyond, they are handed back."""
    _stopped_at: float | None = field(default=None, init=False)
    _last_busy: float = field(default_factory=time.monotonic, init=False)
    _stopping: threading.Event = field(default_factory=threading.Event, init=False)
    _turns: "_Turns" = field(default_factory=lambda: _Turns(), init=False)

    def run(self) -> None:
        """Work until told to stop, or until there has been nothing to do for `idle_s`."""
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="shard") as pool:
            for future in [pool.submit(self._work) for _ in range(self.concurrency)]:
                future.result()

    def stop(self) -> None:
        """Begin no more shards, and end those under way. Returns at once; safe in a signal handler."""
        self._stopped_at = time.monotonic()
        self._stopping.set()

    def _work(self) -> None:
        pause_s = POLL_S
        while not self._stopping.is_set():
            try:
                with self._turns.shared():
                    lease = self.ledger.lease(self.name, self.lease_s)
                    is_suspect = lease is not None and lease.attempt > 1
                    went_well = lease is None or is_suspect or self._do(lease)
                if lease is not None and is_suspect:
                    went_well = self._do_alone(lease)
            except BackendUnavailable as exc:
                _log.warning("the ledger of jobs does not answer", reason=str(exc))
                lease, went_well = None, False
            except Exception as exc:  # noqa: BLE001 - a worker outlives what nobody foresaw.
                _log.error("no shard could be leased", exc_info=exc)
                lease, went_well = None, False
            if lease is not None:
                self._last_busy = time.monotonic()
            elif went_well and time.monotonic() - self._last_busy > self.idle_s:
                return
            if went_well and lease is not None:
                pause_s = POLL_S
                continue
            self._stopping.wait(pause_s)
            pause_s = POLL_S if went_well else min(2 * pause_s, LONGEST_PAUSE_S)

    def _do(self, lease: Lease) -> bool:
        """Do a shard; False if something outside of it was in the way."""
        with self._renewed(lease) as is_lost:
            return self._do_renewed(lease, is_lost)

    def _do_alone(self, lease: Lease) -> bool:
        """Do a shard of which a worker may have died, and no other meanwhile, which would die along with it.

        What is under way is waited for. If another thread has come first, the shard is handed back.
        """
        with self._renewed(lease) as is_lost, self._turns.alone() as has_turn:
            if has_turn:
                return self._do_renewed(lease, is_lost)
            with suppress(LeaseLost):
                self.ledger.hand_back(lease)
            return True

    def _do_renewed(self, lease: Lease, is_lost: Callable[[], bool]) -> bool:
        def should_stop() -> bool:
            self._last_busy = time.monotonic()
            stopped_at = self._stopped_at
            is_late = stopped_at is not None and time.monotonic() - stopped_at > self.grace_s
            return is_late or is_lost()

        try:
            try:
                self.shards.do(self.ledger, lease, should_stop)
            except Interrupted:
                self.ledger.hand_back(lease)
            except _OUTSIDE as exc:
                _log.warning("a shard is handed back", job=lease.job_id, shard=lease.shard, reason=str(exc))
                self.ledger.hand_back(lease, str(exc))
                return False
            except (SourceUnavailable, StochConError) as exc:
                if type(exc) is StochConError:  # The service failed in a way of which it says no more.
                    _log.warning("a shard is handed back", job=lease.job_id, reason=str(exc))
                    self.ledger.hand_back(lease, str(exc))
                    return False
                self.ledger.fail(lease, str(exc))  # Whoever tries again will meet the same.
        except LeaseLost as exc:
            _log.info("a shard was lost", reason=str(exc))
        except BackendUnavailable:
            raise  # The ledger: it will be asked again.
        except Exception as exc:  # noqa: BLE001 - a worker outlives what nobody foresaw.
            # The lease is left to run out, which counts as an attempt that ended badly.
            _log.error("a shard failed", job=lease.job_id, shard=lease.shard, exc_info=exc)
            return False
        return True

    @contextmanager
    def _renewed(self, lease: Lease) -> Iterator[Callable[[], bool]]:
        """Renew a lease until the block ends; gives what says whether it was lost."""
        lost, ended = threading.Event(), threading.Event()

        def renew() -> None:
            while not ended.wait(self.lease_s / 3):
                try:
                    self.ledger.renew(lease, self.lease_s)
                except LeaseLost:
                    lost.set()
                    return
                except BackendUnavailable as exc:  # It may come back before the lease runs out.
                    _log.warning("the ledger of jobs does not answer", reason=str(exc))

        thread = threading.Thread(target=renew, name="renew")
        thread.start()
        try:
            yield lost.is_set
        finally:
            ended.set()
            thread.join()


class _Turns:
    """Either several threads at work, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._num_shared = 0
        self._is_claimed = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_claimed)
            self._num_shared += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_shared -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Waits until nobody else is at work; False, at once, if another thread is alone or waits for it."""
        with self._changed:
            has_turn = not self._is_claimed
            if has_turn:
                self._is_claimed = True
                self._changed.wait_for(lambda: not self._num_shared)
        try:
            yield has_turn
        finally:
            if has_turn:
                with self._changed:
                    self._is_claimed = False
                    self._changed.notify_all()

"""What is to be done for a shard: the scan of a source, or the indexing of some of its images; or the same
of a collection, whose items are encoded again."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from contracts.errors import StochConError
from index.protocol import Item, ModelRef
from service.jobs.job import Counts, JobFailure, JobSpec
from service.jobs.ledger import SHARD_PLACES, Lease, Ledger, Scanned, cut
from service.jobs.roots import Roots
from stochcon.encoders import Encoders, ModelEncoder
from stochcon.indexing import Indexing
from stochcon.reencoding import reencode, scan_missing
from stochcon.remote import RemoteBackend
from stochcon.results import Encoding
from stochcon.sources.cache import SourceCache
from stochcon.sources.source import Failure, Place, Source, SourceOptions, SourceUnavailable
from stochcon.sources.uris import UriReader

SCANNED_AT_ONCE = 32 * SHARD_PLACES
"""Images of a scan that are put into the ledger at once."""

MAX_FAILURES = 16 * SCANNED_AT_ONCE
"""Failures of a scan that are held until they can be put into the ledger with the next place."""

MAX_ATTEMPTS = 2
"""How often whoever works on a shard may die. Then it is cut into smaller ones, until what kills is alone."""

NUM_PARTS = 16
"""Parts that such a shard is cut into."""


_END: Place = []
"""Where a scan is that has been put into the ledger to its end."""


class Interrupted(Exception):
    """The shard was not finished, because it was asked to stop."""


@dataclass(frozen=True, slots=True)
class Shards:
    """Does shards. Safe to use from many threads."""

    store: RemoteBackend
    """The service that keeps items."""
    encoders: Encoders
    roots: Roots
    _of_thread: threading.local = field(default_factory=threading.local, init=False)

    def do(self, ledger: Ledger, lease: Lease, should_stop: Callable[[], bool]) -> None:
        """Do a leased shard and complete it.

        Raises Interrupted once `should_stop` says so, LeaseLost, SourceUnavailable, what the service and
        the model raise, and BackendUnavailable if the ledger cannot be reached.
        """
        if lease.attempt > MAX_ATTEMPTS:
            _set_aside(ledger, lease)
        elif lease.spec.reencode is not None:
            self._reencode(ledger, lease, should_stop)
        elif lease.is_scan:
            self._scan(ledger, lease, should_stop)
        else:
            self._index(ledger, lease, should_stop)

    def _scan(self, ledger: Ledger, lease: Lease, should_stop: Callable[[], bool]) -> None:
        source = self._open(lease)
        version = source.version
        places: list[Place] = []
        failures: list[JobFailure] = []
        last = lease.scanned_to
        num_before = 0  # Failures that come before the last of the places.
        if last != _END:
            for entry in source.scan(last):
                if isinstance(entry, Failure):
                    failures.append(JobFailure(entry.id, entry.reason))
                else:
                    places.append(entry.place)
                    num_before = len(failures)
                if len(places) < SCANNED_AT_ONCE and len(failures) < MAX_FAILURES:
                    continue
                # Whoever goes on after the last place comes across the failures behind it again.
                last, num_ready = (places[-1], num_before) if places else (last, len(failures))
                ledger.extend(lease, Scanned(cut(places), failures[:num_ready], last, version))
                places, failures, num_before = [], failures[num_ready:], 0
                if should_stop():
                    raise Interrupted
            ledger.extend(lease, Scanned(cut(places), failures, _END, version))
        ledger.complete(lease)

    def _index(self, ledger: Ledger, lease: Lease, should_stop: Callable[[], bool]) -> None:
        collection = lease.spec.collection
        failures: list[Failure] = []
        run = Indexing(
            _Target(self.encoders.of_id(self.store.model_of(collection).id), self.store),
            collection,
            on_progress=lambda _: None,
            on_failure=failures.append,
            should_stop=should_stop,
            should_abandon=should_stop,
            metadata=lease.spec.metadata,
        )
        run.run(self._open(lease).images(lease.places))
        if run.counts.done < len(lease.places):
            raise Interrupted
        counts = Counts(
            added=run.counts.added,
            updated=run.counts.updated,
            skipped=run.counts.unchanged,
            failed=run.counts.failed,
        )
        ledger.complete(lease, counts, [JobFailure(f.id, f.reason, f.place) for f in failures])

    def _reencode(self, ledger: Ledger, lease: Lease, should_stop: Callable[[], bool]) -> None:
        if lease.is_scan:
            if not scan_missing(ledger, lease, self.store, should_stop):
                raise Interrupted
            ledger.complete(lease)
            return
        encoder = self.encoders.of_id(str(lease.spec.reencode))
        done = reencode(lease, self.store, encoder, self._tools().reader, should_stop)
        if done is None:
            raise Interrupted
        ledger.complete(lease, *done)

    def _tools(self) -> "_Tools":
        """What this thread reads sources with; it remembers what it has opened lately."""
        if not hasattr(self._of_thread, "tools"):
            sources = SourceCache(self.roots.holds)
            self._of_thread.tools = _Tools(sources, UriReader(self.roots, sources))
        found: _Tools = self._of_thread.tools
        return found

    def _open(self, lease: Lease) -> Source:
        spec = lease.spec
        try:
            # Links may have changed since the job was submitted.
            path = self.roots.admit(spec.source)
        except StochConError as exc:
            raise SourceUnavailable(str(exc)) from exc
        source = self._tools().sources.open(path, options_of(spec))
        if lease.version is not None and source.version != lease.version:
            raise SourceUnavailable(f"{spec.source} has changed since it was scanned: submit it again")
        return source


def options_of(spec: JobSpec) -> SourceOptions:
    """How a job wants its source read."""
    return SourceOptions(
        prefix=spec.prefix,
        labels=spec.labels,
        label_column=spec.label_column,
        metadata_columns=tuple(spec.metadata_columns),
        include=tuple(spec.include),
        exclude=tuple(spec.exclude),
    )


def _set_aside(ledger: Ledger, lease: Lease) -> None:
    """Do not try a shard again whose workers die of it, or only in parts."""
    what = f"{MAX_ATTEMPTS} workers died, or gave up, at it"
    if lease.is_scan:
        ledger.fail(lease, f"the source cannot be scanned: {what}; see their logs")
    elif len(lease.places) > 1:
        ledger.divide(lease, cut(lease.places, -(-len(lease.places) // NUM_PARTS)))
    else:
        (place,) = lease.places
        failure = JobFailure(str(place), f"set aside, since {what}; see their logs", place)
        ledger.complete(lease, Counts(failed=1), [failure])


@dataclass(frozen=True, slots=True)
class _Tools:
    sources: SourceCache
    reader: UriReader


@dataclass(frozen=True, slots=True)
class _Target:
    """Encodes here, and keeps items there."""

    encoder: ModelEncoder
    store: RemoteBackend

    def encode_many(self, images: Sequence[bytes]) -> list[Encoding | StochConError]:
        return self.encoder.encode_many(images)

    def get_many(self, collection: str, ids: Sequence[str]) -> list[Item | None]:
        return self.store.get_many(collection, ids)

    def upsert(self, collection: str, items: Sequence[Item], model: ModelRef) -> None:
        self.store.upsert(collection, items, model)

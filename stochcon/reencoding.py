"""Encoding the items of a collection again, with the model that is being activated.

Their images are what the service has kept of them, or else what their URIs lead to.
"""

from collections.abc import Callable, Iterator, Sequence

from contracts.errors import NotFound, StochConError, StoreCorrupt
from index.protocol import Item
from service.jobs.job import Counts, JobFailure
from service.jobs.ledger import Lease, Ledger, Scanned, cut
from stochcon.encoders import ModelEncoder
from stochcon.remote import RemoteBackend
from stochcon.results import Encoding
from stochcon.sources.uris import UriReader

_BATCH = 64
_BATCH_BYTES = 32 * 2**20

NO_SOURCE = "it has no source: it came as a code, or as an upload to a service without --keep-originals"


def scan_missing(ledger: Ledger, lease: Lease, store: RemoteBackend, should_stop: Callable[[], bool]) -> bool:
    """Put what the new generation has not into the ledger; False if asked to stop before the end."""
    after = None if lease.scanned_to is None else str(lease.scanned_to)
    while True:
        page, after = store.missing(lease.spec.collection, after)
        last = after or (page[-1].id if page else None)
        if page:
            ledger.extend(lease, Scanned(cut([item.id for item in page]), (), last, ""))
        if after is None:
            return True
        if should_stop():
            return False


def reencode(
    lease: Lease,
    store: RemoteBackend,
    encoder: ModelEncoder,
    reader: UriReader,
    should_stop: Callable[[], bool],
) -> tuple[Counts, list[JobFailure]] | None:
    """Encode the items of a shard again; None if asked to stop before the end.

    Raises what the service and the model do.
    """
    model_id = str(lease.spec.reencode)
    ids = [str(place) for place in lease.places]
    failures: list[JobFailure] = []
    read: list[tuple[Item, bytes]] = []
    num_done = 0

    def encode_read() -> int:
        done = _sort_out(read, encoder.encode_many([data for _, data in read]), failures)
        read.clear()
        if done:
            store.fill(lease.spec.collection, model_id, done)
        return len(done)

    for start in range(0, len(ids), _BATCH):
        if should_stop():
            return None
        batch = ids[start : start + _BATCH]
        items = [item for item in store.get_many(lease.spec.collection, batch) if item is not None]
        for item, data in _read(items, lease.spec.collection, store, reader):
            if isinstance(data, str):
                failures.append(JobFailure(item.id, data, item.id))
                continue
            read.append((item, data))
            if sum(len(data) for _, data in read) > _BATCH_BYTES:
                num_done += encode_read()
        num_done += encode_read()
    num_gone = len(ids) - num_done - len(failures)  # Replaced or deleted since the scan.
    return Counts(added=num_done, skipped=num_gone, failed=len(failures)), failures


def _read(
    items: Sequence[Item], collection: str, store: RemoteBackend, reader: UriReader
) -> Iterator[tuple[Item, bytes | str]]:
    """The items with their image files, or with the reason why there is none.

    Without those that were replaced or deleted just now: they will be looked at again.
    """
    by_uri = []
    for item in items:
        reason = NO_SOURCE
        if item.original is not None:
            try:
                yield item, store.original(collection, item.id)
                continue
            except (NotFound, StoreCorrupt) as exc:
                if store.get_many(collection, [item.id]) != [item]:
                    continue
                reason = str(exc)
        if item.uri is not None:
            by_uri.append(item)
        else:
            yield item, reason
    yield from zip(by_uri, reader.read_many([str(item.uri) for item in by_uri]), strict=True)


def _sort_out(
    read: Sequence[tuple[Item, bytes]],
    results: Sequence[Encoding | StochConError],
    failures: list[JobFailure],
) -> list[tuple[Item, bytes]]:
    """Items with their new codes; those that cannot be encoded become failures."""
    done: list[tuple[Item, bytes]] = []
    for (item, _), result in zip(read, results, strict=True):
        if isinstance(result, Encoding):
            done.append((item, result.code))
        else:
            failures.append(JobFailure(item.id, str(result), item.id))
    return done

"""What Prometheus sees. One registry for each app, so that several can live in one process."""

from collections.abc import Callable, Iterable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from contracts.errors import ERRORS_BY_SLUG
from index.protocol import CollectionInfo
from service.drift import Baseline
from service.encoding.encoding import Encoding

_REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STAGE_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32)
_SHARE_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1)

Use = Literal["encode", "search", "classify", "write"]
"""What an image was encoded for."""


class Metrics:
    """Counters of the whole service; also the encoder's observer."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Histogram(
            "stochcon_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            ["method", "route", "status"],
            buckets=_REQUEST_BUCKETS_S,
            registry=registry,
        )
        self._errors = Counter(
            "stochcon_errors_total", "Problems answered, by type.", ["slug"], registry=registry
        )
        for slug in ERRORS_BY_SLUG:
            # From 0 on: Prometheus sees no increase in a counter that begins with 1.
            self._errors.labels(slug)
        self._images = Counter(
            "stochcon_images_total",
            "Images answered: ok, or the type of problem.",
            ["outcome"],
            registry=registry,
        )
        self._stages = Histogram(
            "stochcon_encode_stage_seconds",
            "Decoding of an image; waiting of a decoded image for the model; running of a batch.",
            ["stage"],
            buckets=_STAGE_BUCKETS_S,
            registry=registry,
        )
        self._batches = Histogram(
            "stochcon_batch_images", "Images in a batch.", buckets=_BATCH_BUCKETS, registry=registry
        )
        self._queue = Gauge(
            "stochcon_queue_images", "Images taken in and not yet answered.", registry=registry
        )
        self._entropy = Histogram(
            "stochcon_image_entropy_share",
            "How unsure the model was of an image's bits: entropy over bits, 0 to 1.",
            ["use"],
            buckets=_SHARE_BUCKETS,
            registry=registry,
        )
        self._active = Histogram(
            "stochcon_image_active_share",
            "Share of an image's bits that are 1.",
            ["use"],
            buckets=_SHARE_BUCKETS,
            registry=registry,
        )
        self._nearest = Histogram(
            "stochcon_nearest_distance_share",
            "From an image searched for to the nearest item: bits that differ over bits.",
            ["collection"],
            buckets=_SHARE_BUCKETS,
            registry=registry,
        )
        self._waiting = Gauge(
            "stochcon_jobs_waiting_shards", "Parts of jobs that wait for a worker.", registry=registry
        )
        self._ready = Gauge("stochcon_ready", "1 while the model is loaded and works.", registry=registry)

    def observe(
        self,
        queue_images: Callable[[], float],
        is_ready: Callable[[], bool],
        collections: Callable[[], Iterable[CollectionInfo]],
        waiting_shards: Callable[[], float],
        baselines: Callable[[], Iterable[Baseline]],
    ) -> None:
        """Where to read, at each scrape, what is a state rather than an event."""
        self._queue.set_function(queue_images)
        self._ready.set_function(is_ready)
        self._waiting.set_function(waiting_shards)
        self._registry.register(_Collections(collections))
        self._registry.register(_Baselines(baselines))

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def error(self, slug: str) -> None:
        """A request was answered by a problem."""
        self._errors.labels(slug).inc()

    def image(self, outcome: str) -> None:
        """An image was answered: `ok`, or the slug of its problem."""
        self._images.labels(outcome).inc()

    def encoding(self, encoding: Encoding, use: Use) -> None:
        """An image was encoded for such a use."""
        num_bits = len(encoding.logits)
        self._entropy.labels(use).observe(encoding.entropy_bits / num_bits)
        self._active.labels(use).observe(encoding.active_bits / num_bits)

    def nearest(self, collection: str, distance_share: float) -> None:
        """An image was searched for, and its nearest item is at such a share of the bits."""
        self._nearest.labels(collection).observe(distance_share)

    def stage(self, name: str, seconds: float) -> None:
        """A stage of encoding took so long."""
        self._stages.labels(name).observe(seconds)

    def batch(self, num_images: int) -> None:
        """A batch was run."""
        self._batches.observe(num_images)

    def render(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Collections:
    """What each collection holds; a collection that is deleted is gone from the next scrape."""

    def __init__(self, collections: Callable[[], Iterable[CollectionInfo]]) -> None:
        self._collections = collections

    def collect(self) -> Iterable[GaugeMetricFamily]:
        items = GaugeMetricFamily("stochcon_items", "Items of a collection.", labels=["collection"])
        originals = GaugeMetricFamily(
            "stochcon_originals_bytes",
            "Bytes of the image files that are kept of a collection.",
            labels=["collection"],
        )
        for info in self._collections():
            items.add_metric([info.name], info.num_items)
            originals.add_metric([info.name], info.original_bytes)
        yield items
        yield originals

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []


class _Baselines:
    """What the codes of each collection are like, to hold those of new images against."""

    def __init__(self, baselines: Callable[[], Iterable[Baseline]]) -> None:
        self._baselines = baselines

    def collect(self) -> Iterable[GaugeMetricFamily]:
        active = GaugeMetricFamily(
            "stochcon_collection_active_share",
            "Share of bits that are 1 in a sample of a collection.",
            labels=["collection"],
        )
        nearest = GaugeMetricFamily(
            "stochcon_collection_nearest_distance_share",
            "From an item to its nearest other, mean over a sample of a collection: share of the bits.",
            labels=["collection"],
        )
        for baseline in self._baselines():
            active.add_metric([baseline.collection], baseline.active_share)
            nearest.add_metric([baseline.collection], baseline.nearest_distance_share)
        yield active
        yield nearest

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return []

"""What our service says of itself at /metrics: how long its stages took and how large its batches were."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from math import inf
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

STAGES = ("decode", "wait", "model")

_REQUEST = "stochcon_request_duration_seconds"
_STAGE = "stochcon_encode_stage_seconds"
_BATCH = "stochcon_batch_images"


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of a Prometheus histogram between two scrapes."""

    buckets: Mapping[float, float]
    """How many were at most this, by upper bound."""
    sum: float

    @property
    def count(self) -> float:
        """How many there were."""
        return self.buckets.get(inf, 0.0)

    @property
    def mean(self) -> float:
        """nan if there were none."""
        return self.sum / self.count if self.count else float("nan")

    @property
    def filled(self) -> float:
        """The sum over what it would be if each had been its bucket's upper bound; nan if there were none."""
        below, bounds = 0.0, 0.0
        for upper, count in sorted(self.buckets.items()):
            if count > below:
                bounds += (count - below) * upper
            below = count
        return self.sum / bounds if bounds else float("nan")

    def quantile(self, share: float) -> float:
        """As Prometheus works it out: linear within a bucket; nan if there were none."""
        below, lower = 0.0, 0.0
        for upper, count in sorted(self.buckets.items()):
            if count and count >= share * self.count:
                if upper == inf:
                    return lower
                return lower + (upper - lower) * (share * self.count - below) / (count - below)
            below, lower = count, upper
        return float("nan")

    def __sub__(self, before: Self) -> "Histogram":
        buckets = {upper: count - before.buckets.get(upper, 0.0) for upper, count in self.buckets.items()}
        return Histogram(buckets, self.sum - before.sum)


@dataclass(frozen=True, slots=True)
class Scrape:
    """Everything of one moment, or between two."""

    requests: Histogram
    """Durations in seconds of `POST /encode`."""
    stages: Mapping[str, Histogram]
    """Seconds, by name of `STAGES`."""
    batches: Histogram
    """Images of a batch."""

    @classmethod
    def of(cls, port: int) -> Self:
        """What the service on this machine says now."""
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        with closing(connection):
            connection.request("GET", "/metrics")
            return cls.parse(connection.getresponse().read().decode())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Prometheus' text format."""
        return cls(
            _histogram(text, _REQUEST, {"route": "/encode", "status": "200"}),
            {stage: _histogram(text, _STAGE, {"stage": stage}) for stage in STAGES},
            _histogram(text, _BATCH, {}),
        )

    def since(self, before: Self) -> "Scrape":
        """What happened after `before`."""
        return Scrape(
            self.requests - before.requests,
            {stage: self.stages[stage] - before.stages[stage] for stage in STAGES},
            self.batches - before.batches,
        )

    def summary(self) -> dict[str, float]:
        """Times in milliseconds: of a request, of an image's decoding, of a batch's wait and run."""
        return {
            "requests": self.requests.count,
            "request_p50_ms": 1e3 * self.requests.quantile(0.5),
            "request_p99_ms": 1e3 * self.requests.quantile(0.99),
            "batch_mean": self.batches.mean,
            "batch_filled": self.batches.filled,
            **{f"{stage}_mean_ms": 1e3 * self.stages[stage].mean for stage in STAGES},
        }


def _histogram(text: str, name: str, labels: Mapping[str, str]) -> Histogram:
    buckets: dict[float, float] = {}
    total = 0.0
    for family in text_string_to_metric_families(text):
        if family.name != name:
            continue
        for sample in family.samples:
            if any(sample.labels.get(key) != value for key, value in labels.items()):
                continue
            if sample.name == f"{name}_bucket":
                upper = float(sample.labels["le"])
                buckets[upper] = buckets.get(upper, 0.0) + sample.value
            elif sample.name == f"{name}_sum":
                total += sample.value
    return Histogram(buckets, total)

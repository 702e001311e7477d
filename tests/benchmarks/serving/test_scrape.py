"""Reading /metrics, from the service's own writer."""

import math

import pytest

from benchmarks.serving.scrape import Scrape
from service.metrics import Metrics


def test_means_are_exact_and_quantiles_lie_in_their_bucket() -> None:
    metrics = Metrics()
    metrics.request("POST", "/encode", 200, 9.0)
    metrics.batch(32)
    before = Scrape.parse(metrics.render().decode())
    for milliseconds in range(1, 101):
        metrics.request("POST", "/encode", 200, milliseconds / 1e3)
    metrics.request("POST", "/encode", 422, 5.0)
    metrics.request("POST", "/search", 200, 5.0)
    for size in (1, 2, 30):
        metrics.batch(size)
    for stage, seconds in (("decode", 0.002), ("decode", 0.004), ("wait", 0.5), ("model", 0.25)):
        metrics.stage(stage, seconds)
    found = Scrape.parse(metrics.render().decode()).since(before).summary()
    assert found["requests"] == 100
    assert found["request_p50_ms"] == pytest.approx(50, abs=1)
    assert found["request_p99_ms"] == pytest.approx(99, abs=1)
    assert found["batch_mean"] == pytest.approx(11)
    assert found["batch_filled"] == pytest.approx(33 / 35)  # 30 are padded to 32
    assert found["decode_mean_ms"] == pytest.approx(3)
    assert found["wait_mean_ms"] == pytest.approx(500)
    assert found["model_mean_ms"] == pytest.approx(250)


def test_nothing_at_all_is_nan() -> None:
    found = Scrape.parse(Metrics().render().decode()).summary()
    assert found["requests"] == 0
    assert math.isnan(found["batch_mean"])
    assert math.isnan(found["request_p99_ms"])

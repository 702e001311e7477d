import httpx2

from tests.image_files import png
from tests.service.http_answers import code_of, part


def read(client: httpx2.Client) -> dict[str, float]:
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_requests_images_batches_and_items_are_counted(client: httpx2.Client, collection: str) -> None:
    before = read(client)
    client.post("/encode", files=[part(png(1)), part(b"no image"), part(png(2))])
    client.post("/encode", files=[part(b"no image")])
    client.post("/items", json={"items": [{"code": code_of(1)}] * 2, "collection": collection})
    client.get("/items/a%2Fb", params={"collection": collection})
    after = read(client)

    def grown(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    requests = "stochcon_request_duration_seconds_count"
    assert grown(requests + '{method="POST",route="/encode",status="200"}') == 1
    assert grown(requests + '{method="POST",route="/encode",status="422"}') == 1
    assert grown(requests + '{method="POST",route="/items",status="200"}') == 1
    assert grown(requests + '{method="GET",route="/items/{item_id}",status="404"}') == 1
    assert grown('stochcon_images_total{outcome="ok"}') == 2
    assert grown('stochcon_images_total{outcome="invalid-image"}') == 2
    assert grown('stochcon_errors_total{slug="invalid-image"}') == 1
    assert grown('stochcon_errors_total{slug="not-found"}') == 1
    assert grown("stochcon_batch_images_sum") == 2
    assert grown('stochcon_encode_stage_seconds_count{stage="decode"}') == 4
    assert grown('stochcon_encode_stage_seconds_count{stage="model"}') >= 1
    assert after[f'stochcon_items{{collection="{collection}"}}'] == 2
    assert after["stochcon_ready"] == 1
    assert after["stochcon_queue_images"] == 0
    assert after["process_resident_memory_bytes"] > 0


def test_a_collection_that_is_deleted_is_no_longer_counted(client: httpx2.Client, collection: str) -> None:
    client.post("/items", json={"items": [{"code": code_of(1)}], "collection": collection})
    name = f'stochcon_items{{collection="{collection}"}}'
    assert read(client)[name] == 1
    client.delete(f"/collections/{collection}")
    assert name not in read(client)


def test_paths_that_nobody_knows_are_one_label(client: httpx2.Client) -> None:
    for n in range(20):
        client.get(f"/scan/{n}.php")
    assert not any("scan" in name for name in read(client))

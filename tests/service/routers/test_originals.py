"""Image files of items, given back by a service that keeps them."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest

from service.schemas import Collection, IdsAnswer, StoredItem
from tests.image_files import jpeg, png
from tests.server_process import ServerProcess
from tests.service.http_answers import answer, problem, text


@pytest.fixture(scope="module")
def keeping(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("data"), model_folder, keep_originals=True) as started:
        yield started


@pytest.fixture
def client(keeping: ServerProcess) -> Iterator[httpx2.Client]:
    with keeping.client() as opened:
        yield opened


def test_files_come_back_byte_by_byte_however_they_were_sent(client: httpx2.Client, collection: str) -> None:
    where = {"collection": collection}
    fields = [{"id": "a/1.png"}, {"id": "ä b"}]
    parts = [("image", ("x", png(1))), ("image", ("y", jpeg(2))), ("items", (None, json.dumps(fields)))]
    answer(client.post("/items", params=where, files=parts), IdsAnswer)
    answer(client.put("/items/json", params=where, json={"image": text(png(3))}), IdsAnswer)
    octets = {"Content-Type": "image/png"}
    (raw,) = answer(client.post("/items", params=where, content=png(4), headers=octets), IdsAnswer)["ids"]
    expected = {"a/1.png": png(1), "ä b": jpeg(2), "json": png(3), raw: png(4)}
    for item_id, file in expected.items():
        found = client.get(f"/originals/{quote(item_id, safe='')}", params=where)
        assert (found.status_code, found.content) == (200, file)
        assert found.headers["content-type"] == ("image/jpeg" if file == jpeg(2) else "image/png")
        assert found.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in found.headers["content-security-policy"]
    info = answer(client.get(f"/collections/{collection}"), Collection)
    assert (info["num_originals"], info["original_bytes"]) == (4, sum(map(len, expected.values())))
    metrics = client.get("/metrics").text
    line = f'stochcon_originals_bytes{{collection="{collection}"}} '
    assert float(metrics.partition(line)[2].partition("\n")[0]) == info["original_bytes"]


def test_a_file_stays_as_long_as_its_item_and_code(client: httpx2.Client, collection: str) -> None:
    where = {"collection": collection}
    client.put("/items/a", params=where, json={"image": text(png(1))})
    item = answer(client.get("/items/a", params=where), StoredItem)
    assert item["original"] is not None
    relabelled = {"code": item["code"], "label": "cat", "original": None}
    answer(client.put("/items/a", params=where, json=relabelled), IdsAnswer)
    assert client.get("/originals/a", params=where).content == png(1)
    answer(client.put("/items/a", params=where, json={"code": text(bytes(8))}), IdsAnswer)
    problem(client.get("/originals/a", params=where), 404, "not-found", "no image file of item 'a' is kept")
    client.put("/items/a", params=where, json={"image": text(png(2))})
    assert client.get("/originals/a", params=where).content == png(2)
    client.delete("/items/a", params=where)
    problem(client.get("/originals/a", params=where), 404, "not-found", "no item 'a'")
    assert answer(client.get(f"/collections/{collection}"), Collection)["num_originals"] == 0
    problem(client.get("/originals/a", params={"collection": "nope"}), 404, "not-found", "nope")


def test_an_item_can_be_sent_as_it_was_answered(client: httpx2.Client, collection: str) -> None:
    where = {"collection": collection}
    client.put("/items/a", params=where, json={"image": text(png(1)), "label": "x"})
    item = answer(client.get("/items/a", params=where), StoredItem)
    sent = {"items": [item | {"id": "b"}]}
    assert answer(client.post("/items", json=sent | where), IdsAnswer) == {"ids": ["b"]}
    copy = answer(client.get("/items/b", params=where), StoredItem)
    assert copy == item | {"id": "b", "original": None}


def test_a_broken_image_keeps_nothing(client: httpx2.Client, collection: str) -> None:
    where = {"collection": collection}
    answer(client.put(f"/collections/{collection}"), Collection)
    sent = {"items": [{"id": "a", "image": text(png(1))}, {"id": "b", "image": text(b"no image")}]}
    problem(client.post("/items", json=sent | where), 422, "invalid-image")
    too_long = {"items": [{"id": "a", "image": text(png(1))}, {"id": "b" * 300, "image": text(png(1))}]}
    problem(client.post("/items", json=too_long | where), 422, "invalid-item")
    assert answer(client.get(f"/collections/{collection}"), Collection)["num_originals"] == 0


def test_nothing_is_kept_unasked(server: ServerProcess, collection: str) -> None:
    with server.client() as client:
        client.put("/items/a", params={"collection": collection}, json={"image": text(png(1))})
        refused = client.get("/originals/a", params={"collection": collection})
        problem(refused, 404, "not-found", "--keep-originals")

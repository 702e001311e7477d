"""kill -9 while clients write: what was acknowledged is there, and nothing that nobody sent."""

import random
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from contracts.codes import from_text, to_text
from tests.server_process import ServerProcess, wait_until
from tests.tiny_model import write_tiny_model

NUM_KILLS = 5
NUM_WRITERS = 4
SEED = 20260101


@dataclass
class Ledger:
    """What one client sent and what was acknowledged; its ids are its own."""

    sent: defaultdict[str, list[bytes | None]] = field(default_factory=lambda: defaultdict(list))
    """States that an item was sent to, in order: its code, or None for a delete."""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """Position of the last acknowledged state of each id."""
    unanswered: list[list[str]] = field(default_factory=list)
    """New ids of each request that was never answered: all are there, or none."""
    num_answers: int = 0

    def acknowledge(self, *ids: str) -> None:
        for item_id in ids:
            self.acknowledged[item_id] = len(self.sent[item_id]) - 1
        self.num_answers += 1


class Writer(threading.Thread):
    """Adds, replaces and deletes items until the server is gone."""

    def __init__(self, url: str, ledger: Ledger, name: str, seed: str) -> None:
        super().__init__(name=name)
        self.error: BaseException | None = None
        self._url = url
        self._ledger = ledger
        self._random = random.Random(seed)
        self._num_ids = 0

    def run(self) -> None:
        try:
            with httpx2.Client(base_url=self._url, timeout=30) as client:
                while True:
                    self._write(client)
        except httpx2.TransportError:
            pass  # The server was killed.
        except BaseException as exc:  # noqa: BLE001 - shown by the test's own thread.
            self.error = exc

    def _write(self, client: httpx2.Client) -> None:
        ledger, choice = self._ledger, self._random.random()
        own = [one for one in ledger.acknowledged if ledger.sent[one][-1] is not None]
        if choice < 0.7 or not own:
            self._add(client)
        elif choice < 0.9:
            item_id = self._random.choice(own)
            code = self._code(item_id)
            response = client.put(f"/items/{item_id}", json={"code": to_text(code)})
            assert response.status_code == 200, response.text
            ledger.acknowledge(item_id)
        else:
            item_id = self._random.choice(own)
            ledger.sent[item_id].append(None)
            response = client.delete(f"/items/{item_id}")
            assert response.status_code == 204, response.text
            ledger.acknowledge(item_id)

    def _add(self, client: httpx2.Client) -> None:
        ids = [f"{self.name}-{self._num_ids + n}" for n in range(self._random.randint(1, 6))]
        self._num_ids += len(ids)
        items = [{"id": one, "code": to_text(self._code(one)), "label": one} for one in ids]
        self._ledger.unanswered.append(ids)
        response = client.post("/items", json={"items": items})
        assert response.status_code == 200, response.text
        assert response.json() == {"ids": ids}
        self._ledger.acknowledge(*ids)
        self._ledger.unanswered.pop()

    def _code(self, item_id: str) -> bytes:
        code = self._random.randbytes(8)
        self._ledger.sent[item_id].append(code)
        return code


def read_all(client: httpx2.Client) -> dict[str, bytes]:
    """Every item of the default collection, checked for duplicates."""
    found: dict[str, bytes] = {}
    after = None
    while True:
        params = {"limit": 1000} | ({"after": after} if after else {})
        page = client.get("/items", params=params).json()["items"]
        for item in page:
            assert item["id"] not in found, "a duplicate"
            assert item["label"] in (item["id"], None)
            found[item["id"]] = from_text(item["code"], 64)
        if len(page) < 1000:
            return found
        after = page[-1]["id"]


def check(client: httpx2.Client, ledgers: list[Ledger]) -> None:
    found = read_all(client)
    info = client.get("/collections/default").json()
    assert info["num_items"] == len(found)
    known: set[str] = set()
    for ledger in ledgers:
        for item_id, states in ledger.sent.items():
            known.add(item_id)
            last = ledger.acknowledged.get(item_id, -1)
            allowed = states[last:] if last >= 0 else [None, *states]
            assert found.get(item_id) in allowed, f"{item_id}: acknowledged as {states[last]!r}"
        for ids in ledger.unanswered:
            assert len({one in found for one in ids}) == 1, f"half of a request is there: {ids}"
    assert found.keys() <= known, f"nobody sent {found.keys() - known}"
    searchable = client.post("/search", json={"code": to_text(bytes(8)), "radius": 64, "k": 1000}).json()
    assert {hit["id"] for hit in searchable["hits"]} <= found.keys()
    assert len(searchable["hits"]) == min(1000, len(found))


def wait_for_answers(ledgers: list[Ledger], num_answers: int) -> None:
    wait_until(lambda: sum(ledger.num_answers for ledger in ledgers) >= num_answers)


@pytest.mark.timeout(600)
def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    write_tiny_model(models / "tiny.onnx")
    moments = random.Random(SEED)
    ledgers: list[Ledger] = []
    server = ServerProcess(tmp_path / "data", models)
    try:
        for kill in range(NUM_KILLS):
            new = [Ledger() for _ in range(NUM_WRITERS)]
            ledgers += new
            writers = [
                Writer(server.url, ledger, f"{kill}-{n}", f"{SEED}-{kill}-{n}")
                for n, ledger in enumerate(new)
            ]
            for writer in writers:
                writer.start()
            wait_for_answers(new, moments.randint(0, 60))
            # Anywhere within the next request.
            threading.Event().wait(moments.uniform(0, 0.02))
            server.kill()
            for writer in writers:
                writer.join(30)
                assert not writer.is_alive()
                assert writer.error is None, repr(writer.error)
            server = ServerProcess(tmp_path / "data", models)
            with server.client() as client:
                check(client, ledgers)
        assert sum(len(one.acknowledged) for one in ledgers) > NUM_KILLS * NUM_WRITERS
        assert any(one.unanswered for one in ledgers), "no kill hit a write: the moments are badly chosen"
    finally:
        server.kill()

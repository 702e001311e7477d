"""Looking up many items through a service that has no call for many."""

from collections.abc import Iterator

import numpy as np
import pytest

from stochcon import Client
from stochcon.remote import RemoteBackend
from stochcon.results import NewItem


class Counting(Client):
    """Counts the requests that reads make."""

    requests = 0

    def get(self, *arguments, **options):
        self.requests += 1
        return super().get(*arguments, **options)

    def list_items(self, *arguments, **options):
        self.requests += 1
        return super().list_items(*arguments, **options)


@pytest.fixture
def counting(server, client) -> Iterator[Counting]:
    with Counting(server.url, "secret") as opened:
        yield opened


def test_items_are_found_whatever_is_asked_for_and_in_whatever_order(counting):
    stored = [f"{i:04d}" for i in range(0, 600, 2)] + ["é", "Z/a b", "a?b"]
    counting.add([NewItem(id=id, code=id.encode()[:8].ljust(8)) for id in stored])
    backend = RemoteBackend(counting)
    rng = np.random.default_rng(0)
    names = [f"{i:04d}" for i in range(600)] + [
        "é",
        "Z/a b",
        "a?b",
        "not there",
        "x" * 300,
        "line\nbreak",
        "",
    ]
    for size in (1, 2, 10, 256):
        for _ in range(5):
            asked = [str(name) for name in rng.choice(names, size)]
            found = backend.get_many("default", asked)
            assert [item.id if item else None for item in found] == [
                name if name in stored else None for name in asked
            ]


def test_neighbours_are_found_in_few_requests(counting):
    names = [f"photos/{i:04d}.jpg" for i in range(256)]
    counting.add([NewItem(id=name, code=bytes(8)) for name in names])
    assert all(RemoteBackend(counting).get_many("default", names))
    assert counting.requests == 2


def test_nothing_is_found_in_a_collection_that_is_not_there_or_is_empty(counting):
    counting.create_collection("empty")
    for name in ("nothing", "empty", "default"):
        counting.requests = 0
        assert RemoteBackend(counting).get_many(name, [f"{i}" for i in range(200)]) == [None] * 200
        assert counting.requests == 2

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs.ledger import Ledger
from tests.redis_server import RedisServer
from tests.service.jobs.ledger_steps import Opener


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real server that tests share; see `redis_url`."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started
        assert started.process.poll() is None, "the server died during the tests"


@pytest.fixture
def own_redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be killed and configured as it likes."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as started:
        yield started


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of a server that has nothing in it."""
    with redis_server.client() as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(params=["sqlite", "redis"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one new ledger, of either kind, as often as is wanted."""
    redis_url = request.getfixturevalue("redis_url") if request.param == "redis" else None
    opener = Opener(tmp_path, redis_url)
    yield opener
    opener.close()


@pytest.fixture
def ledger(opener: Opener) -> Ledger:
    return opener.open()

"""kill -9 of workers and of the service while a job runs: the right items are there, and the job says so."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.errors import BackendUnavailable
from service.jobs.job import Job, JobSpec
from service.jobs.ledger import Ledger
from service.jobs.opening import open_ledger
from stochcon import Client
from tests.image_files import jpeg
from tests.redis_server import RedisServer
from tests.server_process import ServerProcess, wait_until
from tests.tiny_model import write_tiny_model
from tests.worker_process import POISON, start_worker

NUM_IMAGES = 600
SEED = 20260301


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    write_tiny_model(folder / "tiny.onnx")
    return folder


@pytest.fixture(scope="module")
def made_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "images"
    for number in range(NUM_IMAGES):
        path = folder / f"{number % 7}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed=number, width=48, height=48))
    return folder


@pytest.fixture
def images(made_images: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made_images, tmp_path / "images")


class Site:
    """A service, a ledger, and workers, each a process that can be killed."""

    def __init__(self, folder: Path, models: Path, images: Path, redis_url: str | None) -> None:
        self.data, self.models, self.images = folder / "data", models, images
        self.redis_url = redis_url
        self.server = ServerProcess(self.data, models, roots=images, workers=0)
        self.port = int(self.server.url.rpartition(":")[2])
        self.ledger: Ledger = open_ledger(self.data, redis_url)
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self) -> None:
        worker = start_worker(self.server.url, self.data, self.models, self.images, self.redis_url)
        self.workers.append(worker)

    def kill_worker(self) -> None:
        worker = self.workers.pop()
        worker.kill()
        worker.wait()

    def restart_server(self) -> None:
        self.server = ServerProcess(self.data, self.models, self.port, roots=self.images, workers=0)

    def submit(self) -> str:
        return self.ledger.submit(JobSpec(source=str(self.images))).id

    def until(self, job_id: str, condition: Callable[[Job], bool], and_meanwhile: Callable[[], None]) -> Job:
        def look() -> bool:
            and_meanwhile()
            return condition(self.ledger.job(job_id))

        wait_until(look, timeout_s=120)
        return self.ledger.job(job_id)

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.server.kill()
        self.ledger.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def site(request: pytest.FixtureRequest, tmp_path: Path, models: Path, images: Path) -> Iterator[Site]:
    url = request.getfixturevalue("redis").url if request.param == "redis" else None
    started = Site(tmp_path, models, images, url)
    yield started
    started.close()


def check_items(site: Site, missing: frozenset[str] = frozenset()) -> None:
    """Exactly the images of the folder are there, each with its own code."""
    with Client(site.server.url) as client:
        found = client.list_items(limit=1000)
        paths = {path.relative_to(site.images).as_posix(): path for path in site.images.rglob("*.jpg")}
        assert [item.id for item in found] == sorted(paths.keys() - missing, key=str.encode)
        for item in random.Random(SEED).sample(found, 60):
            assert item.code == client.encode(paths[item.id]).code
        hits = client.search(code=found[0].code, k=1000).hits
        assert sorted(hit.id for hit in hits) == [item.id for item in found], "searched is what is kept"


@pytest.mark.timeout(240)
def test_killed_workers_cost_time_and_nothing_else(site: Site) -> None:
    moments = random.Random(SEED)
    job_id = site.submit()
    num_kills = 0

    def kill_now_and_then() -> None:
        nonlocal num_kills
        site.workers = [worker for worker in site.workers if worker.poll() is None]
        while len(site.workers) < 2:
            site.start_worker()
        job = site.ledger.job(job_id)
        if num_kills < 4 and job.num_workers and job.counts.settled >= 100 * num_kills:
            time.sleep(moments.uniform(0, 0.1))  # Anywhere within its shards.
            site.kill_worker()
            num_kills += 1

    job = site.until(job_id, lambda job: not job.is_open, kill_now_and_then)
    assert num_kills == 4
    assert job.state == "done"
    assert job.counts.found == NUM_IMAGES
    # A shard that was stored but not yet counted when its worker died is there already for the next one.
    assert job.counts.added + job.counts.skipped == NUM_IMAGES
    assert job.counts.failed == 0
    check_items(site)


@pytest.mark.timeout(240)
def test_a_killed_service_is_waited_for(site: Site) -> None:
    job_id = site.submit()
    site.start_worker()
    num_kills = 0

    def kill_as_it_grows() -> None:
        nonlocal num_kills
        if site.ledger.job(job_id).counts.added > 200 * num_kills and num_kills < 2:
            site.server.kill()
            site.restart_server()
            num_kills += 1

    job = site.until(job_id, lambda job: not job.is_open, kill_as_it_grows)
    assert num_kills == 2
    assert (job.state, job.counts.found, job.counts.failed) == ("done", NUM_IMAGES, 0)
    assert job.counts.added + job.counts.skipped == NUM_IMAGES
    check_items(site)


@pytest.mark.timeout(240)
def test_an_image_that_kills_its_worker_is_set_aside_and_the_rest_completes(site: Site) -> None:
    (site.images / "3" / "0003.jpg").write_bytes(POISON)
    job_id = site.submit()

    def start_again() -> None:
        site.workers = [worker for worker in site.workers if worker.poll() is None]
        if not site.workers:
            site.start_worker()

    job = site.until(job_id, lambda job: not job.is_open, start_again)
    assert (job.state, job.counts.found, job.counts.failed) == ("done", NUM_IMAGES, 1)
    (failure,) = site.ledger.failures(job_id)
    assert failure.id == "3/0003.jpg"
    assert "set aside" in failure.reason
    check_items(site, missing=frozenset({"3/0003.jpg"}))


@pytest.mark.timeout(240)
def test_a_killed_redis_is_waited_for(tmp_path: Path, models: Path, images: Path, redis: RedisServer) -> None:
    site = Site(tmp_path, models, images, redis.url)
    try:
        job_id = site.submit()
        for _ in range(2):
            site.start_worker()
        for share in (1, 3):
            wait_until(
                lambda share=share: site.ledger.job(job_id).counts.settled > share * NUM_IMAGES // 5, 60
            )
            redis.kill()
            with pytest.raises(BackendUnavailable):
                site.ledger.job(job_id)
            redis.restart()
        job = site.until(job_id, lambda job: not job.is_open, lambda: None)
        assert (job.state, job.counts.found, job.counts.failed) == ("done", NUM_IMAGES, 0)
        assert job.counts.added + job.counts.skipped == NUM_IMAGES
        assert all(worker.poll() is None for worker in site.workers), "a worker outlives its ledger"
        check_items(site)
    finally:
        site.close()


def worker_pids(server: ServerProcess) -> list[int]:
    return [event["pid"] for event in server.events if event["event"] == "a worker is started"]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.timeout(120)
def test_the_services_own_worker_is_started_for_a_job_again_when_it_dies_and_ends_with_the_service(
    tmp_path: Path, models: Path, images: Path
) -> None:
    with ServerProcess(tmp_path / "own", models, roots=images) as server, Client(server.url) as client:
        assert worker_pids(server) == []
        job = client.jobs.submit(str(images))
        wait_until(lambda: client.jobs.get(job.id).added > 0)
        os.kill(worker_pids(server)[0], signal.SIGKILL)
        wait_until(lambda: client.jobs.get(job.id).is_over, timeout_s=90)
        done = client.jobs.get(job.id)
        assert (done.state, done.found, done.failed) == ("done", NUM_IMAGES, 0)
        assert done.added + done.skipped == NUM_IMAGES
        assert len(worker_pids(server)) == 2
        assert is_alive(worker_pids(server)[1])
        server.kill()
        wait_until(lambda: not is_alive(worker_pids(server)[1]))


@pytest.mark.timeout(120)
def test_a_service_that_is_told_to_stop_takes_its_worker_along_in_peace(
    tmp_path: Path, models: Path, images: Path
) -> None:
    with ServerProcess(tmp_path / "own", models, roots=images) as server, Client(server.url) as client:
        job = client.jobs.submit(str(images))
        wait_until(lambda: client.jobs.get(job.id).added > 0)
        assert server.stop() == 0
        assert not is_alive(worker_pids(server)[0])
        assert not any("Fatal" in line for line in server.lines), server.lines
        assert not [event for event in server.events if event["event"] == "a worker died"]
    with ServerProcess(tmp_path / "own", models, roots=images) as server, Client(server.url) as client:
        wait_until(lambda: client.jobs.get(job.id).is_over, timeout_s=60)
        done = client.jobs.get(job.id)
        assert (done.state, done.added, done.skipped) == ("done", NUM_IMAGES, 0), "nothing was done twice"

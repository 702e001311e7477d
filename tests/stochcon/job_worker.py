"""A worker in this process, beside a real service, on a ledger that both share."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from service.jobs.job import Job, JobSpec
from service.jobs.ledger import Ledger
from service.jobs.opening import open_ledger
from service.jobs.roots import Roots
from service.settings import Settings
from stochcon import Client
from stochcon.encoders import Encoders
from stochcon.remote import RemoteBackend
from stochcon.shards import Shards
from stochcon.worker import Worker
from tests.server_process import ServerProcess


class Jobs:
    """A service that does no jobs by itself, and what is needed to do them here."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.data = folder / "data"
        self.models = models
        self.root = folder / "images"
        self.root.mkdir()
        self.server = self.serve()
        self.client = Client(self.server.url, max_retries=0)
        self.ledger: Ledger = open_ledger(self.data, None)
        self.settings = Settings(models=models, provider="cpu", threads=1, roots=(str(self.root),))
        self.encoders = Encoders(self.settings, capacity=3)

    def serve(self, port: int = 0) -> ServerProcess:
        return ServerProcess(self.data, self.models, port, roots=self.root, workers=0)

    def close(self) -> None:
        self.encoders.close()
        self.ledger.close()
        self.client.close()
        self.server.kill()

    def submit(self, source: Path | str, **options: Any) -> str:
        return self.ledger.submit(JobSpec(source=str(source), **options)).id

    def worker(self, ledger: Ledger | None = None, **options: Any) -> Worker:
        """A worker that ends once there is nothing to do."""
        shards = Shards(RemoteBackend(self.client), self.encoders, Roots(self.settings.roots))
        return Worker(ledger or self.ledger, shards, "here", **({"idle_s": 0.0} | options))

    def run(self, source: Path | str, **options: Any) -> Job:
        """Submit a source, and work until nothing is left to do."""
        job_id = self.submit(source, **options)
        self.worker().run()
        return self.ledger.job(job_id)

    def failures(self, job: Job) -> dict[str, str]:
        return {failure.id: failure.reason for failure in self.ledger.failures(job.id)}

    @contextmanager
    def running(self, worker: Worker) -> Iterator[None]:
        """The worker at work in a thread of its own, and told to stop at the end."""
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield
        finally:
            worker.stop()
            thread.join(30)
            assert not thread.is_alive()

    def until(self, job_id: str, condition: Callable[[Job], bool]) -> Job:
        """The job once it meets a condition."""
        deadline = time.monotonic() + 30
        while not condition(job := self.ledger.job(job_id)):
            assert time.monotonic() < deadline, job
            time.sleep(0.01)
        return job


@contextmanager
def jobs_beside_a_service(folder: Path, models: Path) -> Iterator[Jobs]:
    with closing(Jobs(folder, models)) as jobs:
        yield jobs

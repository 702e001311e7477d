"""Jobs: two workers beside one, the service's own worker, and how long a graceful stop takes, in one run.

    python -m benchmarks.jobs --photos DIR [--images N] [--rounds N] [--redis-url URL]

Workers that have a core each take turns with one alone, on folders with copies of the photos; a job over
other copies loads their models first. The rate is that of the ledger: images by the time from the start of a
job to its end. So is that of the service's own worker, with every core. Then such a service is told to stop
in the middle of a job. Nothing else should run beside it.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median

from benchmarks.serving.photos import find_photos, repeat
from benchmarks.serving.processes import environment_with, free_port, poll
from contracts.errors import BackendUnavailable
from stochcon import Client
from stochcon.results import JobInfo

_START_S = 60.0
_WARM_IMAGES = 512  # Enough shards for each worker to get one.


def main() -> None:
    """Parse the arguments, measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder of .jpg files")
    parser.add_argument("--images", type=int, default=2000, help="of each measured job")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--redis-url", help="keep the jobs there instead of in SQLite")
    options = parser.parse_args()
    photos = find_photos(options.photos)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder)
        repeat(photos, options.images, site / "images")
        repeat(photos, _WARM_IMAGES, site / "warm")
        rates: dict[str, list[float]] = {}
        for number in range(options.rounds):
            for name, workers, own in (
                ("one worker", 1, 0),
                ("two workers", 2, 0),
                ("the service's own", 0, 1),
            ):
                rate = _rate(site, site / f"{number}-{workers}-{own}", workers, own, options.redis_url)
                rates.setdefault(name, []).append(rate)
                print(f"round {number + 1}, {name}: {rate:.1f} images/s", flush=True)
        ratios = [two / one for one, two in zip(rates["one worker"], rates["two workers"], strict=True)]
        for name, found in rates.items():
            print(f"{name}: {median(found):.1f} images/s ({min(found):.1f} to {max(found):.1f})")
        print(f"two workers to one: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        _stop(site, site / "stop")


def _rate(site: Path, data: Path, num_workers: int, own_workers: int, redis_url: str | None) -> float:
    """Images a second of one job. Raises RuntimeError unless every image is added."""
    with ExitStack() as stack:
        client, _ = stack.enter_context(_service(site, data, own_workers, redis_url))
        for core in sorted(os.sched_getaffinity(0))[:num_workers]:
            worker = stack.enter_context(_worker(site, data, client.url, redis_url))
            os.sched_setaffinity(worker.pid, {core})
        _finish(client, client.jobs.submit(str(site / "warm"), "warm"), _WARM_IMAGES)
        num_images = sum(1 for _ in (site / "images").iterdir())
        job = _finish(client, client.jobs.submit(str(site / "images")), num_images)
    assert job.started is not None
    assert job.finished is not None
    took = datetime.fromisoformat(job.finished) - datetime.fromisoformat(job.started)
    return num_images / took.total_seconds()


def _stop(site: Path, data: Path) -> None:
    """Tell a service with a worker to stop in the middle of a job, and go on with the job afterwards."""
    with _service(site, data, 1, None) as (client, process):
        job = client.jobs.submit(str(site / "images"))
        for _ in poll(_START_S):
            if client.jobs.get(job.id).added:
                break
        start = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait()
        took_s = time.perf_counter() - start
        print(f"told to stop in the middle of a job, the service had ended after {took_s:.1f} s")
    with _service(site, data, 1, None) as (client, _):
        left = client.jobs.get(job.id)
        print(f"of {left.found} images {left.settled} were done then")
        job = _finish(client, job, None)
        print(f"{job.added} added and {job.skipped} that were there already, after it was started again")


def _finish(client: Client, job: JobInfo, num_added: int | None) -> JobInfo:
    """The job once it is over. Raises RuntimeError unless it added so many."""
    for _ in poll(3600):
        job = client.jobs.get(job.id)
        if job.is_over:
            break
    if job.state != "done" or num_added not in (None, job.added):
        raise RuntimeError(f"the job was not done as it should be: {job}")
    return job


@contextmanager
def _service(
    site: Path, data: Path, own_workers: int, redis_url: str | None
) -> Iterator[tuple[Client, "subprocess.Popen[bytes]"]]:
    port = free_port()
    options = ["--data", str(data), "--port", str(port), "--root", str(site), "--workers", str(own_workers)]
    url = f"http://127.0.0.1:{port}"
    with _process("serve", *options, redis_url=redis_url) as process, Client(url) as client:
        for _ in poll(_START_S):
            try:
                client.ready()
            except BackendUnavailable:
                continue
            break
        yield client, process


def _worker(
    site: Path, data: Path, url: str, redis_url: str | None
) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    options = ["--data", str(data), "--url", url, "--root", str(site), "--threads", "1"]
    return _process("worker", *options, redis_url=redis_url)


@contextmanager
def _process(*arguments: str, redis_url: str | None) -> Iterator["subprocess.Popen[bytes]"]:
    environment = environment_with(**({"REDIS_URL": redis_url} if redis_url else {}))
    command = [sys.executable, "-m", "stochcon", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()

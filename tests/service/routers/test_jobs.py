"""`/jobs` on a real server: what is let in, what is answered, and how a job is followed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from service.job_schemas import FailuresAnswer, JobAnswer, JobsAnswer
from tests.image_files import jpeg
from tests.server_process import ServerProcess, wait_until
from tests.service.http_answers import answer, problem


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(jpeg(seed=number))
    (folder / "broken.jpg").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def queueing(images: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a service that takes jobs in and has nobody to do them."""
    data = tmp_path_factory.mktemp("data")
    with ServerProcess(data, model_folder, roots=images, workers=0) as server, server.client() as client:
        yield client


@pytest.fixture(scope="module")
def working(
    images: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("data"), model_folder, roots=images) as server:
        yield server


def submit(client: httpx2.Client, source: object, **options: object) -> Any:
    response = client.post("/jobs", json={"source": str(source)} | options)
    job = answer(response, JobAnswer, 202)
    assert response.headers["location"] == f"/jobs/{job['id']}"
    return job


def test_a_job_is_queued_as_it_was_described(queueing: httpx2.Client, images: Path) -> None:
    job = submit(queueing, images, collection="pets", labels="folders", exclude=["*.png"])
    assert job["state"] == "queued"
    assert job["counts"] == dict.fromkeys(("found", "done", "added", "updated", "skipped", "failed"), 0)
    assert (job["spec"]["source"], job["spec"]["collection"]) == (str(images.resolve()), "pets")
    assert (job["spec"]["labels"], job["spec"]["exclude"]) == ("folders", ["*.png"])
    assert (job["started"], job["seconds_left"], job["reason"]) == (None, None, None)
    assert answer(queueing.get(f"/jobs/{job['id']}"), JobAnswer) == job


def test_jobs_are_listed_newest_first_and_by_pages(queueing: httpx2.Client, images: Path) -> None:
    ids = [submit(queueing, images)["id"] for _ in range(3)]
    listed = answer(queueing.get("/jobs", params={"limit": 2}), JobsAnswer)["jobs"]
    assert [job["id"] for job in listed] == [ids[2], ids[1]]
    older = queueing.get("/jobs", params={"limit": 1, "after": ids[1]}).json()["jobs"]
    assert [job["id"] for job in older] == [ids[0]]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/etc", "does not lie below a configured root"),
        ("{images}/../..", "does not lie below a configured root"),
        ("{images}-other", "does not lie below a configured root"),
        ("{images}/link", "does not lie below a configured root"),
        ("images", "is not an absolute path"),
        ("{images}/nothing", "does not exist"),
        ("s3://bucket/key", "does not lie below a configured root"),
        ("", "source"),
    ],
)
def test_what_may_not_be_read_is_refused(
    queueing: httpx2.Client, images: Path, source: str, reason: str
) -> None:
    link = images / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    (images.parent / "images-other").mkdir(exist_ok=True)
    response = queueing.post("/jobs", json={"source": source.format(images=images)})
    detail = problem(response, 422, "invalid-input" if source else "invalid-query", reason)["detail"]
    assert "/etc" not in detail or source == "/etc", "where a link leads is not told"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("collection", "No Such Name"),
        ("labels", "columns"),
        ("metadata", {"bad key": 1}),
        ("metadata", {"nested": {"a": 1}}),
        ("include", "*.jpg"),
        ("surprise", True),
    ],
)
def test_what_no_job_may_be_is_refused(
    queueing: httpx2.Client, images: Path, field: str, value: object
) -> None:
    response = queueing.post("/jobs", json={"source": str(images), field: value})
    problem(response, 422, "invalid-item" if field == "metadata" else "invalid-query")


def test_a_service_without_roots_says_how_to_name_one(client: httpx2.Client, images: Path) -> None:
    response = client.post("/jobs", json={"source": str(images)})
    problem(response, 422, "invalid-input", "--root")


def test_pausing_resuming_and_cancelling(queueing: httpx2.Client, images: Path) -> None:
    path = f"/jobs/{submit(queueing, images)['id']}"
    assert queueing.post(f"{path}/pause").json()["state"] == "paused"
    assert queueing.post(f"{path}/pause").json()["state"] == "paused"
    assert queueing.post(f"{path}/resume").json()["state"] == "queued"
    problem(queueing.post(f"{path}/retry"), 409, "conflict")
    cancelled = queueing.delete(path).json()
    assert cancelled["state"] == "cancelled"
    assert cancelled["finished"] is not None
    for call in ("pause", "resume", "retry"):
        problem(queueing.post(f"{path}/{call}"), 409, "conflict", "cancelled")
    assert queueing.delete(path).json()["state"] == "cancelled"
    problem(queueing.get(path), 404, "not-found")


@pytest.mark.parametrize("call", ["", "/failures", "/events"])
def test_a_job_that_there_is_not_is_404(queueing: httpx2.Client, call: str) -> None:
    problem(queueing.get(f"/jobs/nothing{call}"), 404, "not-found", "nothing")


def events(client: httpx2.Client, job_id: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for block in response.read().decode().split("\n\n"):
            lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if lines:
                found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_a_job_is_followed_to_its_end_and_its_failures_are_listed(
    working: ServerProcess, images: Path
) -> None:
    with working.client() as client:
        job = submit(client, images, exclude=["link"])
        *changes, (last, at_end) = events(client, job["id"])
        assert {name for name, _ in changes} == {"job"}
        assert [state["state"] for _, state in changes][-1] == "done"
        assert (last, at_end) == ("end", client.get(f"/jobs/{job['id']}").json())
        assert at_end["counts"] == {
            "found": 4,
            "done": 3,
            "added": 3,
            "updated": 0,
            "skipped": 0,
            "failed": 1,
        }
        (failure,) = answer(client.get(f"/jobs/{job['id']}/failures"), FailuresAnswer)["failures"]
        assert failure["id"] == "broken.jpg"
        assert "not an image" in failure["reason"]
        assert client.get(f"/jobs/{job['id']}/failures", params={"skip": 1}).json() == {"failures": []}
        assert client.get("/collections/default").json()["num_items"] == 3


def test_a_service_that_stops_ends_the_streams_of_its_jobs(
    images: Path, model_folder: Path, tmp_path: Path
) -> None:
    with ServerProcess(tmp_path, model_folder, roots=images, workers=0) as server, server.client() as client:
        job = submit(client, images)
        with client.stream("GET", f"/jobs/{job['id']}/events") as response:
            lines = response.iter_lines()
            assert next(lines) == "event: job"
            assert server.stop() == 0
            assert not any("end" in line for line in lines if line.startswith("event"))


def test_waiting_shards_are_a_metric(queueing: httpx2.Client, images: Path) -> None:
    def waiting() -> float:
        text = queueing.get("/metrics").text
        return float(text.partition("\nstochcon_jobs_waiting_shards ")[2].split()[0])

    before = waiting()
    submit(queueing, images)
    assert waiting() == before + 1


def test_a_job_outlives_the_service(images: Path, model_folder: Path, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, model_folder, roots=images, workers=0) as server, server.client() as client:
        job = submit(client, images)
        server.kill()
    with ServerProcess(tmp_path, model_folder, roots=images) as server, server.client() as client:
        wait_until(lambda: client.get(f"/jobs/{job['id']}").json()["state"] == "done")

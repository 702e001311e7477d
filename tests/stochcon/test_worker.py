"""Jobs done by a real worker, with a real model, beside a real service."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.jobs.job import Counts
from tests.image_files import jpeg
from tests.stochcon.job_worker import Jobs, jobs_beside_a_service
from tests.tiny_images import write_parquet


@pytest.fixture
def jobs(tmp_path: Path, models: Path) -> Iterator[Jobs]:
    with jobs_beside_a_service(tmp_path, models) as started:
        yield started


def write(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed=number, width=40, height=40))


def ids(jobs: Jobs, collection: str = "default") -> list[str]:
    return [item.id for item in jobs.client.list_items(collection, limit=1000)]


def test_a_folder_is_indexed_with_the_codes_that_the_service_gives(jobs: Jobs) -> None:
    write(jobs.root, "a.jpg", "sub/b.jpg", "sub/c.jpg")
    (jobs.root / "broken.jpg").write_text("no image")
    job = jobs.run(jobs.root)
    assert (job.state, job.counts) == ("done", Counts(found=4, added=3, failed=1))
    assert ids(jobs) == ["a.jpg", "sub/b.jpg", "sub/c.jpg"]
    for item in jobs.client.list_items():
        assert item.code == jobs.client.encode(jobs.root / item.id).code
        assert item.uri == (jobs.root / item.id).as_uri()
    assert "not an image" in jobs.failures(job)["broken.jpg"]


def test_a_second_run_skips_what_is_there_and_a_changed_file_is_updated(jobs: Jobs) -> None:
    write(jobs.root, "a.jpg", "b.jpg", "c.jpg")
    jobs.run(jobs.root)
    (jobs.root / "b.jpg").write_bytes(jpeg(seed=9, width=41))
    assert jobs.run(jobs.root).counts == Counts(found=3, updated=1, skipped=2)


def test_options_reach_the_items(jobs: Jobs) -> None:
    write(jobs.root, "cats/a.jpg", "cats/raw/b.jpg", "dogs/c.jpg", "dogs/c.png")
    job = jobs.run(
        jobs.root,
        collection="pets",
        prefix="x/",
        labels="folders",
        metadata={"year": 2024},
        include=["*.jpg"],
        exclude=["*/raw/*"],
    )
    assert job.counts == Counts(found=2, added=2)
    cat, dog = jobs.client.list_items("pets")
    assert (cat.id, cat.label, cat.metadata["year"]) == ("x/cats/a.jpg", "cats", 2024)
    assert (dog.id, dog.label) == ("x/dogs/c.jpg", "dogs")


def test_metadata_of_the_job_is_put_on_items_that_are_there(jobs: Jobs) -> None:
    write(jobs.root, "a.jpg")
    jobs.run(jobs.root)
    assert jobs.run(jobs.root, metadata={"batch": "2"}).counts == Counts(found=1, updated=1)
    assert jobs.run(jobs.root, metadata={"batch": "2"}).counts == Counts(found=1, skipped=1)
    assert jobs.client.get("a.jpg").metadata["batch"] == "2"


def test_rows_of_parquet_are_indexed_whatever_shard_they_are_in(jobs: Jobs) -> None:
    images = [jpeg(seed=n, width=40, height=40) for n in range(300)]
    path = write_parquet(jobs.root / "a.parquet", images, [n % 3 for n in range(300)])
    job = jobs.run(path)
    assert (job.state, job.counts) == ("done", Counts(found=300, added=300))
    assert jobs.client.get("299.png").code == jobs.client.encode(images[299]).code


def test_failed_images_can_be_tried_again_once_they_are_mended(jobs: Jobs) -> None:
    write(jobs.root, "a.jpg")
    (jobs.root / "b.jpg").write_text("no image")
    (jobs.root / "c.jpg").write_text("no image either")
    job = jobs.run(jobs.root)
    assert job.counts == Counts(found=3, added=1, failed=2)
    write(jobs.root, "b.jpg")
    jobs.ledger.retry(job.id)
    jobs.worker().run()
    job = jobs.ledger.job(job.id)
    assert (job.state, job.counts) == ("done", Counts(found=3, added=2, failed=1))
    assert jobs.failures(job).keys() == {"c.jpg"}


def test_a_file_that_vanishes_after_the_scan_is_named(jobs: Jobs) -> None:
    write(jobs.root, "a.jpg", "b.jpg")
    job_id = jobs.submit(jobs.root)
    scan = jobs.ledger.lease("scanner")
    assert scan is not None
    jobs.worker().shards.do(jobs.ledger, scan, lambda: False)
    (jobs.root / "b.jpg").unlink()
    jobs.worker().run()
    job = jobs.ledger.job(job_id)
    assert (job.state, job.counts) == ("done", Counts(found=2, added=1, failed=1))
    assert "No such file" in jobs.failures(job)["b.jpg"]


def test_a_source_that_vanishes_fails_the_job_which_goes_on_when_it_is_back(jobs: Jobs) -> None:
    write(jobs.root / "photos", *(f"{n:03d}.jpg" for n in range(200)))
    job_id = jobs.submit(jobs.root / "photos")
    scan = jobs.ledger.lease("scanner")
    assert scan is not None
    jobs.worker().shards.do(jobs.ledger, scan, lambda: False)
    shutil.move(jobs.root / "photos", jobs.root / "away")
    jobs.worker().run()
    job = jobs.ledger.job(job_id)
    assert (job.state, job.counts) == ("failed", Counts(found=200))
    assert job.reason is not None
    assert "no longer there" in job.reason or "does not exist" in job.reason
    shutil.move(jobs.root / "away", jobs.root / "photos")
    jobs.ledger.retry(job_id)
    jobs.worker().run()
    assert jobs.ledger.job(job_id).counts == Counts(found=200, added=200)


def test_a_file_of_rows_that_changes_after_the_scan_fails_the_job(jobs: Jobs) -> None:
    path = write_parquet(jobs.root / "a.parquet", [jpeg(seed=1)])
    job_id = jobs.submit(path)
    scan = jobs.ledger.lease("scanner")
    assert scan is not None
    jobs.worker().shards.do(jobs.ledger, scan, lambda: False)
    write_parquet(jobs.root / "a.parquet", [jpeg(seed=2), jpeg(seed=3)])
    jobs.worker().run()
    job = jobs.ledger.job(job_id)
    assert job.state == "failed"
    assert job.reason is not None
    assert "changed since it was scanned" in job.reason


def test_links_that_leave_the_roots_are_refused_whenever_they_are_made(jobs: Jobs, tmp_path: Path) -> None:
    write(tmp_path / "secret", "a.jpg")
    write(jobs.root, "photos/a.jpg")
    (jobs.root / "photos" / "b.jpg").symlink_to(tmp_path / "secret" / "a.jpg")
    job = jobs.run(jobs.root / "photos")
    assert job.counts == Counts(found=2, added=1, failed=1)
    assert "lies outside" in jobs.failures(job)["b.jpg"]
    # The source itself becomes a link after it was submitted.
    job_id = jobs.submit(jobs.root / "photos")
    shutil.rmtree(jobs.root / "photos")
    (jobs.root / "photos").symlink_to(tmp_path / "secret")
    jobs.worker().run()
    job = jobs.ledger.job(job_id)
    assert job.state == "failed"
    assert job.reason is not None
    assert "does not lie below a configured root" in job.reason
    assert ids(jobs) == ["a.jpg"]


def test_a_cancelled_job_stops_and_keeps_what_is_stored(jobs: Jobs) -> None:
    write(jobs.root, *(f"{n:04d}.jpg" for n in range(400)))
    job_id = jobs.submit(jobs.root)
    with jobs.running(jobs.worker(concurrency=1, idle_s=60.0)):
        jobs.until(job_id, lambda job: job.counts.added > 0)
        jobs.ledger.cancel(job_id)
        jobs.until(job_id, lambda job: job.num_workers == 0)
    job = jobs.ledger.job(job_id)
    assert job.state == "cancelled"
    assert 0 < job.counts.added <= len(ids(jobs)) < 400


def test_a_paused_job_waits_and_goes_on(jobs: Jobs) -> None:
    write(jobs.root, *(f"{n:04d}.jpg" for n in range(400)))
    job_id = jobs.submit(jobs.root)
    with jobs.running(jobs.worker(concurrency=1, idle_s=60.0)):
        jobs.until(job_id, lambda job: job.counts.added > 0)
        jobs.ledger.pause(job_id)
        paused = jobs.until(job_id, lambda job: job.num_workers == 0)
        assert paused.state == "paused"
        assert paused.counts.settled < 400
        jobs.ledger.resume(job_id)
        jobs.until(job_id, lambda job: job.state == "done")
    assert jobs.ledger.job(job_id).counts == Counts(found=400, added=400)


def test_a_worker_that_is_told_to_stop_ends_its_shard_or_hands_it_back(jobs: Jobs) -> None:
    write(jobs.root, *(f"{n:04d}.jpg" for n in range(400)))
    job_id = jobs.submit(jobs.root)
    with jobs.running(jobs.worker(concurrency=1, idle_s=60.0)):
        jobs.until(job_id, lambda job: job.counts.added > 0)
    ended = jobs.ledger.job(job_id)
    assert (ended.state, ended.num_workers) == ("running", 0)
    with jobs.running(jobs.worker(concurrency=1, idle_s=60.0, grace_s=0.0)):
        jobs.until(job_id, lambda job: job.counts.settled > ended.counts.settled)
    handed_back = jobs.ledger.job(job_id)
    assert handed_back.num_workers == 0
    jobs.worker().run()  # At once: no lease has to run out first.
    job = jobs.ledger.job(job_id)
    # What was stored of a shard that was handed back is there already for whoever does it again.
    assert (job.state, job.counts.added + job.counts.skipped) == ("done", 400)
    assert len(ids(jobs)) == 400


def test_while_the_service_is_away_the_job_waits_and_says_so(jobs: Jobs) -> None:
    write(jobs.root, "a.jpg")
    job_id = jobs.submit(jobs.root)
    port = int(jobs.server.url.rpartition(":")[2])
    jobs.server.kill()
    with jobs.running(jobs.worker(idle_s=60.0)):
        waiting = jobs.until(job_id, lambda job: job.reason is not None)
        assert waiting.state == "running"
        assert waiting.reason is not None
        assert "cannot reach" in waiting.reason
        jobs.server = jobs.serve(port)
        job = jobs.until(job_id, lambda job: job.state == "done")
    assert (job.counts, job.reason) == (Counts(found=1, added=1), None)


def test_a_worker_without_the_collections_model_leaves_the_job_to_others(
    jobs: Jobs, tmp_path: Path, models: Path
) -> None:
    write(jobs.root, "a.jpg")
    job_id = jobs.submit(jobs.root)
    (tmp_path / "empty").mkdir()
    stranger = jobs.worker(idle_s=60.0)
    stranger.shards.encoders._folder.path = tmp_path / "empty"
    with jobs.running(stranger):
        waiting = jobs.until(job_id, lambda job: job.reason is not None)
        assert waiting.reason is not None
        assert "no model with the id" in waiting.reason
        stranger.shards.encoders._folder.path = models
        jobs.until(job_id, lambda job: job.state == "done")

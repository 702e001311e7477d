"""The main job from end to end, with the store opened by the command and with a service that owns it."""

import json
import os
import signal
import subprocess

import pytest

from tests.image_files import jpeg
from tests.server_process import wait_until
from tests.tiny_images import write_parquet


@pytest.fixture(params=["store opened here", "running service found by its lock"])
def reached(request, stochcon, serve):
    """Each way in which a command reaches the store, but for the URL of a service."""
    if request.param != "store opened here":
        serve()
    return stochcon


def counts(added=0, updated=0, unchanged=0, failed=0, deleted=0):
    return {"added": added, "updated": updated, "unchanged": unchanged, "failed": failed, "deleted": deleted}


def test_a_folder_is_indexed_searched_changed_and_indexed_again(reached, photos):
    first, failures = reached.index("photos", "--labels", "folders")
    assert first == counts(added=12, failed=1)
    assert failures.keys() == {"broken.jpg"}
    assert reached.index("photos", "--labels", "folders")[0] == counts(unchanged=12, failed=1)

    distance, id, label = reached("search", "photos/cats/04.jpg", "-k", 1)[0].split("\t")
    assert (distance, id, label) == ("0", "cats/04.jpg", "cats")
    item = json.loads(reached("items", "get", "cats/04.jpg")[0])
    assert item["uri"] == (photos / "cats" / "04.jpg").as_uri()
    assert reached("classify", "--id", "cats/04.jpg", "-k", 1) == ["1.0000\tcats"]

    (photos / "cats" / "04.jpg").write_bytes(jpeg(seed=99))
    (photos / "dogs" / "05.jpg").unlink()
    (photos / "broken.jpg").write_bytes(jpeg(seed=98))
    again, failures = reached.index("photos", "--labels", "folders", "--prune")
    assert (again, failures) == (counts(added=1, updated=1, unchanged=10, deleted=1), {})
    assert json.loads(reached("items", "get", "cats/04.jpg")[0])["code"] != item["code"]
    ids = [line.split("\t")[0] for line in reached("items", "list")]
    assert ids == sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.jpg"))


def test_parquet_is_indexed_with_its_labels_and_skipped_the_second_time(reached, tmp_path):
    images = [jpeg(seed=i) for i in range(6)] + [b"broken"]
    path = write_parquet(tmp_path / "train.parquet", images, [0, 1, 2, 0, 1, 2, 0])
    assert reached.index(path)[0] == counts(added=6, failed=1)
    assert reached.index(path)[0] == counts(unchanged=6, failed=1)
    assert json.loads(reached("items", "get", "2.png")[0])["label"] == "blue"


def test_all_ways_to_the_store_give_the_same_answers(stochcon, serve, photos):
    commands = [
        ("search", "photos/dogs/03.jpg", "--json"),
        ("search", "--id", "dogs/03.jpg", "--radius", 30, "--filter", '{"label": "cats"}', "--json"),
        ("classify", "photos/dogs/03.jpg", "--json"),
        ("items", "list", "--json"),
        ("encode", "photos/dogs"),
    ]
    stochcon("index", "photos", "--labels", "folders")
    here = [stochcon(*command) for command in commands]
    stochcon.environment["STOCHCON_URL"] = serve().url
    assert [stochcon(*command) for command in commands] == [without_provider(lines) for lines in here]


def without_provider(lines):
    """HTTP names a model without the provider of its first write."""
    found = []
    for line in lines:
        value = json.loads(line) if line.startswith("{") else line
        if isinstance(value, dict) and "model" in value:
            value["model"]["provider"] = ""
            line = json.dumps(value, separators=(",", ":"))
        found.append(line)
    return found


def test_a_key_is_sent_from_the_environment(stochcon, serve, photos):
    stochcon.environment["STOCHCON_API_KEY"] = "secret"
    stochcon.environment["STOCHCON_URL"] = serve().url
    stochcon("index", "photos")
    stochcon.environment["STOCHCON_API_KEY"] = "wrong"
    stochcon("items", "list", code=1)


def test_a_second_service_on_the_same_store_is_refused(stochcon, serve):
    serve()
    running = stochcon.start("serve", "--port", 0, stderr=subprocess.PIPE)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "in use by" in err
    assert "Traceback" not in err


def test_verify_asks_for_the_service_to_be_stopped(stochcon, serve):
    service = serve()
    running = stochcon.start("verify", stderr=subprocess.PIPE)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert service.url in err
    assert "stop" in err


def link_many(folder, number, data):
    """Many images at the cost of one, in disk and in time."""
    (folder / "000.jpg").write_bytes(data)
    for i in range(1, number):
        (folder / f"{i:03d}.jpg").hardlink_to(folder / "000.jpg")


@pytest.mark.parametrize("through_service", [False, True])
def test_ctrl_c_keeps_what_is_done_and_the_next_run_goes_on(stochcon, serve, tmp_path, through_service):
    if through_service:
        serve()
    folder = tmp_path / "many"
    folder.mkdir()
    link_many(folder, 500, jpeg(seed=1, width=1600, height=1200))
    (folder / "broken.jpg").write_text("x")
    running = stochcon.start("index", folder, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    catalog = tmp_path / "data" / "collections" / "default" / "catalog.sqlite"
    wait_until(catalog.exists, 60)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    done = json.loads(out.splitlines()[-1])
    assert 0 < done["added"] < 500
    stored = stochcon("items", "list")
    assert len(stored) == done["added"]
    assert stochcon.index(folder)[0] == counts(added=500 - done["added"], unchanged=done["added"], failed=1)


def test_a_killed_index_run_leaves_a_sound_store(stochcon, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    link_many(folder, 400, jpeg(seed=1, width=800, height=600))
    running = stochcon.start("index", folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    catalog = tmp_path / "data" / "collections" / "default" / "catalog.sqlite"
    wait_until(catalog.exists, 60)
    running.kill()
    running.wait(30)
    stochcon("verify")
    found = stochcon.index(folder)[0]
    assert found["added"] + found["unchanged"] == 400


def test_the_service_stops_on_sigterm_and_the_store_can_be_opened(stochcon, serve, photos):
    service = serve()
    stochcon("index", "photos")
    service.process.send_signal(signal.SIGTERM)
    service.process.communicate(timeout=30)
    assert service.process.returncode in (0, -signal.SIGTERM)
    stochcon("verify")
    assert len(stochcon("items", "list")) == 12


def test_output_into_a_closed_pipe_is_no_traceback(stochcon, photos):
    stochcon("index", "photos")
    reading, writing = os.pipe()
    os.close(reading)
    running = stochcon.start("items", "list", "--json", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, err = running.communicate(timeout=60)
    assert "Traceback" not in err


def test_progress_and_results_do_not_mix(stochcon, photos):
    running = stochcon.start("index", "photos", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = running.communicate(timeout=60)
    assert out == "12 added, 0 updated, 0 unchanged, 0 deleted, 1 failed\n"
    assert err.startswith("broken.jpg: ")

"""Another model put into use on a real service with a real worker, while it is asked and written to."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from contracts.errors import Conflict, ModelMismatch
from service.schemas import ActivationAnswer, ModelsAnswer
from stochcon import Client
from stochcon.cli import run
from stochcon.results import NewItem
from tests.image_files import png
from tests.server_process import ServerProcess, wait_until
from tests.service.activation_site import NUM_FILES, Site, code
from tests.service.http_answers import answer, problem
from tests.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a service that has indexed its images, and has ended. Beside it is the one to use."""
    folder = tmp_path_factory.mktemp("sites") / "site"
    models, images = folder / "models", folder / "images"
    models.mkdir(parents=True)
    images.mkdir()
    write_tiny_model(models / "old.onnx", name="old")
    for number in range(NUM_FILES):
        (images / f"{number}.png").write_bytes(png(seed=number))
    with (
        ServerProcess(folder / "data", models, roots=images) as server,
        Client(server.url) as client,
    ):
        job = client.jobs.submit(str(images))
        wait_until(lambda: client.jobs.get(job.id).is_over)
        assert server.stop() == 0
    return folder.rename(folder.with_name("indexed"))


@pytest.fixture
def site(indexed: Path) -> Iterator[Site]:
    # Under the path at which it was indexed, since the items' URIs are of there.
    folder = indexed.with_name("site")
    shutil.copytree(indexed, folder)
    started = Site(folder)
    yield started
    started.kill()
    shutil.rmtree(folder)


def test_every_item_is_encoded_again_from_its_source_and_the_way_back_is_kept(site: Site) -> None:
    assert site.codes() == site.file_codes(0)
    done = site.activate()
    assert (done.state, done.model, done.previous, done.left_out) == ("done", site.new, site.old, {})
    assert done.check is not None
    assert done.check["num_bits"] == 64
    assert site.codes() == site.file_codes(1)
    with pytest.raises(ModelMismatch):  # Whoever was late would be lost in the generation before.
        site.client.add([NewItem(id="late", code=bytes(8))], model=site.old)
    assert site.client.collection("default").model.id == site.new
    assert [info.id for info in site.client.models() if info.active] == [site.new]
    hit = site.client.search(png(seed=3), k=1).hits[0]
    assert (hit.id, hit.distance, hit.uri) == ("3.png", 0, (site.images / "3.png").as_uri())
    back = site.client.rollback_model(site.new)
    assert (back.state, back.model, back.left_out) == ("done", site.old, {})
    assert site.codes() == site.file_codes(0)
    with pytest.raises(Conflict):
        site.client.rollback_model(site.new)
    assert site.client.search(png(seed=3), k=1).hits[0].distance == 0
    site.kill()
    site.start()
    assert site.codes() == site.file_codes(0)
    assert site.client.encode(png(seed=3)).code == code(png(seed=3), 0)


def test_items_without_a_source_are_counted_and_somebody_decides(site: Site) -> None:
    site.client.put(NewItem(id="upload", image=png(seed=50)))
    site.client.add([NewItem(id="bare", code=bytes(8))], model=site.old)
    (site.images / "5.png").unlink()
    waiting = site.activate()
    assert (waiting.state, waiting.left_out) == ("waiting", {"default": 3})
    reasons = {entry.id: entry.reason for entry in site.client.jobs.failures(waiting.jobs["default"])}
    assert reasons.keys() == {"upload", "bare", "5.png"}
    assert "no source" in reasons["upload"]
    assert "5.png" in reasons["5.png"]
    assert site.codes().keys() == {*site.file_codes(0), "upload", "bare"}, "nothing has changed yet"
    assert site.client.search(png(seed=50), k=1).hits[0].id == "upload"
    done = site.activate("leave-out")
    assert (done.state, done.left_out) == ("done", {"default": 3})
    left = site.file_codes(1)
    del left["5.png"]
    assert site.codes() == left
    site.client.rollback_model(site.new)
    assert site.codes()["upload"] == code(png(seed=50), 0)


def test_uploads_whose_files_are_kept_are_encoded_again(site: Site) -> None:
    site.kill()
    site.start(keep_originals=True)
    site.client.add([NewItem(id=f"up/{n}", image=png(seed=50 + n)) for n in range(3)])
    site.client.put(NewItem(id="up/0", image=png(seed=60), uri="https://example.com/elsewhere.png"))
    relabelled = site.client.get("up/1")
    site.client.put(NewItem(id="up/1", code=relabelled.code, label="cat"))
    site.client.put(NewItem(id="up/2", code=bytes(8)))
    assert site.client.original("up/0") == png(seed=60)
    site.client.put(NewItem(id="damaged", image=png(seed=80)))
    site.kill()
    site.damage_original("damaged")
    site.start(keep_originals=True)
    waiting = site.activate()
    assert waiting.left_out == {"default": 2}
    reasons = {entry.id: entry.reason for entry in site.client.jobs.failures(waiting.jobs["default"])}
    assert reasons.keys() == {"damaged", "up/2"}
    assert "not what was written" in reasons["damaged"]
    site.client.put(NewItem(id="during", image=png(seed=70)))
    site.activate("leave-out")
    uploads = {"up/0": code(png(seed=60), 1), "up/1": code(png(seed=51), 1), "during": code(png(seed=70), 1)}
    assert site.codes() == site.file_codes(1) | uploads
    assert site.client.get("up/1").label == "cat"
    assert site.client.collection("default").num_originals == 4, "one is of the generation before"
    # A third model, for which the codes of the first are given up, and what only they had.
    third = site.client.upload_model(write_tiny_model(site.models / "third.onnx", seed=2, name="third"))
    site.client.delete("up/0")
    site.client.activate_model(third.id)
    site.until("done")
    assert site.codes() == site.file_codes(2) | {
        "up/1": code(png(seed=51), 2),
        "during": code(png(seed=70), 2),
    }
    assert site.client.collection("default").num_originals == 2


def test_a_collection_whose_items_would_be_lost_can_keep_its_generation(site: Site) -> None:
    site.client.add([NewItem(id="bare", code=bytes(8))], "codes", model=site.old)
    waiting = site.activate()
    assert waiting.left_out == {"codes": 1}
    assert site.activate("keep").state == "done"
    assert site.codes() == site.file_codes(1)
    assert site.client.collection("codes").model.id == site.old
    assert site.client.get("bare", "codes").code == bytes(8)


def test_what_is_written_meanwhile_reaches_both_generations(site: Site) -> None:
    site.client.put(NewItem(id="upload", image=png(seed=50)))
    assert site.activate().state == "waiting"
    site.client.put(NewItem(id="during", image=png(seed=51), label="cat"))
    site.client.put(NewItem(id="0.png", image=png(seed=52)))
    site.client.delete("1.png")
    site.client.add([NewItem(id="new code", code=b"12345678")], model=site.new)
    site.client.add([NewItem(id="old code", code=b"12345678")], model=site.old)
    now = site.codes()
    assert now["during"] == code(png(seed=51), 0)
    assert now["old code"] == b"12345678"
    assert "new code" not in now, "it goes to the generation of its model only"
    done = site.activate("leave-out")
    assert done.left_out == {"default": 2}
    expected = site.file_codes(1) | {
        "during": code(png(seed=51), 1),
        "0.png": code(png(seed=52), 1),
        "new code": b"12345678",
    }
    del expected["1.png"]
    assert site.codes() == expected
    assert site.client.get("during").label == "cat"


def test_the_old_generation_never_gives_back_what_was_changed_since(site: Site) -> None:
    site.activate()
    site.client.put(NewItem(id="0.png", image=png(seed=60)))
    site.client.delete("1.png")
    back = site.client.rollback_model(site.new)
    assert back.left_out == {"default": 1}
    expected = site.file_codes(0)
    del expected["0.png"], expected["1.png"]
    assert site.codes() == expected


def test_going_back_by_activating_encodes_only_what_was_written_since(site: Site) -> None:
    site.activate()
    (site.images / "9.png").write_bytes(png(seed=9))
    job = site.client.jobs.submit(str(site.images))
    wait_until(lambda: site.client.jobs.get(job.id).is_over)
    site.client.activate_model(site.old)
    done = site.until("done")
    assert site.client.jobs.get(done.jobs["default"]).found == 1
    assert site.codes() == site.file_codes(0) | {"9.png": code(png(seed=9), 0)}


def test_searches_and_writes_go_on_and_no_answer_mixes_models(site: Site) -> None:
    stop = threading.Event()
    wrong: list[str] = []
    acknowledged: dict[str, int] = {}

    def ask() -> None:
        with Client(site.server.url, "key") as client:
            number = 0
            while not stop.is_set():
                number += 1
                found = client.search(png(seed=number % NUM_FILES), k=1)
                if found.hits[0].distance or found.hits[0].id != f"{number % NUM_FILES}.png":
                    wrong.append(f"{found.hits[0]} by {found.model.name}")

    def write() -> None:
        with Client(site.server.url, "key") as client:
            number = 1000
            while not stop.is_set():
                number += 1
                client.put(NewItem(id=f"w{number}", image=png(seed=number)))
                acknowledged[f"w{number}"] = number

    threads = [threading.Thread(target=target) for target in (ask, ask, write)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(acknowledged) > 5)
        site.client.activate_model(site.new, "leave-out")
        before = site.until("done")
        count = len(acknowledged)
        wait_until(lambda: len(acknowledged) > count + 5)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert wrong == []
    codes = site.codes()
    num_left_out = before.left_out.get("default", 0)
    present = {item_id: seed for item_id, seed in acknowledged.items() if item_id in codes}
    assert len(acknowledged) - len(present) == num_left_out, "only uploads from before have no source"
    for item_id, seed in present.items():
        assert codes[item_id] == code(png(seed=seed), 1), item_id


@pytest.mark.parametrize("policy", ["leave-out", "keep"])
def test_codes_that_keep_coming_do_not_hold_up_the_switch(site: Site, policy: str) -> None:
    acknowledged = []
    stop = threading.Event()

    def write() -> None:
        with Client(site.server.url, "key") as client, suppress(ModelMismatch):
            while not stop.is_set():
                client.add([NewItem(id=f"bare{len(acknowledged)}", code=bytes(8))], model=site.old)
                acknowledged.append(f"bare{len(acknowledged)}")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: len(acknowledged) > 5)
        done = site.activate(policy)
        if policy == "leave-out":
            writer.join(30)
            assert not writer.is_alive(), "after the switch its codes are of the wrong model"
            assert done.left_out == {"default": len(acknowledged)}
            assert site.codes() == site.file_codes(1)
    finally:
        stop.set()
        writer.join(30)
    if policy == "keep":
        assert site.codes().keys() == {*site.file_codes(0), *acknowledged}


def test_a_model_that_cannot_be_served_changes_nothing(site: Site) -> None:
    constant = write_tiny_model(site.models / "broken.onnx", seed=2, name="broken")
    broken = next(info.id for info in site.client.models() if info.name == "broken")
    constant.write_bytes(constant.read_bytes()[:-1000])
    with site.http() as client:
        problem(client.post(f"/models/{broken}/activate"), 404, "not-found")
        problem(client.post(f"/models/{site.old}/activate"), 409, "conflict", "active already")
        problem(client.post(f"/models/{site.old}/rollback"), 409, "conflict", "no model to go back")
        problem(client.delete(f"/models/{site.new}/activate"), 409, "conflict")
        problem(client.post(f"/models/{site.new}/activate", json={"missing": "maybe"}), 422, "invalid-query")
    assert site.codes() == site.file_codes(0)


def test_an_activation_can_be_given_up_and_taken_up_again(site: Site) -> None:
    site.client.put(NewItem(id="upload", image=png(seed=50)))
    site.activate()
    with site.http() as client:
        problem(client.post(f"/models/{site.old}/activate"), 409, "conflict", "being activated")
    assert site.client.cancel_activation(site.new).state == "cancelled"
    assert site.codes().keys() == {*site.file_codes(0), "upload"}
    site.client.put(NewItem(id="later", image=png(seed=51)))
    assert site.activate("leave-out").left_out == {"default": 2}
    assert site.codes() == site.file_codes(1)


def test_a_stop_during_the_check_only_puts_it_off(site: Site) -> None:
    site.client.activate_model(site.new)
    assert site.server.stop() == 0
    site.kill()
    site.start()
    assert site.until("done").model == site.new
    assert site.codes() == site.file_codes(1)


def test_a_model_is_uploaded_checked_and_deleted(site: Site, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "third.onnx", seed=3, name="third")
    added = site.client.upload_model(path)
    assert (site.models / f"third-{added.id[:12]}.onnx").read_bytes() == path.read_bytes()
    assert site.client.upload_model(path, "again").id == added.id
    assert len(list(site.models.iterdir())) == 3
    with site.http() as client:
        octets = {"Content-Type": "application/octet-stream"}
        problem(client.post("/models?name=x", content=b"no model", headers=octets), 422, "invalid-model")
        problem(client.post("/models?name=../x", content=b"", headers=octets), 422, "invalid-input")
        problem(client.post("/models?name=x", content=b"x"), 415, "unsupported-media")
        answer(client.get("/models"), ModelsAnswer)
        problem(client.delete(f"/models/{site.old}"), 409, "conflict", "in use")
    assert len(list(site.models.iterdir())) == 3
    site.activate()
    site.client.activate_model(added.id)
    site.client.cancel_activation(added.id)
    site.client.delete_model(added.id)
    with site.http() as client:
        problem(client.delete(f"/models/{site.old}"), 409, "conflict", "go back")
        answer(client.post(f"/models/{site.new}/rollback"), ActivationAnswer)


def test_without_a_key_no_model_is_taken(client: httpx2.Client) -> None:
    octets = {"Content-Type": "application/octet-stream"}
    problem(client.post("/models?name=x", content=b"x", headers=octets), 403, "forbidden", "STOCHCON_API_KEY")


def test_the_command_line_lists_the_models_of_the_service_that_owns_the_store(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site.activate()
    site.client.rollback_model(site.new)
    monkeypatch.setenv("STOCHCON_API_KEY", "key")
    assert run(["models", "list", "--json", "--data", str(site.folder / "data")]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {model["name"]: model["active"] for model in listed} == {"old": True, "new": False}


def test_a_newer_file_in_the_folder_does_not_take_over_at_a_restart(site: Site) -> None:
    site.kill()
    site.start()
    assert [info.id for info in site.client.models() if info.active] == [site.old]
    assert site.codes() == site.file_codes(0)

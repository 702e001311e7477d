"""kill -9 of the service while a model is activated: one generation serves, or the other, and never a mix."""

import random
import time
from pathlib import Path

import pytest

from contracts.codes import pack_logits
from contracts.errors import Conflict
from contracts.manifest import Preprocessing
from contracts.pixels import load_pixels
from stochcon import Client
from tests.image_files import png
from tests.server_process import ServerProcess, wait_until
from tests.tiny_model import reference_logits, write_tiny_model

NUM_IMAGES = 40
NUM_KILLS = 3
COLLECTIONS = ("cats", "dogs")
SIZE = Preprocessing(height=32, width=32)


def code(seed_of_image: int, seed_of_model: int) -> bytes:
    pixels = load_pixels(png(seed=seed_of_image), SIZE)
    return pack_logits(reference_logits(pixels[None], seed=seed_of_model))[0].tobytes()


CODES = [{f"{n}.png": code(n, seed) for n in range(NUM_IMAGES)} for seed in range(2)]


def check(client: Client, ids: list[str]) -> int:
    """Which of the two models everything is of."""
    (active,) = (info.id for info in client.models() if info.active)
    number = ids.index(active)
    assert {info.name: info.model.id for info in client.collections()} == dict.fromkeys(COLLECTIONS, active)
    for name in COLLECTIONS:
        found = {item.id: item.code for item in client.list_items(name, limit=1000)}
        assert found == CODES[number], "a code of another model"
    hit = client.search(png(seed=7), k=1, collection="dogs").hits[0]
    assert (hit.id, hit.distance) == ("7.png", 0)
    return number


@pytest.mark.timeout(300)
def test_a_kill_at_any_point_leaves_one_model_and_the_activation_goes_on(tmp_path: Path) -> None:
    moments = random.Random(20260303)
    models, images = tmp_path / "models", tmp_path / "images"
    models.mkdir()
    images.mkdir()
    write_tiny_model(models / "0.onnx", name="model-0")
    for number in range(NUM_IMAGES):
        (images / f"{number}.png").write_bytes(png(seed=number))

    def start() -> ServerProcess:
        return ServerProcess(tmp_path / "data", models, roots=images)

    server = start()
    try:
        with Client(server.url) as client:
            for name in COLLECTIONS:
                job = client.jobs.submit(str(images), name)
                wait_until(lambda job=job: client.jobs.get(job.id).is_over)
            ids = [client.models()[0].id]
            write_tiny_model(models / "1.onnx", seed=1, name="model-1")
            ids.append(next(info.id for info in client.models() if info.name == "model-1"))
            assert check(client, ids) == 0
        for _ in range(NUM_KILLS):
            with Client(server.url) as client:
                before = check(client, ids)
                client.activate_model(ids[1 - before])
            time.sleep(moments.uniform(0, 5))
            server.kill()
            server = start()
            with Client(server.url) as client:
                check(client, ids)
                wait_until(lambda client=client: client.activation().is_over, timeout_s=60)
                assert client.activation().state == "done", client.activation()
                assert check(client, ids) == 1 - before
                with pytest.raises(Conflict):
                    client.activate_model(ids[1 - before])
    finally:
        server.kill()

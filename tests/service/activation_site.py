"""A real service with a worker in this process, for putting another model into use."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2

from contracts.codes import pack_logits
from contracts.manifest import Preprocessing
from contracts.pixels import load_pixels
from service.jobs.opening import open_ledger
from service.jobs.roots import Roots
from service.settings import Settings
from stochcon import Client
from stochcon.encoders import Encoders
from stochcon.remote import RemoteBackend
from stochcon.results import ActivationInfo
from stochcon.shards import Shards
from stochcon.worker import Worker
from tests.image_files import png
from tests.server_process import ServerProcess, wait_until
from tests.tiny_model import reference_logits, write_tiny_model

SIZE = Preprocessing(height=32, width=32)
NUM_FILES = 6


def code(data: bytes, seed: int) -> bytes:
    """The code of an image by the tiny model of that seed, worked out in numpy."""
    return pack_logits(reference_logits(load_pixels(data, SIZE)[None], seed=seed))[0].tobytes()


class Site:
    """A service with one model and a folder that is indexed; another model comes into the model folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.models, self.images = folder, folder / "models", folder / "images"
        self.start()
        self.old = self.client.models()[0].id
        write_tiny_model(self.models / "new.onnx", seed=1, name="new")
        self.new = next(info.id for info in self.client.models() if info.name == "new")

    def start(self, **settings: object) -> None:
        data = self.folder / "data"
        settings |= {"roots": self.images, "workers": 0, "api_key": "key"}
        self.server = ServerProcess(data, self.models, **settings)
        self.client = Client(self.server.url, "key")
        self.ledger = open_ledger(data, None)
        self.encoders = Encoders(Settings(models=self.models, provider="cpu", threads=1), capacity=3)
        shards = Shards(RemoteBackend(self.client), self.encoders, Roots((str(self.images),)))
        # In this process, since another takes seconds to start.
        self.worker = Worker(self.ledger, shards, "here")
        self.work = threading.Thread(target=self.worker.run)
        self.work.start()

    def kill(self) -> None:
        self.worker.stop()
        self.work.join(30)
        self.encoders.close()
        self.ledger.close()
        self.client.close()
        self.server.kill()

    def damage_original(self, item_id: str) -> None:
        with closing(sqlite3.connect(self.folder / "data" / "originals" / "default.sqlite")) as connection:
            connection.execute("UPDATE originals SET file = x'00' WHERE id = ?", (item_id,))
            connection.commit()

    def http(self) -> httpx2.Client:
        return self.server.client(headers={"Authorization": "Bearer key"})

    def until(self, *states: str) -> ActivationInfo:
        def reached() -> bool:
            current = self.client.activation()
            assert current is not None
            assert current.state != "failed" or "failed" in states, current.reason
            return current.state in states

        wait_until(reached, timeout_s=60)
        found = self.client.activation()
        assert found is not None
        return found

    def activate(self, missing: Any = "ask") -> ActivationInfo:
        self.client.activate_model(self.new, missing)
        return self.until("done", "waiting")

    def codes(self) -> dict[str, bytes]:
        return {item.id: item.code for item in self.client.list_items(limit=1000)}

    def file_codes(self, seed: int) -> dict[str, bytes]:
        return {f"{n}.png": code(png(seed=n), seed) for n in range(NUM_FILES)}

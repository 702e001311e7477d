"""LitServe with batching on, as its documentation shows it.

    python -m benchmarks.serving.peers.litserve_app MODEL --port 8001 --batch 16 --wait-ms 10 --workers 2
        [--our-session]

Each worker is a process with a model of its own, which has its share of the cores.
"""

import argparse
import os
from pathlib import Path

import litserve
import numpy as np
from fastapi import UploadFile

from benchmarks.serving.peers.model import PeerModel, Pixels


class Api(litserve.LitAPI):
    """From an upload to a code, in batches."""

    def __init__(self, path: Path, with_our_session: bool, num_threads: int, batch: int, wait_s: float):
        super().__init__(max_batch_size=batch, batch_timeout=wait_s, api_path="/encode")
        self._chosen = path, with_our_session, num_threads

    def setup(self, device: str) -> None:
        path, with_our_session, num_threads = self._chosen
        self._model = PeerModel(path, with_our_session=with_our_session, num_threads=num_threads)

    def decode_request(self, request: UploadFile) -> Pixels:
        return self._model.prepare(request.file.read())

    def batch(self, inputs: list[Pixels]) -> Pixels:
        return np.stack(inputs)

    def predict(self, x: Pixels) -> list[str]:
        return self._model.codes(x)

    def unbatch(self, output: list[str]) -> list[str]:
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        return {"code": output}


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--wait-ms", type=float, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--our-session", action="store_true")
    options = parser.parse_args()
    num_threads = max(1, len(os.sched_getaffinity(0)) // options.workers)
    api = Api(options.model, options.our_session, num_threads, options.batch, options.wait_ms / 1e3)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=options.workers, timeout=False, fast_queue=True
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )


if __name__ == "__main__":
    main()

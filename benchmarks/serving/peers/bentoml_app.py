"""BentoML with adaptive batching, as its documentation shows it.

    PEER_MODEL=MODEL PEER_BATCH=16 PEER_LATENCY_MS=1000 PEER_WORKERS=2 PEER_OUR_SESSION=0
        bentoml serve benchmarks.serving.peers.bentoml_app:Encode --port 8001

Settings come from the environment because `bentoml serve` imports this file in each of its processes. Each
worker has a model of its own, and its share of the cores. A batchable call takes a list; one photo is a list
of one.
"""

import os
from pathlib import Path

import bentoml
import numpy as np
from PIL import Image

from benchmarks.serving.peers.model import PeerModel

_WORKERS = int(os.environ["PEER_WORKERS"])


@bentoml.service(
    workers=_WORKERS,
    traffic={"timeout": 120},
    logging={"access": {"enabled": False}},
)
class Encode:
    """From uploads to codes, in batches."""

    def __init__(self) -> None:
        self._model = PeerModel(
            Path(os.environ["PEER_MODEL"]),
            with_our_session=os.environ["PEER_OUR_SESSION"] == "1",
            num_threads=max(1, len(os.sched_getaffinity(0)) // _WORKERS),
        )

    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ["PEER_BATCH"]),
        max_latency_ms=int(os.environ["PEER_LATENCY_MS"]),
    )
    def encode(self, images: list[Image.Image]) -> list[dict[str, str]]:
        """Codes of images."""
        pixels = np.stack([self._model.prepare(image) for image in images])
        return [{"code": code} for code in self._model.codes(pixels)]

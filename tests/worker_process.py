"""A worker as a process of its own, with leases that run out soon, and images that kill it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

POISON = b"kills whoever encodes it"


def start_worker(
    url: str, data: Path, models: Path, root: Path, redis_url: str | None = None, lease_s: float = 1.0
) -> "subprocess.Popen[bytes]":
    """Start a worker; with `redis_url` its jobs are in Redis, else in the data folder."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("STOCHCON_", "REDIS_"))}
    chosen = {
        "STOCHCON_DATA": str(data),
        "STOCHCON_MODELS": str(models),
        "STOCHCON_ROOTS": str(root),
        "STOCHCON_PROVIDER": "cpu",
        "STOCHCON_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    if redis_url is not None:
        chosen["REDIS_URL"] = redis_url
    command = [sys.executable, "-m", "tests.worker_process", url, str(lease_s)]
    return subprocess.Popen(command, env=kept | chosen, cwd=Path(__file__).resolve().parent.parent)


def main(url: str, lease_s: str) -> None:
    from service.jobs.opening import open_ledger
    from service.jobs.roots import Roots
    from service.settings import Settings
    from stochcon import Client
    from stochcon.encoders import Encoders, ModelEncoder
    from stochcon.remote import RemoteBackend
    from stochcon.results import Encoding
    from stochcon.shards import Shards
    from stochcon.worker import Worker

    encode = ModelEncoder.encode_many

    def encode_or_die(encoder: ModelEncoder, images: Sequence[bytes]) -> list[Encoding]:
        if any(POISON in image for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(encoder, images)

    ModelEncoder.encode_many = encode_or_die
    settings = Settings()
    with (
        closing(Client(url)) as client,
        closing(Encoders(settings, 3)) as encoders,
        closing(open_ledger(settings.data, settings.redis_address)) as ledger,
    ):
        shards = Shards(RemoteBackend(client), encoders, Roots(settings.roots))
        worker = Worker(ledger, shards, str(os.getpid()), lease_s=float(lease_s))
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])

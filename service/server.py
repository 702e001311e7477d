"""Running the service: one process, one address, one store."""

import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import structlog
import uvicorn

from contracts.errors import BackendUnavailable
from service.app import create_app
from service.engine import Engine
from service.jobs.opening import open_ledger
from service.jobs.supervisor import Supervisor
from service.logs import configure_logs
from service.metrics import Metrics
from service.settings import Settings, check_exposure

_BACKLOG = 2048

_log = structlog.get_logger("service")


def run(settings: Settings) -> None:
    """Serve until told to stop by SIGINT or SIGTERM.

    Raises ValueError for settings that let others in without a key, StoreLocked if another process owns
    the store, BackendUnavailable if the address is taken or the provider does not run, and NotFound or
    InvalidModel if there is no model to serve.
    """
    check_exposure(settings)
    configure_logs()
    with _listen(settings.host, settings.port) as listener:
        url = _url(settings.host, listener.getsockname()[1])
        metrics = Metrics()
        stopping = threading.Event()
        engine = Engine.open(settings, owner_url=url, observer=metrics)
        try:
            engine.start()
            ledger = open_ledger(settings.data, settings.redis_address)
            config = uvicorn.Config(
                create_app(settings, engine, metrics, ledger, stopping),
                loop="uvloop",
                http="httptools",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=settings.shutdown_s,
            )
            workers = Supervisor(ledger, *worker_command(settings, url), settings.num_workers)
            server = _Server(config, engine, url, workers, stopping)
        except BaseException:
            engine.close()
            raise
        # From here on the app's lifespan closes the engine and the ledger.
        try:
            server.run(sockets=[listener])
        finally:
            workers.stop(0)


class _Server(uvicorn.Server):
    """Says where it listens and what it serves, once it does, and stops when told to."""

    def __init__(
        self,
        config: uvicorn.Config,
        engine: Engine,
        url: str,
        workers: Supervisor,
        stopping: threading.Event,
    ) -> None:
        super().__init__(config)
        self._engine = engine
        self._url = url
        self._workers = workers
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, and on a second SIGINT at once. Being told to stop is no failure: the exit status is 0.

        Uvicorn's own would raise the signal again at the end, and the process would die of it.
        """
        if self._stopping.is_set():
            if sig == signal.SIGINT:
                self.should_exit = self.force_exit = True
            return
        self._stopping.set()
        threading.Thread(target=self._stop, name="stop").start()

    def _stop(self) -> None:
        """Let the workers end while there is still a service to hand their codes to; then end that.

        Whoever watches readiness hears of it from the beginning.
        """
        began = time.monotonic()
        total_s = self.config.timeout_graceful_shutdown or 0
        try:
            self._workers.stop(total_s / 2)
        finally:
            self.config.timeout_graceful_shutdown = max(1, int(total_s - (time.monotonic() - began)))
            self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.started:
            return
        self._workers.start()
        # What is there now stays: a full collection that walks over it would hold requests up.
        gc.collect()
        gc.freeze()
        encoder, manifest = self._engine.encoder, self._engine.active.manifest
        model = f"{manifest.name} {manifest.version}"
        if sys.stderr.isatty():
            print(f"StochCon listens on {self._url}  (model {model}, {encoder.provider})", file=sys.stderr)
        else:
            _log.info(
                "ready",
                url=self._url,
                model=model,
                num_bits=manifest.num_bits,
                provider=encoder.provider,
                collections={info.name: info.num_items for info in self._engine.collections()},
            )
        for note in encoder.notes:
            _log.info("provider not in use", reason=note)
        for file, fault in self._engine.list_models().faults.items():
            _log.warning("not a model", file=file, reason=fault)


def worker_command(settings: Settings, url: str) -> tuple[Sequence[str], Mapping[str, str]]:
    """The command and the environment of a worker of this service."""
    environment = dict(os.environ)
    environment |= {
        "STOCHCON_DATA": str(settings.data),
        "STOCHCON_MODELS": str(settings.models),
        "STOCHCON_PROVIDER": settings.provider,
        "STOCHCON_URL": url,
    }
    if settings.threads is not None:
        environment["STOCHCON_THREADS"] = str(settings.threads)
    for name, secret in (("STOCHCON_API_KEY", settings.api_key), ("REDIS_URL", settings.redis_url)):
        if secret is not None:
            environment[name] = secret.get_secret_value()
    grace_s = settings.shutdown_s / 3
    command = [sys.executable, "-m", "stochcon", "worker", "--of-service", "--grace-s", str(grace_s)]
    for root in settings.roots:
        command += ["--root", root]
    return command, environment


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(_BACKLOG)
    except OSError as exc:
        listener.close()
        raise BackendUnavailable(
            f"cannot listen on {host}:{port} ({exc.strerror}): choose another with --port or --host, or "
            "stop what listens there"
        ) from exc
    return listener


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"

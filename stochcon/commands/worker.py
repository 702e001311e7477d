"""`worker`: do jobs, for as long as there are any."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Annotated

import typer

from stochcon.commands.options import (
    DataOption,
    ModelsOption,
    ProviderOption,
    RootOption,
    ThreadsOption,
    UrlOption,
)
from stochcon.opening import open_remote, read_settings

DEFAULT_URL = "http://127.0.0.1:8000"

IDLE_S = 60.0
"""How long a worker of the service's own waits for another job before it ends."""


def worker(
    data: DataOption = None,
    models: ModelsOption = None,
    url: UrlOption = None,
    roots: RootOption = None,
    provider: ProviderOption = None,
    threads: ThreadsOption = None,
    grace_s: Annotated[
        float, typer.Option("--grace-s", help="Seconds that work under way may take to end once stopped.")
    ] = 20.0,
    of_service: Annotated[bool, typer.Option("--of-service", hidden=True)] = False,
) -> None:
    """Do jobs until told to stop: encode images here, and hand their codes to the service at --url.

    Jobs are found in Redis if REDIS_URL is set, else in the data folder of a service on this machine, which
    has a worker of its own already. Roots, models and sources must be as the service sees them.
    """
    settings = read_settings(
        data=data,
        models=models,
        roots=tuple(roots) if roots else None,
        provider=provider,
        threads=threads,
    )
    from service.jobs.opening import open_ledger
    from service.jobs.roots import Roots
    from service.logs import configure_logs
    from stochcon.encoders import Encoders
    from stochcon.shards import Shards
    from stochcon.worker import CONCURRENCY, Worker

    try:
        allowed = Roots(settings.roots)
    except ValueError as exc:
        raise typer.BadParameter(str(exc), param_hint="--root") from exc
    configure_logs()
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # Not a line for each request.
    key = settings.api_key.get_secret_value() if settings.api_key else None
    store = open_remote(url or os.environ.get("STOCHCON_URL") or DEFAULT_URL, key)
    with (
        closing(store),
        closing(Encoders(settings, CONCURRENCY + 1)) as encoders,
        closing(open_ledger(settings.data, settings.redis_address)) as ledger,
    ):
        name = f"{socket.gethostname()}-{os.getpid()}"
        working = Worker(ledger, Shards(store, encoders, allowed), name, grace_s=grace_s)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: working.stop())
        if of_service:
            os.nice(10)  # Whoever searches goes first.
            working.idle_s = IDLE_S
            threading.Thread(target=_stop_at_end_of_input, args=(working.stop,), daemon=True).start()
        working.run()


def _stop_at_end_of_input(stop: Callable[[], None]) -> None:
    # Not by `sys.stdin`: the interpreter cannot end while a thread waits within its buffer.
    while os.read(sys.stdin.fileno(), 1):
        pass
    stop()

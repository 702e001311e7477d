"""The ceiling: decode, resize and model on the same cores, with no HTTP, no queue and no answers.

    python -m benchmarks.serving.ceiling MODEL TRIAL_S PHOTO... < seconds, a number a line

A line of JSON comes out when it is ready, and one for each number that comes in. Three ways are timed when it
starts, over several batch sizes, and the quickest is kept: decoding a batch on all cores, then running it on
all; decoding the next ones while the model runs, as the service does; and a model for each core, where it
decodes and runs batches whatever the other does.
"""

import json
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

from contracts.model_file import read_manifest
from contracts.pixels import ImageLimits
from service.encoding.decode import Decoder
from service.encoding.providers import usable_cores
from service.encoding.session import MAX_BATCH, Session, open_session

_SIZES = (1, 4, 16, MAX_BATCH)


@dataclass(frozen=True, slots=True)
class Bench:
    """What both ways need."""

    decoder: Decoder
    session: Session
    """On all cores."""
    lone_sessions: Sequence[Session]
    """One for each core."""
    pool: ThreadPoolExecutor
    photos: Iterator[bytes]

    def in_turns(self, size: int) -> Iterator[int]:
        """Decode a batch, run it, and so on; yields the number of images of each."""
        while True:
            batch = [next(self.photos) for _ in range(size)]
            pixels = np.stack(list(self.pool.map(self.decoder.decode, batch)))
            self.session.run(pixels, alone=True)
            yield size

    def side_by_side(self, size: int) -> Iterator[int]:
        """The same with two batches being decoded while one is run."""
        under_way = deque(self.pool.submit(self.decoder.decode, next(self.photos)) for _ in range(2 * size))
        while True:
            pixels = np.stack([under_way.popleft().result() for _ in range(size)])
            under_way.extend(self.pool.submit(self.decoder.decode, next(self.photos)) for _ in range(size))
            self.session.run(pixels, alone=True)
            yield size

    def each_core_alone(self, size: int) -> Iterator[int]:
        """On each core a batch is decoded and run, whatever the others do."""

        def decode_and_run(session: Session, batch: Sequence[bytes]) -> Session:
            session.run(np.stack([self.decoder.decode(photo) for photo in batch]))
            return session

        def begin(session: Session) -> Future[Session]:
            return self.pool.submit(decode_and_run, session, [next(self.photos) for _ in range(size)])

        under_way = {begin(session) for session in self.lone_sessions}
        while True:
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            under_way |= {begin(future.result()) for future in done}
            yield size * len(done)

    def decode_only(self, size: int) -> Iterator[int]:
        """Decoding and resizing alone, on all cores."""
        while True:
            list(self.pool.map(self.decoder.decode, [next(self.photos) for _ in range(size)]))
            yield size

    def model_only(self, size: int) -> Iterator[int]:
        """The model alone."""
        pixels = np.stack([self.decoder.decode(next(self.photos)) for _ in range(size)])
        while True:
            self.session.run(pixels, alone=True)
            yield size


def rate_of(way: Iterator[int], seconds: float) -> tuple[float, float]:
    """Images a second of a way, and the cores that it kept busy."""
    next(way)
    used_s, start = _processor_s(), time.perf_counter()
    num_images = 0
    while (took := time.perf_counter() - start) < seconds:
        num_images += next(way)
    return num_images / took, (_processor_s() - used_s) / took


def _processor_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Choose the quickest way, then measure it whenever asked to."""
    path, trial_s = Path(sys.argv[1]), float(sys.argv[2])
    photos = [Path(name).read_bytes() for name in sys.argv[3:]]
    manifest, num_threads = read_manifest(path), usable_cores()
    bench = Bench(
        Decoder(manifest.preprocessing, ImageLimits()),
        open_session(path, manifest, "auto", num_threads),
        [open_session(path, manifest, "auto", 1) for _ in range(num_threads)],
        ThreadPoolExecutor(num_threads),
        cycle(photos),
    )
    ways: dict[str, Callable[[], Iterator[int]]] = {
        f"{name}, batches of {size}": partial(way, size)
        for size in _SIZES
        for name, way in (
            ("in turns", bench.in_turns),
            ("side by side", bench.side_by_side),
            ("each core alone", bench.each_core_alone),
        )
    }
    rates = {name: rate_of(way(), trial_s)[0] for name, way in ways.items()}
    best = max(rates, key=lambda name: rates[name])
    size = int(best.rpartition(" ")[2])
    print(
        json.dumps(
            {
                "provider": bench.session.provider,
                "way": best,
                "trials": rates,
                "decode_rate": rate_of(bench.decode_only(size), trial_s)[0],
                "model_rate": rate_of(bench.model_only(size), trial_s)[0],
            }
        ),
        flush=True,
    )
    way = ways[best]()
    for line in sys.stdin:
        rate, cores = rate_of(way, float(line))
        print(json.dumps({"rate": rate, "cores": cores}), flush=True)


if __name__ == "__main__":
    main()

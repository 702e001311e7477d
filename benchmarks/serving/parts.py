"""The parts of the benchmark for one model; each gives what JSON and the tables take."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

from benchmarks.serving.contest import Contest, Entrant
from benchmarks.serving.photos import repeat
from benchmarks.serving.processes import Server, environment_with, resident_bytes
from benchmarks.serving.subjects import OURS, SETTINGS, Subject

NUM_CORES = len(os.sched_getaffinity(0))

_OPEN_CONNECTIONS = 512
"""The most that an open loop opens; beyond, requests wait at the client, and that time counts."""

_PHASES = (1, 2, 4, 8, 16, 32, 64)
"""Connections while memory is watched, one after the other: with them the sizes of batches vary."""

_SAMPLE_S = 0.25


class Ceiling:
    """The process of `benchmarks.serving.ceiling`. As a context manager it ends it."""

    def __init__(self, contest: Contest) -> None:
        """Returns when it has chosen its way; `facts` says which."""
        names = [str(contest.model), str(contest.scale.trial_s / 4), *map(str, contest.photos)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.serving.ceiling", *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts = self._read()
        self.rates: list[float] = []
        self.cores: list[float] = []
        """That it kept busy."""

    def __enter__(self) -> "Ceiling":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def measure(self, seconds: float) -> float:
        """Images a second, now."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        answer = self._read()
        self.rates.append(answer["rate"])
        self.cores.append(answer["cores"])
        return self.rates[-1]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def throughput(contest: Contest, entrants: Sequence[Entrant], ceiling: Ceiling) -> dict[str, Any]:
    """Closed loops in rounds of all, in alternating order, each round with the ceiling."""
    for number in range(contest.scale.rounds):
        ceiling.measure(contest.scale.measured_s)
        for entrant in entrants if number % 2 == 0 else list(reversed(entrants)):
            row, _ = contest.measure("throughput", entrant)
            row["ceiling_rate"] = ceiling.rates[-1]
            entrant.rounds.append(row)
            contest.say(f"round {number + 1}, {entrant.subject.name}: {row['rate']:.1f} images/s")
    ours = next(entrant for entrant in entrants if entrant.subject.kind == OURS)
    return {entrant.subject.name: _closed_loops(entrant, ours) for entrant in entrants}


def _closed_loops(entrant: Entrant, ours: Entrant) -> dict[str, Any]:
    rounds = entrant.rounds
    return {
        "settings": entrant.subject.settings,
        "connections": entrant.connections,
        "rate": entrant.rate,
        "rates": [row["rate"] for row in rounds],
        "ours_to_it": [a["rate"] / b["rate"] for a, b in zip(ours.rounds, rounds, strict=True)],
        "of_ceiling": [share_of_ceiling(row) for row in rounds],
        "generator_cores": median(row["generator_cores"] for row in rounds),
        "server_cores": median(row["server_cores"] for row in rounds),
        "p50_ms": median(row["p50_ms"] for row in rounds),
        "p99_ms": median(row["p99_ms"] for row in rounds),
        "metrics": rounds[-1]["metrics"],
    }


def share_of_ceiling(row: dict[str, Any], num_cores: int = NUM_CORES) -> float:
    """The served rate over what the ceiling would be on the cores that the generator left over."""
    left: float = row["ceiling_rate"] * (num_cores - row["generator_cores"]) / num_cores
    return float(row["rate"] / left)


def latency(contest: Contest, ours: Entrant, peers: Sequence[Entrant]) -> list[dict[str, Any]]:
    """Open loops at shares of each peer's best rate, of the peer and of ours in turns."""
    found = []
    for peer in peers:
        for share in contest.scale.shares:
            rate = share * peer.rate
            latencies: dict[str, list[float]] = {}
            metrics = None
            for _ in range(contest.scale.open_rounds):
                for entrant in (peer, ours):
                    row, outcome = contest.measure(
                        "latency",
                        entrant,
                        rate=rate,
                        connections=_OPEN_CONNECTIONS,
                        measured_s=contest.scale.open_s,
                    )
                    latencies.setdefault(entrant.subject.name, []).extend(outcome.latencies_s)
                    metrics = row["metrics"]
            entry = {"peer": peer.subject.name, "share": share, "offered_rate": rate, "our_metrics": metrics}
            for name, who in ((peer.subject.name, "peer"), (ours.subject.name, "ours")):
                entry |= _percentiles(who, latencies[name])
            contest.say(
                f"{share:.0%} of {peer.subject.name}'s rate, p50 and p99: "
                f"{entry['peer_p50_ms']:.0f} and {entry['peer_p99_ms']:.0f} ms, "
                f"ours {entry['ours_p50_ms']:.0f} and {entry['ours_p99_ms']:.0f} ms"
            )
            found.append(entry)
    return found


def _percentiles(who: str, latencies_s: Sequence[float]) -> dict[str, float]:
    ordered = sorted(latencies_s) or [float("nan")]
    return {
        f"{who}_p{percent}_ms": 1e3 * ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
        for percent in (50, 90, 99)
    }


def bulk(contest: Contest, ceiling: Ceiling) -> dict[str, Any]:
    """`stochcon index` of a folder with copies of the photos, the whole command, against the ceiling."""
    seconds, rounds = contest.scale.index_s, []
    for number in range(contest.scale.index_rounds):
        ceiling_rate = ceiling.measure(min(seconds, contest.scale.measured_s))
        num_images = max(1, round(seconds * ceiling_rate))
        folder = contest.folder / f"index-{number}"
        one, many = (
            repeat(contest.photos, 1, folder / "one"),
            repeat(contest.photos, num_images, folder / "many"),
        )
        start_s = _index(contest, one, folder / "store-one", 1)
        took_s = _index(contest, many, folder / "store-many", num_images)
        rate = num_images / took_s
        row = {
            "images": num_images,
            "took_s": took_s,
            "one_image_s": start_s,
            "rate": rate,
            "of_ceiling": rate / ceiling_rate,
            "of_ceiling_after_start": (num_images - 1) / max(1e-9, took_s - start_s) / ceiling_rate,
        }
        rounds.append(row)
        contest.say(
            f"indexing {num_images} images: {rate:.1f} a second, {row['of_ceiling']:.0%} of the ceiling"
        )
    return {key: median(row[key] for row in rounds) for key in rounds[0]} | {"rounds": rounds}


def _index(contest: Contest, folder: Path, data: Path, num_images: int) -> float:
    """Seconds of the command. Raises RuntimeError unless it adds every image."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "stochcon", "index", str(folder), "--data", str(data), "--json"],
        env=environment_with(STOCHCON_MODEL=str(contest.model)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    took_s = time.perf_counter() - start
    added = json.loads(done.stdout.splitlines()[-1])["added"]
    if added != num_images:
        raise RuntimeError(f"indexing {folder} added {added} of {num_images} images")
    return took_s


def large(
    contest: Contest, ours: Entrant, peers: Sequence[Entrant], photos: Sequence[Path]
) -> dict[str, Any]:
    """Closed loops with photos of 12 megapixels, of ours and of peers in turns."""
    rates: dict[str, list[float]] = {}
    for number in range(contest.scale.rounds):
        for entrant in (ours, *peers):
            row, _ = contest.measure("large", entrant, photos=[str(photo) for photo in photos])
            rates.setdefault(entrant.subject.name, []).append(row["rate"])
            contest.say(f"12 MP, round {number + 1}, {entrant.subject.name}: {row['rate']:.1f} images/s")
    own = rates[ours.subject.name]
    return {
        "rates": rates,
        "ours_to_it": {
            name: [a / b for a, b in zip(own, theirs, strict=True)] for name, theirs in rates.items()
        },
        "image_bytes": median(photo.stat().st_size for photo in photos),
    }


def memory(contest: Contest) -> dict[str, Any]:
    """Resident memory of a server of ours over many requests, in cycles of ever more connections.

    The first cycle brings every size of batch. The plateau is the median of the second cycle, and the end
    that of the last.
    """
    scale = contest.scale
    entrant = contest.start(Subject(OURS, contest.model, SETTINGS[OURS][0]), 1)
    start_bytes = resident_bytes(entrant.server.pid)
    per_phase = max(1, scale.memory_requests // (scale.memory_cycles * len(_PHASES)))
    cycles: list[dict[int, float]] = []
    batches: list[float] = []
    for number in range(scale.memory_cycles):
        cycles.append({})
        for connections in _PHASES:
            with _sampled(entrant.server) as samples:
                row, _ = contest.measure("memory", entrant, connections=connections, requests=per_phase)
            cycles[-1][connections] = median(samples)
            batches.append(row["metrics"]["batch_mean"])
        contest.say(f"memory, cycle {number + 1}: {median(cycles[-1].values()) / 2**20:.0f} MiB")
    entrant.server.stop()
    plateau, end = _plateau_and_end(cycles)
    return {
        "requests": per_phase * len(_PHASES) * scale.memory_cycles,
        "start_mib": start_bytes / 2**20,
        "plateau_mib": plateau / 2**20,
        "end_mib": end / 2**20,
        "growth_percent": growth_percent(cycles),
        "cycles_mib": [{c: b / 2**20 for c, b in cycle.items()} for cycle in cycles],
        "batch_means": [min(batches), max(batches)],
    }


def growth_percent(cycles: Sequence[Mapping[int, float]]) -> float:
    """From the plateau to the end, of two cycles or more."""
    plateau, end = _plateau_and_end(cycles)
    return 100 * (end / plateau - 1)


def _plateau_and_end(cycles: Sequence[Mapping[int, float]]) -> tuple[float, float]:
    return median(cycles[1].values()), median(cycles[-1].values())


@contextmanager
def _sampled(server: Server) -> Iterator[list[int]]:
    """Resident memory of a server while something else is done, at least once."""
    samples: list[int] = []
    done = Event()

    def sample() -> None:
        while not done.wait(_SAMPLE_S):
            samples.append(resident_bytes(server.pid))

    thread = Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()
        samples.append(resident_bytes(server.pid))

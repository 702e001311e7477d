"""Both kinds of ledger side by side: the same calls have the same answers, and images are counted once."""

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import NotFound, StochConError
from service.jobs.job import Counts, Job, JobFailure, JobSpec, Place
from service.jobs.ledger import Lease, LeaseLost, Ledger, Scanned, cut
from service.jobs.redis_ledger import RedisLedger
from service.jobs.sqlite_ledger import SqliteLedger

NUM_STEPS = 300
NUM_OPEN_JOBS = 4
LOOKS = ("job", "failures", "page", "jobs", "num_waiting", "has_work")
WORKERS = ("one", "two", "drei ☃")
REASONS = (None, "the disk is away", "été")
DURATIONS = (3600.0, 3600.0, 3600.0, 0.0)
"""Leases either hold or have run out: the ledgers' clocks do not matter."""


class Side:
    """One of the ledgers, with its own ids for the jobs, which are numbered here."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.ids = ["unknown"]
        self.leases: list[Lease] = []

    def number(self, job_id: str) -> int:
        return self.ids.index(job_id)

    def shown(self, value: Any) -> Any:
        """What a call returned, without what must differ: ids, tokens, times and rates."""
        if isinstance(value, list):
            return [self.shown(entry) for entry in value]
        if isinstance(value, Lease):
            fields = (
                value.shard,
                value.is_scan,
                value.places,
                value.attempt,
                value.version,
                value.scanned_to,
            )
            return self.number(value.job_id), value.spec, *fields
        if isinstance(value, Job):
            times = (value.started is not None, value.finished is not None, value.is_open)
            facts = (value.spec, value.state, value.counts, value.is_scanned, value.num_workers, value.reason)
            return self.number(value.id), *times, *facts
        return value

    def try_to(self, call: Callable[["Side"], Any]) -> tuple[str, Any]:
        """How a call ended, and what came of it."""
        try:
            return "returned", self.shown(call(self))
        except (StochConError, LeaseLost) as exc:
            numbered = re.sub(r"[0-9a-f-]{36}", lambda found: str(self.number(found[0])), str(exc))
            return type(exc).__name__, numbered


class Walk:
    """Random calls, by holders of leases as much as by those who lost theirs."""

    def __init__(self, ledgers: Sequence[Ledger], seed: int) -> None:
        self.sides = [Side(ledger) for ledger in ledgers]
        self.random = random.Random(seed)
        self.num_places = 0
        self.owed: Counter[tuple[int, str]] = Counter()
        """Images that were found or are to be tried again, less those done since, by the job's number."""
        self.ends: Counter[str] = Counter()
        """How the calls ended."""

    def both(self, name: str, call: Callable[[Side], Any]) -> Any:
        """Call both ledgers, whose answers must be the same: the answer, or None."""
        first, second = (side.try_to(call) for side in self.sides)
        if name not in LOOKS:
            print(name, *first)  # Shown by pytest when it fails.
        assert first == second
        self.ends[f"{name} {first[0]}"] += 1
        return first[1] if first[0] == "returned" else None

    def change(self, name: str, call: Callable[[Side], object]) -> bool:
        """Call both ledgers: whether they did it, on which they must agree."""

        def succeed(side: Side) -> bool:
            call(side)
            return True

        return bool(self.both(name, succeed))

    def step(self) -> None:
        steps = (self.submit, self.lease, self.extend, self.complete, self.hold_on, self.control, self.retry)
        (step,) = self.random.choices(steps, (2, 8, 4, 6, 5, 2, 2))
        step()
        self.check_everything()

    def submit(self) -> None:
        if sum(job.is_open for job in self.sides[0].ledger.jobs()) >= NUM_OPEN_JOBS:
            return
        spec = JobSpec(source=self.random.choice(["/images", "s3://bücket/été"]))

        def call(side: Side) -> Job:
            job = side.ledger.submit(spec)
            side.ids.append(job.id)
            return job

        self.both("submit", call)

    def lease(self) -> None:
        worker, lease_s = self.random.choice(WORKERS), self.random.choice(DURATIONS)

        def call(side: Side) -> Lease | None:
            lease = side.ledger.lease(worker, lease_s)
            if lease is not None:
                side.leases.append(lease)
            return lease

        self.both("lease", call)

    def extend(self) -> None:
        which = self.choose_lease(lambda lease: lease.is_scan)
        if which is None:
            return
        scan = self.sides[0].leases[which]
        shards = [self.new_places() for _ in range(self.random.choice([0, 1, 2, 12]))]
        failures = [JobFailure("été", "cannot be read ☃")] * self.random.choice([0, 0, 2])
        up_to = shards[-1][-1] if shards else scan.scanned_to
        found = Scanned(shards, failures, up_to, f"v{self.num_places}")
        if self.change("extend", lambda side: side.ledger.extend(side.leases[which], found)):
            self.owe(scan.job_id, [place for shard in shards for place in shard])

    def complete(self) -> None:
        # Scans end now and then only, so that they are seen in every state.
        may_end_scan = self.random.random() < 0.2
        which = self.choose_lease(lambda lease: may_end_scan or not lease.is_scan)
        if which is not None:
            self.complete_lease(which, self.random.choice([0, 0, 1, 4]))

    def complete_lease(self, which: int, num_failed: int) -> None:
        held = self.sides[0].leases[which]
        failed, rest = held.places[:num_failed], held.places[num_failed:]
        counts = Counts(added=len(rest[1:]), skipped=len(rest[:1]), failed=len(failed))
        failures = [JobFailure(f"image {place}", "no image\nat all", place) for place in failed]
        if self.change("complete", lambda side: side.ledger.complete(side.leases[which], counts, failures)):
            self.owe(held.job_id, held.places, -1)

    def hold_on(self) -> None:
        """Whatever else a holder does."""
        which = self.choose_lease()
        if which is None:
            return
        places = self.sides[0].leases[which].places
        name = self.random.choice(["renew", "renew", "hand_back", "hand_back", "divide", "fail"])
        chance = self.random.random()
        if name == "renew":
            lease_s = self.random.choice(DURATIONS)
            self.change("renew", lambda side: side.ledger.renew(side.leases[which], lease_s))
        elif name == "hand_back":
            reason = self.random.choice(REASONS)
            self.change("hand_back", lambda side: side.ledger.hand_back(side.leases[which], reason))
        elif name == "divide" and places:
            self.change("divide", lambda side: side.ledger.divide(side.leases[which], cut(places, 2)))
        elif name == "fail" and chance < 0.3:
            self.change("fail", lambda side: side.ledger.fail(side.leases[which], "it is gone"))

    def control(self) -> None:
        """What the service does."""
        number = self.choose_job()
        name = self.random.choice(["pause", "resume", "resume", "cancel", "forget"])
        self.both(name, lambda side: getattr(side.ledger, name)(side.ids[number]))

    def retry(self) -> None:
        self.retry_job(self.choose_job())

    def retry_job(self, number: int) -> None:
        job_id, again = self.sides[0].ids[number], []
        with suppress(NotFound):
            again = self.sides[0].ledger.failures(job_id)
        if self.change("retry", lambda side: side.ledger.retry(side.ids[number])):
            self.owe(job_id, [failure.place for failure in again if failure.place is not None])

    def check_everything(self) -> None:
        number, skip, limit = self.choose_job(), self.random.randrange(4), self.random.randrange(1, 4)
        self.both("job", lambda side: side.ledger.job(side.ids[number]))
        self.both("failures", lambda side: side.ledger.failures(side.ids[number], skip, limit))
        self.both("page", lambda side: side.ledger.jobs(side.ids[number], limit))
        self.both("jobs", lambda side: side.ledger.jobs())
        self.both("num_waiting", lambda side: side.ledger.num_waiting())
        self.both("has_work", lambda side: side.ledger.has_work())

    def finish(self) -> None:
        """Do all that is left: then every image that was found has been settled."""
        for number, job_id in enumerate(self.sides[0].ids):
            with suppress(NotFound):
                if self.sides[0].ledger.job(job_id).state == "failed":
                    self.retry_job(number)
            self.both("resume", lambda side, number=number: side.ledger.resume(side.ids[number]))
        for which in range(len(self.sides[0].leases)):  # Whoever was at work has died.
            self.change("renew", lambda side, which=which: side.ledger.renew(side.leases[which], 0))
        while self.sides[0].ledger.num_waiting():
            self.both("lease", lambda side: side.leases.append(side.ledger.lease("last", 3600.0)))
            self.complete_lease(len(self.sides[0].leases) - 1, 0)
        self.check_everything()
        for job in self.sides[0].ledger.jobs():
            assert job.state in ("done", "cancelled")
            if job.state == "done":
                assert job.counts.found == job.counts.settled
                number = self.sides[0].number(job.id)
                assert not [place for (of, place), owed in self.owed.items() if of == number and owed]

    def choose_lease(self, fits: Callable[[Lease], bool] = lambda _: True) -> int | None:
        """Most often one of the newest, of which some are held."""
        fitting = [which for which, lease in enumerate(self.sides[0].leases) if fits(lease)]
        if self.random.random() < 0.9:
            fitting = fitting[-4:]
        return self.random.choice(fitting) if fitting else None

    def choose_job(self) -> int:
        """Most often one of the newest, now and then one that there never was."""
        numbers = range(len(self.sides[0].ids))
        return self.random.choice(numbers if self.random.random() < 0.2 else numbers[-NUM_OPEN_JOBS:])

    def new_places(self) -> list[Place]:
        first = self.num_places
        self.num_places += self.random.randrange(1, 6)
        kinds: tuple[Callable[[int], Place], ...] = (str, int, lambda n: ["é.tar", n], lambda n: f"☃/{n}")
        return [kinds[number % len(kinds)](number) for number in range(first, self.num_places)]

    def owe(self, job_id: str, places: Sequence[Place], count: int = 1) -> None:
        """Every image must be owed before it is done, and done but once."""
        for place in places:
            self.owed[self.sides[0].number(job_id), repr(place)] += count
        assert set(self.owed.values()) <= {0, 1}


@pytest.mark.parametrize("seed", range(6))
def test_both_kinds_of_ledger_behave_alike(tmp_path: Path, redis_url: str, seed: int) -> None:
    ledgers = (SqliteLedger(tmp_path / "jobs.sqlite"), RedisLedger(redis_url))
    walk = Walk(ledgers, seed)
    for _ in range(NUM_STEPS):
        walk.step()
    walk.finish()
    for ledger in ledgers:
        ledger.close()

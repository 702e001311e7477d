"""A load generator as a process of its own: plain HTTP/1.1 on kept connections, requests prepared as bytes.

    python -m benchmarks.serving.load < plan.json > outcome.json

Closed loop: each connection sends its next request when its last one is answered; this gives the rate. Open
loop: requests are due at a constant rate, answered or not; this gives latencies, each counted from when its
request was due. So a server that stalls is charged for every request that had to wait meanwhile, not for
the few that were under way (no "coordinated omission"). The processor time that generating takes is in
the outcome, since on a small machine the server lacks it.
"""

import asyncio
import dataclasses
import gc
import json
import resource
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.serving.connections import Connection, request_bytes
from benchmarks.serving.processes import processor_s

_MAX_ERRORS = 100
"""A closed loop ends after more: a server that refuses at once would be asked thousands of times a second."""

_IDLE_S = 2.0
"""A connection that was idle for longer is not used again: the server may be about to close it."""

_FIRST_CONNECTIONS = 16
"""Opened before an open loop starts; more as they are needed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, and for how long."""

    port: int
    photos: list[str]
    """Files, sent in turn."""
    path: str = "/encode"
    part: str = "image"
    """Name of the multipart part that holds the photo."""
    connections: int = 16
    """Of a closed loop; of an open one the most."""
    rate: float | None = None
    """Requests a second of an open loop; None is a closed one."""
    warm_s: float = 1.0
    measured_s: float = 5.0
    requests: int | None = None
    """A closed loop of so many requests, all of them counted, in place of the two spans."""
    timeout_s: float = 120.0
    """How long to wait for answers at the end."""
    server: int | None = None
    """Process whose processor time is taken, with its descendants'."""


@dataclass(slots=True)
class Outcome:
    """What came of it, in the span in which requests were counted."""

    seconds: float = 0.0
    counted_s: float = 0.0
    """What the rate is over; see `between_answers`."""
    latencies_s: list[float] = field(default_factory=list)
    """Of each success: a closed loop counts those answered in the span, an open one those due in it."""
    errors: dict[str, int] = field(default_factory=dict)
    """By kind; of the whole run, warming up included."""
    generator_s: float = 0.0
    """Processor time of this process."""
    server_s: float = 0.0
    """Processor time of the server's processes."""
    late_s: float = 0.0
    """Longest that a request of an open loop was begun after it was due, which is no fault of the server."""

    @property
    def rate(self) -> float:
        """Successes a second."""
        return len(self.latencies_s) / self.counted_s

    def percentile_s(self, share: float) -> float:
        """The latency that this share of the successes does not exceed; nan if there is none."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def between_answers(answered_at: Sequence[float], start: float, end: float) -> float:
    """Seconds from the last answer before `start`, or `start` if there is none, to the last before `end`.

    A server that works in batches answers in bursts. Over a span of a dozen bursts, one more or less at its
    edges is a tenth of the rate; from burst to burst it is none. `answered_at` is in order.
    """
    before = bisect_left(answered_at, start)
    within = bisect_left(answered_at, end)
    first = answered_at[before - 1] if before else start
    return answered_at[within - 1] - first if within > before else end - start


def generate(plan: Plan) -> Outcome:
    """Run a plan in a process of its own. Raises RuntimeError if nobody listens."""
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(dataclasses.asdict(plan)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed:\n{done.stderr}")
    return Outcome(**json.loads(done.stdout))


class _Loop:
    """What both loops share: the requests in turn, and the span in which all is counted."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        photos = [Path(photo).read_bytes() for photo in plan.photos]
        self._requests = [request_bytes(plan.port, plan.path, plan.part, photo) for photo in photos]
        self._turn = 0
        self._errors: Counter[str] = Counter()
        self._latencies_s: list[float] = []
        self._answered_at: list[float] = []
        self._span = (float("inf"), float("inf"))
        self._used_s: tuple[float, ...] = ()
        self._late_s = 0.0

    def _next_request(self) -> bytes:
        self._turn += 1
        return self._requests[self._turn % len(self._requests)]

    def _begin_span(self, start: float, end: float) -> None:
        self._span, self._used_s = (start, end), self._processor_s()

    def _end_span(self, end: float) -> None:
        self._span = (self._span[0], end)
        self._used_s = tuple(
            now - before for now, before in zip(self._processor_s(), self._used_s, strict=True)
        )

    def _record(self, error: str | None, due: float, counted_at: float) -> None:
        start, end = self._span
        if error is not None:
            self._errors[error] += 1
            return
        self._answered_at.append(time.perf_counter())
        if start <= counted_at < end:
            self._latencies_s.append(self._answered_at[-1] - due)

    async def _finish(self, tasks: Sequence["asyncio.Task[None]"]) -> Outcome:
        """Wait for what is under way; what is not answered in time is an error."""
        if tasks:
            _, unanswered = await asyncio.wait(tasks, timeout=self._plan.timeout_s)
            self._errors["not answered in time"] += len(unanswered)
            for task in unanswered:
                task.cancel()
        start, end = self._span
        generator_s, server_s = self._used_s
        return Outcome(
            seconds=end - start,
            counted_s=self._counted_s(start, end),
            latencies_s=self._latencies_s,
            errors=dict(+self._errors),
            generator_s=generator_s,
            server_s=server_s,
            late_s=self._late_s,
        )

    def _counted_s(self, start: float, end: float) -> float:
        return end - start

    def _processor_s(self) -> tuple[float, ...]:
        usage, server = resource.getrusage(resource.RUSAGE_SELF), self._plan.server
        return usage.ru_utime + usage.ru_stime, processor_s(server) if server is not None else 0.0


class ClosedLoop(_Loop):
    """So many connections, each sending again as soon as it is answered."""

    _is_over = False
    _num_sent = 0

    async def run(self) -> Outcome:
        """Answered requests in the span; raises OSError if nobody listens."""
        plan = self._plan
        connections = [await Connection.open(plan.port) for _ in range(plan.connections)]
        if plan.requests is not None:
            self._begin_span(time.perf_counter(), float("inf"))
        clients = [asyncio.create_task(self._client(connection)) for connection in connections]
        if plan.requests is None:
            await asyncio.wait(clients, timeout=plan.warm_s)
            start = time.perf_counter()
            self._begin_span(start, start + plan.measured_s)
            await asyncio.wait(clients, timeout=plan.measured_s)
        else:
            await asyncio.wait(clients)
        self._is_over = True
        self._end_span(min(self._span[1], time.perf_counter()))
        return await self._finish(clients)

    def _counted_s(self, start: float, end: float) -> float:
        return between_answers(self._answered_at, start, end)

    async def _client(self, connection: Connection) -> None:
        while not self._is_over and self._num_sent != self._plan.requests:
            self._num_sent += 1
            due = time.perf_counter()
            error = await connection.ask(self._next_request())
            self._record(error, due, time.perf_counter())
            self._is_over |= self._errors.total() > _MAX_ERRORS
            if not connection.is_open:
                try:
                    connection = await Connection.open(self._plan.port)
                except OSError:
                    self._errors["no connection"] += 1
                    return


class OpenLoop(_Loop):
    """Requests at a constant rate, on as many connections as that takes."""

    async def run(self) -> Outcome:
        """Answered requests that were due in the span; raises OSError if nobody listens."""
        plan = self._plan
        assert plan.rate is not None
        self._free = asyncio.Semaphore(plan.connections)
        self._idle = [
            await Connection.open(plan.port) for _ in range(min(_FIRST_CONNECTIONS, plan.connections))
        ]
        num_warm = round(plan.warm_s * plan.rate)
        num_requests = num_warm + round(plan.measured_s * plan.rate)
        under_way = []
        start = time.perf_counter()
        span_start, span_end = (start + number / plan.rate for number in (num_warm, num_requests))
        for number in range(num_requests):
            due = start + number / plan.rate
            await _sleep_until(due)
            if number == num_warm:
                self._begin_span(span_start, span_end)
            self._late_s = max(self._late_s, time.perf_counter() - due)
            under_way.append(asyncio.create_task(self._request(due)))
        await _sleep_until(span_end)
        self._end_span(span_end)
        return await self._finish(under_way)

    async def _request(self, due: float) -> None:
        async with self._free:
            try:
                connection = self._take() or await Connection.open(self._plan.port)
                error = await connection.ask(self._next_request())
            except OSError:
                error = "no connection"
            else:
                if connection.is_open:
                    self._idle.append(connection)
        self._record(error, due, due)

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and time.perf_counter() - connection.used_at < _IDLE_S:
                return connection
            connection.close()
        return None


async def _sleep_until(when: float) -> None:
    left_s = when - time.perf_counter()
    if left_s > 0:
        await asyncio.sleep(left_s)


def main() -> None:
    """Read a plan, run it, write the outcome."""
    plan = Plan(**json.load(sys.stdin))
    loop = ClosedLoop(plan) if plan.rate is None else OpenLoop(plan)
    gc.disable()  # A collection would look like a stall of the server.
    json.dump(dataclasses.asdict(uvloop.run(loop.run())), sys.stdout)


if __name__ == "__main__":
    main()

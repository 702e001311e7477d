"""One model under every server, in turns: each has the machine to itself while the others are held still."""

import base64
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Self

from benchmarks.serving.load import Outcome, Plan, generate
from benchmarks.serving.processes import NotServing, Server
from benchmarks.serving.scrape import Scrape
from benchmarks.serving.subjects import OURS, SETTINGS, Subject

Row = dict[str, Any]
"""One measurement, as JSON holds it."""

_MAX_FLIPPED = 0.05
"""Share of bits in which two servers' codes of a photo may differ, as decoders and precisions do."""

TRIAL = "trial"
"""The part in which settings are tried; an error speaks against a setting, not against the run."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How long everything takes."""

    rounds: int = 4
    measured_s: float = 10.0
    warm_s: float = 1.5
    trial_s: float = 3.0
    """Of one setting that is tried."""
    max_settings: int = 99
    """That are tried of each server."""
    connections: tuple[int, ...] = (4, 16, 32)
    """Of the closed loop, the best of which each server gets."""
    shares: tuple[float, ...] = (0.8, 1.0)
    """Of a peer's best rate, at which latencies are compared in open loop."""
    open_s: float = 20.0
    open_rounds: int = 1
    index_s: float = 30.0
    """About how long indexing takes at the rate of the ceiling."""
    index_rounds: int = 2
    memory_requests: int = 50_000
    memory_cycles: int = 10


QUICK = Scale(
    rounds=1,
    measured_s=3.0,
    warm_s=1.0,
    trial_s=1.0,
    max_settings=1,
    connections=(8,),
    shares=(0.8,),
    open_s=2.0,
    open_rounds=1,
    index_s=2.0,
    index_rounds=1,
    memory_requests=400,
    memory_cycles=2,
)
"""A rehearsal, of a minute or two for each model; its figures mean little."""


@dataclass(slots=True)
class Entrant:
    """A server that runs, with the settings and the number of connections that suit it best."""

    subject: Subject
    server: Server
    connections: int
    rounds: list[Row] = field(default_factory=list)
    """Its closed loops."""

    @property
    def rate(self) -> float:
        """Median of its closed loops, images a second."""
        return float(median(row["rate"] for row in self.rounds))


class Contest:
    """Starts servers and measures them. Keeps every row, and every error that a server answered."""

    def __init__(
        self,
        model: Path,
        photos: Sequence[Path],
        folder: Path,
        scale: Scale,
        say: Callable[[str], None] = print,
    ) -> None:
        """`folder` takes what servers write."""
        self.model = model
        self.photos = photos
        self.folder = folder
        self.scale = scale
        self.say = say
        self.rows: list[Row] = []
        self.errors: list[str] = []
        self._stack = ExitStack()
        self._codes: dict[str, int] = {}
        self._entrants: dict[tuple[str, bool], Entrant] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def enter(self, kind: str, our_session: bool = False) -> Entrant:
        """Start a server with the best of its settings, once, and leave it held still.

        Raises NotServing, and ValueError if it makes other codes than those before it.
        """
        if (kind, our_session) in self._entrants:
            return self._entrants[kind, our_session]
        scale = self.scale
        middle = scale.connections[len(scale.connections) // 2]
        subjects = [
            Subject(kind, self.model, settings, our_session)
            for settings in SETTINGS[kind][: scale.max_settings]
        ]
        subject = subjects[0]
        if len(subjects) > 1:
            subject = max(subjects, key=lambda subject: self._try(subject, [middle])[0])
        entrant = self.start(subject, middle)
        if len(scale.connections) > 1:
            _, entrant.connections = self._try(subject, scale.connections, entrant)
        self.say(f"{subject.name}: {subject.settings or 'as it comes'}, {entrant.connections} connections")
        self._entrants[kind, our_session] = entrant
        return entrant

    def start(self, subject: Subject, connections: int) -> Entrant:
        """Start a server, and leave it held still until it is measured; it ends with the contest."""
        server, code = subject.start(self.folder, self.photos[0])
        self.keep(server)
        server.pause()
        self.check_code(subject.name, code)
        return Entrant(subject, server, connections)

    def keep(self, server: Server) -> None:
        """Stop the server when the contest ends."""
        self._stack.enter_context(server)

    def _try(
        self, subject: Subject, connections: Sequence[int], entrant: Entrant | None = None
    ) -> tuple[float, int]:
        """The best rate over numbers of connections, and that number. Ends the server if it started it."""
        tried = entrant or self.start(subject, 1)
        rates = {}
        for number in connections:
            try:
                row, _ = self.measure(TRIAL, tried, connections=number, measured_s=self.scale.trial_s)
            except NotServing:
                tried.server.check()  # One that refuses all of a load speaks against its setting alone.
                rates[number] = 0.0
            else:
                rates[number] = 0.0 if row["errors"] else row["rate"]
        if entrant is None:
            tried.server.stop()
        best = max(rates, key=lambda number: rates[number])
        return rates[best], best

    def measure(self, part: str, entrant: Entrant, **changes: Any) -> tuple[Row, Outcome]:
        """One measurement, with `changes` to the plan: a closed loop unless they give a rate.

        Raises NotServing if the server has ended, or nothing succeeds.
        """
        server, subject = entrant.server, entrant.subject
        values: dict[str, Any] = {
            "port": server.port,
            "photos": [str(photo) for photo in self.photos],
            "part": subject.part,
            "connections": entrant.connections,
            "warm_s": self.scale.warm_s,
            "measured_s": self.scale.measured_s,
            "server": server.pid,
        }
        plan = Plan(**(values | changes))
        server.resume()
        try:
            server.check()
            before = Scrape.of(server.port) if subject.kind == OURS else None
            outcome = generate(plan)
            metrics = Scrape.of(server.port).since(before).summary() if before else None
        finally:
            server.pause()
        if not outcome.latencies_s:
            raise NotServing(f"{subject.name} answered nothing: {outcome.errors}\n{server.output()}")
        row: Row = {
            "part": part,
            "subject": subject.name,
            "settings": subject.settings,
            "connections": plan.connections,
            "offered_rate": plan.rate,
            "rate": outcome.rate,
            "p50_ms": 1e3 * outcome.percentile_s(0.5),
            "p99_ms": 1e3 * outcome.percentile_s(0.99),
            "late_ms": 1e3 * outcome.late_s,
            "generator_cores": outcome.generator_s / outcome.seconds,
            "server_cores": outcome.server_s / outcome.seconds,
            "errors": outcome.errors,
            "metrics": metrics,
        }
        self.rows.append(row)
        if outcome.errors and part != TRIAL:
            self.errors.append(f"{subject.name}, {part}: {outcome.errors}")
        return row, outcome

    def check_code(self, name: str, code: bytes) -> None:
        """Raise ValueError unless a server's code of the first photo is that of the others, in base64.

        Servers that do not answer alike do not do the same work.
        """
        raw = base64.b64decode(code)
        bits = int.from_bytes(raw, "big")
        for other, before in self._codes.items():
            flipped = (bits ^ before).bit_count() / (8 * len(raw))
            if flipped > _MAX_FLIPPED:
                raise ValueError(f"{name} and {other} make codes that differ in {flipped:.0%} of their bits")
        self._codes[name] = bits

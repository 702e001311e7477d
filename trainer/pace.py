"""When a run reports and when it saves, and how fast it went in between."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_REPORT_EVERY = 10


class Pace:
    """Of a run of `num_steps` steps from `start_step` on, which saves every `checkpoint_every_s` seconds."""

    def __init__(
        self,
        start_step: int,
        num_steps: int,
        batch_size: int,
        checkpoint_every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_steps = num_steps
        self._batch_size = batch_size
        self._checkpoint_every_s = checkpoint_every_s
        self._clock = clock
        self._saved_s = self._reported_s = clock()
        self._reported_step = start_step
        self._waited_s = 0.0

    def report_is_due(self, done: int) -> bool:
        """Every tenth step, and the last one."""
        return done % _REPORT_EVERY == 0 or done == self._num_steps

    def since_report(self, done: int, wait_s: float) -> dict[str, float]:
        """Images a second, and the share of time spent waiting for them, since this was asked last.

        `wait_s` are the seconds that the run has waited for images so far.
        """
        now_s = self._clock()
        elapsed_s = now_s - self._reported_s
        speed = {
            "images_per_s": (done - self._reported_step) * self._batch_size / elapsed_s,
            "data_wait": (wait_s - self._waited_s) / elapsed_s,
        }
        self._reported_s, self._reported_step, self._waited_s = now_s, done, wait_s
        return speed

    @contextmanager
    def standing(self) -> Iterator[None]:
        """What the block takes is no time of training, and is in no report."""
        started_s = self._clock()
        yield
        self._reported_s += self._clock() - started_s

    def save_is_due(self, done: int) -> bool:
        """Whether so much time has passed since `saved`; not at the last step, which is saved in any case."""
        return done < self._num_steps and self._clock() - self._saved_s >= self._checkpoint_every_s

    def saved(self) -> None:
        """A checkpoint has been written just now."""
        self._saved_s = self._clock()

"""Several sources as one."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trainer.sources.source import Source


class ConcatSource:
    """Several sources as one, one after the other. Labels are kept if all have the same classes."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = list(sources)
        sizes = [len(source) for source in self._sources]
        self._starts: list[int] = [0, *np.cumsum(sizes).tolist()]
        first = self._sources[0].classes
        self.classes = first if all(source.classes == first for source in self._sources) else None

    def __len__(self) -> int:
        return self._starts[-1]

    def name(self, number: int) -> str:
        source, place = self._find(number)
        return source.name(place)

    def label(self, number: int) -> int | None:
        source, place = self._find(number)
        return None if self.classes is None else source.label(place)

    def read(self, number: int) -> bytes:
        source, place = self._find(number)
        return source.read(place)

    def epoch_order(self, seed: int, epoch: int) -> npt.NDArray[np.int64]:
        """Over all: each source in its own order, which may be a local one, and the next one by chance."""
        rng = np.random.default_rng([seed, epoch])
        shuffled = rng.permutation(len(self))
        owners = np.searchsorted(self._starts, shuffled, side="right") - 1
        order = np.empty(len(self), np.int64)
        for place, source in enumerate(self._sources):
            # A seed of its own, or sources of the same size would be ordered alike.
            own = source.epoch_order(int(rng.integers(2**63)), epoch)
            order[owners == place] = own + self._starts[place]
        return order

    def targets(self, column: str) -> npt.NDArray[np.float64]:
        return np.concatenate([source.targets(column) for source in self._sources])

    def _find(self, number: int) -> tuple[Source, int]:
        place = bisect_right(self._starts, number) - 1
        return self._sources[place], number - self._starts[place]

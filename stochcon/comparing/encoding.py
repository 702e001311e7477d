"""Every image through both models, in turns, by the path that the service takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from contracts.codes import Codes, stack
from contracts.errors import StochConError
from service.models import ModelFile
from service.settings import Settings
from stochcon.comparing.images import ImageReader, Location, Picture
from stochcon.comparing.measure import Floats
from stochcon.encoders import ModelEncoder
from stochcon.results import Encoding
from stochcon.sources.source import Failure

_ORDER_SEED = 0
_WARM_IMAGES = 8

Results = list[Encoding | StochConError]


class Pair:
    """Two models, loaded. They are timed while neither does anything but encode, and the other nothing."""

    def __init__(self, a: ModelFile, b: ModelFile, settings: Settings) -> None:
        """Raises InvalidModel, BackendUnavailable."""
        self._a = ModelEncoder(a, settings)
        try:
            self._b = ModelEncoder(b, settings)
        except BaseException:
            self._a.close()
            raise
        self._turn = 0
        self._rates: list[tuple[int, float, float]] = []

    def encode(self, images: Sequence[bytes]) -> tuple[Results, Results]:
        """What A and B make of images. The one that begins is another each time."""
        if self._turn == 0:
            self._a.encode_many(images[:_WARM_IMAGES])
            self._b.encode_many(images[:_WARM_IMAGES])
        results: dict[int, Results] = {}
        rates: dict[int, float] = {}
        for side in (self._turn % 2, 1 - self._turn % 2):
            start = time.perf_counter()
            results[side] = (self._a, self._b)[side].encode_many(images)
            rates[side] = len(images) / (time.perf_counter() - start)
        self._rates.append((len(images), rates[0], rates[1]))
        self._turn += 1
        return results[0], results[1]

    def images_per_s(self, side: int) -> Floats:
        """The rate of a model in each turn, without those of few images, which are slow for that."""
        largest = max((count for count, *_ in self._rates), default=0)
        return np.array([rates[side] for count, *rates in self._rates if 2 * count >= largest])

    def close(self) -> None:
        """Give both models back. No other call may follow."""
        self._a.close()
        self._b.close()


@dataclass(frozen=True, slots=True)
class Side:
    """What one model made of the images."""

    codes: Codes
    """uint8 [n, num_bytes]"""
    entropy_bits: Floats
    """float64 [n]"""
    provider: str
    images_per_s: Floats
    """float64 [num_turns]"""


@dataclass(frozen=True, slots=True)
class EncodedImages:
    """The images that both models encoded, in one random order."""

    labels: list[str | None]
    locations: list[Location]
    arrivals: list[int]
    """Place of each in the order in which they were read."""
    sides: tuple[Side, Side]


@dataclass(slots=True)
class _Kept:
    num_bits: int
    codes: list[bytes] = field(default_factory=list)
    entropy_bits: list[float] = field(default_factory=list)
    provider: str = ""

    def add(self, encoding: Encoding) -> None:
        self.codes.append(encoding.code)
        self.entropy_bits.append(encoding.entropy_bits)
        self.provider = encoding.model.provider

    def side(self, order: Sequence[int], images_per_s: Floats) -> Side:
        codes = stack(self.codes, self.num_bits)[order]
        return Side(codes, np.array(self.entropy_bits)[order], self.provider, images_per_s)


def encode_all(
    pair: Pair,
    num_bits: tuple[int, int],
    reader: ImageReader,
    on_progress: Callable[[str, int], None],
    on_failure: Callable[[Failure], None],
) -> EncodedImages:
    """Encode what the reader gives. An image that either model refuses is a failure.

    `on_progress` is told what was done to how many images. Raises BackendUnavailable, SourceUnavailable.
    """
    kept = (_Kept(num_bits[0]), _Kept(num_bits[1]))
    pictures: list[tuple[str | None, Location]] = []
    num_done = 0
    for batch in reader.batches():
        for picture, a, b in zip(batch, *pair.encode([picture.data for picture in batch]), strict=True):
            if isinstance(a, Encoding) and isinstance(b, Encoding):
                kept[0].add(a)
                kept[1].add(b)
                pictures.append((picture.label, picture.location))
            else:
                on_failure(_refusal(picture, a, b))
        num_done += len(batch)
        on_progress("encoded", num_done)
    order = np.random.default_rng(_ORDER_SEED).permutation(len(pictures)).tolist()
    return EncodedImages(
        [pictures[number][0] for number in order],
        [pictures[number][1] for number in order],
        order,
        (kept[0].side(order, pair.images_per_s(0)), kept[1].side(order, pair.images_per_s(1))),
    )


def _refusal(picture: Picture, a: Encoding | StochConError, b: Encoding | StochConError) -> Failure:
    reason = a if isinstance(a, StochConError) else b
    return Failure(picture.id, str(reason), picture.location.place)

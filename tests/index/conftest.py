from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from index.embedded import EmbeddedStore
from index.protocol import Item, ModelRef

NUM_BITS = 64


@pytest.fixture
def model() -> ModelRef:
    return ModelRef(id="a" * 64, name="tiny", num_bits=NUM_BITS, provider="cpu-fp32")


@pytest.fixture
def other_model() -> ModelRef:
    return ModelRef(id="b" * 64, name="other", num_bits=NUM_BITS)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def make_items(rng: np.random.Generator) -> Callable[..., list[Item]]:
    """Items `<prefix>0`, `<prefix>1`, ... with random codes."""

    def make(count: int, prefix: str = "item", label: str | None = None, **metadata: object) -> list[Item]:
        codes = rng.integers(0, 256, (count, NUM_BITS // 8), dtype=np.uint8)
        return [Item(f"{prefix}{i}", code.tobytes(), label, metadata) for i, code in enumerate(codes)]

    return make


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], EmbeddedStore]]:
    """Opens the same store again and again; segments of 64 slots, so that a test fills many."""
    opened: list[EmbeddedStore] = []

    def open_again() -> EmbeddedStore:
        for store in opened:
            store.close()
        opened.append(EmbeddedStore.open(tmp_path, num_threads=2, segment_slots=64))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], EmbeddedStore]) -> EmbeddedStore:
    return open_store()

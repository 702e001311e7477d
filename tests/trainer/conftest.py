from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny_images import make_png, write_parquet
from tests.trainer.two_ranks import TwoRanks
from trainer.recipe import Recipe, View


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """48 images of three classes, in a Parquet file."""
    labels = [i % 3 for i in range(48)]
    return write_parquet(
        tmp_path / "coloured.parquet", [make_png(x, i) for i, x in enumerate(labels)], labels
    )


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    """Small enough to train in a test."""
    view = View(size=16, scale=(0.3, 1.0))
    return Recipe(
        name="test",
        image_size=16,
        global_views=(view, view),
        depth=18,
        stem="strided",
        width=16,
        head_hidden=16,
        head_width=8,
        head_layers=2,
        num_bits=64,
        epochs=4,
        batch_size=16,
        base_lr=1.0,
        warmup_epochs=1,
        temperature=0.2,
        precision="fp32",
    )


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[TwoRanks]:
    with TwoRanks() as started:
        yield started


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in one order: the bits of another process, or of another loop, are the same only then."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

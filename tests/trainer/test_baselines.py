import numpy as np
import pytest
import torch
from torch.nn import functional as F

from contracts.codes import hamming, pack_logits
from trainer import hashing
from trainer.baselines import compare
from trainer.embedding import Embeddings, Seen


def made(count: int, seed: int, *, learned: bool = True) -> Embeddings:
    """16 features that are never negative, as pooled ReLU features; and learned codes of 24 bits."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    centres = torch.rand(4, 16, generator=torch.Generator().manual_seed(0))
    h = (centres[labels] + 0.3 * torch.randn(count, 16, generator=generator)).relu()
    logits = torch.randn(count, 24, generator=generator) + 2 * torch.eye(4, 24)[labels]
    codes = pack_logits(logits.numpy()) if learned else None
    return Embeddings(list("abcd"), labels, [], torch.zeros(count, 1), Seen(features=h, codes=codes), [])


def top1_of_nearest(distances: np.ndarray, queries: Embeddings, gallery: Embeddings) -> float:
    """Recall@1: of items tied at the smallest distance, the share that has the query's label."""
    shares = [
        (gallery.labels.numpy()[row == row.min()] == label).mean()
        for row, label in zip(distances, queries.labels.numpy(), strict=True)
    ]
    return float(np.mean(shares))


@pytest.fixture
def few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "SIZES", (16, 32))


@pytest.mark.usefixtures("few_sizes")
def test_each_code_ranks_by_its_own_distance() -> None:
    queries, gallery = made(40, 1), made(300, 2)
    found = compare(queries, gallery, k=5)
    asked, kept = queries.seen.features, gallery.seen.features
    assert {name: list(sizes) for name, sizes in found.items()} == {
        "floats": [0],
        "learned": [24],
        "sign": [16],
        "itq": [16],
        "projection": [16, 32],
        "pq": [16, 32],
    }

    def recall(method: str, size: int) -> float:
        return found[method][size]["recall_at_1"]

    cosines = 1 - (F.normalize(asked) @ F.normalize(kept).T).numpy()
    assert recall("floats", 0) == pytest.approx(top1_of_nearest(cosines, queries, gallery))
    learned = hamming(queries.seen.codes, gallery.seen.codes)
    assert recall("learned", 24) == pytest.approx(top1_of_nearest(learned, queries, gallery))
    signs = [(h - kept.mean(0) >= 0).numpy() for h in (asked, kept)]
    differing = (signs[0][:, None] != signs[1][None]).sum(-1)
    assert recall("sign", 16) == pytest.approx(top1_of_nearest(differing, queries, gallery))
    # The quantiser stands for the gallery alone: queries stay floats.
    quantiser = hashing.fit_pq(F.normalize(kept), 32)
    decoded = quantiser.decode(quantiser.encode(F.normalize(kept)))
    squares = (F.normalize(asked)[:, None] - decoded[None]).square().sum(-1).numpy().round(5)
    assert recall("pq", 32) == pytest.approx(top1_of_nearest(squares, queries, gallery))
    assert all(scores["num_queries"] == 40 for sizes in found.values() for scores in sizes.values())


@pytest.mark.usefixtures("few_sizes")
def test_a_run_without_codes_has_only_the_others_and_each_is_told_before_it_is_made() -> None:
    told: list[str] = []
    found = compare(made(10, 1, learned=False), made(100, 2, learned=False), on_made=told.append)
    assert "learned" not in found
    assert "pq" not in found  # 100 images are fewer than its centroids
    assert told == ["floats", "sign, 16 bits", "itq, 16 bits", "projection, 16 bits", "projection, 32 bits"]


def test_a_model_without_features_is_refused() -> None:
    part = made(10, 1)
    bare = Embeddings(part.classes, part.labels, [], part.pixels, Seen(codes=part.seen.codes), [])
    with pytest.raises(ValueError, match="no features h"):
        compare(bare, bare, k=1)

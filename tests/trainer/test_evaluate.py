from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from contracts.codes import hamming, pack_logits
from trainer.embedding import Embeddings, Seen
from trainer.evaluate import bit_statistics, evaluate, top1

CLASSES = ["ant", "bee", "cat"]


def made(count: int, seed: int, classes: list[str] | None = None, **seen: Any) -> Embeddings:
    """Embeddings of random pixels, six numbers each, near their class's."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    pixels = rng.random((count, 6)) + 0.3 * np.eye(3, 6)[labels]
    return Embeddings(
        classes=classes or CLASSES,
        labels=torch.from_numpy(labels),
        broken=[],
        pixels=torch.from_numpy(pixels).float(),
        seen=Seen(**seen),
        model_classes=[],
    )


def vectors(embeddings: Embeddings, seed: int, width: int = 8) -> torch.Tensor:
    """Vectors near their class's."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(embeddings.labels), width, generator=generator)
    return noise + 1.5 * torch.eye(3, width)[embeddings.labels]


def with_seen(embeddings: Embeddings, **seen: Any) -> Embeddings:
    return Embeddings(
        embeddings.classes, embeddings.labels, [], embeddings.pixels, Seen(**seen), embeddings.model_classes
    )


def test_floats_score_as_scikit_learn_says() -> None:
    queries, gallery = made(30, 0), made(200, 1)
    h = vectors(queries, 2), vectors(gallery, 3)
    means = vectors(queries, 4), vectors(gallery, 5)
    queries = with_seen(queries, features=h[0], means=means[0], variances=torch.ones_like(means[0]))
    gallery = with_seen(gallery, features=h[1], means=means[1], variances=torch.ones_like(means[1]))
    values = evaluate(queries, gallery, k=7)
    pairs = {"features": h, "means": means, "pixels": (queries.pixels, gallery.pixels)}
    for name, (asked, kept) in pairs.items():
        unit = [(x / x.norm(dim=1, keepdim=True)).double().numpy() for x in (asked, kept)]
        similarities = unit[0] @ unit[1].T
        aps = [
            average_precision_score(gallery.labels.numpy() == label, row)
            for label, row in zip(queries.labels.numpy(), similarities, strict=True)
        ]
        assert values[f"{name}_map"] == pytest.approx(np.mean(aps), abs=1e-6)
        nearest = KNeighborsClassifier(1, metric="cosine").fit(unit[1], gallery.labels)
        hits = nearest.predict(unit[0]) == queries.labels.numpy()
        assert values[f"{name}_recall_at_1"] == pytest.approx(hits.mean())
    assert values["num_queries"] == 30
    assert values["num_images"] == 200
    assert values["k"] == 7
    assert "codes_map" not in values


def test_codes_score_as_every_order_of_their_ties_does_on_average() -> None:
    queries, gallery = made(10, 0), made(60, 1)
    codes = [pack_logits(vectors(part, 2 + i).numpy()) for i, part in enumerate((queries, gallery))]
    queries = with_seen(queries, codes=codes[0], entropy=torch.ones(10))
    values = evaluate(queries, with_seen(gallery, codes=codes[1]), k=5)
    rng = np.random.default_rng(0)
    distances = hamming(codes[0], codes[1])  # 8 bits, so that most are tied
    drawn = [
        average_precision_score(gallery.labels.numpy() == label, -(row + rng.random(60)))
        for label, row in zip(queries.labels.numpy(), distances, strict=True)
        for _ in range(60)
    ]
    assert values["codes_map"] == pytest.approx(np.mean(drawn), abs=0.01)
    assert values["entropy_bits"] == 1.0


def test_the_aggregate_variance_is_that_of_draws_from_the_mixture() -> None:
    queries, gallery = made(40, 0), made(50, 1)
    means, variances = vectors(queries, 2, 4), vectors(queries, 3, 4).abs() + 0.1
    queries = with_seen(queries, means=means, variances=variances)
    gallery = with_seen(gallery, means=vectors(gallery, 4, 4))
    found = evaluate(queries, gallery)["aggregate_variance"]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 40, (200_000,), generator=generator)
    draws = means[rows] + variances[rows].sqrt() * torch.randn(200_000, 4, generator=generator)
    assert found == pytest.approx(draws.var(0).mean().item(), rel=0.02)


def test_classes_are_compared_by_name_and_not_by_number() -> None:
    gallery = made(9, 0, ["bee", "cat", "dog"])
    asked = made(9, 0)
    queries = Embeddings(
        ["ant", "dog", "cat", "bee"],
        torch.tensor([[3, 2, 1][label] for label in gallery.labels]),
        [],
        gallery.pixels,
        Seen(),
        [],
    )
    assert evaluate(queries, gallery, k=1)["pixels_knn_top1"] == 1.0  # the same images lie in the gallery
    with pytest.raises(ValueError, match="the queries have the class ant and the gallery's are bee, cat"):
        evaluate(asked, gallery, k=1)
    with pytest.raises(ValueError, match="k is 10 and the gallery has 9 images: give --k"):
        evaluate(queries, gallery, k=10)


def test_a_layer_of_its_own_is_scored_where_it_knows_the_classes() -> None:
    embeddings = Embeddings(
        classes=["ant", "bee", "cat"],
        labels=torch.tensor([0, 2, 2, 0]),
        broken=[],
        pixels=torch.zeros(4, 1),
        seen=Seen(predicted=torch.tensor([1, 0, 1, 1])),
        model_classes=["cat", "ant"],
    )
    assert top1(embeddings) == 0.75
    unknown = Embeddings(
        ["ant", "bee", "cat"], torch.tensor([0, 1, 2, 0]), [], *[embeddings.pixels, embeddings.seen], ["cat"]
    )
    assert top1(unknown) is None
    assert top1(with_seen(embeddings)) is None


def test_bit_statistics_count_active_uncertain_and_dead_bits() -> None:
    logits = torch.tensor([[5.0, 0.0, -40.0] + [-40.0] * 5, [5.0, -1.0, 40.0] + [-40.0] * 5])
    statistics = bit_statistics(pack_logits(logits.numpy()), torch.tensor([1.5, 0.5]))
    assert statistics["active_bits"] == 2.0  # bits 0 and 1; bits 0 and 2
    assert statistics["dead_bits"] == 6.0  # bit 0 always 1, bits 3 to 7 always 0
    assert statistics["entropy_bits"] == 1.0

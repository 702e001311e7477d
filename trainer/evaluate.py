"""What a model is worth in retrieval: its codes beside its own floats and raw pixels."""

import torch
from torch import Tensor

from contracts.codes import Codes, active_bits, unpack
from trainer.embedding import Embeddings
from trainer.monitor import aggregate_variance
from trainer.retrieval import Retrieval, evaluate_codes, evaluate_floats

EVALUATION = "evaluation.json"
"""Where a run keeps it."""


def evaluate(queries: Embeddings, gallery: Embeddings, k: int = 20) -> dict[str, float]:
    """Retrieval by every representation, as `<representation>_<number>`, and statistics of the latent.

    `codes` are compared by Hamming distance; `features` (h), `means` (of a Gaussian latent) and `pixels` by
    cosine. Bits, the aggregate variance and `top1`, of a model that has classes, are of the queries. Raises
    ValueError for more neighbours than the gallery has, or a class of queries that it lacks.
    """
    query_labels, labels = shared_labels(queries, gallery), gallery.labels
    found: dict[str, Retrieval] = {}
    asked, kept = queries.seen, gallery.seen
    if asked.codes is not None and kept.codes is not None:
        found["codes"] = evaluate_codes(asked.codes, query_labels, kept.codes, labels, k)
    for name, ours, theirs in (
        ("features", asked.features, kept.features),
        ("means", asked.means, kept.means),
        ("pixels", queries.pixels, gallery.pixels),
    ):
        if ours is not None and theirs is not None:
            found[name] = evaluate_floats(ours, query_labels, theirs, labels, k)
    values: dict[str, float] = {
        f"{name}_{key}": value for name, one in found.items() for key, value in one.to_dict().items()
    }
    if asked.codes is not None and asked.entropy is not None:
        values |= bit_statistics(asked.codes, asked.entropy)
    if asked.means is not None and asked.variances is not None:
        values["aggregate_variance"] = float(aggregate_variance(asked.means, asked.variances))
    accuracy = top1(queries)
    if accuracy is not None:
        values["top1"] = accuracy
    return values | {"k": k, "num_queries": len(query_labels), "num_images": len(labels)}


def bit_statistics(codes: Codes, entropy: Tensor) -> dict[str, float]:
    """Countable metrics of section 4.3 of codes [n, num_bytes] and the entropies of their bits [n].

    Means over the images; `dead_bits` are those equal in all of them.
    """
    share = unpack(codes).mean(axis=0)
    return {
        "active_bits": float(active_bits(codes).mean()),
        "entropy_bits": float(entropy.double().mean()),
        "dead_bits": float(((share == 0) | (share == 1)).sum()),
    }


def top1(embeddings: Embeddings) -> float | None:
    """Share of images whose class the model names; None if it does not know every one of the classes."""
    predicted = embeddings.seen.predicted
    places = {name: place for place, name in enumerate(embeddings.model_classes)}
    present = {embeddings.classes[label] for label in embeddings.labels.tolist()}
    if predicted is None or not present <= set(places):
        return None
    expected = torch.tensor([places.get(name, -1) for name in embeddings.classes])[embeddings.labels]
    return float((predicted == expected).double().mean())


def shared_labels(queries: Embeddings, gallery: Embeddings) -> Tensor:
    """Labels of `queries` as places in the gallery's classes: folders may hold other classes, or fewer.

    Raises ValueError for a class that the gallery lacks.
    """
    places = {name: place for place, name in enumerate(gallery.classes)}
    present = {queries.classes[label] for label in queries.labels.tolist()}
    missing = sorted(present - set(places))
    if missing:
        raise ValueError(
            f"the queries have the class {missing[0]} and the gallery's are {', '.join(places)}: "
            "give --images and --queries of the same classes"
        )
    return torch.tensor([places.get(name, -1) for name in queries.classes])[queries.labels]

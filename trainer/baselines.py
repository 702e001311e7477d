"""Learned codes beside codes that need no training of a network, made of the same run's h.

Of a SimCLR run, that is what its floats are worth compressed; of a StochCon run, whether its own bits are
better than those that anyone could make of its h.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from contracts.codes import Codes
from trainer import hashing
from trainer.embedding import Embeddings
from trainer.evaluate import shared_labels
from trainer.retrieval import Retrieval, evaluate_codes, evaluate_floats

BASELINES = "baselines.json"
"""Where a run keeps them."""

Baselines = dict[str, dict[int, dict[str, float]]]
"""Numbers of `Retrieval.to_dict` by method and bits; `floats` has 0 bits, `learned` are the run's own."""


def compare(
    queries: Embeddings,
    gallery: Embeddings,
    k: int = 20,
    on_made: Callable[[str], None] = lambda name: None,
) -> Baselines:
    """Retrieval by h itself, by the run's own codes, and by h coded by each method at each size.

    All methods are fitted on the gallery. Product quantisation has h at unit length, for which Euclidean
    and cosine rankings agree, and leaves the queries as floats (asymmetric distances). `on_made` is told
    each method with its size before it is made. Raises ValueError as `evaluate`, and for embeddings
    without h.
    """
    asked, fitted = queries.seen.features, gallery.seen.features
    if asked is None or fitted is None:
        raise ValueError("the model gives no features h to make codes of")
    labels = shared_labels(queries, gallery), gallery.labels

    def by_floats(ours: Tensor, theirs: Tensor) -> Retrieval:
        return evaluate_floats(ours, labels[0], theirs, labels[1], k)

    def by_codes(ours: Codes, theirs: Codes) -> Retrieval:
        return evaluate_codes(ours, labels[0], theirs, labels[1], k)

    def by_quantiser(size: int) -> Retrieval:
        ours, theirs = F.normalize(asked, dim=1), F.normalize(fitted, dim=1)
        quantiser = hashing.fit_pq(theirs, size)
        decoded = quantiser.decode(quantiser.encode(theirs))
        return evaluate_floats(ours, labels[0], decoded, labels[1], k, "euclidean")

    def by_planes(planes: hashing.Planes) -> Retrieval:
        return by_codes(planes.encode(asked), planes.encode(fitted))

    made: Baselines = {}

    def add(method: str, size: int, retrieval: Callable[[], Retrieval]) -> None:
        on_made(f"{method}, {size} bits" if size else method)
        values = retrieval().to_dict() | {"num_queries": len(asked)}
        made.setdefault(method, {})[size] = values

    add("floats", 0, lambda: by_floats(asked, fitted))
    learned = queries.seen.codes, gallery.seen.codes
    if learned[0] is not None and learned[1] is not None:
        pair = learned[0], learned[1]
        add("learned", 8 * pair[0].shape[1], lambda: by_codes(*pair))
    fits: dict[hashing.Method, Callable[[int], Retrieval]] = {
        "sign": lambda size: by_planes(hashing.fit_sign(fitted)),
        "itq": lambda size: by_planes(hashing.fit_itq(fitted, size)),
        "projection": lambda size: by_planes(hashing.fit_projection(fitted, size)),
        "pq": by_quantiser,
    }
    for method, fit in fits.items():
        for size in hashing.sizes(method, fitted.shape[1], len(fitted)):
            add(method, size, partial(fit, size))
    return made

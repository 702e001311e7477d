"""The comparison from end to end: encode, then ask the codes.

It holds codes and not images, and at most NUM_QUERIES of the images are asked about, so its time after the
encoding grows with the number of images and not with its square.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
import numpy.typing as npt

from contracts.codes import Codes, active_bits, stack
from contracts.errors import InvalidInput, NotFound, StochConError, TooLarge
from contracts.pixels import ImageLimits
from service.models import ModelFile
from service.settings import Settings
from stochcon.comparing import measure
from stochcon.comparing.comparison import (
    Agreement,
    Comparison,
    Curves,
    Distribution,
    Images,
    Model,
    Score,
)
from stochcon.comparing.edits import EDITS, edited
from stochcon.comparing.encoding import EncodedImages, Pair, Side, encode_all
from stochcon.comparing.images import ImageReader
from stochcon.comparing.measure import Judged, Positions
from stochcon.comparing.significance import mean, paired, share
from stochcon.comparing.verdict import verdict
from stochcon.results import Encoding
from stochcon.sources.source import Failure, Source

NUM_QUERIES = 5000
"""Images that are asked about, at random; all of them are searched."""
NUM_EDITED = 200
"""Images that are edited, at random."""
NUM_PAIRS = 20_000
"""Random pairs whose distances are measured."""

_SEED = 0
_EDITED_AT_ONCE = 16


def compare(
    models: tuple[ModelFile, ModelFile],
    settings: Settings,
    sources: Sequence[Source],
    *,
    k: int,
    limit: int | None = None,
    on_progress: Callable[[str, int], None],
    on_failure: Callable[[Failure], None],
) -> tuple[Comparison, tuple[Curves, Curves]]:
    """Compare two models on the images of `sources`, or on `limit` of them.

    Raises InvalidModel, BackendUnavailable, SourceUnavailable, NotFound if there are no images, and
    InvalidInput if fewer than two can be used.
    """
    failures = 0

    def count_failure(failure: Failure) -> None:
        nonlocal failures
        failures += 1
        on_failure(failure)

    reader = ImageReader(sources, limit, count_failure)
    with closing(Pair(*models, settings)) as pair:
        num_bits = models[0].manifest.num_bits, models[1].manifest.num_bits
        images = encode_all(pair, num_bits, reader, on_progress, count_failure)
        _check_enough(len(images.labels), failures, reader.num_copies)
        near_duplicates, edits = _near_duplicates(
            pair, images, reader, settings.encoder_settings().limits, on_progress
        )
    labelled = _by_label(images, k)
    (a, curves_a, near_a), (b, curves_b, near_b) = (
        _describe(model, side, k) for model, side in zip(models, images.sides, strict=True)
    )
    num_used, num_near = len(images.labels), near_a.shape[1]
    overlap = measure.mean_overlap(near_a, near_b)
    tested = [*labelled, *([near_duplicates] if near_duplicates else [])]
    found = Comparison(
        Images(num_used, failures, reader.num_copies, sum(label is not None for label in images.labels)),
        a,
        b,
        Agreement(num_near, overlap, num_near / (num_used - 1), len(near_a)),
        labelled,
        near_duplicates,
        edits,
        verdict((a.name, b.name), tested, is_same=a.id == b.id),
    )
    return found, (curves_a, curves_b)


def _check_enough(num_used: int, num_failed: int, num_copies: int) -> None:
    if num_used + num_failed + num_copies == 0:
        raise NotFound("there are no images to compare the models on: name some with --images")
    if num_used < 2:
        raise InvalidInput(
            f"{num_used} images can be used ({num_failed} failed, {num_copies} are copies) and a comparison "
            "takes at least 2: name more with --images"
        )


def _describe(model: ModelFile, side: Side, k: int) -> tuple[Model, Curves, Positions]:
    """A model's codes in numbers, what is drawn of them, and the neighbours of each query."""
    num_bits, num_images = model.manifest.num_bits, len(side.codes)
    queries = np.arange(min(num_images, NUM_QUERIES))  # At random, since the images are in random order.
    near = measure.find_neighbours(side.codes, queries, min(k, num_images - 1))
    pairs = measure.random_pairs(num_images, NUM_PAIRS, np.random.default_rng(_SEED))
    curves = Curves(
        near.distances[:, 0] / num_bits,
        measure.paired_distances(side.codes, pairs) / num_bits,
        side.entropy_bits / num_bits,
        measure.bit_activity(side.codes),
    )
    described = Model(
        id=model.id,
        name=model.manifest.name,
        version=model.manifest.version,
        num_bits=num_bits,
        bytes_per_image=num_bits // 8,
        provider=side.provider,
        images_per_s=Distribution.of(side.images_per_s),
        entropy_bits=Distribution.of(side.entropy_bits),
        active_bits=Distribution.of(active_bits(side.codes)),
        constant_bits=measure.constant_bits(side.codes),
        sharing_a_code=measure.num_sharing_a_code(side.codes),
        nearest_distance=Distribution.of(curves.nearest),
        random_distance=Distribution.of(curves.random),
        separation=measure.separation(curves.nearest, curves.random),
    )
    return described, curves, near.positions


def _by_label(images: EncodedImages, k: int) -> list[Score]:
    """Scores by label; none unless at least two labels have at least two images each."""
    known = [number for number, label in enumerate(images.labels) if label is not None]
    labels = [str(images.labels[number]) for number in known]
    counts = Counter(labels)
    if sum(count > 1 for count in counts.values()) < 2:
        return []
    # A label of a single image is no question, since nothing could answer it; it still is in the way.
    queries = np.array([number for number, label in enumerate(labels) if counts[label] > 1][:NUM_QUERIES])
    a, b = (measure.judge_by_label(side.codes[known], labels, queries, k) for side in images.sides)
    return list(_scores(a, b, k))


def _scores(a: Judged, b: Judged, k: int) -> Iterator[Score]:
    yield _score_right(f"{k}-NN", a.is_voted_right, b.is_voted_right)
    precision = a.average_precision, b.average_precision
    yield Score("mAP", len(precision[0]), mean(precision[0]), mean(precision[1]), paired(*precision))
    for cutoff in a.recall:
        yield _score_right(f"recall@{cutoff}", a.recall[cutoff], b.recall[cutoff])


def _score_right(name: str, a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> Score:
    return Score(name, len(a), share(a), share(b), paired(a, b))


def _near_duplicates(
    pair: Pair,
    images: EncodedImages,
    reader: ImageReader,
    limits: ImageLimits,
    on_progress: Callable[[str, int], None],
) -> tuple[Score | None, list[Score]]:
    """Whether edited images find their original first among all: over all edits, and for each."""
    # Again at random, and in the order in which they can be read again.
    chosen = sorted(range(min(len(images.labels), NUM_EDITED)), key=images.arrivals.__getitem__)
    answers: list[int] = []
    codes: tuple[list[bytes], list[bytes]] = ([], [])
    pictures = zip(chosen, reader.read_again(images.locations[number] for number in chosen), strict=True)
    while batch := list(islice(pictures, _EDITED_AT_ONCE)):
        files = [(number, made) for number, data in batch if (made := _edited(data, limits, number))]
        results = pair.encode([file for _, made in files for file in made])
        for start, (number, _) in enumerate(files):
            rows = slice(start * len(EDITS), (start + 1) * len(EDITS))
            answers.append(number)
            for kept, side in zip(codes, results, strict=True):
                kept.extend(_code(result) for result in side[rows])
        on_progress("edited", len(answers))
    if not answers:
        return None, []
    found = [
        _found(side.codes, stack(made, side.codes.shape[1] * 8), np.array(answers))
        for side, made in zip(images.sides, codes, strict=True)
    ]
    # The edits of one image are no independent questions: each image counts once, with its share.
    a, b = (side.mean(axis=1) for side in found)
    overall = Score("near-duplicates", len(a), mean(a), mean(b), paired(a, b))
    return overall, [
        _score_right(name, found[0][:, number], found[1][:, number]) for number, name in enumerate(EDITS)
    ]


def _edited(data: bytes | None, limits: ImageLimits, number: int) -> list[bytes]:
    """The image under each edit; none if it is gone, or decodes only with the service's own decoder."""
    try:
        return [] if data is None else edited(data, limits, [_SEED, number])
    except (InvalidInput, TooLarge):
        return []


def _found(gallery: Codes, queries: Codes, answers: Positions) -> npt.NDArray[np.bool_]:
    """bool [num_images, num_edits]"""
    return measure.is_found_first(queries, np.repeat(answers, len(EDITS)), gallery).reshape(-1, len(EDITS))


def _code(result: Encoding | StochConError) -> bytes:
    if isinstance(result, StochConError):
        raise result
    return result.code

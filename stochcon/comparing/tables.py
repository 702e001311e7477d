"""The comparison as rows of words, for the terminal and for the page."""

from collections.abc import Iterator

from stochcon.comparing.comparison import Comparison, Distribution, Model, Score
from stochcon.comparing.significance import Estimate
from stochcon.comparing.verdict import plain

Row = tuple[str, str, str, str, str, str]


def columns(found: Comparison) -> Row:
    """The heading. "only A right" counts queries on which A is right and B is not, or A is better."""
    return "", f"A: {found.a.name}", f"B: {found.b.name}", "B less A, points", "queries: A / B better", "p"


def rows(found: Comparison) -> list[Row]:
    """Everything, a row each: facts first, then what was tested."""
    return [*_facts(found), *map(_score, found.tested), *map(_edit, found.edits)]


def _facts(found: Comparison) -> Iterator[Row]:
    a, b, images = found.a, found.b, found.images
    yield _both("images used", str(images.used))
    if images.failed:
        yield _both("images that failed", str(images.failed))
    if images.copies:
        yield _both("copies left out", str(images.copies))
    yield _row("model", a.id[:12], b.id[:12])
    yield _row("bits", str(a.num_bits), str(b.num_bits))
    yield _row("bytes an image", str(a.bytes_per_image), str(b.bytes_per_image))
    yield _row("runs on", a.provider, b.provider)
    yield _row("images/s here (5–95 %)", *(_rate(m.images_per_s) for m in (a, b)))
    yield _row("bits that never change", str(a.constant_bits), str(b.constant_bits))
    yield _row("images that share a code", str(a.sharing_a_code), str(b.sharing_a_code))
    yield _row("entropy a bit (5–95 %)", *(_shares(m, m.entropy_bits) for m in (a, b)))
    yield _row("share of ones (5–95 %)", *(_shares(m, m.active_bits) for m in (a, b)))
    yield _row("distance to the nearest", *(_percent(m.nearest_distance.mean) for m in (a, b)))
    yield _row("distance at random", *(_percent(m.random_distance.mean) for m in (a, b)))
    yield _row("nearest told from random", *(_percent(m.separation) for m in (a, b)))
    agreement = found.agreement
    text = f"{_percent(agreement.overlap)} (chance {_percent(agreement.chance)})"
    yield _both(f"same {agreement.k} nearest", text)


def _score(score: Score) -> Row:
    paired = score.paired
    return (
        score.name,
        _interval(score.a),
        _interval(score.b),
        _points(paired.difference),
        f"{paired.num_a_better} / {paired.num_b_better}",
        plain(paired.p),
    )


def _edit(score: Score) -> Row:
    name, a, b, difference, better, p = _score(score)
    return f"  {name}", a, b, difference, better, p


def _row(name: str, a: str, b: str) -> Row:
    return name, a, b, "", "", ""


def _both(name: str, value: str) -> Row:
    return _row(name, value, value)


def _rate(values: Distribution) -> str:
    return f"{values.median:.1f} ({values.p5:.1f}–{values.p95:.1f})"


def _shares(model: Model, values: Distribution) -> str:
    """As a share of the model's bits, so that models of other sizes compare."""
    mean, low, high = (value / model.num_bits for value in (values.mean, values.p5, values.p95))
    return f"{mean:.3f} ({low:.3f}–{high:.3f})"


def _interval(estimate: Estimate) -> str:
    return f"{_percent(estimate.value)} ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def _points(difference: Estimate) -> str:
    value, low, high = (100 * end for end in (difference.value, difference.low, difference.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"

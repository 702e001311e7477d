"""What the comparison comes down to, in one line and no more certain than the numbers are."""

from collections.abc import Sequence

from stochcon.comparing.comparison import Score


def verdict(names: tuple[str, str], scores: Sequence[Score], *, is_same: bool) -> str:
    """Who is better at what, of the models named, and where no difference can be told.

    `is_same` says that both are one network. p-values are of each comparison alone; `Paired.better` asks
    more of each the more there are.
    """
    if is_same:
        return "A and B are the same network."
    if not scores:
        return "Nothing could be tested: no image could be edited, and there are too few labels."
    found = [(score, score.paired.better(len(scores))) for score in scores]
    parts = []
    for side, name in zip(("a", "b"), names, strict=True):
        wins = [f"{score.name} (p = {plain(score.paired.p)})" for score, better in found if better == side]
        if wins:
            parts.append(f"{side.upper()} ({name}) is better at {listed(wins)}")
    ties = [score.name for score, better in found if better is None]
    if ties:
        parts.append(f"no difference can be told in {listed(ties)}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def listed(words: Sequence[str]) -> str:
    """Words as a sentence has them."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def plain(p: float) -> str:
    """A p-value for people."""
    if p < 1e-99:
        return "below 1e-99"
    return f"{p:.2g}" if p >= 1e-4 else f"{p:.0e}"

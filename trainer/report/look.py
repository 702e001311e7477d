"""How every figure looks: one set of colours that the colour-blind can tell apart, one mark for each role."""

from collections.abc import Callable
from functools import cache

from trainer.report.content import Role

INK, FAINT, RULE = "#1a1a1a", "#6b6b6b", "#d9d9d9"

DPI = 200
TITLE_PT, TEXT_PT, SMALL_PT = 10.0, 9.0, 7.5

_BLACK, _BLUE, _SKY, _GREEN, _ORANGE, _RED, _PINK = (
    "#3d3d3d",
    "#0072b2",
    "#56b4e9",
    "#009e73",
    "#e69f00",
    "#d55e00",
    "#cc79a7",
)
"""Okabe and Ito's palette, without its yellow, which is too faint for a line."""

LOOKS: dict[Role, tuple[str, str]] = {
    "bernoulli": (_BLUE, "o"),
    "gaussian": (_RED, "s"),
    "simclr": (_GREEN, "^"),
    "supervised": (_BLACK, "D"),
    "supervised-bernoulli": (_PINK, "v"),
    "own-variance": (_PINK, "X"),
    "top": (_BLUE, "o"),
    "bottom": (_RED, "s"),
    "h": (_BLACK, "D"),
    "z": (_BLUE, "o"),
    "z-sampled": (_SKY, "^"),
    "bits": (_RED, "s"),
    "sign": (_BLACK, "D"),
    "itq": (_RED, "s"),
    "projection": (_GREEN, "^"),
    "pq": (_ORANGE, "v"),
    "floats": (_BLACK, "D"),
}
"""Colour and mark of each role."""

_LIGHTER = 0.2
_LIGHTEST = 0.7


def colour_of(role: Role, shade: int) -> str:
    """The role's colour, mixed with white for each further shade."""
    share = min(_LIGHTEST, _LIGHTER * shade)
    channels = [int(LOOKS[role][0][start : start + 2], 16) for start in (1, 3, 5)]
    return "#" + "".join(f"{round(value + (255 - value) * share):02x}" for value in channels)


def drawable(text: str) -> str:
    """`text` with a question mark for each character that the font lacks: names may hold any."""
    has = _has_glyph()
    return "".join(character if has(ord(character)) else "?" for character in text)


@cache
def _has_glyph() -> Callable[[int], bool]:
    from matplotlib.font_manager import findfont, get_font

    return get_font(findfont("DejaVu Sans")).get_charmap().__contains__

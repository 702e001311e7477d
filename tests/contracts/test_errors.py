import re
from itertools import takewhile

import pytest

from contracts import errors
from contracts.errors import ERRORS_BY_SLUG, StochConError

LINE = re.compile(r"^(?P<indent>[│ ]*(?:[├└]── )?)(?P<name>\w+)")


def drawn_tree() -> dict[str, str]:
    """Child -> parent, read off the drawing in the module's docstring by its indentation."""
    lines = errors.__doc__.splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "StochConError")
    parents: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in takewhile(str.strip, lines[start:]):
        match = LINE.match(line)
        depth = len(match["indent"])
        while path and path[-1][0] >= depth:
            path.pop()
        if path:
            parents[match["name"]] = path[-1][1]
        path.append((depth, match["name"]))
    return parents


def real_tree(root: type[StochConError] = StochConError) -> dict[str, str]:
    tree = {}
    for child in root.__subclasses__():
        tree |= {child.__name__: root.__name__} | real_tree(child)
    return tree


def test_the_tree_in_the_docstring_is_the_real_one():
    assert len(drawn_tree()) > 10
    assert drawn_tree() == real_tree()


def test_every_slug_names_one_class():
    assert set(ERRORS_BY_SLUG.values()) == {StochConError} | {getattr(errors, name) for name in real_tree()}
    for slug, kind in ERRORS_BY_SLUG.items():
        assert kind.slug == slug
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)
        assert kind.title


@pytest.mark.parametrize("kind", ERRORS_BY_SLUG.values())
def test_every_error_can_be_made_from_its_message_alone(kind):
    assert str(kind("what is wrong")) == "what is wrong"


def test_a_locked_store_says_where_its_owner_listens():
    assert errors.StoreLocked("in use", "http://127.0.0.1:1").url == "http://127.0.0.1:1"
    assert errors.StoreLocked("in use").url is None

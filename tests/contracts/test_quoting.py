import pytest

from contracts.quoting import quote


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (5, "5"),
        (2.5, "2.5"),
        ('say "hi" to Zoë', '"say \\"hi\\" to Zoë"'),
        ([None, False, "a"], '[null, false, "a"]'),
        ({"a": {"b": None}}, '{"a": {"b": null}}'),
    ],
)
def test_values_are_quoted_as_json(value: object, expected: str) -> None:
    assert quote(value) == expected


def test_long_and_deep_values_are_cut_short() -> None:
    nested: list = []
    for _ in range(100_000):
        nested = [nested]
    assert len(quote(nested)) < 100
    assert len(quote("x" * 10**6)) < 100
    assert len(quote(list(range(10**6)))) < 100

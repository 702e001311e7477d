"""Filters in SQLite against an evaluator of the contract's own sentences, in plain Python."""

import json
import sqlite3
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidQuery
from index.filters import MAX_CONDITIONS, MAX_OPERANDS, compile_filter
from index.items import to_row
from index.protocol import Item

VALUES = [
    *(None, True, False, 0, -0.0, 1, 1.0, -1, 2, 1.5, 0.1, 0.1 + 0.2, 1e16, 10**16, 1e300, 5e-324),
    *(2**53, 2**53 + 1, float(2**53), 2**63 - 1, -(2**63), float(2**63)),
    *(
        "",
        "0",
        "1",
        "true",
        "null",
        "a",
        "b",
        "B",
        "é",
        "😀",
        "\uffff",
        'a"b\\',
        "\n",
        "[]",
        "%",
        "a' OR 1=1",
    ),
    *([], [""], ["a"], ["a", "b"], ["b", "a"], ["1"]),
]
FIELDS = ["label", "metadata.a", "metadata.b", "metadata._c"]
MISSING = object()
DEEP: Any = []
for _ in range(100_000):
    DEEP = [DEEP]

scalars = st.sampled_from([value for value in VALUES if not isinstance(value, list)])
anything = st.sampled_from(VALUES)
ordered = st.sampled_from([v for v in VALUES if isinstance(v, str | int | float) and not isinstance(v, bool)])
operations = st.dictionaries(st.sampled_from(["eq", "ne"]), anything, min_size=1) | st.one_of(
    st.fixed_dictionaries({"in": st.lists(anything, max_size=4)}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), ordered, min_size=1),
)
flat = st.dictionaries(st.sampled_from(FIELDS), operations | anything, max_size=2)
filters = st.recursive(
    flat,
    lambda inner: (
        st.dictionaries(st.sampled_from(["and", "or"]), st.lists(inner, max_size=3), max_size=2)
        | st.fixed_dictionaries({"not": inner})
        | st.tuples(flat, inner).map(lambda pair: {**pair[0], "not": pair[1]})
    ),
    max_leaves=6,
).filter(lambda where: depth(where) <= 8)
items = st.builds(
    Item,
    id=st.just("id"),
    code=st.just(b"\0"),
    label=st.none() | st.sampled_from([value for value in VALUES if isinstance(value, str)]),
    metadata=st.dictionaries(st.sampled_from(["a", "b", "_c"]), anything),
)


def depth(where: Any) -> int:
    inner = [part for key in ("and", "or") for part in where.get(key, [])]
    inner += [where["not"]] if "not" in where else []
    return 1 + max(map(depth, inner), default=0)


def kind(value: Any) -> str:
    return {bool: "boolean", int: "number", float: "number"}.get(type(value), type(value).__name__)


def equal(value: Any, operand: Any) -> bool:
    return kind(value) == kind(operand) and value == operand


def holds(item: Item, where: dict[str, Any]) -> bool:
    return all(entry_holds(item, key, value) for key, value in where.items())


def entry_holds(item: Item, key: str, value: Any) -> bool:
    if key == "and":
        return all(holds(item, part) for part in value)
    if key == "or":
        return any(holds(item, part) for part in value)
    if key == "not":
        return not holds(item, value)
    if key == "label":
        field = MISSING if item.label is None else item.label
    else:
        field = item.metadata.get(key.removeprefix("metadata."), MISSING)
    tests = value if isinstance(value, dict) else {"eq": value}
    return all(test_holds(field, operator, operand) for operator, operand in tests.items())


def test_holds(field: Any, operator: str, operand: Any) -> bool:
    if operator == "exists":
        return (field is not MISSING) == operand
    if field is MISSING:
        return False
    if operator == "eq":
        return equal(field, operand)
    if operator == "ne":
        return not equal(field, operand)
    if operator == "in":
        return any(equal(field, one) for one in operand)
    if kind(field) != kind(operand):
        return False
    return {
        "gt": field > operand,
        "gte": field >= operand,
        "lt": field < operand,
        "lte": field <= operand,
    }[operator]


test_holds.__test__ = False


@pytest.fixture(scope="module")
def table() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE items (slot INTEGER PRIMARY KEY, label TEXT, metadata TEXT NOT NULL)")
    yield connection
    connection.close()


def matching(table: sqlite3.Connection, stored: list[Item], where: dict[str, Any]) -> list[int]:
    table.execute("DELETE FROM items")
    rows = [to_row(item, 1) for item in stored]
    table.executemany("INSERT INTO items VALUES (?, ?, ?)", [(i, r[2], r[3]) for i, r in enumerate(rows)])
    condition = compile_filter(where)
    found = table.execute(f"SELECT slot FROM items WHERE {condition.sql} ORDER BY slot", condition.params)
    return [slot for (slot,) in found]


@settings(max_examples=400, deadline=None)
@given(stored=st.lists(items, max_size=8), where=filters)
@example(stored=[Item("id", b"\0")], where={"not": {"metadata.a": 1}})
@example(stored=[Item("id", b"\0", metadata={"a": True})], where={"metadata.a": 1})
def test_filters_mean_what_the_contract_says(
    table: sqlite3.Connection, stored: list[Item], where: dict[str, Any]
) -> None:
    where = json.loads(json.dumps(where))
    assert matching(table, stored, where) == [i for i, item in enumerate(stored) if holds(item, where)]


@pytest.mark.parametrize("operator", ["eq", "ne", "gt", "gte", "lt", "lte"])
def test_every_pair_of_values_compares_as_the_contract_says(table: sqlite3.Connection, operator: str) -> None:
    stored = [Item("id", b"\0", metadata={"a": value}) for value in VALUES]
    for operand in VALUES:
        if operator not in ("eq", "ne") and kind(operand) not in ("number", "str"):
            continue
        where = {"metadata.a": {operator: operand}}
        expected = [i for i, item in enumerate(stored) if holds(item, where)]
        assert matching(table, stored, where) == expected, operand


def nest(levels: int) -> dict[str, Any]:
    where: dict[str, Any] = {"label": "a"}
    for _ in range(levels - 1):
        where = {"not": where}
    return where


def test_eight_levels_are_accepted_and_nine_are_not() -> None:
    compile_filter(nest(8))
    with pytest.raises(InvalidQuery, match="8 levels"):
        compile_filter(nest(9))


def test_a_very_deep_filter_is_refused_without_recursing() -> None:
    with pytest.raises(InvalidQuery, match="8 levels"):
        compile_filter(nest(100_000))


@pytest.mark.parametrize(
    "where",
    [
        ["label"],
        "label",
        {"labels": "a"},
        {"id": "a"},
        {"uri": "a"},
        {"metadata": "a"},
        {"metadata.": "a"},
        {"metadata.a.b": "a"},
        {"metadata.a'": "a"},
        {"metadata.a\n": "a"},
        {"": "a"},
        {7: "a"},
        {"label": {}},
        {"label": {"like": "a"}},
        {"label": {"eq": {"a": 1}}},
        {"metadata.a": [1]},
        {"metadata.a": DEEP},
        {"metadata.a": {"in": "ab"}},
        {"metadata.a": {"in": [{"eq": 1}]}},
        {"metadata.a": {"exists": 1}},
        {"metadata.a": {"exists": None}},
        {"metadata.a": {"gt": True}},
        {"metadata.a": {"gt": None}},
        {"metadata.a": {"lte": ["a"]}},
        {"metadata.a": {"gt": float("nan")}},
        {"metadata.a": float("inf")},
        {"metadata.a": 2**63},
        {"metadata.a": "\ud800"},
        {"label": {"in": ["\ud800"]}},
        {"and": {"label": "a"}},
        {"or": "label"},
        {"not": [{"label": "a"}]},
        {"and": ["label"]},
    ],
)
def test_what_is_no_filter_is_refused(where: Any) -> None:
    with pytest.raises(InvalidQuery, match="filter"):
        compile_filter(where)


def test_conditions_and_operands_are_limited() -> None:
    compile_filter({"or": [{"label": "a"}] * MAX_CONDITIONS})
    with pytest.raises(InvalidQuery, match=str(MAX_CONDITIONS)):
        compile_filter({"or": [{"label": "a"}] * (MAX_CONDITIONS + 1)})
    compile_filter({"label": {"in": ["a"] * MAX_OPERANDS}})
    with pytest.raises(InvalidQuery, match=str(MAX_OPERANDS)):
        compile_filter({"label": {"in": ["a"] * (MAX_OPERANDS + 1)}})


def test_the_largest_filter_is_within_what_sqlite_takes(table: sqlite3.Connection) -> None:
    where = {"or": [{"metadata.a": {"in": list(range(1, 19))}}] * MAX_CONDITIONS}
    assert matching(table, [Item("id", b"\0", metadata={"a": 7})], where) == [0]
    where = {
        "metadata.a": dict.fromkeys(("gt", "lt"), "a"),
        "and": [{"label": {"ne": "b"}}] * (MAX_CONDITIONS - 2),
    }
    assert matching(table, [Item("id", b"\0", "a", {"a": "b"})], where) == []


def test_fields_read_are_named() -> None:
    where = {"label": "a", "or": [{"metadata.x": 1}, {"not": {"metadata.y": {"exists": False}}}]}
    assert compile_filter(where).fields == {"label", "metadata.x", "metadata.y"}

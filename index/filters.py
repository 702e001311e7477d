"""The filter language, from JSON to SQL.

A filter is an object. Its entries must all hold: a field (`label` or `metadata.<key>`) with a value
or with an object of `eq ne in gt gte lt lte exists`, or one of `and`, `or` (lists of filters) and `not`
(a filter). A missing field matches only `{"exists": false}`, and `ne` needs the field to be there.
Values are compared within their type: numbers with numbers, strings with strings by code point, and
lists whole. Nothing is coerced: "1", 1 and true are three values, 1 and 1.0 one.

Metadata is kept as canonical JSON, so equality is equality of JSON text. That is exact, where SQLite's
reading of a decimal may be one unit in the last place off; order between numbers uses that reading.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from contracts.errors import InvalidQuery
from contracts.quoting import quote
from index.items import MAX_INT, MIN_INT, is_metadata_key, is_metadata_value

MAX_DEPTH = 8
MAX_CONDITIONS = 256
MAX_OPERANDS = 10_000

_ORDER = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = ("eq", "ne", "in", *_ORDER, "exists")
_NEVER, _ALWAYS = "0", "1"


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter as an SQL expression over the table of items, with what it binds and which fields it reads."""

    sql: str
    params: tuple[str | int, ...]
    fields: frozenset[str]


def compile_filter(where: Mapping[str, Any]) -> Condition:
    """Check a filter and turn it into SQL. Raises InvalidQuery, naming the part at fault.

    Whether its fields exist is for the caller to check: it depends on the collection.
    """
    compiler = _Compiler()
    sql = compiler.compile(where, depth=1)
    return Condition(sql, tuple(compiler.params), frozenset(compiler.fields))


class _Compiler:
    """Walks one filter, gathering bound values in the order in which the SQL names them."""

    def __init__(self) -> None:
        self.params: list[str | int] = []
        self.fields: set[str] = set()
        self._num_conditions = 0

    def compile(self, where: object, depth: int) -> str:
        if not isinstance(where, Mapping):
            raise InvalidQuery(f'the filter {quote(where)} is not an object: write it as {{"label": "cat"}}')
        if depth > MAX_DEPTH:
            raise InvalidQuery(f"the filter is nested deeper than {MAX_DEPTH} levels: flatten it")
        return _join("AND", [self._entry(key, value, depth) for key, value in where.items()], _ALWAYS)

    def _entry(self, key: object, value: object, depth: int) -> str:
        if not isinstance(key, str):
            raise InvalidQuery(f"the filter has the key {quote(key)}: keys are strings")
        if key in ("and", "or"):
            if not isinstance(value, list):
                raise InvalidQuery(f"the filter's {key!r} has {quote(value)}: give it a list of filters")
            parts = [self.compile(part, depth + 1) for part in value]
            return _join(key.upper(), parts, _ALWAYS if key == "and" else _NEVER)
        if key == "not":
            # NULL stands for "does not match" below; NOT must turn it into a match.
            return f"NOT coalesce({self.compile(value, depth + 1)}, 0)"
        operations = value if isinstance(value, Mapping) else {"eq": value}
        if not operations:
            raise InvalidQuery(f"the filter on {key!r} is empty: give it one of {', '.join(_OPERATORS)}")
        return _join("AND", [self._condition(key, name, operand) for name, operand in operations.items()], "")

    def _condition(self, field: str, operator: str, operand: object) -> str:
        self._num_conditions += 1
        if self._num_conditions > MAX_CONDITIONS:
            raise InvalidQuery(f"the filter has more than {MAX_CONDITIONS} conditions: use 'in', or split it")
        if operator not in _OPERATORS:
            raise InvalidQuery(
                f"the filter on {quote(field)} has the unknown operator {quote(operator)}: "
                f"use one of {', '.join(_OPERATORS)}"
            )
        _check_operand(field, operator, operand)
        self.fields.add(field)
        if field == "label":
            sql = self._on_label(operator, operand)
        elif field.startswith("metadata.") and is_metadata_key(field.removeprefix("metadata.")):
            sql = self._on_metadata("$." + field.removeprefix("metadata."), operator, operand)
        else:
            raise InvalidQuery(
                f"the filter has the unknown field {quote(field)}: use 'label' or 'metadata.<key>', "
                "or combine filters with 'and', 'or' and 'not'"
            )
        if len(self.params) > MAX_OPERANDS:
            raise InvalidQuery(f"the filter compares with more than {MAX_OPERANDS} values: split it")
        return sql

    def _on_label(self, operator: str, operand: Any) -> str:
        if operator == "exists":
            return "label IS NOT NULL" if operand else "label IS NULL"
        if operator in _ORDER:
            return f"label {_ORDER[operator]} {self._bind(operand)}" if isinstance(operand, str) else _NEVER
        values = operand if operator == "in" else [operand]
        strings = [value for value in values if isinstance(value, str)]
        if operator == "ne":
            return f"label NOT IN ({self._bind(*strings)})" if strings else "label IS NOT NULL"
        return f"label IN ({self._bind(*strings)})"

    def _on_metadata(self, path: str, operator: str, operand: Any) -> str:
        if operator == "exists":
            test = "IS NOT NULL" if operand else "IS NULL"
            return f"json_type(metadata, {self._bind(path)}) {test}"
        if operator in _ORDER:
            types = "('text')" if isinstance(operand, str) else "('integer', 'real')"
            kind = f"json_type(metadata, {self._bind(path)}) IN {types}"
            value = f"json_extract(metadata, {self._bind(path)})"
            # The operand takes the same way from text to number as the stored value does.
            other = f"json_extract({self._bind(_dump(operand))}, '$')"
            return f"({kind} AND {value} {_ORDER[operator]} {other})"
        field = f"(metadata -> {self._bind(path)})"
        texts = [text for value in (operand if operator == "in" else [operand]) for text in _spellings(value)]
        return f"{field} {'NOT IN' if operator == 'ne' else 'IN'} ({self._bind(*texts)})"

    def _bind(self, *values: str) -> str:
        self.params.extend(values)
        return ", ".join("?" * len(values))


def _check_operand(field: str, operator: str, operand: object) -> None:
    if operator == "exists":
        valid, wanted = isinstance(operand, bool), "true or false"
    elif operator == "in":
        valid = isinstance(operand, list) and all(map(_is_operand, operand))
        wanted = "a list of values"
    elif operator in _ORDER:
        valid = (
            _is_operand(operand) and isinstance(operand, str | int | float) and not isinstance(operand, bool)
        )
        wanted = "a number or a string"
    else:
        valid, wanted = (
            _is_operand(operand),
            "a string, a finite number, a boolean, null or a list of strings",
        )
    if not valid:
        raise InvalidQuery(
            f"the filter on {quote(field)} compares {operator!r} with {quote(operand)}: give it {wanted}"
        )


def _is_operand(value: object) -> bool:
    if not is_metadata_value(value):
        return False
    try:
        _dump(value)
    except orjson.JSONEncodeError:  # A lone surrogate: no stored text can hold one.
        return False
    return True


def _spellings(value: Any) -> list[str]:
    """The JSON texts of every stored value equal to `value`: a number may be kept as integer or float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [_dump(value)]
    if value == 0:
        return ["0", "0.0", "-0.0"]
    spellings = {_dump(value)}
    if float(value) == value:
        spellings.add(_dump(float(value)))
    if int(value) == value and MIN_INT <= value <= MAX_INT:
        spellings.add(_dump(int(value)))
    return sorted(spellings)


def _join(operator: str, parts: list[str], empty: str) -> str:
    if not parts:
        return empty
    return parts[0] if len(parts) == 1 else "(" + f" {operator} ".join(parts) + ")"


def _dump(value: object) -> str:
    return orjson.dumps(value).decode()

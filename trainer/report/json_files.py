"""JSON files that others wrote, read with checks: an error names the file, the field and what is wrong."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T", bound=str)


class Fields:
    """The fields of one JSON object of a file. Every method raises ValueError for what is not as it asks."""

    def __init__(self, path: Path, values: object, place: str = "") -> None:
        self.path = path
        self._place = place
        if not isinstance(values, dict):
            raise self.error("", f"is {_quoted(values)}, not an object")
        self.values: Mapping[str, Any] = values

    @classmethod
    def read(cls, path: Path) -> "Fields":
        """The object that a whole file holds."""
        try:
            return cls(path, json.loads(path.read_text("utf-8")))
        except OSError as exc:
            raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc
        except (json.JSONDecodeError, UnicodeDecodeError) as exc:
            raise ValueError(f"{path} is damaged: it is no JSON ({exc}); write it again") from exc

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            raise self.error(name, f"is {_quoted(value)}, not a text")
        return value

    def choice(self, name: str, allowed: tuple[T, ...]) -> T:
        value = self.text(name)
        for known in allowed:
            if value == known:
                return known
        raise self.error(name, f"is {_quoted(value)}, not one of {', '.join(allowed)}")

    def truth(self, name: str) -> bool:
        value = self._get(name)
        if not isinstance(value, bool):
            raise self.error(name, f"is {_quoted(value)}, not true or false")
        return value

    def number(self, name: str, lowest: float = -math.inf, highest: float = math.inf) -> float:
        """A finite number from `lowest` to `highest`."""
        return self._number(name, self._get(name), lowest, highest)

    def integer(self, name: str, lowest: int = 0) -> int:
        value = self.number(name, lowest)
        if value != int(value):
            raise self.error(name, f"is {value}, not a whole number")
        return int(value)

    def numbers(self, name: str, lowest: float = -math.inf, highest: float = math.inf) -> tuple[float, ...]:
        """A list of at least one finite number."""
        value = self.entries(name)
        if not value:
            raise self.error(name, "is empty")
        return tuple(self._number(name, entry, lowest, highest) for entry in value)

    def entries(self, name: str) -> list[Any]:
        value = self._get(name)
        if not isinstance(value, list):
            raise self.error(name, f"is {_quoted(value)}, not a list")
        return value

    def nested(self, name: str) -> "Fields":
        return Fields(self.path, self._get(name), f"{self._place}{name}.")

    def all_numbers(self) -> dict[str, float]:
        """Every field that is a number; those that are not are left out."""
        return {
            name: self._number(name, value, -math.inf, math.inf)
            for name, value in self.values.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }

    def error(self, name: str, what: str) -> ValueError:
        field = f"{self._place}{name}".rstrip(".")
        return ValueError(f"{self.path} is damaged: {field or 'its content'} {what}; write it again")

    def _get(self, name: str) -> Any:
        if name not in self.values:
            raise self.error(name, "is missing")
        return self.values[name]

    def _number(self, name: str, value: object, lowest: float, highest: float) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.error(name, f"is {_quoted(value)}, not a finite number")
        if not lowest <= value <= highest:
            raise self.error(name, f"is {value}, outside {lowest:g} to {highest:g}")
        return float(value)


def read_lines(path: Path) -> list[Fields]:
    """The objects of a JSON-lines file; a last line without its end is one that is being written."""
    try:
        text = path.read_text("utf-8")
    except OSError as exc:
        raise ValueError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ValueError(f"{path} is damaged: it is no text ({exc}); write it again") from exc
    found = []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            found.append(Fields(path, json.loads(line), f"line {number}: "))
        except json.JSONDecodeError as exc:
            raise ValueError(f"{path} is damaged: line {number} is no JSON ({exc.msg})") from exc
    return found


def _quoted(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Values as they are quoted in error messages: as JSON writes them, and cut short."""

import json
import reprlib


class _JsonRepr(reprlib.Repr):
    """Cuts long and deep values as `reprlib` does, which JSON's own encoder cannot."""

    def repr_str(self, x: str, level: int) -> str:
        return json.dumps(
            x if len(x) <= self.maxstring else x[: self.maxstring - 3] + "...", ensure_ascii=False
        )

    def repr_bool(self, x: bool, level: int) -> str:
        return json.dumps(x)

    def repr_NoneType(self, x: None, level: int) -> str:  # noqa: N802 - reprlib looks for the type's name.
        return "null"


def quote(value: object) -> str:
    """`value` as JSON has it (null, true, "text"), shortened where it is long or deep."""
    shortened = _JsonRepr()
    shortened.maxstring = 80
    return shortened.repr(value)

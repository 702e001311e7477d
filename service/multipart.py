"""Multipart bodies, read into memory as they arrive.

Only a part's name counts here. A body that ends before its closing boundary is an error, not a
shorter list of images.
"""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from contracts.errors import InvalidInput, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


async def read_parts(
    content_type: str, chunks: AsyncIterator[bytes], max_parts: int
) -> Sequence[tuple[str, bytes]]:
    """Name and content of each part, in order. Raises InvalidInput, TooLarge for too many parts."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidInput("the multipart body's content type names no boundary: let the HTTP client set it")
    reader = _Reader(max_parts)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        async for chunk in chunks:
            parser.write(chunk)
        parser.finalize()
    except FormParserError as exc:
        raise InvalidInput(f"the multipart body cannot be read: {exc}") from exc
    if not reader.is_complete:
        raise InvalidInput("the multipart body ends before its closing boundary: send it again")
    return [(name, bytes(content)) for name, content in reader.parts]


class _Reader:
    """Gathers what the parser finds."""

    def __init__(self, max_parts: int) -> None:
        self.parts: list[tuple[str, bytearray]] = []
        self.is_complete = False
        self._max_parts = max_parts
        self._field = b""
        self._value = b""
        self._disposition = b""

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._add_data,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._disposition = b""

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _end_headers(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name")
        if name is None:
            raise InvalidInput("a part of the multipart body has no name: name it image")
        if len(self.parts) == self._max_parts:
            raise TooLarge(
                f"the multipart body has more than {self._max_parts} parts: share the images out over "
                "several requests"
            )
        self.parts.append((name.decode("utf-8", "replace"), bytearray()))

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1][1].extend(memoryview(data)[start:end])

    def _end(self) -> None:
        self.is_complete = True

"""One kept HTTP/1.1 connection with at most one request under way, for little processor time."""

import asyncio
import time
from typing import Self, cast

_BOUNDARY = b"----serving-benchmark-0f3c"
_EXPECTED = b'"code"'
"""What the answer to every request has in it."""


def request_body(part: str, photo: bytes) -> tuple[bytes, str]:
    """One photo as a browser or `curl -F PART=@photo.jpg` sends it, and its content type."""
    body = b"".join(
        (
            b"--%b\r\n" % _BOUNDARY,
            b'Content-Disposition: form-data; name="%b"; filename="photo.jpg"\r\n' % part.encode(),
            b"Content-Type: image/jpeg\r\n\r\n",
            photo,
            b"\r\n--%b--\r\n" % _BOUNDARY,
        )
    )
    return body, f"multipart/form-data; boundary={_BOUNDARY.decode()}"


def request_bytes(port: int, path: str, part: str, photo: bytes) -> bytes:
    """The whole request, head and body."""
    body, content_type = request_body(part, photo)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: application/json\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """To a server on this machine."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answer: asyncio.Future[str | None] | None = None
        self.used_at = time.perf_counter()
        """When it was opened, or last answered."""

    @classmethod
    async def open(cls, port: int) -> Self:
        """Raises OSError if nobody listens."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    @property
    def is_open(self) -> bool:
        """Whether it takes another request."""
        return self._transport is not None

    async def ask(self, request: bytes) -> str | None:
        """Send a request and wait for its answer: None for a success, else what was wrong with it."""
        if self._transport is None:
            return "connection lost"
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Drop it, and what is under way."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, is_whole, body = self._received.partition(b"\r\n\r\n")
        if not is_whole:
            return
        head = head.lower()
        _, has_length, after = head.partition(b"\r\ncontent-length:")
        if not has_length:
            self.close()
            self._finish("an answer without Content-Length")
            return
        if len(body) < int(after.partition(b"\r\n")[0]):
            return
        self._received.clear()
        if b"\r\nconnection: close" in head:
            self.close()
        status = int(head.split(b" ", 2)[1])
        if status != 200:
            self._finish(f"status {status}")
        else:
            self._finish(None if _EXPECTED in body else "an answer without a code")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish("connection lost")

    def _finish(self, error: str | None) -> None:
        self.used_at = time.perf_counter()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(error)

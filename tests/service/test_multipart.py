import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidInput, TooLarge
from service.multipart import read_parts

TYPE = "multipart/form-data; boundary=cut"


def body(*parts: tuple[str, bytes]) -> bytes:
    chunks = [
        b'--cut\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
        % (name.encode(), content)
        for name, content in parts
    ]
    return b"".join(chunks) + b"--cut--\r\n"


def read(
    data: bytes, size: int = 7, max_parts: int = 100, content_type: str = TYPE
) -> list[tuple[str, bytes]]:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    return list(asyncio.run(read_parts(content_type, chunks(), max_parts)))


@settings(derandomize=True, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["image", "items"]), st.binary(max_size=200)), max_size=5),
    st.integers(1, 300),
)
def test_parts_come_out_as_they_went_in_however_they_are_cut(
    parts: list[tuple[str, bytes]], size: int
) -> None:
    parts = [(name, content.replace(b"--cut", b"")) for name, content in parts]
    if parts:
        assert read(body(*parts), size) == parts


@pytest.mark.parametrize("content", [b"\r\n", b"\r\n--cu", b"--", b"\r\n\r\n", b"-" * 50])
def test_content_that_looks_like_a_boundary_is_content(content: bytes) -> None:
    for size in (1, 3, 1000):
        assert read(body(("image", content)), size) == [("image", content)]


def test_a_body_that_breaks_off_is_an_error_wherever_it_does() -> None:
    whole = body(("image", b"x" * 40), ("image", b"y" * 40))
    for end in range(len(whole) - 4):
        with pytest.raises(InvalidInput):
            read(whole[:end])


def test_too_many_parts_are_refused() -> None:
    parts = [("image", b"x")] * 5
    assert len(read(body(*parts), max_parts=5)) == 5
    with pytest.raises(TooLarge, match="4"):
        read(body(*parts), max_parts=4)


def test_a_part_needs_a_name_and_the_body_a_boundary() -> None:
    with pytest.raises(InvalidInput, match="name"):
        read(b"--cut\r\nContent-Type: image/png\r\n\r\nx\r\n--cut--\r\n")
    with pytest.raises(InvalidInput, match="boundary"):
        read(body(("image", b"x")), content_type="multipart/form-data")

import json
from collections.abc import Iterator

import httpx2
import numpy as np
import pytest

from contracts.codes import active_bits
from service.schemas import EncodeAnswer
from tests import image_files
from tests.costly_images import COSTLY, SLOW_BMP
from tests.image_files import jpeg, png
from tests.service.http_answers import (
    answer,
    assert_serves,
    part,
    problem,
    reference_code,
    reference_entropy,
    text,
)

BAD = {kind: (data, 422, "invalid-image") for kind, data in image_files.INVALID.items()}
BAD |= {kind: (data, 422, "invalid-image") for kind, data in COSTLY.items()}
BAD |= {kind: (data, 413, "too-large") for kind, data in (image_files.TOO_LARGE | SLOW_BMP).items()}


def test_an_image_gets_the_code_of_the_reference(client: httpx2.Client) -> None:
    content = answer(client.post("/encode", files=[part(png(1))]), EncodeAnswer)
    assert content["model"]["num_bits"] == 64
    assert content["model"]["name"] == "tiny"
    (result,) = content["results"]
    assert result["code"] == text(reference_code(png(1)))
    assert result["entropy_bits"] == pytest.approx(reference_entropy(png(1)), rel=1e-4)
    assert result["active_bits"] == active_bits(np.frombuffer(reference_code(png(1)), np.uint8))


def test_raw_multipart_and_json_bodies_get_the_same_code(client: httpx2.Client) -> None:
    data = png(2)
    answers = [
        client.post("/encode", files=[part(data)]),
        client.post("/encode", content=data, headers={"Content-Type": "image/png"}),
        client.post("/encode", content=data, headers={"Content-Type": "image/jpeg; name=x"}),
        client.post("/encode", json={"image": text(data)}),
        client.post("/encode", json={"images": [text(data)]}),
    ]
    codes = [answer(one, EncodeAnswer)["results"][0]["code"] for one in answers]
    assert codes == [text(reference_code(data))] * 5


def test_several_images_are_answered_in_order(client: httpx2.Client) -> None:
    content = answer(client.post("/encode", files=[part(png(seed)) for seed in range(64)]), EncodeAnswer)
    assert [one["code"] for one in content["results"]] == [text(reference_code(png(s))) for s in range(64)]


@pytest.mark.parametrize("kind", image_files.GOOD)
def test_unusual_images_are_encoded(client: httpx2.Client, kind: str) -> None:
    data = image_files.GOOD[kind]
    content = answer(client.post("/encode", files=[part(data)]), EncodeAnswer)
    if "jpeg" not in kind and kind not in ("CMYK", "progressive"):
        assert content["results"][0]["code"] == text(reference_code(data))


@pytest.mark.parametrize("kind", BAD)
def test_one_bad_image_is_a_problem_and_harms_nothing_else(client: httpx2.Client, kind: str) -> None:
    data, status, slug = BAD[kind]
    problem(client.post("/encode", files=[part(data, "cat.jpg")]), status, slug)
    assert_serves(client)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_among_others_is_one_error_in_its_place(client: httpx2.Client, kind: str) -> None:
    data, status, slug = BAD[kind]
    content = answer(client.post("/encode", files=[part(png(1)), part(data), part(png(2))]), EncodeAnswer)
    first, bad, last = content["results"]
    assert first["code"] == text(reference_code(png(1)))
    assert last["code"] == text(reference_code(png(2)))
    assert (bad["error"]["type"], bad["error"]["status"]) == (f"urn:stochcon:{slug}", status)
    assert_serves(client)


def test_octets_are_the_codes_alone(client: httpx2.Client) -> None:
    response = client.post(
        "/encode", files=[part(png(1)), part(png(2))], headers={"Accept": "application/octet-stream"}
    )
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.content == reference_code(png(1)) + reference_code(png(2))


@pytest.mark.parametrize("bad", [b"no image", image_files.huge_png_header()])
def test_octets_with_one_bad_image_are_422_and_no_bytes(client: httpx2.Client, bad: bytes) -> None:
    response = client.post(
        "/encode", files=[part(png(1)), part(bad)], headers={"Accept": "application/octet-stream"}
    )
    problem(response, 422, "invalid-image", "image 1")


@pytest.mark.parametrize(
    ("body", "content_type", "status", "slug"),
    [
        (b"x", "text/plain", 415, "unsupported-media"),
        (png(), "application/x-www-form-urlencoded", 415, "unsupported-media"),
        (png(), "application/octet-stream", 415, "unsupported-media"),
        (b"{", "application/json", 422, "invalid-input"),
        (b"[]", "application/json", 422, "invalid-input"),
        (b"\xff\xfe", "application/json", 422, "invalid-input"),
        (b"{}", "application/json", 422, "invalid-query"),
        (b'{"images": []}', "application/json", 422, "invalid-query"),
        (b'{"image": 5}', "application/json", 422, "invalid-query"),
        (b'{"image": "?"}', "application/json", 422, "invalid-image"),
        (b'{"image": "AA==", "images": ["AA=="]}', "application/json", 422, "invalid-query"),
        (b'{"picture": "AA=="}', "application/json", 422, "invalid-query"),
        (b"--x", "multipart/form-data", 422, "invalid-input"),
        (b"nonsense", "multipart/form-data; boundary=x", 422, "invalid-input"),
        (b"", "multipart/form-data; boundary=x", 422, "invalid-input"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422, "invalid-input"),
    ],
)
def test_other_bodies_are_refused_with_a_remedy(
    client: httpx2.Client, body: bytes, content_type: str, status: int, slug: str
) -> None:
    problem(client.post("/encode", content=body, headers={"Content-Type": content_type}), status, slug)
    assert_serves(client)


def test_a_body_without_a_type_is_refused(client: httpx2.Client) -> None:
    problem(client.post("/encode", content=png()), 415, "unsupported-media", "content type")


def test_a_part_of_another_name_is_refused(client: httpx2.Client) -> None:
    problem(client.post("/encode", files={"file": png()}), 422, "invalid-input", "'file'", "image")


def test_a_multipart_body_that_breaks_off_is_not_a_shorter_list(client: httpx2.Client) -> None:
    request = client.build_request("POST", "/encode", files=[part(png(1)), part(png(2))])
    body = request.read()
    for cut in (3, 30, 400):
        response = client.post(
            "/encode",
            content=body[:-cut],
            headers=dict(request.headers) | {"content-length": str(len(body) - cut)},
        )
        problem(response, 422, "invalid-input", "boundary")


def test_too_many_images_are_refused(client: httpx2.Client) -> None:
    problem(client.post("/encode", files=[part(png())] * 65), 413, "too-large", "64")
    problem(client.post("/encode", json={"images": [text(png())] * 65}), 413, "too-large", "64")
    assert_serves(client)


def test_parameters_are_not_ignored(client: httpx2.Client) -> None:
    problem(client.post("/encode?k=5", files=[part(png())]), 422, "invalid-input", "k")
    problem(client.post("/encode?k=5", json={"image": text(png())}), 422, "invalid-input", "k")


def chunked(data: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def test_a_chunked_body_is_read_like_any_other(client: httpx2.Client) -> None:
    data = jpeg(3, 400, 300)
    response = client.post("/encode", content=chunked(data), headers={"Content-Type": "image/jpeg"})
    assert len(answer(response, EncodeAnswer)["results"]) == 1
    body = json.dumps({"image": text(data)}).encode()
    other = client.post("/encode", content=chunked(body), headers={"Content-Type": "application/json"})
    assert other.json() == response.json()

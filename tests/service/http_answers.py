"""Holding answers against what the OpenAPI document promises."""

import base64
from typing import Any, TypeVar

import httpx2
import numpy as np
from pydantic import BaseModel

from contracts.codes import pack_logits, to_text
from contracts.manifest import Preprocessing
from contracts.pixels import load_pixels
from service.schemas import Problem
from tests.image_files import png
from tests.tiny_model import reference_logits

SIZE = Preprocessing(height=32, width=32)

M = TypeVar("M", bound=BaseModel)


def answer(response: httpx2.Response, schema: type[M], status: int = 200) -> Any:
    """The JSON of a good answer, which fits its schema and has nothing more."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    schema.model_validate(content, strict=True)
    return content


def problem(response: httpx2.Response, status: int, slug: str, *words: str) -> Any:
    """The problem document of a bad answer, whose detail has all `words`."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    content = response.json()
    Problem.model_validate(content, strict=True)
    assert (response.status_code, content["status"]) == (status, status), response.text
    assert content["type"] == f"urn:stochcon:{slug}", response.text
    for word in words:
        assert word in content["detail"], content["detail"]
    return content


def reference_code(data: bytes) -> bytes:
    """The 64-bit code of an image by numpy and the reference decoder."""
    pixels = load_pixels(data, SIZE)
    return pack_logits(reference_logits(pixels[None]))[0].tobytes()


def reference_entropy(data: bytes) -> float:
    p = 1 / (1 + np.exp(-reference_logits(load_pixels(data, SIZE)[None])[0].astype(np.float64)))
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum())


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def part(data: bytes, name: str = "x") -> tuple[str, tuple[str, bytes, str]]:
    """One image of a multipart body."""
    return "image", (name, data, "application/octet-stream")


def code_of(bits: int) -> str:
    """Text of the 64-bit code whose first `bits` bits are 1."""
    return to_text(np.packbits(np.arange(64) < bits))


def assert_serves(client: httpx2.Client) -> None:
    """A good request still gets its good answer."""
    response = client.post("/encode", files=[part(png(77))])
    assert response.status_code == 200, response.text
    assert response.json()["results"][0]["code"] == text(reference_code(png(77)))

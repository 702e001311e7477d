"""Reading request bodies: one image, several as multipart, or a JSON object.

Images come with their parameters in the query string, JSON with them as fields; both at once is
refused, so that no parameter is ever ignored.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from contracts.errors import InvalidImage, InvalidInput, InvalidQuery, TooLarge, UnsupportedMedia
from service.multipart import read_parts
from service.problems import describe
from service.settings import Settings

M = TypeVar("M", bound=BaseModel)

_LONG_INTEGER = re.compile(rb"[:,\[\s-][0-9]{19}")
"""Where a number of more than 18 digits may begin."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carried: images or JSON fields, never both."""

    images: list[bytes] | None = None
    fields: dict[str, Any] | None = None
    texts: dict[str, bytes] = field(default_factory=dict)
    """The other parts of a multipart body."""


async def read_body(
    request: Request,
    settings: Settings,
    text_parts: tuple[str, ...] = (),
    query_beside_json: bool = False,
) -> Body:
    """Read a body whole.

    `text_parts` are the parts of multipart bodies besides `image`; `query_beside_json` leaves it to the
    caller that nothing is said twice.

    Raises UnsupportedMedia for another media type, InvalidInput for a body that does not parse,
    TooLarge for more images than allowed.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        if request.query_params and not query_beside_json:
            raise InvalidInput(
                "the parameters of a JSON request are its fields: move those of the query string "
                f"({', '.join(request.query_params)}) into the JSON object"
            )
        return Body(fields=_parse_object(await request.body()))
    if media_type == "multipart/form-data":
        return await _read_multipart(request, settings, text_parts)
    if media_type.startswith("image/"):
        return Body(images=[await request.body()])
    sent = f"the content type {media_type!r} is" if media_type else "a body without a content type is"
    raise UnsupportedMedia(
        f"{sent} not read here: send JSON as application/json, one image as image/jpeg (or another "
        "image type), or images as multipart/form-data in parts named image"
    )


def parse_fields(model: type[M], fields: Mapping[str, Any]) -> M:
    """Check the fields of a JSON body, without coercion. Raises InvalidQuery."""
    return _validate(model, fields, strict=True)


def parse_query_string(model: type[M], request: Request) -> M:
    """Check the parameters of the query string; `filter` is JSON. Raises InvalidQuery."""
    values: dict[str, Any] = {}
    for key, text in request.query_params.multi_items():
        if key in values:
            raise InvalidQuery(f"the parameter {key!r} is given twice: give it once")
        values[key] = text
    if "filter" in values:
        values["filter"] = _parse_object(values["filter"].encode(), "the parameter 'filter'")
    return _validate(model, values, strict=False)


def image_from_text(text: object, what: str) -> bytes:
    """Bytes of an image in standard base64. Raises InvalidImage."""
    if not isinstance(text, str):
        raise InvalidImage(f"{what} is {type(text).__name__}: send the image's bytes in standard base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidImage(f"{what} is not standard base64 ({exc}): send the image's bytes so") from exc


def check_num_images(num_images: int, settings: Settings) -> None:
    """Raise TooLarge for more images than one request may have."""
    if num_images > settings.max_images:
        raise TooLarge(
            f"the request has {num_images} images and the limit is {settings.max_images}: share them out "
            "over several requests"
        )


def parse_json(text: bytes, what: str) -> Any:
    """Any JSON value, integers exactly. Raises InvalidInput."""
    try:
        value = orjson.loads(text)
        # orjson makes floats of integers that no 64 bits hold, which would change them unseen.
        return json.loads(text) if _LONG_INTEGER.search(text) else value
    except (orjson.JSONDecodeError, RecursionError) as exc:
        raise InvalidInput(f"{what} is not JSON ({exc}): check its quotes, commas and encoding") from exc


def _parse_object(text: bytes, what: str = "the body") -> dict[str, Any]:
    value = parse_json(text, what)
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is a JSON {type(value).__name__}: send an object, in braces")
    return value


def _validate(model: type[M], values: Mapping[str, Any], strict: bool) -> M:
    try:
        return model.model_validate(values, strict=strict)
    except ValidationError as exc:
        raise InvalidQuery(describe(exc)) from exc


async def _read_multipart(request: Request, settings: Settings, text_parts: tuple[str, ...]) -> Body:
    images: list[bytes] = []
    texts: dict[str, bytes] = {}
    max_parts = settings.max_images + len(text_parts)
    for name, content in await read_parts(request.headers["content-type"], request.stream(), max_parts):
        if name == "image":
            images.append(content)
        elif name in text_parts and name not in texts:
            texts[name] = content
        else:
            raise InvalidInput(
                f"the multipart body has a part {name!r}{' twice' * (name in texts)}: send images in parts "
                "named image and parameters in the query string"
            )
    check_num_images(len(images), settings)
    if not images:
        raise InvalidInput("the multipart body has no part named image: send one (curl -F image=@cat.jpg)")
    return Body(images=images, texts=texts)

import orjson
import pytest

from contracts import errors
from contracts.errors import ERRORS_BY_SLUG, Overloaded, StochConError
from service.problems import problem, problem_response, status_of

EXPECTED = {
    "error": 500,
    "invalid-input": 422,
    "invalid-image": 422,
    "invalid-query": 422,
    "invalid-item": 422,
    "too-large": 413,
    "request-timeout": 408,
    "unsupported-media": 415,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "model-mismatch": 409,
    "conflict": 409,
    "invalid-model": 422,
    "store-locked": 503,
    "store-corrupt": 500,
    "overloaded": 429,
    "backend-unavailable": 503,
}


def test_every_exception_has_its_status() -> None:
    assert {slug: status_of(kind("what")) for slug, kind in ERRORS_BY_SLUG.items()} == EXPECTED


def test_a_new_child_has_its_parents_status() -> None:
    class Child(errors.InvalidImage):
        pass

    assert status_of(Child("what")) == 422


def test_a_problem_document_has_the_fields_of_rfc_9457() -> None:
    assert problem(errors.NotFound("there is no cat")) == {
        "type": "urn:stochcon:not-found",
        "title": "Not found",
        "status": 404,
        "detail": "there is no cat",
    }


@pytest.mark.parametrize(("seconds", "header"), [(1.0, "1"), (1.2, "2"), (30.0, "30")])
def test_overload_says_when_to_come_back_in_whole_seconds(seconds: float, header: str) -> None:
    assert problem_response(Overloaded("full", seconds)).headers["retry-after"] == header


def test_text_that_is_no_unicode_does_not_break_the_answer() -> None:
    response = problem_response(StochConError("bad \ud800 name"))
    assert orjson.loads(response.body)["detail"] == "bad ? name"

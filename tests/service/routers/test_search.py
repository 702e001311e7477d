import json
from typing import Any

import httpx2
import numpy as np
import pytest

from contracts.codes import hamming, stack
from contracts.pixels import load_pixels
from service.schemas import (
    BatchClassifyAnswer,
    BatchSearchAnswer,
    ClassifyAnswer,
    SearchAnswer,
)
from tests import image_files
from tests.image_files import png
from tests.service.http_answers import (
    SIZE,
    answer,
    assert_serves,
    code_of,
    part,
    problem,
    reference_code,
    text,
)
from tests.tiny_model import reference_logits


@pytest.fixture
def filled(client: httpx2.Client, collection: str) -> str:
    """Items "00" to "64" whose code has so many 1 bits in front, of three labels and none."""
    labels = ["ant", "bee", "cat", None]
    items = [
        {
            "id": f"{n:02}",
            "code": code_of(n),
            "label": labels[n % 4],
            "metadata": {"n": n},
            "uri": f"file:///{n}",
        }
        for n in range(65)
    ]
    assert client.post("/items", json={"items": items, "collection": collection}).status_code == 200
    return collection


def search(client: httpx2.Client, collection: str, **fields: Any) -> Any:
    return answer(client.post("/search", json={"collection": collection} | fields), SearchAnswer)


def found(content: Any) -> list[tuple[str, int]]:
    return [(hit["id"], hit["distance"]) for hit in content["hits"]]


def test_hits_are_sorted_by_distance_and_then_id(client: httpx2.Client, filled: str) -> None:
    content = search(client, filled, code=code_of(30), k=5)
    assert found(content) == [("30", 0), ("29", 1), ("31", 1), ("28", 2), ("32", 2)]
    assert content["exact"] is True
    assert content["truncated"] is False
    assert content["certified"] is None
    assert content["hits"][0] == {
        "id": "30",
        "distance": 0,
        "label": "cat",
        "metadata": {"n": 30},
        "uri": "file:///30",
    }


def test_ten_hits_are_answered_if_nothing_is_said(client: httpx2.Client, filled: str) -> None:
    assert len(search(client, filled, code=code_of(0))["hits"]) == 10


def test_a_query_by_id_finds_that_item_too(client: httpx2.Client, filled: str) -> None:
    assert found(search(client, filled, id="07", k=1)) == [("07", 0)]


def test_an_image_is_searched_by_its_code(client: httpx2.Client, collection: str) -> None:
    images = [png(seed) for seed in range(12)]
    fields = json.dumps([{"id": f"{seed:02}"} for seed in range(12)])
    parts: list[Any] = [*map(part, images), ("items", (None, fields))]
    client.post("/items", params={"collection": collection}, files=parts)
    codes = stack([reference_code(image) for image in images], 64)
    distances = hamming(codes[3:4], codes)[0]
    expected = sorted((int(d), f"{seed:02}") for seed, d in enumerate(distances))
    for response in (
        client.post("/search", params={"collection": collection, "k": 12}, files=[part(images[3])]),
        client.post("/search", json={"image": text(images[3]), "collection": collection, "k": 12}),
        client.post(
            f"/search?collection={collection}&k=12", content=images[3], headers={"Content-Type": "image/png"}
        ),
    ):
        hits = found(answer(response, SearchAnswer))
        assert [(distance, one) for one, distance in hits] == expected


def test_radius_is_inclusive_and_capped_by_k(client: httpx2.Client, filled: str) -> None:
    within = search(client, filled, code=code_of(30), radius=2, k=10)
    assert sorted(found(within)) == [("28", 2), ("29", 1), ("30", 0), ("31", 1), ("32", 2)]
    assert within["truncated"] is False
    capped = search(client, filled, code=code_of(30), radius=2, k=3)
    assert found(capped) == [("30", 0), ("29", 1), ("31", 1)]
    assert capped["truncated"] is True


def test_filters_work_in_json_and_in_the_query_string(client: httpx2.Client, filled: str) -> None:
    where = {"label": "cat", "metadata.n": {"lt": 20}}
    expected = [("18", 12), ("14", 16), ("10", 20), ("06", 24), ("02", 28)]
    assert found(search(client, filled, code=code_of(30), filter=where)) == expected
    params = {"collection": filled, "filter": json.dumps(where)}
    response = client.post("/search", params=params, files=[part(png(1))])
    assert {one for one, _ in found(answer(response, SearchAnswer))} == {one for one, _ in expected}


def test_a_batch_is_answered_in_order(client: httpx2.Client, filled: str) -> None:
    queries = [{"code": code_of(5)}, {"id": "40"}, {"code": code_of(64)}]
    response = client.post("/search", json={"queries": queries, "collection": filled, "k": 1})
    results = answer(response, BatchSearchAnswer)["results"]
    assert [found(one) for one in results] == [[("05", 0)], [("40", 0)], [("64", 0)]]


def test_256_queries_are_taken_and_257_refused(client: httpx2.Client, filled: str) -> None:
    many = [{"id": "01"}] * 256
    response = client.post("/search", json={"queries": many, "collection": filled, "k": 1})
    assert len(answer(response, BatchSearchAnswer)["results"]) == 256
    over = client.post("/search", json={"queries": [*many, many[0]], "collection": filled})
    problem(over, 422, "invalid-query", "queries has 257 entries", "256")


def test_a_number_out_of_range_is_answered_with_its_limit(client: httpx2.Client, filled: str) -> None:
    response = client.post("/search", json={"id": "01", "collection": filled, "k": 0})
    problem(response, 422, "invalid-query", "k is 0: it should be greater than or equal to 1")


def test_rescore_ranks_by_expected_distance(client: httpx2.Client, filled: str) -> None:
    params = {"collection": filled, "rescore": "true", "k": 65}
    content = answer(client.post("/search", params=params, files=[part(png(4))]), SearchAnswer)
    assert content["certified"] in (True, False)
    p = 1 / (1 + np.exp(-reference_logits(load_pixels(png(4), SIZE)[None])[0].astype(np.float64)))
    expected = {}
    for n in range(65):
        bits = np.arange(64) < n
        expected[f"{n:02}"] = float((p + (1 - 2 * p) * bits).sum())
    ranked = [expected[one] for one, _ in found(content)]
    assert ranked == sorted(ranked)


@pytest.mark.parametrize(
    ("fields", "slug"),
    [
        ({"k": 0}, "invalid-query"),
        ({"k": 1_000_000_000}, "invalid-query"),
        ({"k": -1}, "invalid-query"),
        ({"k": "5"}, "invalid-query"),
        ({"k": 2.5}, "invalid-query"),
        ({"k": True}, "invalid-query"),
        ({"radius": -1}, "invalid-query"),
        ({"exact": "yes"}, "invalid-query"),
        ({"kk": 5}, "invalid-query"),
        ({"id": "00"}, "invalid-query"),
        ({"code": None}, "invalid-query"),
        ({"code": "AAAA"}, "invalid-item"),
        ({"code": "*"}, "invalid-item"),
        ({"rescore": True}, "invalid-query"),
        ({"filter": {"metadata.colour": "red"}}, "invalid-query"),
        ({"filter": {"colour": "red"}}, "invalid-query"),
        ({"filter": {"metadata.n": {"near": 5}}}, "invalid-query"),
        ({"filter": []}, "invalid-query"),
        ({"filter": "label"}, "invalid-query"),
        ({"collection": "No Such"}, "invalid-query"),
        ({"queries": [{"id": "00"}]}, "invalid-query"),
        ({"code": None, "queries": []}, "invalid-query"),
        ({"code": None, "queries": [{}]}, "invalid-query"),
        ({"code": None, "queries": [{"id": "00", "code": code_of(1)}]}, "invalid-query"),
        ({"code": None, "queries": [{"image": "AA=="}]}, "invalid-query"),
        ({"code": None, "image": "AA=="}, "invalid-image"),
    ],
)
def test_queries_that_cannot_be_answered_are_refused(
    client: httpx2.Client, filled: str, fields: dict[str, Any], slug: str
) -> None:
    body = {"code": code_of(30), "collection": filled} | fields
    body = {key: value for key, value in body.items() if value is not None}
    for path in ("/search", "/classify"):
        response = client.post(path, json=body)
        problem(response, 422, slug)
    assert_serves(client)


@pytest.mark.parametrize(
    "query",
    [
        "k=0",
        "k=1e9",
        "k=1000000000",
        "k=",
        "radius=-1",
        "filter={",
        "filter=5",
        "kk=5",
        "code=AAAA",
        "exact=2",
    ],
)
def test_bad_parameters_of_the_query_string_are_refused(
    client: httpx2.Client, filled: str, query: str
) -> None:
    response = client.post(f"/search?collection={filled}&{query}", files=[part(png())])
    assert response.status_code == 422, response.text
    assert response.json()["type"] in ("urn:stochcon:invalid-query", "urn:stochcon:invalid-input")


def test_the_numbers_in_question_are_in_the_answer(client: httpx2.Client, filled: str) -> None:
    response = client.post("/search", json={"id": "00", "k": 1_000_000_000, "collection": filled})
    problem(response, 422, "invalid-query", "k", "1000000000", "1000")


def test_an_unknown_filter_field_is_named(client: httpx2.Client, filled: str) -> None:
    body = {"id": "00", "collection": filled, "filter": {"metadata.colour": "red"}}
    problem(client.post("/search", json=body), 422, "invalid-query", "metadata.colour")


def test_parameters_in_both_places_are_refused(client: httpx2.Client, filled: str) -> None:
    problem(client.post("/search?k=5", json={"id": "00", "collection": filled}), 422, "invalid-input", "k")


def test_a_query_by_an_id_that_is_not_there_is_404(client: httpx2.Client, filled: str) -> None:
    problem(client.post("/search", json={"id": "nobody", "collection": filled}), 404, "not-found", "nobody")
    batch = {"queries": [{"id": "00"}, {"id": "nobody"}], "collection": filled}
    problem(client.post("/search", json=batch), 404, "not-found", "nobody")


def test_a_collection_that_is_not_there_is_404(client: httpx2.Client) -> None:
    body = {"code": code_of(1), "collection": "nowhere"}
    problem(client.post("/search", json=body), 404, "not-found", "nowhere")
    problem(client.post("/classify", json=body), 404, "not-found", "nowhere")


@pytest.mark.parametrize("path", ["/search", "/classify"])
def test_a_bad_query_image_is_a_problem(client: httpx2.Client, filled: str, path: str) -> None:
    for kind, data in image_files.INVALID.items():
        response = client.post(path, params={"collection": filled}, files=[part(data, kind)])
        problem(response, 422, "invalid-image")
    huge = client.post(path, params={"collection": filled}, files=[part(image_files.huge_png())])
    problem(huge, 413, "too-large")
    assert_serves(client)


def test_two_query_images_are_refused(client: httpx2.Client, filled: str) -> None:
    response = client.post("/search", params={"collection": filled}, files=[part(png())] * 2)
    problem(response, 422, "invalid-query", "2 images")


def test_codes_of_another_model_are_409(client: httpx2.Client, filled: str) -> None:
    body = {"code": code_of(1), "collection": filled, "model": "f" * 64}
    problem(client.post("/search", json=body), 409, "model-mismatch", "f" * 64)


def test_labels_are_voted_on_by_the_nearest_labelled_items(client: httpx2.Client, filled: str) -> None:
    body = {"code": code_of(30), "collection": filled, "k": 4}
    content = answer(client.post("/classify", json=body), ClassifyAnswer)
    assert content["method"] == "knn"
    assert found(content) == [("30", 0), ("29", 1), ("28", 2), ("32", 2)]  # "31" has no label.
    weight = {d: np.exp((1 - 2 * d / 64) / 0.07) for d in (0, 1, 2)}
    total = weight[0] + weight[1] + 2 * weight[2]
    expected = {"cat": weight[0] / total, "bee": weight[1] / total, "ant": 2 * weight[2] / total}
    scores = {one["label"]: one["score"] for one in content["labels"]}
    assert scores == pytest.approx(expected)
    assert sum(scores.values()) == pytest.approx(1)
    assert [one["label"] for one in content["labels"]] == sorted(expected, key=lambda one: -expected[one])


def test_a_batch_is_classified_in_order(client: httpx2.Client, filled: str) -> None:
    body = {"queries": [{"id": "04"}, {"id": "05"}], "collection": filled, "k": 1}
    results = answer(client.post("/classify", json=body), BatchClassifyAnswer)["results"]
    assert [one["labels"] for one in results] == [
        [{"label": "ant", "score": 1.0}],
        [{"label": "bee", "score": 1.0}],
    ]


def test_without_labelled_items_there_are_no_labels(client: httpx2.Client, collection: str) -> None:
    client.post("/items", json={"items": [{"code": code_of(1)}], "collection": collection})
    body = {"code": code_of(1), "collection": collection}
    content = answer(client.post("/classify", json=body), ClassifyAnswer)
    assert (content["labels"], content["hits"]) == ([], [])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"exact": None}, "exact is null"),
        ({"k": False}, "k is false"),
        ({"filter": "cat"}, 'filter is "cat": it should be a JSON object'),
        ({"queries": [True]}, "queries.0 is true: it should be a JSON object"),
    ],
)
def test_what_was_sent_is_quoted_as_json(client: httpx2.Client, fields: dict[str, Any], text: str) -> None:
    problem(client.post("/search", json={"id": "x"} | fields), 422, "invalid-query", text)


def test_a_classification_does_not_know_rescore(client: httpx2.Client) -> None:
    problem(client.post("/classify", json={"id": "x", "rescore": False}), 422, "invalid-query", "rescore")
    sent = client.post("/classify?rescore=false", files=[part(png())])
    problem(sent, 422, "invalid-query", "rescore")
    described = client.get("/openapi.json").json()
    call = described["paths"]["/classify"]["post"]
    assert "rescore" not in {one["name"] for one in call["parameters"]}
    assert "rescore" not in described["components"]["schemas"]["ClassifyRequest"]["properties"]
    assert "rescore" in described["components"]["schemas"]["SearchRequest"]["properties"]

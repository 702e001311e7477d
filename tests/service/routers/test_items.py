import json
import uuid
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from service.schemas import Collection as CollectionAnswer
from service.schemas import CollectionsAnswer, IdsAnswer, ItemsAnswer, StoredItem
from tests.image_files import png
from tests.service.http_answers import answer, assert_serves, code_of, part, problem, reference_code, text


def post(client: httpx2.Client, collection: str, *items: dict[str, Any], **fields: Any) -> httpx2.Response:
    return client.post("/items", json={"items": list(items), "collection": collection} | fields)


def get(client: httpx2.Client, collection: str, item_id: str) -> Any:
    response = client.get(f"/items/{quote(item_id, safe='')}", params={"collection": collection})
    return answer(response, StoredItem)


def ids_in(client: httpx2.Client, collection: str) -> list[str]:
    content = answer(client.get("/items", params={"collection": collection}), ItemsAnswer)
    return [item["id"] for item in content["items"]]


def test_an_item_comes_back_as_it_was_sent(client: httpx2.Client, collection: str) -> None:
    item = {
        "id": "a",
        "code": code_of(3),
        "label": "cat",
        "metadata": {"year": 2024, "tags": ["x", "y"], "good": True, "none": None, "f": 0.5},
        "uri": "file:///a.jpg",
    }
    assert answer(post(client, collection, item), IdsAnswer) == {"ids": ["a"]}
    assert get(client, collection, "a") == item | {"original": None}


def test_what_is_left_out_is_null_or_empty(client: httpx2.Client, collection: str) -> None:
    post(client, collection, {"id": "a", "code": code_of(1)})
    assert get(client, collection, "a") == {
        "id": "a",
        "code": code_of(1),
        "label": None,
        "metadata": {},
        "uri": None,
        "original": None,
    }


def test_images_are_kept_by_their_codes(client: httpx2.Client, collection: str) -> None:
    fields = [{"id": "one", "label": "x"}, {"id": "two", "metadata": {"n": 2}}]
    parts: list[Any] = [part(png(1)), part(png(2)), ("items", (None, json.dumps(fields)))]
    response = client.post("/items", params={"collection": collection}, files=parts)
    assert answer(response, IdsAnswer) == {"ids": ["one", "two"]}
    assert get(client, collection, "one")["code"] == text(reference_code(png(1)))
    assert get(client, collection, "two")["code"] == text(reference_code(png(2)))
    assert get(client, collection, "one")["label"] == "x"
    assert get(client, collection, "two")["metadata"] == {"n": 2}


def test_images_may_come_in_json_beside_codes(client: httpx2.Client, collection: str) -> None:
    post(client, collection, {"id": "i", "image": text(png(1))}, {"id": "c", "code": code_of(9)})
    assert get(client, collection, "i")["code"] == text(reference_code(png(1)))
    assert get(client, collection, "c")["code"] == code_of(9)


def test_one_raw_image_is_an_item(client: httpx2.Client, collection: str) -> None:
    response = client.post(
        "/items", params={"collection": collection}, content=png(1), headers={"Content-Type": "image/png"}
    )
    (item_id,) = answer(response, IdsAnswer)["ids"]
    assert get(client, collection, item_id)["code"] == text(reference_code(png(1)))


def test_ids_left_out_are_uuids_in_order_of_time(client: httpx2.Client, collection: str) -> None:
    ids = answer(post(client, collection, *[{"code": code_of(n)} for n in range(20)]), IdsAnswer)["ids"]
    assert all(uuid.UUID(one).version == 7 for one in ids)
    assert sorted(set(ids)) == ids
    assert [get(client, collection, one)["code"] for one in ids] == [code_of(n) for n in range(20)]


def test_an_id_that_is_there_is_replaced_whole(client: httpx2.Client, collection: str) -> None:
    post(client, collection, {"id": "a", "code": code_of(1), "label": "x", "metadata": {"k": 1}})
    post(client, collection, {"id": "a", "code": code_of(2)})
    assert get(client, collection, "a") == {
        "id": "a",
        "code": code_of(2),
        "label": None,
        "metadata": {},
        "uri": None,
        "original": None,
    }
    assert ids_in(client, collection) == ["a"]


def test_ten_thousand_codes_go_in_one_request(client: httpx2.Client, collection: str) -> None:
    items = [{"id": f"{n:05}", "code": code_of(n % 65), "metadata": {"n": n}} for n in range(10_000)]
    assert len(answer(post(client, collection, *items), IdsAnswer)["ids"]) == 10_000
    assert get(client, collection, "09999")["metadata"] == {"n": 9999}
    problem(post(client, collection, *items, {"code": code_of(0)}), 413, "too-large", "10001", "10000")


def test_put_replaces_and_never_merges(client: httpx2.Client, collection: str) -> None:
    where = {"collection": collection}
    post(client, collection, {"id": "a", "code": code_of(1), "label": "x", "metadata": {"k": 1}})
    response = client.put("/items/a", params=where, json={"code": code_of(5), "uri": "u"})
    assert answer(response, IdsAnswer) == {"ids": ["a"]}
    assert get(client, collection, "a") == {
        "id": "a",
        "code": code_of(5),
        "label": None,
        "metadata": {},
        "uri": "u",
        "original": None,
    }


def test_put_takes_images_in_every_form(client: httpx2.Client, collection: str) -> None:
    where, code = {"collection": collection}, text(reference_code(png(3)))
    client.put("/items/raw", params=where, content=png(3), headers={"Content-Type": "image/png"})
    client.put("/items/multipart", params=where, files=[part(png(3))])
    client.put("/items/json", json={"image": text(png(3)), "label": "x"} | where)
    assert [get(client, collection, one)["code"] for one in ("raw", "multipart", "json")] == [code] * 3
    assert get(client, collection, "json")["label"] == "x"


@pytest.mark.parametrize(
    "item_id",
    ["a b", "a/b", "/", "//x/", "é/ü", "日本", "%2F", "a?b#c", "a+b", "..", ".", "a" * 255, "ü" * 127, "&=;"],
)
def test_any_id_can_be_put_got_and_deleted(client: httpx2.Client, collection: str, item_id: str) -> None:
    path = "/items/" + (quote(item_id, safe="") if item_id.strip(".") else item_id.replace(".", "%2E"))
    where = {"collection": collection}
    answer(client.put(path, params=where, json={"code": code_of(7)}), IdsAnswer)
    assert answer(client.get(path, params=where), StoredItem)["id"] == item_id
    assert ids_in(client, collection) == [item_id]
    assert client.delete(path, params=where).status_code == 204
    assert ids_in(client, collection) == []


@pytest.mark.parametrize("item_id", ["a" * 256, "ü" * 128, "a\nb", "\x00", "\x85", ""])
def test_ids_that_break_the_rules_are_refused(client: httpx2.Client, collection: str, item_id: str) -> None:
    problem(post(client, collection, {"id": item_id, "code": code_of(1)}), 422, "invalid-item")
    assert_serves(client)


def test_an_id_that_is_not_utf8_is_refused(client: httpx2.Client) -> None:
    problem(client.put("/items/%ff", json={"code": code_of(1)}), 422, "invalid-item", "UTF-8")


def test_an_item_that_is_not_there_is_404(client: httpx2.Client, collection: str) -> None:
    post(client, collection, {"id": "a", "code": code_of(1)})
    where = {"collection": collection}
    problem(client.get("/items/b", params=where), 404, "not-found", "'b'", collection)
    problem(client.delete("/items/b", params=where), 404, "not-found")
    assert client.delete("/items/a", params=where).status_code == 204
    problem(client.delete("/items/a", params=where), 404, "not-found")
    problem(client.get("/items/a", params=where), 404, "not-found")


def test_items_are_listed_by_id_in_pages(client: httpx2.Client, collection: str) -> None:
    ids = ["B", "a", "aa", "b", "z", "é", "日", "🐈"]  # In the order of their UTF-8 bytes.
    post(client, collection, *[{"id": one, "code": code_of(1)} for one in reversed(ids)])
    listed: list[str] = []
    for _ in range(10):
        params = {"collection": collection, "limit": 3} | ({"after": listed[-1]} if listed else {})
        page = answer(client.get("/items", params=params), ItemsAnswer)["items"]
        listed += [item["id"] for item in page]
        if len(page) < 3:
            break
    assert listed == ids


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/items"),
        ("GET", "/items/a"),
        ("DELETE", "/items/a"),
        ("GET", "/collections"),
        ("GET", "/collections/default"),
        ("PUT", "/collections/default"),
        ("DELETE", "/collections/default"),
        ("GET", "/models"),
        ("GET", "/models/a"),
    ],
)
def test_a_parameter_that_a_call_does_not_know_is_refused(
    client: httpx2.Client, method: str, path: str
) -> None:
    response = client.request(method, path, params={"colection": "dogs"})
    problem(response, 422, "invalid-input", "'colection'")


def test_a_misspelt_collection_deletes_from_no_other(client: httpx2.Client) -> None:
    post(client, "default", {"id": "kept", "code": code_of(1)})
    problem(client.delete("/items/kept", params={"colection": "dogs"}), 422, "invalid-input")
    assert "kept" in ids_in(client, "default")


@pytest.mark.parametrize("metadata", [[], 0, False, ""])
def test_metadata_that_is_empty_but_no_object_is_refused(
    client: httpx2.Client, collection: str, metadata: Any
) -> None:
    response = post(client, collection, {"code": code_of(1), "metadata": metadata})
    problem(response, 422, "invalid-item", "metadata", "flat object")


@pytest.mark.parametrize("limit", ["0", "1001", "x", "-1"])
def test_a_limit_out_of_range_is_refused(client: httpx2.Client, limit: str) -> None:
    problem(client.get("/items", params={"limit": limit}), 422, "invalid-input", "limit", limit)


@pytest.mark.parametrize(
    "item",
    [
        {"id": "a"},
        {"id": "a", "code": "AAAA"},
        {"id": "a", "code": "not base64!"},
        {"id": "a", "code": 5},
        {"id": "a", "code": "", "label": "x"},
        {"id": "a", "code": code_of(1), "image": text(png())},
        {"id": "a", "code": code_of(1), "colour": "red"},
        {"id": "a", "code": code_of(1), "label": 5},
        {"id": "a", "code": code_of(1), "uri": ["u"]},
        {"id": 5, "code": code_of(1)},
        {"id": "a", "code": code_of(1), "metadata": {"a": {"nested": 1}}},
        {"id": "a", "code": code_of(1), "metadata": {"1a": 1}},
        {"id": "a", "code": code_of(1), "metadata": {"a": [1]}},
        {"id": "a", "code": code_of(1), "metadata": [1]},
        {"id": "a", "code": code_of(1), "metadata": {f"k{n}": n for n in range(65)}},
        {"id": "a", "code": code_of(1), "metadata": {"a": "x" * 17_000}},
    ],
)
def test_an_item_that_breaks_the_rules_is_refused_and_the_others_with_it(
    client: httpx2.Client, collection: str, item: dict[str, Any]
) -> None:
    post(client, collection, {"id": "before", "code": code_of(1)})
    problem(post(client, collection, {"id": "good", "code": code_of(1)}, item), 422, "invalid-item")
    assert ids_in(client, collection) == ["before"]
    assert_serves(client)


def test_a_code_of_the_wrong_length_says_both_lengths(client: httpx2.Client, collection: str) -> None:
    response = post(client, collection, {"id": "a", "code": text(bytes(256))})
    problem(response, 422, "invalid-item", "2048", "64")


def test_a_bad_image_among_items_keeps_none_of_them(client: httpx2.Client, collection: str) -> None:
    post(client, collection, {"id": "before", "code": code_of(1)})
    response = client.post(
        "/items", params={"collection": collection}, files=[part(png(1)), part(b"no image")]
    )
    problem(response, 422, "invalid-image", "image 1")
    assert ids_in(client, collection) == ["before"]


@pytest.mark.parametrize(
    "body",
    [{}, {"items": {}}, {"items": [5]}, {"items": [], "colection": "x"}, {"items": [], "collection": 5}],
)
def test_a_body_of_another_form_is_refused(client: httpx2.Client, body: Any) -> None:
    response = client.post("/items", json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


def test_no_items_are_no_work(client: httpx2.Client) -> None:
    assert answer(client.post("/items", json={"items": []}), IdsAnswer) == {"ids": []}


def test_items_beside_images_must_fit_them(client: httpx2.Client, collection: str) -> None:
    def send(fields: Any) -> httpx2.Response:
        items = ("items", (None, fields if isinstance(fields, str) else json.dumps(fields)))
        return client.post("/items", params={"collection": collection}, files=[part(png(1)), items])

    problem(send([{}, {}]), 422, "invalid-item", "1 images and 2 items")
    problem(send([{"code": code_of(1)}]), 422, "invalid-item", "code")
    problem(send("["), 422, "invalid-input", "JSON")
    problem(send({}), 422, "invalid-item")
    problem(send([{}]) and client.get(f"/collections/{collection}-none"), 404, "not-found")


def test_parameters_must_not_come_twice(client: httpx2.Client, collection: str) -> None:
    item = {"code": code_of(1)}
    problem(client.post(f"/items?collection={collection}", json={"items": [item]}), 422, "invalid-input")
    both = client.put(f"/items/a?collection={collection}", json=item | {"collection": collection})
    problem(both, 422, "invalid-input", "collection")
    repeated = client.post("/items?collection=a&collection=b", files=[part(png())])
    problem(repeated, 422, "invalid-query", "twice")
    problem(client.put("/items/a", json=item | {"id": "b"}), 422, "invalid-item", "path")


def test_codes_of_another_model_are_409(client: httpx2.Client, collection: str) -> None:
    answer(post(client, collection, {"id": "a", "code": code_of(1)}), IdsAnswer)
    model = answer(client.get(f"/collections/{collection}"), CollectionAnswer)["model"]["id"]
    answer(post(client, collection, {"id": "b", "code": code_of(1)}, model=model), IdsAnswer)
    refused = post(client, collection, {"id": "c", "code": code_of(1)}, model="0" * 64)
    problem(refused, 409, "model-mismatch", "0" * 64, model)
    assert ids_in(client, collection) == ["a", "b"]


def test_collections_are_made_listed_and_deleted(client: httpx2.Client, collection: str) -> None:
    path = f"/collections/{collection}"
    problem(client.get(path), 404, "not-found", collection)
    made = answer(client.put(path), CollectionAnswer)
    assert (made["name"], made["num_items"]) == (collection, 0)
    post(client, collection, {"code": code_of(1), "label": "x"}, {"code": code_of(2)})
    again = answer(client.put(path), CollectionAnswer)
    assert (again["num_items"], again["num_labelled"]) == (2, 1)
    listed = answer(client.get("/collections"), CollectionsAnswer)["collections"]
    assert again in listed
    assert client.delete(path).status_code == 204
    problem(client.get(path), 404, "not-found")
    problem(client.delete(path), 404, "not-found")
    problem(client.get("/items", params={"collection": collection}), 404, "not-found")


@pytest.mark.parametrize("name", ["A", "a b", "é", "x" * 65])
def test_collection_names_are_checked(client: httpx2.Client, name: str) -> None:
    path = f"/collections/{quote(name)}"
    for response in (
        client.put(path),
        client.get(path),
        client.delete(path),
        client.get("/items", params={"collection": name}),
        client.post("/search", json={"code": code_of(1), "collection": name}),
    ):
        problem(response, 422, "invalid-query", "a-z")


@pytest.mark.parametrize("fields", [{"label": 3}, {"uri": 3}, {"metadata": 3}, {"metadata": {"a b": 1}}])
def test_an_item_at_fault_is_named_by_its_id_or_else_its_position(
    client: httpx2.Client, collection: str, fields: dict[str, Any]
) -> None:
    good, bad = {"code": code_of(1)}, {"code": code_of(1)} | fields
    problem(post(client, collection, good, bad), 422, "invalid-item", "item 1: ")
    problem(post(client, collection, good, bad | {"id": "mine"}), 422, "invalid-item", "item 'mine': ")


def test_a_model_is_named_by_its_id(client: httpx2.Client, collection: str) -> None:
    model = client.get("/models").json()["models"][0]
    item = {"code": code_of(1)}
    named = post(client, collection, item, model="tiny")
    problem(named, 422, "invalid-input", "'tiny'", "id", model["id"])
    query = {"code": code_of(1), "collection": "default", "model": "tiny"}
    problem(client.post("/search", json=query), 422, "invalid-input", "'tiny'", model["id"])
    answer(post(client, collection, item, model=model["id"]), IdsAnswer)


@pytest.mark.parametrize(
    "query", ["after=%ff", "after=a%c3", "collection=%80", "%ff=1", "limit=1&after=%ed%a0%80"]
)
def test_a_query_string_that_is_not_utf8_is_refused(client: httpx2.Client, query: str) -> None:
    problem(client.get(f"/items?{query}"), 422, "invalid-input", "UTF-8")
    assert client.get("/items?after=%C3%A9+%26").status_code == 200


@pytest.mark.parametrize(("field", "limit"), [("label", 1024), ("uri", 4096)])
def test_texts_have_limits_in_bytes(client: httpx2.Client, collection: str, field: str, limit: int) -> None:
    longest = "é" * (limit // 2)
    item = {"id": "a", "code": code_of(1), field: longest}
    answer(post(client, collection, item), IdsAnswer)
    assert get(client, collection, "a")[field] == longest
    for text_over in (longest + "x", "x" * (limit + 1)):
        refused = post(client, collection, {"code": code_of(1)}, item | {field: text_over})
        problem(refused, 422, "invalid-item", "item 1", field, str(limit + 1), str(limit))


@pytest.mark.parametrize("number", [2**63, 2**64, 2**70, -(2**63) - 1, -(2**70), 10**300])
def test_integers_of_more_than_64_bits_are_refused(
    client: httpx2.Client, collection: str, number: int
) -> None:
    item = {"id": "a", "code": code_of(1), "metadata": {"n": number}}
    problem(post(client, collection, item), 422, "invalid-item", "64 bits")
    beside = {"items": json.dumps([{"metadata": {"n": number}}])}
    sent = client.post("/items", params={"collection": collection}, files=[part(png())], data=beside)
    problem(sent, 422, "invalid-item", "64 bits")
    query = {"code": code_of(1), "filter": {"metadata.n": number}}
    assert post(client, collection, {"code": code_of(1), "metadata": {"n": 1}}).status_code == 200
    problem(client.post("/search", json=query | {"collection": collection}), 422, "invalid-query")


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 1e30, 1234567890123456789.5])
def test_numbers_within_64_bits_and_large_floats_are_kept(
    client: httpx2.Client, collection: str, number: float
) -> None:
    assert post(client, collection, {"id": "a", "code": code_of(1), "metadata": {"n": number}}).is_success
    kept = get(client, collection, "a")["metadata"]["n"]
    assert (kept, type(kept)) == (number, type(number))


def test_deep_json_with_a_long_integer_is_a_problem(client: httpx2.Client) -> None:
    for depth in (500, 990, 1020, 100_000):
        body = b'{"a": ' + b"[" * depth + b"1" * 25 + b"]" * depth + b"}"
        response = client.post("/items", content=body, headers={"Content-Type": "application/json"})
        problem(response, 422, "invalid-input")

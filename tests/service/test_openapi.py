import re
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

CALLS = {
    ("post", "/encode"),
    ("post", "/search"),
    ("post", "/classify"),
    ("post", "/items"),
    ("get", "/items"),
    ("put", "/items/{item_id}"),
    ("get", "/items/{item_id}"),
    ("delete", "/items/{item_id}"),
    ("get", "/originals/{item_id}"),
    ("get", "/collections"),
    ("put", "/collections/{name}"),
    ("get", "/collections/{name}"),
    ("delete", "/collections/{name}"),
    ("post", "/jobs"),
    ("get", "/jobs"),
    ("get", "/jobs/{job_id}"),
    ("delete", "/jobs/{job_id}"),
    ("get", "/jobs/{job_id}/events"),
    ("get", "/jobs/{job_id}/failures"),
    ("post", "/jobs/{job_id}/pause"),
    ("post", "/jobs/{job_id}/resume"),
    ("post", "/jobs/{job_id}/retry"),
    ("get", "/collections/{name}/missing"),
    ("post", "/collections/{name}/recoded"),
    ("post", "/models"),
    ("delete", "/models/{model_id}"),
    ("post", "/models/{model_id}/activate"),
    ("delete", "/models/{model_id}/activate"),
    ("post", "/models/{model_id}/rollback"),
    ("get", "/models"),
    ("get", "/models/{model_id}"),
    ("get", "/healthz"),
    ("get", "/readyz"),
    ("get", "/metrics"),
}

IMAGE_OR_JSON = {"application/json", "multipart/form-data", "image/*"}
BODIES = {
    ("post", "/encode"): IMAGE_OR_JSON,
    ("post", "/search"): IMAGE_OR_JSON,
    ("post", "/classify"): IMAGE_OR_JSON,
    ("post", "/items"): IMAGE_OR_JSON,
    ("put", "/items/{item_id}"): IMAGE_OR_JSON,
    ("post", "/jobs"): {"application/json"},
    ("post", "/collections/{name}/recoded"): {"application/json"},
    ("post", "/models/{model_id}/activate"): {"application/json"},
    ("post", "/models"): {"application/octet-stream"},
}


@pytest.fixture
def document(client: httpx2.Client) -> Any:
    return client.get("/openapi.json").json()


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return found.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


def test_every_call_is_described_with_its_answers(document: Any) -> None:
    calls = {(verb, path) for path, verbs in document["paths"].items() for verb in verbs}
    assert calls == CALLS
    for path, verbs in document["paths"].items():
        for verb, call in verbs.items():
            assert len(call["description"]) > 20, path
            good = [status for status in call["responses"] if status.startswith("2")]
            assert len(good) == 1
            assert call["responses"]["422"]["content"].keys() == {"application/problem+json"}
            content = call.get("requestBody", {}).get("content", {})
            assert content.keys() == BODIES.get((verb, path), set()), path
            assert "application/json" not in content or content["application/json"]["example"]


def test_every_reference_leads_somewhere(document: Any) -> None:
    names = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert references(document) <= names
    assert len(names) > 20


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for key, value in attrs:
            if key in ("href", "src", "action") and value:
                self.targets.append(value)
            if key == "id" and value:
                self.ids.add(value)


def test_the_pages_need_nothing_from_elsewhere_and_their_links_work(client: httpx2.Client) -> None:
    for path in ("/", "/docs"):
        response = client.get(path)
        assert response.headers["content-type"].startswith("text/html")
        page = Links()
        page.feed(response.text)
        assert page.targets
        assert not page.tags & {"script", "link", "img", "iframe"}
        for target in page.targets:
            if target.startswith("#"):
                assert target[1:] in page.ids
            else:
                assert not re.match(r"[a-z]+:|//", target)
                assert client.get("/" + target).status_code == 200


def test_the_page_shows_every_call_and_schema(client: httpx2.Client, document: Any) -> None:
    page = client.get("/docs").text
    for verb, path in CALLS:
        assert f'<span class="verb">{verb.upper()}</span> <code>{path}</code>' in page
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in page

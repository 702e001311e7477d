"""The service's JSON as typed values, and back."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from contracts.codes import to_text
from contracts.errors import StochConError
from index.protocol import CollectionInfo, Hit, Item, ModelRef
from stochcon.results import (
    ActivationInfo,
    Classification,
    Encoding,
    JobInfo,
    LabelScore,
    ModelInfo,
    NewItem,
    SearchAnswer,
)
from stochcon.transport import from_problem


def item_body(item: NewItem) -> dict[str, Any]:
    body = {"id": item.id, "label": item.label, "metadata": dict(item.metadata), "uri": item.uri}
    if item.code is not None:
        body["code"] = to_text(item.code)
    return {key: value for key, value in body.items() if value is not None}


def encodings(answer: Mapping[str, Any]) -> list[Encoding | StochConError]:
    """The results of `/encode`, with an exception in the place of each bad image."""
    made_by = model(answer["model"])
    return [
        from_problem(entry["error"])
        if "error" in entry
        else Encoding(b64decode(entry["code"]), entry["active_bits"], entry["entropy_bits"], made_by)
        for entry in answer["results"]
    ]


def model(entry: Mapping[str, Any]) -> ModelRef:
    return ModelRef(entry["id"], entry["name"], entry["num_bits"], entry.get("provider") or "")


def search_answer(entry: Mapping[str, Any]) -> SearchAnswer:
    hits = [
        Hit(hit["id"], hit["distance"], hit["label"], hit["metadata"], hit["uri"]) for hit in entry["hits"]
    ]
    return SearchAnswer(hits, model(entry["model"]), entry["exact"], entry["certified"], entry["truncated"])


def classification(entry: Mapping[str, Any]) -> Classification:
    found = search_answer(entry)
    labels = [LabelScore(label["label"], label["score"]) for label in entry["labels"]]
    return Classification(
        found.hits, found.model, found.exact, found.certified, found.truncated, labels, entry["method"]
    )


def item(entry: Mapping[str, Any]) -> Item:
    code = b64decode(entry["code"])
    return Item(entry["id"], code, entry["label"], entry["metadata"], entry["uri"], entry["original"])


def collection(entry: Mapping[str, Any]) -> CollectionInfo:
    return CollectionInfo(
        name=entry["name"],
        model=model(entry["model"]),
        num_items=entry["num_items"],
        num_labelled=entry["num_labelled"],
        disk_bytes=entry["disk_bytes"],
        memory_bytes=entry["memory_bytes"],
        num_originals=entry["num_originals"],
        original_bytes=entry["original_bytes"],
    )


def model_info(entry: Mapping[str, Any]) -> ModelInfo:
    return ModelInfo(
        entry["id"], entry["name"], entry["version"], entry["num_bits"], entry["active"], entry["manifest"]
    )


def job(entry: Mapping[str, Any]) -> JobInfo:
    counts, spec = entry["counts"], entry["spec"]
    return JobInfo(
        id=entry["id"],
        state=entry["state"],
        source=spec["source"],
        collection=spec["collection"],
        found=counts["found"],
        added=counts["added"],
        updated=counts["updated"],
        skipped=counts["skipped"],
        failed=counts["failed"],
        scanned=entry["scanned"],
        images_per_s=entry["images_per_s"],
        seconds_left=entry["seconds_left"],
        workers=entry["workers"],
        reason=entry["reason"],
        created=entry["created"],
        started=entry["started"],
        finished=entry["finished"],
    )


def activation(entry: Mapping[str, Any]) -> ActivationInfo:
    return ActivationInfo(
        model=entry["model"],
        previous=entry["previous"],
        state=entry["state"],
        jobs=entry["jobs"],
        left_out=entry["left_out"],
        check=entry["check"],
        reason=entry["reason"],
    )

"""The JSON of answers, written straight from the engine's values."""

from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

from contracts.codes import to_text
from index.protocol import CollectionInfo, Item, ModelRef, SearchResult
from service.jobs.job import Job
from service.models import ModelFile
from service.queries import Classification


def json_response(content: Any, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def model_body(model: ModelRef) -> dict[str, Any]:
    return {"id": model.id, "name": model.name, "num_bits": model.num_bits}


def search_body(result: SearchResult, model: ModelRef) -> dict[str, Any]:
    return {
        "hits": result.hits,
        "model": model_body(model),
        "exact": result.exact,
        "certified": result.certified,
        "truncated": result.truncated,
    }


def classify_body(found: Classification, model: ModelRef) -> dict[str, Any]:
    return search_body(found.neighbours, model) | {"labels": found.labels, "method": found.method}


def item_body(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "code": to_text(item.code),
        "label": item.label,
        "metadata": item.metadata,
        "uri": item.uri,
        "original": item.original,
    }


def collection_body(info: CollectionInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "model": model_body(info.model) | {"provider": info.model.provider},
        "num_items": info.num_items,
        "num_labelled": info.num_labelled,
        "disk_bytes": info.disk_bytes,
        "memory_bytes": info.memory_bytes,
        "num_originals": info.num_originals,
        "original_bytes": info.original_bytes,
    }


def model_card_body(model: ModelFile, is_active: bool) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.manifest.name,
        "version": model.manifest.version,
        "num_bits": model.manifest.num_bits,
        "active": is_active,
        "manifest": model.manifest.model_dump(mode="json"),
    }


def job_body(job: Job) -> dict[str, Any]:
    counts = job.counts
    return {
        "id": job.id,
        "state": job.state,
        "counts": {
            "found": counts.found,
            "done": counts.added + counts.updated,
            "added": counts.added,
            "updated": counts.updated,
            "skipped": counts.skipped,
            "failed": counts.failed,
        },
        "scanned": job.is_scanned,
        "images_per_s": round(job.rate, 2),
        "seconds_left": None if job.seconds_left is None else round(job.seconds_left, 1),
        "workers": job.num_workers,
        "reason": job.reason,
        "created": _time(job.created),
        "started": _time(job.started),
        "finished": _time(job.finished),
        "spec": job.spec.model_dump(mode="json"),
    }


def _time(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )

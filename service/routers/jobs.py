"""`/jobs`: sources that are indexed in the background."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from contracts.errors import InvalidInput, StochConError
from service.bodies import parse_fields, read_body
from service.context import Context, context_of
from service.job_schemas import (
    FailuresAnswer,
    FailuresParameters,
    JobAnswer,
    JobsAnswer,
    JobsParameters,
)
from service.jobs.job import Job, JobSpec
from service.openapi import json_only
from service.problems import problem
from service.routers.answers import job_body, json_response
from service.schemas import NoParameters

router = APIRouter(tags=["jobs"])

_POLL_S = 0.5
_HEARTBEAT_S = 15.0
"""A comment is sent after so long a silence, so that no proxy takes the connection for dead."""

_EXAMPLE = {"source": "/images/2024", "collection": "photos", "labels": "folders", "exclude": ["*/raw/*"]}


@router.post(
    "/jobs",
    response_model=None,
    status_code=202,
    responses={202: {"model": JobAnswer}},
    openapi_extra=json_only(JobSpec, _EXAMPLE),
)
async def submit(request: Request) -> Response:
    """Index a folder, an archive, a Parquet file, a list of paths or an object store in the background.

    The source must lie below a configured root. Answered when the job is kept durably.
    """
    context = context_of(request)
    body = await read_body(request, context.settings)
    if body.fields is None:
        raise InvalidInput("a job is described in JSON: send it as application/json")
    job = await context.call_apart(context.jobs.submit, parse_fields(JobSpec, body.fields))
    answer = json_response(job_body(job), 202)
    answer.headers["Location"] = f"/jobs/{job.id}"
    return answer


@router.get("/jobs", response_model=None, responses={200: {"model": JobsAnswer}})
async def list_jobs(request: Request, page: Annotated[JobsParameters, Query()]) -> Response:
    """Jobs, newest first, a page at a time."""
    context = context_of(request)
    jobs = await context.call_apart(context.jobs.ledger.jobs, page.after, page.limit)
    return json_response({"jobs": [job_body(job) for job in jobs]})


@router.get("/jobs/{job_id}", response_model=None, responses={200: {"model": JobAnswer}})
async def get(job_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """One job: its state, what became of its images so far, how fast it is, and how long it will take."""
    context = context_of(request)
    return json_response(job_body(await context.call_apart(context.jobs.ledger.job, job_id)))


@router.get("/jobs/{job_id}/failures", response_model=None, responses={200: {"model": FailuresAnswer}})
async def failures(job_id: str, request: Request, page: Annotated[FailuresParameters, Query()]) -> Response:
    """The images that were left out, and why, in the order in which that was found out."""
    context = context_of(request)
    found = await context.call_apart(context.jobs.ledger.failures, job_id, page.skip, page.limit)
    return json_response({"failures": [{"id": entry.id, "reason": entry.reason} for entry in found]})


@router.delete("/jobs/{job_id}", response_model=None, responses={200: {"model": JobAnswer}})
async def cancel(job_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Cancel a job, or remove from the list one that is over. What it has stored stays."""
    context = context_of(request)
    return json_response(job_body(await context.call_apart(context.jobs.cancel_or_forget, job_id)))


@router.post("/jobs/{job_id}/pause", response_model=None, responses={200: {"model": JobAnswer}})
async def pause(job_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Begin nothing more of a job until it is resumed; what is under way is finished."""
    context = context_of(request)
    return json_response(job_body(await context.call_apart(context.jobs.ledger.pause, job_id)))


@router.post("/jobs/{job_id}/resume", response_model=None, responses={200: {"model": JobAnswer}})
async def resume(job_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Go on with a job that was paused."""
    context = context_of(request)
    return json_response(job_body(await context.call_apart(context.jobs.ledger.resume, job_id)))


@router.post("/jobs/{job_id}/retry", response_model=None, responses={200: {"model": JobAnswer}})
async def retry(job_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """Try the images that failed again, and go on with a job that failed itself."""
    context = context_of(request)
    return json_response(job_body(await context.call_apart(context.jobs.ledger.retry, job_id)))


@router.get(
    "/jobs/{job_id}/events",
    response_model=None,
    responses={200: {"content": {"text/event-stream": {}}}},
)
async def events(job_id: str, request: Request, _: Annotated[NoParameters, Query()]) -> Response:
    """The job each time it has changed, as server-sent events `job`, until one `end` when it is over.

    The stream also ends, without `end`, when the service stops: connect again.
    """
    context = context_of(request)
    job = await context.call_apart(context.jobs.ledger.job, job_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_follow(context, job), media_type="text/event-stream", headers=headers)


async def _follow(context: Context, job: Job) -> AsyncIterator[bytes]:
    shown: Job | None = None
    silence_s = 0.0
    while True:
        if job != shown:
            yield _event("job", job_body(job))
            shown, silence_s = job, 0.0
        if not job.is_open:
            yield _event("end", job_body(job))
            return
        await asyncio.sleep(_POLL_S)
        silence_s += _POLL_S
        if context.stopping.is_set():
            return
        if silence_s >= _HEARTBEAT_S:
            yield b": still here\n\n"
            silence_s = 0.0
        try:
            job = await context.call_apart(context.jobs.ledger.job, job.id)
        except StochConError as exc:
            # The answer has begun, so that this can no longer be one of 4xx or 5xx.
            yield _event("error", problem(exc))
            return


def _event(name: str, data: dict[str, object]) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"

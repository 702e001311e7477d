"""The calls of `/jobs`, as `Client.jobs`."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from contracts.errors import BackendUnavailable
from index.protocol import DEFAULT_COLLECTION, Metadata
from stochcon import wire
from stochcon.results import JobInfo, LeftOut
from stochcon.transport import Transport

_LONGEST_SILENCE_S = 45.0
"""The service says something every 15 s."""


def _job_path(id: str, call: str = "") -> str:
    return f"/jobs/{quote(id, safe='')}{call}"


class JobsClient:
    """Jobs of a service: sources that it indexes in the background."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def submit(
        self,
        source: str,
        collection: str = DEFAULT_COLLECTION,
        *,
        prefix: str = "",
        labels: Literal["none", "folders"] = "none",
        label_column: str = "label",
        metadata: Metadata | None = None,
        metadata_columns: Sequence[str] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> JobInfo:
        """Queue a source: an absolute path on the service's machine, or a URL such as `s3://bucket/prefix`.

        It must lie below a root of the service. Raises InvalidInput for one that does not, or is not there.
        """
        body: Mapping[str, Any] = {
            "source": source,
            "collection": collection,
            "prefix": prefix,
            "labels": labels,
            "label_column": label_column,
            "metadata": dict(metadata or {}),
            "metadata_columns": list(metadata_columns),
            "include": list(include),
            "exclude": list(exclude),
        }
        return wire.job(self._transport.request("POST", "/jobs", json=body))

    def list(self, after: str | None = None, limit: int = 100) -> Sequence[JobInfo]:
        """Jobs, newest first, from the first that is older than `after`."""
        answer = self._transport.request("GET", "/jobs", params={"after": after, "limit": limit})
        return [wire.job(entry) for entry in answer["jobs"]]

    def get(self, id: str) -> JobInfo:
        """One job as it is now. Raises NotFound."""
        return wire.job(self._transport.request("GET", _job_path(id)))

    def failures(self, id: str, skip: int = 0, limit: int = 100) -> Sequence[LeftOut]:
        """Images that the job left out, in the order in which that was found out. Raises NotFound."""
        params = {"skip": skip, "limit": limit}
        answer = self._transport.request("GET", _job_path(id, "/failures"), params=params)
        return [LeftOut(entry["id"], entry["reason"]) for entry in answer["failures"]]

    def pause(self, id: str) -> JobInfo:
        """Begin nothing more of a job; what is under way is finished. Raises NotFound, Conflict."""
        return wire.job(self._transport.request("POST", _job_path(id, "/pause")))

    def resume(self, id: str) -> JobInfo:
        """Go on with a job that was paused. Raises NotFound, Conflict."""
        return wire.job(self._transport.request("POST", _job_path(id, "/resume")))

    def retry(self, id: str) -> JobInfo:
        """Try images that failed again, and a job that failed. Raises NotFound, Conflict."""
        return wire.job(self._transport.request("POST", _job_path(id, "/retry")))

    def cancel(self, id: str) -> JobInfo:
        """Cancel a job, or remove from the list one that is over. Raises NotFound, Conflict."""
        return wire.job(self._transport.request("DELETE", _job_path(id)))

    def watch(self, id: str, patience_s: float = 60.0) -> Iterator[JobInfo]:
        """The job each time it has changed, until it is over.

        A connection that breaks, as when the service is started anew, is made again. Raises NotFound, and
        BackendUnavailable once the service could not be reached for `patience_s`.
        """
        last_heard = time.monotonic()
        while True:
            was_heard = False
            try:
                for event, data in self._transport.events(_job_path(id, "/events"), _LONGEST_SILENCE_S):
                    was_heard = True
                    if event == "end":
                        return
                    if event == "job":
                        yield wire.job(data)
            except BackendUnavailable:
                if was_heard:
                    last_heard = time.monotonic()
                if time.monotonic() - last_heard > patience_s:
                    raise
            time.sleep(1.0)

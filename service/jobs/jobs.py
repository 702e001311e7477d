"""Jobs as the service takes them in: checked before they are queued."""

from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InvalidInput
from index.items import encode_metadata
from service.engine import Engine
from service.jobs.job import Job, JobSpec
from service.jobs.ledger import Ledger
from service.jobs.roots import Roots


@dataclass(frozen=True, slots=True)
class Jobs:
    """The ledger, and what a job must be to get into it."""

    ledger: Ledger
    roots: Roots
    engine: Engine

    def submit(self, spec: JobSpec) -> Job:
        """Queue a job, its source named as it really is.

        Raises InvalidInput for a source that is not there or may not be read, InvalidQuery for a bad
        name of a collection, InvalidItem for bad metadata, and NotFound if the model of the collection is
        not in the model folder.
        """
        if spec.reencode is not None:
            raise InvalidInput("reencode is set by the service alone: activate the model instead")
        encode_metadata("*", spec.metadata)  # Whatever is wrong would be wrong with every item.
        source = self.roots.admit(spec.source)
        if "://" not in source:
            _check_there(Path(source))
        self.engine.models.get(self.engine.model_for(spec.collection).id)
        return self.ledger.submit(spec.model_copy(update={"source": source}))

    def cancel_or_forget(self, job_id: str) -> Job:
        """Cancel a job, or remove it if it is over, and return it as it is then, or last was.

        Raises NotFound, and Conflict if it ends at this very moment.
        """
        job = self.ledger.job(job_id)
        if job.is_open:
            return self.ledger.cancel(job_id)
        self.ledger.forget(job_id)
        return job


def _check_there(path: Path) -> None:
    try:
        path.stat()
    except FileNotFoundError as exc:
        raise InvalidInput(f"the source {path} does not exist: check the path") from exc
    except OSError as exc:
        raise InvalidInput(f"the source {path} cannot be read: {exc.strerror}") from exc

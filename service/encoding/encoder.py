"""Images in, codes out: a decode pool, the model's threads, and a bounded queue before them.

There is no delay timer. While the model works on one batch the pool decodes the next images; a thread of
the model that is free takes its share of what is decoded. So a lone image waits for nobody, and under load
batches fill by themselves. An image joins a batch only when it is fully decoded: a bad one is one failed
future and never anything else.

A few hundred kilobytes of PNG can be 100 megapixels: seconds of work, and more than a gigabyte while
it is decoded. Such images have a lane of their own, one thread wide, so that they cost the memory of
one and small images never wait for them.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from contracts.errors import BackendUnavailable, Overloaded, StochConError
from contracts.manifest import ModelManifest
from contracts.pixels import ImageLimits, Pixels
from service.encoding.decode import Decoder, LargeImage
from service.encoding.encoding import Encoding
from service.encoding.providers import usable_cores
from service.encoding.session import MAX_BATCH, ProviderChoice, Session, open_session

_BULK_WINDOW = 8 * MAX_BATCH
"""Images that `encode_many` keeps in flight: enough for full batches while results are read."""


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How images are encoded, and how many may wait."""

    provider: ProviderChoice = "auto"
    num_threads: int | None = None
    """Threads of the model and of the decode pool, each; the usable cores if None."""
    limits: ImageLimits = field(default_factory=ImageLimits)
    max_queue_images: int = 512
    max_queue_bytes: int = 256 * 2**20
    """Bytes of image files that wait for decoding."""


class Observer(Protocol):
    """Hears how long each stage took; the service counts with it."""

    def stage(self, name: str, seconds: float) -> None:
        """`decode` for one image, or `wait` (decoded, for the model) and `model` for one batch."""
        ...

    def batch(self, num_images: int) -> None:
        """A batch of so many images was run."""
        ...


class _Silent:
    def stage(self, name: str, seconds: float) -> None: ...

    def batch(self, num_images: int) -> None: ...


@dataclass(slots=True, eq=False)
class _Task:
    data: bytes
    future: Future[Encoding]
    pixels: Pixels | None = None
    decoded_at: float = 0.0


class Encoder:
    """Encodes images with one model. Every method may be called from many threads."""

    def __init__(
        self,
        model_path: Path,
        manifest: ModelManifest,
        settings: EncoderSettings | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Load and warm the model. Raises InvalidModel, BackendUnavailable."""
        self._settings = settings or EncoderSettings()
        self._observer = observer or _Silent()
        num_threads = self._settings.num_threads or usable_cores()
        self._session: Session = open_session(model_path, manifest, self._settings.provider, num_threads)
        self._decoder = Decoder(manifest.preprocessing, self._settings.limits)
        # One lock guards everything below; `_changed` is told of every change that someone may wait for.
        self._changed = threading.Condition()
        self._unfinished: set[Future[Encoding]] = set()
        self._ready: deque[_Task] = deque()
        self._pending_bytes = 0
        self._image_s = 0.0
        self._closing = False
        self._failure: Exception | None = None
        self._pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decode")
        self._large_lane = ThreadPoolExecutor(1, thread_name_prefix="decode-large")
        self._workers = [
            threading.Thread(target=self._work, name=f"model-{number}", daemon=True)
            for number in range(self._session.workers)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def provider(self) -> str:
        """Provider and precision that run the model, for example `cpu-fp32`."""
        return self._session.provider

    @property
    def notes(self) -> tuple[str, ...]:
        """Why other providers are not in use."""
        return self._session.notes

    @property
    def num_pending(self) -> int:
        """Images taken in and not yet answered."""
        return len(self._unfinished)

    @property
    def failure(self) -> Exception | None:
        """What stopped the model, or None while it works."""
        return self._failure

    def submit(self, data: bytes) -> Future[Encoding]:
        """Queue one image; see `submit_all`."""
        return self.submit_all([data])[0]

    def submit_all(self, images: Sequence[bytes]) -> list[Future[Encoding]]:
        """Queue image files, all or none, and return a future for each.

        Raises Overloaded if they do not fit the queue now, BackendUnavailable if the encoder is closed
        or has failed. A future fails with InvalidImage or TooLarge if its image is bad. One that is
        cancelled before its batch starts costs no more work.
        """
        with self._changed:
            self._check_open()
            if not self._fits(images):
                raise Overloaded(
                    f"{self.num_pending} images ({self._pending_bytes} bytes) are waiting and the limits are "
                    f"{self._settings.max_queue_images} images and {self._settings.max_queue_bytes} "
                    "bytes: send again after the time given, or fewer images at once",
                    retry_after_s=self._retry_after_s(),
                )
            return self._admit(images)

    def encode_many(self, images: Iterable[bytes]) -> Iterator[Encoding | StochConError]:
        """Encode a stream of image files in order, waiting for room instead of raising Overloaded.

        Yields an error in the place of an image that is bad; memory does not grow with the stream.
        Raises BackendUnavailable if the model fails.
        """
        window: deque[Future[Encoding]] = deque()
        try:
            for data in images:
                while len(window) >= _BULK_WINDOW:
                    yield _result(window.popleft())
                window.append(self._submit_when_it_fits(data))
            while window:
                yield _result(window.popleft())
        finally:
            for future in window:
                future.cancel()

    def close(self) -> None:
        """Take no more images, finish those that wait, and stop."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._pool.shutdown(wait=True)
        self._large_lane.shutdown(wait=True)  # Second, since the pool hands on to it.
        for worker in self._workers:
            worker.join()

    def _submit_when_it_fits(self, data: bytes) -> Future[Encoding]:
        with self._changed:
            # Those that wait are answered in time whatever their callers do, so room comes by itself.
            self._changed.wait_for(lambda: self._closing or self._failure or self._fits([data]))
            self._check_open()
            return self._admit([data])[0]

    def _check_open(self) -> None:
        if self._failure is not None:
            raise BackendUnavailable(f"the model has stopped ({self._failure}): restart the service")
        if self._closing:
            raise BackendUnavailable("the encoder is closed: the service is shutting down")

    def _fits(self, images: Sequence[bytes]) -> bool:
        """Whether the queue has room; one that is empty has room for any one request."""
        if not self._unfinished:
            return True
        num_bytes = sum(map(len, images))
        return (
            len(self._unfinished) + len(images) <= self._settings.max_queue_images
            and self._pending_bytes + num_bytes <= self._settings.max_queue_bytes
        )

    def _admit(self, images: Sequence[bytes]) -> list[Future[Encoding]]:
        tasks = [_Task(data, Future()) for data in images]
        self._pending_bytes += sum(map(len, images))
        for task in tasks:
            self._unfinished.add(task.future)
            self._pool.submit(self._decode, task)
        return [task.future for task in tasks]

    def _retry_after_s(self) -> float:
        """About the time until half of what waits is done."""
        return min(30.0, max(1.0, 0.5 * len(self._unfinished) * self._image_s))

    def _decode(self, task: _Task, may_be_large: bool = False) -> None:
        """Runs in the pool, and for large images again in their lane: decode one image.

        Hands it to the model, or fails its future.
        """
        num_bytes, error = len(task.data), None
        if not task.future.cancelled():
            try:
                task.pixels = self._decode_timed(task.data, may_be_large)
            except LargeImage:
                self._large_lane.submit(self._decode, task, True)
                return
            except Exception as exc:  # noqa: BLE001 - whatever it is belongs to this image alone.
                error = exc
        task.decoded_at = time.perf_counter()
        task.data = b""
        with self._changed:
            self._pending_bytes -= num_bytes
            is_waited_for = task.future in self._unfinished
            if task.pixels is not None and is_waited_for:
                self._ready.append(task)
            else:
                self._release([task])
            self._changed.notify_all()
        if error is not None and is_waited_for and task.future.set_running_or_notify_cancel():
            task.future.set_exception(error)

    def _decode_timed(self, data: bytes, may_be_large: bool) -> Pixels:
        start = time.perf_counter()
        is_handed_on = False
        try:
            return self._decoder.decode(data, may_be_large=may_be_large)
        except LargeImage:
            is_handed_on = True
            raise
        finally:
            if not is_handed_on:
                self._observer.stage("decode", time.perf_counter() - start)

    def _release(self, tasks: Sequence[_Task]) -> None:
        self._unfinished.difference_update(task.future for task in tasks)
        self._changed.notify_all()

    def _work(self) -> None:
        """A thread of the model: until closed and empty, run what is decoded."""
        try:
            while batch := self._take():
                self._run(batch)
        except BaseException as exc:  # noqa: BLE001 - nobody may wait for a thread that is gone.
            self._fail(exc if isinstance(exc, Exception) else RuntimeError(repr(exc)))

    def _take(self) -> list[_Task]:
        """Wait for decoded images; an empty list when the encoder is closed and all is done."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._ready or (self._closing and not self._unfinished))
                if not self._ready:
                    return []
                taken = [self._ready.popleft() for _ in range(self._session.share(len(self._ready)))]
                dropped = [task for task in taken if not task.future.set_running_or_notify_cancel()]
                self._release(dropped)
                batch = [task for task in taken if task not in dropped]
                if batch:
                    return batch

    def _run(self, batch: list[_Task]) -> None:
        start = time.perf_counter()
        self._observer.stage("wait", start - batch[0].decoded_at)
        pixels = np.stack([task.pixels for task in batch if task.pixels is not None])
        is_alone = len(self._unfinished) == len(batch)
        codes, logits = self._session.run(pixels, alone=is_alone)
        took = time.perf_counter() - start
        self._observer.stage("model", took)
        self._observer.batch(len(batch))
        with self._changed:
            self._image_s = took / len(batch) / len(self._workers)
            self._release(batch)
        for task, code, row in zip(batch, codes, logits, strict=True):
            task.future.set_result(Encoding(code.tobytes(), row))

    def _fail(self, failure: Exception) -> None:
        """Fail everything that waits, and everything that comes after."""
        with self._changed:
            self._failure = failure
            futures = list(self._unfinished)
            self._unfinished.clear()
            self._ready.clear()
            self._changed.notify_all()
        for future in futures:
            if future.running() or future.set_running_or_notify_cancel():
                future.set_exception(BackendUnavailable(f"the model has stopped: {failure}"))


def _result(future: Future[Encoding]) -> Encoding | StochConError:
    """The encoding, or what was wrong with the image. Raises BackendUnavailable if the model failed."""
    try:
        return future.result()
    except BackendUnavailable:
        raise
    except StochConError as exc:
        return exc

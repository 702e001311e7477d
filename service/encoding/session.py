"""The session that runs the model: chosen once at start, checked, warmed, and said by name."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from contracts.codes import Codes, num_bytes
from contracts.errors import BackendUnavailable, InvalidModel
from contracts.manifest import ModelManifest, Preprocessing
from contracts.pixels import Pixels
from service.encoding.providers import Accelerator, is_installed, open_accelerated, open_cpu, usable_cores

ProviderChoice = Literal["auto", "cpu", "openvino", "cuda"]

Logits = npt.NDArray[np.float32]
"""float32 [n, num_bits]"""

BUCKETS = (1, 2, 4, 8, 16, 32)
"""Batch sizes that an accelerator sees; a batch is padded up to the next one."""

MAX_BATCH = BUCKETS[-1]

_MAX_DRIFT = 0.03
"""Largest share of bits in which an accelerator may differ from plain CPU on the known images. bf16
was seen to change 1 %; a provider that computes something else changes a third or more."""


_MAX_ROUNDS = 10
_TIMING_S = 0.5
"""Providers are timed against each other for so many rounds, or about so long."""


_CPU_BATCH = 4
"""Images that one of several workers takes at a time: a processor gains nothing from more."""


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded model. `run` is for as many threads at a time as there are workers."""

    runtime: ort.InferenceSession
    provider: str
    """What runs and in which precision, for example `openvino-bf16` or `cpu-fp32`."""
    num_bits: int
    buckets: tuple[int, ...] = ()
    """Batch sizes to pad to; none on plain CPU, which compiles nothing for a size."""
    workers: int = 1
    """Batches that run at once. Plain CPU has one for each core: by itself, a core does not wait for others
    after every layer."""
    bucket_s: tuple[float, ...] = ()
    """Seconds that a batch of each bucket takes."""
    wide: ort.InferenceSession | None = None
    """With several workers, the model on all cores, for a batch that is alone."""
    notes: tuple[str, ...] = ()
    """Why other providers are not in use."""

    def share(self, num_ready: int) -> int:
        """How many of so many decoded images a worker should take, so that most are done in a second."""
        if self.buckets:
            # Nine images are better done as eight and one than as sixteen of which seven are padding.
            rates = (
                (min(bucket, num_ready) / took, bucket)
                for bucket, took in zip(self.buckets, self.bucket_s, strict=True)
            )
            return min(max(rates)[1], num_ready)
        most = MAX_BATCH if self.workers == 1 else _CPU_BATCH
        return min(most, ceil(num_ready / self.workers))

    def run(self, pixels: Pixels, *, alone: bool = False) -> tuple[Codes, Logits]:
        """Codes [n, num_bits / 8] and logits [n, num_bits] of uint8 pixels [n, H, W, 3], n <= MAX_BATCH.

        `alone` says that no other batch runs or waits. Raises BackendUnavailable if the runtime fails.
        """
        num_images = len(pixels)
        size = next((bucket for bucket in self.buckets if bucket >= num_images), num_images)
        if size > num_images:
            padding = np.zeros((size - num_images, *pixels.shape[1:]), dtype=np.uint8)
            pixels = np.concatenate([pixels, padding])
        try:
            runtime = self.wide if alone and self.wide is not None else self.runtime
            codes, logits = runtime.run(["code", "logits"], {"image": pixels})
        except Exception as exc:  # onnxruntime raises its own unrelated types.
            raise BackendUnavailable(f"{self.provider} failed to run the model: {exc}") from exc
        return codes[:num_images], logits[:num_images]


def open_session(
    path: Path, manifest: ModelManifest, choice: ProviderChoice = "auto", num_threads: int | None = None
) -> Session:
    """Load the model under the provider asked for, check it against plain CPU, and warm it.

    `auto` takes an accelerator that is installed, runs and is measured quicker than plain CPU; what
    stood against one is in `notes`. Raises BackendUnavailable if the provider asked for does not run
    here, InvalidModel for a file that makes no codes.
    """
    require_codes(manifest)
    threads = num_threads or usable_cores()
    runtime = open_cpu(path, 1)
    _check_signature(runtime, path, manifest)
    plain = Session(runtime, "cpu-fp32", manifest.num_bits, workers=threads)
    images = known_images(manifest.preprocessing)
    plain.run(images[:1])
    if choice == "cpu":
        return _with_all_cores(plain, path, images)
    if choice != "auto":
        return _open_checked(path, choice, threads, plain, images)
    notes: list[str] = []
    for accelerator in ("cuda", "openvino"):
        if not is_installed(accelerator):
            continue
        try:
            session = _open_checked(path, accelerator, threads, plain, images)
        except BackendUnavailable as exc:
            notes.append(str(exc))
            continue
        plain_s, session_s = _best_times_s((plain, session), images)
        if session_s < plain_s:
            return session
        notes.append(
            f"{session.provider} takes {session_s * 1e3:.1f} ms for {len(images)} images and "
            f"{plain.provider} {plain_s * 1e3:.1f} ms"
        )
    return replace(_with_all_cores(plain, path, images), notes=tuple(notes))


def require_codes(manifest: ModelManifest) -> None:
    """Raise InvalidModel for a model whose outputs are not codes."""
    if manifest.latent != "bernoulli":
        raise InvalidModel(
            f"the model {manifest.name} {manifest.version} has the latent {manifest.latent!r} and makes "
            "no codes: only models with the latent 'bernoulli' can be served"
        )


def known_images(preprocessing: Preprocessing) -> Pixels:
    """Four images that every start sees alike: a ramp, rings, a chequerboard and soft noise.

    uint8 [4, height, width, 3]
    """
    height, width = preprocessing.height, preprocessing.width
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    ramp = np.stack([x, y, 1 - x], axis=-1)
    rings = np.stack([0.5 + 0.5 * np.cos(40 * (x - c) * (y - 0.5)) for c in (0.2, 0.5, 0.8)], axis=-1)
    chequers = np.repeat(((np.floor(6 * x) + np.floor(6 * y)) % 2)[..., None], 3, axis=-1)
    coarse = np.random.default_rng(0).random((9, 9, 3))
    noise = coarse[(8 * y).astype(int), (8 * x).astype(int)]
    return (255 * np.stack([ramp, rings, chequers, noise])).astype(np.uint8)


def _with_all_cores(plain: Session, path: Path, images: Pixels) -> Session:
    """The session on plain CPU, ready also for a batch that is alone."""
    if plain.workers == 1:
        return plain
    session = replace(plain, wide=open_cpu(path, plain.workers))
    session.run(images[:1], alone=True)
    return session


def _open_checked(
    path: Path, accelerator: Accelerator, threads: int, plain: Session, images: Pixels
) -> Session:
    runtime, provider = open_accelerated(path, accelerator, threads)
    session = Session(runtime, provider, plain.num_bits, BUCKETS)
    expected, (codes, _) = plain.run(images)[0], session.run(images)
    drift = np.bitwise_count(codes ^ expected).sum() / (len(images) * plain.num_bits)
    if drift > _MAX_DRIFT:
        raise BackendUnavailable(
            f"{provider} gives other codes than {plain.provider}: {drift:.1%} of the bits differ, and the "
            f"limit is {_MAX_DRIFT:.0%}; use --provider cpu"
        )
    return replace(session, bucket_s=tuple(_time_s(session, images, size) for size in BUCKETS))


def _time_s(session: Session, images: Pixels, size: int) -> float:
    """Seconds of a batch of `size`, which the first run of that size compiles for."""
    batch = np.resize(images, (size, *images.shape[1:]))
    took = []
    for _ in range(3):
        start = time.perf_counter()
        session.run(batch)
        took.append(time.perf_counter() - start)
    return min(took)


def _best_times_s(sessions: Sequence[Session], images: Pixels) -> list[float]:
    """The shortest of several runs of each, in turns, so that a busy moment of the machine harms none.

    Of workers that run at once, each is counted with its share.
    """
    best = [float("inf")] * len(sessions)
    began = time.perf_counter()
    for _ in range(_MAX_ROUNDS):
        for position, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(images)
            best[position] = min(best[position], (time.perf_counter() - start) / session.workers)
        if time.perf_counter() - began > _TIMING_S:
            break
    return best


def _check_signature(runtime: ort.InferenceSession, path: Path, manifest: ModelManifest) -> None:
    """Raise InvalidModel unless inputs and outputs are those of the contract."""
    size = manifest.preprocessing
    expected = {
        "image": ("tensor(uint8)", [size.height, size.width, 3]),
        "code": ("tensor(uint8)", [num_bytes(manifest.num_bits)]),
        "logits": ("tensor(float)", [manifest.num_bits]),
    }
    nodes = {node.name: node for node in (*runtime.get_inputs(), *runtime.get_outputs())}
    for name, (dtype, shape) in expected.items():
        node = nodes.get(name)
        if node is None or node.type != dtype or list(node.shape[1:]) != shape:
            found = f"{node.type} {node.shape}" if node else "missing"
            raise InvalidModel(
                f"{path}: {name} is {found} and should be {dtype} [N, {', '.join(map(str, shape))}]: "
                "export the model again with `stochcon export`"
            )

"""Feeds damaged image files to an encoder in this process, and says what came of it.

    python -m tests.fuzz [--seconds 600] [--seed N] [--found FOLDER]
    python -m tests.fuzz --examples 1000

Every file must give a code, or an error that says what is wrong, in time and in bounded memory; and good
files in between must give their own codes. A file that does not is kept in FOLDER, and so is the one being
decoded when the process died: `current`. With `--examples` Hypothesis draws them, always the same ones, and
shrinks the first that fails; without it each case has a seed of its own. Exit status 1 says that something
was found, any other but 0 that a decoder took the process with it.
"""

import argparse
import faulthandler
import hashlib
import os
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidImage, TooLarge
from contracts.model_file import read_manifest
from contracts.pixels import ImageLimits
from service.encoding.encoder import Encoder, EncoderSettings
from tests.fuzz.mutations import SEEDS, mutate
from tests.image_files import png
from tests.tiny_model import write_tiny_model

LIMITS = ImageLimits(max_bytes=2**20, max_pixels=1_000_000)
MAX_CASE_S = 20.0
"""Waiting time, on a machine that is busy with other things; beyond it the case hangs."""
MAX_CASE_CPU_S = 2.0
MAX_GROWTH_BYTES = 192 * 2**20
"""Peak memory, over what the process has after its first files."""
MAX_ADDRESS_SPACE_BYTES = 8 * 2**30
"""So that a file that asks for all memory there is fails here, and not the machine."""

_NUM_FILES_BETWEEN_GOOD = 50
_REMEDY = re.compile(r": (send|save|scale|the file is damaged)")


class Finding(AssertionError):
    """A file that was not answered as it should be."""


def peak_bytes() -> int:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check_message(message: str) -> None:
    """Raise Finding unless an error's message says what is wrong and what to do, and nothing else."""
    if not _REMEDY.search(message) or "\n" in message or " at 0x" in message or len(message) > 500:
        raise Finding(f"unclear message: {message!r}")


@dataclass
class Fuzzer:
    """An encoder, and what it made of the files so far."""

    encoder: Encoder
    found: Path
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    slowest: tuple[float, str] = (0.0, "")
    _num_files: int = 0
    _good_code: bytes = b""
    _first_peak: int = 0

    def warm(self) -> None:
        """Decode every seed, so that what is loaded once is loaded."""
        self._good_code = self.encoder.submit(png(7)).result(60).code
        for data in SEEDS.values():
            self._answer(data)
        self._first_peak = peak_bytes()

    @property
    def growth_bytes(self) -> int:
        """Peak memory since `warm`."""
        return peak_bytes() - self._first_peak

    def try_file(self, kind: str, data: bytes) -> None:
        """Encode one file. Raises Finding, having kept the file, if anything about the answer is wrong."""
        (self.found / "current").write_bytes(data)
        start, cpu_start = time.monotonic(), time.process_time()
        growth = self.growth_bytes
        try:
            outcome = self._answer(data)
            took, cpu_took = time.monotonic() - start, time.process_time() - cpu_start
            if cpu_took > MAX_CASE_CPU_S:
                raise Finding(f"{cpu_took:.1f} s of processor time")
            if self.growth_bytes > max(growth, MAX_GROWTH_BYTES):
                raise Finding(f"{self.growth_bytes >> 20} MiB of memory")
            self._num_files += 1
            if self._num_files % _NUM_FILES_BETWEEN_GOOD == 0:
                self.check_good()
        except Finding as exc:
            name = hashlib.sha256(data).hexdigest()[:16]
            (self.found / name).write_bytes(data)
            raise Finding(f"{kind}: {exc}: {len(data)} bytes kept as {self.found / name}") from exc
        self.outcomes[kind, outcome] += 1
        self.slowest = max(self.slowest, (took, kind))

    def check_good(self) -> None:
        """Raise Finding unless a good image has its right code."""
        if self.encoder.submit(png(7)).result(MAX_CASE_S).code != self._good_code:
            raise Finding("the next good image has another code")

    def _answer(self, data: bytes) -> str:
        try:
            self.encoder.submit(data).result(MAX_CASE_S)
        except (InvalidImage, TooLarge) as exc:
            if isinstance(exc.__cause__, MemoryError):
                raise Finding("asks for more memory than there is") from exc
            check_message(str(exc))
            return exc.slug
        except TimeoutError as exc:
            faulthandler.dump_traceback(all_threads=True)
            raise Finding(f"hangs for {MAX_CASE_S} s") from exc
        except Exception as exc:
            raise Finding(f"unforeseen {exc!r}") from exc
        return "code"


def damaged(num_examples: int) -> Callable[[Callable[[str, Random], None]], Callable[[], None]]:
    """Have a function called with so many kinds of file and random numbers, always the same."""

    def decorate(function: Callable[[str, Random], None]) -> Callable[[], None]:
        chosen = settings(
            max_examples=num_examples,
            derandomize=True,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        random = st.randoms(use_true_random=False)
        return chosen(given(kind=st.sampled_from(tuple(SEEDS)), random=random)(function))

    return decorate


def run_examples(fuzzer: Fuzzer, num_examples: int) -> None:
    """Let Hypothesis choose the damage. Raises Finding with the smallest file that it knows."""

    @damaged(num_examples)
    def try_one(kind: str, random: Random) -> None:
        fuzzer.try_file(kind, mutate(random, SEEDS[kind]))

    try_one()


def run_seconds(fuzzer: Fuzzer, seconds: float, seed: int) -> int:
    """Damage files at random until the time is out, and count the findings."""
    kinds, stop, number, num_findings = tuple(SEEDS), time.monotonic() + seconds, 0, 0
    while time.monotonic() < stop:
        random = Random(f"{seed}/{number}")
        kind = random.choice(kinds)
        try:
            fuzzer.try_file(kind, mutate(random, SEEDS[kind]))
        except Finding as exc:
            num_findings += 1
            print(f"case {seed}/{number}: {exc}", flush=True)
        number += 1
    return num_findings


def main() -> int:
    """Run, print a summary, and return the exit status."""
    parser = argparse.ArgumentParser(description="Feed damaged image files to an encoder")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, help="so many of Hypothesis's, instead of --seconds")
    parser.add_argument("--found", type=Path, help="folder for what is found; a new one if not given")
    options = parser.parse_args()

    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE_BYTES,) * 2)
    found = options.found or Path(tempfile.mkdtemp(prefix="stochcon-fuzz-"))
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder) / "tiny.onnx")
        encoder = Encoder(model, read_manifest(model), EncoderSettings("cpu", 1, LIMITS))
        fuzzer = Fuzzer(encoder, found)
        fuzzer.warm()
        num_findings = 0
        if options.examples is None:
            num_findings = run_seconds(fuzzer, options.seconds, options.seed)
        else:
            run_examples(fuzzer, options.examples)
        fuzzer.check_good()
        encoder.close()
    (found / "current").unlink(missing_ok=True)
    report(fuzzer, num_findings)
    return 1 if num_findings else 0


def report(fuzzer: Fuzzer, num_findings: int) -> None:
    """How each kind of file was answered, and at what cost."""
    columns = ("code", InvalidImage.slug, TooLarge.slug)
    print(f"{'':32}{''.join(f'{name:>15}' for name in columns)}")
    for kind in SEEDS:
        print(f"{kind:32}{''.join(f'{fuzzer.outcomes[kind, name]:15}' for name in columns)}")
    took, kind = fuzzer.slowest
    print(
        f"{fuzzer.outcomes.total()} files, {num_findings} findings; slowest {took:.2f} s ({kind}), "
        f"peak memory +{fuzzer.growth_bytes >> 20} MiB"
    )


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # Not held up by a decode that hangs.

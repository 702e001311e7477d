"""Whether a model can be served here, found out in a process of its own: what breaks there breaks nothing.

    python -m service.model_check MODEL.onnx [--provider NAME] [--threads N]

Prints one object of JSON: what the model makes of four made-up pictures, and how fast it is.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from contracts.errors import InvalidModel, StochConError
from contracts.model_file import read_model
from service.encoding.encoder import Encoder, EncoderSettings
from service.encoding.encoding import Encoding
from service.encoding.session import ProviderChoice, require_codes

TIMEOUT_S = 300.0
_POLL_S = 0.2
_SPEED_S = 0.5
_SEED = 0


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What was found."""

    id: str
    num_bits: int
    provider: str
    images_per_s: float
    active_share: float
    """Share of the bits that are 1, over the pictures."""
    differing_share: float
    """Share of the bits in which two pictures differ, on average."""


def check_in_fresh_process(
    path: Path,
    provider: ProviderChoice,
    num_threads: int | None,
    should_stop: Callable[[], bool] = lambda: False,
) -> ModelCheck:
    """Check a model in a process of its own.

    Raises InvalidModel, also if that crashes, takes too long, or is ended since `should_stop` says so.
    """
    command = [sys.executable, "-m", "service.model_check", str(path), "--provider", provider]
    if num_threads is not None:
        command += ["--threads", str(num_threads)]
    deadline = time.monotonic() + TIMEOUT_S
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while True:
            try:
                out, err = process.communicate(timeout=_POLL_S)
                break
            except subprocess.TimeoutExpired:
                if should_stop() or time.monotonic() > deadline:
                    process.kill()
                    raise InvalidModel(f"{path.name} did not pass its check within the time it had") from None
    if process.returncode:
        reason = (err.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise InvalidModel(f"{path.name} does not pass its check: {reason}")
    return ModelCheck(**json.loads(out))


def _check(path: Path, settings: EncoderSettings) -> ModelCheck:
    manifest, model_id = read_model(path)
    require_codes(manifest)
    pictures = _pictures(manifest.preprocessing.height, manifest.preprocessing.width)
    encoder = Encoder(path, manifest, settings)
    try:
        encodings = [result for result in encoder.encode_many(pictures) if isinstance(result, Encoding)]
        again = [result for result in encoder.encode_many(pictures) if isinstance(result, Encoding)]
        start, num_images = time.perf_counter(), 0
        while time.perf_counter() - start < _SPEED_S:
            num_images += sum(1 for _ in encoder.encode_many(pictures * 16))
        images_per_s = num_images / (time.perf_counter() - start)
    finally:
        encoder.close()
    if len(encodings) != len(pictures):
        raise InvalidModel("it cannot encode a plain PNG")
    if any(not np.isfinite(encoding.logits).all() for encoding in encodings):
        raise InvalidModel("its logits are not finite numbers")
    bits = np.unpackbits(np.frombuffer(b"".join(e.code for e in encodings), np.uint8)).reshape(
        len(pictures), -1
    )
    bits_again = np.unpackbits(np.frombuffer(b"".join(e.code for e in again), np.uint8)).reshape(bits.shape)
    differing = np.mean([(a != b).mean() for i, a in enumerate(bits) for b in bits[:i]])
    # The same picture may differ in a bit whose logit is next to zero, in batches of other sizes.
    if (bits != bits_again).mean() > 0.01:
        raise InvalidModel("it gives the same picture different codes")
    if not differing:
        raise InvalidModel("it gives different pictures the same code")
    return ModelCheck(
        id=model_id,
        num_bits=manifest.num_bits,
        provider=encoder.provider,
        images_per_s=round(images_per_s, 1),
        active_share=round(float(bits.mean()), 4),
        differing_share=round(float(differing), 4),
    )


def _pictures(height: int, width: int) -> list[bytes]:
    """Four pictures that nobody could take for one another, as PNG."""
    rows, columns = np.mgrid[0:height, 0:width]
    random = np.random.default_rng(_SEED).integers(0, 256, (height, width), dtype=np.uint8)
    ramp = (255 * columns / max(1, width - 1)).astype(np.uint8)
    squares = np.where((rows // 8 + columns // 8) % 2, 255, 0).astype(np.uint8)
    disc = np.where(np.hypot(rows - height / 2, columns - width / 2) < height / 3, 220, 30).astype(np.uint8)
    found = []
    for channels in (
        (random, random, random),
        (ramp, ramp, ramp[::-1]),
        (squares,) * 3,
        (disc, ramp, squares),
    ):
        file = io.BytesIO()
        Image.fromarray(np.stack(channels, axis=-1)).save(file, "PNG")
        found.append(file.getvalue())
    return found


def main() -> None:
    """Check the model that is named, and print what was found or, with exit status 1, why not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--provider", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    try:
        found = _check(options.model, EncoderSettings(provider=options.provider, num_threads=options.threads))
    except StochConError as exc:
        sys.exit(str(exc))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()

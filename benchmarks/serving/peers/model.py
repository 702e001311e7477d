"""What each peer does with one image and one model, written as most people write it."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from PIL import Image, ImageOps

from contracts.model_file import read_manifest

Pixels = npt.NDArray[np.uint8]
"""uint8 [height, width, 3], or with the number of images before."""


class PeerModel:
    """A model file under ONNX Runtime, and the preprocessing that its card asks for."""

    def __init__(self, path: Path, *, with_our_session: bool, num_threads: int = 0) -> None:
        """`num_threads` 0 is ONNX Runtime's own choice, all cores."""
        manifest = read_manifest(path)
        self._preprocessing = manifest.preprocessing
        self._run: Callable[[Pixels], Pixels]
        if with_our_session:
            from service.encoding.session import open_session

            session = open_session(path, manifest, "auto", num_threads or None)
            self._run = lambda pixels: session.run(pixels, alone=True)[0]  # on all cores, as their own
        else:
            options = ort.SessionOptions()
            options.intra_op_num_threads = num_threads
            plain = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            self._run = lambda pixels: plain.run(["code"], {"image": pixels})[0]

    def prepare(self, image: bytes | Image.Image) -> Pixels:
        """Decode and resize."""
        opened = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
        size = self._preprocessing.width, self._preprocessing.height
        rgb = opened.convert("RGB")
        if self._preprocessing.resize == "crop":
            return np.asarray(ImageOps.fit(rgb, size, Image.Resampling.BILINEAR))
        return np.asarray(rgb.resize(size, Image.Resampling.BILINEAR))

    def codes(self, pixels: Pixels) -> list[str]:
        """Base64 of the code of each image of [n, height, width, 3]."""
        return [base64.b64encode(code.tobytes()).decode() for code in self._run(pixels)]

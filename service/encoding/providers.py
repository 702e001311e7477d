"""Opening an ONNX Runtime session under one execution provider, or saying why it cannot be.

ONNX Runtime falls back to its plain CPU provider without an error when another cannot start. So each
session records where its nodes were placed, and `open_accelerated` refuses one whose nodes were not
given to the provider asked for.
"""

import json
import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from contracts.errors import BackendUnavailable, InvalidModel

Accelerator = Literal["cuda", "openvino"]

_EP_NAMES: dict[Accelerator, str] = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
_OPENVINO_PACKAGE = "onnxruntime_ep_openvino"
_MIN_PLACED = 0.5
"""Least share of the graph's nodes that must run where they were meant to; shape arithmetic may not."""


def usable_cores() -> int:
    """Cores that this process may use, which a container may hold below the machine's."""
    return len(os.sched_getaffinity(0))


def is_installed(accelerator: Accelerator) -> bool:
    """Whether the package that brings the provider is there; it may still find no device."""
    if accelerator == "openvino":
        return find_spec(_OPENVINO_PACKAGE) is not None
    return _EP_NAMES[accelerator] in ort.get_available_providers()


def open_cpu(path: Path, num_threads: int) -> ort.InferenceSession:
    """A session on plain CPU in float32. Raises InvalidModel."""
    return _load(path, _options(num_threads), ["CPUExecutionProvider"])


def open_accelerated(
    path: Path, accelerator: Accelerator, num_threads: int
) -> tuple[ort.InferenceSession, str]:
    """A session on the accelerator and its name with its precision, for example `openvino-bf16`.

    Raises BackendUnavailable if it is not installed, has no device here, or would not run the model.
    """
    if not is_installed(accelerator):
        extra = "cpu" if accelerator == "openvino" else "gpu"
        raise BackendUnavailable(
            f"the provider {accelerator} is not installed: install stochcon[{extra}] or use --provider cpu"
        )
    if accelerator == "openvino":
        session, precision = _open_openvino(path, num_threads)
    else:
        session, precision = _open_cuda(path, num_threads)
    _check_placement(session, accelerator)
    return session, f"{accelerator}-{precision}"


def _open_openvino(path: Path, num_threads: int) -> tuple[ort.InferenceSession, str]:
    _register_openvino()
    devices = [
        device
        for device in ort.get_ep_devices()
        if device.ep_name == _EP_NAMES["openvino"] and device.ep_metadata.get("ov_device") == "CPU"
    ]
    if not devices:
        raise BackendUnavailable(
            "the OpenVINO plugin offers no CPU device here (its releases so far accept Intel processors "
            "only): use --provider cpu"
        )
    has_bf16 = "BF16" in devices[0].ep_metadata.get("OPTIMIZATION_CAPABILITIES", "").split()
    config = {
        "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 else "f32",
        "INFERENCE_NUM_THREADS": str(num_threads),
        "NUM_STREAMS": "1",
        # Pinned threads wait for their core while a decoder, or another process, is on it: on two busy
        # cores a batch took ten times as long.
        "ENABLE_CPU_PINNING": "NO",
    }
    options = _options(num_threads)
    options.add_provider_for_devices(devices[:1], {"load_config": json.dumps({"CPU": config})})
    return _load_or_unavailable(path, options, None, "openvino"), "bf16" if has_bf16 else "fp32"


def _open_cuda(path: Path, num_threads: int) -> tuple[ort.InferenceSession, str]:
    # An exhaustive search of convolution algorithms would run again for each new batch size. TF32 is
    # off so that codes agree with those of other machines.
    cuda = (_EP_NAMES["cuda"], {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"})
    session = _load_or_unavailable(path, _options(num_threads), [cuda, "CPUExecutionProvider"], "cuda")
    return session, "fp32"


@cache
def _register_openvino() -> None:
    """Load the plugin's library. ONNX Runtime keeps it for the whole process, hence the cache."""
    import onnxruntime_ep_openvino

    try:
        ort.register_execution_provider_library("openvino", onnxruntime_ep_openvino.get_library_path())
    except Exception as exc:  # onnxruntime's own unrelated types, and FileNotFoundError.
        raise BackendUnavailable(
            f"the OpenVINO plugin cannot be loaded ({exc}): install it again or use --provider cpu"
        ) from exc


def _options(num_threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # Errors only; what matters is checked and said by us.
    # Threads that spin between runs take the cores from those that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _load(path: Path, options: ort.SessionOptions, providers: list[object] | None) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as exc:  # onnxruntime raises its own unrelated types.
        raise InvalidModel(f"{path} cannot be loaded ({exc}): export or copy the model again") from exc


def _load_or_unavailable(
    path: Path, options: ort.SessionOptions, providers: list[object] | None, accelerator: Accelerator
) -> ort.InferenceSession:
    try:
        return _load(path, options, providers)
    except InvalidModel as exc:
        # Plain CPU has loaded this file before, so it is the provider that does not take it.
        raise BackendUnavailable(
            f"{accelerator} does not run this model ({exc.__cause__}): use --provider cpu"
        ) from exc


def _check_placement(session: ort.InferenceSession, accelerator: Accelerator) -> None:
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    placed = counts.get(_EP_NAMES[accelerator], 0)
    if placed < _MIN_PLACED * sum(counts.values()) or not placed:
        raise BackendUnavailable(
            f"{accelerator} took {placed} of the model's {sum(counts.values())} nodes, so the model would "
            "run on plain CPU: look at the driver's installation, or use --provider cpu"
        )

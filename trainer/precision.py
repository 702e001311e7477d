"""The precision of a run whose command leaves it open.

On a CPU without bf16 units bf16 takes tens of times as long as fp32, and nothing is gained.
"""

from pathlib import Path
from typing import Literal

import torch

from trainer.recipe import Precision

Wanted = Literal["auto", "bf16", "fp32"]
"""`auto` is what was meant, a recipe's precision, wherever the device has units for it."""


def decide(
    wanted: Wanted, usual: Precision, device: str, kept: Precision | None = None
) -> tuple[Precision, str]:
    """The precision to compute in, and a line to say where it is not the `usual` one without being asked for.

    `kept` is that of the run that goes on, which must not change on the way.
    """
    if wanted != "auto":
        return wanted, ""
    if kept is not None:
        return kept, "" if kept == usual else f"precision {kept}, in which this run began"
    if usual == "bf16" and not has_bf16(device):
        return "fp32", "precision fp32, since this device has no bf16 units; --precision bf16 insists"
    return usual, ""


def has_bf16(device: str) -> bool:
    """Whether a device multiplies bf16 numbers itself, rather than as float32 ones."""
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN's word alone says too much: it counts AVX-512 without units for bf16 in.
    return _processor_has_bf16() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _processor_has_bf16() -> bool:
    """By Linux's list of what the processor can do; elsewhere it is not known, and counts as no."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return False
    lines = cpuinfo.read_text().splitlines()
    able = {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}
    return not able.isdisjoint(("avx512_bf16", "amx_bf16", "bf16"))

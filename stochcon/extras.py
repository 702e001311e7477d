"""What has to be installed for what."""

from importlib.util import find_spec

_MODULES = {
    "cpu": ("onnxruntime", "faiss", "fastapi"),
    "trainer": ("torch", "onnx"),
    "plots": ("matplotlib",),
}
"""Modules that each extra brings; `gpu` brings those of `cpu` under the same names."""


class MissingExtra(Exception):
    """A part of StochCon that is not installed was asked for."""


def require(extra: str) -> None:
    """Raise MissingExtra, naming the command that mends it, unless `extra` is installed."""
    missing = [name for name in _MODULES[extra] if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"this needs {', '.join(missing)}, which is not installed: pip install 'stochcon[{extra}]'"
        )

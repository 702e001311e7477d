"""Weights that a training starts from, not random ones: another run's, an exported model's, or others'.

Files are read without unpickling code. What a file has for pi, rho and g is taken if it fits, and what it
has beside is left; a backbone has to fit whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainer import checkpoint as checkpoints
from trainer.fusion import norms_after
from trainer.model import Encoder

_NESTED = ("state_dict", "model", "model_state_dict")
"""Where files of others keep the weights, if not at the top."""

_PARTS = ("backbone", "projector", "decoder", "head")


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights in a file, by their names in a `StochCon`."""

    path: Path
    state: dict[str, Tensor]
    folded: bool
    """Whether BatchNorm is folded away in the file, so that its statistics have to be found anew."""

    @classmethod
    def read(cls, path: Path) -> "Weights":
        """Those of a run folder, an exported .onnx, a .safetensors or a .pt file.

        A file without names that begin with "backbone." is one of a backbone alone. Raises ValueError for
        one that cannot be read.
        """
        state, folded = _read(path)
        if not any(name.startswith("backbone.") for name in state):
            state = {f"backbone.{name}": tensor for name, tensor in state.items()}
        return cls(path, state, folded)

    @property
    def digest(self) -> str:
        """One for each set of weights, however they are kept."""
        return checkpoints.digest(self.state)


@dataclass(frozen=True, slots=True)
class Taken:
    """What was taken of a file."""

    parts: tuple[str, ...]
    """Names of the modules whose weights were all found."""
    left: tuple[str, ...]
    """Names, in the file, of weights that have no place or another shape here."""


def take_weights(model: Encoder, weights: Weights) -> Taken:
    """Put `weights` into `model`. Raises ValueError if its backbone is not that of the recipe."""
    state = dict(weights.state)
    ours = model.state_dict()
    if weights.folded:
        _stand_in(state, model)
    fits = {name for name in state if name in ours and state[name].shape == ours[name].shape}
    parts = []
    for part in _PARTS:
        needed = {n for n in ours if n.startswith(f"{part}.") and not n.endswith("num_batches_tracked")}
        if needed and needed <= fits:
            parts.append(part)
        elif part == "backbone":
            lack = _lack(needed, state, ours)
            raise ValueError(f"{weights.path} does not hold the backbone of {model.recipe.name}: {lack}")
    taken = {name: state[name] for name in fits if name.partition(".")[0] in parts}
    model.load_state_dict(taken, strict=False)
    left = tuple(name.removeprefix("backbone.") for name in state if name not in taken)
    return Taken(tuple(parts), left)


@torch.no_grad()
def refit_norms(model: Encoder, images: Iterable[Tensor]) -> None:
    """Give the BatchNorms of `model`, which `take_weights` made pass values on, statistics to train on with.

    Each gets the mean and variance of its inputs over `images`, [n, 3, H, W] in [0, 1] each, and the scale
    and shift that undo them: features in evaluation mode stay as they are, and training does not begin
    by overturning them.
    """
    model.eval()
    sums: dict[nn.Module, Tensor] = {_norm(model, name): torch.zeros(()) for _, name in norms_after(model)}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double().transpose(0, 1).flatten(1)
        count = torch.full_like(values[:, 0], values.shape[1])
        sums[norm] = sums[norm] + torch.stack([values.sum(1), values.square().sum(1), count])

    hooks = [norm.register_forward_pre_hook(note) for norm in sums]
    try:
        for batch in images:
            model.features(batch)
    finally:
        for hook in hooks:
            hook.remove()
    for norm, (total, squares, count) in sums.items():
        mean = total / count
        var = (squares / count - mean.square()).clamp(min=0)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(var)
        norm.weight.copy_((var + norm.eps).sqrt())
        norm.bias.add_(mean)


def _read(path: Path) -> tuple[dict[str, Tensor], bool]:
    """The weights in `path`, and whether BatchNorm is folded away in them."""
    if path.is_dir():
        saved = checkpoints.load(path)
        if saved is None:
            raise ValueError(f"{path} holds no {checkpoints.CHECKPOINT}: name a run, or a file of weights")
        return dict(saved.model), False
    if not path.exists():
        raise ValueError(f"{path} does not exist: name a run, or a file of weights")
    try:
        if path.suffix == ".onnx":
            return _read_onnx(path), True
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path), False
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # Each reader raises of its own kinds.
        raise ValueError(
            f"{path} cannot be read ({type(exc).__name__}): give a run folder, a model that `export` wrote, "
            "a .safetensors file or a state dict that torch saved"
        ) from exc
    return _weights_in(content, path), False


def _weights_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The names and tensors of a state dict, which may be nested and from several processes."""
    for name in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds {type(content).__name__}, not a state dict: save `model.state_dict()`"
        )
    found = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


def _read_onnx(path: Path) -> dict[str, Tensor]:
    """The weights of a file that `stochcon export` wrote, under the names they have in the model."""
    import onnx
    from onnx import numpy_helper

    found = {}
    for tensor in onnx.load(path).graph.initializer:
        name = tensor.name.removesuffix("_float16")
        # The pixels' mean and deviation are the recipe's.
        if name.startswith("model.") and name not in ("model.mean", "model.std"):
            values = torch.from_numpy(numpy_helper.to_array(tensor).copy())
            found[name.removeprefix("model.")] = values.float() if values.is_floating_point() else values
    return found


def _stand_in(state: dict[str, Tensor], model: Encoder) -> None:
    """Let BatchNorms that pass values on take the biases that folding gave their convolutions."""
    for conv, norm in norms_after(model):
        bias = state.pop(f"{conv}.bias", None)
        if bias is not None:
            state[f"{norm}.weight"] = torch.full_like(bias, (1 + _norm(model, norm).eps) ** 0.5)
            state[f"{norm}.bias"] = bias
            state[f"{norm}.running_mean"] = torch.zeros_like(bias)
            state[f"{norm}.running_var"] = torch.ones_like(bias)


def _norm(model: nn.Module, name: str) -> nn.BatchNorm2d:
    norm = model.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)
    return norm


def _lack(needed: set[str], state: dict[str, Tensor], ours: dict[str, Tensor]) -> str:
    """What of a backbone is missing in a file, or has another shape there: the first, and how many."""
    missing = sorted(needed - set(state))
    if missing:
        return f"{missing[0].removeprefix('backbone.')} is missing, and {len(missing) - 1} more"
    name = next(name for name in sorted(needed) if state[name].shape != ours[name].shape)
    there, here = tuple(state[name].shape), tuple(ours[name].shape)
    return f"{name.removeprefix('backbone.')} is {there} there and {here} here"

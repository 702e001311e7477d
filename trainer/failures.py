"""What a run leaves and says when something goes wrong in it."""

from collections.abc import Collection
from pathlib import Path

from torch import nn

from trainer import checkpoint as checkpoints


def check_finite(model: nn.Module, step: int, folder: Path, remedy: str) -> None:
    """Raise FloatingPointError rather than save weights that nothing can be learnt from any more."""
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise not_finite(f"{name} is not finite", step, folder, remedy)


def not_finite(what: str, step: int, folder: Path, remedy: str) -> FloatingPointError:
    """The error for a run that ends at `step`: what the last good checkpoint is, and what to try."""
    saved = checkpoints.load(folder)
    kept = (
        "nothing was saved before" if saved is None else f"{folder} keeps the checkpoint of step {saved.step}"
    )
    return FloatingPointError(
        f"{what} at step {step}, and {kept}: start again in another --out with {remedy}"
    )


def list_broken(folder: Path, broken: Collection[str]) -> None:
    """Keep the list of broken images, those that the run met before an interruption among them."""
    path = folder / "broken.txt"
    known = set(path.read_text().splitlines()) if path.exists() else set()
    if not known.issuperset(broken):
        path.write_text("\n".join(sorted(known.union(broken))) + "\n")

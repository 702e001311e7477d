"""The recipes there are, each with what it reproduces, what it costs and what to expect of it."""

import importlib
import pkgutil
from dataclasses import dataclass, replace
from pathlib import Path

from trainer.recipe import Recipe, View

BOTTLENECKS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Widths of Figure 2 left below 2048; 64 is also that of Figure 2 right, 512 that of Figure 4."""

GAUSSIAN_WIDTHS = (8, 64, 512)
"""Widths of Figure 3 below 2048, chosen here: the paper's are in the picture only."""


FIGURES_ON_CIFAR10 = {
    "bernoulli": "Figure 2 left, 2048 bits; Figure 4, soft top",
    "gaussian": "Figure 3, 2048 dimensions",
    "simclr": "Figure 5 left when fine-tuned (in the paper on ImageNet)",
}
"""What the rows of Table 1 are in the paper's figures, which are of CIFAR-10."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A recipe, and the words beside it."""

    recipe: Recipe
    family: str
    """What the names of all recipes for this network, data set and budget begin with."""
    reproduces: str
    """Table, figure or section of the paper."""
    command: str
    """What to type."""
    cost: str
    expected: str
    weights: Path | None = None
    """What a training starts from if it is not told; None for random weights."""


def entries() -> list[Entry]:
    """All of them, family by family."""
    import trainer.recipes

    modules = sorted(module.name for module in pkgutil.iter_modules(trainer.recipes.__path__))
    return [entry for name in modules for entry in importlib.import_module(f"trainer.recipes.{name}").ENTRIES]


def find_recipe(name: str) -> Recipe:
    """The recipe of that name. Raises ValueError, naming those that are closest."""
    return find_entry(name).recipe


def find_entry(name: str) -> Entry:
    """The entry of the recipe of that name. Raises ValueError, naming those that are closest."""
    found = {entry.recipe.name: entry for entry in entries()}
    if name not in found:
        import difflib

        close = difflib.get_close_matches(name, found, 3, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"there is no recipe {name}: {hint}`stochcon train --list` names them all")
    return found[name]


def systems(
    base: Recipe,
    supervised_view: View,
    *,
    command: str,
    cost: str,
    expected: dict[str, str],
    supervised_cost: str | None = None,
    otherwise: str = "not stated in the paper",
    figures: dict[str, str] | None = None,
    ablations: bool = True,
) -> tuple[Entry, ...]:
    """The paper's systems on one backbone, data set and budget.

    `base` is Bernoulli-StochCon, soft and `top`, with 2048 bits. `command` has {name} for the name of a
    recipe. `expected` is by the part of a name after the base's, and `otherwise` for parts that it lacks;
    `figures` is what rows of Table 1 reproduce besides, by the same part. Without `ablations`, only the rows
    of Table 1.
    """
    made: list[Entry] = []
    also = figures or (FIGURES_ON_CIFAR10 if ablations else {})

    def add(suffix: str, reproduces: str, recipe: Recipe) -> None:
        name = f"{base.name}-{suffix}"
        made.append(
            Entry(
                recipe=replace(recipe, name=name),
                family=base.name,
                reproduces="; ".join(filter(None, (reproduces, also.get(suffix)))),
                command=command.format(name=name),
                cost=(supervised_cost or cost) if recipe.objective == "supervised" else cost,
                expected=expected.get(suffix, otherwise),
            )
        )

    supervised = replace(
        base, objective="supervised", latent="none", global_views=(supervised_view,), local_views=()
    )
    add("bernoulli", "Table 1, StochCon Bern", base)
    add("gaussian", "Table 1, StochCon Iso-Gauss", replace(base, latent="gaussian"))
    add("simclr", "Table 1, SimCLR", replace(base, latent="none"))
    add("supervised", "Table 1, Supervised", supervised)
    if not ablations:
        return tuple(made)
    hard_top = replace(base, hard=True)
    soft_bottom = replace(base, placement="bottom")
    hard_bottom = replace(soft_bottom, hard=True)
    add("bernoulli-hard-top", "Figure 4, hard top (section 4.3)", hard_top)
    add("bernoulli-soft-bottom", "Figure 4, soft bottom (section 4.3)", soft_bottom)
    add("bernoulli-hard-bottom", "Figure 4, hard bottom (section 4.3)", hard_bottom)
    beyond = {64: "; Figure 2 right", 512: "; Figure 4, soft top 512"}
    for width in BOTTLENECKS:
        variant = replace(base, num_bits=width)
        add(f"bernoulli-{width}", f"Figure 2 left{beyond.get(width, '')}", variant)
    for width in GAUSSIAN_WIDTHS:
        variant = replace(base, latent="gaussian", num_bits=width)
        add(f"gaussian-{width}", f"Figure 3{'; Figure 2 right' if width == 64 else ''}", variant)
    for width in (64, base.num_bits):
        variant = replace(base, latent="gaussian", variance="own", num_bits=width)
        add(f"gaussian-own-{width}", "section 4.2, the collapse of the variance", variant)
    add(
        "supervised-bernoulli",
        "Figure 5 right (appendix A.2)",
        replace(supervised, latent="bernoulli", latent_dropout=0.5),
    )
    return tuple(made)

import pytest

from trainer.backbone import ResNet
from trainer.catalogue import entries, find_entry, find_recipe
from trainer.initial_weights import Weights, take_weights
from trainer.model import StochCon

FAMILIES = (
    "cifar10-resnet50",
    "imagenet-resnet50",
    "imagenet-resnet200",
    "cifar10-small",
    "tiny-imagenet-small",
)


def test_every_family_has_the_rows_of_table_1() -> None:
    for family in FAMILIES:
        bernoulli, gaussian, simclr, supervised = (
            find_recipe(f"{family}-{system}") for system in ("bernoulli", "gaussian", "simclr", "supervised")
        )
        assert (bernoulli.latent, bernoulli.num_bits, bernoulli.hard) == ("bernoulli", 2048, False)
        assert (gaussian.latent, gaussian.variance) == ("gaussian", "opposing")
        assert simclr.latent == "none"
        assert (supervised.objective, supervised.latent) == ("supervised", "none")
        # The same augmentation and budget for every contrastive system.
        same = (
            "global_views",
            "local_views",
            "epochs",
            "batch_size",
            "base_lr",
            "depth",
            "width",
            "temperature",
        )
        for other in (gaussian, simclr):
            assert all(getattr(other, name) == getattr(bernoulli, name) for name in same)


@pytest.mark.parametrize("family", ["cifar10-resnet50", "cifar10-small"])
def test_the_ablations_of_cifar10_are_all_there(family: str) -> None:
    found = {entry.recipe.name: entry.recipe for entry in entries()}
    for width in (8, 16, 32, 64, 128, 256, 512, 1024):
        assert found[f"{family}-bernoulli-{width}"].num_bits == width
    four = {"bernoulli": (False, "top"), "bernoulli-hard-top": (True, "top")}
    four |= {"bernoulli-soft-bottom": (False, "bottom"), "bernoulli-hard-bottom": (True, "bottom")}
    for name, (hard, placement) in four.items():
        assert (found[f"{family}-{name}"].hard, found[f"{family}-{name}"].placement) == (hard, placement)
    assert found[f"{family}-gaussian-own-2048"].variance == "own"
    assert found[f"{family}-supervised-bernoulli"].latent_dropout == 0.5


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_the_papers_settings_are_those_of_section_4(family: str) -> None:
    recipe = find_recipe(f"{family}-bernoulli")
    assert recipe.batch_size == 4096
    assert (len(recipe.global_views), len(recipe.local_views)) == (2, 8)
    assert (recipe.gumbel_start, recipe.gumbel_end) == (1.0, 0.1)
    assert ResNet(recipe.depth, recipe.stem, recipe.width).num_features == 2048


def test_names_are_unique_and_a_wrong_one_is_answered_with_the_closest() -> None:
    names = [entry.recipe.name for entry in entries()]
    assert len(set(names)) == len(names)
    with pytest.raises(ValueError, match=r"no recipe cifar10-smal-simclr: did you mean cifar10-small-simclr"):
        find_recipe("cifar10-smal-simclr")


def test_the_starter_goes_on_from_the_model_that_ships() -> None:
    entry = find_entry("starter")
    assert entry.weights is not None
    weights = Weights.read(entry.weights)
    taken = take_weights(StochCon(entry.recipe), weights)
    assert taken.parts == ("backbone", "projector")
    assert taken.left == ()

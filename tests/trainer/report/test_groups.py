from pathlib import Path
from typing import Any

import pytest

from tests.trainer.report.run_folders import small, write_run
from trainer.report.groups import LATENT, details, grouped, headline, identity, variant_of
from trainer.report.records import Run
from trainer.report.runs import read_run


@pytest.fixture
def make(tmp_path: Path):
    """A run of a small recipe with changes."""

    def made(system: str, images: str = "c1fa" * 16, **changes: Any) -> Run:
        folder = tmp_path / str(sum(1 for _ in tmp_path.iterdir()))
        return read_run(write_run(folder, small(system, **changes), images=images))

    return made


def test_seeds_belong_together_and_any_other_setting_parts(make) -> None:
    runs = [
        make("simclr", seed=0),
        make("simclr", seed=1),
        make("simclr", base_lr=0.3),
        make("simclr", "other"),
    ]
    groups = [[run.setup.seed for run in group] for _, group, _ in grouped(runs)]
    assert groups == [[0, 1], [0], [0]]


def test_a_run_from_before_there_was_a_setting_belongs_to_those_with_its_default(
    make, tmp_path: Path
) -> None:
    now = make("simclr", seed=1)
    recipe = small("simclr")
    del recipe["backbone"]
    for view in recipe["global_views"]:
        del view["edits"]
    before = read_run(write_run(tmp_path / "before", recipe, images=now.record.images))
    assert len(grouped([before, now])) == 1
    assert len(grouped([before, make("simclr", backbone="efficientnet-lite0")])) == 2


def test_settings_without_an_effect_do_not_part(make) -> None:
    for system, idle in (
        ("gaussian", {"hard": True, "gumbel_end": 0.5}),
        ("simclr", {"num_bits": 8, "placement": "bottom"}),
        ("bernoulli", {"variance": "own"}),
        ("supervised", {"temperature": 9.0, "head_width": 8}),
    ):
        assert identity(make(system)) == identity(make(system, **idle))
    assert identity(make("bernoulli")) != identity(make("bernoulli", hard=True))
    assert identity(make("gaussian")) != identity(make("gaussian", variance="own"))


def test_what_a_figure_varies_joins_and_the_fullest_group_comes_first(make) -> None:
    runs = [make("bernoulli", epochs=9), make("bernoulli-8"), make("bernoulli-64"), make("simclr")]
    (key, full, source), (second, alone, _) = grouped(runs, *LATENT)
    assert (key, second) == ("", "-2")
    assert [run.setup.num_bits for run in full] == [8, 64, 2048]
    assert [run.setup.epochs for run in alone] == [9]
    assert source.setting == (
        "CIFAR-10 (50,000 images) · ResNet-18, width 16, 32 px · 2 + 4 views · 15 epochs, batch 256"
    )
    assert source.runs == (
        "3 runs: cifar10-small-bernoulli-8 (seed 0), cifar10-small-bernoulli-64 (seed 0), "
        "cifar10-small-simclr (seed 0). AMD EPYC 9R45, 2 cores; 1 thread, 1 rank; 1.5 hours together."
    )


def test_groups_that_would_look_alike_say_what_tells_them_apart(make) -> None:
    (_, _, one), (_, _, other) = grouped([make("simclr"), make("simclr", temperature=0.5)])
    assert one.setting.endswith(" · temperature 0.2")
    assert other.setting.endswith(" · temperature 0.5")
    assert details([[make("bernoulli")], [make("bernoulli", base_lr=0.25)], [make("bernoulli-8")]]) == [
        "soft-top 2048, 15 epochs, base_lr 1.5",
        "soft-top 2048, 15 epochs, base_lr 0.25",
        "soft-top 8, 15 epochs",
    ]


def test_latents_are_named_as_the_paper_names_them(make) -> None:
    names = {
        "bernoulli": "soft-top 2048",
        "bernoulli-hard-bottom": "hard-bottom 2048",
        "gaussian-64": "64",
        "gaussian-own-64": "own variance 64",
        "simclr": "",
        "supervised-bernoulli": "soft 2048",
    }
    assert {system: variant_of(make(system).setup) for system in names} == names


def test_the_headline_is_the_longest_and_then_the_widest(make) -> None:
    runs = [make("bernoulli", epochs=4), make("bernoulli-64", epochs=9), make("bernoulli-512", epochs=9)]
    another_seed = make("bernoulli-512", epochs=9, seed=1)
    assert headline([*runs, another_seed]) == [runs[2], another_seed]
    assert headline([]) == []

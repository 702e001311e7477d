import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.tiny_images import make_png, write_parquet
from tests.trainer.killed_runs import kill_after, steps_done
from tests.trainer.labelled_images import NUM_BITS, Adam, augmented, make_network, pixels_of, write_labelled
from trainer import checkpoint as checkpoints
from trainer.checkpoint import Checkpoint
from trainer.classifier import Classifier
from trainer.finetune import finetune
from trainer.model import StochCon
from trainer.randomness import keys, uniform
from trainer.recipe import FineTuning, Recipe, View
from trainer.runs import Trained, load_run
from trainer.sources import Source, open_source

LABELS = [i % 3 if i % 5 else -1 for i in range(50)]
"""40 labelled images among others: two batches of 16 an epoch, and some left over."""

SETTINGS = FineTuning(on="z", weights="0" * 64, epochs=3, batch_size=16, precision="fp32", seed=5)


# A separate process, so that it can be killed; the run is the same as `finetune` would do here.
@pytest.fixture
def source(tmp_path: Path) -> Source:
    return open_source([write_labelled(tmp_path / "train.parquet", LABELS)])


@pytest.fixture
def held_out(tmp_path: Path) -> Source:
    return open_source([write_labelled(tmp_path / "test.parquet", [2, -1, 0, 1, 1], first_seed=500)])


def trained(recipe: Recipe, **changes: Any) -> Trained:
    recipe = dataclasses.replace(recipe, **changes)
    return Trained(recipe, make_network(recipe).eval(), [], None)


def write_run(folder: Path, run: Trained) -> Path:
    """The run as `train` would have left it."""
    folder.mkdir()
    state = run.model.state_dict()
    checkpoints.save(folder, Checkpoint(run.recipe, 1, state, {}, "0" * 64, run.classes))
    return folder


def read(network: StochCon, on: str, images: Tensor, u: Tensor | None) -> Tensor:
    """What a layer on `on` reads, by the words of A.3."""
    h = network.features(images)
    if on == "h":
        return h
    latents = network.projector(h)
    if network.recipe.latent == "gaussian":
        return latents[:, :NUM_BITS]
    if on == "z" and u is not None:
        return torch.sigmoid((latents + torch.log(u / (1 - u))) / 0.1)
    relaxed = torch.sigmoid(latents / 0.1)
    return relaxed if on == "z" else (latents >= 0) + relaxed - relaxed.detach()


@pytest.mark.parametrize(
    ("latent", "on"),
    [("bernoulli", "z"), ("bernoulli", "bits"), ("bernoulli", "h"), ("gaussian", "z"), ("none", "h")],
)
def test_fine_tuning_is_that_of_appendix_a3_step_by_step(
    recipe: Recipe, source: Source, held_out: Source, tmp_path: Path, latent: str, on: str
) -> None:
    """From the weights of the run, in plain torch: z is sampled in training, and nothing is at test."""
    run = trained(recipe, latent=latent)
    network = copy.deepcopy(run.model).train()
    torch.manual_seed(5)
    head = Classifier(run.recipe, on, 3).head
    projector = [] if latent == "none" else network.projector.parameters()
    adam = Adam([*network.backbone.parameters(), *projector, *head.parameters()])
    top1 = []
    for step in range(6):
        epoch, position = divmod(step, 2)
        order = [int(i) for i in source.epoch_order(5, epoch) if LABELS[i] >= 0]
        numbers = order[16 * position : 16 * position + 16]
        u = uniform(keys(5, step, torch.tensor(numbers), 0), NUM_BITS, stream=1)
        outputs = head(read(network, on, augmented(source, numbers, 5, step), u))
        F.cross_entropy(outputs, torch.tensor([LABELS[i] for i in numbers])).backward()
        adam.step(3e-4 if step < 0.8 * 6 else 3e-5)
        if position == 1:
            network.eval()
            with torch.no_grad():
                guessed = head(read(network, on, pixels_of(held_out, [0, 2, 3, 4]), None)).argmax(1)
            network.train()
            top1.append(float((guessed == torch.tensor([2, 0, 1, 1])).double().mean()))

    found = finetune(run, source, held_out, tmp_path / "out", dataclasses.replace(SETTINGS, on=on))
    kept = {name for name in network.state_dict() if name.startswith(("backbone.", "projector."))}
    assert set(found.state_dict()) == kept | {"head.weight", "head.bias"}  # neither g nor rho
    for name in kept:
        expected, start = network.state_dict()[name], run.model.state_dict()[name]
        torch.testing.assert_close(found.state_dict()[name], expected, atol=1e-5, rtol=1e-3, msg=name)
        if name.startswith("backbone.") or on != "h":
            assert not torch.equal(found.state_dict()[name], start), name
    torch.testing.assert_close(found.head.weight, head.weight, atol=1e-5, rtol=1e-3)
    results = json.loads((tmp_path / "out/finetune.json").read_text())
    assert results["top1"] == top1
    assert results["last"] == top1[-1]
    assert results["best"] == max(top1)
    assert results["sampled_at_test"] is False
    assert ("sampled" in results) == (latent == "bernoulli" and on == "z")


def finetune_files(run: Path, images: Path, queries: Path, out: Path, settings: FineTuning) -> None:
    finetune(
        load_run(run), open_source([images]), open_source([queries]), out, settings, checkpoint_every_s=0
    )


def lines(folder: Path) -> list[dict[str, float]]:
    """What was reported, without what depends on the clock."""
    reports = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = {"images_per_s", "data_wait"}
    return [{key: value for key, value in report.items() if key not in timed} for report in reports]


@pytest.mark.usefixtures("one_thread")
def test_a_killed_run_resumes_to_the_same_bits(
    recipe: Recipe, source: Source, held_out: Source, tmp_path: Path
) -> None:
    run = trained(recipe)
    settings = dataclasses.replace(SETTINGS, epochs=8)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finetune(run, source, held_out, whole, settings)

    paths = write_run(tmp_path / "run", run), tmp_path / "train.parquet", tmp_path / "test.parquet", killed
    kill_after(5, killed, finetune_files, *paths, settings)
    assert 5 <= steps_done(killed) < 16
    assert not (killed / "finetune.json").exists()  # which says that a run is done
    finetune(run, source, held_out, killed, settings)

    expected, found = checkpoints.load(whole), checkpoints.load(killed)
    assert expected.step == found.step == 16
    assert expected.scores == found.scores
    assert [len(values) for values in found.scores.values()] == [8, 8]
    for name, tensor in expected.model.items():
        assert torch.equal(tensor, found.model[name]), name
    for number, state in expected.optimizer["state"].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, found.optimizer["state"][number][name]), name
    assert lines(whole) == lines(killed)
    assert (whole / "finetune.json").read_bytes() == (killed / "finetune.json").read_bytes()


def test_labels_are_learnt_and_the_classifier_loads_as_a_run(
    recipe: Recipe, coloured: Path, held_out: Source, tmp_path: Path
) -> None:
    view = View(size=16, jitter=0, grey=0)
    run = trained(recipe, global_views=(view, view))
    settings = dataclasses.replace(SETTINGS, epochs=12, lr=3e-3)
    found = finetune(run, open_source([coloured]), held_out, tmp_path / "out", settings)
    results = json.loads((tmp_path / "out/finetune.json").read_text())
    assert results["last"] == 1.0
    assert results["sampled"]["last"] >= 0.75
    loaded = load_run(tmp_path / "out")
    assert loaded.classes == ["red", "green", "blue"]
    assert loaded.finetuning == settings
    images = pixels_of(held_out, [0, 2, 3, 4])
    with torch.no_grad():
        assert torch.equal(loaded.model(images), found(images))
        assert loaded.model(images).argmax(1).tolist() == [2, 0, 1, 1]
    reports = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    rates = {report["step"]: report["lr"] for report in reports if "lr" in report}
    assert rates == {10: 3e-3, 20: 3e-3, 30: 3e-4, 36: 3e-4}
    assert len([report for report in reports if "test_top1" in report]) == 12


def test_a_folder_with_another_run_is_refused(
    recipe: Recipe, source: Source, held_out: Source, tmp_path: Path
) -> None:
    run, out = trained(recipe), tmp_path / "out"
    settings = dataclasses.replace(SETTINGS, epochs=1)
    finetune(run, source, held_out, out, settings)
    others = open_source([write_labelled(tmp_path / "others.parquet", LABELS, first_seed=900)])
    for changed, images, queries, message in (
        ({"epochs": 2}, source, held_out, r"epochs is 1 there and 2 here.*choose another --out"),
        ({"on": "bits"}, source, held_out, r"on is z there and bits here"),
        ({"weights": "1" * 64}, source, held_out, "fine-tuned from other weights: name that run"),
        ({}, others, held_out, "on other images: name the same --images and --queries"),
        ({}, source, others, "on other images: name the same --images and --queries"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(run, images, queries, out, dataclasses.replace(settings, **changed))
    finetune(run, source, held_out, out, settings)  # which is done, and stays as it is
    contrastive = write_run(tmp_path / "run", run)
    with pytest.raises(ValueError, match="a run that is not one of fine-tuning: choose another --out"):
        finetune(run, source, held_out, contrastive, settings)
    with checkpoints.owned(out), pytest.raises(ValueError, match="another run is using"):
        finetune(run, source, held_out, out, settings)
    with pytest.raises(ValueError, match="fine-tuned already"):
        finetune(load_run(out), source, held_out, tmp_path / "twice", settings)


def test_what_the_network_lacks_cannot_be_read(
    recipe: Recipe, source: Source, held_out: Source, tmp_path: Path
) -> None:
    run = trained(recipe, latent="gaussian")
    with pytest.raises(ValueError, match="recipe test has no bits: give --on h or z"):
        finetune(run, source, held_out, tmp_path / "out", dataclasses.replace(SETTINGS, on="bits"))


def test_a_loss_that_is_not_finite_stops_the_run(
    recipe: Recipe, source: Source, held_out: Source, tmp_path: Path
) -> None:
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step \d+.*a lower --lr"):
        finetune(trained(recipe), source, held_out, tmp_path / "out", dataclasses.replace(SETTINGS, lr=1e30))
    assert steps_done(tmp_path / "out") == 0


def test_broken_images_are_listed_and_if_all_are_it_is_an_error(
    recipe: Recipe, source: Source, held_out: Source, tmp_path: Path
) -> None:
    images = [make_png(i % 3, i) for i in range(18)] + [b"text"] * 2
    some = open_source([write_parquet(tmp_path / "some.parquet", images, [i % 3 for i in range(20)])])
    settings = dataclasses.replace(SETTINGS, epochs=1, batch_size=20)
    finetune(trained(recipe), some, some, tmp_path / "out", settings)
    listed = (tmp_path / "out/broken.txt").read_text().splitlines()
    assert [text.partition(":")[0] for text in listed] == ["some.parquet, row 18", "some.parquet, row 19"]
    path = write_parquet(tmp_path / "all.parquet", [make_png(0, 0)] + [b"text"] * 40, [0] * 41)
    with pytest.raises(ValueError, match=r"no batch has two images.*all\.parquet, row \d+: "):
        finetune(trained(recipe), open_source([path]), held_out, tmp_path / "none", SETTINGS)
    assert steps_done(tmp_path / "none") == 0

import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny_images import make_png, write_parquet
from tests.trainer.killed_runs import kill_after, steps_done
from trainer import checkpoint as checkpoints
from trainer.dataset import epoch_order
from trainer.loss import info_nce
from trainer.metrics import MetricsWriter
from trainer.model import StochCon, ViewInput
from trainer.randomness import keys, uniform
from trainer.recipe import Recipe, View
from trainer.runs import load_run
from trainer.sources import open_source
from trainer.train import train
from trainer.views import make_view


def as_array(encoded: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(encoded)))


def run(recipe: Recipe, images: Path, folder: Path) -> None:
    train(recipe, open_source([images]), folder, checkpoint_every_s=0)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("precision", "num_steps", "kills"), [("bf16", 9, [5]), ("fp32", 18, [1, 11])])
def test_a_killed_run_resumes_to_the_same_bits(
    recipe: Recipe, coloured: Path, tmp_path: Path, precision: str, num_steps: int, kills: list[int]
) -> None:
    recipe = dataclasses.replace(recipe, precision=precision, local_views=(View(8),), epochs=num_steps // 3)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(recipe, coloured, whole)
    for steps in kills:
        kill_after(steps, killed, run, recipe, coloured, killed)
        assert steps <= steps_done(killed) < num_steps
    run(recipe, coloured, killed)

    expected, found = checkpoints.load(whole), checkpoints.load(killed)
    assert expected.step == found.step == num_steps
    for name, tensor in expected.model.items():
        assert torch.equal(tensor, found.model[name]), name
    for number, state in expected.optimizer["state"].items():
        assert torch.equal(state["momentum"], found.optimizer["state"][number]["momentum"])
    reports = [json.loads(line) for line in (killed / "metrics.jsonl").read_text().splitlines()]
    assert [report["step"] for report in reports] == [*range(10, num_steps, 10), num_steps]
    unbroken = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [report["loss"] for report in reports] == [report["loss"] for report in unbroken]


@pytest.mark.usefixtures("one_thread")
def test_a_run_is_algorithm_1_step_by_step(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    """The loop once more, with LARS written out and nothing of the loop's own code."""
    recipe = dataclasses.replace(recipe, epochs=2, gumbel_start=0.9, gumbel_end=0.3, weight_decay=0.1)
    source = open_source([coloured])
    torch.manual_seed(recipe.seed)
    model = StochCon(recipe).to(memory_format=torch.channels_last)
    momenta = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    pixels = torch.stack([torch.from_numpy(as_array(source.read(i))) for i in range(48)])
    for step in range(6):
        epoch, position = divmod(step, 3)
        numbers = torch.from_numpy(epoch_order(recipe.seed, epoch, 48))[position * 16 : position * 16 + 16]
        images = pixels[numbers].permute(0, 3, 1, 2).float() / 255
        views = []
        for number in (0, 1):
            key = keys(recipe.seed, step, numbers, number)
            order_key = keys(recipe.seed, step, torch.tensor([-1]), number)
            made = make_view(images, torch.ones(16), key, order_key, recipe.views[number])
            views.append(made.contiguous(memory_format=torch.channels_last))
        # Other numbers than the 16 that make the view: the noise is independent of the augmentation.
        noise = uniform(keys(recipe.seed, step, numbers, 1), recipe.num_bits, stream=1)
        temperature = 0.3 + 0.6 * (1 + math.cos(math.pi * step / 5)) / 2
        a, b = model([ViewInput(views[0]), ViewInput(views[1], noise)], temperature).vectors
        model.zero_grad()
        info_nce(a, b, recipe.temperature).backward()
        peak = recipe.base_lr * 16 / 256
        lr = peak * (step + 1) / 3 if step < 3 else peak * (1 + math.cos(math.pi * (step - 3) / 3)) / 2
        with torch.no_grad():
            for name, p in model.named_parameters():
                gradient, trust = p.grad, 1.0
                if p.ndim > 1:
                    gradient = gradient + 0.1 * p
                    trust = 0.001 * p.norm() / gradient.norm()
                momenta[name] = 0.9 * momenta[name] + lr * trust * gradient
                p -= momenta[name]
    for name, found in train(recipe, source, tmp_path / "run").state_dict().items():
        torch.testing.assert_close(found, model.state_dict()[name], atol=1e-5, rtol=1e-4, msg=name)


def test_training_teaches_the_bits_to_tell_images_apart(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    view = View(size=16, scale=(0.3, 1.0), jitter=0, grey=0)  # so that colours tell the classes apart
    recipe = dataclasses.replace(recipe, epochs=60, base_lr=8.0, global_views=(view, view))
    train(recipe, open_source([coloured]), tmp_path / "run")
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    # 2N - 1 alternatives: what a model that knows nothing gets.
    assert losses[-1] < torch.log(torch.tensor(31.0)).item() * 0.9
    assert losses[-1] < losses[0]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    source = open_source([coloured])
    weights = [
        train(dataclasses.replace(recipe, epochs=1, seed=seed), source, tmp_path / name).backbone.conv1.weight
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_broken_images_do_not_end_a_run_and_are_listed(recipe: Recipe, tmp_path: Path) -> None:
    images = [make_png(0, i) for i in range(14)] + [b"text"] * 18
    path = write_parquet(tmp_path / "broken.parquet", images)
    train(dataclasses.replace(recipe, epochs=2), open_source([path]), tmp_path / "run")
    assert len((tmp_path / "run/broken.txt").read_text().splitlines()) == 18
    assert steps_done(tmp_path / "run") == 4


def test_a_folder_with_another_recipes_run_is_refused(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    source = open_source([coloured])
    train(dataclasses.replace(recipe, epochs=1), source, tmp_path / "run")
    with pytest.raises(ValueError, match=r"epochs is 1 there and 2 here.*choose another --out"):
        train(dataclasses.replace(recipe, epochs=2), source, tmp_path / "run")


def test_a_run_that_can_read_no_image_is_an_error(recipe: Recipe, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "broken.parquet", [b"text"] * 32)
    with pytest.raises(ValueError, match=r"no batch has two images.*broken\.parquet, row \d+: "):
        train(dataclasses.replace(recipe, epochs=1), open_source([path]), tmp_path / "run")
    assert steps_done(tmp_path / "run") == 0


def test_a_run_on_other_images_is_refused(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(recipe, epochs=1)
    train(recipe, open_source([coloured]), tmp_path / "run")
    others = write_parquet(tmp_path / "others.parquet", [make_png(0, 100 + i) for i in range(48)])
    with pytest.raises(ValueError, match=r"a run on other images.*the same --images"):
        train(recipe, open_source([others]), tmp_path / "run")


def test_a_folder_that_another_run_is_using_is_refused(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    with checkpoints.owned(tmp_path / "run"), pytest.raises(ValueError, match="another run is using"):
        train(recipe, open_source([coloured]), tmp_path / "run")
    train(dataclasses.replace(recipe, epochs=1), open_source([coloured]), tmp_path / "run")


def test_weights_that_are_not_finite_are_never_saved(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    # The last step's loss is finite, since it is computed before the update that breaks the weights.
    explosive = dataclasses.replace(recipe, base_lr=float("inf"), epochs=1, warmup_epochs=0, batch_size=48)
    with pytest.raises(FloatingPointError, match="is not finite at step 1"):
        train(explosive, open_source([coloured]), tmp_path / "run")
    assert steps_done(tmp_path / "run") == 0


def test_broken_images_met_before_an_interruption_stay_listed(recipe: Recipe, tmp_path: Path) -> None:
    images = [make_png(0, i) for i in range(20)] + [b"text"] * 4
    source = open_source([write_parquet(tmp_path / "broken.parquet", images)])
    run = tmp_path / "run"
    run.mkdir()
    (run / "broken.txt").write_text("met before: damaged\n")
    train(dataclasses.replace(recipe, epochs=3), source, run)
    listed = (run / "broken.txt").read_text().splitlines()
    assert len(listed) == 5
    assert "met before: damaged" in listed


def test_too_few_images_name_the_flag(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--batch-size of at most 48"):
        train(dataclasses.replace(recipe, batch_size=64), open_source([coloured]), tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_the_run(recipe: Recipe, coloured: Path, tmp_path: Path) -> None:
    explosive = dataclasses.replace(recipe, base_lr=1e30, epochs=10)
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step \d+.*--base-lr"):
        train(explosive, open_source([coloured]), tmp_path / "run")


def test_a_checkpoint_loads_with_weights_only_and_a_torn_one_is_named(
    recipe: Recipe, coloured: Path, tmp_path: Path
) -> None:
    train(dataclasses.replace(recipe, epochs=1), open_source([coloured]), tmp_path)
    path = tmp_path / checkpoints.CHECKPOINT
    torch.load(path, weights_only=True)
    assert load_run(tmp_path).recipe.epochs == 1
    for damaged in (path.read_bytes()[:2000], b"", b"text\n", bytes(5000)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"last\.pt cannot be read.*remove it"):
            checkpoints.load(tmp_path)


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 99}, tmp_path / checkpoints.CHECKPOINT)
    with pytest.raises(ValueError, match="has format 99 and this version reads 2"):
        checkpoints.load(tmp_path)


def test_lines_past_the_checkpoint_and_torn_ones_are_dropped_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 10}\n{"step": 20}\n{"step": 30}\n{"st')
    with MetricsWriter(tmp_path, 100, start_step=20):
        pass
    assert path.read_text() == '{"step": 10}\n{"step": 20}\n'
    assert not list(tmp_path.glob("*.part"))

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from PIL import Image

from benchmarks.edits import COLLAGES, HARD
from benchmarks.quality import FALSE_POSITIVES, Method, Network, Photos, near_duplicates
from contracts.codes import pack_logits
from contracts.pixels import resize
from tests.image_files import photo
from tests.trainer.made_runs import make_run
from trainer.catalogue import find_recipe
from trainer.export import export


def open_photo(seed: int) -> Image.Image:
    return photo(120, 90, seed)


@pytest.mark.parametrize("name", HARD)
def test_an_edit_changes_the_picture_and_is_the_same_for_the_same_numbers(name: str) -> None:
    image, other = open_photo(1), open_photo(2)
    made = [HARD[name](image.copy(), np.random.default_rng(5), other) for _ in range(2)]
    assert made[0].tobytes() == made[1].tobytes()
    assert made[0].mode == "RGB"
    assert (made[0].size, made[0].tobytes()) != (image.size, image.tobytes())
    changed = HARD[name](image.copy(), np.random.default_rng(5), open_photo(3))
    assert (changed.tobytes() != made[0].tobytes()) == (name in COLLAGES)


def test_a_crop_has_its_share_of_the_area_and_is_a_part_of_the_picture() -> None:
    image = open_photo(1)
    cropped = HARD["crop 30 %"](image, np.random.default_rng(0), image)
    assert cropped.width * cropped.height == pytest.approx(0.3 * image.width * image.height, rel=0.02)
    whole, part = np.asarray(image), np.asarray(cropped)
    places = [
        (top, left)
        for top in range(whole.shape[0] - part.shape[0] + 1)
        for left in range(whole.shape[1] - part.shape[1] + 1)
        if (whole[top, left] == part[0, 0]).all()
    ]
    assert any(
        np.array_equal(whole[top : top + part.shape[0], left : left + part.shape[1]], part)
        for top, left in places
    )


def photos(num_photos: int, num_distractors: int) -> Photos:
    """Queries of every other photo for each edit, of which nothing is opened."""
    asked = np.arange(1, num_photos, 2)
    partners = np.roll(asked, -1)
    return Photos(
        gallery=[None] * (num_photos + num_distractors),
        num_photos=num_photos,
        queries=[None] * (len(HARD) * len(asked)),
        edits=np.repeat(np.arange(len(HARD)), len(asked)),
        answers=np.tile(asked, len(HARD)),
        partners=np.concatenate([np.where(name in COLLAGES, partners, -1) for name in HARD]),
    )


@pytest.mark.parametrize("kind", ["floats", "codes"])
def test_recall_and_true_positives_are_those_of_a_naive_count(kind: str) -> None:
    asked = photos(40, 30)
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(70, 16, generator=generator)
    queries = gallery[asked.answers] + torch.randn(len(asked.answers), 16, generator=generator)
    bits = [np.packbits((x >= 0).numpy(), axis=1) for x in (gallery, queries)]

    def distance(query: int, item: int) -> float:
        if kind == "codes":
            return int(np.bitwise_count(bits[1][query] ^ bits[0][item]).sum())
        return 1 - float(torch.cosine_similarity(queries[query].double(), gallery[item].double(), dim=0))

    method = Method("m", 2, *bits) if kind == "codes" else Method("m", 64, gallery, queries)
    hits, wrong, right = [], [], []
    for q, (answer, partner) in enumerate(zip(asked.answers, asked.partners, strict=True)):
        found = {g: distance(q, g) for g in range(70) if g != partner}
        nearest = [g for g in found if found[g] == min(found.values())]
        hits.append((answer in nearest) / len(nearest))
        wrong += [found[g] for g in range(40) if g in found and g != answer]
        right.append(found[answer])
    threshold = sorted(wrong)[int(FALSE_POSITIVES * len(wrong))]
    measured = near_duplicates(method, asked)
    assert measured["mean_recall_at_1"] == pytest.approx(np.mean(hits))
    assert measured["mean_tpr"] == pytest.approx(np.mean([r < threshold for r in right]))
    per_edit = [np.mean([h for h, e in zip(hits, asked.edits, strict=True) if e == 3])]
    assert measured["recall_at_1"][list(HARD)[3]] == pytest.approx(per_edit[0])


def test_a_run_and_the_file_exported_from_it_have_the_codes_that_the_file_computes(tmp_path: Path) -> None:
    recipe = find_recipe("cifar10-cpu")
    make_run(tmp_path / "run", recipe)
    export(tmp_path / "run", tmp_path / "model.onnx", name="model")
    pictures = [lambda seed=seed: open_photo(seed) for seed in range(3)]
    pixels = np.stack([resize(open_photo(seed), recipe.preprocessing) for seed in range(3)])
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    expected = np.unpackbits(session.run(["code"], {"image": pixels})[0])
    for path, most in (("run", 0.01), ("model.onnx", 0.0005)):  # the file's weights are rounded
        _, logits = Network.trained(tmp_path / path)(pictures)
        assert logits is not None
        assert (np.unpackbits(pack_logits(logits.numpy())) != expected).mean() <= most

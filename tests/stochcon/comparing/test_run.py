from pathlib import Path

import numpy as np
import pytest

from contracts.codes import hamming
from contracts.errors import InvalidInput, NotFound
from contracts.pixels import load_pixels
from service.models import ModelFolder
from service.settings import Settings
from stochcon.comparing import run
from stochcon.comparing.run import compare
from stochcon.sources.opening import open_source
from stochcon.sources.source import SourceOptions
from tests.image_files import encode, photo
from tests.tiny_model import make_manifest, reference_logits


@pytest.fixture
def compared(model_folder, labelled_photos):
    """Compare two models of the folder, by name."""

    def call(a: str, b: str, folder: Path = labelled_photos, labels: str = "folders", k: int = 5, **options):
        models = ModelFolder(model_folder)
        failures = []
        found, curves = compare(
            (models.select(a), models.select(b)),
            Settings(models=model_folder, provider="cpu", threads=2),
            [open_source(folder, SourceOptions(labels=labels))],
            k=k,
            on_progress=lambda *_: None,
            on_failure=failures.append,
            **options,
        )
        assert len(failures) == found.images.failed
        return found, curves

    return call


def test_a_model_agrees_with_itself_and_nothing_can_be_told(compared):
    found, (a, b) = compared("good", "good")
    assert found.agreement.overlap == 1
    assert [score.paired.p for score in [*found.tested, *found.edits]] == [1.0] * 12
    assert [score.a for score in found.tested] == [score.b for score in found.tested]
    assert (a.nearest == b.nearest).all()
    assert found.verdict == "A and B are the same network."


@pytest.mark.parametrize("broken_first", [False, True])
def test_a_model_that_gives_every_image_one_code_loses(compared, broken_first):
    found, _ = compared(*(("broken", "good") if broken_first else ("good", "broken")))
    good, broken = (found.b, found.a) if broken_first else (found.a, found.b)
    assert good.constant_bits < broken.constant_bits == 64
    assert good.sharing_a_code < broken.sharing_a_code == 30
    assert good.separation > 0.95
    assert broken.separation == 0.5
    assert broken.entropy_bits.mean == pytest.approx(64)
    scores = {s.name: (s.b, s.a) if broken_first else (s.a, s.b) for s in found.tested}
    for name in ("5-NN", "mAP", "recall@1", "near-duplicates"):
        right, wrong = scores[name]
        assert wrong.high < right.low
    assert found.verdict.startswith(f"{'B' if broken_first else 'A'} (good) is better at 5-NN (p = ")
    assert "near-duplicates" in found.verdict


def test_one_code_for_all_finds_an_original_as_often_as_chance(compared):
    found, _ = compared("good", "broken")
    assert found.near_duplicates.b.value == pytest.approx(1 / 30)


def test_models_of_other_sizes_compare(compared):
    found, (a, b) = compared("good", "wide")
    assert (found.a.num_bits, found.b.num_bits) == (64, 256)
    assert (found.a.bytes_per_image, found.b.bytes_per_image) == (8, 32)
    assert (len(a.activity), len(b.activity)) == (64, 256)
    assert found.agreement.chance == pytest.approx(5 / 29)
    assert found.agreement.chance < found.agreement.overlap < 1


def test_numbers_are_those_of_codes_made_by_hand(compared, labelled_photos):
    found, (curves, _) = compared("good", "other")
    files = sorted(labelled_photos.rglob("*.png"))
    pixels = np.stack([load_pixels(file.read_bytes(), make_manifest().preprocessing) for file in files])
    logits = reference_logits(pixels).astype(np.float64)
    codes = np.packbits(logits >= 0, axis=1)
    p = 1 / (1 + np.exp(-logits))
    entropies = -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum(axis=1)
    apart = hamming(codes, codes) + 1000 * np.eye(30, dtype=np.int64)
    # The service resizes a little differently, and a bit near its threshold may fall the other way.
    assert found.a.entropy_bits.mean == pytest.approx(entropies.mean(), rel=0.02)
    assert found.a.active_bits.mean == pytest.approx((logits >= 0).sum(axis=1).mean(), abs=0.5)
    assert curves.nearest.mean() * 64 == pytest.approx(apart.min(axis=1).mean(), abs=0.7)
    assert found.a.random_distance.mean * 64 == pytest.approx(
        hamming(codes, codes).sum() / (30 * 29), abs=0.7
    )
    recall = np.mean(
        [file.parent == files[near].parent for file, near in zip(files, apart.argmin(1), strict=True)]
    )
    assert found.labelled[2].a.value == pytest.approx(recall, abs=0.07)


def test_everything_but_the_speed_is_the_same_again(compared):
    first, again = compared("good", "other")[0], compared("good", "other")[0]
    assert first.tested == again.tested
    assert first.edits == again.edits
    assert first.agreement == again.agreement
    assert first.a.images_per_s.median > 0


def test_without_labels_only_near_duplicates_are_tested(compared):
    found, _ = compared("good", "broken", labels="none")
    assert found.labelled == []
    assert [score.name for score in found.tested] == ["near-duplicates"]
    assert found.images.labelled == 0
    assert found.verdict.startswith("A (good) is better at near-duplicates (p = ")


def test_a_label_of_one_image_is_no_question(compared, labelled_photos, tmp_path):
    for file in labelled_photos.rglob("*.png"):
        target = tmp_path / "photos" / file.relative_to(labelled_photos)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    (tmp_path / "photos" / "alone").mkdir()
    (tmp_path / "photos" / "alone" / "a.png").write_bytes(encode(photo(seed=50)))
    (tmp_path / "photos" / "without.png").write_bytes(encode(photo(seed=51)))
    found, _ = compared("good", "other", tmp_path / "photos")
    assert (found.images.used, found.images.labelled) == (32, 31)
    assert {score.num_queries for score in found.labelled} == {30}


def test_one_label_of_many_images_is_too_few(compared, labelled_photos):
    found, _ = compared("good", "other", labelled_photos / "kind0", labels="folders")
    assert found.labelled == []


def test_only_so_many_images_are_asked_about_and_edited(compared, monkeypatch):
    monkeypatch.setattr(run, "NUM_QUERIES", 9)
    monkeypatch.setattr(run, "NUM_EDITED", 4)
    found, (curves, _) = compared("good", "other")
    assert len(curves.nearest) == 9
    assert {score.num_queries for score in found.labelled} == {9}
    assert {score.num_queries for score in [found.near_duplicates, *found.edits]} == {4}
    assert found.agreement.num_queries == 9


def test_a_limit_takes_so_many(compared):
    assert compared("good", "other", limit=11)[0].images.used == 11


def test_images_that_fail_or_are_copies_are_counted_and_left_out(compared, tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode(photo(seed=number)))
    (tmp_path / "copy.png").write_bytes(encode(photo(seed=0)))
    (tmp_path / "broken.png").write_text("no image")
    found, _ = compared("good", "other", tmp_path)
    assert (found.images.used, found.images.failed, found.images.copies) == (4, 1, 1)
    assert found.agreement.k == 3


def test_two_images_are_enough(compared, tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(encode(photo(seed=number)))
    found, _ = compared("good", "other", tmp_path)
    assert found.agreement.overlap == 1
    assert found.near_duplicates.num_queries == 2


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({}, NotFound, "no images"),
        ({"a.png": encode(photo(8, 8))}, InvalidInput, "1 images can be used"),
        ({"a.png": encode(photo(8, 8)), "b.png": encode(photo(8, 8))}, InvalidInput, "1 are copies"),
        ({"a.png": b"bad", "b.png": b"worse"}, InvalidInput, "2 failed"),
    ],
    ids=["none", "one", "one twice", "only bad ones"],
)
def test_too_few_images_are_an_error_that_says_so(compared, tmp_path, files, error, words):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=words):
        compared("good", "other", tmp_path)

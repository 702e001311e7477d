"""`stochcon models compare` from the command line to what it prints and writes."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from stochcon.cli import run
from stochcon.comparing.edits import EDITS
from tests.image_files import encode, photo


@pytest.fixture(autouse=True)
def _here(tmp_path, model_folder, monkeypatch):
    for name in ("URL", "DATA", "API_KEY", "MODEL"):
        monkeypatch.delenv(f"STOCHCON_{name}", raising=False)
    monkeypatch.setenv("STOCHCON_MODELS", str(model_folder))
    monkeypatch.setenv("STOCHCON_PROVIDER", "cpu")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def compare(capsys, labelled_photos):
    """Run the verb on the labelled photos, unless others are named."""

    def call(*arguments: object):
        words = [str(argument) for argument in arguments]
        if "--images" not in words:
            words += ["--images", str(labelled_photos)]
        code = run(["models", "compare", *words])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return call


def table(lines: list[str]) -> dict[str, list[str]]:
    return {name: cells for name, *cells in (line.split("\t") for line in lines if "\t" in line)}


def test_a_table_and_a_verdict_are_printed(compare):
    code, out, err = compare("good", "broken", "--labels", "folders", "-k", 3)
    assert (code, err) == (0, [])
    found = table(out)
    assert found["images used"][:2] == ["30", "30"]
    assert found["bits that never change"][1] == "64"
    assert found["images that share a code"][:2] == ["4", "30"]
    assert found["same 3 nearest"][0].endswith("(chance 10.3 %)")
    assert [name for name in found if name.startswith("  ")] == [f"  {name}" for name in EDITS]
    a, b, difference, better, p = found["3-NN"]
    assert float(a.split()[0]) > float(b.split()[0])
    assert float(difference.split()[0]) == pytest.approx(float(b.split()[0]) - float(a.split()[0]), abs=0.11)
    assert int(better.split(" / ")[0]) > int(better.split(" / ")[1])
    assert float(p) < 0.01
    assert out[-1].startswith("A (good) is better at 3-NN (p = ")


def test_json_is_one_document(compare):
    code, out, err = compare("good", "wide", "--labels", "folders", "--json")
    assert (code, len(out), err) == (0, 1, [])
    found = json.loads(out[0])
    assert found["images"] == {"used": 30, "failed": 0, "copies": 0, "labelled": 30}
    assert (found["a"]["name"], found["b"]["num_bits"]) == ("good", 256)
    assert [score["name"] for score in found["labelled"]] == ["20-NN", "mAP", "recall@1", "recall@10"]
    assert set(found["labelled"][0]["paired"]) == {"difference", "num_a_better", "num_b_better", "p"}
    assert found["near_duplicates"]["num_queries"] == 30


def test_without_labels_the_user_is_told_what_is_missing(compare):
    code, out, err = compare("good", "other")
    assert (code, len(err)) == (0, 1)
    assert "--labels folders" in err[0]
    assert "20-NN" not in table(out)


def test_models_are_named_by_name_id_or_file(compare, model_folder, capsys):
    assert run(["models", "list", "--json"]) == 0
    ids = {line["name"]: line["id"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    for wanted in ("other", ids["other"], ids["other"][:12], model_folder / "other.onnx"):
        code, out, _ = compare("good", wanted)
        assert (code, table(out)["model"][1]) == (0, ids["other"][:12])


def test_models_of_files_need_no_folder(compare, model_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("STOCHCON_MODELS", str(tmp_path / "nowhere"))
    assert compare(model_folder / "good.onnx", model_folder / "other.onnx")[0] == 0


def test_several_sources_are_one_set(compare, labelled_photos):
    both = ["--images", labelled_photos / "kind0", "--images", labelled_photos / "kind1" / "0.png"]
    code, out, _ = compare("good", "other", *both)
    assert (code, table(out)["images used"][0]) == (0, "11")


def test_an_image_that_fails_is_named_and_does_not_end_it(compare, tmp_path, labelled_photos):
    shutil.copytree(labelled_photos, tmp_path / "photos")
    (tmp_path / "photos" / "bad.png").write_text("no image")
    code, out, err = compare("good", "other", "--images", "photos", "--labels", "folders", "--limit", 100)
    assert (code, len(err)) == (0, 1)
    assert err[0].startswith("bad.png: ")
    assert table(out)["images that failed"][0] == "1"


def test_pictures_a_page_and_the_numbers_are_written(compare, tmp_path):
    code, out, err = compare("good", "broken", "--labels", "folders", "--out", "out/here", "--json")
    assert (code, len(err)) == (0, 1)
    folder = tmp_path / "out" / "here"
    assert str(folder.relative_to(tmp_path) / "comparison.html") in err[0]
    pictures = {path.stem: np.asarray(Image.open(path).convert("L")) for path in folder.glob("*.png")}
    assert set(pictures) == {"scores", "distances", "entropy", "activity"}
    for picture in pictures.values():
        assert 0.02 < (picture < 250).mean() < 0.7
    assert json.loads((folder / "comparison.json").read_text()) == json.loads(out[0])
    page = (folder / "comparison.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "is better at 20-NN" in page
    assert "http" not in page


def test_pictures_without_matplotlib_are_refused_before_any_work(compare, monkeypatch):
    modules = {"cpu": (), "plots": ("no_such_matplotlib",)}
    monkeypatch.setattr("stochcon.extras._MODULES", modules)
    code, out, err = compare("good", "other", "--out", "out")
    assert (code, out, len(err)) == (2, [], 1)
    assert "pip install 'stochcon[plots]'" in err[0]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["good"], 2, "Missing argument 'B'"),
        (["good", "nobody"], 1, "no model 'nobody'"),
        (["good", "floats"], 1, "floats.onnx"),
        (["missing.onnx", "good"], 1, "cannot read the model missing.onnx"),
        (["good", ""], 1, "begin with ''"),
        (["good", "other", "--images", "missing"], 2, "missing does not exist"),
        (["good", "other", "--images", "."], 1, "there are no images"),
        (["good", "other", "--images", "one.png"], 1, "1 images can be used"),
        (["good", "other", "--limit", "1"], 2, "--limit"),
        (["good", "other", "-k", "0"], 2, "-k"),
    ],
)
def test_wrong_use_is_one_line(compare, tmp_path, arguments, code, words):
    if "one.png" in arguments:
        (tmp_path / "one.png").write_bytes(encode(photo()))
    found, out, err = compare(*arguments)
    assert (found, out, len(err)) == (code, [], 1)
    assert words in err[0]


def test_images_have_to_be_named(capsys):
    assert run(["models", "compare", "good", "other"]) == 2
    assert "--images" in capsys.readouterr().err

"""Every block of bash and Python in the README, run in order against a service of its own."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.image_files import jpeg

ROOT = Path(__file__).resolve().parent.parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


@pytest.fixture
def reader(stochcon, tmp_path):
    """Someone with photos, at the place where the README has them."""
    for i, name in enumerate(["cat.jpg", "my holiday.jpg", "trip.jpg", "dogs/rex.jpg", "cats/tom.jpg"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed=i))
    return stochcon


def run(reader, url: str, *command: str) -> str:
    """Run a command whose text is the README's, but for the address and the place of `stochcon`."""
    command = [
        part.replace("http://127.0.0.1:8000", url).replace(
            ".venv/bin/stochcon", f"{sys.executable} -m stochcon"
        )
        for part in command
    ]
    done = subprocess.run(
        command, cwd=reader.folder, env=reader.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_examples_work_one_after_the_other(reader, serve):
    url = serve().url
    printed = [run(reader, url, "bash", "-euo", "pipefail", "-c", block) for block in blocks("bash")]
    encode, add, search, bad, command_line = printed
    assert json.loads(encode)["results"][0]["code"]
    added = [answer["ids"][0] for answer in map(json.loads, add.replace("}{", "}\n{").splitlines())]
    assert added == ["photos/cat.jpg", "photos/my holiday.jpg", "photos/trip.jpg"]
    by_image, by_id = map(json.loads, search.replace("}{", "}\n{").splitlines())
    assert by_image["hits"] == by_id["hits"]
    assert (by_image["hits"][0]["id"], by_image["hits"][0]["distance"]) == ("photos/cat.jpg", 0)
    assert json.loads(bad)["type"] == "urn:stochcon:invalid-image"
    assert command_line.startswith("2 added, 3 updated, 0 unchanged, 0 deleted, 0 failed\n")
    assert command_line.count("\tphotos/cat.jpg\t") == 1
    (block,) = blocks("python")
    hits = run(reader, url, sys.executable, "-c", block).splitlines()
    assert hits == ["0 my cat cat"]


def test_the_command_line_works_without_the_service_too(reader):
    (block,) = [block for block in blocks("bash") if "stochcon index" in block]
    printed = run(reader, "", "bash", "-euo", "pipefail", "-c", block)
    assert "0\tphotos/cat.jpg\t" in printed


@pytest.mark.parametrize("model", sorted((ROOT / "models").glob("*.onnx")), ids=lambda path: path.name)
def test_the_models_that_ship_encode_photos(reader, model):
    reader.environment["STOCHCON_MODELS"] = str(model.parent)
    reader.environment["STOCHCON_MODEL"] = str(model)
    codes = [json.loads(line)["code"] for line in reader("encode", "photos")]
    assert len(set(codes)) == 5

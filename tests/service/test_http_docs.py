"""docs/http.md says what is so."""

import re
import shlex
from pathlib import Path
from typing import Any

import httpx2
import pytest

from contracts import structure
from contracts.errors import InvalidImage, TooLarge
from contracts.manifest import Preprocessing
from contracts.pixels import ImageLimits, load_pixels
from service.problems import STATUS
from service.settings import Settings
from tests import image_files
from tests.costly_images import COSTLY, SLOW_BMP
from tests.image_files import jpeg, png
from tests.server_process import ServerProcess

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "http.md").read_text()
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.strip().splitlines()
]


def run(client: httpx2.Client, command: str, folder: Path) -> httpx2.Response:
    """Do what the curl command would."""
    words = iter(shlex.split(command)[1:])
    method, url, headers, parts, body = "GET", "", {}, [], None
    for word in words:
        if word == "-N":
            continue
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-F":
            name, _, value = next(words).partition("=")
            file = folder / value.removeprefix("@") if value.startswith("@") else None
            part: Any = (file.name, file.read_bytes()) if file else (None, value.encode())
            parts.append((name, part))
        elif word in ("-d", "--data-binary"):
            value = next(words)
            body = (folder / value[1:]).read_bytes() if value.startswith("@") else value.encode()
        elif word == "-o":
            next(words)
        else:
            assert word.startswith("http://127.0.0.1:8000/"), word
            url = word.removeprefix("http://127.0.0.1:8000")
    if method == "GET" and (parts or body):
        method = "POST"
    return client.request(method, url, headers=headers, files=parts or None, content=body)


def test_every_command_works_in_order(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(jpeg(1))
    (tmp_path / "dog.jpg").write_bytes(jpeg(2))
    assert len(COMMANDS) > 15
    images = tmp_path / "images"
    (images / "2024").mkdir(parents=True)
    (images / "2024" / "cat.jpg").write_bytes(jpeg(1))
    job_id = ""
    with (
        ServerProcess(tmp_path / "data", model_folder, roots=images, keep_originals=True) as server,
        server.client() as client,
    ):
        for command in COMMANDS:
            written = command.replace("/images/", f"{images}/").replace("/ID", f"/{job_id}")
            response = run(client, written, tmp_path)
            assert response.status_code in (200, 202, 204), f"{command}\n{response.text}"
            if response.status_code == 202:
                job_id = response.json()["id"]
        assert client.get("/items").json()["items"][0]["metadata"] == {"year": 2024}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"| `STOCHCON_{name.upper()}` |" in TEXT


def test_no_setting_is_documented_that_there_is_not() -> None:
    documented = set(re.findall(r"\| `STOCHCON_(\w+)` \|", TEXT))
    assert documented == {name.upper() for name in Settings.model_fields}


def test_every_call_is_documented(client: httpx2.Client) -> None:
    for path in client.get("/openapi.json").json()["paths"]:
        assert re.search(rf"{path.partition('{')[0].rstrip('/')}\b", TEXT), path


def test_every_problem_is_documented_with_its_status() -> None:
    unanswered = ("error", "invalid-model", "store-locked")  # Met before the service answers, if at all.
    for kind, status in STATUS.items():
        if kind.slug not in unanswered:
            assert re.search(rf"\| {status} \|[^|]*`{kind.slug}`", TEXT), kind.slug


def test_every_metric_is_documented(client: httpx2.Client) -> None:
    names = set(re.findall(r"# TYPE (stochcon_\w+) ", client.get("/metrics").text))
    for name in names:
        assert f"`{name.removesuffix('_created')}`" in TEXT or name.endswith("_created"), name


def refusals() -> list[str]:
    """How each kind of bad image is refused, and two that are over the limit of bytes."""
    files = image_files.INVALID | image_files.TOO_LARGE | COSTLY | SLOW_BMP
    messages = []
    for data, limits in [
        *((data, ImageLimits()) for data in files.values()),
        (png(), ImageLimits(max_bytes=9)),
    ]:
        with pytest.raises((InvalidImage, TooLarge)) as info:
            load_pixels(data, Preprocessing(height=32, width=32), limits)
        messages.append(
            f"{STATUS[TooLarge] if info.type is TooLarge else 422} `{info.value.slug}` | {info.value}"
        )
    return messages


def test_every_refusal_of_an_image_is_quoted_as_it_is_worded() -> None:
    section = TEXT.partition("## Images")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\| .+? \| (4\d\d `[a-z-]+` \| .+) \|$", section, re.MULTILINE)
    assert len(quoted) == 8
    messages = refusals()
    for row in quoted:
        pattern = re.compile(".+".join(re.escape(part) for part in row.split("…")))
        assert [one for one in messages if pattern.fullmatch(one)], row


def test_the_limits_of_structure_are_those_that_hold() -> None:
    section = TEXT.partition("## Images")[2].partition("\n## ")[0]
    assert f"{structure.MAX_SCANS} scans" in section
    assert f"{structure.MAX_EXIF_SEGMENTS} segments of EXIF" in section
    assert f"{structure.MAX_FILLER_BYTES >> 10} KiB of bytes between segments" in section
    assert f"{structure.MAX_PARTS:,} segments, chunks or blocks" in section
    assert f"{structure.MAX_STRIPS:,} strips" in section
    assert (
        f"{structure.MAX_RUN_LENGTH_PIXELS // 10**6} megapixels or {structure.MAX_RUN_LENGTH_BYTES >> 20} MiB"
        in section
    )

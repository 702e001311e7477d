import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stochcon
from contracts.errors import (
    BackendUnavailable,
    InvalidImage,
    InvalidItem,
    InvalidQuery,
    ModelMismatch,
    NotFound,
    TooLarge,
    Unauthorized,
)
from contracts.manifest import Preprocessing
from contracts.pixels import load_pixels
from stochcon import Client
from stochcon.client import MAX_IMAGES
from stochcon.results import Encoding, NewItem
from tests.image_files import encode, huge_png_header, jpeg, photo, png
from tests.server_process import ServerProcess
from tests.tiny_model import reference_logits

PREPROCESSING = Preprocessing(height=32, width=32)


def expected_code(data: bytes) -> bytes:
    """What the tiny model makes of an image, worked out in numpy."""
    logits = reference_logits(load_pixels(data, PREPROCESSING)[None])
    return np.packbits(logits[0] >= 0).tobytes()


def test_encode_gives_the_models_code(client):
    encoding = client.encode(png(3))
    assert encoding.code == expected_code(png(3))
    assert encoding.active_bits == int.from_bytes(encoding.code).bit_count()
    assert 0 < encoding.entropy_bits < 64
    assert (encoding.model.name, encoding.model.num_bits) == ("tiny", 64)


def test_an_image_may_be_bytes_a_path_or_a_pil_image(client, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(png(1))
    pil = Image.open(io.BytesIO(png(1)))
    codes = [client.encode(image).code for image in (png(1), path, str(path), pil)]
    assert codes == [expected_code(png(1))] * 4


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "YCbCr"])
def test_a_pil_image_of_any_mode_is_encoded(client, mode):
    image = photo().convert(mode)
    assert client.encode(image).code == client.encode(encode(image, "TIFF") if mode == "CMYK" else image).code


def test_encode_many_splits_what_is_more_than_a_request_and_keeps_the_order(client):
    images = [png(seed, 8, 8) for seed in range(MAX_IMAGES + 3)]
    images[5] = b"broken"
    results = client.encode_many(iter(images))
    assert isinstance(results[5], InvalidImage)
    for i in (0, 4, 6, MAX_IMAGES - 1, MAX_IMAGES, MAX_IMAGES + 2):
        assert isinstance(results[i], Encoding)
        assert results[i].code == expected_code(images[i])


def test_encode_many_keeps_each_request_within_its_bytes(tmp_path, models, monkeypatch):
    monkeypatch.setattr("stochcon.client.MAX_REQUEST_BYTES", 20_000)
    images = [jpeg(seed) for seed in range(9)]
    assert sum(map(len, images)) > 30_000
    server = ServerProcess(tmp_path / "data", models, max_body_bytes=22_000)
    with Client(server.url) as client:
        assert [result.code for result in client.encode_many(images)] == [
            client.encode(image).code for image in images
        ]
    server.stop()


@pytest.mark.parametrize(("image", "error"), [(b"broken", InvalidImage), (huge_png_header(), TooLarge)])
def test_a_bad_image_raises_alone_and_stands_in_its_place_in_a_list(client, image, error):
    with pytest.raises(error):
        client.encode(image)
    assert isinstance(client.encode_many([image])[0], error)
    assert client.encode_many([]) == []


def test_items_are_added_got_listed_replaced_and_deleted(client):
    ids = client.add(
        [
            NewItem(
                id="a", image=png(1), label="cat", metadata={"year": 2024, "tags": ["x"]}, uri="file:///a"
            ),
            NewItem(image=png(2)),
        ]
    )
    assert ids[0] == "a"
    assert len(ids[1]) == 36
    item = client.get("a")
    assert (item.id, item.code, item.label) == ("a", expected_code(png(1)), "cat")
    assert (item.metadata, item.uri) == ({"year": 2024, "tags": ["x"]}, "file:///a")
    assert {item.id for item in client.list_items()} == set(ids)
    client.put(NewItem(id="a", code=bytes(8), label="dog"))
    assert (client.get("a").code, client.get("a").label, client.get("a").metadata) == (bytes(8), "dog", {})
    client.put(NewItem(id="a", image=png(3)))
    assert client.get("a").code == expected_code(png(3))
    client.delete("a")
    with pytest.raises(NotFound):
        client.get("a")
    with pytest.raises(NotFound):
        client.delete("a")


@pytest.mark.parametrize("id", ["a/b c.jpg", "../x", "..", ".", "%2F", "é ü", "?q#f", "a//b", "+&=;", "a/"])
def test_ids_are_percent_encoded_in_paths(client, id):
    client.add([NewItem(id=id, code=b"12345678"), NewItem(id="other", code=bytes(8))])
    assert client.get(id).id == id
    client.put(NewItem(id=id, code=b"87654321"))
    assert client.get(id).code == b"87654321"
    client.delete(id)
    assert [item.id for item in client.list_items()] == ["other"]


def test_listing_pages_through_a_collection(client):
    client.add([NewItem(id=f"{i:03d}", code=bytes(8)) for i in range(25)], "pages")
    after, found = None, []
    while page := client.list_items("pages", after, limit=10):
        found += [item.id for item in page]
        after = page[-1].id
    assert found == [f"{i:03d}" for i in range(25)]


def test_search_by_image_code_and_id_agree(client):
    client.add([NewItem(id=str(i), image=png(i), label="odd" if i % 2 else "even") for i in range(10)])
    code = expected_code(png(4))
    answers = [client.search(png(4), k=3), client.search(code=code, k=3), client.search(id="4", k=3)]
    assert answers[0] == answers[1] == answers[2]
    hits = answers[0].hits
    assert (hits[0].id, hits[0].distance) == ("4", 0)
    nearest = sorted(
        (int.from_bytes(code) ^ int.from_bytes(expected_code(png(i)))).bit_count() for i in range(10)
    )
    assert [hit.distance for hit in hits] == nearest[:3]
    assert answers[0].exact
    assert not answers[0].truncated
    assert answers[0].certified is None


def test_filter_radius_and_rescore_are_passed_on(client):
    client.add([NewItem(id=str(i), image=png(i), label="odd" if i % 2 else "even") for i in range(10)])
    odd = {"label": "odd"}
    for answer in (client.search(png(4), filter=odd), client.search(id="4", filter=odd)):
        assert {hit.id for hit in answer.hits} == {"1", "3", "5", "7", "9"}
    assert [hit.id for hit in client.search(png(4), radius=0).hits] == ["4"]
    rescored = client.search(png(4), k=3, rescore=True)
    assert isinstance(rescored.certified, bool)
    with pytest.raises(InvalidQuery):
        client.search(id="4", rescore=True)


def test_classify_votes_by_labelled_neighbours(client):
    client.add([NewItem(id=str(i), image=png(i), label="odd" if i % 2 else "even") for i in range(10)])
    client.add([NewItem(id="unlabelled", image=png(4))])
    answer = client.classify(png(4), k=1)
    assert [(entry.label, entry.score) for entry in answer.labels] == [("even", 1.0)]
    assert answer.method == "knn"
    assert [hit.id for hit in answer.hits] == ["4"]
    assert sum(entry.score for entry in client.classify(id="3", k=10).labels) == pytest.approx(1)


def test_collections_are_made_shown_and_deleted(client):
    assert client.collection("default").num_items == 0
    made = client.create_collection("mine")
    assert (made.name, made.num_items, made.model.name) == ("mine", 0, "tiny")
    client.add([NewItem(id="a", code=bytes(8), label="x")], "mine")
    assert [info.name for info in client.collections()] == ["mine"]
    info = client.collection("mine")
    assert (info.num_items, info.num_labelled) == (1, 1)
    assert info.disk_bytes > 0
    client.delete_collection("mine")
    with pytest.raises(NotFound):
        client.collection("mine")


def test_models_and_readiness_name_the_active_model(client):
    (info,) = client.models()
    assert info.active
    assert client.model(info.id) == info
    assert (info.name, info.num_bits, info.manifest["latent"]) == ("tiny", 64, "bernoulli")
    ready = client.ready()
    assert ready["model"]["id"] == info.id
    assert ready["provider"].startswith("cpu")
    with pytest.raises(NotFound):
        client.model("0" * 64)


def test_problems_become_the_services_own_exceptions(client, server):
    with pytest.raises(InvalidItem):
        client.add([NewItem(id="", code=bytes(8))])
    with pytest.raises(InvalidItem):
        client.add([NewItem(id="a", code=b"short")])
    with pytest.raises(ModelMismatch):
        client.add([NewItem(id="a", code=bytes(8))], model="0" * 64)
    with pytest.raises(InvalidQuery):
        client.search(id="a", k=0)
    with pytest.raises(InvalidImage, match="image 1"):
        client.add([NewItem(image=png(1)), NewItem(image=b"broken")])
    assert client.list_items() == []
    with Client(server.url, "wrong") as stranger, pytest.raises(Unauthorized):
        stranger.collections()


def test_what_is_no_query_and_no_item_is_refused_before_anything_is_sent(client):
    with pytest.raises(ValueError, match="exactly one"):
        client.search()
    with pytest.raises(ValueError, match="exactly one"):
        client.search(png(1), id="a")
    with pytest.raises(ValueError, match="either"):
        client.add([NewItem(id="a")])
    with pytest.raises(ValueError, match="all have"):
        client.add([NewItem(image=png(1)), NewItem(code=bytes(8))])
    with pytest.raises(ValueError, match="id"):
        client.put(NewItem(code=bytes(8)))


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host", "", "http://[:::"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError, match="URL"):
        Client(url)


def test_a_service_that_is_not_there_is_unavailable():
    with Client("http://127.0.0.1:9") as client, pytest.raises(BackendUnavailable, match="stochcon serve"):
        client.ready()


def test_the_package_does_not_import_the_http_library_before_the_client_is_asked_for():
    code = (
        "import stochcon, sys; assert 'httpx2' not in sys.modules; "
        "stochcon.Client; assert 'httpx2' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent.parent)
    with pytest.raises(AttributeError, match="Klient"):
        _ = stochcon.Klient

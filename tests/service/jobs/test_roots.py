from pathlib import Path

import pytest

from contracts.errors import InvalidInput
from service.jobs.roots import Roots


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A root, beside a folder whose name begins like its own."""
    for name in ("data/photos/a.jpg", "database/b.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
    return tmp_path.resolve() / "data"


def test_what_lies_below_a_root_is_admitted_and_so_is_the_root(data):
    roots = Roots([str(data)])
    for path in (data, data / "photos", data / "photos" / "a.jpg"):
        assert roots.admit(str(path)) == str(path)
        assert roots.holds(path)


@pytest.mark.parametrize(
    "outside",
    ["{}base", "{}base/b.jpg", "{}/../database/b.jpg", "{}/photos/../../database", "/", "/etc/passwd"],
)
def test_what_lies_elsewhere_is_refused(data, outside):
    roots = Roots([str(data)])
    path = outside.format(data)
    with pytest.raises(InvalidInput, match="does not lie below a configured root: see --root"):
        roots.admit(path)
    assert not roots.holds(Path(path))


def test_dots_and_links_count_as_where_they_lead(data):
    (data / "inwards").symlink_to(data / "photos")
    (data / "outwards").symlink_to(data.parent / "database")
    (data / "nowhere").symlink_to(data.parent / "missing")
    (data.parent / "entrance").symlink_to(data / "photos")
    roots = Roots([str(data)])
    photos = str(data / "photos")
    assert roots.admit(f"{data}/inwards") == photos
    assert roots.admit(f"{data}/photos/../photos/.") == photos
    assert roots.admit(str(data.parent / "entrance")) == photos
    for path in ("outwards", "outwards/b.jpg", "nowhere", "inwards/../../database"):
        with pytest.raises(InvalidInput, match="does not lie below"):
            roots.admit(f"{data}/{path}")
        assert not roots.holds(data / path)


def test_what_is_not_there_yet_is_admitted_by_where_it_would_be(data):
    roots = Roots([str(data)])
    assert roots.admit(f"{data}/new/a.jpg") == f"{data}/new/a.jpg"
    (data / "loop").symlink_to(data / "loop")
    assert roots.admit(f"{data}/loop") == f"{data}/loop"


def test_a_root_may_be_a_link_itself(data):
    (data.parent / "mount").symlink_to(data)
    roots = Roots([str(data.parent / "mount")])
    assert roots.admit(f"{data.parent}/mount/photos") == str(data / "photos")


def test_a_relative_path_is_refused_even_if_it_leads_below_a_root(data, monkeypatch):
    monkeypatch.chdir(data)
    with pytest.raises(
        InvalidInput, match="'photos' is not an absolute path: name the source as the service"
    ):
        Roots([str(data)]).admit("photos")


def test_without_roots_nothing_is_admitted_and_the_remedy_is_told(data):
    for source in (str(data), "s3://photos"):
        with pytest.raises(InvalidInput, match="no root is configured; start the service with --root FOLDER"):
            Roots([]).admit(source)


def test_a_path_with_a_nul_is_refused(data):
    with pytest.raises(InvalidInput, match="is no path"):
        Roots([str(data)]).admit(f"{data}/a\0.jpg")


@pytest.mark.parametrize(
    ("root", "inside"),
    [
        ("s3://photos", "s3://photos"),
        ("s3://photos", "s3://photos/"),
        ("s3://photos/", "s3://photos/2024/a b#?.jpg"),
        ("s3://photos/2024", "s3://photos/2024"),
        ("s3://photos/2024/", "s3://photos/2024/x/"),
        ("S3://photos/2024", "s3://photos/2024/...jpg"),
        ("memory:///photos", "memory:///photos/x"),
    ],
)
def test_urls_below_a_root_are_admitted_as_they_are(root, inside):
    assert Roots([root]).admit(inside) == inside
    assert Roots(["s3://other", root]).admit(inside.replace("s3:", "S3:")) == inside


@pytest.mark.parametrize(
    "outside",
    ["s3://photos2", "s3://photos/20245", "s3://photos", "s3://photos/2023", "gs://photos/2024", "/photos"],
)
def test_urls_elsewhere_are_refused(outside):
    with pytest.raises(InvalidInput, match="does not lie below a configured root"):
        Roots(["s3://photos/2024"]).admit(outside)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///",
        "s3://photos/2024/../2023",
        "s3://photos/2024/./a.jpg",
        "s3://photos/2024//a.jpg",
        "s3://photos/2024/%2e%2e/2023",
        "s3://photos/2024/%2E%2E%2f2023",
        "s3://photos/2024/a::s3://secret",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
    ],
)
def test_urls_that_could_mean_something_else_are_refused(url):
    with pytest.raises(InvalidInput, match=r"is no source: name a bucket|is a file here"):
        Roots(["s3://photos/2024"]).admit(url)
    with pytest.raises(ValueError, match="the root "):
        Roots([url])


def test_a_root_that_is_no_folder_is_told(data):
    for root in (str(data / "missing"), str(data / "photos" / "a.jpg"), ""):
        with pytest.raises(ValueError, match=f"the root {root} is not a folder"):
            Roots([root])

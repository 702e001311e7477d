import os

import pytest

from stochcon.sources.folder import FolderSource
from stochcon.sources.opening import open_source
from stochcon.sources.parquet import ParquetSource
from stochcon.sources.path_list import PathListSource
from stochcon.sources.source import Failure, SourceUnavailable, read_image, walk
from stochcon.sources.tar import TarSource
from stochcon.sources.zip import ZipSource
from tests.tiny_images import write_parquet, write_tar


def test_the_name_says_what_kind_of_source_it_is(tmp_path):
    tar = write_tar(tmp_path / "a.tar", [("a.jpg", b"x")]).read_bytes()
    parquet = write_parquet(tmp_path / "a.parquet", [b"x"]).read_bytes()
    kinds = {
        "b.TAR": (TarSource, tar),
        "b.tar.gz": (TarSource, tar),  # Whether it is compressed is seen from its content.
        "b.tgz": (TarSource, tar),
        "b.zip": (ZipSource, b"PK\x05\x06" + bytes(18)),
        "b.PQ": (ParquetSource, parquet),
        "b.txt": (PathListSource, b"a.jpg"),
        "b.jpg": (FolderSource, b""),
        "tar": (FolderSource, b""),
    }
    for name, (kind, content) in kinds.items():
        (tmp_path / name).write_bytes(content)
        assert type(open_source(tmp_path / name)) is kind
        assert type(open_source(str(tmp_path / name))) is kind


def test_a_folder_is_a_folder_whatever_its_name(tmp_path):
    (tmp_path / "a.tar").mkdir()
    (tmp_path / "a.tar" / "b.jpg").write_bytes(b"x")
    assert [image.id for image in walk(open_source(tmp_path / "a.tar"))] == ["b.jpg"]


def test_any_other_file_is_an_image_whatever_its_name(tmp_path):
    (tmp_path / "scan").write_bytes(b"x")
    (image,) = walk(open_source(tmp_path / "scan"))
    assert (image.id, read_image(image)) == ("scan", b"x")


def test_an_image_whose_name_is_not_utf8_is_a_failure(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    path.write_bytes(b"x")
    (failure,) = walk(open_source(path))
    assert failure.id.isascii()
    assert "UTF-8" in failure.reason


def test_what_is_not_there_is_told_with_what_could_be(tmp_path):
    with pytest.raises(SourceUnavailable, match=r"nothing does not exist: name a folder, an image, a \.tar"):
        open_source(tmp_path / "nothing")


def test_a_pipe_is_not_opened_whatever_its_name(tmp_path):
    for name in ("a.tar", "a.txt", "a.jpg", "a.parquet"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(SourceUnavailable, match="no regular file"):
            open_source(tmp_path / name)


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 300, "loop.jpg"])
def test_a_path_that_cannot_be_looked_at_is_told(tmp_path, name):
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        open_source(f"{tmp_path}/{name}")


def test_a_single_image_is_read_only_where_files_may_be_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (entry,) = walk(open_source(tmp_path / "a.jpg", admits=lambda _: False))
    assert isinstance(entry, Failure)

"""Which kind of source a path or URL is."""

import stat
from pathlib import Path

from stochcon.sources.folder import Admits, FolderSource, anywhere
from stochcon.sources.object_store import ObjectStoreSource
from stochcon.sources.parquet import ParquetSource
from stochcon.sources.path_list import PathListSource
from stochcon.sources.source import Source, SourceOptions, SourceUnavailable
from stochcon.sources.tar import TarSource
from stochcon.sources.zip import ZipSource

KINDS = "a folder, an image, a .tar, a .zip, a .parquet, a .txt of paths, or a URL such as s3://bucket/prefix"

TAR_SUFFIXES = (
    ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst",
)  # fmt: skip
PARQUET_SUFFIXES = (".parquet", ".pq")
ZIP_SUFFIX = ".zip"
LIST_SUFFIX = ".txt"


def open_source(
    path: str | Path, options: SourceOptions = SourceOptions(), admits: Admits = anywhere
) -> Source:
    """The source at a path or URL, of the kind that its name says; any other file is an image.

    `admits` says of files that links or lists lead to whether they may be read. Raises SourceUnavailable if
    there is no such source, and BackendUnavailable if an object store does not answer.
    """
    if "://" in str(path):
        return _open_url(str(path), options)
    path = Path(path)
    name = path.name.lower()
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as exc:
        raise SourceUnavailable(f"{path} does not exist: name {KINDS}") from exc
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the path.
        raise SourceUnavailable(f"{path} cannot be read: {getattr(exc, 'strerror', exc)}") from exc
    if stat.S_ISDIR(mode):
        return FolderSource(path, options, admits)
    if not stat.S_ISREG(mode):
        raise SourceUnavailable(f"{path} is no regular file: name {KINDS}")
    if name.endswith(TAR_SUFFIXES):
        return TarSource(path, options)
    if name.endswith(ZIP_SUFFIX):
        return ZipSource(path, options)
    if name.endswith(PARQUET_SUFFIXES):
        return ParquetSource(path, options)
    if name.endswith(LIST_SUFFIX):
        return PathListSource(path, options, admits)
    return FolderSource(path.parent, options, admits, only=path.name)


def _open_url(url: str, options: SourceOptions) -> Source:
    if url.lower().endswith((*TAR_SUFFIXES, *PARQUET_SUFFIXES, ZIP_SUFFIX, LIST_SUFFIX)):
        raise SourceUnavailable(
            f"{url} is not an image: of object stores only images are read, so copy the file to a disk"
        )
    if url.lower().startswith("file:"):
        raise SourceUnavailable(f"{url} is a file here: name it by its path")
    return ObjectStoreSource(url, options)

"""Where images come from: folders, Parquet files, WebDataset shards.

A source hands out encoded bytes by number; decoding, and what to do with broken images, is the
dataset's business (`trainer.dataset`).
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer.sources.concat import ConcatSource
from trainer.sources.folder import FolderSource, image_paths
from trainer.sources.source import Source, fingerprint
from trainer.sources.tar import TarSource

__all__ = ["Source", "fingerprint", "open_source"]

_SHARDS = (".tar", ".parquet")

_COMPRESSED_TAR = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")


def open_source(paths: Sequence[Path]) -> Source:
    """The images of all `paths`: folders, `.parquet` files and `.tar` shards. Raises ValueError.

    A folder without images of its own stands for the shards in it. Neighbouring shards of a kind are one
    source, so that a set cut into many is shuffled, and held in memory, as one.
    """
    if not paths:
        raise ValueError("no images given: name a folder, a .parquet file or a .tar shard with --images")
    sources: list[Source] = []
    named = ((kind, file) for path in paths for kind, file in _files(path))
    for kind, group in itertools.groupby(named, key=lambda pair: pair[0]):
        files = [file for _, file in group]
        if kind == ".tar":
            sources.append(TarSource(files))
        elif kind == ".parquet":
            from trainer.sources.parquet import ParquetSource  # pyarrow takes its time to import

            sources.append(ParquetSource(files))
        else:
            sources.extend(FolderSource(folder) for folder in files)
    return sources[0] if len(sources) == 1 else ConcatSource(sources)


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """What a path stands for: itself, or the shards in it, each with its kind; "" is a folder of images."""
    if path.is_dir():
        shards = sorted(file for file in path.iterdir() if file.suffix in _SHARDS and file.is_file())
        if not shards or next(image_paths(path), None) is not None:
            yield "", path
        elif len({shard.suffix for shard in shards}) > 1:
            raise ValueError(f"{path} holds .tar as well as .parquet shards: name those to use one by one")
        else:
            yield from ((shard.suffix, shard) for shard in shards)
    elif path.name.endswith(_COMPRESSED_TAR):
        raise ValueError(
            f"{path} is compressed, and images are read at their place in the file: unpack it to a plain .tar"
        )
    elif path.suffix in _SHARDS and path.is_file():
        yield path.suffix, path
    elif not path.exists():
        raise ValueError(f"{path} does not exist: --images takes a folder, a .parquet file or a .tar shard")
    else:
        raise ValueError(f"{path} is neither a folder nor a .parquet or .tar file")

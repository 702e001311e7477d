"""The keys of an object store, in the order of their bytes, a part of them in memory at a time."""

import os
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any

from stochcon.sources.source import SourceUnavailable

Facts = dict[str, Any]
"""What `fsspec` says of an object or a folder: `name`, `type`, `size` and more."""


def folder_keys(list_folder: Callable[[str], list[Facts]], root: str, after: str) -> Iterator[str]:
    """Keys below `root`, relative to it, that sort after `after`. One folder is listed at a time."""
    yield from _folder_keys(list_folder, root, "", os.fsencode(after))


def _folder_keys(
    list_folder: Callable[[str], list[Facts]], root: str, inside: str, start: bytes
) -> Iterator[str]:
    """The same of the folder `inside`, which is empty or ends with a slash."""
    folder = f"{root}/{inside}"
    keys = []
    for facts in list_folder(folder.rstrip("/")):
        name = str(facts["name"])
        # Some stores list the folder itself, and web servers what is elsewhere.
        if name.startswith(folder) and name.rstrip("/") != folder.rstrip("/"):
            # With its slash a folder sorts where what is below it does.
            key = name[len(root) + 1 :].rstrip("/") + ("/" if facts["type"] == "directory" else "")
            keys.append((os.fsencode(key), key))
    for encoded, key in sorted(keys, key=itemgetter(0)):
        if key.endswith("/"):
            if encoded > start or start.startswith(encoded):
                yield from _folder_keys(list_folder, root, key, start)
        elif encoded > start:
            yield key


def s3_keys(files: Any, root: str, after: str) -> Iterator[str]:
    """Keys below `root` of an `s3fs.S3FileSystem`, relative to it, that sort after `after`.

    S3 lists keys in this order by itself, from any key on, so that not even a folder of 10⁹ images takes
    memory. Raises SourceUnavailable for a bucket that does not.
    """
    bucket, _, prefix = root.partition("/")
    prefix = f"{prefix}/" if prefix else ""
    last = prefix + after
    while True:
        page = files.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, StartAfter=last, **files.req_kw)
        for facts in page.get("Contents", ()):
            key: str = facts["Key"]
            if key.encode() <= last.encode():
                raise SourceUnavailable(
                    f"the bucket {bucket} does not list its keys in order, as S3's directory buckets do not: "
                    "copy the images into one for general use"
                )
            last = key
            yield key[len(prefix) :]
        if not page.get("IsTruncated"):
            return

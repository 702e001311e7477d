"""Images in an object store, such as S3: whatever `fsspec` has a file system for.

Credentials and endpoints are those of the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, ...).
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from threading import Lock
from typing import Any

from contracts.errors import BackendUnavailable
from index.protocol import Metadata
from stochcon.sources.keys import Facts, folder_keys, s3_keys
from stochcon.sources.source import (
    MAX_IMAGE_BYTES,
    Failure,
    Found,
    Place,
    SourceImage,
    SourceOptions,
    SourceUnavailable,
    found,
    looks_like_image,
)

REQUESTS_AT_ONCE = 8
"""Objects that are asked for their size and version at the same time."""

ASKED_AHEAD = 4 * REQUESTS_AT_ONCE
"""Objects that are asked before the first of them is handed out."""

_S3 = ("s3://", "s3a://")
_CREDENTIALS = "credentials come from the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


class ObjectStoreSource:
    """Images below a prefix, in the order of their keys' bytes. A place is the key relative to the prefix.

    An id is that key. Keys with a hidden part and those that do not look like images by name are left out.
    A URL that names an object is a source of that one, whatever its name; with a slash at its end it is a
    prefix in any case. An image has changed when its size or its ETag has, or its time where a store has
    no ETags; of a store without times a change of the size alone is noticed. A `uri` is the URL as `fsspec`
    and the stores' own tools take it: not percent-encoded.
    """

    version = ""

    def __init__(self, url: str, options: SourceOptions) -> None:
        """Raises SourceUnavailable if there is nothing or it may not be read.

        Raises BackendUnavailable if the store does not answer.
        """
        self._url = url
        self._options = options
        self._files, root = _open_files(url)
        self._is_s3 = url.startswith(_S3)
        # Those that are made of coroutines may be called by many threads; of others that is not known.
        is_shared = getattr(self._files, "async_impl", False)
        self._turn: AbstractContextManager[Any] = nullcontext() if is_shared else Lock()
        self._root = root.rstrip("/")
        self._base = url.rstrip("/") + "/"
        self._only = ""
        if self._is_s3 and not self._root:
            raise SourceUnavailable(f"{url} names no bucket: give a URL such as s3://bucket/prefix")
        if self._kind() == "file" and not url.endswith("/"):
            self._root, _, self._only = self._root.rpartition("/")
            self._base = url[: -len(self._only)]

    @property
    def uri_prefix(self) -> str:
        return self._base

    def count(self) -> int:
        return sum(1 for _ in self.scan())

    def scan(self, after: Place | None = None) -> Iterator[Found | Failure]:
        if self._only:
            if after is None:
                yield found(self._only, self._only, self._options)
            return
        last = "" if after is None else str(after)
        try:
            if self._is_s3:
                keys = s3_keys(self._files, self._root, last)
            else:
                keys = folder_keys(self._list, self._root, last)
            for key in keys:
                if looks_like_image(key) and self._options.admits(key):
                    yield found(key, key, self._options)
        except SourceUnavailable:
            raise
        except Exception as exc:
            raise self._translated(exc) from exc

    def images(self, places: Iterable[Place]) -> Iterator[SourceImage | Failure]:
        keys = (str(place) for place in places)
        with ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="describe") as pool:
            while chunk := list(islice(keys, ASKED_AHEAD)):
                for image in pool.map(self._describe, chunk):
                    if isinstance(image, Failure):
                        self._kind()  # A store that went away is not so many missing images.
                    yield image

    def _list(self, folder: str) -> list[Facts]:
        with self._turn:
            return list(self._files.ls(folder, detail=True))

    def _kind(self) -> str:
        """`file` or `directory`. Raises SourceUnavailable or BackendUnavailable if it cannot be told."""
        try:
            with self._turn:
                return str(self._files.info(self._root)["type"])
        except Exception as exc:
            raise self._translated(exc) from exc

    def _describe(self, key: str) -> SourceImage | Failure:
        id, label = self._options.prefix + key, self._options.label_of(key)
        path = f"{self._root}/{key}"
        try:
            with self._turn:
                facts = self._files.info(path)
                version = self._version(path, facts)
        except Exception as exc:  # noqa: BLE001 - every file system raises what its own library does.
            return Failure(id, f"the object cannot be read: {_reason(exc)}", key)
        if facts["type"] != "file":
            return Failure(id, "not an object", key)
        size = facts["size"]  # None from a web server that does not say.

        def read() -> bytes:
            return b"" if size == 0 else self._read(path)

        return SourceImage(id, key, self._base + key, size or 0, version, label, read)

    def _version(self, path: str, facts: Facts) -> Metadata:
        etag = facts.get("ETag") or facts.get("etag")
        if etag:
            return {"file_bytes": facts["size"], "file_etag": str(etag).strip('"')}
        try:
            modified = self._files.modified(path)
        except NotImplementedError:
            return {"file_bytes": facts["size"]}
        return {"file_bytes": facts["size"], "file_mtime_s": modified.timestamp()}

    def _read(self, path: str) -> bytes:
        """Raises OSError."""
        try:
            with self._turn:
                # With an end, s3fs does not ask for the size again, and what has grown does no harm.
                data: bytes = self._files.cat_file(path, start=0, end=MAX_IMAGE_BYTES + 1)
        except Exception as exc:
            raise OSError(_reason(exc)) from exc
        if len(data) > MAX_IMAGE_BYTES:
            raise OSError(f"the object has more than {MAX_IMAGE_BYTES} bytes")
        return data

    def _translated(self, exc: Exception) -> SourceUnavailable | BackendUnavailable:
        """What the failure of a request means. Every file system raises what its own library does."""
        if isinstance(exc, FileNotFoundError):
            return SourceUnavailable(f"there is nothing at {self._url}: check the bucket and the prefix")
        if isinstance(exc, PermissionError):
            return SourceUnavailable(f"{self._url} may not be read: {_reason(exc)}; {_CREDENTIALS}")
        if isinstance(exc, (ValueError, *(_s3_mistakes() if self._is_s3 else ()))):
            return SourceUnavailable(f"{self._url} cannot be read: {_reason(exc)}; {_CREDENTIALS}")
        return BackendUnavailable(f"the store of {self._url} does not answer: {_reason(exc)}")


def _open_files(url: str) -> tuple[Any, str]:
    """The file system of a URL, an `fsspec.AbstractFileSystem`, and the path in it."""
    if "::" in url:  # fsspec would open the parts inside each other, wherever they lie.
        raise SourceUnavailable(f"{url} is more than one URL: name one, without `::`")
    try:
        from fsspec.core import url_to_fs  # type: ignore[import-untyped]

        # A new one each time, with the credentials that hold now.
        files, path = url_to_fs(url, skip_instance_cache=True)
    except ImportError as exc:
        raise SourceUnavailable(
            f"{url} needs a package that is not installed ({exc}): pip install "
            + ("'stochcon[s3]'" if url.startswith(_S3) else "it")
        ) from exc
    except ValueError as exc:
        raise SourceUnavailable(
            f"{url} cannot be read: {exc}; give a URL such as s3://bucket/prefix"
        ) from exc
    files.dircache.use_listings_cache = False
    return files, path


def _s3_mistakes() -> tuple[type[Exception], ...]:
    """What no later try can mend."""
    from botocore.exceptions import (  # type: ignore[import-untyped]
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    return (NoCredentialsError, PartialCredentialsError, ProfileNotFound, ParamValidationError)


def _reason(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__

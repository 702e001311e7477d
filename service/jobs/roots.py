"""Which folders and object stores jobs may read.

A service reads what its callers name, with its own permissions, so it reads below the configured roots and
nowhere else. Paths count as what they really are, with every link and `..` resolved.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from contracts.errors import BackendUnavailable, InvalidInput


class Roots:
    """The configured roots: folders, and URLs such as `s3://bucket/prefix`."""

    def __init__(self, roots: Sequence[str]) -> None:
        """Raises ValueError for one that is neither a folder there is nor a URL."""
        self._folders: list[Path] = []
        self._urls: list[str] = []
        for root in roots:
            if "://" in root:
                try:
                    self._urls.append(_normal_url(root).rstrip("/"))
                except InvalidInput as exc:
                    raise ValueError(f"the root {exc}") from exc
                continue
            folder = Path(os.path.realpath(root))
            if not root or not folder.is_dir():  # Nothing at all would be the working folder.
                raise ValueError(f"the root {root} is not a folder")
            self._folders.append(folder)

    def admit(self, source: str) -> str:
        """The path or URL of `source` as it really is. Raises InvalidInput for one outside of every root."""
        if "://" in source:
            real = _normal_url(source)
            inside = any(f"{real}/".startswith(f"{root}/") for root in self._urls)
        else:
            try:
                real = os.path.realpath(source)
            except ValueError as exc:
                raise InvalidInput(f"{source!r} is no path: {exc}") from exc
            inside = Path(source).is_absolute() and self.holds(Path(real))
        if not inside:
            raise InvalidInput(f"{source!r} {self._reason(source)}")
        return real

    def check_there(self, path: str) -> None:
        """Raise BackendUnavailable if the root that a path lies below is empty or gone, and all below it."""
        for root in self._folders:
            if Path(path).is_relative_to(root) and not (root.is_dir() and any(root.iterdir())):
                raise BackendUnavailable(f"the root {root} is empty or not there: mount it again")

    def holds(self, path: Path) -> bool:
        """Whether a path leads to below a root, once all links and `..` in it are followed."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._folders)

    def _reason(self, source: str) -> str:
        if not (self._folders or self._urls):
            return "may not be read: no root is configured; start the service with --root FOLDER"
        if "://" not in source and not Path(source).is_absolute():
            return "is not an absolute path: name the source as the service sees it"
        # What lies beyond the roots is nobody's business, so it is not said where a link leads to.
        return "does not lie below a configured root: see --root of `stochcon serve`"


def _normal_url(url: str) -> str:
    """The URL with its scheme in lower case. Keys are kept as they are, for a store takes them literally."""
    scheme, _, path = url.partition("://")
    if scheme.lower() == "file":
        raise InvalidInput(f"{url!r} is a file here: name it by its path")
    parts = unquote(path).strip("/").split("/")
    # What lies between a store and us may resolve dots, and fsspec opens the parts around `::` one by one.
    if not {"", ".", ".."}.isdisjoint(parts) or "::" in path:
        raise InvalidInput(f"{url!r} is no source: name a bucket, and a prefix without `..`, `//` and `::`")
    return f"{scheme.lower()}://{path}"

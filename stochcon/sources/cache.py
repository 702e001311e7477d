"""Sources that were opened a moment ago."""

from collections import OrderedDict
from pathlib import Path

from stochcon.sources.folder import Admits
from stochcon.sources.opening import open_source
from stochcon.sources.source import Source, SourceOptions

_Signature = tuple[int, int] | None


class SourceCache:
    """Keeps archives and the like open: reading a long directory anew for each few images is slow.

    One is opened again once its file has changed. For one thread.
    """

    def __init__(self, admits: Admits, capacity: int = 4) -> None:
        self._admits = admits
        self._capacity = capacity
        self._opened: OrderedDict[tuple[str, SourceOptions], tuple[_Signature, Source]] = OrderedDict()

    def open(self, path: str, options: SourceOptions = SourceOptions()) -> Source:
        """The source at a path or URL. Raises SourceUnavailable, BackendUnavailable."""
        signature = _signature(path)
        key = path, options
        kept = self._opened.pop(key, None)
        if kept is None or kept[0] != signature or signature is None:
            kept = signature, open_source(path, options, self._admits)
        if signature is not None:
            self._opened[key] = kept
            while len(self._opened) > self._capacity:
                self._opened.popitem(last=False)
        return kept[1]


def _signature(path: str) -> _Signature:
    """What changes with a file; None for anything but a file, which costs nothing to open."""
    file = Path(path)
    if "://" in path or not file.is_file():
        return None
    facts = file.stat()
    return facts.st_mtime_ns, facts.st_size

"""Images by the URIs of their items: what each source gives, read back one at a time."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from contracts.errors import StochConError
from service.jobs.roots import Roots
from stochcon.sources.opening import open_source
from stochcon.sources.source import (
    Failure,
    Place,
    Source,
    SourceOptions,
    SourceUnavailable,
    read_image,
)

_MAX_OPEN = 4


class UriReader:
    """Reads images below the roots. Archives that were read from are kept open; for one thread."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._opened: OrderedDict[str, _Opened] = OrderedDict()

    def read_many(self, uris: Sequence[str]) -> list[bytes | str]:
        """The image files, in order, and in the place of each that cannot be read the reason."""
        found: dict[int, bytes | str] = {}
        by_source: dict[str, list[tuple[int, str]]] = {}
        for number, uri in enumerate(uris):
            path, _, fragment = uri.partition("#")
            by_source.setdefault(path, []).append((number, fragment))
        for url, wanted in by_source.items():
            try:
                opened = self._open(url, is_archive=any(fragment for _, fragment in wanted))
                found |= opened.read(wanted)
            except (SourceUnavailable, StochConError) as exc:
                found |= {number: str(exc) for number, _ in wanted}
        return [found[number] for number in range(len(uris))]

    def _open(self, url: str, is_archive: bool) -> "_Opened":
        parts = urlsplit(url)
        if parts.scheme == "file":
            path = self._roots.admit(url2pathname(parts.path))
        elif parts.scheme and parts.netloc:
            path = self._roots.admit(url)
        else:
            raise SourceUnavailable(f"its URI {url!r} names no file that can be read here")
        opened = self._opened.get(path)
        if opened is None:
            opened = _Opened(path, open_source(path, SourceOptions(), self._roots.holds))
        if is_archive:
            self._opened[path] = opened
            while len(self._opened) > _MAX_OPEN:
                self._opened.popitem(last=False)
        return opened


class _Opened:
    """A source, and where in it the images of fragments are, such as `row=3` or `member=a.jpg`."""

    def __init__(self, path: str, source: Source) -> None:
        self._name = Path(path).name
        self._source = source
        self._members: dict[str, tuple[int, Place]] | None = None

    def read(self, wanted: Sequence[tuple[int, str]]) -> dict[int, bytes | str]:
        """Images by number, from pairs of number and fragment."""
        found: dict[int, bytes | str] = {}
        places: list[tuple[int, int, Place]] = []
        for number, fragment in wanted:
            there = self._find(fragment)
            if there is None:
                found[number] = f"{self._name} has no {fragment or 'image'} any more"
            else:
                position, place = there
                places.append((position, number, place))
        places.sort(key=lambda entry: entry[0])  # A source gives its images in the order of a scan.
        images = self._source.images([place for _, _, place in places])
        for (_, number, _), image in zip(places, images, strict=True):
            data = image if isinstance(image, Failure) else read_image(image)
            found[number] = data.reason if isinstance(data, Failure) else data
        return found

    def _find(self, fragment: str) -> tuple[int, Place] | None:
        """Position in a scan, and place; of the only image if the fragment is empty."""
        key, _, value = fragment.partition("=")
        if key == "row":
            return (int(value), int(value)) if value.isdecimal() else None
        if self._members is None:
            # A scan of an archive costs a walk over its headers, once for all of its members.
            images = (found for found in self._source.scan() if not isinstance(found, Failure))
            self._members = {found.id: (n, found.place) for n, found in enumerate(images)}
        if not fragment:
            return next(iter(self._members.values()), None)
        return self._members.get(unquote(value))

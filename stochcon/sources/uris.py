"""Images by the URIs of their items: what each source gives, read back one at a time."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from contracts.errors import InvalidInput
from service.jobs.roots import Roots
from stochcon.sources.cache import SourceCache
from stochcon.sources.source import (
    Failure,
    Place,
    Source,
    SourceImage,
    SourceUnavailable,
    read_image,
)


class UriReader:
    """Reads images below the roots. For one thread."""

    def __init__(self, roots: Roots, sources: SourceCache) -> None:
        self._roots = roots
        self._sources = sources
        self._members: tuple[Source, dict[str, tuple[int, Place]]] | None = None

    def read_many(self, uris: Sequence[str]) -> list[bytes | str]:
        """The image files, in order, and in the place of each that cannot be read the reason."""
        found: dict[int, bytes | str] = {}
        by_source: dict[str, list[tuple[int, str]]] = {}
        for number, uri in enumerate(uris):
            # Keys of object stores are written as they are, and may have a `#`.
            path, _, fragment = uri.partition("#") if uri.startswith("file:") else (uri, "", "")
            by_source.setdefault(path, []).append((number, fragment))
        for url, wanted in by_source.items():
            try:
                found |= self._read(url, wanted)
            except (SourceUnavailable, InvalidInput) as exc:
                found |= {number: str(exc) for number, _ in wanted}
        return [found[number] for number in range(len(uris))]

    def _open(self, url: str) -> Source:
        try:
            parts = urlsplit(url)
        except ValueError as exc:
            raise SourceUnavailable(f"its URI {url!r} is none ({exc})") from exc
        if parts.scheme == "file":
            path = self._roots.admit(url2pathname(parts.path))
            if not Path(path).is_file():
                self._roots.check_there(path)
                raise SourceUnavailable(f"{path} is no file, or no longer there")
            return self._sources.open(path)
        if parts.scheme and parts.netloc:
            return self._sources.open(self._roots.admit(url))
        raise SourceUnavailable(f"its URI {url!r} names no file that can be read here")

    def _read(self, url: str, wanted: Sequence[tuple[int, str]]) -> dict[int, bytes | str]:
        """Images of a source by number, from pairs of number and fragment, such as `row=3`."""
        source, name = self._open(url), url.rpartition("/")[2]
        found: dict[int, bytes | str] = {}
        places: dict[int, Place] = {}
        numbers: dict[int, list[int]] = {}
        for number, fragment in wanted:
            there = self._find(source, fragment)
            if there is None:
                found[number] = f"{name} has no {fragment or 'image'} any more"
            else:
                position, places[position] = there
                numbers.setdefault(position, []).append(number)
        in_order = sorted(places)  # A source gives its images in the order of a scan.
        images = source.images([places[position] for position in in_order])
        for position, image in zip(in_order, images, strict=True):
            data = image if isinstance(image, Failure) else read_image(image)
            if isinstance(image, SourceImage) and not url.startswith("file:") and image.uri != url:
                data = Failure(name, f"{url} is no image, but what others lie below")
            for number in numbers[position]:
                found[number] = data.reason if isinstance(data, Failure) else data
        return found

    def _find(self, source: Source, fragment: str) -> tuple[int, Place] | None:
        """Position in a scan, and place; of the only image if the fragment is empty."""
        key, _, value = fragment.partition("=")
        if key == "row":
            is_there = value.isdecimal() and int(value) < source.count()
            return (int(value), int(value)) if is_there else None
        if self._members is None or self._members[0] is not source:
            # A scan of an archive costs a walk over its headers, once for all of its members.
            images = (found for found in source.scan() if not isinstance(found, Failure))
            self._members = source, {found.id: (n, found.place) for n, found in enumerate(images)}
        members = self._members[1]
        return members.get(unquote(value)) if fragment else next(iter(members.values()), None)

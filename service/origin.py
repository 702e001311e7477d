"""What keeps web pages out of a service that needs no key.

A browser on the same machine reaches a loopback address for any page it shows: a page of another
origin can post forms to it, and one whose name is made to point at 127.0.0.1 (DNS rebinding) can
read answers too. The first is told by its Origin header, the second by its Host header, and neither
can be forged by a page. Programs send no Origin and name the address that they connect to.
"""

import re
from collections.abc import Mapping

from contracts.errors import Forbidden
from service.settings import Settings, is_loopback

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[^:/@\[\]]+)(?::[0-9]*)?", re.IGNORECASE)


def is_open_to_pages(settings: Settings) -> bool:
    """Whether nothing but `check_origin` stands between a web page and the service."""
    return settings.api_key is None and not settings.insecure


def check_origin(headers: Mapping[str, str], own_host: str) -> None:
    """Raise Forbidden for a request that a page of another origin may have made.

    `headers` have names in lower case, or ignore case. `own_host` is the address listened on.
    """
    host = headers.get("host", "").lower()
    match = _HOST.fullmatch(host)
    name = match["name"] if match else ""
    if not is_loopback(name) and name.strip("[]") != own_host.strip("[]").lower():
        raise Forbidden(
            f"the Host {host[:80]!r} is none of this machine's own and the service has no API key: use "
            "localhost or 127.0.0.1 in the URL, or set STOCHCON_API_KEY"
        )
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2].lower() != host:
        raise Forbidden(
            f"the request comes from a page of {origin[:80]!r}, not of {host!r}, and the service has no "
            "API key: set STOCHCON_API_KEY and have the page's own server send it"
        )

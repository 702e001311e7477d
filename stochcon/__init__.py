"""The public face: the `stochcon` command line and `from stochcon import Client`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stochcon.client import Client as Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    """Import the client, and with it the HTTP library, when it is first asked for."""
    if name == "Client":
        from stochcon.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Members of archives: what they are called. Nothing is ever extracted to a disk, so any name will do."""

from pathlib import Path
from urllib.parse import quote


def member_path(name: str) -> str:
    """The path of a member: its name without a leading `./`, which `tar` writes for `tar -c .`."""
    while name.startswith("./"):
        name = name[2:]
    return name


def member_prefix(archive: Path) -> str:
    """What the URIs of an archive's members begin with."""
    return archive.as_uri() + "#member="


def member_uri(archive: Path, path: str) -> str:
    """The URI of a member."""
    return member_prefix(archive) + quote(path)

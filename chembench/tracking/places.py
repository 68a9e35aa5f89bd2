"""Where a tracking URI keeps its database and its files."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlparse

SQLITE = "sqlite:///"
NETWORK = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "glusterfs", "ceph", "afs", "9p", "fuse.sshfs", "pvfs2")
"""How the names of file systems begin that several machines share."""
MOUNTS = Path("/proc/self/mounts")


def sqlite_file(tracking_uri: str) -> Path | None:
    """The database file of a ``sqlite:///`` URI; none for other stores."""
    if not tracking_uri.startswith(SQLITE):
        return None
    return Path(tracking_uri.removeprefix(SQLITE).partition("?")[0])


def artifact_root(tracking_uri: str, home: Path) -> Path | None:
    """Where artifacts lie when no server keeps them: beside the database, otherwise in ``home``; never in the cwd."""
    if tracking_uri.startswith(("http://", "https://", "databricks")):
        return None
    database = sqlite_file(tracking_uri)
    return (database.parent if database else home).resolve() / "mlartifacts"


def local_path(uri: str) -> Path | None:
    """The folder that a URI of files means on this machine; none for other places."""
    parts = urlparse(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("file", "") else None


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Kind of the file system that holds ``path``, if several machines may share it; none if not, or unknown.

    Locks on these are unreliable, and SQLite's write-ahead log does not work between two machines.
    """
    if not mounts.is_file():
        return None
    best, kind = -1, ""
    for line in mounts.read_text(errors="replace").splitlines():
        _, place, name, *_ = [*line.split(" "), "", ""]
        mount = Path(place.replace("\\040", " "))
        if path.resolve().is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), name
    return kind if kind.startswith(NETWORK) else None

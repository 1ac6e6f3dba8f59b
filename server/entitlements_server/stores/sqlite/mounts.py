"""Which file system a path is on, from Linux's table of mounts. Elsewhere nothing is known."""

import re
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
"""One line per mount; the newest is last, and hides earlier ones at the same place."""

NETWORK_TYPES = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.sshfs",
        "gfs2",
        "gpfs",
        "lustre",
        "nfs",
        "nfs4",
        "ocfs2",
        "smb3",
        "smbfs",
    }
)
"""File systems that several machines may use at the same time: no memory is shared between them."""

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: its place in the tree, and its type."""

    point: Path
    kind: str


def mount_of(path: Path) -> Mount | None:
    """Return the mount that a path is on, or None if that is unknown.

    Args:
        path: Absolute, without symbolic links.
    """
    try:
        lines = MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    found: Mount | None = None
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields.split(" ")[4]))
        # The longest one counts, and of the same length the newest.
        deeper = found is None or len(point.parts) >= len(found.point.parts)
        if deeper and path.is_relative_to(point):
            found = Mount(point, rest.split(" ")[0])
    return found

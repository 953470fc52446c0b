"""Which folders are on network file systems."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
_OCTAL = re.compile(r"\\([0-7]{3})")
"""How the kernel writes white space, # and \\ in a path."""
NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse", "fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph", "fuse.gcsfuse",
    "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.lustre", "fuse.mount-s3", "fuse.rclone", "fuse.s3fs",
    "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "panfs", "pvfs2", "smb3", "smbfs",
    "wekafs",
}  # fmt: skip
"""Types of network file systems, whose locks SQLite cannot rely on.

Buckets mounted with mountpoint-s3, blobfuse2 or goofys have the type `fuse`.
"""


def network_mount(path: Path, /) -> tuple[str, str] | None:
    """Return mount point and type of the network file system that `path` is on; None on a local disk.

    Args:
        path: Need not exist: the nearest parent that does is looked up.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except OSError:
        # not Linux: its mounts are unknown
        return None
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    existing, best = existing.resolve(), ("/", "")
    for line in filter(None, lines):
        point, kind = (_OCTAL.sub(lambda code: chr(int(code[1], 8)), field) for field in line.split(" ")[1:3])
        # of two mounts at one point, the later one hides the earlier one
        if existing.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best if best[1] in NETWORK else None

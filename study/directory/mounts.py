"""Which folders lie on file systems that other machines share."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORK = {
    "9p", "afs", "beegfs", "ceph", "cifs", "fuse", "fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph", "fuse.gcsfuse",
    "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.lustre", "fuse.mount-s3", "fuse.rclone", "fuse.s3fs",
    "fuse.sshfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "orangefs", "panfs", "pvfs2", "smb3", "smbfs",
    "wekafs",
}  # fmt: skip
"""File systems that other machines share, on which SQLite's locks cannot be trusted.

Buckets mounted by mountpoint-s3, blobfuse2 or goofys are plain `fuse`.
"""


def network_mount(path: Path, /) -> tuple[str, str] | None:
    """Return mount point and type of the network file system that holds `path`; None on a disk of this machine.

    Args:
        path: Need not exist: the nearest folder above it that does is looked up.
    """
    try:
        lines = MOUNTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        # no Linux: nothing is known about its mounts
        return None
    place = path.absolute()
    while not place.exists():
        place = place.parent
    place, best = place.resolve(), ("/", "")
    for line in lines:
        point, kind = (field.replace("\\040", " ") for field in line.split()[1:3])
        # of two mounts on one point the later hides the earlier
        if place.is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best if best[1] in NETWORK else None

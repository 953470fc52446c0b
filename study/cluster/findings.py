"""Findings: what a check concludes from the facts of a machine, and what to do if something is wrong."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HERE = "here"
"""Name of the machine that the command runs on."""

MAX_SKEW_SECONDS = 2.0
MIN_MEMORY_PER_SLOT = 1e9
"""Bytes; torch and Ray alone take 0.5 GB of a worker."""

_SHM_ROOM = 1.1

_BUCKET_REMEDY = "check the bucket's name, and the credentials in the environment or role of the machine's processes"
_OTHER_REMEDY = "check the folder on that machine, and that its node answers (ray status)"
_PERMISSION_REMEDY = "give its user permission to write there"
_ROOM_REMEDY = "free some space there"
_WRITE_REMEDIES = {
    errno.ENOENT: "mount the folder there at this path, as on the other machines, or set storage.checkpoints to "
    "s3://BUCKET/PREFIX",
    errno.EACCES: _PERMISSION_REMEDY,
    errno.EPERM: _PERMISSION_REMEDY,
    errno.EROFS: "mount it writable there",
    errno.ENOSPC: _ROOM_REMEDY,
    errno.EDQUOT: _ROOM_REMEDY,
}
"""By error number, what to do where a machine cannot write to a folder."""


@dataclass(frozen=True)
class Finding:
    """What one check found on one machine.

    Attributes:
        check: What was checked.
        node: The machine; `here` is the one that the command runs on.
        ok: Whether the check passed.
        text: What was found and, if the check failed, what to do.
        is_warning: Whether it is shown when a study starts and does not prevent the start.
    """

    check: str
    node: str
    ok: bool
    text: str
    is_warning: bool = False


def fine(check: str, node: str, text: str, /) -> Finding:
    """Return the finding of a check that passed."""
    return Finding(check, node, ok=True, text=text)


def wrong(check: str, node: str, text: str, /) -> Finding:
    """Return the finding of a check that failed, whose text ends with what to do."""
    return Finding(check, node, ok=False, text=text)


def warning(check: str, node: str, text: str, /, *, ok: bool = False) -> Finding:
    """Return a finding that is shown when a study starts and does not prevent the start."""
    return Finding(check, node, ok=ok, text=text, is_warning=True)


def versions(node: str, facts: Mapping[str, Any], here: Mapping[str, Any], /) -> Finding:
    """Compare a node's versions of Python, the libraries and the project's code with this machine's."""
    differing = [
        f"{name} {facts['versions'].get(name) or 'missing'} (here {version})"
        for name, version in here["versions"].items()
        if facts["versions"].get(name) != version
    ]
    if differing:
        return wrong("versions", node, f"{', '.join(differing)}: run every node from one image")
    shown = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    missing = [name for name, digest in here["code"].items() if facts["code"].get(name) is None]
    other = [name for name, digest in here["code"].items() if facts["code"].get(name) not in (None, digest)]
    code = f"; without {', '.join(missing)}, which a study ships" if missing else ""
    code += f"; another revision of {', '.join(other)}, so a study ships this one" if other else ""
    return fine("versions", node, f"{shown}{code or '; same code'}")


def memory(node: str, facts: Mapping[str, Any], /, *, slots: int) -> Finding:
    """Check that a node's main memory holds the trials that would run there."""
    memory = facts["memory"]
    if memory is None:
        return fine("memory", node, "unknown on this system")
    text = f"{size(memory['available'])} of {size(memory['total'])} available, for {slots} trials at once"
    if memory["available"] < MIN_MEMORY_PER_SLOT * slots:
        need = size(MIN_MEMORY_PER_SLOT * slots)
        return wrong("memory", node, f"{text}: {need} needed; raise resources.cpus or stop other programs there")
    return fine("memory", node, text)


def gpus(node: str, devices: list[dict[str, Any]], /, *, declared: float, needed: bool) -> Finding | None:
    """Compare the GPUs that torch sees on a node with those that Ray counts; None if the node has and needs none.

    Args:
        node: Its name.
        devices: Name, free and total bytes of each GPU that torch sees.
        declared: Number of GPUs that Ray counts.
        needed: Whether trials use GPUs.
    """
    if len(devices) < declared:
        return wrong(
            "gpus",
            node,
            f"Ray counts {declared:g}, torch sees {len(devices)}: install a CUDA build of torch and give the container "
            "its GPUs (docker: --gpus all), or start the node with --num-gpus=0",
        )
    if not devices:
        return fine("gpus", node, "none") if needed else None
    text = ", ".join(f"{gpu['name']} {size(gpu['free'])} of {size(gpu['total'])} free" for gpu in devices)
    if any(gpu["free"] < 0.8 * gpu["total"] for gpu in devices):
        return wrong("gpus", node, f"{text}: another process uses their memory; see nvidia-smi")
    return fine("gpus", node, text)


def shared_memory(node: str, facts: Mapping[str, Any], /, *, store: float, data: int | None) -> Finding:
    """Check that /dev/shm holds Ray's object store, and the object store the data set.

    Args:
        node: Its name.
        facts: Its facts.
        store: Bytes of the node's object store; 0 if unknown.
        data: Bytes of the data set, stored there once for all trials; None if unknown.
    """
    shm = facts["shm"]
    if shm is None:
        return fine("/dev/shm", node, "not on this system; Ray uses files")
    if store and shm < store:
        return wrong(
            "/dev/shm",
            node,
            f"{size(shm)}, less than the object store's {size(store)}, so Ray falls back to slow files: "
            f"start the container with --shm-size={int(store * _SHM_ROOM / 2**30) + 1}g",
        )
    room = min(shm, store or shm)
    if data is not None and room < _SHM_ROOM * data:
        return wrong(
            "/dev/shm",
            node,
            f"{size(room)} for objects, but the data set takes {size(data)}: start the node with "
            f"--object-store-memory={int(2 * data)} and a /dev/shm at least as large",
        )
    return fine("/dev/shm", node, f"{size(shm)}" + (f", object store {size(store)}" if store else ""))


def clock(node: str, before: float, node_time: float, after: float, /) -> Finding:
    """Compare a node's clock with two readings of this machine's; the time that the answer took is no difference.

    Args:
        node: Its name.
        before: This machine's time in seconds, before the node was asked.
        node_time: The node's time in seconds.
        after: This machine's time in seconds, after the node had answered.
    """
    early, late = before - node_time, node_time - after
    skew = max(0.0, early, late)
    if skew > MAX_SKEW_SECONDS:
        direction = "behind" if early > 0 else "ahead of"
        return wrong("clock", node, f"{skew:.1f} s {direction} this machine's: turn on NTP (chrony) on both")
    return fine("clock", node, f"within {skew:.2f} s of this machine's, after a round trip of {after - before:.2f} s")


def driver_port(node: str, problem: str | None, /) -> Finding:
    """Check that a node can fetch an object from the driver: trials wait without an error where it cannot.

    Args:
        node: Its name.
        problem: Why it could not; None if it could.
    """
    if problem is None:
        return fine("ports", node, "fetches an object from the driver")
    return wrong(
        "ports",
        node,
        f"cannot fetch an object from the driver ({problem}): open this machine's worker ports (10002 to 19999, or "
        "those of its ray start --min-worker-port --max-worker-port) and its object manager's to the nodes, or run the "
        "study on the head (ray job submit)",
    )


def storage(node: str, location: str, /, *, write_error: Exception | None, missing: list[str]) -> Finding:
    """Check that a node can write to the checkpoints' location and sees the files of the other machines.

    Args:
        node: Its name.
        location: The location.
        write_error: Why it could not write; None if it could.
        missing: Names of the machines whose files it does not see.
    """
    if write_error is not None:
        cause = getattr(write_error, "cause", write_error)  # Ray wraps what a node's function raises
        number = getattr(cause, "errno", None) or 0
        reason = getattr(cause, "strerror", None) or (str(write_error).strip() or type(cause).__name__).splitlines()[-1]
        remedy = _BUCKET_REMEDY if "://" in location else _WRITE_REMEDIES.get(number, _OTHER_REMEDY)
        return wrong("storage", node, f"cannot write to {location} ({reason}): {remedy}")
    if missing:
        return wrong(
            "storage",
            node,
            f"does not see the files of {', '.join(missing)} in {location}: set storage.checkpoints to a folder "
            "that every node mounts at the same path, or to s3://BUCKET/PREFIX",
        )
    return fine("storage", node, f"{location}: written, renamed, and every machine's file read back")


def size(count: float, /) -> str:
    """Return bytes in GB, or in MB below one."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

"""What a check makes of the facts it gathered: each finding is fine, or says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HERE = "here"
"""The name of the machine the command runs on."""

MAX_SKEW_SECONDS = 2.0
MIN_MEMORY_PER_SLOT = 1e9
"""Bytes: a worker holds torch and Ray (0.5 GB) before its first batch."""

_SHM_ROOM = 1.1


@dataclass(frozen=True)
class Finding:
    """What one check found on one machine.

    Attributes:
        check: What was looked at.
        node: Where; `here` is the machine the command runs on.
        ok: Whether it is as it should be.
        text: What was found; where it is not ok, also what to do.
        is_warning: Whether it is to be told when a study starts, and does not forbid the start.
    """

    check: str
    node: str
    ok: bool
    text: str
    is_warning: bool = False


def fine(check: str, node: str, text: str, /) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(check, node, ok=True, text=text)


def wrong(check: str, node: str, text: str, /) -> Finding:
    """Return a finding that is not, whose words also say what to do."""
    return Finding(check, node, ok=False, text=text)


def warning(check: str, node: str, text: str, /, *, ok: bool = False) -> Finding:
    """Return a finding that forbids no start, but that whoever starts a study should know."""
    return Finding(check, node, ok=ok, text=text, is_warning=True)


def versions(node: str, facts: Mapping[str, Any], here: Mapping[str, Any], /) -> Finding:
    """Judge a node's versions of Python, the libraries and the project's code by this machine's."""
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
    code = f"; lacks {', '.join(missing)}, which a study ships" if missing else ""
    code += f"; another revision of {', '.join(other)}, so a study ships this one" if other else ""
    return fine("versions", node, f"{shown}{code or '; same code'}")


def memory(node: str, facts: Mapping[str, Any], /, *, slots: int) -> Finding:
    """Judge a node's main memory by the trials it would hold."""
    found = facts["memory"]
    if found is None:
        return fine("memory", node, "not known on this system")
    said = f"{size(found['available'])} of {size(found['total'])} available, for {slots} trials at once"
    if found["available"] < MIN_MEMORY_PER_SLOT * slots:
        need = size(MIN_MEMORY_PER_SLOT * slots)
        return wrong("memory", node, f"{said}: {need} needed; raise resources.cpus or stop what else runs there")
    return fine("memory", node, said)


def gpus(node: str, found: list[dict[str, Any]], /, *, declared: float, wanted: bool) -> Finding | None:
    """Judge what torch sees of a node's GPUs by what Ray was told; None where there is nothing to say.

    Args:
        node: Its name.
        found: Name, free and total bytes of each GPU that torch sees there.
        declared: GPUs that Ray counts there.
        wanted: Whether trials are to have GPUs.
    """
    if len(found) < declared:
        return wrong(
            "gpus",
            node,
            f"Ray counts {declared:g}, torch sees {len(found)}: install a CUDA build of torch and give the container "
            "its GPUs (docker: --gpus all), or start the node with --num-gpus=0",
        )
    if not found:
        return fine("gpus", node, "none") if wanted else None
    full = [one for one in found if one["free"] < 0.8 * one["total"]]
    shown = ", ".join(f"{one['name']} {size(one['free'])} of {size(one['total'])} free" for one in found)
    if full:
        return wrong("gpus", node, f"{shown}: another process holds memory there; see nvidia-smi")
    return fine("gpus", node, shown)


def shared_memory(node: str, facts: Mapping[str, Any], /, *, store: float, data: int | None) -> Finding:
    """Judge the size of /dev/shm by Ray's object store, and that by the data set.

    Args:
        node: Its name.
        facts: Its facts.
        store: Bytes of the node's object store; 0 where unknown.
        data: Bytes of the data set, which lies there once for all trials; None where unknown.
    """
    shm = facts["shm"]
    if shm is None:
        return fine("/dev/shm", node, "this system has none; Ray uses files")
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
            f"{size(room)} for objects and the data set takes {size(data)}: start the node with "
            f"--object-store-memory={int(2 * data)} and a /dev/shm at least as large",
        )
    return fine("/dev/shm", node, f"{size(shm)}" + (f", object store {size(store)}" if store else ""))


def clock(node: str, before: float, there: float, after: float, /) -> Finding:
    """Judge a node's clock, read between two readings of this machine's.

    Args:
        node: Its name.
        before: This machine's time in seconds before asking.
        there: The node's.
        after: This machine's time when the answer had come.
    """
    early, late = before - there, there - after
    skew = max(0.0, early, late)
    if skew > MAX_SKEW_SECONDS:
        direction = "behind" if early > 0 else "ahead"
        return wrong("clock", node, f"{skew:.1f} s {direction} of this machine's: turn on NTP (chrony) on both")
    return fine("clock", node, f"within {skew + after - before:.2f} s of this machine's")


def storage(node: str, location: str, /, *, written: str | None, missing: list[str]) -> Finding:
    """Judge whether a node writes to the checkpoints' place and sees what the others wrote.

    Args:
        node: Its name.
        location: The place.
        written: Why it could not write, None where it could.
        missing: Names of the nodes whose file it does not see.
    """
    if written is not None:
        todo = (
            "check the bucket's name, and the credentials in the environment or role of the machine's processes"
            if "://" in location
            else "give its user the right to"
        )
        return wrong("storage", node, f"cannot write to {location} ({written}): {todo}")
    if missing:
        return wrong(
            "storage",
            node,
            f"does not see in {location} what {', '.join(missing)} wrote there: set storage.checkpoints to a folder "
            "that every node mounts at the same path, or to s3://BUCKET/PREFIX",
        )
    return fine("storage", node, f"{location}: written, renamed, and every machine's file read back")


def size(count: float, /) -> str:
    """Return bytes in GB, or in MB below one."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"

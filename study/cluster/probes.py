"""Functions that examine a node, with the standard library only, since the project's code may be missing there.

They are sent to nodes as code (`connection.by_value`), so they import what they use where they run.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

CONNECT_SECONDS = 3.0


def facts(*, packages: Sequence[str], libraries: Sequence[str]) -> dict[str, Any]:
    """Return this machine's versions, digests of code, memory and shared memory.

    Args:
        packages: Importable names whose code is compared between machines.
        libraries: Distributions whose versions are compared.
    """
    sys.path_importer_cache.clear()
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in libraries:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "host": platform.node(),
        "versions": versions,
        "code": {name: code_digest(name) for name in packages},
        "memory": memory(),
        "shm": shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else None,
    }


def code_digest(name: str) -> str | None:
    """Return a digest of a top-level package's or module's files as imported here; None if it cannot be imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        files = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc")
    elif spec.origin is not None and Path(spec.origin).is_file():
        root, files = Path(spec.origin).parent, [Path(spec.origin)]
    else:
        return None
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def memory(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> dict[str, int] | None:
    """Return the main memory, in bytes, that this process can use within the limits of its container or job.

    Args:
        proc: Where the kernel lists processes.
        cgroups: Where it lists control groups.

    Returns:
        `total` and `available`; None on a system without `/proc/meminfo`.
    """
    try:
        lines = (proc / "meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    amounts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    total, available = amounts["MemTotal"], amounts["MemAvailable"]
    for limit, used in _cgroup_room(proc, cgroups):
        total, available = min(total, limit), min(available, max(0, limit - used))
    return {"total": total, "available": available}


def missing_images(*, names: Sequence[str], root: str | None) -> list[str]:
    """Return the problem of each pool of unlabelled images that a trial could not load on this machine.

    Args:
        names: Pools as the config names them.
        root: The config's `dataset.root`.
    """
    try:
        from trainables.data import DataError
        from trainables.data.unlabelled import check_images
    except ImportError:
        # the study ships the project's code later; without it only paths can be checked
        return [f"`pool`: {name} does not exist" for name in names if os.path.isabs(name) and not os.path.exists(name)]
    problems = []
    for name in names:
        try:
            check_images(name, root=root)
        except DataError as error:
            problems.append(str(error))
    return problems


def clock() -> float:
    """Return this machine's time in seconds since the epoch."""
    return time.time()


def write(*, location: str, name: str, text: str) -> None:
    """Write a file to a folder or bucket as checkpoints are written, so that it appears complete or not at all.

    Args:
        location: A folder's path, or a URL of an object store.
        name: The file's name.
        text: Its content.
    """
    if "://" in location:
        system, path = _object_store(location)
        with system.open_output_stream(f"{path}/{name}") as stream:
            stream.write(text.encode())
        return
    if not os.path.isdir(location):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder")
    temporary = os.path.join(location, f".{name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, os.path.join(location, name))


def read(*, location: str, names: Sequence[str]) -> dict[str, str | None]:
    """Return the content of files that `write` wrote, by name; None for a file that this machine does not see."""
    contents: dict[str, str | None] = {}
    for name in names:
        try:
            if "://" in location:
                system, path = _object_store(location)
                with system.open_input_stream(f"{path}/{name}") as stream:
                    contents[name] = stream.read().decode()
            else:
                contents[name] = Path(location, name).read_text(encoding="utf-8")
        except FileNotFoundError:
            contents[name] = None
    return contents


def remove(*, location: str, names: Sequence[str]) -> None:
    """Remove files that `write` wrote."""
    for name in names:
        if "://" in location:
            system, path = _object_store(location)
            system.delete_file(f"{path}/{name}")
        else:
            Path(location, name).unlink(missing_ok=True)


def connection_errors(*, targets: Sequence[tuple[str, int]]) -> list[str | None]:
    """Return for each (host, port) why this machine cannot connect to it, or None if it can."""
    problems: list[str | None] = []
    for host, port in targets:
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
            problems.append(None)
        except OSError as error:
            problems.append(str(error))
    return problems


def fetch(*, references: Sequence[Any], seconds: float) -> None:
    """Fetch objects of another machine's process through Ray.

    Args:
        references: Of the objects, in a sequence since Ray itself fetches a plain argument, without a time limit.
        seconds: Time limit.

    Raises:
        ray.exceptions.GetTimeoutError: They did not arrive in time.
    """
    import ray

    ray.get(list(references), timeout=seconds)


def gpus() -> list[dict[str, Any]]:
    """Return the name, free and total memory in bytes of each GPU that torch sees; loading torch takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        del os.environ["CUDA_VISIBLE_DEVICES"]  # Ray hides all GPUs from a task that reserves none
    try:
        import torch
    except ImportError:
        return []
    devices = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        devices.append({"name": torch.cuda.get_device_name(index), "free": free, "total": total})
    return devices


def _object_store(location: str) -> tuple[Any, str]:
    from pyarrow import fs

    system, path = fs.FileSystem.from_uri(location)
    return system, path.rstrip("/")


def _cgroup_room(proc: Path, cgroups: Path) -> Iterator[tuple[int, int]]:
    """Yield limit and use, in bytes, for each memory limit on this process, of control groups v2 and v1."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if kinds == "":
            base, names = cgroups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            base = cgroups / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # a container sees its group as the root, though the machine lists it under another path
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base):
                try:
                    limit = int((folder / names[0]).read_text())
                    stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                    used = int((folder / names[1]).read_text()) - int(stat.get(names[2], 0))
                except (OSError, ValueError):  # the group is not visible from here, or its limit is `max`
                    continue
                yield limit, max(0, used)

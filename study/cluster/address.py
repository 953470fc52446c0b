"""Which addresses of a Ray cluster a study takes, and why not `ray://`."""

from __future__ import annotations

AUTO = "auto"


def check_address(address: str | None, /) -> None:
    """Check the form of `cluster.address`: None, `auto`, or HOST:PORT of the head.

    Raises:
        ValueError: Anything else. Ray Client (`ray://`) is refused because it moves the driver, and with it the
            bookkeeping and SQLite, into a process on the head node: the results would lie there.
    """
    if address is None or address == AUTO:
        return
    if "://" in address:
        raise ValueError(
            f"`address` must be auto or HOST:PORT, got {address!r}: over a URL the study's own process, its results "
            "and SQLite would move to the head node. From a laptop, submit the study instead: "
            "ray job submit --address http://HEAD:8265 --working-dir . -- robust-study launch CONFIG --address auto"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"`address` must be auto or HOST:PORT of the cluster's head, got {address!r}")

"""Which addresses of clusters and places for checkpoints a study takes, and why not others."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

AUTO = "auto"
OBJECT_STORES = ("s3", "gs")

_SECRET = re.compile(r"(^|&)(access_key|secret_key|session_token|access_token|password)=", re.IGNORECASE)


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
            "ray job submit --address http://HEAD:8265 --working-dir . -- robust-study launch CONFIG --address auto "
            "--out DIR --set tracking.uri=URI (docs/cluster.md)"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"`address` must be auto or HOST:PORT of the cluster's head, got {address!r}")


def check_location(location: str | None, /) -> None:
    """Check the form of `storage.checkpoints`: None, a path, or an s3:// or gs:// URL without anybody's secrets.

    Raises:
        ValueError: Another scheme, no bucket, or credentials, which belong into the workers' environment or role.
    """
    if location is None or "://" not in location:
        return
    url = urlsplit(location)
    if url.scheme not in OBJECT_STORES or not url.hostname:
        raise ValueError(
            f"`checkpoints` must be a path, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, got {_bare(location)!r}"
        )
    if "@" in url.netloc or _SECRET.search(url.query):
        raise ValueError(
            f"`checkpoints` must hold no credentials, got some in {_bare(location)!r}: give them to the workers "
            "through their environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS) or role"
        )


def _bare(location: str) -> str:
    url = urlsplit(location)
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"

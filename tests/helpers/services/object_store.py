"""A temporary S3 server on 127.0.0.1."""

from __future__ import annotations

import logging
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest


@contextmanager
def bucket(name: str) -> Iterator[str]:
    """Serve an empty bucket with moto and yield its URL; address and credentials are in the environment."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed (extra dev): no S3 server to test against")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ACCESS_KEY_ID": "a-test-key",
        "AWS_SECRET_ACCESS_KEY": "a-test-secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        with patch.dict(os.environ, settings):
            urllib.request.urlopen(
                urllib.request.Request(f"http://{host}:{port}/{name}", method="PUT"), timeout=30
            ).close()
            yield f"s3://{name}"
    finally:
        server.stop()

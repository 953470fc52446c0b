"""Ray starts on this machine, or the study reports why not."""

from __future__ import annotations

import pytest

from study.cluster import session
from study.errors import UsageError

TIMEOUT = "The current node timed out during startup. This could happen because ..."


@pytest.fixture
def ray(monkeypatch):
    """A stand-in for Ray that fails to start `failures` times."""

    class Ray:
        failures = 0
        started = 0
        stopped = 0

        def init(self, **options):
            self.started += 1
            if self.started <= self.failures:
                raise Exception(TIMEOUT)

        def shutdown(self):
            self.stopped += 1

    fake = Ray()
    monkeypatch.setattr(session, "ray", fake)
    return fake


def test_a_failed_start_is_retried(ray, capsys):
    ray.failures = 2
    session._start({})
    assert (ray.started, ray.stopped) == (3, 2)
    assert capsys.readouterr().err.count("timed out during startup.") == 2


def test_the_last_failed_start_is_reported_in_one_line(ray):
    ray.failures = 99
    with pytest.raises(UsageError, match=r"timed out during startup.*less busy"):
        session._start({})
    assert ray.started == ray.stopped == 3

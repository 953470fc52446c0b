"""Ray on this machine comes up, or the study says why not."""

from __future__ import annotations

import pytest

from study.cluster import session
from study.errors import UsageError

LATE = "The current node timed out during startup. This could happen because ..."


@pytest.fixture
def ray(monkeypatch):
    """Stands in for Ray; fails to start as many times as `failures` says."""

    class Ray:
        failures = 0
        started = 0
        stopped = 0

        def init(self, **options):
            self.started += 1
            if self.started <= self.failures:
                raise Exception(LATE)

        def shutdown(self):
            self.stopped += 1

    fake = Ray()
    monkeypatch.setattr(session, "ray", fake)
    return fake


def test_a_busy_machine_gets_another_try(ray, capsys):
    ray.failures = 2
    session._start({})
    assert (ray.started, ray.stopped) == (3, 2)
    assert capsys.readouterr().err.count("timed out during startup.") == 2


def test_what_fails_every_time_is_told_in_a_line(ray):
    ray.failures = 99
    with pytest.raises(UsageError, match=r"timed out during startup.*less busy"):
        session._start({})
    assert ray.started == ray.stopped == 3

"""Ray starts on this machine, or the study reports why not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from study.cluster import session
from study.cluster.ray_settings import keep_token_private
from study.config.loading import load_config
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


@pytest.fixture
def token(monkeypatch, tmp_path):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray/auth_token"


def test_the_token_of_a_ray_started_here_is_readable_by_its_owner_alone(token, capsys):
    keep_token_private()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
    before = token.read_text()
    keep_token_private()
    assert token.read_text() == before
    assert len(before) >= 32
    assert capsys.readouterr().err == ""


def test_a_token_that_others_can_read_is_made_private_and_told_of(token, capsys):
    token.parent.mkdir()
    token.write_text("old")
    token.chmod(0o644)
    keep_token_private()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert "others could read Ray's token" in capsys.readouterr().err


def test_a_token_that_is_not_ours_to_change_is_refused(token, monkeypatch):
    token.parent.mkdir()
    token.write_text("old")
    token.chmod(0o644)
    monkeypatch.setattr(Path, "chmod", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))
    with pytest.raises(UsageError, match=r"must be readable by you alone.*chmod 600"):
        keep_token_private()


def test_a_token_given_in_the_environment_makes_no_file(token, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    keep_token_private()
    assert not token.exists()


def test_every_start_of_ray_here_comes_after_it(ray, monkeypatch):
    calls = []
    monkeypatch.setattr(session, "keep_token_private", lambda: calls.append(ray.started))
    with session.ray_session(load_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}})):
        pass
    assert (calls, ray.started) == ([0], 1)

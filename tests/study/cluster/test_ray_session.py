"""Ray starts on this machine, or the study reports why not."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from study.cluster import session
from study.cluster.preflight import check_ray, require
from study.cluster.ray_settings import MAX_FOLDER_BYTES, keep_token_private, temporary_folder
from study.cluster.start import new_start
from study.config.loading import load_config
from study.errors import UsageError

SMALL = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}}
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
            self.options = options
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


def test_no_reader_sees_a_token_before_it_is_whole_and_none_is_overwritten(token, monkeypatch):
    link, seen = os.link, []

    def late(new, path):
        seen.append((token.exists(), stat.S_IMODE(os.stat(new).st_mode), len(Path(new).read_text())))
        token.write_text("another process's")
        token.chmod(0o600)
        link(new, path)

    monkeypatch.setattr("study.cluster.ray_settings.os.link", late)
    keep_token_private()
    assert seen == [(False, 0o600, 64)]
    assert token.read_text() == "another process's"
    assert os.listdir(token.parent) == [token.name]


def test_a_file_system_without_hard_links_gets_a_token_too(token, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("study.cluster.ray_settings.os.link", unsupported)
    keep_token_private()
    assert (len(token.read_text()), os.listdir(token.parent)) == (64, [token.name])


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
    with session.ray_session(load_config(SMALL)):
        pass
    assert (calls, ray.started) == ([0], 1)


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    """An environment that names no folder for temporary files, and a folder for studies."""
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def folder_of(length: int) -> str:
    return "/tmp/" + "x" * (length - len("/tmp/"))


def test_ray_keeps_its_own_choice_where_sockets_fit(temporary, monkeypatch):
    assert temporary_folder() == ("/tmp", None)
    monkeypatch.setenv("TMPDIR", folder_of(MAX_FOLDER_BYTES))  # Ray makes a folder that is missing
    assert temporary_folder() == (folder_of(MAX_FOLDER_BYTES), None)
    monkeypatch.setenv("RAY_TMPDIR", "/var/tmp")
    assert temporary_folder() == ("/var/tmp", None)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        (folder_of(MAX_FOLDER_BYTES + 1), "is longer than 39 bytes, too long for Ray's sockets"),
        ("/tmp/" + "é" * 20, "is longer than 39 bytes"),
        ("/tmp/é", "quotes or letters beyond ASCII"),
        ("/tmp/it's", "quotes or letters beyond ASCII"),
        ("relative", "is not an absolute path"),
        ("", "is not an absolute path"),
        ("/dev/null", "cannot hold Ray's sockets (Not a directory)"),
        ("/proc/job", "cannot hold Ray's sockets"),
    ],
)
def test_another_folder_is_chosen_and_told_of_where_ray_would_not_start(temporary, monkeypatch, capsys, folder, reason):
    monkeypatch.setenv("TMPDIR", folder)
    chosen, problem = temporary_folder()
    assert chosen == "/tmp"
    assert problem.startswith(f"TMPDIR={folder} ")
    assert reason in problem
    require(new_start(SMALL, assignments=[], out=temporary, data_root=None, address=None), [check_ray])
    err = capsys.readouterr().err
    assert err == f"{problem}: Ray's temporary files go to /tmp instead; RAY_TMPDIR names another folder\n"


def test_a_file_system_without_sockets_is_found_out(temporary, monkeypatch):
    class Socket(socket.socket):
        def bind(self, address):
            if address.startswith(f"{short}/"):
                raise OSError(95, "Operation not supported")
            super().bind(address)

    (short := Path("/tmp") / f"r{os.getpid()}").symlink_to(temporary)
    monkeypatch.setattr("study.cluster.ray_settings.socket.socket", Socket)
    monkeypatch.setenv("TMPDIR", str(short))
    try:
        assert temporary_folder() == ("/tmp", f"TMPDIR={short} cannot hold Ray's sockets (Operation not supported)")
    finally:
        short.unlink()


def test_the_chosen_folder_is_the_one_that_ray_is_started_with(ray, temporary, monkeypatch):
    monkeypatch.setenv("TMPDIR", folder_of(80))
    with session.ray_session(load_config(SMALL)):
        pass
    assert ray.options["_temp_dir"] == "/tmp/ray"


def test_no_folder_for_ray_is_refused_with_the_setting(temporary, monkeypatch):
    monkeypatch.setenv("TMPDIR", folder_of(80))
    monkeypatch.setattr("study.cluster.ray_settings._unusable", lambda folder: "is longer")
    with pytest.raises(UsageError, match=r"TMPDIR=/tmp/x+ is longer.*set RAY_TMPDIR to a folder .* at most 39 bytes"):
        temporary_folder()


def test_a_study_on_a_cluster_leaves_the_folder_to_its_nodes(temporary, monkeypatch):
    monkeypatch.setenv("TMPDIR", folder_of(80))
    start = new_start(SMALL, assignments=[], out=temporary, data_root=None, address="10.0.0.1:6379")
    assert list(check_ray(start)) == []

"""What is kept of what a user accepted, and which servers get MLflow's credentials."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from study.config.loading import load_config, write_yaml
from study.config.trust import accept_server, own_code, remember, require_server, rules
from study.directory.checkpoint_folder import claim, new_owner, write_owner
from study.directory.layout import open_config, recorded_id
from study.errors import UsageError
from study.tracking.availability import access_problem
from study.tracking.client import require_artifact_server
from trainables.models import MODELS
from trainables.registry import CodeRefusedError

CONFIG = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core", "num_trials": 2}}


@pytest.fixture
def credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_resume_does_not_ask_again_for_what_launch_accepted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    study, mine = tmp_path / "elsewhere/s", tmp_path / "mine"
    mine.mkdir()
    (mine / "accepted_model.py").write_text("def net(*, image_shape, num_classes, dropout):\n    return None\n")
    tree = {**CONFIG, "model": {"name": "accepted_model:net"}}
    write_yaml(study / "study.yaml", tree)
    monkeypatch.chdir(mine)
    monkeypatch.syspath_prepend(str(mine))
    with rules(reading=False):
        with pytest.raises(CodeRefusedError, match="then add --allow-code"):
            open_config(study)
    write_owner(study, new_owner("s"))
    with rules(reading=False):
        remember(study, own_code(tree), study_id=recorded_id(study))
    with rules(reading=False):
        open_config(study)
        assert MODELS.load("accepted_model:net").__name__ == "net"
    write_yaml(study / "confirm/study.yaml", tree)
    (study / "confirm/plan.json").write_text("{}")
    with rules(reading=False):
        open_config(study / "confirm")
    assert (tmp_path / "state/robust-study/accepted.jsonl").stat().st_mode & 0o077 == 0


def test_what_was_accepted_for_a_study_holds_for_no_copy_and_for_none_that_takes_its_place(credentials, tmp_path):
    uri, study = "http://127.0.0.1:5000", tmp_path / "s"
    write_yaml(study / "study.yaml", {**CONFIG, "tracking": {"uri": uri}})
    write_owner(study, new_owner("s"))
    with rules(reading=False):
        accept_server(uri)
        remember(study, [], study_id=recorded_id(study))
    shutil.copytree(study, tmp_path / "copy")
    with rules(reading=False):
        open_config(study)
        require_server(uri)
    write_owner(study, new_owner("s"))
    for place in ("copy", "s"):
        with rules(reading=False):
            open_config(tmp_path / place)
            with pytest.raises(UsageError, match="only the study's folder names the server"):
                require_server(uri)


def test_a_study_of_an_earlier_version_is_not_asked_about_again_when_it_gets_an_id(credentials, tmp_path):
    uri, study = "http://127.0.0.1:5000", tmp_path / "s"
    tree = {"tracking": {"uri": uri}, "storage": {"checkpoints": str(tmp_path / "shared")}}
    write_yaml(study / "study.yaml", {**CONFIG, **tree})
    with rules(reading=False):
        accept_server(uri)
        remember(study, [], study_id=recorded_id(study))
    with rules(reading=False):
        claim(open_config(study), study, study_id="abc", specs=dict)
    assert recorded_id(study) == "abc"
    with rules(reading=False):
        open_config(study)
        require_server(uri)


def test_credentials_go_to_no_host_that_only_a_studys_folder_names(credentials, monkeypatch, capsys, tmp_path):
    uri = "https://evil.example/mlflow"
    tree = {**CONFIG, "tracking": {"uri": uri}}
    write_yaml(tmp_path / "s/study.yaml", tree)
    with rules(reading=False):
        stored = open_config(tmp_path / "s")
        load_config(stored.to_dict())  # as `resume` does
        with pytest.raises(
            UsageError, match=r"the server https://evil.example, so no credentials .*MLFLOW_TRACKING_URI=https://evil"
        ):
            require_server(uri)
        load_config(stored.to_dict(), assignments=[f"tracking.uri={uri}"])
        require_server(uri)
    with rules(reading=False):
        load_config(str(tmp_path / "s/study.yaml"))  # a config given to `launch` names its host
        require_server(uri)
    with rules(reading=False):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://evil.example")
        require_server(uri)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("named", "asked", "same"),
    [
        ("https://h.example", "https://H.example:443/mlflow", True),
        ("http://h.example:80/", "http://h.example", True),
        ("http://[::1]:5000", "http://[::1]:5000/x", True),
        ("https://h.example", "http://h.example", False),
        ("https://h.example", "https://h.example:9999", False),
        ("https://h.example:8443", "https://h.example", False),
        ("http://localhost:5000", "http://localhost:9999", False),
        ("https://h.example", "http://127.0.0.1:5000", False),
    ],
)
def test_credentials_go_only_to_the_scheme_host_and_port_that_the_user_named(
    credentials, monkeypatch, named, asked, same
):
    """Another port, on this machine too, may be another user's."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
    with rules(reading=False), nullcontext() if same else pytest.raises(UsageError, match="so no credentials are sent"):
        require_server(asked)


@pytest.mark.parametrize(
    ("uri", "warnings"), [("http://h.example:5000", 1), ("https://h.example", 0), ("http://localhost:5000", 0)]
)
def test_a_line_tells_once_of_credentials_that_go_over_a_network_without_encryption(
    credentials, monkeypatch, capsys, uri, warnings
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with rules(reading=False):
        require_server(uri)
        require_server(f"{uri}/again")
    assert capsys.readouterr().err.count("without encryption") == warnings


def test_the_server_that_keeps_artifacts_is_asked_for_too(credentials, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://h.example")
    client = SimpleNamespace(tracking_uri="https://h.example")
    with rules(reading=False):
        require_artifact_server(client, "mlflow-artifacts:/1/artifacts")
        require_artifact_server(client, "mlflow-artifacts://h.example/1/artifacts")
        for place in ("mlflow-artifacts://evil.example:443/1", "http://h.example/1"):
            with pytest.raises(UsageError, match="so no credentials are sent"):
                require_artifact_server(client, place)


def test_without_credentials_there_is_nothing_to_send(credentials, monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    with rules(reading=False):
        require_server("https://evil.example")


def test_the_checks_before_a_start_send_no_credentials_either(credentials, tmp_path):
    uri = "http://evil.invalid:80/mlflow"
    write_yaml(tmp_path / "s/study.yaml", {**CONFIG, "tracking": {"uri": uri}})
    with rules(reading=False):
        open_config(tmp_path / "s")
        assert "so no credentials are sent there" in access_problem(uri)

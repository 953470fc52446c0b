"""What `doctor` says: each check fires on its fault, names what to do, and is quiet on a healthy machine."""

from __future__ import annotations

import json
from contextlib import nullcontext

import pytest
from helpers.services.stub_server import stub_server
from typer.testing import CliRunner

from study.cli import app
from study.cluster import findings, probes
from study.cluster.node_survey import Survey, study_packages
from study.cluster.preflight import Start, check_machines, require
from study.cluster.resources import Node
from study.cluster.shared_files import exchange
from study.config.schema import parse_config
from study.errors import UsageError
from study.tracking.availability import endangered, unreachable

HERE = {"versions": {"python": "3.11.7", "torch": "2.13.0"}, "code": {"study": "aa", "trainables": "bb"}}
GPU = {"name": "H100", "free": 70e9, "total": 80e9}


@pytest.fixture
def strangers(monkeypatch):
    """Nobody's name in the environment."""
    for what in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{what}", raising=False)


def facts(**changes) -> dict:
    return {**HERE, "memory": {"total": 16e9, "available": 12e9}, "shm": 8e9, **changes}


def test_a_healthy_node_is_fine_in_every_check():
    found = [
        findings.versions("n", facts(), HERE),
        findings.memory("n", facts(), slots=8),
        findings.gpus("n", [GPU], declared=1, wanted=True),
        findings.shared_memory("n", facts(), store=7e9, data=150_000_000),
        findings.clock("n", 100.0, 100.1, 100.2),
        findings.storage("n", "/shared", written=None, missing=[]),
    ]
    assert [one.ok for one in found] == [True] * len(found)
    assert findings.gpus("n", [], declared=0, wanted=False) is None


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (
            findings.versions("n", facts(versions={"python": "3.11.7", "torch": "2.11.0"}), HERE),
            ["torch 2.11.0 (here 2.13.0)", "run every node from one image"],
        ),
        (findings.versions("n", facts(versions={"python": "3.11.7", "torch": None}), HERE), ["torch missing"]),
        (findings.memory("n", facts(), slots=13), ["12.0 GB of 16.0 GB", "13.0 GB needed", "raise resources.cpus"]),
        (findings.gpus("n", [], declared=2, wanted=True), ["Ray counts 2, torch sees 0", "--gpus all"]),
        (
            findings.gpus("n", [{**GPU, "free": 10e9}], declared=1, wanted=True),
            ["10.0 GB of 80.0 GB free", "nvidia-smi"],
        ),
        (findings.shared_memory("n", facts(shm=64e6), store=2e9, data=None), ["64 MB", "--shm-size=3g"]),
        (
            findings.shared_memory("n", facts(), store=100e6, data=150_000_000),
            ["150 MB", "--object-store-memory=300000000"],
        ),
        (findings.clock("n", 100.0, 90.0, 100.2), ["10.0 s behind", "NTP"]),
        (findings.clock("n", 100.0, 110.0, 100.2), ["9.8 s ahead", "NTP"]),
        (
            findings.storage("n", "/x", written="Permission denied", missing=[]),
            ["cannot write to /x (Permission denied)"],
        ),
        (
            findings.storage("n", "s3://bukcet/x", written="bucket 'bukcet' does not exist", missing=[]),
            ["cannot write to s3://bukcet/x", "check the bucket's name, and the credentials"],
        ),
        (findings.storage("n", "/x", written=None, missing=["m"]), ["does not see in /x what m wrote", "s3://BUCKET"]),
    ],
)
def test_each_fault_is_found_and_the_way_out_is_said(finding, words):
    assert not finding.ok
    for word in words:
        assert word in finding.text


def test_missing_code_is_no_fault_since_a_study_ships_it():
    finding = findings.versions("n", facts(code={"study": None, "trainables": "other"}), HERE)
    assert finding.ok
    assert "lacks study, which a study ships; another revision of trainables" in finding.text


def machines(folders: dict[str, str]):
    """Nodes that each see a folder of their own under the one name."""

    def ask(function, wanted):
        answers = {}
        for node_id, folder in folders.items():
            try:
                answers[node_id] = function(**{**wanted(Node(node_id, node_id, {})), "location": folder})
            except OSError as error:
                answers[node_id] = error
        return answers

    return ask


def test_machines_that_share_a_folder_see_each_others_files_and_leave_none(tmp_path):
    found = exchange({"a": "A", "b": "B"}, str(tmp_path), ask=machines({"a": str(tmp_path), "b": str(tmp_path)}))
    assert [(one.node, one.ok) for one in found] == [("here", True), ("A", True), ("B", True)]
    assert not list(tmp_path.iterdir())


def test_a_node_with_a_folder_of_its_own_is_noticed_by_everybody(tmp_path):
    shared, own = tmp_path / "shared", tmp_path / "own"
    shared.mkdir()
    own.mkdir()
    found = exchange({"a": "A", "b": "B"}, str(shared), ask=machines({"a": str(shared), "b": str(own)}))
    assert {one.node: one.text.split(" wrote")[0].split("what ")[-1] for one in found} == {
        "here": "B",
        "A": "B",
        "B": "this machine, A",
    }
    assert not list(shared.iterdir())


def test_a_study_whose_nodes_share_no_folder_is_refused_before_it_starts(tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()

    def on_nodes(function, nodes, *, arguments):
        return machines({"a": str(own)})(function, arguments)

    monkeypatch.setattr("study.cluster.connection.on_nodes", on_nodes)
    config = parse_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}})
    monkeypatch.setattr(Start, "nodes", lambda self: (Node("a", "A", {"CPU": 1}),))
    monkeypatch.setattr("study.cluster.preflight.connected", lambda address: nullcontext())
    start = Start(config, tmp_path / "studies" / "s", is_new=True)
    with pytest.raises(UsageError, match=r"^`storage.checkpoints`: this machine does not see in .* what A wrote there"):
        require(start, [check_machines])


def test_a_node_without_the_folder_cannot_write(tmp_path):
    found = exchange({"a": "A"}, str(tmp_path), ask=machines({"a": str(tmp_path / "none")}))
    assert [one.ok for one in found] == [True, False]
    assert "there is no such folder here" in found[1].text


INVALID_HOST = b"Invalid Host header - possible DNS rebinding attack detected"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 200}, None),
        ({"status": 200, "body": b"<html>sign in</html>"}, "not MLflow's, such as a sign-in page"),
        ({"status": 401}, "asks who we are: set MLFLOW_TRACKING_USERNAME"),
        ({"status": 403, "body": INVALID_HOST}, "--allowed-hosts"),
        ({"status": 403, "body": b"Permission denied"}, "forbids this user"),
        ({"status": 404}, "is it an MLflow server?"),
        ({"status": 500}, "status 500"),
    ],
)
def test_a_tracking_server_is_asked_what_a_study_asks_whatever_its_health(answer, words, strangers):
    with stub_server(**answer) as server:
        problem = unreachable(server.uri)
    assert problem is None if words is None else words in problem
    assert server.requests == [("/api/2.0/mlflow/experiments/search?max_results=1", None)]


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "secret-token"}, "Bearer secret-token"),
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "secret"}, "Basic YWRhOnNlY3JldA=="),
    ],
)
def test_a_tracking_server_is_told_who_asks_and_nobody_else_is(environment, sent, strangers, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with stub_server(authorization=sent) as server, stub_server(status=302, location=server.uri) as moved:
        assert unreachable(server.uri) is None
        problem = unreachable(moved.uri)
        assert [header for _, header in server.requests] == [sent, None]
        monkeypatch.setenv(next(reversed(environment)), "secret-but-wrong")
        wrong = unreachable(server.uri)
    for said in (problem, wrong):
        assert "does not know the user" in said
        assert "secret" not in said


def test_a_server_that_is_down_and_files_that_cannot_be(tmp_path):
    assert "does not answer" in unreachable("http://127.0.0.1:1")
    assert unreachable(f"sqlite:///{tmp_path}/mlflow.db") is None
    assert "does not exist" in unreachable(f"sqlite:///{tmp_path}/none/mlflow.db")
    assert unreachable("postgresql://somewhere/db") is None


def test_a_file_of_mlflows_that_may_be_lost_is_noticed(tmp_path, monkeypatch):
    table = tmp_path / "mounts"
    table.write_text(f"overlay / overlay rw 0 0\nserver:/export {tmp_path}/shared nfs4 rw 0 0\n")
    monkeypatch.setattr("study.directory.mounts.MOUNTS", table)
    (tmp_path / "shared").mkdir()
    problem = endangered(f"sqlite:///{tmp_path}/shared/mlflow.db")
    assert f"is on {tmp_path}/shared, a network mount (nfs4)" in problem
    assert "set tracking.uri to a server" in problem
    copy = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123"
    assert "lies in Ray's copy of the folder" in endangered(f"sqlite:///{copy}/mlflow.db")
    for uri in (f"sqlite:///{tmp_path}/mlflow.db", "http://127.0.0.1:5000", "postgresql://me@host/mlflow"):
        assert endangered(uri) is None
    ill = CliRunner().invoke(app, ["doctor", "--set", f"tracking.uri=sqlite:///{tmp_path}/shared/mlflow.db"])
    assert any(line.split()[:2] == ["PROBLEM", "tracking"] for line in ill.stdout.splitlines())


def test_code_is_compared_by_content_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "one_module.py").write_text("x = 1\n")
    package = tmp_path / "one_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    before = probes.code_digest("one_module"), probes.code_digest("one_package")
    assert None not in before
    (package / "more.py").write_text("y = 2\n")
    assert probes.code_digest("one_package") != before[1]
    assert probes.code_digest("one_module") == before[0]
    assert probes.code_digest("no_such_module") is None


def test_what_nodes_lack_is_what_differs_from_here():
    nodes = (Node("a", "A", {}), Node("b", "B", {}))
    found = Survey(nodes, {"a": facts(), "b": facts(code={"study": "aa", "trainables": None})})
    assert found.lacking(HERE["code"]) == {"trainables": ["B"]}
    assert found.differing_versions({"python": "3.11.7", "torch": "2.13.1"}) == [
        "torch is 2.13.0 on A and 2.13.1 here",
        "torch is 2.13.0 on B and 2.13.1 here",
    ]


def test_the_users_own_modules_are_shipped_and_installed_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_models.py").write_text("def tiny(**options): ...\n")
    tree = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core", "methods": ["natural"]}}
    ours = ("analysis", "search_spaces", "study", "trainables")
    assert study_packages(parse_config(tree)) == ours
    own = parse_config({**tree, "model": {"name": "my_models:tiny"}})
    assert study_packages(own) == (*ours, "my_models")
    installed = parse_config({**tree, "model": {"name": "torch.nn:Identity"}})
    assert study_packages(installed) == ours


def test_the_command_looks_at_this_machine_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    healthy = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(healthy.stdout)
    assert healthy.exit_code == 0
    assert found["ok"]
    assert {"data", "tracking", "versions", "resources", "memory", "storage"} <= {
        one["check"] for one in found["checks"]
    }
    assert not list(tmp_path.iterdir())
    ill = CliRunner().invoke(
        app, ["doctor", "quickstart", "--set", "resources.cpus=999", "--set", "tracking.uri=http://127.0.0.1:1"]
    )
    assert ill.exit_code == 1
    problems = [line for line in ill.stdout.splitlines() if line.startswith("PROBLEM")]
    assert [line.split()[1] for line in problems] == ["resources", "tracking"]
    assert not list(tmp_path.iterdir())

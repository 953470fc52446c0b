"""What `doctor` finds: each check reports its fault and the remedy, and passes on a healthy machine."""

from __future__ import annotations

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from helpers.services.stub_server import stub_server
from ray.exceptions import GetTimeoutError, RayTaskError
from typer.testing import CliRunner

from study.cli import app
from study.cluster import findings, probes
from study.cluster.doctor import _clock
from study.cluster.node_survey import Survey, reaching_driver, study_packages
from study.cluster.preflight import check_machines, require
from study.cluster.resources import Node
from study.cluster.shared_files import exchange
from study.cluster.start import Start
from study.config.schema import parse_config
from study.errors import UsageError
from study.tracking.availability import access_problem, durability_problem

HERE = {"versions": {"python": "3.11.7", "torch": "2.13.0"}, "code": {"study": "aa", "trainables": "bb"}}
GPU = {"name": "H100", "free": 70e9, "total": 80e9}


@pytest.fixture
def no_credentials(monkeypatch):
    """No credentials of MLflow in the environment."""
    for part in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{part}", raising=False)


def facts(**changes) -> dict:
    return {**HERE, "memory": {"total": 16e9, "available": 12e9}, "shm": 8e9, **changes}


def test_a_healthy_node_is_fine_in_every_check():
    checked = [
        findings.versions("n", facts(), HERE),
        findings.memory("n", facts(), slots=8),
        findings.gpus("n", [GPU], declared=1, needed=True),
        findings.shared_memory("n", facts(), store=7e9, data=150_000_000),
        findings.clock("n", 100.0, 100.1, 100.2),
        findings.driver_port("n", None),
        findings.storage("n", "/shared", write_error=None, missing=[]),
    ]
    assert [finding.ok for finding in checked] == [True] * len(checked)
    assert findings.gpus("n", [], declared=0, needed=False) is None


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        (
            findings.versions("n", facts(versions={"python": "3.11.7", "torch": "2.11.0"}), HERE),
            ["torch 2.11.0 (here 2.13.0)", "run every node from one image"],
        ),
        (findings.versions("n", facts(versions={"python": "3.11.7", "torch": None}), HERE), ["torch missing"]),
        (findings.memory("n", facts(), slots=13), ["12.0 GB of 16.0 GB", "13.0 GB needed", "raise resources.cpus"]),
        (findings.gpus("n", [], declared=2, needed=True), ["Ray counts 2, torch sees 0", "--gpus all"]),
        (
            findings.gpus("n", [{**GPU, "free": 10e9}], declared=1, needed=True),
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
            findings.storage("n", "/x", write_error=PermissionError(13, "Permission denied"), missing=[]),
            ["cannot write to /x (Permission denied): give its user permission"],
        ),
        (
            findings.storage("n", "/x", write_error=OSError(30, "Read-only file system"), missing=[]),
            ["cannot write to /x (Read-only file system): mount it writable"],
        ),
        (
            findings.storage("n", "/x", write_error=OSError(28, "No space left on device"), missing=[]),
            ["cannot write to /x (No space left on device): free some space"],
        ),
        (
            findings.storage("n", "/x", write_error=TimeoutError("no answer"), missing=[]),
            ["cannot write to /x (no answer): check the folder on that machine, and that its node answers"],
        ),
        (
            findings.driver_port("n", "it did not arrive in 20 s"),
            ["cannot fetch an object from the driver (it did not arrive in 20 s): open this machine's worker ports"],
        ),
        (
            findings.storage("n", "s3://bukcet/x", write_error=OSError("bucket 'bukcet' does not exist"), missing=[]),
            ["cannot write to s3://bukcet/x", "check the bucket's name, and the credentials"],
        ),
        (
            findings.storage("n", "/x", write_error=None, missing=["m"]),
            ["does not see the files of m in /x", "s3://BUCKET"],
        ),
    ],
)
def test_each_fault_is_reported_with_its_remedy(finding, words):
    assert not finding.ok
    for word in words:
        assert word in finding.text


def test_a_slow_answer_is_not_a_wrong_clock():
    finding = findings.clock("n", 100.0, 104.5, 105.0)
    assert finding.ok
    assert finding.text == "within 0.00 s of this machine's, after a round trip of 5.00 s"


def test_the_quickest_answer_tells_a_nodes_clock(monkeypatch):
    late, now = iter([3.0, 0.1, 0.2]), 1000.0

    def on_nodes(function, nodes):
        nonlocal now
        now += next(late)
        return {"a": now - 2.4}

    monkeypatch.setattr("study.cluster.doctor.on_nodes", on_nodes)
    monkeypatch.setattr("study.cluster.doctor.time", SimpleNamespace(time=lambda: now))
    finding = _clock(Node("a", "A", {}))
    assert not finding.ok  # by the slow answer alone, the clock could be right
    assert finding.text.startswith("2.3 s behind")


def test_missing_code_is_no_fault_because_a_study_ships_it():
    finding = findings.versions("n", facts(code={"study": None, "trainables": "other"}), HERE)
    assert finding.ok
    assert "without study, which a study ships; another revision of trainables" in finding.text


def machines(folders: dict[str, str]):
    """Nodes that see different folders under one name."""

    def ask(function, arguments):
        answers = {}
        for node_id, folder in folders.items():
            try:
                answers[node_id] = function(**{**arguments(Node(node_id, node_id, {})), "location": folder})
            except OSError as error:
                answers[node_id] = error
        return answers

    return ask


def test_machines_that_share_a_folder_see_each_others_files_and_leave_none(tmp_path):
    reported = exchange({"a": "A", "b": "B"}, str(tmp_path), ask=machines({"a": str(tmp_path), "b": str(tmp_path)}))
    assert [(finding.node, finding.ok) for finding in reported] == [("here", True), ("A", True), ("B", True)]
    assert not list(tmp_path.iterdir())


def test_a_node_with_a_separate_folder_is_noticed_by_every_machine(tmp_path):
    shared, separate = tmp_path / "shared", tmp_path / "separate"
    shared.mkdir()
    separate.mkdir()
    reported = exchange({"a": "A", "b": "B"}, str(shared), ask=machines({"a": str(shared), "b": str(separate)}))
    assert {finding.node: finding.text.split("files of ")[1].split(" in ")[0] for finding in reported} == {
        "here": "B",
        "A": "B",
        "B": "this machine, A",
    }
    assert not list(shared.iterdir())


def test_a_study_whose_nodes_share_no_folder_is_refused_before_it_starts(tmp_path, monkeypatch):
    separate = tmp_path / "separate"
    separate.mkdir()

    def on_nodes(function, nodes, *, arguments):
        return machines({"a": str(separate)})(function, arguments)

    monkeypatch.setattr("study.cluster.connection.on_nodes", on_nodes)
    config = parse_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}})
    monkeypatch.setattr(Start, "nodes", lambda self: (Node("a", "A", {"CPU": 1}),))
    monkeypatch.setattr("study.cluster.preflight.connected", lambda address: nullcontext())
    monkeypatch.setattr("study.cluster.preflight.reaching_driver", lambda nodes: ())
    start = Start(config, tmp_path / "studies" / "s", is_new=True)
    with pytest.raises(UsageError, match=r"^`storage.checkpoints`: this machine does not see the files of A in "):
        require(start, [check_machines])


def test_a_study_whose_driver_a_node_cannot_reach_is_refused_before_it_starts(tmp_path, monkeypatch):
    def on_nodes(function, nodes, *, arguments):
        assert arguments(nodes[0]) == {"references": ["reference"], "seconds": 20}
        late = GetTimeoutError("Get timed out: some object(s) not ready.")
        return {"a": None, "b": RayTaskError("fetch", "", late).as_instanceof_cause()}

    nodes = (Node("a", "A", {"CPU": 1}), Node("b", "B", {"CPU": 1}))
    monkeypatch.setattr("ray.put", lambda content: "reference" if len(content) > 100_000 else pytest.fail("inlined"))
    monkeypatch.setattr("study.cluster.node_survey.on_nodes", on_nodes)
    monkeypatch.setattr(Start, "nodes", lambda self: nodes)
    monkeypatch.setattr("study.cluster.preflight.connected", lambda address: nullcontext())
    config = parse_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}})
    with pytest.raises(UsageError, match=r"^node B cannot fetch an object .* \(it did not arrive in 20 s\)"):
        require(Start(config, tmp_path, is_new=True), [check_machines])


def test_a_node_without_a_worker_is_not_taken_for_one_that_cannot_reach_the_driver(monkeypatch):
    node = Node("a", "A", {"CPU": 1})
    monkeypatch.setattr("ray.put", lambda content: "reference")
    monkeypatch.setattr("study.cluster.node_survey.on_nodes", lambda *_, **__: {"a": GetTimeoutError("no worker")})
    (finding,) = reaching_driver([node])
    assert (finding.check, finding.ok) == ("answers", False)
    assert finding.text == "starts no worker within 180 s: check its raylet (ray status)"


def test_a_node_without_the_folder_cannot_write(tmp_path):
    reported = exchange({"a": "A"}, str(tmp_path), ask=machines({"a": str(tmp_path / "none")}))
    assert [finding.ok for finding in reported] == [True, False]
    assert "(there is no such folder): mount the folder there at this path" in reported[1].text


INVALID_HOST = b"Invalid Host header - possible DNS rebinding attack detected"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status": 200}, None),
        (
            {"status": 200, "body": b"<html>sign in</html>"},
            "does not answer like an MLflow server, but perhaps with a sign-in page",
        ),
        ({"status": 401}, "requires credentials: set MLFLOW_TRACKING_USERNAME"),
        ({"status": 403, "body": INVALID_HOST}, "--allowed-hosts"),
        ({"status": 403, "body": b"Permission denied"}, "does not let this user list experiments"),
        ({"status": 404}, "is it an MLflow server?"),
        ({"status": 500}, "status 500"),
    ],
)
def test_a_tracking_server_is_sent_the_request_of_a_study_not_a_health_check(answer, words, no_credentials):
    with stub_server(**answer) as server:
        problem = access_problem(server.uri)
    assert problem is None if words is None else words in problem
    assert server.requests == [("/api/2.0/mlflow/experiments/search?max_results=1", None)]


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "secret-token"}, "Bearer secret-token"),
        ({"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "secret"}, "Basic YWRhOnNlY3JldA=="),
    ],
)
def test_credentials_are_sent_to_the_tracking_server_and_to_no_other(environment, sent, no_credentials, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with stub_server(authorization=sent) as server, stub_server(status=302, location=server.uri) as moved:
        assert access_problem(server.uri) is None
        problem = access_problem(moved.uri)
        assert [header for _, header in server.requests] == [sent, None]
        monkeypatch.setenv(next(reversed(environment)), "secret-but-wrong")
        wrong = access_problem(server.uri)
    for message in (problem, wrong):
        assert "rejects the credentials" in message
        assert "secret" not in message


def test_a_server_that_is_down_and_a_file_without_its_folder_cannot_be_used(tmp_path):
    assert "does not answer" in access_problem("http://127.0.0.1:1")
    assert access_problem(f"sqlite:///{tmp_path}/mlflow.db") is None
    assert "does not exist" in access_problem(f"sqlite:///{tmp_path}/none/mlflow.db")
    assert "is a folder: set tracking.uri to a file in it" in access_problem(f"sqlite:///{tmp_path}")
    for content, problem in ((b"", None), (b"name: study\n", "is not a SQLite file: set tracking.uri to another")):
        (tmp_path / "mlflow.db").write_bytes(content)
        assert access_problem(f"sqlite:///{tmp_path}/mlflow.db") == problem
    assert access_problem("postgresql://somewhere/db") is None


def test_a_database_file_of_mlflow_that_may_be_lost_is_reported(tmp_path, monkeypatch):
    table = tmp_path / "mounts"
    table.write_text(f"overlay / overlay rw 0 0\nserver:/export {tmp_path}/shared nfs4 rw 0 0\n")
    monkeypatch.setattr("study.directory.mounts.MOUNTS", table)
    (tmp_path / "shared").mkdir()
    problem = durability_problem(f"sqlite:///{tmp_path}/shared/mlflow.db")
    assert f"is on {tmp_path}/shared, a network mount (nfs4)" in problem
    assert "set tracking.uri to a server" in problem
    copy = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123"
    assert "is in Ray's copy of the folder" in durability_problem(f"sqlite:///{copy}/mlflow.db")
    for uri in (f"sqlite:///{tmp_path}/mlflow.db", "http://127.0.0.1:5000", "postgresql://me@host/mlflow"):
        assert durability_problem(uri) is None
    risky = CliRunner().invoke(app, ["doctor", "--set", f"tracking.uri=sqlite:///{tmp_path}/shared/mlflow.db"])
    assert any(line.split()[:2] == ["PROBLEM", "tracking"] for line in risky.stdout.splitlines())


def test_code_is_compared_by_content_not_by_its_place(tmp_path, monkeypatch):
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


def test_a_survey_lists_the_modules_and_versions_that_differ_from_this_machine():
    nodes = (Node("a", "A", {}), Node("b", "B", {}))
    answers = Survey(nodes, {"a": facts(), "b": facts(code={"study": "aa", "trainables": None})})
    assert answers.differing_modules(HERE["code"]) == {"trainables": ["B"]}
    assert answers.differing_versions({"python": "3.11.7", "torch": "2.13.1"}) == [
        "torch is 2.13.0 on A and 2.13.1 here",
        "torch is 2.13.0 on B and 2.13.1 here",
    ]


def test_the_users_own_modules_are_shipped_and_installed_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "my_models.py").write_text("def tiny(**options): ...\n")
    tree = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core", "methods": ["natural"]}}
    ours = ("analysis", "search_spaces", "study", "trainables")
    assert study_packages(parse_config(tree)) == ours
    with_module = parse_config({**tree, "model": {"name": "my_models:tiny"}})
    assert study_packages(with_module) == (*ours, "my_models")
    with_library = parse_config({**tree, "model": {"name": "torch.nn:Identity"}})
    assert study_packages(with_library) == ours


def test_the_command_checks_this_machine_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    healthy = CliRunner().invoke(app, ["doctor", "--json"])
    summary = json.loads(healthy.stdout)
    assert healthy.exit_code == 0
    assert summary["ok"]
    assert {"data", "tracking", "versions", "resources", "memory", "storage"} <= {
        check["check"] for check in summary["checks"]
    }
    assert not list(tmp_path.iterdir())
    faulty = CliRunner().invoke(
        app, ["doctor", "quickstart", "--set", "resources.cpus=999", "--set", "tracking.uri=http://127.0.0.1:1"]
    )
    assert faulty.exit_code == 1
    problems = [line for line in faulty.stdout.splitlines() if line.startswith("PROBLEM")]
    assert [line.split()[1] for line in problems] == ["resources", "tracking"]
    assert not list(tmp_path.iterdir())

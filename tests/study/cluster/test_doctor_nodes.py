"""What `doctor` works out for each node: its memory, the trials that would run there, the images they load."""

from __future__ import annotations

import sys

import pytest

from study.cluster import probes
from study.cluster.doctor import _concurrent_trials
from study.cluster.preflight import trials_at_once
from study.cluster.resources import Node
from study.cluster.shared_files import pool_findings
from study.config.loading import load_config
from study.config.schema import parse_config
from study.lifecycle.estimate import _trials_at_a_time


def study(**sections):
    return parse_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}, **sections})


def limits(tmp_path, groups: str, files: dict[str, int | str]):
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  64000000 kB\nMemFree: 1 kB\nMemAvailable:  50000000 kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for name, content in files.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(f"{content}\n")
    return probes.memory(proc=proc, cgroups=cgroups)


MACHINE = {"total": 64_000_000 * 1024, "available": 50_000_000 * 1024}
POD = {"memory.max": 32 * 10**9, "memory.current": 5 * 10**9, "memory.stat": "anon 1\ninactive_file 2000000000"}
V1 = {
    "memory/memory.limit_in_bytes": 8 * 10**9,
    "memory/memory.usage_in_bytes": 3 * 10**9,
    "memory/memory.stat": "cache 1\ntotal_inactive_file 1000000000",
}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, MACHINE),
        # file cache that the kernel would drop is available to a trial
        ("0::/\n", POD, {"total": 32 * 10**9, "available": 29 * 10**9}),
        ("0::/\n", {**POD, "memory.max": "max"}, MACHINE),
        # a job's limit applies to its steps, which have no limit of their own
        (
            "0::/job_7/step_0\n",
            {
                **{f"job_7/{name}": content for name, content in POD.items()},
                **{f"job_7/step_0/{name}": content for name, content in {**POD, "memory.max": "max"}.items()},
            },
            {"total": 32 * 10**9, "available": 29 * 10**9},
        ),
        # a container sees its group at the root, not under its path on the machine
        ("9:cpu:/x\n4:memory:/docker/0123\n", V1, {"total": 8 * 10**9, "available": 6 * 10**9}),
        ("4:memory:/\n", {**V1, "memory/memory.limit_in_bytes": 9223372036854771712}, MACHINE),
    ],
)
def test_memory_is_limited_by_the_container_or_job(tmp_path, groups, files, expected):
    assert limits(tmp_path, groups, files) == expected


NODES = [
    Node("h", "head", {"CPU": 0.0}),
    Node("a", "A", {"CPU": 96.0, "GPU": 8.0}),
    Node("b", "B", {"CPU": 4.0}),
]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, [0, 96, 4]),
        ({"gpus": 1}, [0, 8, 0]),
        ({"gpus": 0.5}, [0, 16, 0]),
        ({"gpus": "auto"}, [0, 8, 0]),
        ({"max_concurrent": 6}, [0, 6, 4]),
    ],
)
def test_memory_is_compared_with_the_trials_that_a_node_really_runs(resources, expected):
    config = study(resources=resources)
    assert [_concurrent_trials(config, node, NODES) for node in NODES] == expected
    assert all(finding.ok for finding in trials_at_once(config, NODES))


def test_gpus_auto_reserves_none_if_no_node_has_any():
    config = study(resources={"gpus": "auto"})
    (finding,) = trials_at_once(config, NODES[2:])
    assert finding.text == "4 trials fit at once"
    (finding,) = trials_at_once(config, NODES)
    assert "`auto` is measured at launch" in finding.text


@pytest.mark.parametrize(("trials", "most", "told"), [(24, 2, True), (24, 24, False), (2, 2, False), (24, None, False)])
def test_a_config_that_holds_a_cluster_back_is_told(trials, most, told):
    search = {"space": "core", "num_trials": trials}
    config = study(search=search, resources={"max_concurrent": most})
    warnings = [finding for finding in trials_at_once(config, NODES) if finding.is_warning]
    assert [finding.text for finding in warnings] == told * [
        f"`resources.max_concurrent` is {most}, though 100 trials fit on the cluster at once: "
        "--set resources.max_concurrent=null lets all run"
    ]
    assert load_config(config.to_dict(), assignments=["resources.max_concurrent=null"]).resources.max_concurrent is None


@pytest.mark.parametrize(
    ("resources", "trials", "expected"),
    [
        (
            {},
            200,
            (100, "with 100 trials at a time on 2 of the cluster's 3 nodes, if these are as fast as this machine"),
        ),
        ({"cpus": 3}, 24, (24, "with 24 trials at a time on 2 of")),
        ({"max_concurrent": 2}, 24, (2, "with 2 trials at a time on 2 of")),
        ({"gpus": 1}, 200, (8, "with 8 trials at a time on 1 of")),
        ({"gpus": "auto"}, 200, (8, "with 8 or more trials at a time on 1 of")),
    ],
)
def test_an_estimate_counts_the_trials_that_the_cluster_runs_at_a_time(resources, trials, expected):
    config = study(search={"space": "core", "num_trials": trials}, resources=resources)
    count, where = _trials_at_a_time(config, NODES)
    assert count == expected[0]
    assert where.startswith(expected[1])


def pooled(pool):
    search = {"space": "core", "methods": ["robust_self_training"], "fixed": {"robust_self_training.pool": str(pool)}}
    return study(search=search)


def test_a_node_without_the_unlabelled_images_is_reported_before_a_study_starts(tmp_path, monkeypatch):
    pool = tmp_path / "pool.parquet"
    pool.write_bytes(b"")

    def on_nodes(function, nodes, *, arguments):
        answers = {}
        for node in nodes:
            given = arguments(node)
            names = [name.replace("pool", "none") if node.id == "b" else name for name in given["names"]]
            answers[node.id] = function(**{**given, "names": names})
        return answers

    monkeypatch.setattr("study.cluster.connection.on_nodes", on_nodes)
    config = pooled(pool)
    reported = list(pool_findings(config, NODES))
    # the head runs no trials, so it needs no images
    assert [(finding.node, finding.ok) for finding in reported] == [("A", True), ("B", False)]
    assert "copy them to every node" in reported[1].text
    assert reported[1].text.startswith("`pool`")
    others = [*pool_findings(config, NODES[:2]), *pool_findings(pooled("digits"), NODES)]
    assert all(finding.ok for finding in others)
    assert list(pool_findings(study(), NODES)) == []


def test_without_the_projects_code_a_node_can_still_check_a_path(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trainables.data", None)
    names = [str(tmp_path), str(tmp_path / "none"), "digits"]
    assert probes.missing_images(names=names, root=None) == [f"`pool`: {tmp_path}/none does not exist"]
